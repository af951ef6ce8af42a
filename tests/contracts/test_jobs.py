"""Jobs live on without whoever started them, end as a whole, and are told apart from every other process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from core import TurnoverError
from core.cli import main
from core.jobs import State, cancel_job, find_jobs, forget_job, log_tail, read_job, resume_job, start_job
from core.jobs.job import CANCELLED, FACTS, FOLDER, GROUP, LOCK, LOG, OUTCOME, PROGRESS
from core.runs import Run, find_runs
from tests.helpers.builders import SMALL_RUN, checksums, run_python
from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.job_testing import HANGING, QUICK, ended, hang, lives, wait

HOSTILE = ("<script>alert(1)</script>", "a\nb\r\x00c", "../../etc/passwd", "'; rm -rf / #", "ä" * 100_000, "")


def group_of(folder: Path) -> int:
    return int((folder / GROUP).read_text())


# What becomes of a job


def test_a_job_runs_its_steps_and_anybody_reads_what_they_printed(tmp_path: Path) -> None:
    job = start_job(tmp_path, [QUICK, ["runs", "--folder", str(tmp_path)]], "look")
    assert job.state.active
    done = ended(job)
    assert (done.state, done.label, done.outcome.error) == (State.DONE, "look", "")
    assert done.outcome.results == ({"folder": "nowhere", "runs": []}, {"folder": str(tmp_path), "runs": []})
    assert done.steps == (tuple(QUICK), ("runs", "--folder", str(tmp_path)))
    assert find_jobs(tmp_path) == [done]
    assert find_runs(tmp_path) == []


def test_a_job_outlives_the_process_that_started_it_and_every_process_sees_the_same(tmp_path: Path) -> None:
    starts = (
        "import sys; from pathlib import Path; from core.jobs import *; start_job(Path(sys.argv[1]), [['runs']], 'x'); print(len(find_jobs(Path(sys.argv[1]))))"
    )
    assert int(run_python(starts, tmp_path)) == 1
    looks = "import sys; from pathlib import Path; from core.jobs import *; print([(job.id, job.state.value) for job in find_jobs(Path(sys.argv[1]))])"
    (job,) = find_jobs(tmp_path)
    assert ended(job).state is State.DONE
    assert run_python(looks, tmp_path).strip() == str([(job.id, "done")])


def test_a_step_that_fails_is_one_line_and_ends_the_job(tmp_path: Path) -> None:
    failed = ended(start_job(tmp_path, [QUICK, ["report", str(tmp_path / "no")], QUICK], "fails"))
    assert failed.state is State.FAILED
    assert failed.outcome.error == f"{tmp_path / 'no'}: no such run; train one with `python -m core train --run {tmp_path / 'no'}`"
    assert len(failed.outcome.results) == 1
    assert failed.outcome.error in log_tail(failed)


def test_bad_usage_is_the_line_that_the_command_says(tmp_path: Path) -> None:
    failed = ended(start_job(tmp_path, [["runs", "--nothing"]], "fails"))
    assert failed.state is State.FAILED and "unrecognized arguments: --nothing" in failed.outcome.error


def test_a_step_that_is_killed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = hang(tmp_path / "hang", monkeypatch)
    job = start_job(tmp_path, [HANGING], "killed")
    wait(children.exists)
    wait(lambda: bool(children.read_text()))
    step, child = map(int, children.read_text().split())
    os.kill(step, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    failed = ended(job)
    assert (failed.state, failed.outcome.error) == (State.FAILED, "export was ended by signal 9, perhaps because the memory was full")


def test_jobs_of_one_folder_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = hang(tmp_path / "hang", monkeypatch)
    first = start_job(tmp_path, [HANGING], "first")
    wait(children.exists)
    second, third = (start_job(tmp_path, [QUICK], name) for name in ("second", "third"))
    assert [job.label for job in find_jobs(tmp_path)] == ["third", "second", "first"]
    wait((second.folder / GROUP).exists)
    assert read_job(second.folder).state is State.QUEUED
    wait((third.folder / GROUP).exists)
    cancel_job(third)
    assert ended(third).state is State.CANCELLED
    assert read_job(second.folder).state is State.QUEUED and read_job(first.folder).state is State.RUNNING
    os.killpg(group_of(first.folder), signal.SIGKILL)
    assert ended(second).state is State.DONE


# Cancel


def test_cancelling_ends_the_whole_group_even_what_does_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = hang(tmp_path / "hang", monkeypatch)
    job = start_job(tmp_path, [QUICK, HANGING], "stubborn")
    wait(children.exists)
    wait(lambda: bool(children.read_text()))
    cancel_job(job)
    assert read_job(job.folder).state is State.STOPPING
    done = ended(job)
    assert (done.state, done.outcome.error, len(done.outcome.results)) == (State.CANCELLED, "", 1)
    wait(lambda: not any(lives(int(process)) for process in children.read_text().split()), 5)


def test_cancelling_a_training_leaves_nothing_half_written_and_it_can_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = start_job(tmp_path, [["train", "--data", "digits", "--limit", "400", "--members", "4", "--run", str(run)]], "train")
    wait((tmp_path / "run.partial" / "masked.checkpoint").exists)
    cancel_job(job)
    assert ended(job).state is State.CANCELLED
    assert not run.exists() and not list(tmp_path.rglob("*.new"))
    assert (tmp_path / "run.partial" / "masked.checkpoint").exists()
    assert "Traceback" not in log_tail(job)


def test_cancelling_in_the_first_moment(tmp_path: Path) -> None:
    job = start_job(tmp_path, [QUICK], "quick")
    cancel_job(job)
    assert ended(job).state in (State.CANCELLED, State.DONE)
    cancel_job(job)
    assert read_job(job.folder).state in (State.CANCELLED, State.DONE)


# Lost and resumed


def test_a_killed_training_is_lost_and_resumed_to_the_same_bits(tmp_path: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run, options = tmp_path / "run", [part for name, value in SMALL_RUN.items() for part in (f"--{name}", str(value))]
    steps = [["train", *options, "--run", str(run), "--device", "cpu"], ["influence", "--run", str(run), "--device", "cpu"]]
    job = start_job(tmp_path, steps, "train")
    wait((tmp_path / "run.partial" / "masked.checkpoint").exists)
    os.killpg(group_of(job.folder), signal.SIGKILL)
    assert ended(job).state is State.LOST
    assert not run.exists()
    again = ended(resume_job(job))
    assert (again.state, again.id, len(again.outcome.results)) == (State.DONE, job.id, 2), again.outcome
    assert checksums(run) == checksums(small_run)
    assert Run(run).influence.targets == Run(small_run).influence.targets


def test_a_step_whose_runner_was_killed_keeps_the_job_alive_and_is_ended_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else resuming would set a second training on the same files."""
    children = hang(tmp_path / "hang", monkeypatch)
    job = start_job(tmp_path, [HANGING], "orphan")
    wait(children.exists)
    os.kill(group_of(job.folder), signal.SIGKILL)
    wait(lambda: not lives(group_of(job.folder)))
    assert read_job(job.folder).state is State.RUNNING
    with pytest.raises(TurnoverError, match="at work already"):
        resume_job(job)
    os.killpg(group_of(job.folder), signal.SIGKILL)
    assert ended(job).state is State.LOST


