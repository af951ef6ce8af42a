"""`evaluate`: every measure has every method, computes nothing twice, and refuses in a line."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import turnover.research.evaluate.scores as methods_module
import turnover.workflows.subsets as retrained_module
from tests.helpers.builders import failing_after, train_digits
from tests.helpers.calling import answer, call
from tests.helpers.source_files import checked_reviews as reviews
from tests.helpers.storage_testing import edit
from tests.helpers.token_builders import encoder_in, sst2_in, twins_in
from turnover import Run, TurnoverError
from turnover.data.base import WRONG_LABEL
from turnover.models.registry import TrainSettings
from turnover.research.evaluate.labels import RANK, doubt, suspicions, wrong_label_auc
from turnover.research.evaluate.loo import own_scores
from turnover.research.evaluate.results import MEASURES
from turnover.research.evaluate.scores import (
    BASELINES,
    ESTIMATORS,
    USUAL,
    Evidence,
    Options,
    baseline_scores,
    by_words,
    evidence_of,
    self_scores,
    turnover_scores,
)
from turnover.research.evaluate.task import EvaluationTask
from turnover.workflows.influence import compute_influence
from turnover.workflows.train import train_run

Runs = dict[str, Path]
Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]
QUICK = ("similarity", "tracin-last")
TIES = "signed cosine similarity, features of the run"
SMALL = [*("--halves", 6, "--seeds", 2, "--instances", 5, "--errors", 4, "--remove", 3, 12)]
SMALL += ["--baselines", *QUICK]
FACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "lds": ("digits", {"targets": 24, "halves": 6, "seeds": 2}),
    "loo": ("digits", {"targets": 24, "instances": 5, "seeds": 2}),
    "injected": ("digits", {"targets": 24, "injected": 10, "instances": 100}),
    "real-errors": ("reviews", {"targets": 12, "confirmed_errors": 10, "instances": 48}),
    "duplicates": ("twins", {"targets": 6, "pairs": 6, "instances": 40}),
    "removal": ("digits", {"targets": 4, "removed": [3, 12], "seeds": 2}),
    "loss-added": ("digits", {"targets": 4, "removed": [1, 5], "seeds": 2}),
    "agreement": ("digits", {"targets": 24, "members": 4}),
}
"""Of every measure: the run that it is tried on, and what it says beside its rows."""


def twins(folder: Path) -> TrainSettings:
    """Heads on 40 and 10 photos, those among them that are near duplicates."""
    sizes = {"limit": 40, "validation_limit": 10, "members": 2}
    kept = {"path": twins_in(folder), "keep": str(folder / "pairs.csv")}
    return TrainSettings.of("cifar10", model="heads", **sizes, **kept)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A run for every measure; what was measured is kept from test to test."""
    folder = tmp_path_factory.mktemp("measured")
    sizes = {"limit": 100, "validation_limit": 24, "members": 4, "label_noise": 0.1}
    encoder = encoder_in(folder / "encoder")
    checks = TrainSettings.of("imdb-checks", path=str(reviews(folder)), encoder=encoder, members=2)
    train_digits(folder / "digits", model="heads", **sizes)
    train_run(checks, folder / "reviews", "cpu")
    train_run(twins(folder / "photos"), folder / "twins", "cpu")
    made = {name: folder / name for name in ("digits", "reviews", "twins")}
    for run in made.values():
        compute_influence(Run(run))
    return made | {"pairs": folder / "photos" / "pairs.csv"}


@pytest.fixture
def task(runs: Runs) -> EvaluationTask:
    """Ten targets of the run of digits."""
    return EvaluationTask.of(Run(runs["digits"]), "cpu", 10)


SUSPICIONS = {
    *("self-influence: ", "flipped loss: ", "mean influence: "),
    *("label doubt: ", "cross-validated doubt"),
}
MORE = {
    **dict.fromkeys(("injected", "real-errors"), SUSPICIONS),
    "duplicates": {TIES},
    "removal": {"random, labels as by turn-over, as shown"},
}
"""How rows begin that a measure has beside those of all methods."""


def asked(runs: Runs, measure: str, *more: object) -> list[object]:
    """The command that measures so."""
    pairs = ["--path", runs["pairs"]] if measure == "duplicates" else []
    wanted = ["evaluate", "--run", runs[FACTS[measure][0]], "--measure", measure]
    return [*wanted, "--device", "cpu", *SMALL, *pairs, *more]


def others(run: Path, folder: Path, *without: str) -> Path:
    """A copy of a run, without some of what it holds."""
    return Path(shutil.copytree(run, folder, ignore=shutil.ignore_patterns(*without)))


# All measures


