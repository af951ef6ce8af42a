"""A job as its folder describes it now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from turnover.errors import TurnoverError
from turnover.storage.artifacts import read_facts, write_facts
from turnover.storage.lock import is_locked
from turnover.storage.progress import Progress, read_progress
from turnover.storage.schema import Facts, first_link

FOLDER = ".jobs"
FACTS, LOCK, GROUP, PROGRESS, OUTCOME, CANCELLED, LOG = (
    "job.json",
    "lock",
    "pid",
    "progress.json",
    "outcome.json",
    "cancelled",
    "log",
)
TURN, LATER, BEGUN = "turn", "later", "begun"
_TAIL = 8192


class State(Enum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def active(self) -> bool:
        """Whether its processes live."""
        return self in (State.QUEUED, State.RUNNING, State.STOPPING)


class Outcome(Facts):
    """Results of the finished steps, whether the job is over, and the error, "" if none."""

    results: tuple[dict[str, Any], ...]
    finished: bool
    error: str


@dataclass(frozen=True)
class Job:
    """A job at the moment it was read.

    Attributes:
        folder: where it is kept; its name is the job's id, and later jobs have later names.
        label: a short description.
        created: UTC, ISO 8601.
        steps: the arguments of each `turnover …`, run one after the other.
        state: at that moment.
        outcome: results of the finished steps, and the error.
        progress: of the current step; None while it reports none.
        low: whether it runs at low priority, beside other jobs.
    """

    folder: Path
    label: str
    created: str
    steps: tuple[tuple[str, ...], ...]
    state: State
    outcome: Outcome
    progress: Progress | None
    low: bool = False

    @property
    def id(self) -> str:
        return self.folder.name


_Step = Annotated[tuple[str, ...], Field(min_length=1)]


class _JobFacts(Facts):
    label: str
    created: str
    steps: Annotated[tuple[_Step, ...], Field(min_length=1)]
    low: bool = False


def read_job(folder: Path) -> Job:
    """The job in a folder.

    Raises:
        TurnoverError: if there is none, or its files cannot be read.
    """
    damaged = "no job, or a damaged one; delete the folder"
    facts = read_facts(folder / FACTS, _JobFacts, damaged)
    if first_link(folder) or folder.is_symlink():
        raise TurnoverError(f"{folder}: {damaged}")
    # before the outcome: a job writes that and then ends, so an unlocked job has written everything
    locked = is_locked(folder / LOCK)
    outcome = read_outcome(folder)
    state = _state(folder, locked, outcome)
    return Job(
        folder,
        facts.label,
        facts.created,
        facts.steps,
        state,
        outcome,
        read_progress(folder / PROGRESS) if state.active else None,
        facts.low,
    )


def find_jobs(runs: Path) -> list[Job]:
    """The jobs of a runs folder, newest first; damaged ones are skipped."""
    jobs = []
    for path in sorted((runs / FOLDER).glob(f"*/{FACTS}"), reverse=True):
        try:
            jobs.append(read_job(path.parent))
        except TurnoverError:
            continue
    return jobs


def log_tail(job: Job, lines: int = 20) -> str:
    """The last lines of the job's stderr."""
    try:
        with (job.folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def read_outcome(folder: Path) -> Outcome:
    """The recorded outcome; an empty one where nothing can be read."""
    with suppress(TurnoverError):
        return read_facts(folder / OUTCOME, Outcome, "resume the job")
    return Outcome(results=(), finished=False, error="")


def write_outcome(
    folder: Path, results: Sequence[object], finished: bool = False, error: str = ""
) -> None:
    """Record the results of the finished steps, and whether and how the job ended.

    Raises:
        TurnoverError: if the disk is full or the folder cannot be written to.
    """
    facts = {"results": list(results), "finished": finished, "error": error}
    write_facts(folder / OUTCOME, facts)


def _state(folder: Path, locked: bool, outcome: Outcome) -> State:
    """A job is over when its processes are, not when they say so: only then can it be resumed or
    forgotten.
    """
    cancelled = (folder / CANCELLED).exists()
    if locked:
        if cancelled:
            return State.STOPPING
        return State.RUNNING if (folder / BEGUN).exists() else State.QUEUED
    if outcome.error or outcome.finished:
        return State.FAILED if outcome.error else State.DONE
    return State.CANCELLED if cancelled else State.LOST
