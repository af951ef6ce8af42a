"""What an experiment is given: its scale, where data lie, and where runs are kept.

The experiments of Kobayashi et al. (2020), one file each: `turnover paper NAME`.

Each has a small scale, which finishes on two CPU cores, and the paper's own, which wants a GPU. Its
rows hold the paper's number beside the measured one; what differs between the two settings is said
in the row. Models are kept as run folders, which the dashboard opens, and a run that is already
there is used again.

One number of the paper beside the measured one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from turnover.errors import TurnoverError
from turnover.models.names import DEFAULT_ENCODER
from turnover.models.registry import TrainSettings
from turnover.runs.model import run_settings
from turnover.runs.run import Run
from turnover.workflows.train import train_run


@dataclass(frozen=True)
class Setup:
    """Where an experiment finds data and leaves runs: `data` holds a folder for each data set
    (`sst2`, `elec`, `cifar10`); None: nowhere.
    """

    scale: str
    data: Path | None
    runs: Path
    device: str | None = None
    encoder: str | None = None

    @property
    def text_encoder(self) -> str:
        """The encoder of the text models: the one that was named, else the packaged MiniLM at the
        small scale and the paper's BERT.
        """
        return self.encoder or (DEFAULT_ENCODER if self.scale == "small" else "bert-base-uncased")

    @property
    def encoder_name(self) -> str:
        """The same as tables call it."""
        return {DEFAULT_ENCODER: "MiniLM", "bert-base-uncased": "BERT-base"}.get(
            self.text_encoder, Path(self.text_encoder).name
        )

    def folder(self, name: str) -> str:
        """The folder of one data set.

        Raises:
            TurnoverError: if it is not there.
        """
        if self.data is None:
            raise TurnoverError(
                f"this experiment reads files; name the folder that holds {name}/ with --path"
            )
        folder = self.data / name
        if not folder.is_dir():
            raise TurnoverError(
                f"{folder}: no such folder; --path names a folder that holds {name}/"
            )
        return str(folder)

    def run(self, name: str, settings: TrainSettings) -> Run:
        """The run `paper-NAME-SCALE`, trained now unless it is there.

        Raises:
            TurnoverError: if it is there, but was trained with other settings or by another recipe;
                wherever its data lay.
        """
        folder = self.runs / f"paper-{name}-{self.scale}"
        if not folder.exists():
            train_run(settings, folder, self.device)
        run = Run(folder)
        wanted = settings.resolved(run.kind)
        if replace(run_settings(run), path=settings.path) != wanted or run.manifest[
            "recipe"
        ] != asdict(wanted.recipe):
            raise TurnoverError(
                f"{folder} was trained with other settings than this experiment's; delete it, or "
                "name another folder with --runs"
            )
        return run


@dataclass(frozen=True)
class PaperRow:
    """What is measured, in which setting, the paper's number ('' for none) and ours."""

    what: str
    setting: str
    paper: str
    measured: str


def paper_table(rows: Sequence[PaperRow]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | setting | paper | measured |", "| --- | --- | ---: | ---: |"]
    return "\n".join(
        lines + [f"| {row.what} | {row.setting} | {row.paper} | {row.measured} |" for row in rows]
    )