@pytest.mark.parametrize("measure", [name for name in MEASURES if name not in ("causes", "proofs")])
def test_it_has_every_method_and_computes_nothing_twice(
    measure: str,
    runs: Runs,
    capsys: Capture,
    monkeypatch: Patch,
) -> None:
    result = answer(capsys, *asked(runs, measure))
    facts = {"run": str(runs[FACTS[measure][0]]), "measure": measure, **FACTS[measure][1]}
    assert facts.items() <= result.items()
    costs = {row["method"]: row["train_seconds"] for row in result["rows"]}
    known = [f"turn-over, {name}" for name in ESTIMATORS] + [BASELINES[name].name for name in QUICK]
    for name in known:
        assert any(method.endswith(name) for method in costs), name
    more = MORE.get(measure, set())
    rest = [method for method in costs if method not in known]
    assert all(method.startswith(tuple(more)) for method in rest)
    assert all(any(method.startswith(start) for method in rest) for start in more)
    for row in result["rows"]:
        assert row["train_seconds"] >= 0 and row["estimate_seconds"] >= 0 and row["figures"]
        for figure in row["figures"].values():
            assert np.isfinite(figure["value"])
            assert 0 <= figure["value"] <= 1 or more != SUSPICIONS
            assert figure["low"] is None or figure["low"] <= figure["high"]
    ends = ("one member", "mean of members")
    one, mean = (next(costs[name] for name in costs if name.endswith(end)) for end in ends)
    members = Run(runs[FACTS[measure][0]]).manifest["settings"]["members"]
    assert mean == pytest.approx(members * one), "one member costs its share"
    modules = (
        (retrained_module, "train_epoch"),
        (EvaluationTask, "problem"),
        (methods_module, "influence"),
    )
    for module, name in modules:
        monkeypatch.setattr(module, name, None)
    again = answer(capsys, *asked(runs, measure))
    assert [row["figures"] for row in again["rows"]] == [row["figures"] for row in result["rows"]]


def test_the_table_says_what_the_json_says(runs: Runs, capsys: Capture) -> None:
    result, (code, printed, _) = (act(capsys, *asked(runs, "lds")) for act in (answer, call))
    facts = "targets 24, halves 6, seeds 2, retrained with turnover dropout no, epochs "
    assert code == 0 and printed.startswith(f"lds of {runs['digits']}: {facts}")
    assert f"reliability {result['reliability']:.3f}" in printed
    for row in result["rows"]:
        score, chance = (row["figures"][name] for name in ("LDS", "placebo"))
        shown = f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
        assert f"| {row['method']} | {shown} | {chance['value']:.3f} |" in printed


def test_retraining_under_masks_is_another_measurement(runs: Runs, capsys: Capture) -> None:
    found = [answer(capsys, *asked(runs, "lds", *more)) for more in ([], ["--masked"])]
    assert [one["retrained_with_turnover_dropout"] for one in found] == [False, True]
    results = Run(runs["digits"]).manifest["results"]
    assert [one["epochs"] for one in found] == [results["plain_kept_epoch"], results["kept_epoch"]]
    assert found[0]["rows"][0]["figures"] != found[1]["rows"][0]["figures"]


@pytest.mark.parametrize("measure", [name for name in FACTS if name != "agreement"])
def test_another_engine_s_scores_stand_beside_ours(
    measure: str, runs: Runs, tmp_path: Path, capsys: Capture
) -> None:
    """Ours as a file have our figures; what raises the loss of an error's true label speaks for its
    answer.
    """
    run = Run(runs[FACTS[measure][0]])
    meaning = "prediction" if measure == "removal" else "truth"
    scores = np.zeros((len(run.validation), len(run.train)), np.float32)
    part = run.influence
    for position in part.misclassified if measure == "removal" else part.targets:
        ranked = part.ranked(position, meaning)
        scores[position, ranked.instances] = ranked.values
    np.save(tmp_path / "mine.npy", scores)
    more = ("--scores", tmp_path / "mine.npy")
    more += ("--positive", "hurts" if measure == "removal" else "helps")
    rows = {
        row["method"].removeprefix("mean influence: "): row
        for row in answer(capsys, *asked(runs, measure, *more))["rows"]
    }
    mine, ours = rows["mine.npy"], rows["turn-over, as shown"]
    assert mine["figures"]
    for name, figure in mine["figures"].items():
        assert figure["value"] == pytest.approx(ours["figures"][name]["value"], abs=1e-3), name


# Refused

