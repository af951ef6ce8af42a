"""`evaluate` on a small run: every measure has every method, a second call computes nothing, and bad input is one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import core.fidelity.estimators as estimators_module
import core.fidelity.methods as methods_module
import core.fidelity.retrained as retrained_module
from core import Run, TurnoverError
from core.cli import main
from core.data.base import WRONG_LABEL
from core.fidelity.estimators import ESTIMATORS
from core.fidelity.methods import RIVALS, USUAL, evidence_of, rival_scores, self_scores, turnover_scores
from core.fidelity.options import Options
from core.fidelity.planted import wrong_label_auc
from core.fidelity.subject import Subject
from core.fidelity.suspects import doubt, suspicions
from core.pipeline.influence import compute_influence
from core.pipeline.settings import TrainSettings
from core.pipeline.train import train_run
from tests.helpers.builders import train_digits
from tests.helpers.token_builders import encoder_in, sst2_in

QUICK = ("similarity", "tracin-last")
SMALL = ("--halves", "6", "--seeds", "2", "--instances", "5", "--errors", "4", "--remove", "3", "12", "--rivals", *QUICK)
MEASURES = ("lds", "loo", "planted", "removal", "agreement")


def make_run(folder: Path, **changes: Any) -> Path:
    train_digits(folder, **{"model": "heads", "limit": 120, "validation_limit": 40, "members": 4, "label_noise": 0.1, **changes})
    compute_influence(Run(folder))
    return folder


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose measures are kept from test to test."""
    return make_run(tmp_path_factory.mktemp("runs") / "pixels")


@pytest.fixture
def subject(measured: Path) -> Subject:
    return Subject.of(Run(measured), "cpu", 10)


def evaluate(capsys: pytest.CaptureFixture[str], run: Path, measure: str, *arguments: str) -> dict[str, Any]:
    """The JSON object that the command prints."""
    capsys.readouterr()
    assert main(["evaluate", "--run", str(run), "--measure", measure, "--device", "cpu", *(arguments or SMALL), "--json"]) == 0
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


def refusal(capsys: pytest.CaptureFixture[str], run: Path, *arguments: str) -> str:
    """What the command says to bad input: one line, and code 2."""
    capsys.readouterr()
    try:
        code = main(["evaluate", "--run", str(run), *arguments])
    except SystemExit as end:
        code = int(str(end.code))
    printed = capsys.readouterr()
    assert (code, printed.out, printed.err.count("\n")) == (2, "", 1), printed.err
    return printed.err


