"""What `evaluate` measured is kept with the run, told apart from what has changed since, and read without torch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import core.fidelity.loo as loo
import core.fidelity.planted as planted
from core.cli import main
from core.fidelity.names import TARGETS
from core.fidelity.results import FOLDER, Result, keep_result, read_results
from core.fidelity.row import Figure, Row
from core.runs import MANIFEST, Run, write_manifest
from tests.helpers.builders import names, run_python
from tests.helpers.fake_runs import FakeRun, remove_influence

ROWS = (Row("turn-over, as shown", 1.5, 0.25, {"LDS": Figure(0.5, 0.4, 0.6), "placebo": Figure(0.01)}), Row("another", 0.0, 0.0, note="refused: no"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return FakeRun().write(tmp_path)


def keep(folder: Path, measure: str = "lds", **facts: Any) -> Path:
    """Keep two rows, as `evaluate` does."""
    return keep_result(Run(folder), {"run": str(folder), "measure": measure, **facts, "rows": [asdict(row) for row in ROWS]})


def only(folder: Path) -> Result:
    results = read_results(Run(folder))
    assert not results.problems
    (result,) = results.found
    return result


def rewrite(folder: Path, name: str, change: float) -> None:
    """Another array in the influence's place, with a manifest that says so."""
    part = folder / "influence"
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    np.save(part / name, np.load(part / name) + np.float32(change))
    write_manifest(part, {key: fact for key, fact in facts.items() if key not in ("format", "files")} | {"seconds": 3.0}, sorted(facts["files"]))


def test_what_is_kept_comes_back(folder: Path) -> None:
    path = keep(folder, halves=6, reliability=None)
    assert path == folder / FOLDER / "lds.json" and names(path.parent) == ["lds.json"]
    result = only(folder)
    assert (result.name, result.measure, result.rows, result.stale) == ("lds", "lds", ROWS, "")
    assert result.facts == {"run": str(folder), "halves": 6, "reliability": None}


def test_a_measure_takes_the_place_of_its_last_result_and_no_other(folder: Path) -> None:
    keep(folder, halves=6)
    keep(folder, halves=60)
    keep(folder, retrained_with_turnover_dropout=True)
    keep(folder, "real-errors")
    found = {result.name: result for result in read_results(Run(folder)).found}
    assert list(found) == ["lds", "lds-masked", "real-errors"]
    assert found["lds"].facts["halves"] == 60 and found["lds-masked"].measure == "lds"


def test_a_run_without_results_has_none(folder: Path) -> None:
    results = read_results(Run(folder))
    assert results.found == () and results.problems == ()


def test_the_same_influences_computed_anew_are_the_same(folder: Path) -> None:
    keep(folder)
    rewrite(folder, "truth_estimate.npy", 0.0)
    assert only(folder).stale == ""


def test_other_influences_weights_or_none_make_a_result_stale(folder: Path) -> None:
    keep(folder)
    rewrite(folder, "truth_estimate.npy", 1.0)
    assert only(folder).stale == "The influences were computed again since this was measured."
    remove_influence(folder)
    assert "cannot be read any more" in only(folder).stale
    run = Run(folder)
    run.manifest["files"]["weights.safetensors"]["sha256"] = "another"
    assert read_results(run).found[0].stale == "The run was trained again since this was measured."


DAMAGE = ["", "[]", '{"result": 3, "made_with": {}}', "[" * 100_000, '{"result": {"measure": "lds"}, "made_with": {}}', "\x00\x01"]


@pytest.mark.parametrize("text", DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_file_is_one_line_and_hides_no_other(text: str, folder: Path) -> None:
    keep(folder)
    path = folder / FOLDER / "loo.json"
    path.write_text(text, encoding="utf-8")
    results = read_results(Run(folder))
    (problem,) = results.problems
    assert [result.name for result in results.found] == ["lds"]
    assert problem == f"{path}: not readable as a result; measure again with `python -m core evaluate --run {folder} --measure loo`"


@pytest.mark.parametrize("value", [None, "0.5", "nan", [], {}, float("nan"), float("inf"), 10**400])
def test_a_figure_that_is_no_number_is_damage(value: Any, folder: Path) -> None:
    path = keep(folder)
    kept = json.loads(path.read_text(encoding="utf-8"))
    kept["result"]["rows"][0]["figures"]["LDS"]["value"] = value
    path.write_text(json.dumps(kept), encoding="utf-8")
    assert len(read_results(Run(folder)).problems) == 1


@given(cut=st.integers(0, 400))
def test_a_torn_file_never_raises_more_than_one_line(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "torn" / "fake"
    if not folder.exists():
        FakeRun().write(folder.parent)
        keep(folder)
    whole = (folder / FOLDER / "lds.json").read_text(encoding="utf-8")
    torn = folder / FOLDER / "torn.json"
    torn.write_text(whole[:cut], encoding="utf-8")
    results = read_results(Run(folder))
    assert [result.name for result in results.found] == ["lds"] and len(results.problems) == 1 and "\n" not in results.problems[0]


def test_a_result_that_cannot_be_written_is_one_line(folder: Path) -> None:
    (folder / "fidelity").write_text("a file in its place")
    with pytest.raises(ValueError, match=r"^[^\n]*cannot be written"):
        keep(folder)


def test_no_torch_is_needed() -> None:
    assert not {"torch", "scipy", "sklearn"} & set(
        run_python("import sys, core.fidelity.results, core.report.certainty; print(*sys.modules, sep='\\n')").splitlines()
    )


def test_names_that_pages_look_for_are_the_measures_own() -> None:
    assert loo.TARGETS == TARGETS


def test_evaluate_keeps_what_it_prints(run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(planted, "measure", lambda subject, options: {"instances": 7, "rows": list(ROWS)})
    assert main(["evaluate", "--run", str(run_copy), "--measure", "planted", "--device", "cpu", "--json"]) == 0
    printed, result = json.loads(capsys.readouterr().out), only(run_copy)
    assert result.rows == ROWS and result.facts["instances"] == printed["instances"] == 7
    assert [asdict(row) for row in result.rows] == printed["rows"] and not result.stale
