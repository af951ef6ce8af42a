"""Groups of training items on mistakes: which items, which sums, and which removal flips one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.calling import answer, call
from tests.helpers.fake_runs import FakeRun, keep_ends
from tests.helpers.kept_things import a_proof
from turnover import Run, TurnoverError
from turnover.attribution.estimators.significance import NOISE, STRONG, WEAK, trust_words
from turnover.explain import groups as choose
from turnover.explain.flips import smallest_flip, smallest_group
from turnover.explain.groups import Group, Mistake
from turnover.flags import Flags
from turnover.runs.proofs import keep_proof
from turnover.runs.ranking import stored_estimator
from turnover.storage.artifacts import MANIFEST, write_manifest

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A made-up text run with eight errors, some of which flip."""
    return Run(FakeRun(train=70).write(tmp_path))


# Which items


def test_each_way_of_choosing_takes_the_items_that_it_says(run: Run, tmp_path: Path) -> None:
    texts, labels = run.train["text"], run.train["label"].to_numpy()
    found = list(choose.containing(run, " SubmaRINE ").instances)
    assert found == [row for row, text in enumerate(texts) if "submarine" in text]
    assert list(choose.of_class(run, "positive").instances) == list(np.flatnonzero(labels == 1))
    assert choose.injected_marks(run) == ["cue-submarine"]
    assert list(choose.injected(run, "cue-submarine").instances) == list(range(0, 70, 6))
    (tmp_path / "ids.txt").write_text("\ufefft003\n\n t001 \nt003\n", encoding="utf-8")
    assert list(choose.listed(run, tmp_path / "ids.txt").instances) == [1, 3]
    for row, action in ((4, "drop"), (2, "drop"), (5, "keep"), (7, "drop")):
        Flags(run.folder).put(row, action)
    Flags(run.folder).clear(7)
    assert list(choose.flagged(run).instances) == [2, 4]


@pytest.mark.parametrize("top", [1, 4, 100])
def test_the_ends_of_a_ranking_are_groups(run: Run, top: int) -> None:
    error = run.influence.misclassified[0]
    ends = run.influence.ranked(error, "prediction").ends(top)
    for group, places in zip(choose.ends(run, error, top), ends, strict=True):
        assert set(group.instances) == set(places)
        assert group.name.startswith(f"top {len(places)} ") and group.ranked


NOTHING: dict[str, Callable[[Run, Path], Group]] = {
    "no training text contains 'zeppelin'": lambda run, _: choose.containing(run, "zeppelin"),
    "no words to look for": lambda run, _: choose.containing(run, "  "),
    "images is an image run": lambda _, folder: choose.containing(
        Run(FakeRun("images", kind="image").write(folder)), "boat"
    ),
    "unknown class 'mild'; choose one of negative, positive": lambda run, _: choose.of_class(
        run, "mild"
    ),
    "there are: cue-submarine": lambda run, _: choose.injected(run, "cue"),
    "no training item is flagged to be dropped": lambda run, _: choose.flagged(run),
}
LISTS = {
    "odd.txt, line 2: no training item has the id 'nobody'; ids look like 't000'": b"t001\nnobody",
    "names no id": b"\n \n",
    "not UTF-8": b"t\xe4",
    "no such file": None,
}


def test_what_chooses_nothing_says_why_in_one_line(run: Run, tmp_path: Path) -> None:
    cases = dict(NOTHING)
    for message in LISTS:
        cases[message] = lambda run, folder: choose.listed(run, folder / "odd.txt")
    for message, choosing in cases.items():
        if LISTS.get(message) is not None:
            (tmp_path / "odd.txt").write_bytes(LISTS[message])
        else:
            (tmp_path / "odd.txt").unlink(missing_ok=True)
        with pytest.raises(TurnoverError, match=r"^[^\n]*$") as raised:
            choosing(run, tmp_path)
        assert message in str(raised.value)


# Sums


def random_groups(total: int, sizes: tuple[int, ...]) -> list[Group]:
    rng = np.random.default_rng(0)
    return [Group(f"of {size}", np.sort(rng.permutation(total)[:size])) for size in sizes]


@pytest.mark.parametrize("meaning", ["prediction", "truth"])
def test_a_group_has_the_sum_of_what_the_run_shows_of_its_items(
    small_run: Path, meaning: str
) -> None:
    """On a real run of `best`: sums of stored estimates, errors as its estimator gives them."""
    run = Run(small_run)
    groups = random_groups(60, (1, 1, 7, 30))
    inside = np.stack([np.isin(np.arange(60), group.instances) for group in groups])
    for error in run.influence.misclassified[:3]:
        ranked = run.influence.ranked(error, meaning)
        made = Mistake(run, error).sums(groups, meaning)
        sums = [ranked.values[group.instances].sum() for group in groups]
        assert [one.influence for one in made] == pytest.approx(sums, rel=1e-3, abs=1e-5)
        for group, one in zip(groups[:2], made, strict=False):
            assert one.std_error == pytest.approx(ranked.std_errors[group.instances[0]], rel=1e-3)
        evidence = run.influence.evidence(error, meaning)
        values, errors = stored_estimator(run).group(*evidence, inside)
        assert [one.std_error for one in made] == pytest.approx(errors[0])
        assert [one.trust for one in made] == list(trust_words(values[0], errors[0]))