# All measures


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_has_every_method_with_its_costs(measure: str, measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate(capsys, measured, measure)
    assert (result["measure"], result["targets"], result["run"]) == (measure, 4 if measure == "removal" else 40, str(measured))
    methods = [row["method"] for row in result["rows"]]
    for name in (*(f"turn-over, {name}" for name in ESTIMATORS), *(RIVALS[name].name for name in QUICK)):
        assert any(method.endswith(name) for method in methods), name
    for row in result["rows"]:
        assert row["train_seconds"] >= 0 and row["estimate_seconds"] >= 0 and row["figures"]
        for figure in row["figures"].values():
            assert np.isfinite(figure["value"])
            assert figure["low"] is None or figure["low"] <= figure["high"]
    costs = {row["method"]: row["train_seconds"] for row in result["rows"]}
    one, mean = (next(costs[method] for method in methods if method.endswith(name)) for name in ("one member", "mean of members"))
    assert mean == pytest.approx(4 * one), "one member of four costs a quarter"


@pytest.mark.parametrize("measure", MEASURES)
def test_a_second_call_trains_nothing_and_says_the_same(
    measure: str, measured: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(capsys, measured, measure)
    for module, name in ((retrained_module, "train_epoch"), (Subject, "problem"), (methods_module, "influence")):
        monkeypatch.setattr(module, name, None)
    again = evaluate(capsys, measured, measure)
    assert [row["figures"] for row in again["rows"]] == [row["figures"] for row in first["rows"]]


def test_the_table_says_what_the_json_says(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate(capsys, measured, "lds")
    assert main(["evaluate", "--run", str(measured), "--measure", "lds", "--device", "cpu", *SMALL]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"lds of {measured}: targets 40, halves 6, seeds 2, retrained with turnover dropout no, epochs ")
    assert f"reliability {result['reliability']:.3f}" in printed
    for row in result["rows"]:
        figure = row["figures"]["LDS"]
        assert f"| {row['method']} | {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] | {row['figures']['placebo']['value']:.3f} |" in printed


def test_retraining_with_turnover_dropout_is_another_measurement(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, masked = evaluate(capsys, measured, "lds"), evaluate(capsys, measured, "lds", *SMALL, "--masked")
    assert (plain["retrained_with_turnover_dropout"], masked["retrained_with_turnover_dropout"]) == (False, True)
    results = Run(measured).manifest["results"]
    assert (plain["epochs"], masked["epochs"]) == (results["plain_kept_epoch"], results["kept_epoch"])
    assert plain["rows"][0]["figures"] != masked["rows"][0]["figures"]


# Methods


def test_estimators_are_those_of_the_stored_influences(subject: Subject) -> None:
    evidence, seconds = evidence_of(subject)
    run = subject.run
    members = run.influence.array("truth_members")
    places = [run.influence.targets.index(position) for position in subject.positions]
    assert np.array_equal(evidence.values, members[:, places])
    assert seconds == pytest.approx(run.influence.manifest["seconds"] * evidence.values.size / run.influence.manifest["pairs"])
    made = {one.method.removeprefix("turn-over, "): one for one in turnover_scores(evidence, 1000.0)}
    assert [made[name].estimate_seconds for name in ("one member", "mean of members")] == pytest.approx([250, 1000], rel=0.05)
    scored = {name: one.values for name, one in made.items()}
    assert list(scored) == list(ESTIMATORS)
    assert np.array_equal(scored["one member"], members[0, places])
    np.testing.assert_allclose(scored["mean of members"], members[:, places].mean(0), rtol=0, atol=1e-6)
    assert np.array_equal(scored["median of members"], np.median(members[:, places], 0))


def test_influences_that_are_not_all_stored_are_computed_once(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(Path(shutil.copytree(measured, tmp_path / "run")))
    known, _ = evidence_of(Subject.of(run, "cpu", 10))
    compute_influence(run, full_bytes=0)
    subject = Subject.of(Run(run.folder), "cpu", 10)
    assert subject.run.influence.manifest["layout"] == "top"
    made, seconds = evidence_of(subject)
    np.testing.assert_allclose(made.values, known.values, rtol=0, atol=1e-4)
    monkeypatch.setattr(methods_module, "influence", None)
    again, same = evidence_of(subject)
    assert np.array_equal(again.values, made.values) and same == seconds > 0


def test_one_member_has_one_estimator(subject: Subject) -> None:
    evidence, _ = evidence_of(subject)
    alone = estimators_module.Evidence(subject, evidence.model, evidence.values[:1])
    assert [one.method for one in turnover_scores(alone, 1.0)] == ["turn-over, one member"]


def test_rivals_are_those_of_the_plain_twin(subject: Subject) -> None:
    scored = {one.method: one for one in rival_scores(subject, USUAL)}
    assert list(scored) == [RIVALS[name].name for name in USUAL]
    problem = subject.problem()
    for name in USUAL:
        one = scored[RIVALS[name].name]
        assert not one.refused and one.values.shape == (10, 120)
        np.testing.assert_allclose(one.values, RIVALS[name](problem).values.numpy(), rtol=1e-4, atol=1e-5)
    other = {one.method: one.values for one in rival_scores(subject, QUICK, member=1)}
    names = [RIVALS[name].name for name in QUICK]
    assert np.array_equal(other[names[0]], scored[names[0]].values), "similarity knows no model"
    assert not np.allclose(other[names[1]], scored[names[1]].values), "another member is another model"


def test_self_influence_is_the_diagonal(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods_module, "_SELF_ROWS", 3)
    instances = np.array([2, 5, 7, 50, 119])
    (own,) = self_scores(subject, ["tracin-last"], instances)
    problem, rows = subject.problem(), torch.from_numpy(instances)
    both = RIVALS["tracin-last"](problem, targets=methods_module.take(problem.train, rows), instances=rows).values
    np.testing.assert_allclose(own.values[0], both.diagonal().numpy(), rtol=1e-4, atol=1e-6)


def test_a_rival_that_cannot_treat_a_run_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Adapters have ordinary dropout in their encoder, and texts that the model reads itself."""
    settings = TrainSettings("sst2", path=sst2_in(tmp_path / "sst2", 24, 10), model="adapters", encoder=encoder_in(tmp_path / "encoder"), limit=20, members=2)
    train_run(settings, tmp_path / "run", "cpu")
    run = Run(tmp_path / "run")
    compute_influence(run)
    result = evaluate(capsys, run.folder, "lds", "--halves", "4", "--seeds", "1", "--rivals", *QUICK)
    assert result["reliability"] is None and result["ceiling"] is None
    notes = {row["method"]: row["note"] for row in result["rows"] if not row["figures"]}
    assert set(notes) == {RIVALS[name].name for name in QUICK} and all(note.startswith("refused: ") for note in notes.values())
    refused = doubt(Subject.of(run, "cpu"))
    assert refused.refused and refused.note.startswith("refused: ")


# Suspicions


def test_suspicions_are_high_for_wrong_labels_and_one_a_training_item(subject: Subject) -> None:
    found = {one.method: one.values for one in suspicions(subject, Options(rivals=("tracin-last",)))}
    planted = (subject.run.train["planted"] == WRONG_LABEL).to_numpy()
    for values in found.values():
        assert values.shape == (1, 120) and np.isfinite(values).all()
    for name in ("self-influence: turn-over, mean of members", "flipped loss: turn-over, mean of members", "cross-validated doubt (Northcutt et al. 2021)"):
        assert found[name][0, planted].mean() > found[name][0, ~planted].mean()
    flipped = subject.run.array("item_losses")[1, subject.run.manifest["results"]["kept_epoch"] - 1]
    assert np.array_equal(found["flipped loss: turn-over, mean of members"][0], flipped)


def test_the_measure_s_area_is_the_benchmark_s(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["method"]: row["figures"] for row in evaluate(capsys, measured, "planted")["rows"]}
    assert rows["self-influence: turn-over, mean of members"]["AUC"]["value"] == pytest.approx(wrong_label_auc(Run(measured)))


def test_doubt_comes_from_folds_that_the_item_is_not_in(subject: Subject) -> None:
    """A fitted model would know the wrong labels by heart."""
    made = doubt(subject)
    planted = (subject.run.train["planted"] == WRONG_LABEL).to_numpy()
    assert (made.values >= 0).all() and (made.values <= 1).all()
    assert made.values[0, planted].mean() > 0.7


# Bad input


@pytest.mark.parametrize("measure", MEASURES)
def test_a_run_without_influence_is_one_line(measure: str, measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(measured, tmp_path / "run", ignore=shutil.ignore_patterns("influence", "fidelity")))
    assert "no influence yet; compute it with" in refusal(capsys, run, "--measure", measure)


def test_bad_requests_are_one_line(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "lds" in refusal(capsys, measured, "--measure", "truth")
    assert "--measure" in refusal(capsys, measured)
    assert "no such run" in refusal(capsys, measured / "none", "--measure", "lds")
    assert "--halves 3: a ranking wants 4 or more" in refusal(capsys, measured, "--measure", "lds", "--halves", "3")
    assert "--seeds" in refusal(capsys, measured, "--measure", "lds", "--seeds", "0")
    assert "--rivals oracle: nobody knows it; choose from" in refusal(capsys, measured, "--measure", "lds", "--rivals", "oracle")


def test_what_a_run_lacks_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", members=2, label_noise=0.0, limit=60)
    assert "2 members cannot be parted" in refusal(capsys, run, "--measure", "agreement")
    assert "no planted wrong labels; train with --label-noise" in refusal(capsys, run, "--measure", "planted")


def test_a_spoilt_store_is_one_line(measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(measured, tmp_path / "run"))
    evaluate(capsys, run, "lds")
    (kept,) = (path for path in (run / "fidelity").iterdir() if path.name.startswith("halves-") and '"masked": false' in (path / "manifest.json").read_text())
    (kept / "block-000.npy").write_bytes(b"torn")
    assert "block-000.npy: truncated or edited" in refusal(capsys, run, "--measure", "lds", *SMALL)


def test_options_check_what_they_are_given() -> None:
    assert Options().rivals == USUAL and set(USUAL) <= set(RIVALS)
    with pytest.raises(TurnoverError, match="--instances 2"):
        Options(instances=2)
