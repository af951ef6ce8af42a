"""Claims that training items taught a mistake, and what retraining without them says."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

import turnover.research.evaluate.proofs as measure_module
import turnover.workflows.prove as prove_module
import turnover.workflows.subsets as subsets_module
from tests.helpers.calling import answer, call
from tests.helpers.fake_runs import FakeRun
from tests.helpers.kept_things import a_proof
from turnover import Run, TurnoverError
from turnover.explain.causes import Causes, causes
from turnover.explain.claims import Claim, items_claim, top_claim, why_claim
from turnover.explain.reasons import CUE, LABEL, TEACHERS, Cause
from turnover.explain.words import content_words
from turnover.flags import Flags
from turnover.flags.export import export_csv
from turnover.research.evaluate.scores import Options
from turnover.research.evaluate.task import EvaluationTask
from turnover.runs.proofs import (
    CONFIRMED,
    MATTERS,
    REFUTED,
    SEEDS,
    UNDECIDED,
    Proof,
    interval,
    keep_proof,
    read_proofs,
    scale_of,
    seconds_to_prove,
    verdicts,
)
from turnover.workflows.prove import prove

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A made-up text run with eight errors."""
    return Run(FakeRun(train=70).write(tmp_path))


@pytest.fixture
def trained(small_run: Path, tmp_path: Path) -> Run:
    """A run that can be trained again, of one's own."""
    return Run(Path(shutil.copytree(small_run, tmp_path / "run")))


# The verdict


def verdict_of(whole: np.ndarray, without: np.ndarray, random: np.ndarray) -> str:
    difference, low, high = interval(whole, without, random)
    return replace(a_proof(), difference=difference, low=low, high=high).verdict


def test_the_interval_is_that_of_a_paired_test_where_items_differ_as_draws_do() -> None:
    rng = np.random.default_rng(0)
    whole, random = rng.normal(size=(2, SEEDS))
    without = whole + 3 * (random - whole) + 0.5  # varies more, so no luck of the draw is seen
    difference, low, high = interval(whole, without, random)
    expected = ttest_rel(without, random).confidence_interval(0.95)
    assert difference == pytest.approx((without - random).mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))
    wider = interval(whole, np.full(SEEDS, 1.0) + whole, random)
    assert wider[2] - wider[1] > np.subtract(
        *reversed(ttest_rel(np.full(SEEDS, 1.0) + whole, random).confidence_interval(0.95))
    )


@pytest.mark.parametrize("draw", [0.0, 0.3, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("effect", [0.0, MATTERS])
def test_each_verdict_is_wrong_in_less_than_one_of_twenty(draw: float, effect: float) -> None:
    """However much one draw of items differs from another: `draw` is that in units of the luck of
    training. Random items are seldom confirmed, and what matters is seldom refuted.
    """
    rng, total = np.random.default_rng(0), 2000
    noise = rng.normal(size=(3, total, SEEDS))
    items = draw * np.concatenate(
        (rng.normal(size=(total, 1)).repeat(SEEDS, 1)[None], rng.normal(size=(1, total, SEEDS)))
    )
    without, random = 0.1 * (noise[1:] + items)
    found = [verdict_of(*row) for row in zip(0.1 * noise[0], without + effect, random, strict=True)]
    assert found.count(CONFIRMED if effect == 0 else REFUTED) < total / 20


def test_what_matters_is_a_tenth_of_the_probability() -> None:
    flat = np.zeros(SEEDS)
    for rise, verdict in ((0.5, CONFIRMED), (-0.01, REFUTED), (0.0, REFUTED)):
        assert verdict_of(flat, flat + rise, flat) == verdict
    assert replace(a_proof(), low=-0.1, high=MATTERS + 0.01).verdict == UNDECIDED
    assert np.exp(-MATTERS) == pytest.approx(0.9)


def test_a_verdict_says_what_was_left_out_and_what_came_of_it() -> None:
    proof = a_proof()
    assert proof.words("positive") == (
        "Confirmed by retraining: without the 2 boats it says “positive” at 14%, without as many "
        "random ones at 61%."
    )
    assert (
        "+1.50 nats of loss more, 95 % interval +1.20 to +1.80; the mistake was gone in 3 of 4"
        in (proof.numbers)
    )
    for low, high, head in ((-1.0, 0.1, "Refuted by"), (-1.0, 1.0, "Retraining cannot tell: ")):
        assert replace(proof, low=low, high=high).words("x").startswith(head)


# What is trained on


@given(st.data())
def test_two_sets_differ_by_the_named_items_and_random_ones_of_their_labels(
    data: st.DataObject,
) -> None:
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=6, max_size=40)))
    size = data.draw(st.integers(1, len(labels) - 1))
    items = np.sort(np.random.default_rng(size).permutation(len(labels))[:size])
    rest, others = prove_module._pair(items, labels, 3)
    assert np.array_equal(np.sort(np.append(rest, items)), np.arange(len(labels)))
    assert others.shape == (SEEDS, len(rest))
    for other in others:
        gone = np.setdiff1d(np.arange(len(labels)), other)
        assert len(np.unique(other)) == len(rest), "no item twice"
        assert sorted(labels[gone]) == sorted(labels[items])
        moved = other != rest
        assert set(rest[moved]) == set(gone) - set(items), "the others keep their places"
        assert (labels[other] == labels[rest]).all()
    assert np.array_equal(prove_module._pair(items, labels, 3)[1], others)


