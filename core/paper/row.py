"""One number of the paper beside the measured one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import TurnoverError
from core.pipeline.settings import TrainSettings
from core.pipeline.train import train_run
from core.runs import Run

SCALES = ("small", "paper")


@dataclass(frozen=True)
class PaperRow:
    """What is measured, in which setting, the paper's number ('' for none) and ours."""

    what: str
    setting: str
    paper: str
    measured: str


@dataclass(frozen=True)
class Setup:
    """Where an experiment finds data and leaves runs: `data` holds a folder for each data set (`sst2`, `elec`, `cifar10`)."""

    scale: str
    data: Path
    runs: Path
    device: str | None = None

    def folder(self, name: str) -> str:
        """The folder of one data set.

        Raises:
            TurnoverError: if it is not there.
        """
        folder = self.data / name
        if not folder.is_dir():
            raise TurnoverError(f"{folder}: no such folder; --path names a folder that holds {name}/")
        return str(folder)

    def run(self, name: str, settings: TrainSettings) -> Run:
        """The run of this name, trained now unless it is there."""
        folder = self.runs / name
        if not folder.exists():
            train_run(settings, folder, self.device)
        return Run(folder)


def paper_table(rows: Sequence[PaperRow]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | setting | paper | measured |", "| --- | --- | ---: | ---: |"]
    return "\n".join(lines + [f"| {row.what} | {row.setting} | {row.paper} | {row.measured} |" for row in rows])