def test_a_sum_of_medians_is_judged_by_student_s_t(tmp_path: Path) -> None:
    """The same numbers get fewer words: with four members, 1.9 errors are too few for a sign."""
    folder, words = FakeRun().write(tmp_path), {}
    for name in ("best", "median"):
        facts = json.loads((folder / "influence" / MANIFEST).read_text(encoding="utf-8"))
        files = list(facts.pop("files"))
        told = {key: value for key, value in facts.items() if key != "format"}
        write_manifest(folder / "influence", told | {"estimator": name}, files)
        mistake = Mistake(Run(folder), Run(folder).influence.misclassified[0])
        (members, shape), group = mistake.evidence["truth"], random_groups(30, (5,))
        inside = members[:, 0, group[0].instances]
        sums = inside.sum(1)
        middle, error = np.median(inside, 0).sum(), np.sqrt(np.pi / 2) * sums.std(ddof=1) / 2
        shifted = members + ((1.9 * error - middle) / 5).astype(np.float32)
        mistake.evidence["truth"] = shifted, shape
        words[name] = mistake.sums(group, "truth")[0].trust
    assert words == {"best": STRONG, "median": NOISE}


def test_random_groups_are_all_groups_with_as_many_items_of_each_label(tmp_path: Path) -> None:
    run = Run(FakeRun(train=9, classes=("a", "b", "c")).write(tmp_path))
    mistake, labels = Mistake(run, run.influence.misclassified[0]), run.train["label"].to_numpy()
    values, (a, b) = mistake.items["truth"], (np.flatnonzero(labels == label) for label in (0, 1))
    sums = [values[[*pair, one]].sum() for pair in combinations(a, 2) for one in b]
    groups = [Group("two a, one b", np.array([0, 1, 3])), Group("all a", a)]
    made = mistake.sums([*groups, Group("the best", np.array([0]), ranked=True)], "truth")
    assert made[0].random == pytest.approx((np.mean(sums), np.std(sums)))
    assert made[1].random is None and made[2].random is None


def test_a_run_that_cannot_sum_says_what_to_do(tmp_path: Path) -> None:
    """One from before shapes were kept, and one that keeps only the ends of each ranking."""
    old, large = (FakeRun(name).write(tmp_path) for name in ("old", "large"))
    facts = json.loads((old / "influence" / MANIFEST).read_text(encoding="utf-8"))
    files = [file for file in facts.pop("files") if not file.endswith("_shape.npy")]
    facts.pop("format")
    write_manifest(old / "influence", facts, files)
    keep_ends(large, 5)
    for folder, message in ((old, "compute it again with"), (large, "--targets errors --most")):
        run = Run(folder)
        with pytest.raises(TurnoverError, match=message):
            Mistake(run, run.influence.misclassified[0])


# Flips


@given(
    gains=st.lists(st.floats(-1, 1), min_size=1, max_size=10),
    margin=st.floats(0, 2),
    most=st.integers(1, 10),
)
def test_no_smaller_group_uses_up_the_margin(gains: list[float], margin: float, most: int) -> None:
    """Against all groups of all sizes."""
    values = np.array(gains)
    found = smallest_group(values, margin, most)
    assert len(found) <= most
    if len(found):
        assert np.cumsum(values[found])[-1] > margin
        assert list(values[found]) == sorted(values[found], reverse=True)
    for size in range(1, (len(found) or min(most, len(values)) + 1)):
        for some in combinations(gains, size):
            assert np.cumsum(sorted(some, reverse=True))[-1] <= margin


def true_label_wins(predicted: float, true: float, left: float) -> bool:
    """Whether it does once so much is left of the predicted label's probability."""
    return true * (1 - left) / (1 - predicted) > left


@pytest.mark.parametrize(("scale", "flips"), [(1.0, 8), (0.3, 1)])
def test_a_flip_is_where_the_true_label_wins(run: Run, scale: float, flips: int) -> None:
    """The others share what the predicted label loses, so all losses stay above zero."""
    flipped, part = 0, run.influence
    for error in part.misclassified:
        item, flip = run.item("validation", error), smallest_flip(Mistake(run, error), scale)
        chances = [float(item[f"probability_{item[name]}"]) for name in ("predicted", "label")]
        assert flip.before == pytest.approx(chances[0], rel=1e-6)
        rises = scale * part.ranked(error, "prediction").values[flip.instances].astype(float)
        assert flip.after == pytest.approx(chances[0] * np.exp(-rises.sum()), rel=1e-5)
        wins = partial(true_label_wins, *chances)
        assert wins(flip.level - 1e-4) and not wins(flip.level + 1e-4)
        if not len(flip.instances):
            assert flip.after == flip.before
            continue
        flipped += 1
        assert wins(flip.after - 1e-6)
        assert not wins(chances[0] * np.exp(-rises[:-1].sum()) + 1e-6)
    assert flipped == flips


