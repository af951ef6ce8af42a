"""Groups of training items on the mistakes of a run: which items, which sums, and which removal is predicted to flip a mistake."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import Run, TurnoverError
from core.estimators.stored import stored_estimator
from core.estimators.trust import NOISE, STRONG, trust_words
from core.flags import Flags
from core.groups import choose
from core.groups.choose import Group
from core.groups.flip import smallest_flip, smallest_group
from core.groups.sums import Mistake
from core.runs import MANIFEST, write_manifest
from tests.helpers.builders import run_python
from tests.helpers.fake_runs import FakeRun


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A made-up text run with eight errors."""
    return Run(FakeRun().write(tmp_path))


# Which items


def test_each_way_of_choosing_takes_the_items_that_it_says(run: Run, tmp_path: Path) -> None:
    texts, labels = run.train["text"], run.train["label"].to_numpy()
    assert list(choose.containing(run, " SubmaRINE ").instances) == [row for row, text in enumerate(texts) if "submarine" in text]
    assert list(choose.of_class(run, "positive").instances) == list(np.flatnonzero(labels == 1))
    assert choose.planted_marks(run) == ["cue-submarine"]
    assert list(choose.planted(run, "cue-submarine").instances) == [0, 6, 12, 18, 24]
    (tmp_path / "ids.txt").write_text("\ufefft003\n\n t001 \nt003\n", encoding="utf-8")
    assert list(choose.listed(run, tmp_path / "ids.txt").instances) == [1, 3]
    for row, action in ((4, "drop"), (2, "drop"), (5, "keep"), (7, "drop")):
        Flags(run.folder).put(row, action)
    Flags(run.folder).clear(7)
    assert list(choose.flagged(run).instances) == [2, 4]


@pytest.mark.parametrize("top", [1, 4, 100])
def test_the_ends_of_a_ranking_are_groups(run: Run, top: int) -> None:
    error = run.influence.errors[0]
    ranked = run.influence.ranked(error, "prediction")
    groups = choose.ends(run, error, top)
    for group, places in zip(groups, ranked.ends(top), strict=True):
        assert set(group.instances) == set(places)
        assert group.name.startswith(f"top {len(places)} ") and group.ranked


def test_what_chooses_nothing_says_why_in_one_line(run: Run, tmp_path: Path) -> None:
    image_run = Run(FakeRun("images", kind="image").write(tmp_path))
    odd, missing, empty = (tmp_path / name for name in ("odd.txt", "missing.txt", "empty.txt"))
    odd.write_text("t001\nnobody\n")
    empty.write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes(b"t\xe4")
    cases = [
        (lambda: choose.containing(run, "zeppelin"), "no training text contains 'zeppelin'"),
        (lambda: choose.containing(run, "  "), "no words to look for"),
        (lambda: choose.containing(image_run, "boat"), "images is an image run"),
        (lambda: choose.of_class(run, "mild"), "unknown class 'mild'; choose one of negative, positive"),
        (lambda: choose.planted(run, "cue"), "there are: cue-submarine"),
        (lambda: choose.flagged(run), "no training item is flagged to be dropped"),
        (lambda: choose.listed(run, odd), "odd.txt, line 2: no training item has the id 'nobody'; ids look like 't000'"),
        (lambda: choose.listed(run, missing), "cannot be read"),
        (lambda: choose.listed(run, empty), "names no id"),
        (lambda: choose.listed(run, tmp_path / "latin.txt"), "not UTF-8"),
    ]
    for call, message in cases:
        with pytest.raises(TurnoverError, match=r"^[^\n]*$") as raised:
            call()
        assert message in str(raised.value)


# Sums


def random_groups(total: int, sizes: tuple[int, ...]) -> list[Group]:
    rng = np.random.default_rng(0)
    return [Group(f"of {size}", np.sort(rng.permutation(total)[:size])) for size in sizes]