def test_each_seed_has_a_draw_of_its_own() -> None:
    labels = np.zeros(400, int)
    _, others = prove_module._pair(np.arange(10), labels, 0)
    draws = [frozenset(np.setdiff1d(np.arange(400), other)) for other in others]
    assert len(set(draws)) == SEEDS
    _, again = prove_module._pair(np.arange(10) + 1, labels, 0)
    assert frozenset(np.setdiff1d(np.arange(400), again[0])) not in draws


# Proving


def proponents(run: Run, error: int, count: int) -> np.ndarray:
    return top_claim(run, error, count).items


def test_a_proof_is_the_losses_of_models_trained_on_these_sets(trained: Run) -> None:
    error, other = trained.misclassified_positions[:2]
    items = proponents(trained, error, 6)
    first, second = prove(
        trained, [Claim(error, items, "these", "why"), Claim(other, items, "these")], "cpu"
    )
    assert first.items == second.items == tuple(items) and first.why == "why"
    assert len(first.whole) == len(first.without) == len(first.random) == SEEDS
    for proof in (first, second):
        losses = [np.array(part) for part in (proof.whole, proof.without, proof.random)]
        assert interval(*losses) == pytest.approx((proof.difference, proof.low, proof.high))
        assert (np.array(losses) > 0).all() and 0 <= proof.gone <= proof.made <= SEEDS
    ranked = trained.influence.ranked(error, "prediction")
    assert first.predicted == pytest.approx(float(ranked.values[items].sum()))
    (alone,) = prove(trained, [Claim(other, items, "these")], "cpu")
    assert replace(alone, seconds=0.0) == replace(second, seconds=0.0)


