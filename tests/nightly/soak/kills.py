"""Works that are killed at any moment and done again: nothing that was whole is lost, and the end
is the same, bit for bit.

Each round does one work in a forked process that kills itself with SIGKILL, at a file operation or
after some time drawn at random; a third of the rounds kill the second try too. Then what is there
is looked at, the same work is done to its end, and the outcome is compared with that of a work that
nobody disturbed.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import sqlite3
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.helpers.builders import checksums, names
from tests.helpers.fake_runs import FakeRun
from tests.helpers.killing import die
from turnover.cli import main
from turnover.flags import Flags
from turnover.flags.apply import apply_flag_file
from turnover.flags.flag_file import export_flag_file, read_flag_file
from turnover.models.registry import TrainSettings
from turnover.runs.partial import find_partials, read_partial
from turnover.runs.run import Run, find_runs
from turnover.storage.progress import VARIABLE
from turnover.workflows.cleansing_results import read_cleansings
from turnover.workflows.influence import compute_influence
from turnover.workflows.train import train_run

TRAINED = TrainSettings("digits", limit=30, members=2, epochs=3, seed=1)
STEPS = 40
"""Calls that decide on items, of three items each; every fifth takes the one before back."""


@dataclass(frozen=True)
class Work:
    """What is done in a folder: made ready, done, looked at after a kill, and what it comes to in
    the end.
    """

    prepare: Callable[[Path], object]
    do: Callable[[Path], object]
    check: Callable[[Path, Any], object]
    outcome: Callable[[Path], Any]


def _settled(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts without times and places."""
    return {
        name: value for name, value in facts.items() if name not in ("run", "seconds", "trained")
    }


# Training


def _train(folder: Path) -> None:
    if not (folder / "run").exists():  # killed after the last rename, it is done
        train_run(TRAINED, folder / "run", "cpu")


def _check_training(folder: Path, expected: Any) -> None:
    assert set(names(folder)) <= {".run.lock", "run", "run.partial"}
    for run in find_runs(folder):
        assert _trained(folder) == expected and Run(run).misclassified_positions
    for name in find_partials(folder):
        assert len(read_partial(folder, name).curves) <= 3


def _trained(folder: Path) -> Any:
    assert not [name for name in names(folder / "run") if name.startswith(".")]
    return checksums(folder / "run"), _settled(Run(folder / "run").manifest["results"])


# Influences


def _check_influence(folder: Path, expected: Any) -> None:
    run = Run(folder / "run")
    if run.has_influence:
        assert run.influence.targets and checksums(run.folder / "influence") == expected


def _influence(folder: Path) -> Any:
    assert not [name for name in names(folder / "run") if name.startswith(".")]
    return checksums(folder / "run" / "influence")


# Cleansing


def _cleanse(folder: Path) -> None:
    assert (
        main(
            [
                "cleanse",
                "--run",
                str(folder / "run"),
                "--fraction",
                ".1",
                "--repeats",
                "1",
                "--json",
            ]
        )
        == 0
    )


def _check_cleansing(folder: Path, expected: Any) -> None:
    found, problems = read_cleansings(Run(folder / "run"))
    assert not problems and all(_settled(dict(one.facts)).keys() for one in found)


def _cleansed(folder: Path) -> Any:
    (one,), problems = read_cleansings(Run(folder / "run"))
    assert one.finished and not problems and not one.stale
    return _settled(dict(one.facts)), one.conditions


# Flags, exported and applied


def _flagged(folder: Path) -> None:
    """A made-up run with flags, its data as a CSV, and its patch."""
    run = Run(FakeRun("run").write(folder))
    Flags(run.folder).put_many([1, 2, 5], "drop", note="why")
    Flags(run.folder).put(8, "relabel", run.classes[1 - int(run.train["label"].loc[8])])
    with (folder / "data.csv").open("w", encoding="utf-8", newline="") as file:
        rows = zip(
            run.train["id"],
            run.train["text"],
            run.train["label"].map(dict(enumerate(run.classes))),
            strict=True,
        )
        csv.writer(file).writerows([("id", "text", "label"), *rows])
    (folder / "patch.jsonl").write_text(export_flag_file(run), encoding="utf-8")


def _export(folder: Path) -> None:
    for form in ("csv", "jsonl"):
        assert (
            main(
                [
                    "export",
                    "--run",
                    str(folder / "run"),
                    "--out",
                    str(folder / f"flags.{form}"),
                    "--format",
                    form,
                ]
            )
            == 0
        )


def _exported(folder: Path) -> Any:
    table, patch = ((folder / f"flags.{form}") for form in ("csv", "jsonl"))
    lines = read_flag_file(patch.read_bytes(), "patch").lines if patch.exists() else None
    return table.read_bytes() if table.exists() else None, lines


def _check_export(folder: Path, expected: Any) -> None:
    assert all(
        made in (None, wanted) for made, wanted in zip(_exported(folder), expected, strict=True)
    )


def _apply(folder: Path) -> None:
    if not (folder / "out.csv").exists():  # killed after the last rename, it is done
        assert (
            apply_flag_file(folder / "patch.jsonl", str(folder / "data.csv"), folder / "out.csv")[
                "dropped"
            ]
            == 3
        )


