"""What a paper experiment is given: its scale, where data are, where runs are kept; and its rows.

Each experiment has a small scale, which finishes on two CPU cores, and the paper's own, which needs
a GPU. A row holds the paper's number beside the measured one, and names the differences between the
two settings. Models are kept as run folders, which the dashboard opens; an existing run is reused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path

from turnover.errors import TurnoverError
from turnover.models.encoders import DEFAULT_ENCODER
from turnover.models.registry import TrainSettings
from turnover.research.evaluate.results import markdown_table
from turnover.runs.model import run_settings
from turnover.runs.run import Run
from turnover.workflows.train import train_run


@dataclass(frozen=True)
class Setup:
    """Where an experiment finds data and keeps runs: `data` holds a folder for each data set
    (`sst2`, `elec`, `cifar10`); None if there is none.
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
        """Its name in tables."""
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
        """The run `paper-NAME-SCALE`, trained now unless it exists.

        Raises:
            TurnoverError: if it exists, but was trained with other settings or recipe; the path of
                its data may differ.
        """
        folder = self.runs / f"paper-{name}-{self.scale}"
        if not folder.exists():
            train_run(settings, folder, self.device)
        run = Run(folder)
        wanted = settings.resolved(run.kind)
        wanted = wanted.with_family(wanted.family.fitted_to(len(run.train)))
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
    head = [field.name for field in fields(PaperRow)]
    return markdown_table(head, map(astuple, rows), right=[2, 3])
