"""Jobs: what their folders say is told as it is, whatever is in them, and never a path or command.

Jobs that are killed, cancelled or outlive who started them are in `tests/nightly`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import turnover.jobs.control as control
from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.job_testing import QUICK, ended
from turnover import TurnoverError
from turnover.cli import main
from turnover.jobs import State, cancel_job, find_jobs, forget_job, read_job, resume_job, start_job
from turnover.jobs.control import run_job
from turnover.jobs.job import CANCELLED, FACTS, FOLDER, GROUP, LOCK, LOG, OUTCOME, PROGRESS, TURN
from turnover.runs.run import find_runs
from turnover.storage.lock import locked

HOSTILE = ("<script>alert(1)</script>", "a\nb\r\x00c", "../../etc/passwd", "'; rm -rf / #")
HOSTILE += ("ä" * 100_000, "")


def outcome(*results: Any, error: str = "", finished: bool = True) -> dict[str, Any]:
    return {"results": list(results), "finished": finished and not error, "error": error}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of processes that would have been started."""
    commands: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **_: Any) -> None:
            commands.append(command)

        def wait(self) -> None:
            pass

    monkeypatch.setattr(control.subprocess, "Popen", Process)
    return commands


# What becomes of a job


def test_a_job_runs_its_steps_and_anybody_reads_what_they_printed(tmp_path: Path) -> None:
    steps, label = [QUICK, ["runs", "--folder", str(tmp_path)]], HOSTILE[1]
    job = start_job(tmp_path, steps, label)
    assert job.state.active
    done = ended(job)
    assert (done.state, done.label, done.outcome.error) == (State.DONE, label, "")
    nowhere, here = {"folder": "nowhere", "runs": []}, {"folder": str(tmp_path), "runs": []}
    assert done.outcome.results == (nowhere, here)
    assert done.steps == tuple(map(tuple, steps))
    assert find_jobs(tmp_path) == [done] and find_runs(tmp_path) == []
    with pytest.raises(TurnoverError, match="is done; there is nothing to resume"):
        resume_job(done)


def test_a_job_at_low_priority_gives_way_and_keeps_no_other_waiting(tmp_path: Path) -> None:
    turn = tmp_path / FOLDER / TURN
    turn.parent.mkdir()
    with locked(turn):  # as while another job is at work
        low, usual = (start_job(tmp_path, [QUICK], "x", low=one) for one in (True, False))
        assert ended(low).state is State.DONE and read_job(usual.folder).state is State.QUEUED
    assert ended(usual).state is State.DONE and (low.low, usual.low) == (True, False)


NO_RUN = "no: no such run; train one with `turnover train --run"
FAILS = {
    (*QUICK,): (["report", "no"], NO_RUN, 1),
    ("runs", "--nothing"): (QUICK, "unrecognized arguments: --nothing", 0),
}


@pytest.mark.parametrize("first", FAILS)
def test_a_step_that_fails_is_one_line_and_ends_the_job(
    first: tuple[str, ...], tmp_path: Path
) -> None:
    second, why, finished = FAILS[first]
    folder = fake_job(tmp_path, [first, second, QUICK])
    with at_work(folder), pytest.raises(TurnoverError, match=why):
        run_job(folder)
    failed = read_job(folder)
    assert failed.state is State.FAILED and why in failed.outcome.error
    assert len(failed.outcome.results) == finished
    assert why in (folder / LOG).read_text()


STATES: list[tuple[bool, dict[str, Any], State]] = [
    (True, {}, State.QUEUED),
    (True, {"begun": True}, State.RUNNING),
    (True, {"begun": True, "cancelled": True}, State.STOPPING),
    (True, {"begun": True, "outcome": outcome({})}, State.RUNNING),
    (True, {"begun": True, "outcome": outcome(error="no such file")}, State.RUNNING),
    (False, {"begun": True, "outcome": outcome({})}, State.DONE),
    (False, {"begun": True, "outcome": outcome(error="no such file")}, State.FAILED),
    (False, {"begun": True, "cancelled": True}, State.CANCELLED),
    (False, {"begun": True}, State.LOST),
    (False, {"outcome": outcome({}, finished=False)}, State.LOST),
]


