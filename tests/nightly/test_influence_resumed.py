"""A computation of influences that was stopped goes on to the same bits, and computes nothing
twice.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import turnover.runs.run as run_module
import turnover.workflows.influence as influence_pipeline
from tests.helpers.builders import checksums, failing_after
from turnover import Run, TurnoverError
from turnover.workflows.influence import compute_influence
from turnover.workflows.influence_chunks import chunks_of

MEMORY = 2**29
PARTIAL = ".influence.partial"


class Interruption(BaseException):
    """What a test throws into the middle of the work."""


@pytest.fixture
def bare(run_copy: Path) -> Path:
    """A run without influence."""
    shutil.rmtree(run_copy / "influence")
    return run_copy


@pytest.fixture(scope="module")
def expected(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checksums of the influences that one process computes in one go."""
    folder = Path(shutil.copytree(small_run, tmp_path_factory.mktemp("expected") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(influence_pipeline, "_MANY", 100)
        compute_influence(Run(folder), device_choice="cpu", memory=MEMORY)
    return checksums(folder / "influence")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of targets of each call of the engine from now on."""
    real, calls = influence_pipeline.influences, []

    def counting(model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(len(inputs))
        return real(model, inputs, *arguments, **options)

    monkeypatch.setattr(influence_pipeline, "influences", counting)
    return calls


def stop_after(parts: int, folder: Path, **options: Any) -> None:
    """Begin a run's influence and stop before the pilot and so many units are followed by
    another.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            influence_pipeline,
            "influences",
            failing_after(parts + 2, influence_pipeline.influences, Interruption()),
        )
        with pytest.raises(Interruption):
            compute_influence(Run(folder), device_choice="cpu", memory=MEMORY, **options)


# How work is cut


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_units_hold_every_target_once(size: int) -> None:
    wrong = np.random.default_rng(0).random(40) < 0.3
    units = chunks_of(wrong, size)
    assert sorted(row for unit in units for row in unit.rows) == list(range(40))
    assert [unit.number for unit in units] == list(range(len(units)))
    assert all(
        (unit.meanings == ("truth", "prediction")) == wrong[unit.rows].all()
        and len(unit.rows) * len(unit.meanings) <= max(2, size)
        for unit in units
    )


# A process that goes on


@pytest.mark.parametrize("parts", [1, 4])
def test_a_stopped_computation_goes_on_to_the_same_bits(
    parts: int, bare: Path, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(influence_pipeline, "_MANY", 100)
    stop_after(parts, bare)
    assert len(list((bare / PARTIAL).glob("targets-*.npz"))) == parts
    assert not Run(bare).has_influence
    calls = counted(monkeypatch)
    made = compute_influence(Run(bare), device_choice="cpu", memory=MEMORY)
    assert checksums(bare / "influence") == expected
    assert not (bare / PARTIAL).exists()
    units = len(
        chunks_of(
            (Run(bare).validation["predicted"] != Run(bare).validation["label"]).to_numpy(), 100
        )
    )
    assert len(calls) == units - parts  # no pilot, no finished part
    assert 0 < made["kept_pairs"] < made["pairs"]


def test_a_computation_with_memory_of_its_own_choice_goes_on_as_it_was_cut(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(influence_pipeline, "_MANY", 100)
    monkeypatch.setattr(influence_pipeline, "default_budget", lambda _: 2**20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            influence_pipeline,
            "influences",
            failing_after(4, influence_pipeline.influences, Interruption()),
        )
        with pytest.raises(Interruption):
            compute_influence(Run(bare), device_choice="cpu")
    monkeypatch.setattr(influence_pipeline, "default_budget", lambda _: 2**30)
    made = compute_influence(Run(bare), device_choice="cpu")
    assert made["kept_pairs"] > 0


@pytest.mark.parametrize("change", ["targets", "memory", "layout", "weights"])
def test_parts_of_another_computation_are_never_used(
    change: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(influence_pipeline, "_MANY", 100)
    stop_after(3, bare)
    options: dict[str, Any] = {"memory": MEMORY}
    if change == "weights":
        manifest = json.loads((bare / "manifest.json").read_text(encoding="utf-8"))
        stale = {**manifest["files"]["weights.safetensors"], "sha256": "0" * 64}
        others = {**manifest, "files": {**manifest["files"], "weights.safetensors": stale}}
        real = run_module.read_manifest
        monkeypatch.setattr(
            run_module,
            "read_manifest",
            lambda folder, *rest: others if folder == bare else real(folder, *rest),
        )
    options |= {
        "targets": {"most": 500},
        "memory": {"memory": 2**28},
        "layout": {"full_bytes": 0},
        "weights": {},
    }[change]
    made = compute_influence(Run(bare), device_choice="cpu", **options)
    assert made["kept_pairs"] == 0


def test_a_part_that_was_slipped_in_is_computed_again(
    bare: Path, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of another computation, one that is cut short, and one whose bytes changed, under the
    names that are looked for.
    """
    monkeypatch.setattr(influence_pipeline, "_MANY", 100)
    stop_after(4, bare)
    places = [bare / PARTIAL / f"targets-{number}.npz" for number in range(3)]
    with np.load(places[0]) as arrays:
        foreign = {**arrays, "facts": np.array('{"made_with": "another"}')}
    np.savez(places[0], **foreign)
    places[1].write_bytes(places[1].read_bytes()[:-100])
    edited = bytearray(places[2].read_bytes())
    edited[len(edited) // 2] ^= 255
    places[2].write_bytes(bytes(edited))
    why = r"targets-2\.npz: not readable .*; it is removed; give the same command again"
    with pytest.raises(TurnoverError, match=why):
        compute_influence(Run(bare), device_choice="cpu", memory=MEMORY)
    assert not Run(bare).has_influence
    compute_influence(Run(bare), device_choice="cpu", memory=MEMORY)
    assert checksums(bare / "influence") == expected
