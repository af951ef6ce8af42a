"""What is said of rankings: words of trust, one ranking and all errors of a run at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import turnover.explain.facts as certainty_module
from tests.helpers.builders import run_python
from tests.helpers.fake_runs import FakeRun, keep_ends, keep_targets
from turnover import Run
from turnover.attribution.estimators.significance import NOISE, STRONG, WEAK, trust_words
from turnover.explain.facts import explained_pattern, run_certainty
from turnover.runs.ranking import TOP, ranking_entries, ranking_trust, trust_counts
from turnover.runs.run import PREDICTION, Ranked
from turnover.storage.artifacts import MANIFEST, write_manifest

RANKED = Ranked(np.arange(30), np.linspace(1, -0.5, 30), np.full(30, 0.2))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Thirty training items, eight errors."""
    return Run(FakeRun().write(tmp_path))


def test_entries_carry_the_words_of_the_whole_ranking(run: Run) -> None:
    made, words = ranking_entries(run, RANKED, 4), trust_words(RANKED.values, RANKED.std_errors)
    assert [entry["trust"] for entry in made["proponents"]] == list(words[:4])
    assert [entry["trust"] for entry in made["opponents"]] == list(words[:-5:-1])
    counts = {word: int((words == word).sum()) for word in (STRONG, WEAK)}
    assert made["trust"] == counts and set(words) == {STRONG, WEAK, NOISE}


def test_items_that_a_run_did_not_keep_count_as_not_passing(run: Run) -> None:
    """Two of thirty at a chance of .2 %: both would pass among two, and the first not of thirty."""
    ends = Ranked(np.array([3, 5]), np.array([2.88, -0.5]), np.ones(2))
    assert list(trust_words(ends.values, ends.std_errors)) == [STRONG, NOISE]
    assert list(ranking_trust(run, ends)) == [WEAK, NOISE]


def test_without_an_error_there_is_no_word(run: Run) -> None:
    unknown = replace(RANKED, std_errors=np.full(30, np.nan))
    made = ranking_entries(run, unknown, 3)
    assert made["trust"] is None and trust_counts(ranking_trust(run, unknown)) is None
    assert {entry["trust"] for entry in (*made["proponents"], *made["opponents"])} == {None}
    noise = ranking_trust(run, replace(RANKED, std_errors=np.full(30, 1e9)))
    assert trust_counts(noise) == {STRONG: 0, WEAK: 0}


def test_what_is_shown_of_a_run_is_made_without_torch(tmp_path: Path) -> None:
    """Pages, marks inside words and sums of groups, so that all of it is there at once."""
    code = """
import json, sys
from pathlib import Path
import turnover.runs.ranking
from turnover.explain.flips import group_influences
from turnover.explain.report import write_report
from turnover.explain.words import encoder_pieces
from turnover.runs.run import Run
run = Run(Path(sys.argv[1]))
write_report(run, Path(sys.argv[2]))
assert "scipy" not in sys.modules
encoder_pieces("all-MiniLM-L6-v2")("submariner")
name = str(run.item("validation", run.influence.misclassified[0])["id"])
assert [entry["id"] for entry in group_influences(run, [], [name])["errors"]] == [name]
heavy = {"torch", "torchvision", "transformers", "sklearn", "streamlit"}
print(json.dumps(sorted(set(sys.modules) & heavy)))
"""
    folder = FakeRun().write(tmp_path)
    assert json.loads(run_python(code, folder, tmp_path / "page.html")) == []


# All errors at once


def make(folder: Path, change: dict[str, object] | None = None, keep: int | None = None) -> Run:
    """A run whose influences are told from noise more or less, error by error.

    `keep` leaves so many items at each end of a ranking.
    """
    path = FakeRun().write(folder)
    part = path / "influence"
    errors = np.load(part / "prediction_error.npy")
    scale = np.geomspace(0.05, 3, len(errors))[:, None].astype(np.float32)
    np.save(part / "prediction_error.npy", errors * scale)
    if keep:
        keep_ends(path, keep)
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    told = {key: fact for key, fact in facts.items() if key not in ("format", "files")}
    write_manifest(part, told | (change or {}), sorted(path.name for path in part.glob("*.npy")))
    return Run(path)


@pytest.mark.parametrize("estimator", ["best", "median"])
@pytest.mark.parametrize("values", [2**20, 40])
@pytest.mark.parametrize("keep", [None, 4])
def test_counts_are_those_of_each_error(
    estimator: str, values: int, keep: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certainty_module, "_VALUES", values)
    run = make(tmp_path, {"estimator": estimator}, keep)
    found, part = run_certainty(run), run.influence
    counts = {
        error: trust_counts(ranking_trust(run, part.ranked(error, PREDICTION)))
        for error in part.misclassified
    }
    assert found.strong == {error: count[STRONG] for error, count in counts.items() if count}
    assert found.weak == {error: count[WEAK] for error, count in counts.items() if count}
    strong = list(found.strong.values())
    assert found.share == np.mean([count > 0 for count in strong]) and 0 < found.share < 1
    assert (found.misclassified, found.train_size, found.members) == (8, 30, 4)
    assert found.partly == (keep is not None)


def test_the_agreement_is_that_of_the_estimator_shown(tmp_path: Path) -> None:
    changes: tuple[tuple[dict[str, object] | None, float | None], ...]
    changes = ((None, 0.2), ({"estimator": "median"}, 0.1), ({"agreement": {}}, None))
    for number, (change, agreement) in enumerate(changes):
        assert run_certainty(make(tmp_path / str(number), change)).agreement == agreement


def test_one_member_and_no_errors_are_known_for_nothing(tmp_path: Path) -> None:
    for fake, errors in ((FakeRun("one", members=1), 8), (FakeRun("right", errors=False), 0)):
        found = run_certainty(Run(fake.write(tmp_path)))
        assert not found.known and found.misclassified == errors
        assert (found.share, found.strong) == (0.0, {})


def test_the_pattern_of_labels_is_counted_by_hand(run: Run) -> None:
    part, labels = run.influence, run.train["label"].tolist()
    shares, against, chances = [], [], []
    for position in part.misclassified:
        values = part.ranked(position, PREDICTION).values.tolist()
        wrong = run.validation["predicted"][position]
        order = sorted(range(30), key=lambda place: -values[place])
        helping = [labels[place] == wrong for place in order[:TOP] if values[place] > 0]
        hurting = [labels[place] == wrong for place in order[::-1][:TOP] if values[place] < 0]
        shares.append(np.mean(helping))
        against.append(np.mean(hurting))
        chances.append(labels.count(wrong) / 30)
    pattern = explained_pattern(run)
    assert pattern and pattern.misclassified == 8
    expected = pytest.approx((np.mean(shares), np.mean(against), np.mean(chances)))
    assert (pattern.proponents, pattern.opponents, pattern.chance) == expected
    assert pattern.proponents_error == pytest.approx(np.std(shares, ddof=1) / 8**0.5)
    estimates = np.load(run.folder / "influence" / "prediction_estimate.npy")
    assert pattern.strongest == pytest.approx(np.median(estimates.max(1)))
    assert pattern.spread == pytest.approx(np.median(estimates.std(1)))


def test_without_errors_there_is_no_pattern_and_for_one_no_spread(tmp_path: Path, run: Run) -> None:
    assert explained_pattern(Run(FakeRun("none", errors=False).write(tmp_path))) is None
    keep_targets(run.folder, run.influence.misclassified[:1])
    pattern = explained_pattern(Run(run.folder))
    assert pattern and (pattern.misclassified, pattern.proponents_error) == (1, None)