def test_what_is_trained_on_everything_is_kept_and_what_was_stopped_goes_on(
    trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = trained.misclassified_positions[0]
    claim = Claim(error, proponents(trained, error, 4), "these")
    real, sizes = subsets_module._train_block, list[tuple[int, ...]]()

    def until(stop: int) -> Any:
        def train(starts: Any, task: Any, rows: Any, *rest: Any) -> Any:
            if len(sizes) == stop:
                raise KeyboardInterrupt
            sizes.append(tuple(rows.shape))
            return real(starts, task, rows, *rest)

        return train

    for stop in (1, 2):
        monkeypatch.setattr(subsets_module, "_train_block", until(stop))
        with pytest.raises(KeyboardInterrupt):
            prove(trained, [claim], "cpu")
    monkeypatch.setattr(subsets_module, "_train_block", until(99))
    (proof,) = prove(trained, [claim], "cpu")
    total, left = len(trained.train), len(trained.train) - 4
    assert sizes == [(1, total), (1, left), (1, SEEDS, left)], "nothing was trained twice"
    prove(trained, [claim], "cpu")
    assert sizes[3:] == [(1, left), (1, SEEDS, left)], "everything is not trained again"
    folders = [path for path in (trained.folder / "fidelity").iterdir() if path.is_dir()]
    assert {path.stem for path in folders[0].glob("*.npz")} == {"whole-sets", "whole-000"}
    assert proof.seconds > 0


def test_what_cannot_be_proved_says_why(run: Run, trained: Run) -> None:
    error = trained.misclassified_positions[0]
    label = int(trained.train["label"].iloc[0])
    whole = np.flatnonzero(trained.train["label"] == label)
    for items, message in (
        (whole, "no random ones to compare with"),
        (np.empty(0, np.int64), "there is nothing to leave out"),
    ):
        with pytest.raises(TurnoverError, match=message):
            prove(trained, [Claim(error, items, "")], "cpu")
    with pytest.raises(TurnoverError, match="no training item has the id 'nobody'; ids look like"):
        items_claim(run, error, ["t001", "nobody"])


# What a cause claims


def test_each_cause_claims_the_items_that_it_names(run: Run) -> None:
    error = run.misclassified_positions[0]
    label = int(run.item("validation", error)["predicted"])
    text = str(run.item("validation", error)["text"])
    word = sorted(content_words(text))[0]
    carried = run.train["label"].to_numpy() == label
    having = np.array([word in content_words(each) for each in run.train["text"]])
    kinds = {
        CUE: Cause(error, CUE, "a cue", "“x”", words=(word,)),
        TEACHERS: Cause(error, TEACHERS, "labels", "", teachers=(9, 2)),
        LABEL: Cause(error, LABEL, "its own", ""),
    }
    claims = {kind: why_claim(run, Causes((cause,), {}), error) for kind, cause in kinds.items()}
    assert claims[CUE].items.tolist() == np.flatnonzero(carried & having).tolist()
    assert f"with “{word}”" in claims[CUE].words
    assert claims[TEACHERS].items.tolist() == [2, 9]
    assert claims[TEACHERS].words == "its 2 teachers with a label in doubt"
    assert claims[LABEL].items.tolist() == proponents(run, error, 10).tolist()
    assert claims[LABEL].words == "its 10 strongest teachers"
    assert [claims[kind].why for kind in kinds] == ["a cue", "labels", "its own"]


# Scale


def test_sums_are_scaled_by_what_retraining_showed_of_them() -> None:
    proofs = [
        replace(a_proof(), predicted=sum_, whole=(1.0, 1.0), without=(1 + rise, 1 + rise))
        for sum_, rise in ((2.0, 0.2), (4.0, 2.0), (2.0, 0.1), (2.0, 0.4), (1.0, 0.3), (-1.0, 5.0))
    ]
    assert scale_of(proofs) == pytest.approx(0.1)
    assert scale_of([replace(proofs[0], without=(0.0, 0.0))]) == 0, "never below zero"
    assert scale_of([]) is None and scale_of([replace(a_proof(), predicted=0.0)]) is None


def test_the_time_is_that_of_an_earlier_proof_or_of_the_run_s_training(
    run: Run, trained: Run
) -> None:
    assert seconds_to_prove(run, []) is None, "it says nothing of its training"
    usual = seconds_to_prove(trained, [])
    assert usual is not None and usual > 0
    known = [replace(a_proof(), seconds=seconds) for seconds in (1.0, 90.0)]
    assert seconds_to_prove(run, known) == pytest.approx(96, abs=1)


# Where it is shown


def test_the_verdict_on_an_item_is_that_of_the_fewest_items() -> None:
    few = replace(a_proof(), items=(1,), low=-1.0, high=0.0)
    assert verdicts([few, replace(a_proof(), items=(1, 2))]) == {1: REFUTED, 2: CONFIRMED}


def test_a_proof_stands_wherever_the_claim_does(run: Run, capsys: Capture, tmp_path: Path) -> None:
    error = run.misclassified_positions[0]
    claim = why_claim(run, causes(run), error)
    proof = replace(a_proof(), error=error, items=tuple(claim.items.tolist()), why=claim.why)
    keep_proof(run, proof)
    Flags(run.folder).put(proof.items[0], "drop")
    row = export_csv(run).splitlines()[1]
    assert f"{run.item('validation', error)['id']}: confirmed 1.50 [1.20, 1.80]" in row
    entries = answer(capsys, "errors", "--run", run.folder)["errors"]
    own = {entry["id"]: entry["proofs"] for entry in entries}
    shown = own.pop(str(run.item("validation", error)["id"]))
    assert [one["verdict"] for one in shown] == [CONFIRMED] and not any(own.values())
    label = run.classes[int(run.item("validation", error)["predicted"])]
    sentence = proof.words(label)
    assert shown[0]["sentence"] == sentence
    assert sentence in call(capsys, "errors", "--run", run.folder)[1]
    call(capsys, "report", run.folder, "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert sentence in page and "retraining: confirmed" in page


def test_the_command_proves_keeps_and_says_it(trained: Run, capsys: Capture) -> None:
    error = trained.misclassified_positions[0]
    name = str(trained.item("validation", error)["id"])
    ids = trained.train["id"].astype(str).iloc[[3, 5]].tolist()
    result = answer(
        capsys,
        *("prove", "--run", trained.folder, "--error", name, "--items", *ids, "--device", "cpu"),
    )
    (entry,) = result["proofs"]
    assert entry["id"] == name and entry["items"] == ids and entry["why"] == ""
    assert entry["verdict"] in (CONFIRMED, REFUTED, UNDECIDED)
    assert [proof.items for proof in read_proofs(trained)[0]] == [(3, 5)]
    asked = ("prove", "--run", trained.folder, "--error", name, "--top", "3", "--device", "cpu")
    out = call(capsys, *asked)[1]
    assert out.startswith(f"{name}: ") and "its 3 strongest teachers" in out
    assert len(read_proofs(trained)[0]) == 2
    assert "'nobody'" in call(capsys, "prove", "--run", trained.folder, "--error", "nobody")[2]


# The measure


def test_the_measure_counts_verdicts_by_cause_and_on_chance_and_keeps_the_causes_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names the first item is confirmed."""

    def told(_: Run, claims: Sequence[Claim], *__: object) -> list[Proof]:
        return [
            replace(
                a_proof(),
                error=claim.error,
                items=tuple(claim.items.tolist()),
                why=claim.why,
                low=1.0 if 0 in claim.items else -1.0,
            )
            for claim in claims
        ]

    monkeypatch.setattr(measure_module, "prove", told)
    task = EvaluationTask(run, torch.device("cpu"), run.misclassified_positions)
    result = measure_module.measure(task, Options())
    rows = {row.method: row.figures for row in result["rows"]}
    claims = [why_claim(run, causes(run), error) for error in run.misclassified_positions]
    share = float(np.mean([0 in claim.items for claim in claims]))
    assert rows[measure_module.WHY][CONFIRMED].value == pytest.approx(share)
    assert rows[measure_module.RANDOM]["claims"].value == measure_module.PLACEBOS
    kinds = {f"cause: {causes(run).by_error[claim.error].kind}" for claim in claims}
    assert kinds == {name for name in rows if name.startswith("cause: ")}
    assert len(read_proofs(run)[0]) == len(claims)


def test_random_claims_are_like_the_causes_in_size_and_labels(run: Run) -> None:
    labels = run.train["label"].to_numpy()
    claims = [why_claim(run, causes(run), error) for error in run.misclassified_positions]
    drawn = measure_module.random_claims(run, claims, 40)
    likes = {tuple(np.bincount(labels[claim.items], minlength=2)) for claim in claims}
    for claim in drawn:
        assert tuple(np.bincount(labels[claim.items], minlength=2)) in likes
        assert len(set(claim.items)) == len(claim.items) and claim.why == ""
    assert len({claim.items.tobytes() for claim in drawn}) > 35