@pytest.mark.parametrize("meaning", ["prediction", "truth"])
def test_a_group_has_the_sum_of_what_the_run_shows_of_its_items(small_run: Path, meaning: str) -> None:
    """On a real run of `best`, from its files alone: sums of stored estimates, errors as the stored estimator gives them."""
    run = Run(small_run)
    groups = random_groups(60, (1, 1, 7, 30))
    for error in run.influence.errors[:3]:
        ranked = run.influence.ranked(error, meaning)
        made = Mistake(run, error).sums(groups, meaning)
        for group, one in zip(groups, made, strict=True):
            assert one.influence == pytest.approx(ranked.values[group.instances].sum(), rel=1e-3, abs=1e-5)
        for group, one in zip(groups[:2], made, strict=False):
            assert one.standard_error == pytest.approx(ranked.errors[group.instances[0]], rel=1e-3)
        inside = np.stack([np.isin(np.arange(60), group.instances) for group in groups])
        values, errors = stored_estimator(run).group(*run.influence.evidence(error, meaning), inside)
        assert [one.standard_error for one in made] == pytest.approx(errors[0])
        assert [one.trust for one in made] == list(trust_words(values[0], errors[0]))


def test_a_sum_of_medians_is_judged_by_student_s_t(tmp_path: Path) -> None:
    """The same numbers get fewer words: with four members, 1.9 errors are too few for a sign that is wrong in at most 5 %."""
    folder, words = FakeRun().write(tmp_path), {}
    for name in ("best", "median"):
        facts = json.loads((folder / "influence" / MANIFEST).read_text(encoding="utf-8"))
        files = list(facts.pop("files"))
        write_manifest(folder / "influence", {key: value for key, value in facts.items() if key != "format"} | {"estimator": name}, files)
        mistake = Mistake(Run(folder), Run(folder).influence.errors[0])
        (members, shape), group = mistake.evidence["truth"], random_groups(30, (5,))
        sums = members[:, 0, group[0].instances].sum(1)
        middle, error = np.median(members[:, 0, group[0].instances], 0).sum(), np.sqrt(np.pi / 2) * sums.std(ddof=1) / 2
        shifted = members + ((1.9 * error - middle) / 5).astype(np.float32)
        mistake.evidence["truth"] = shifted, shape
        words[name] = mistake.sums(group, "truth")[0].trust
    assert words == {"best": STRONG, "median": NOISE}


def test_groups_are_summed_without_torch(run_copy: Path) -> None:
    code = """
import json, sys
from pathlib import Path
from core.pipeline.groups import group_influences
from core.runs import Run
run = Run(Path(sys.argv[1]))
name = str(run.item("validation", run.influence.errors[0])["id"])
assert [entry["id"] for entry in group_influences(run, [], [name])["errors"]] == [name]
print(json.dumps([name for name in sys.modules if "." not in name]))
"""
    assert not set(json.loads(run_python(code, run_copy))) & {"torch", "transformers", "torchvision"}


def test_random_groups_are_all_groups_with_as_many_items_of_each_label(tmp_path: Path) -> None:
    run = Run(FakeRun(train=9, classes=("a", "b", "c")).write(tmp_path))
    mistake, labels = Mistake(run, run.influence.errors[0]), run.train["label"].to_numpy()
    group = Group("two a, one b", np.array([0, 1, 3]))
    values = mistake.items["truth"]
    sums = [values[[*pair, one]].sum() for pair in combinations(np.flatnonzero(labels == 0), 2) for one in np.flatnonzero(labels == 1)]
    made = mistake.sums([group, Group("all a", np.flatnonzero(labels == 0)), Group("the best", np.array([0]), ranked=True)], "truth")
    assert made[0].random == pytest.approx((np.mean(sums), np.std(sums)))
    assert made[1].random is None and made[2].random is None


