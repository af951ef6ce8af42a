"""Work that is stopped, begun twice, short of room or moved: a run is whole or absent.

And after any stop the same bits. Killed processes are in `test_interruptions.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import turnover.research.evaluate.scores as methods
import turnover.runs.write as written
import turnover.workflows.train as train_pipeline
from tests.helpers.builders import checksums, failing_after, names, train_digits
from tests.helpers.storage_testing import FULL, failing_writes, together
from turnover import Run, TurnoverError
from turnover.cli import build_parser, main
from turnover.flags import Flags
from turnover.research.evaluate.results import read_results
from turnover.runs.run import find_runs
from turnover.storage.lock import alone
from turnover.training.history import History
from turnover.workflows.cleansing_results import read_cleansings
from turnover.workflows.influence import compute_influence

TINY: dict[str, Any] = {"limit": 20, "members": 1, "validation_limit": 20}
"""Settings of a run that trains in a moment."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run that nobody disturbed."""
    return train_digits(tmp_path_factory.mktemp("tiny") / "run", **TINY)


def check_whole(folder: Path, tiny: Path) -> None:
    """A training that goes on now ends with the same bits, and leaves nothing beside them."""
    assert checksums(train_digits(folder, **TINY)) == checksums(tiny)
    assert names(folder.parent) == [folder.name]


def stopping(epochs: int) -> Callable[..., Any]:
    """Training that stops after so many epochs, masked and plain together."""
    real, told = train_pipeline.fit, list[int]()

    def fit(*arguments: Any, **options: Any) -> Any:
        *others, progress = arguments

        def noted(history: History) -> None:
            progress(history)
            told.append(history.epochs)
            if len(told) == epochs:
                raise KeyboardInterrupt

        return real(*others, noted, **options)

    return fit


@pytest.mark.parametrize("place", ["masked", "plain"])
def test_a_run_stopped_by_ctrl_c_goes_on_to_the_same_bits(
    place: str, tmp_path: Path, tiny: Path
) -> None:
    epochs = 2 if place == "masked" else Run(tiny).manifest["results"]["epochs"] + 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_pipeline, "fit", stopping(epochs))
        with pytest.raises(KeyboardInterrupt):
            train_digits(tmp_path / "run", **TINY)
    assert names(tmp_path) == ["run.partial"] and find_runs(tmp_path) == []
    assert ("plain.checkpoint" in names(tmp_path / "run.partial")) == (place == "plain")
    why = r"run\.partial was begun with other settings or data; give the same again to resume, or"
    with pytest.raises(TurnoverError, match=why):
        train_digits(tmp_path / "run", **{**TINY, "members": 3})
    check_whole(tmp_path / "run", tiny)


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("trained again")


FULL_AT: dict[str, tuple[Any, str, int]] = {
    "an array": (np, "save", 2),
    "a table": (pd.DataFrame, "to_parquet", 1),
    "the rename": (written, "replace_folder", 1),
}


@pytest.mark.parametrize("place", FULL_AT)
@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=repr)
def test_a_disk_that_fills_up_or_a_stop_at_the_end_costs_no_training(
    error: BaseException, place: str, tmp_path: Path, tiny: Path
) -> None:
    owner, name, calls = FULL_AT[place]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, failing_after(calls, getattr(owner, name), error))
        with pytest.raises((TurnoverError, KeyboardInterrupt)) as told:
            train_digits(tmp_path / "run", **TINY)
    why = "run.partial: the disk is full; free some space and run the same command again"
    assert names(tmp_path) == ["run.partial"]
    assert str(told.value).endswith(why if error is FULL else "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnover.training.fit._train_epoch", never)
        check_whole(tmp_path / "run", tiny)


def test_a_training_that_finds_no_room_at_first_begins_anew(tmp_path: Path, tiny: Path) -> None:
    for calls in (1, 2, 3):
        with failing_writes(calls, FULL), pytest.raises(TurnoverError, match="the disk is full"):
            train_digits(tmp_path / "run", **TINY)
        assert names(tmp_path) in ([], ["run.partial"])
    check_whole(tmp_path / "run", tiny)


# Twice at once


def test_a_second_training_is_refused_by_the_first_ones_number(tmp_path: Path, tiny: Path) -> None:
    since = r"since \d{4}-\d\d-\d\d \d\d:\d\d; wait until it is done, or end it$"
    with alone(tmp_path / ".run.lock", "at work"):
        why = rf"^process {os.getpid()} is training .*/run already, {since}"
        with pytest.raises(TurnoverError, match=why):
            train_digits(tmp_path / "run", **TINY)
        assert names(tmp_path) == [".run.lock"]
        train_digits(tmp_path / "another", **TINY)
    shutil.rmtree(tmp_path / "another")
    (told,) = together(*[lambda: train_digits(tmp_path / "run", **TINY)] * 2)
    assert any(word in str(told) for word in ("is training", "exists; choose another"))
    assert checksums(tmp_path / "run") == checksums(tiny) and names(tmp_path) == ["run"]