@pytest.mark.parametrize(("alive", "notes", "state"), STATES)
def test_a_job_is_over_when_its_processes_are_and_not_when_they_say_so(
    alive: bool, notes: dict[str, Any], state: State, tmp_path: Path, launched: list[list[str]]
) -> None:
    """Else what is said to be over could neither be forgotten nor resumed while they end."""
    folder = fake_job(tmp_path, [QUICK], **notes)
    if alive:
        with at_work(folder):
            assert read_job(folder).state is state and state.active
            with pytest.raises(TurnoverError, match="still at work; cancel it first"):
                forget_job(read_job(folder))
            with pytest.raises(TurnoverError, match=r"at work already|nothing to resume"):
                resume_job(read_job(folder))
        assert launched == []
        return
    job = read_job(folder)
    assert job.state is state and not state.active
    cancel_job(job)
    assert (folder / CANCELLED).exists() == notes.get("cancelled", False)
    if state is not State.DONE:
        resume_job(job)
        assert len(launched) == 1 and not (folder / CANCELLED).exists()
    forget_job(job)
    forget_job(job)
    assert not folder.exists() and find_jobs(tmp_path) == []


def test_resuming_does_not_repeat_what_is_finished(tmp_path: Path) -> None:
    there = outcome({"runs": ["as it was"]}, error="failed")
    folder = fake_job(tmp_path, [["fails if it were run"], QUICK], outcome=there)
    assert read_job(folder).state is State.FAILED
    again = ended(resume_job(read_job(folder)))
    assert (again.state, again.id) == (State.DONE, folder.name), again.outcome
    assert again.outcome.results == ({"runs": ["as it was"]}, {"folder": "nowhere", "runs": []})


def test_a_job_is_not_started_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "--folder", str(fake_job(tmp_path, [QUICK]))]) == 2
    assert "not by hand" in capsys.readouterr().err


# What is damaged, and what people write


WHOLE = {"label": "x", "created": "y", "steps": [["runs"]]}
NO_JOBS = ["", "{", "[]", "[" * 100_000, json.dumps({**WHOLE, "label": 1})]
NO_JOBS += [json.dumps({**WHOLE, "steps": no}) for no in ([], [[]], [["runs"], []], [[1]], "runs")]


def test_a_damaged_job_hides_no_other(tmp_path: Path) -> None:
    whole = fake_job(tmp_path, [QUICK], outcome=outcome({}))
    (tmp_path / FOLDER / "empty").mkdir()
    (tmp_path / FOLDER / "a file").write_text("x")
    damaged = fake_job(tmp_path, [QUICK], name="damaged")
    for text in NO_JOBS:
        (damaged / FACTS).write_text(text)
        assert [job.folder for job in find_jobs(tmp_path)] == [whole]
        with pytest.raises(TurnoverError, match="no job, or a damaged one"):
            read_job(damaged)


NOTES = (OUTCOME, PROGRESS, GROUP, LOG, LOCK)


def test_damaged_notes_leave_a_job_that_can_be_resumed(tmp_path: Path) -> None:
    for number, name in enumerate(NOTES):
        folder = fake_job(tmp_path, [QUICK], name=f"job {number}", begun=True)
        (folder / name).write_bytes(b"\xff[{")
    for job in find_jobs(tmp_path):
        assert (job.state, job.progress) == (State.LOST, None)
        cancel_job(job)
    folder = fake_job(tmp_path, [QUICK], begun=True)
    for name in NOTES:
        (folder / name).write_bytes(b"\xff[{")
    assert ended(resume_job(read_job(folder))).state is State.DONE


@pytest.mark.parametrize("label", HOSTILE, ids=range(len(HOSTILE)))
def test_any_label_is_kept_as_it_is_and_never_becomes_a_path_or_a_command(
    label: str, tmp_path: Path, launched: list[list[str]]
) -> None:
    job = start_job(tmp_path, [QUICK], label)
    assert (job.label, job.folder.parent) == (label, tmp_path / FOLDER)
    assert [path.name for path in tmp_path.iterdir()] == [FOLDER]
    command = [sys.executable, "-m", "turnover", "job", "--folder", str(job.folder.resolve())]
    assert launched == [command] and find_jobs(tmp_path) == [job]


def test_a_job_without_a_command_is_refused_and_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path,
) -> None:
    for steps in ([], [[]], [QUICK, []]):
        with pytest.raises(TurnoverError, match="a job needs a step"):
            start_job(tmp_path, steps, "none")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(TurnoverError, match="cannot be written"):
        start_job(tmp_path, [QUICK], "x")
    assert find_jobs(tmp_path) == []
