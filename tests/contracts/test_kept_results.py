"""What is kept with a run: read back the same, never stale or half, refused by name when damaged.

Every kind of thing in `tests.helpers.kept_things` meets every fault. What a run's own files and its
influences are is in `test_runs`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import turnover.research.evaluate.labels as labels_module
import turnover.research.evaluate.loo as loo
from tests.helpers.builders import names, run_python
from tests.helpers.fake_runs import FakeRun, remove_influence
from tests.helpers.kept_things import (
    ABSENT,
    KEPT,
    ROWS,
    SAME,
    Kept,
    a_cleansing,
    a_measure,
    store_of,
)
from tests.helpers.storage_testing import FULL, READ_ONLY, edit, failing_writes, together
from turnover import Run, TurnoverError
from turnover.cli import main
from turnover.research.evaluate.results import FOLDER, TARGETS, keep_result, read_results
from turnover.research.evaluate.task import EvaluationTask
from turnover.storage.artifacts import MANIFEST, Parts, write_manifest
from turnover.workflows.cleansing import NONE
from turnover.workflows.cleansing_results import (
    keep_cleansing,
    keep_scores,
    read_cleansings,
    run_scores,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return FakeRun().write(tmp_path)


@pytest.fixture(params=KEPT)
def kept(request: pytest.FixtureRequest) -> Kept:
    """Each of what is kept."""
    return KEPT[request.param]


def all_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_kept_comes_back_and_a_later_one_takes_its_place(kept: Kept, folder: Path) -> None:
    assert kept.read(Run(folder)) is None
    for version in (1, 2):
        path = kept.keep(Run(folder), version)
        assert path.is_file() and path.is_relative_to(folder)
        assert kept.read(Run(folder)) == version
    assert not [path for path in all_files(folder) if path.name.startswith(".")]


def refusal(kept: Kept, run: Run) -> str:
    with pytest.raises(TurnoverError) as told:
        kept.read(run)
    assert "\n" not in str(told.value)
    return str(told.value)


DAMAGE = [b"", b"[]", b"PK\x03\x04 torn", b"\x00\x01\xff", b"[" * 100_000]
DAMAGE += [b'{"result": 3, "made_with": {}}', b'{"result": {"measure": "lds"}, "made_with": {}}']


def test_damage_is_one_line_that_names_the_file_and_the_remedy(kept: Kept, folder: Path) -> None:
    """Or the thing goes, and is computed again."""
    run = Run(folder)
    path = kept.keep(run, 1)
    whole = path.read_bytes()
    torn = [whole[:cut] for cut in range(0, len(whole), len(whole) // 20)]
    for content in [*torn, *DAMAGE]:
        path.write_bytes(content)
        if not kept.damaged:
            assert kept.read(run) is None and not path.exists()
            kept.keep(run, 2)
            assert kept.read(run) == 2
            continue
        with pytest.raises(TurnoverError, match=kept.damaged) as told:
            kept.read(run)
        assert str(path) in str(told.value) and "\n" not in str(told.value)


PARTS = [name for name in KEPT if not KEPT[name].damaged]


@pytest.mark.parametrize("name", [*PARTS, "scores", "map of features"])
def test_one_bit_that_was_changed_in_a_file_of_numbers_is_seen(name: str, folder: Path) -> None:
    """A part that is damaged goes as it is read, and the same command computes it again."""
    kept, run = KEPT[name], Run(folder)
    path = kept.keep(run, 1)
    edit(path)
    said = refusal(kept, run)
    assert str(path) in said
    assert ("it is removed; give the same command again" in said) == (name in PARTS)
    assert name not in PARTS or kept.read(run) is None


@pytest.mark.parametrize("name", ["measure", "cleansing", "models so far"])
def test_a_damaged_one_hides_no_other(name: str, folder: Path) -> None:
    run = Run(folder)
    KEPT[name].keep(run, 1).write_text("torn")
    keep_result(run, a_measure("loo"))
    keep_cleansing(run, a_cleansing() | {"fraction": 0.2})
    results, (cleansings, problems) = read_results(run), read_cleansings(run)
    assert "loo" in [one.name for one in results.found]
    assert "validation-0.2-2-seeds" in [one.name for one in cleansings]
    assert len(results.problems) + len(problems) == 1


def write_influence(folder: Path, change: float) -> None:
    """Another array in the influence's place, with a manifest that says so."""
    rewrite(folder / "influence", "truth_estimate.npy", change)