REFUSED = {
    "choose from 'lds'": "digits --measure truth",
    "required: --measure": "digits",
    "--halves 3: a ranking wants 4 or more": "digits --measure lds --halves 3",
    "--instances 2: a ranking wants 4 or more": "digits --measure loo --instances 2",
    "--seeds": "digits --measure lds --seeds 0",
    "--baselines oracle: nobody knows it; choose from": "digits --measure lds --baselines oracle",
    "--remove 51: the run has 100 training items": "digits --measure removal --remove 5 51",
    "no confirmed label errors; train with --data imdb-checks": "digits --measure real-errors",
    "2 members cannot be parted": "twins --measure agreement",
    "no injected wrong labels; train with --label-noise": "twins --measure injected",
    "none.csv: no such file": "digits --measure injected --truth none.csv",
    "other.csv: no column 'id'": "digits --measure injected --truth other.csv",
    "is of no training item of the run": "digits --measure injected --truth nobody.csv",
    "'x', is none of the 10 classes": "digits --measure injected --truth classless.csv",
    "--truth is for --measure injected, not lds": "digits --measure lds --truth nobody.csv",
    "with columns test_index and train_index by --path": "twins --measure duplicates",
    "no pair has both its items here": "twins --measure duplicates --path other.csv",
    "no such file": "twins --measure duplicates --path none.csv",
    "no such run": "nowhere --measure lds",
    "--scores and --positive helps or hurts go together": "digits --measure lds --scores a.npy",
    "none.npy: no such file": "digits --measure lds --scores none.npy --positive helps",
    **{f"{measure}|no influence yet": f"bare --measure {measure}" for measure in MEASURES},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_measured_is_one_line(
    message: str,
    runs: Runs,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: Patch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("test_index,train_index\n1,2\n")
    Path("nobody.csv").write_text("id,label\nnobody,2\n")
    Path("classless.csv").write_text(f"id,label\n{Run(runs['digits']).train['id'].iloc[0]},x\n")
    kind, *more = REFUSED[message].split()
    if kind == "bare":
        others(runs["digits"], tmp_path / "bare", "influence", "fidelity")
    code, out, err = call(capsys, "evaluate", "--run", runs.get(kind, tmp_path / kind), *more)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert message.rpartition("|")[2] in err


def test_errors_that_the_user_knows_are_measured_as_injected_ones(
    runs: Runs, tmp_path: Path, capsys: Capture
) -> None:
    """The right labels of a run with injected errors give its own figures."""
    expected, file = answer(capsys, *asked(runs, "injected"))["rows"], tmp_path / "truth.csv"
    train = Run(runs["digits"]).train
    train[["id"]].assign(label=train["true_label"]).iloc[::-1].to_csv(file, index=False)
    made = answer(capsys, *asked(runs, "injected", "--truth", file))
    exact = [[row["method"], row["figures"]] for row in made["rows"]]
    assert exact == [[row["method"], row["figures"]] for row in expected]
    for lines, reason in ((2, "is there twice"), (1, "no label differs from the run's")):
        same = train[train["label"] == train["true_label"]][["id", "label"]].iloc[[0] * lines]
        same.to_csv(file, index=False)
        assert reason in call(capsys, *asked(runs, "injected", "--truth", file))[2]


def test_a_spoilt_store_is_one_line_or_computed_again(
    runs: Runs, tmp_path: Path, capsys: Capture
) -> None:
    """With the same figures."""
    expected = answer(capsys, *asked(runs, "lds"))["rows"]
    run = others(runs["digits"], tmp_path / "run")
    blocks = list((run / "fidelity").glob("halves-*/block-000.npz"))
    for block in blocks:
        edit(block)
    code, _, err = call(capsys, *asked({**runs, "digits": run}, "lds"))
    assert code == 2 and "block-000.npz: not readable" in err and err.count("\n") == 1
    assert err.endswith("it is removed; give the same command again to compute this part anew\n")
    for block in blocks:
        block.write_bytes(b"torn")
    rows = answer(capsys, *asked({**runs, "digits": run}, "lds"))["rows"]
    assert [row["figures"] for row in rows] == [row["figures"] for row in expected]


def test_a_run_without_errors_has_none_to_explain(runs: Runs) -> None:
    run = Run(runs["digits"])
    run.influence.misclassified.clear()
    with pytest.raises(TurnoverError, match=r"^[^\n]*misclassified, so there is no error to"):
        EvaluationTask.of(run, "cpu", 4, "prediction")
    assert Options().baselines == USUAL and set(USUAL) <= set(BASELINES)


# Methods


def test_shared_words_count_for_a_label_and_images_have_none(
    runs: Runs, task: EvaluationTask
) -> None:
    pytest.importorskip("bm25s")
    assert by_words(task).note == "refused: images have no words"
    run = Run(runs["reviews"])
    asked = EvaluationTask.of(run, "cpu", 4)
    (scored,) = baseline_scores(asked, ["bm25"])
    words = [set(re.findall(r"\w{2,}", text.lower())) for text in run.train["text"]]
    labels, targets = run.train["label"].to_numpy(), run.validation.loc[asked.positions]
    assert scored.values.shape == (4, len(words)) and scored.values.any()
    for row, text, label in zip(scored.values, targets["text"], targets["label"], strict=True):
        own = set(re.findall(r"\w{2,}", text.lower()))
        assert not row[[not own & there for there in words]].any()
        assert (row[labels == label] >= 0).all() and (row[labels != label] <= 0).all()


@pytest.mark.parametrize("meaning", ["truth", "prediction"])
def test_estimators_are_those_of_the_stored_influences(runs: Runs, meaning: str) -> None:
    """Errors are explained under their predicted labels."""
    run = Run(runs["digits"])
    task = EvaluationTask.of(run, "cpu", 4, meaning)
    (evidence, seconds), part = evidence_of(task), run.influence
    targets = part.targets if meaning == "truth" else part.misclassified
    places = [targets.index(position) for position in task.positions]
    members = part.members(meaning, places)
    assert len(places) == 4 and np.array_equal(evidence.values, members)
    share = evidence.values.size / part.manifest["pairs"]
    assert seconds == pytest.approx(part.manifest["seconds"] * share)
    labels = run.validation["label" if meaning == "truth" else "predicted"]
    assert task.targets.labels.tolist() == labels.loc[task.positions].tolist()
    made = {one.method.removeprefix("turn-over, "): one for one in turnover_scores(evidence, 1e3)}
    assert list(made) == list(ESTIMATORS)
    spent = [made[name].estimate_seconds for name in ("one member", "mean of members")]
    assert spent == pytest.approx([250, 1000], rel=0.05)
    assert np.array_equal(made["one member"].values, members[0])
    np.testing.assert_allclose(made["mean of members"].values, members.mean(0), atol=1e-6)
    assert np.array_equal(made["median of members"].values, np.median(members, 0))
    for row, position in zip(made["as shown"].values, task.positions, strict=True):
        np.testing.assert_allclose(row, part.ranked(position, meaning).values, rtol=0, atol=1e-5)
    assert task.asked != replace(task, meaning="other").asked
    itself, kept = (
        own_scores(task, Options(baselines=()), np.arange(5)),
        part.array("self")[:, :5],
    )
    known = {"one member": kept[0], "mean of members": kept.mean(0)}
    known["median of members"] = np.median(kept, 0)
    assert itself.keys() == {f"turn-over, {name}" for name in known}
    for name, values in known.items():
        assert np.array_equal(itself[f"turn-over, {name}"], values)
    alone = turnover_scores(Evidence(task, evidence.model, evidence.values[:1]), 1.0)
    assert [one.method for one in alone] == ["turn-over, one member"]


def test_influences_are_computed_once(runs: Runs, tmp_path: Path, monkeypatch: Patch) -> None:
    run = Run(others(runs["digits"], tmp_path / "run"))
    known, _ = evidence_of(EvaluationTask.of(run, "cpu", 10))
    compute_influence(run, full_bytes=0)
    task = EvaluationTask.of(Run(run.folder), "cpu", 10)
    assert task.run.influence.manifest["layout"] == "top"
    made, seconds = evidence_of(task)
    np.testing.assert_allclose(made.values, known.values, rtol=0, atol=1e-4)
    monkeypatch.setattr(methods_module, "influence", None)
    again, same = evidence_of(task)
    assert np.array_equal(again.values, made.values) and same == seconds > 0


def test_baselines_explain_the_run_s_plain_twin(task: EvaluationTask, monkeypatch: Patch) -> None:
    scored = {one.method: one for one in baseline_scores(task, USUAL)}
    assert list(scored) == [BASELINES[name].name for name in USUAL]
    problem = task.problem()
    for name in USUAL:
        one = scored[BASELINES[name].name]
        assert not one.refused and one.values.shape == (10, 100)
        known = BASELINES[name].scores(problem).values.numpy()
        np.testing.assert_allclose(one.values, known, rtol=1e-4, atol=1e-5)
    similar, tracin = baseline_scores(task, QUICK, member=1)
    assert np.array_equal(similar.values, scored[similar.method].values), "it knows no model"
    assert not np.allclose(tracin.values, scored[tracin.method].values), "another model"
    monkeypatch.setattr(methods_module, "_SELF_ROWS", 3)
    rows = torch.tensor([2, 5, 7, 50, 99])
    (own,) = self_scores(task, ["tracin-last"], rows.numpy())
    itself = problem.train.take(rows)
    both = BASELINES["tracin-last"].scores(replace(problem, targets=itself), rows).values
    np.testing.assert_allclose(own.values[0], both.diagonal().numpy(), rtol=1e-4, atol=1e-6)


def test_what_fails_for_want_of_memory_is_tried_again(
    runs: Runs, tmp_path: Path, monkeypatch: Patch
) -> None:
    task = EvaluationTask.of(Run(others(runs["digits"], tmp_path / "run")), "cpu", 4)
    with monkeypatch.context() as short:
        short.setattr(type(BASELINES["random"]), "scores", failing_after(0, print, MemoryError()))
        (first,) = baseline_scores(task, ["random"])
    (again,) = baseline_scores(task, ["random"])
    assert first.note == "refused: MemoryError" and again.values.shape == (4, 100)


def test_a_baseline_that_cannot_treat_a_run_says_why(tmp_path: Path, capsys: Capture) -> None:
    """Adapters have ordinary dropout in their encoder, and texts that the model reads itself."""
    made = {"path": sst2_in(tmp_path / "sst2", 24, 10), "encoder": encoder_in(tmp_path / "encoder")}
    settings = TrainSettings.of("sst2", model="adapters", limit=20, members=2, **made)
    train_run(settings, tmp_path / "run", "cpu")
    compute_influence(Run(tmp_path / "run"))
    few = ("--halves", 4, "--seeds", 1)
    result = answer(capsys, *asked({"digits": tmp_path / "run"}, "lds", *few))
    assert result["reliability"] is None and result["ceiling"] is None
    notes = {row["method"]: row["note"] for row in result["rows"] if not row["figures"]}
    assert set(notes) == {BASELINES[name].name for name in QUICK}
    refused = doubt(EvaluationTask.of(Run(tmp_path / "run"), "cpu"))
    assert refused.refused
    assert all(note.startswith("refused: ") for note in (*notes.values(), refused.note))


# Suspicions and duplicates


def test_suspicions_are_high_for_wrong_labels_and_one_a_training_item(
    task: EvaluationTask,
) -> None:
    """Doubt comes from folds that the item is not in: a fitted model would know it by heart."""
    run, options = task.run, Options(baselines=("tracin-last",))
    found = {one.method: one.values for one in suspicions(task, options)}
    planted = (run.train["planted"] == WRONG_LABEL).to_numpy()
    assert all(values.shape == (1, 100) and np.isfinite(values).all() for values in found.values())
    own, flipped, fold = (
        "self-influence: turn-over, mean of members",
        "flipped loss: turn-over, mean of members",
        "cross-validated doubt (Northcutt et al. 2021)",
    )
    for name in (own, flipped, fold):
        assert found[name][0, planted].mean() > found[name][0, ~planted].mean()
    losses = run.array("item_losses")[1, run.manifest["results"]["kept_epoch"] - 1]
    assert np.array_equal(found[flipped][0], losses)
    assert found[fold].min() >= 0 and found[fold].max() <= 1
    assert found[fold][0, planted].mean() > 0.7


def test_the_measure_s_area_is_the_benchmark_s(runs: Runs, capsys: Capture) -> None:
    rows = {row["method"]: row for row in answer(capsys, *asked(runs, "injected"))["rows"]}
    area = rows["self-influence: turn-over, mean of members"]["figures"]["AUC"]["value"]
    assert area == pytest.approx(wrong_label_auc(Run(runs["digits"])))


def test_duplicates_are_kept_and_ranked_as_stored(runs: Runs, capsys: Capture) -> None:
    run, rows = Run(runs["twins"]), answer(capsys, *asked(runs, "duplicates"))["rows"]
    ids = run.train["id"].tolist()
    assert {f"train-{1030 + row}" for row in range(6)} <= set(ids)
    assert (len(ids), len(run.validation)) == (40, 10)
    ranks = {row["method"]: row["figures"][RANK]["value"] for row in rows}
    assert all(1 / 40 <= rank <= 1 for rank in ranks.values())
    for method in (BASELINES["similarity"].name, TIES):
        assert ranks[method] == pytest.approx(1 / 40), "nothing is as like it as its copy"
    shares = []
    for row in range(6):
        (position,) = run.validation.index[run.validation["id"] == f"test-{500 + row}"]
        values = run.influence.ranked(int(position), "truth").values
        own = values[ids.index(f"train-{1030 + row}")]
        shares.append(float((values > own).sum() + 1) / 40)
    assert ranks["turn-over, as shown"] == pytest.approx(float(np.median(shares)))
