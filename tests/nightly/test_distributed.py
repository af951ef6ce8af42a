"""Several ranks give the bits of one process, and what one of them finished before it died is not
computed again.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import turnover.workflows.influence as influence_pipeline
from tests.helpers.builders import checksums, failing_after, names
from tests.helpers.rank_testing import run_left_alone, run_ranks
from turnover import Run, TurnoverError
from turnover.training.ranks import ALONE, Ranks
from turnover.workflows.influence import compute_influence
from turnover.workflows.influence_chunks import chunks_of

MEMORY = 2**29
OPTIONS = ("--memory", "512M", "--device", "cpu")
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


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 16])
def test_own_units_cover_everything_once(size: int, count: int) -> None:
    ranks = [Ranks() for _ in range(size)]
    for number, one in enumerate(ranks):
        one.rank, one.size = number, size
    assert sorted(unit for one in ranks for unit in one.own(range(count))) == list(range(count))


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


# One process that goes on


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
        monkeypatch.setattr(
            "turnover.runs.run.read_manifest",
            lambda *_: {**manifest, "files": {**manifest["files"], "weights.safetensors": stale}},
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


# Several ranks


@pytest.fixture(scope="module")
def alone(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with influences that one process of its own computed in one go."""
    folder = tmp_path_factory.mktemp("alone")
    run = Path(shutil.copytree(small_run, folder / "run"))
    assert run_ranks(folder, "influence", "--run", run, *OPTIONS, ranks=1, units=100).code == 0
    return run


def test_two_ranks_give_the_bits_of_one_process(bare: Path, tmp_path: Path, alone: Path) -> None:
    done = run_ranks(tmp_path, "influence", "--run", bare, *OPTIONS, units=100)
    assert done.code == 0, done.said
    assert done.result["targets"] == 597
    assert checksums(bare / "influence") == checksums(alone / "influence")
    assert PARTIAL not in names(bare)


def test_a_rank_that_dies_is_named_and_what_was_finished_is_kept(
    bare: Path, tmp_path: Path, alone: Path
) -> None:
    moment = random.Random(5).randint(2, 3)
    died = run_ranks(
        tmp_path, "influence", "--run", bare, *OPTIONS, units=100, kill="1", moment=moment
    )
    assert died.code != 0
    assert (
        "rank 1 of 2 (part " in died.said
        and "has died; start the same command again: what is finished is kept" in died.said
    )
    assert not Run(bare).has_influence
    assert len(list((bare / PARTIAL).glob("targets-*.npz"))) >= moment - 1
    done = run_ranks(tmp_path, "influence", "--run", bare, *OPTIONS, units=100, ranks=1)
    assert done.code == 0, done.said
    assert done.result["kept_pairs"] > 0
    assert checksums(bare / "influence") == checksums(alone / "influence")


def test_a_rank_that_stands_still_is_named_and_the_others_do_not_wait_for_ever(
    bare: Path, tmp_path: Path
) -> None:
    done = run_left_alone(tmp_path, "influence", "--run", bare, *OPTIONS, moment=2)
    assert done.code == 2
    line = done.said.strip().splitlines()[-1]
    assert line.startswith("turnover influence: rank 1 of 2 (part ")
    assert line.endswith(
        "was not heard for 5 s and is lost; start the same command again: what is finished is kept"
    )
    assert list((bare / PARTIAL).glob("targets-*.npz"))


def test_fewer_targets_than_ranks_are_cut_into_blocks_of_training_items(
    bare: Path, tmp_path: Path, alone: Path
) -> None:
    done = run_ranks(tmp_path, "influence", "--run", bare, "--most", "1", *OPTIONS, ranks=2)
    assert done.code == 0, done.said
    part, whole = Run(bare).influence, Run(alone).influence
    assert len(part.targets) == 1
    rows = [whole.targets.index(target) for target in part.targets]
    np.testing.assert_allclose(
        part.array("truth_members"), whole.array("truth_members")[:, rows], atol=1e-4
    )
    assert np.abs(part.array("truth_members")).max() > 1e-3


def test_other_commands_are_for_one_process(bare: Path, tmp_path: Path) -> None:
    done = run_ranks(tmp_path, "errors", "--run", bare)
    assert done.code != 0
    assert (
        "turnover errors: this command is for one process; leave torchrun out (it serves train and "
        "influence)" in done.said
    )


def test_one_process_alone_waits_for_nobody() -> None:
    ALONE.barrier()
    assert (ALONE.rank, ALONE.size, ALONE.gather(b"own")) == (0, 1, [b"own"])
