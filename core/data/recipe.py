"""How models are trained on a data source, and what a source is; needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from turnover.data.base import Dataset

_FIRST_RATE = 1 / 25


@dataclass(frozen=True)
class Recipe:
    """How to train: AdamW on cross-entropy, with early stopping on the validation loss.

    With `decay` the learning rate falls to zero in a straight line over the `epochs`, step by step,
    and all of them are run; in the first of them, a share of `warm_up`, it rises instead. With a
    `momentum` SGD takes the place of AdamW. `masked` trains each row under its instance's mask;
    with `fresh` under a new random one at each step, which is ordinary dropout of the same rate.
    `augment` shifts and mirrors images. `keep` names the epoch that is kept: `learned`, the last
    one within one standard error of the best; `best` itself, for a model that is only meant to be
    accurate; or `last`, the end that a falling rate is planned for.
    """

    epochs: int = 30
    patience: int = 3
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0
    masked: bool = True
    fresh: bool = False
    augment: bool = False
    keep: Literal["learned", "best", "last"] = "learned"
    decay: bool = False
    warm_up: float = 0.0
    momentum: float | None = None

    def rate(self, epoch: float) -> float:
        """The learning rate after this many epochs, which may include a fraction."""
        if not self.decay:
            return self.learning_rate
        done = epoch / self.epochs
        if done < self.warm_up:
            return self.learning_rate * (_FIRST_RATE + (1 - _FIRST_RATE) * done / self.warm_up)
        return self.learning_rate * (1 - done) / (1 - self.warm_up)


@dataclass(frozen=True)
class Source:
    """A data set: how it is read, and the defaults of models that have none of their own.

    Attributes:
        load: reads it from a folder; None stands for a user's own data.
        kind: `text` or `image`.
        recipe: how a model is trained on it.
        members: how many members a model has.
        label_noise: the share of training labels that are made wrong on purpose.
        packaged: whether it comes with the package.
        hub: whether it is read from the hub where no folder is named.
    """

    load: Callable[[Path | None], Dataset] | None
    kind: str
    recipe: Recipe
    members: int
    label_noise: float = 0.0
    packaged: bool = False
    hub: bool = False


text_source = partial(Source, kind="text", recipe=Recipe(batch=32, weight_decay=2.0), members=16)
image_source = partial(Source, kind="image", recipe=Recipe(), members=8)
"""A `Source` of a kind, with the kind's defaults."""
OWN = {"text": text_source(None), "image": image_source(None)}
"""A user's own data, by their kind."""