def test_one_member_has_sums_without_errors_and_words(tmp_path: Path) -> None:
    run = Run(FakeRun(members=1).write(tmp_path))
    mistake = Mistake(run, run.influence.errors[0])
    (made,) = mistake.sums(random_groups(30, (5,)), "prediction")
    assert (made.standard_error, made.trust) == (None, None)
    assert mistake.margin_error(np.array([1, 2])) is None


def test_a_run_that_cannot_sum_says_what_to_do(tmp_path: Path) -> None:
    """One from before shapes were kept, and one that keeps only the ends of each ranking."""
    for name, change, message in (("old", None, "compute it again with"), ("large", "top", "--targets errors --most")):
        folder = FakeRun(name).write(tmp_path)
        part = folder / "influence"
        facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
        files = [file for file in facts.pop("files") if change or not file.endswith("_shape.npy")]
        if change:
            facts["layout"] = change
            for meaning in ("truth", "prediction"):
                rows = len(np.load(part / f"{meaning}_estimate.npy"))
                np.save(part / f"{meaning}_instances.npy", np.tile(np.arange(30), (rows, 1)))
                files.append(f"{meaning}_instances.npy")
        write_manifest(part, {key: value for key, value in facts.items() if key != "format"}, files)
        run = Run(folder)
        with pytest.raises(TurnoverError, match=message):
            Mistake(run, run.influence.errors[0])


# Flips


@given(gains=st.lists(st.floats(-1, 1), min_size=1, max_size=10), margin=st.floats(0, 2), most=st.integers(1, 10))
def test_no_smaller_group_uses_up_the_margin(gains: list[float], margin: float, most: int) -> None:
    """Against all groups of all sizes."""
    values = np.array(gains)
    found = smallest_group(values, margin, most)
    assert len(found) <= most
    if len(found):
        assert np.cumsum(values[found])[-1] > margin
        assert list(values[found]) == sorted(values[found], reverse=True)
    for size in range(1, (len(found) or min(most, len(values)) + 1)):
        assert not any(np.cumsum(sorted(some, reverse=True))[-1] > margin for some in combinations(gains, size))


def test_a_flip_is_where_the_predicted_losses_change_places(tmp_path: Path) -> None:
    run, flipped = Run(FakeRun(train=70).write(tmp_path)), 0
    for error in run.influence.errors:
        item, flip = run.item("validation", error), smallest_flip(Mistake(run, error))
        assert flip.before == pytest.approx([-np.log(item[f"probability_{item[name]}"]) for name in ("predicted", "label")], rel=1e-6)
        assert flip.before[0] < flip.before[1]
        prediction, truth = (run.influence.ranked(error, meaning).values for meaning in ("prediction", "truth"))
        assert flip.after == pytest.approx([flip.before[0] + prediction[flip.instances].sum(), flip.before[1] + truth[flip.instances].sum()], rel=1e-5)
        if len(flip.instances):
            flipped += 1
            last = flip.instances[-1]
            assert flip.after[0] > flip.after[1] and flip.after[0] - prediction[last] <= flip.after[1] - truth[last]
            difference = np.subtract(*(run.influence.evidence(error, meaning)[0][:, 0] for meaning in ("prediction", "truth")))
            expected = np.sqrt(np.pi / 2) * difference[:, flip.instances].sum(1).std(ddof=1) / 2
            assert flip.standard_error == pytest.approx(expected, rel=1e-4)
        else:
            assert flip.after == flip.before and flip.standard_error is None
    assert 0 < flipped < 8


def test_a_margin_too_large_for_half_the_training_items_has_no_flip(tmp_path: Path) -> None:
    run = Run(FakeRun(train=4).write(tmp_path))
    mistake = Mistake(run, run.influence.errors[0])
    mistake.items = {"prediction": np.full(4, 0.3), "truth": np.zeros(4)}
    flip = smallest_flip(mistake)
    assert 0.6 < flip.before[1] - flip.before[0] < 1.2 and len(flip.instances) == 0