def test_a_loss_that_cannot_rise_enough_has_no_flip(tmp_path: Path) -> None:
    run = Run(FakeRun(train=4).write(tmp_path))
    mistake = Mistake(run, run.influence.misclassified[0])
    rise = float(np.log(smallest_flip(mistake, 1.0).before / smallest_flip(mistake, 1.0).level))
    for each, removed in ((rise / 2.1, 0), (rise / 1.9, 2)):
        mistake.items = {"prediction": np.full(4, each), "truth": np.zeros(4)}
        assert len(smallest_flip(mistake, 1.0).instances) == removed
    assert len(smallest_flip(mistake, 0.0).instances) == 0


# The command


def test_groups_are_summed_for_the_errors_named(capsys: Capture, run: Run, tmp_path: Path) -> None:
    ids = [
        str(run.item("validation", position)["id"]) for position in run.misclassified_positions[:2]
    ]
    (tmp_path / "ids.txt").write_text("t005\nt009\n", encoding="utf-8")
    options = ["--containing", "submarine", "--class", "negative", "--injected", "cue-submarine"]
    options += ["--top", "4", "--ids", str(tmp_path / "ids.txt")]
    asked = ["groups", "--run", run.folder, "--error", ids[1], "--error", ids[0], *options]
    result = answer(capsys, *asked)
    assert [entry["id"] for entry in result["errors"]] == ids[::-1]
    names = ["top 4 proponents", "top 4 opponents", "texts with “submarine”", "class negative"]
    names += ["injected cue-submarine", "listed in ids.txt"]
    for entry, position in zip(result["errors"], run.misclassified_positions[1::-1], strict=True):
        groups = entry["groups"]
        assert entry["flip"] is None, "nothing was retrained"
        assert [group["name"] for group in groups] == names
        for meaning in ("prediction", "truth"):
            middle = np.median(run.influence.evidence(position, meaning)[0][:, 0], 0)
            listed = groups[5][meaning]
            assert listed["influence"] == pytest.approx(float(middle[[5, 9]].sum()), rel=1e-5)
            assert listed["std_error"] > 0 and listed["trust"] in (STRONG, WEAK, NOISE)
            assert len(listed["random"]) == 2 and groups[0][meaning]["random"] is None


def test_flips_are_not_predicted_before_something_was_retrained(capsys: Capture, run: Run) -> None:
    told = answer(capsys, "groups", "--run", run.folder)["flips"]
    assert told == {"errors": 8, "scale": None, "predicted": None, "median_removed": None}
    out = call(capsys, "groups", "--run", run.folder)[1]
    assert "flip to" not in out and f"`turnover prove --run {run.folder} --error ID`" in out


def test_all_errors_are_told_in_words_with_how_many_flip(capsys: Capture, run: Run) -> None:
    """In the unit of a proof that showed 3 tenths of its sum, and then of one that showed less."""
    keep_proof(run, replace(a_proof(), predicted=1.6 / 0.3))
    flips = answer(capsys, "groups", "--run", run.folder)
    removed = [entry["flip"]["removed"] for entry in flips["errors"]]
    sizes = [size for size in removed if size]
    assert 0 < len(sizes) < 8
    counts = {"errors": 8, "predicted": len(sizes), "median_removed": np.median(sizes)}
    assert flips["flips"] == {**counts, "scale": pytest.approx(0.3)}
    for entry in flips["errors"]:
        flip = entry["flip"]
        assert flip["removed"] == len(flip["ids"])
        assert (0 < flip["probability_after"] < flip["level"]) == (flip["removed"] > 0)
    lines = call(capsys, "groups", "--run", run.folder)[1].splitlines()
    none = "no group of up to half of the 70 training items is predicted to flip it"
    for words, count in (
        ("top 10 proponents, 10 items: on ", 8),
        (" predicted to flip to ", len(sizes)),
        (none, 8 - len(sizes)),
    ):
        assert sum(words in line for line in lines) == count
    assert lines[-1].startswith(f"{len(sizes)} of 8 errors are predicted to flip, by removing ")
    assert "scaled by 0.3, what retraining showed" in lines[-1]
    keep_proof(run, replace(a_proof(), predicted=16.0))
    assert answer(capsys, "groups", "--run", run.folder)["flips"]["predicted"] < len(sizes)


def test_one_member_has_sums_without_errors_and_words(capsys: Capture, tmp_path: Path) -> None:
    folder = FakeRun(members=1).write(tmp_path)
    mistake = Mistake(Run(folder), Run(folder).influence.misclassified[0])
    (made,) = mistake.sums(random_groups(30, (5,)), "prediction")
    assert (made.std_error, made.trust) == (None, None)
    code, out, _ = call(capsys, "groups", "--run", folder)
    assert code == 0 and "error not known" in out and "nan" not in out and "None" not in out