def execute(command: str, run: Path, *options: str) -> dict[str, Any]:
    """What a command returns."""
    arguments = build_parser().parse_args([command, "--run", str(run), *options])
    done: dict[str, Any] = arguments.call.execute(arguments)
    return done


@pytest.fixture
def few(run_copy: Path) -> Path:
    """A run with few targets, which is soon measured."""
    compute_influence(Run(run_copy), "errors", "cpu", most=20)
    return run_copy


QUICKLY = ("--baselines", "random", "--device", "cpu")
PLANTED = ("evaluate", "--measure", "injected", *QUICKLY)
LOO = ("evaluate", "--measure", "loo", "--instances", "4", "--seeds", "1", *QUICKLY)
LDS = ("evaluate", "--measure", "lds", "--halves", "4", "--seeds", "1", *QUICKLY)
CLEANSE = ("cleanse", "--fraction", "0.1", "--repeats", "1", "--device", "cpu")
OTHERS = {
    ".evaluate-injected.lock": ("measuring injected of", PLANTED),
    ".cleanse.lock": ("cleansing", CLEANSE),
}


def test_a_second_one_is_refused_in_a_line_and_writes_nothing(
    run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(run_copy)
    for lock, (words, (command, *options)) in OTHERS.items():
        with alone(run_copy / lock, "at work"):
            capsys.readouterr()
            assert main([command, "--run", str(run_copy), *options]) == 2
            said, who = capsys.readouterr().err, f"process {os.getpid()} is {words} {run_copy}"
            assert said.startswith(f"turnover {command}: {who} already, since 20")
            assert said.count("\n") == 1 and names(run_copy) == sorted([*before, lock])


def test_two_cleansings_at_once_leave_a_whole_one(run_copy: Path) -> None:
    (refused,) = together(*[lambda: execute(CLEANSE[0], run_copy, *CLEANSE[1:])] * 2)
    assert "is cleansing" in str(refused)
    (found,), problems = read_cleansings(Run(run_copy))
    assert found.finished and not problems
    assert names(run_copy / "cleansing") == ["validation-0.1-1-seeds.json"]


def test_two_measures_at_once_compute_what_both_need_once(
    few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leave-one-out asks baselines for the targets' influence, which the other asks for as well."""
    asked, real = list[int](), methods._problem
    noted = lambda subject, member: asked.append(member) or real(subject, member)  # noqa: E731
    monkeypatch.setattr(methods, "_problem", noted)
    works = [lambda work=work: execute(work[0], few, *work[1:]) for work in (LDS, LOO)]
    assert together(*works) == [] and asked == [0, 0]
    kept = read_results(Run(few))
    assert [one.name for one in kept.found] == ["lds", "loo"] and not kept.problems
    assert not list(few.rglob(".*"))
    monkeypatch.setattr(methods, "_problem", None)
    for work in works:
        work()


def test_groups_asked_twice_at_once_are_the_same_and_their_pictures_whole(run_copy: Path) -> None:
    run, answers = Run(run_copy), list[dict[str, Any]]()
    ids = [
        str(run.item("validation", position)["id"]) for position in run.misclassified_positions[:8]
    ]
    mistakes = [word for one in ids for word in ("--error", one)]
    works = [lambda: answers.append(execute("groups", run_copy, *mistakes))] * 4
    assert together(*works) == []
    assert len(answers) == 4 and all(answer == answers[0] for answer in answers)
    pictures = sorted((run_copy / "thumbnails").iterdir())
    assert pictures and all(path.suffix == ".png" for path in pictures)
    assert all(path.read_bytes().endswith(b"IEND\xaeB`\x82") for path in pictures)


# Moved


def test_a_run_that_was_moved_is_all_there(few: Path, tmp_path: Path) -> None:
    """To another machine, where nothing else lies and the folder has another name."""
    Flags(few).put(3, "drop", note="why")
    execute(*CLEANSE[:1], few, *CLEANSE[1:])
    before, moved = checksums(few / "influence"), few.rename(tmp_path / "away")
    execute("errors", moved)
    execute("explain", moved, "--image", str(next(moved.rglob("*.png"))))
    execute("export", moved, "--out", str(tmp_path / "flags.csv"))
    compute_influence(Run(moved), "errors", "cpu", most=20)
    assert checksums(moved / "influence") == before and list(Flags(moved).current()) == [3]
    told = [path.read_text(encoding="utf-8") for path in moved.rglob("manifest.json")]
    assert told and not [text for text in told if str(few) in text] and not few.exists()