def test_resuming_does_not_repeat_what_is_finished(tmp_path: Path, small_run: Path) -> None:
    wanted = tmp_path / "later"
    job = ended(start_job(tmp_path, [["runs", "--folder", str(tmp_path)], ["export", "--run", str(wanted), "--out", str(tmp_path / "x.csv")]], "two"))
    assert job.state is State.FAILED
    shutil.copytree(small_run, wanted)
    again = ended(resume_job(job))
    assert again.state is State.DONE, again.outcome
    assert again.outcome.results[0]["runs"] == []  # as it was before the run was there
    with pytest.raises(TurnoverError, match="is done; there is nothing to resume"):
        resume_job(again)


# Whose process is it


def test_another_process_with_the_job_s_number_is_not_taken_for_it(tmp_path: Path) -> None:
    job = ended(start_job(tmp_path, [QUICK], "old"))
    (job.folder / OUTCOME).unlink()  # as if the machine had gone down
    with subprocess.Popen(["sleep", "20"], start_new_session=True) as stranger:
        (job.folder / GROUP).write_text(str(stranger.pid))
        assert read_job(job.folder).state is State.LOST
        cancel_job(job)
        assert stranger.poll() is None
        assert not (job.folder / CANCELLED).exists()
        stranger.kill()


def test_a_job_is_not_started_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ended(start_job(tmp_path, [QUICK], "old"))
    (job.folder / OUTCOME).unlink()
    assert main(["job", "--folder", str(job.folder)]) == 2
    assert "not by hand" in capsys.readouterr().err


