"""What a user specifies about data of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass

from turnover.errors import TurnoverError

FILES, HUB = "files", "hub:"
"""`data` of the settings for files, and its prefix for the hub: `hub:NAME`, or
`hub:NAME:CONFIGURATION`.
"""
SMALLEST, LARGEST = 8, 256
"""Smallest and largest side of images that the models read."""
_HUB_NAME = re.compile(r"hub:\w[\w.-]*(/\w[\w.-]*)?(:\w[\w.-]*)?", re.ASCII)


def is_own(data: str) -> bool:
    """Whether the settings' `data` is a user's own, not one of `turnover.data.sources.NAMES`."""
    return data == FILES or data.startswith(HUB)


@dataclass(frozen=True)
class OwnData:
    """Files, or splits of a hub data set, and the columns to use; None is inferred or not used.

    Attributes:
        train: file or folder with the training items; None for the hub.
        validation: the same for the validation items; None takes a share of the training items.
        test: the same for items on which the finished model is measured once.
        text_column: the column of the texts.
        image_column: the column of the images, or of their paths.
        label_column: the column of the labels.
        id_column: the column of the ids.
        train_split: the hub's split to train on.
        validation_split: the hub's split to validate on.
        classes: a file with the names of numbered classes, one per line.
        size: the side in pixels that all images get.
        kind: `text` or `image`, once the data were read.
    """

    train: str | None = None
    validation: str | None = None
    test: str | None = None
    text_column: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    train_split: str | None = None
    validation_split: str | None = None
    classes: str | None = None
    size: int | None = None
    kind: str | None = None

    def check(self, data: str) -> OwnData:
        """These choices, if they are valid for the settings' `data`.

        Raises:
            TurnoverError: if they are not.
        """
        if data.startswith(HUB):
            if not _HUB_NAME.fullmatch(data):
                raise TurnoverError(
                    f"--data {data!r:.80}: write hub:NAME, or hub:NAME:CONFIGURATION, with NAME as "
                    "on the hub"
                )
            if self.train or self.validation or self.test:
                raise TurnoverError(
                    "--train, --validation and --test name files; for the hub, name splits with "
                    "--train-split and --validation-split"
                )
        elif data != FILES:
            raise TurnoverError(
                f"--data {data} is a data set with files of its own form; leave --train and options"
                " on columns, splits, classes and size out"
            )
        elif not self.train:
            raise TurnoverError("name the file or folder with the training items with --train")
        elif self.train_split or self.validation_split:
            raise TurnoverError(
                "--train-split and --validation-split are splits of a hub data set; for files, give"
                " --train and --validation"
            )
        if self.text_column and self.image_column:
            raise TurnoverError(
                "--text-column and --image-column: a model reads one of the two; leave the "
                "other out"
            )
        if self.size is not None and not SMALLEST <= self.size <= LARGEST:
            raise TurnoverError(
                f"--size {self.size}: choose a side from {SMALLEST} to {LARGEST} pixels"
            )
        return self
