"""What a family of models is: its names, options, defaults, inputs, and how it is built.

A family is one file in `turnover.models.families`, with a frozen dataclass whose fields are the
family's options (`turnover.models.options`). Its files import torch inside methods only, since
pages list families. `turnover.models.registry` finds them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.models.encoders import (
    DEFAULT_ENCODER,
    DEFAULT_WINDOW,
    IMAGE_ENCODER,
    NO_ENCODER,
    needs_hub,
    window_of,
)
from turnover.models.options import KINDS, Option, option, options_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from turnover.attribution.ensemble import Members
    from turnover.models.registry import TrainSettings

Reader = Callable[..., "np.ndarray"]
"""Texts, or images uint8 `(N, H, W)` or `(N, H, W, 3)` → model inputs `(N, …)`; its second argument
is called with the number of items of each batch.
"""
FEATURES, TOKENS, PIXELS = "features", "tokens", "pixels"
"""What a model reads: features `(N, D)` of a frozen encoder, token ids `(N, T)`, or images `(N, C,
H, W)` in [-1, 1].
"""
USUAL_MASKS = 32
"""Masks that training items share where nothing is lost by it (docs/results.md)."""
_MEMBER = 7


@dataclass(frozen=True)
class Family:
    """A family of models with the values of its options.

    Attributes:
        name: the value of `--model`, or its form.
        title: its name in the form of a new run, where that is not `name`.
        kinds: the kinds of data that it is for.
        default_for: the kinds of data whose default model it is.
        deep: whether influences need a forward pass of the whole model for each training item; such
            a model has one member by default.
        recipe: how it is trained; None means the data's recipe.
        trained_before: whether it starts from a model for the same classes, whose accuracy is told.
        code: whether the user's own code builds it.
        needs_trial: whether only building it tells whether it can be built.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    kinds: ClassVar[tuple[str, ...]] = KINDS
    default_for: ClassVar[tuple[str, ...]] = ()
    code: ClassVar[bool] = False
    trained_before: ClassVar[bool] = False

    @property
    def deep(self) -> bool:
        return False

    @property
    def recipe(self) -> Recipe | None:
        return None

    def trained_by(self, recipe: Recipe) -> Recipe:
        """The recipe of the family or the data, as the options change it."""
        return recipe

    @property
    def needs_trial(self) -> bool:
        return False

    @classmethod
    def matches(cls, model: str) -> bool:
        """Whether a value of `--model` names this family."""
        return model == cls.name

    @classmethod
    def choices(cls) -> tuple[str, ...]:
        """The values of `--model` that a page can offer."""
        return (cls.name,)

    @classmethod
    def options(cls, kind: str = "") -> tuple[Option, ...]:
        """Its options for data of a kind; "" means any."""
        return tuple(entry for entry in options_of(cls) if not kind or kind in entry.kinds)

    def fitted(self, kind: str) -> Self:
        """With defaults filled in that depend on more than the option.

        Raises:
            TurnoverError: if the options do not go together.
        """
        return self

    def fitted_to(self, items: int) -> Self:
        """With defaults filled in that depend on the number of training items.

        Raises:
            TurnoverError: if it cannot be trained on so many.
        """
        return self

    def checksum(self, model: str) -> str | None:
        """SHA-256 of a file that must stay as it is for the run, if there is one."""
        return None

    def downloads(self) -> dict[str, str]:
        """What has to be downloaded before it can be built, by option, for a person."""
        return {}

    def offline(self) -> Self | None:
        """The family for a trial, without downloads; None if nothing can be built without."""
        return self

    def blank(self) -> Self:
        """The family for weights that a run has: none are read from elsewhere."""
        return self

    def for_images(self, model: str, data: str, shape: tuple[int, ...]) -> Self:
        """The family for images of `shape`, (H, W) or (H, W, 3).

        Raises:
            TurnoverError: if it does not read them.
        """
        return self

    def reads(self, settings: TrainSettings) -> str:
        """`features`, `tokens` or `pixels`."""
        return PIXELS

    def reader(self, settings: TrainSettings, device: torch.device) -> Reader:
        """What makes its inputs.

        Raises:
            TurnoverError: if an encoder cannot be loaded.
        """
        from turnover.models.inputs import pixels

        return pixels

    def build(self, settings: TrainSettings, classes: int, shape: tuple[int, ...]) -> Members:
        """All members of resolved settings, for inputs of `shape`. Members that have `features`
        know their leaks; those of others are found when they are trained.
        """
        from turnover.attribution.ensemble import Ensemble
        from turnover.attribution.masks import derive_seed
        from turnover.models.own import OwnMembers

        models = [
            self.member(settings, classes, shape, derive_seed(settings.seed, member, _MEMBER))
            for member in range(settings.members or 1)
        ]
        kind = Ensemble if hasattr(models[0], "features") else OwnMembers
        return kind(models, classes, getattr(models[0], "leaks", ()))

    def member(
        self, settings: TrainSettings, classes: int, shape: tuple[int, ...], seed: int
    ) -> nn.Module:
        """One member, `(B, *shape)` → logits `(B, classes)`, with `TurnoverDropout` inside."""
        raise NotImplementedError

    def where(self, kind: str) -> str:
        """What it stands on, for a person."""
        return ""

    @property
    def caution(self) -> str:
        """What a person must know before any result of it; "" if nothing."""
        return ""

    @property
    def masking(self) -> str:
        """What its masks are, for a person."""
        return "its own masks"