# Forgetting, and what is damaged


def test_a_job_is_forgotten_only_when_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = hang(tmp_path / "hang", monkeypatch)
    job = start_job(tmp_path, [HANGING], "a")
    wait(children.exists)
    with pytest.raises(TurnoverError, match="still at work; cancel it first"):
        forget_job(job)
    os.killpg(group_of(job.folder), signal.SIGKILL)
    forget_job(ended(job))
    assert find_jobs(tmp_path) == [] and not job.folder.exists()
    forget_job(job)
    assert not job.folder.exists()


@pytest.mark.parametrize(("error", "state"), [("", State.DONE), ("no such file", State.FAILED)])
def test_a_job_is_over_when_its_processes_are_and_not_when_they_say_so(tmp_path: Path, error: str, state: State) -> None:
    """Else it could neither be forgotten nor resumed while they end, though it is said to be over."""
    folder = fake_job(tmp_path, [QUICK], begun=True, outcome={"results": [{}], "finished": not error, "error": error})
    with at_work(folder):
        assert read_job(folder).state is State.RUNNING
        with pytest.raises(TurnoverError, match="still at work"):
            forget_job(read_job(folder))
    assert read_job(folder).state is state
    forget_job(read_job(folder))
    assert not folder.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"label": 1, "created": "", "steps": []}', '{"label": "x", "created": "y", "steps": [[1]]}', "[" * 100_000])
def test_a_damaged_job_hides_no_other(tmp_path: Path, text: str) -> None:
    job = ended(start_job(tmp_path, [QUICK], "whole"))
    for name in ("damaged", "empty"):
        (tmp_path / FOLDER / name).mkdir()
    (tmp_path / FOLDER / "damaged" / FACTS).write_text(text)
    (tmp_path / FOLDER / "a file").write_text("x")
    assert find_jobs(tmp_path) == [job]
    with pytest.raises(TurnoverError, match="no job, or a damaged one"):
        read_job(tmp_path / FOLDER / "damaged")


@pytest.mark.parametrize("name", [OUTCOME, PROGRESS, GROUP, LOG, LOCK])
def test_damaged_notes_leave_a_job_that_can_be_resumed(tmp_path: Path, name: str) -> None:
    job = ended(start_job(tmp_path, [QUICK], "x"))
    (job.folder / OUTCOME).unlink()
    (job.folder / name).write_bytes(b"\xff[{")
    (found,) = find_jobs(tmp_path)
    assert (found.state, found.progress) == (State.LOST, None)
    cancel_job(found)
    assert ended(resume_job(found)).state is State.DONE


@pytest.mark.parametrize("label", HOSTILE)
def test_any_label_is_kept_as_it_is_and_never_becomes_a_path_or_a_command(tmp_path: Path, label: str) -> None:
    job = ended(start_job(tmp_path, [QUICK], label))
    assert (job.state, job.label, job.folder.parent) == (State.DONE, label, tmp_path / FOLDER)
    assert [path.name for path in tmp_path.iterdir()] == [FOLDER]


@pytest.mark.parametrize("steps", [[], [[]], [QUICK, []]])
def test_a_job_without_a_command_is_refused(tmp_path: Path, steps: list[list[str]]) -> None:
    with pytest.raises(TurnoverError, match="a job needs a step"):
        start_job(tmp_path, steps, "none")
    assert find_jobs(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(TurnoverError, match="cannot be written"):
        start_job(tmp_path, [QUICK], "x")
    assert find_jobs(tmp_path) == []