def _check_applied(folder: Path, expected: Any) -> None:
    if (folder / "out.csv").exists():
        assert _applied(folder) == expected


def _applied(folder: Path) -> Any:
    return (folder / "out.csv").read_bytes()


# Flagging


def _steps(folder: Path) -> int:
    """How many calls the file of flags holds."""
    path = folder / "run" / "flags.sqlite"
    if not path.exists():
        return 0
    with sqlite3.connect(path) as database:
        there = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'steps'").fetchone()
        return int(database.execute("SELECT count(*) FROM steps").fetchone()[0]) if there else 0


def _flag(folder: Path) -> None:
    """Decide, and note each decision that was confirmed."""
    flags, first = Flags(folder / "run"), _steps(folder)
    confirmed = os.open(folder / "confirmed", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for step in range(first, STEPS):
        if step % 5 == 4:
            flags.undo()
        else:
            flags.put_many([(3 * step + place) % 30 for place in range(3)], "drop", note=str(step))
        os.pwrite(confirmed, str(step + 1).encode(), 0)


def _in_force(steps: int) -> dict[int, str]:
    """Notes by item after so many calls."""
    kept = [
        step for step in range(steps) if step % 5 != 4 and not (step % 5 == 3 and step + 1 < steps)
    ]
    return {(3 * step + place) % 30: str(step) for step in kept for place in range(3)}


def _check_flags(folder: Path, expected: Any) -> None:
    path = folder / "confirmed"
    confirmed = int(path.read_text() or 0) if path.exists() else 0
    assert confirmed <= _steps(folder) and _notes(folder) == _in_force(_steps(folder))


def _notes(folder: Path) -> dict[int, str]:
    return {instance: flag.note for instance, flag in Flags(folder / "run").current().items()}


def works(folder: Path) -> dict[str, Work]:
    """All works; a run that some of them begin with is made in `folder`."""
    train_run(TRAINED, folder / "run", "cpu")
    compute_influence(Run(folder / "run"), "errors", "cpu")
    (folder / "flagged").mkdir()
    _flagged(folder / "flagged")

    def copy(place: Path) -> None:
        shutil.copytree(folder / "run", place / "run")

    def copy_flagged(place: Path) -> None:
        shutil.copytree(folder / "flagged", place, dirs_exist_ok=True)

    def influence(place: Path) -> None:
        compute_influence(Run(place / "run"), "errors", "cpu")

    return {
        "train": Work(lambda place: None, _train, _check_training, _trained),
        "influence": Work(copy, influence, _check_influence, _influence),
        "cleanse": Work(copy, _cleanse, _check_cleansing, _cleansed),
        "export": Work(copy_flagged, _export, _check_export, _exported),
        "apply": Work(copy_flagged, _apply, _check_applied, _applied),
        "flag": Work(lambda place: FakeRun("run").write(place), _flag, _check_flags, _notes),
    }


# Rounds


def killed(do: Callable[[Path], object], folder: Path, count: int, seconds: float) -> bool:
    """Do something in a forked process that kills itself at its count-th file operation or after
    some seconds; whether it was killed.

    Raises:
        AssertionError: if it failed in another way.
    """
    process = os.fork()
    if not process:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            die(str(folder), "", count, seconds)
            do(folder)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, -signal.SIGKILL), f"it ended with {status}"
    return status != 0


def kill_rounds(rounds: int, folder: Path, seed: int = 0) -> dict[str, int]:
    """Kill each work in turn until there were so many rounds with a kill; how many each had.

    Raises:
        AssertionError: if something was lost, torn or other than without a kill.
    """
    torch.set_num_threads(1)
    os.environ[VARIABLE] = str(folder / "progress.json")  # no bars
    chance, done = random.Random(seed), dict[str, int]()
    (folder / "whole").mkdir()
    expected, lasted, all_works = {}, {}, works(folder / "whole")
    for name, work in all_works.items():
        place = folder / f"{name}-whole"
        place.mkdir()
        work.prepare(place)
        begun = time.perf_counter()
        assert not killed(work.do, place, 0, 0)
        lasted[name], expected[name] = time.perf_counter() - begun, work.outcome(place)
    while sum(done.values()) < rounds:
        name = list(all_works)[sum(done.values()) % len(all_works)]
        work, place = all_works[name], folder / name
        place.mkdir()
        work.prepare(place)
        kills = 0
        for _ in range(chance.choice((1, 1, 2))):
            count, seconds = chance.choice(
                ((round(150 ** chance.random()), 0.0), (0, chance.uniform(0.001, lasted[name])))
            )
            kills += killed(work.do, place, count, seconds)
            try:
                work.check(place, expected[name])
            except BaseException:
                print(
                    f"seed {seed}, round {sum(done.values()) + 1}: {name}, killed at operation "
                    f"{count} or after {seconds:.3f} s, in {place}"
                )
                raise
        if kills:
            assert not killed(work.do, place, 0, 0)
            assert work.outcome(place) == expected[name], (
                f"{name}: another outcome after a kill, in {place}"
            )
            done[name] = done.get(name, 0) + 1
        shutil.rmtree(place)
    return done
