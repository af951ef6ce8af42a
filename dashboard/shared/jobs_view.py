"""Jobs as cards: title, state, a line on the progress or the result, and the possible actions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnover.errors import counted
from turnover.jobs import Job, State, log_tail
from turnover.storage.artifacts import MANIFEST
from turnover.storage.progress import Progress

_GOES_ON = "Resume it, and it goes on where it was."
_WORDS = {
    State.QUEUED: "Waits for its turn, since another job is at work.",
    State.STOPPING: "Is being stopped.",
    State.CANCELLED: f"Cancelled. {_GOES_ON}",
    State.LOST: f"Its process is gone, as after a restart of the machine. {_GOES_ON}",
}


@dataclass(frozen=True)
class JobCard:
    """One job with its state in a word and in a line.

    Attributes:
        share: progress of the current step, from 0 to 1; None unless the job is running.
        log: the end of its log if it failed, else "".
        run: the name of the run that it trained, "" if there is none.
    """

    job: Job
    title: str
    state: str
    line: str
    share: float | None
    log: str
    run: str

    @property
    def can_cancel(self) -> bool:
        return self.job.state in (State.QUEUED, State.RUNNING)

    @property
    def can_resume(self) -> bool:
        return self.job.state in (State.FAILED, State.CANCELLED, State.LOST)


def job_cards(jobs: Iterable[Job]) -> list[JobCard]:
    """A card for each job, in their order."""
    return [_card(job) for job in jobs]


def jobs_with(jobs: Iterable[Job], command: str, run: Path | None = None) -> list[Job]:
    """The jobs whose first step is this command of `turnover`, on this run folder if given."""
    return [
        job
        for job in jobs
        if job.steps[0][0] == command and (run is None or run_of(job).resolve() == run.resolve())
    ]


def run_of(job: Job) -> Path:
    """The run folder that a job works on; the current folder if it names none."""
    step = job.steps[0]
    return Path(step[step.index("--run") + 1]) if "--run" in step[:-1] else Path()


def time_left(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _card(job: Job) -> JobCard:
    run = run_of(job)
    trained = run.name if job.steps[0][0] == "train" and (run / MANIFEST).is_file() else ""
    share = (job.progress.share if job.progress else 0.0) if job.state is State.RUNNING else None
    return JobCard(
        job,
        job.label,
        job.state.value,
        _line(job),
        share,
        log_tail(job) if job.state is State.FAILED else "",
        trained,
    )


def _line(job: Job) -> str:
    if job.state is State.RUNNING:
        step = min(len(job.outcome.results), len(job.steps) - 1)
        steps = f"Step {step + 1} of {len(job.steps)}: " if len(job.steps) > 1 else ""
        return f"{steps}{_progress(job.progress, job.steps[step][0])}"
    if job.state is State.DONE:
        return _results(job.outcome.results)
    if job.state is State.FAILED:
        return job.outcome.error
    return _WORDS[job.state]


def _progress(progress: Progress | None, command: str) -> str:
    if progress is None:
        return f"{command} is starting"
    left = (
        ""
        if progress.seconds_left is None or progress.done >= progress.total
        else f", about {time_left(progress.seconds_left)} left"
    )
    return f"{progress.stage}, {progress.done:,} of {progress.total:,} {progress.unit}{left}"


def _results(results: Sequence[dict[str, Any]]) -> str:
    """The results of a finished job in a line."""
    first = results[0] if results else {}
    accuracy, plain = first.get("validation_accuracy"), first.get("plain_accuracy")
    if not isinstance(accuracy, float):
        return "Done."
    # a model trained elsewhere has no plain twin
    without = f", {plain:.1%} without turn-over dropout" if isinstance(plain, float) else ""
    return (
        f"Done: {counted(int(first.get('members', 0)), 'model')}, {accuracy:.1%} right on the "
        f"validation items{without}."
    )