@dataclass(frozen=True)
class Masked(Family):
    """A family whose masks this package makes.

    Attributes:
        usual_masks: how many masks training items share by default; None: every item has its own.
    """

    usual_masks: ClassVar[int | None] = None
    groups: int = option(
        16,
        "mask G groups of units; 0 masks single units (default 16)",
        "G",
        label="Groups of units a mask switches",
        least=0,
    )
    masks: int | None = option(
        None,
        "let the training items share M masks, an even number: influences take M passes a target; "
        f"0: every item has its own mask (default: {USUAL_MASKS} for heads and vgg19, else 0)",
        "M",
        label="Masks that training items share; 0: every item its own",
        empty=f"{USUAL_MASKS} for heads and vgg19, else 0",
        least=0,
        even=True,
    )

    @property
    def masking(self) -> str:
        return f"masks of {f'{self.groups} groups of units' if self.groups else 'single units'}"

    @property
    def mask_options(self) -> dict[str, Any]:
        """How its mask layers are made, but for their seed."""
        return {"groups": self.groups or None, "masks": self.masks or None}

    def fitted_to(self, items: int) -> Self:
        """With masks that so many training items can share.

        Raises:
            TurnoverError: if more masks were chosen than there are items.
        """
        if self.masks is None:
            fit = (self.usual_masks or 0) <= items and not self.groups % 2
            return replace(self, masks=self.usual_masks if fit else None)
        if self.masks > items:
            raise TurnoverError(
                f"--masks {self.masks}: more than the {items} training items; choose fewer, or 0 "
                "so that every item has its own"
            )
        return replace(self, masks=self.masks or None)

    def in_one(self, settings: TrainSettings) -> dict[str, Any]:
        """The arguments of models that hold all members in one."""
        return {"members": settings.members, "seed": settings.seed, **self.mask_options}


@dataclass(frozen=True)
class Convolutional(Masked):
    """A family of convolutional networks, for which the usual recipe is another than AdamW."""

    sgd: bool = option(
        False,
        "train by SGD with momentum .9 and weight decay 5e-4; the learning rate rises to .05 in a "
        "fifth of the epochs, then falls to zero (default: AdamW)",
        label="Train by SGD",
    )

    def trained_by(self, recipe: Recipe) -> Recipe:
        return replace(recipe, **_SGD) if self.sgd else recipe


_SGD: dict[str, Any] = {
    "learning_rate": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "warm_up": 0.2,
    "decay": True,
    "keep": "last",
}
FROM_LAYER: dict[str, Any] = {
    "default": None,
    "help": "train the network from this layer on, with masks from there, such as layer4 (default: "
    "torchvision's is frozen, with heads on it, a checkpoint's last two linear layers are trained)",
    "metavar": "L",
    "label": "Train from layer",
    "empty": "frozen, heads on it; of a checkpoint the last two linear layers",
    "form": r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*",
}
"""The option `from_layer`."""
WINDOW: dict[str, Any] = {
    "default": None,
    "help": f"cut texts after N tokens (default {DEFAULT_WINDOW}, or the encoder's limit where "
    "that is lower)",
    "metavar": "N",
    "label": "Tokens of a text, at most",
    "empty": f"{DEFAULT_WINDOW}, or the encoder’s limit",
    "least": 8,
    "kinds": ("text",),
}
"""The option `max_tokens`, but for its value in older runs."""


@dataclass(frozen=True)
class OnEncoder(Family):
    """A family that reads texts by an encoder: its features, or its tokens."""

    kinds: ClassVar[tuple[str, ...]] = ("text",)
    on: ClassVar[str] = "in"
    encoder: str = option(
        DEFAULT_ENCODER,
        f"text encoder, a hub name or a folder (default: {DEFAULT_ENCODER}, packaged); for a "
        "module of your own that reads tokens also a tokenizer.json",
        "NAME",
        label="Encoder",
        path="folder",
        kinds=("text",),
    )
    max_tokens: int | None = option(**WINDOW, before=128)

    @property
    def needs_trial(self) -> bool:
        return self.encoder != DEFAULT_ENCODER

    def fitted(self, kind: str) -> Self:
        if kind != "text":
            return self
        if self.encoder in (IMAGE_ENCODER, NO_ENCODER):
            raise TurnoverError(f"--encoder {self.encoder} reads images, not texts; leave it out")
        return replace(self, max_tokens=window_of(self.encoder, self.max_tokens, chosen=True))

    def downloads(self) -> dict[str, str]:
        if not needs_hub(self.encoder):
            return {}
        return {
            "encoder": "Neither a folder nor in the cache of this machine: the training asks the "
            "Hugging Face hub and downloads it."
        }

    def offline(self) -> Self | None:
        return None if needs_hub(self.encoder) else self

    def reads(self, settings: TrainSettings) -> str:
        return TOKENS if settings.kind == "text" else PIXELS

    def reader(self, settings: TrainSettings, device: torch.device) -> Reader:
        reads = self.reads(settings)
        if reads == PIXELS:
            return super().reader(settings, device)
        from turnover.models.inputs import text_reader

        return text_reader(self.encoder, self.max_tokens, reads == FEATURES, device)

    def where(self, kind: str) -> str:
        return f" {self.on} {self.encoder}" if kind == "text" else ""
