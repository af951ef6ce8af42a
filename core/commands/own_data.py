"""Options of `train` for data of one's own: files, splits of the hub, and columns."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from turnover.data.own.wish import FILES, HUB, OwnData
from turnover.errors import TurnoverError

_NAMES = (
    *("train", "validation", "test", "text_column", "image_column", "label_column", "id_column"),
    *("train_split", "validation_split", "classes", "size"),
)


def add_own_data(parser: ArgumentParser) -> None:
    """Describe the options."""
    own = parser.add_argument_group("your own data", "columns are guessed where they are not named, and the guess is said; look first with --check")
    own.add_argument("--train", metavar="FILE", help="CSV, TSV, JSONL or parquet file with texts or images, or a folder with one folder of images a class")
    own.add_argument("--validation", metavar="FILE", help="the same with validation items (default: a fifth of each class, drawn by the seed)")
    own.add_argument("--test", metavar="FILE", help="the same with items on which the finished model is measured once")
    own.add_argument("--text-column", metavar="NAME", help="column of the texts")
    own.add_argument("--image-column", metavar="NAME", help="column of the images, or of their paths beside the file")
    own.add_argument("--label-column", metavar="NAME", help="column of the labels, names or numbers")
    own.add_argument("--id-column", metavar="NAME", help="column of the ids (default: found by its name, else rows are numbered)")
    own.add_argument("--train-split", metavar="NAME", help="with --data hub:NAME: the split to train on (default train)")
    own.add_argument("--validation-split", metavar="NAME", help="with --data hub:NAME: the split to validate on (default validation, else test)")
    own.add_argument("--classes", metavar="FILE", help="names of the classes that labels number from 0, one a line")
    own.add_argument("--size", type=int, metavar="N", help="scale images to N x N pixels (default: their usual size up to 64, else 32)")


def own_data(arguments: Namespace) -> tuple[str, OwnData | None]:
    """What `data` of the settings is, and what is said of data of one's own; None if nothing is.

    Raises:
        TurnoverError: if the options do not go together, or name no data.
    """
    said = {name: getattr(arguments, name) for name in _NAMES if getattr(arguments, name) is not None}
    data = arguments.data or (FILES if said.get("train") else "")
    if not data:
        raise TurnoverError("name the data: --train FILE for your own, or --data NAME")
    if not said and data != FILES and not data.startswith(HUB):
        return data, None
    return data, OwnData(**said).check(data)
