"""A run's whole life from a notebook, by the same code as the command line.

run = turnover.train("reviews.csv", run="runs/mine")
run.misclassified                       # a table of mistakes
run.explain(text="a moving film")       # who taught the model that
run.flags.put(12, "drop")
run.cleanse(fraction=0.05)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnover import cli
from turnover.errors import TurnoverError
from turnover.runs import run as runs

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from turnover.data.base import Dataset
    from turnover.flags import Flags


class Run(runs.Run):
    """A run folder, opened and checked, with methods for the commands; options are those of the
    command of the same name.

    Raises:
        TurnoverError: if the folder is not a complete run of this format; the message names the
            file and the remedy.
    """

    def __init__(self, folder: str | Path) -> None:
        if not isinstance(folder, str | Path):
            raise TurnoverError(f"a run is opened by its folder, not a {type(folder).__name__}")
        super().__init__(Path(folder))

    def __repr__(self) -> str:
        results = self.manifest["results"]
        return (
            f"Run({str(self.folder)!r}: {results['train_size']:,} training and "
            f"{results['validation_size']:,} validation {self.kind}s, {results['members']} "
            f"members, accuracy {results['validation_accuracy']:.1%}, "
            f"{len(self.misclassified_positions)} misclassified)"
        )

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(repr(self))}</p>{self.misclassified.head(10).to_html()}"

    @property
    def misclassified(self) -> pd.DataFrame:
        """The misclassified validation items by id: position, label, predicted, probability, and
        the text if there is one.
        """
        import pandas as pd

        from turnover.explain.explanation import error_items

        items = error_items(self, with_influence=False)
        shown = ["id", "position", "label", "predicted", "probability"]
        shown += ["text"] if self.kind == "text" else []
        return pd.DataFrame([vars(item) for item in items], columns=shown).set_index("id")

    def compute_influence(self, **options: Any) -> dict[str, Any]:
        """Influences of all training items, kept in the run: `turnover influence`."""
        return cli.call("influence", run=self.folder, **options)

    def explain(
        self, item: str | int | None = None, *, top: int = 10, **options: Any
    ) -> dict[str, Any]:
        """The training items behind the answer to a misclassified item, by id or position, or to a
        `text=` or `image=` of your own (`turnover explain`).

        Raises:
            TurnoverError: for an item that is not misclassified or has no influences.
        """
        if item is None:
            return cli.call("explain", run=self.folder, top=top, **options)
        from turnover.runs.ranking import content_of, target_entries

        ids = self.validation["id"].astype(str)
        positions = (
            [int(item)]
            if isinstance(item, Integral)
            else [int(position) for position in self.validation.index[ids == str(item)]]
        )
        if not positions or positions[0] not in self.influence.misclassified:
            raise TurnoverError(
                f"{self.folder}: {item!r} is no misclassified validation item with influences; "
                "run.misclassified lists them"
            )
        return {
            "id": str(ids[positions[0]]),
            **content_of(self, positions[0], "validation"),
            **target_entries(self, positions[0], "prediction", top),
        }

    @property
    def flags(self) -> Flags:
        """What people decided on training items; `put` and `undo` as on the pages."""
        from turnover.flags import Flags

        return Flags(self.folder)

    def cleanse(self, **options: Any) -> dict[str, Any]:
        """Remove the most harmful items, retrain, and compare with random removal: `turnover
        cleanse`.
        """
        return cli.call("cleanse", run=self.folder, **options)

    def prove(self, item: str, **options: Any) -> dict[str, Any]:
        """Train again without the training items that taught a misclassified item: `turnover
        prove`. `items=` names others.
        """
        return cli.call("prove", run=self.folder, error=item, **options)

    def evaluate(self, measure: str, **options: Any) -> dict[str, Any]:
        """How far the influences can be trusted: `turnover evaluate --measure`."""
        return cli.call("evaluate", run=self.folder, measure=measure, **options)


def train(data: str | Path, run: str | Path, **options: Any) -> Run:
    """Train a classifier with turn-over dropout on a file, a folder of images, or a known data set:
    `turnover train`.

    Args:
        data: a CSV, TSV, JSONL or parquet file, a folder with one folder of images a class, or a
            name such as `digits` or `hub:NAME`.
        run: folder to write the run to; an interrupted run is resumed.
        options: those of the command, such as `validation="dev.csv"`, `members=8` or
            `model="adapters"`.

    Raises:
        TurnoverError: for input that the command rejects.
    """
    from turnover.data.sources import NAMES
    from turnover.data.tables.spec import HUB

    by_name = str(data) in NAMES or str(data).startswith(HUB)
    cli.call("train", run=run, **({"data": data} if by_name else {"train": data}), **options)
    return Run(run)


def save_run(
    folder: str | Path,
    data: Dataset,
    module: nn.Module | Sequence[nn.Module],
    model: str | Callable[..., nn.Module],
    **options: Any,
) -> Run:
    """Write a run of a module, or several, that you have trained, and open it; arguments and errors
    as `turnover.workflows.register.save_run`.
    """
    from turnover.workflows import register

    return Run(register.save_run(folder, data, module, model, **options).folder)