def rewrite(part: Path, name: str, change: float) -> None:
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    np.save(part / name, np.load(part / name) + np.float32(change))
    told = {key: fact for key, fact in facts.items() if key not in ("format", "files")}
    write_manifest(part, told | {"seconds": 3.0}, sorted(facts["files"]))


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights": lambda folder: None,
    "influences": lambda folder: write_influence(folder, 1.0),
    "none": remove_influence,
    "features": lambda folder: rewrite(folder, "features.npy", 1.0),
    "computed anew": lambda folder: write_influence(folder, 0.0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_made_of_something_else_is_never_taken_for_this(
    change: str, kept: Kept, folder: Path
) -> None:
    """The same numbers computed anew are the same."""
    kept.keep(Run(folder), 1)
    CHANGES[change](folder)
    run, expected = Run(folder), getattr(kept, change, SAME)
    if change == "weights":
        run.manifest["files"]["weights.safetensors"]["sha256"] = "another"
    if expected in (SAME, ABSENT):
        assert kept.read(run) == (1 if expected == SAME else None)
    else:
        assert expected in refusal(kept, run)


@pytest.mark.parametrize("error", [FULL, READ_ONLY, KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("before", [None, 1])
def test_a_write_that_is_refused_or_stopped_at_any_moment_leaves_what_was_there(
    before: int | None, error: BaseException, kept: Kept, folder: Path
) -> None:
    """The next try is whole."""
    if before:
        kept.keep(Run(folder), before)
    for calls in range(1, 30):
        there = all_files(folder)
        try:
            with failing_writes(calls, error):
                kept.keep(Run(folder), 2)
            break
        except (TurnoverError, KeyboardInterrupt) as told:
            why = {FULL: "the disk is full; free some", READ_ONLY: "cannot be written"}.get(error)
            assert str(why or "") in str(told)
        assert kept.read(Run(folder)) == before
        assert all_files(folder) == there
    assert calls > 1 and kept.read(Run(folder)) == 2


@pytest.mark.parametrize("name", [name for name in KEPT if KEPT[name].folder])
def test_a_folder_that_cannot_be_made_is_one_line(name: str, folder: Path) -> None:
    (folder / KEPT[name].folder).write_text("a file in its place")
    with pytest.raises(TurnoverError, match=r"^[^\n]*cannot be written"):
        KEPT[name].keep(Run(folder), 1)


def test_two_that_keep_it_at_once_leave_a_whole_one(kept: Kept, folder: Path) -> None:
    run = Run(folder)
    run.influence  # noqa: B018 (read before the threads begin)
    works = [lambda version=version: kept.keep(run, version) for version in (1, 2, 3)]
    assert together(*works) == [] and kept.read(Run(folder)) in (1, 2, 3)
    assert not [path for path in all_files(folder) if path.name.startswith(".")]


# Each thing's own


def test_an_earlier_version_s_maps_are_read_and_its_parts_computed_again(folder: Path) -> None:
    """They had no facts in them."""
    run, kept = Run(folder), KEPT["map of features"]
    np.savez(kept.keep(run, 1), places=np.full((54, 2), 2, np.float32))
    assert kept.read(run) == 2
    for name in PARTS:
        path = KEPT[name].keep(run, 1)
        np.savez(path, fingerprint=np.array("abc"), values=np.full(500, 1))
        assert KEPT[name].read(run) is None and not path.exists()


def test_other_settings_are_another_store(folder: Path) -> None:
    """And the same ones are the same, whatever their order."""
    task = EvaluationTask(Run(folder), torch.device("cpu"), [0])
    store = task.store("part", {"seeds": 3, "more": 1})
    store.save("one", {})
    others = [task.store("part", settings) for settings in ({"seeds": 4}, {}, {"more": 1})]
    assert not any("one" in other for other in others)
    assert len({one.folder for one in (store, *others, task.store("other", {}))}) == 5
    assert "one" in task.store("part", {"more": 1, "seeds": 3})


def test_who_fills_a_store_second_knows_what_the_first_kept_and_keeps_it(folder: Path) -> None:
    first, second = (store_of(Run(folder)) for _ in range(2))
    with first.filling():
        first.save("one", {"values": np.ones(2)}, note="refused")
    with second.filling():
        assert "one" in second
        second.save("two", {})
    arrays, facts = store_of(Run(folder)).load("one")
    assert arrays["values"].tolist() == [1, 1] and facts == {"note": "refused"}
    assert store_of(Run(folder)).names == {"one", "two"}
    assert names(folder / "fidelity") == [first.folder.name]


def test_a_part_that_is_read_unseen_is_its_own_or_named(folder: Path) -> None:
    """Though it has gone, or another took its place, since somebody looked."""
    store = store_of(Run(folder))
    with pytest.raises(TurnoverError, match=r"one\.npz: not readable .*; give the same command"):
        store.load("one")
    Parts(store.folder, {"run": "another"}).save("one", {})
    with pytest.raises(TurnoverError, match=r"one\.npz: fingerprint cannot .*; give the same"):
        store.load("one")
    assert store.names == set()


def test_a_measure_takes_the_place_of_its_own_last_result_and_no_other(folder: Path) -> None:
    for result in (a_measure(halves=6), a_measure(halves=60), a_measure("real-errors")):
        keep_result(Run(folder), result)
    keep_result(Run(folder), a_measure(retrained_with_turnover_dropout=True))
    found = {result.name: result for result in read_results(Run(folder)).found}
    assert list(found) == ["lds", "lds-masked", "real-errors"]
    assert found["lds"].facts == {"run": "x", "halves": 60} and found["lds-masked"].measure == "lds"


def test_a_cleansing_of_fewer_seeds_stands_beside_one_of_more(folder: Path) -> None:
    """And whole ones take the place of those that were being measured."""
    run = Run(folder)
    for seeds in (8, 2, 2):
        keep_cleansing(run, a_cleansing(seeds), finished=False)
        assert [one.finished for one in read_cleansings(run)[0]].count(False) == 1
        keep_cleansing(run, a_cleansing(seeds))
    found, problems = read_cleansings(run)
    assert problems == [] and all(one.finished for one in found)
    seeds_of = {one.name: one.seeds[NONE] for one in found}
    assert seeds_of == {"validation-0.1-8-seeds": 8, "validation-0.1-2-seeds": 2}


def no_number(value: Any, name: str = "value") -> Callable[[dict[str, Any]], object]:
    return lambda kept: kept["rows"][0]["figures"]["LDS"].update({name: value})


UNREADABLE: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    *(("measure", no_number(value)) for value in (None, "0.5", "nan", [], {}, 10**400)),
    *(("measure", no_number(float(value))) for value in ("nan", "inf")),
    *(("measure", no_number("0.5", bound)) for bound in ("low", "high")),
    ("cleansing", lambda kept: kept.pop("conditions")),
    ("cleansing", lambda kept: kept.update(removed="many")),
    ("cleansing", lambda kept: kept.update(flags={})),
    ("cleansing", lambda kept: kept.update(flags={"dropped": "<b>", "relabelled": 1})),
    ("cleansing", lambda kept: kept["conditions"][0].update(loss="NaN")),
    ("cleansing", lambda kept: kept["conditions"][0].update(condition="<b>")),
    ("cleansing", lambda kept: kept["conditions"][1]["against"][0].update(loss_interval=[1])),
]


@pytest.mark.parametrize(("name", "spoil"), UNREADABLE)
def test_a_result_that_says_what_cannot_be_is_damaged(
    name: str, spoil: Callable[[dict[str, Any]], object], folder: Path
) -> None:
    path = KEPT[name].keep(Run(folder), 1)
    told = json.loads(path.read_text(encoding="utf-8"))
    spoil(told["result"])
    path.write_text(json.dumps(told), encoding="utf-8")
    assert "cannot be as it says" in refusal(KEPT[name], Run(folder))


def test_scores_of_other_items_are_refused(folder: Path) -> None:
    members = np.zeros((4, 29), np.float32)
    keep_scores(Run(folder), "elec", replace(run_scores(Run(folder)), members=members))
    with pytest.raises(TurnoverError, match=r"elec\.npz: float32 \(4, 29\) cannot be as it says"):
        run_scores(Run(folder), "elec")


def test_evaluate_keeps_what_it_prints(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        labels_module, "measure_injected", lambda *_: {"instances": 7, "rows": list(ROWS)}
    )
    options = ["--measure", "injected", "--device", "cpu", "--json"]
    assert main(["evaluate", "--run", str(run_copy), *options]) == 0
    printed = json.loads(capsys.readouterr().out)
    (result,) = read_results(Run(run_copy)).found
    assert result.rows == ROWS and result.facts["instances"] == printed["instances"] == 7
    assert [asdict(row) for row in result.rows] == printed["rows"] and not result.stale
    assert names(run_copy / FOLDER) == ["injected.json"]
    assert loo.TARGETS == TARGETS  # pages look for the measures' own names


def test_results_of_earlier_versions_go_by_their_new_names(folder: Path) -> None:
    run = Run(folder)
    result = {"run": "x", "measure": "injected", "rows": [asdict(row) for row in ROWS]}
    new = keep_result(run, result)
    text = new.read_text(encoding="utf-8").replace('"injected"', '"planted"')
    old = new.with_name("planted.json")
    old.write_text(text, encoding="utf-8")
    assert [found.name for found in read_results(run).found] == ["injected"]
    new.unlink()
    (found,) = read_results(run).found
    assert (found.name, found.measure, found.rows) == ("injected", "injected", ROWS)
    old.write_text('{"torn', encoding="utf-8")
    assert "--measure injected" in read_results(run).problems[0]


def test_what_is_kept_is_read_without_torch(folder: Path) -> None:
    """As pages do; and flags go to colleagues and back."""
    for name in ("measure", "cleansing", "map of features", "effects", "causes", "proof"):
        KEPT[name].keep(Run(folder), 1)
    code = """
import json, sys
from pathlib import Path
import turnover.flags.flag_file, turnover.explain.facts
from turnover.workflows.cleansing_results import read_cleansings
from turnover.research.evaluate.results import read_results
from turnover.runs.maps import kept_places
from turnover.explain.causes import compute_causes, kept_causes
from turnover.flags.flag_file import export_flag_file
from turnover.runs.proofs import read_proofs
from turnover.runs.run import Run
run = Run(Path(sys.argv[1]))
read_proofs(run), read_results(run)
read_cleansings(run), kept_places(run, "features"), export_flag_file(run)
kept_causes(run), compute_causes(run)
heavy = {"torch", "transformers", "sklearn", "scipy", "datasets", "streamlit"}
print(json.dumps(sorted(set(sys.modules) & heavy)))"""
    assert json.loads(run_python(code, folder)) == []
