"""Modules of the user's own, built by a function that is named as `module:function`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.models.encoders import is_tokenizer
from turnover.models.family import PIXELS, TOKENS, WINDOW, OnEncoder, Reader
from turnover.models.names import allowed_names, file_checksum, source_checksum
from turnover.models.options import KINDS, option

if TYPE_CHECKING:
    import torch

    from turnover.attribution.ensemble import Members
    from turnover.models.registry import TrainSettings

_AND = "+"


RECIPE = ("learning_rate", "batch", "patience", "weight_decay", "optimizer")
"""The options that say how it is trained, now and by every retraining."""
_MOMENTUM = 0.9


@dataclass(frozen=True)
class Own(OnEncoder):
    """See `turnover.models.own`. Texts are read as features of an encoder, or as its tokens."""

    name = "module:function"
    title = "your own module"
    kinds = KINDS
    on = "on"
    code = True
    deep = True
    needs_trial = True
    recipe = Recipe(learning_rate=1e-3, batch=64)
    max_tokens: int | None = option(**WINDOW, before=0)
    """0: 256 for features and 128 for tokens, as long as these differed."""

    learning_rate: float | None = option(
        None, "learning rate (default .001)", "F", label="Learning rate", empty="0.001", least=1e-9
    )
    batch: int | None = option(
        None, "training items of a step (default 64)", "N", label="Batch", empty="64", least=1
    )
    patience: int | None = option(
        None,
        "stop after N epochs without a lower validation loss (default 3)",
        "N",
        label="Epochs without improvement",
        empty="3",
        least=1,
    )
    weight_decay: float | None = option(
        None, "weight decay (default .01)", "F", label="Weight decay", empty="0.01", least=0
    )
    optimizer: str | None = option(
        None,
        "adamw (default), or sgd with momentum .9",
        "NAME",
        label="Optimizer",
        empty="adamw",
    )

    def fitted(self, kind: str) -> Self:
        if self.optimizer not in (None, "adamw", "sgd"):
            raise TurnoverError(f"--optimizer {self.optimizer}: choose adamw or sgd")
        return super().fitted(kind)

    def trained_by(self, recipe: Recipe) -> Recipe:
        chosen = {name: getattr(self, name) for name in RECIPE if name != "optimizer"}
        chosen["momentum"] = _MOMENTUM if self.optimizer == "sgd" else None
        return replace(
            recipe, **{name: value for name, value in chosen.items() if value is not None}
        )

    @classmethod
    def matches(cls, model: str) -> bool:
        return ":" in model

    @classmethod
    def choices(cls) -> tuple[str, ...]:
        from turnover.models.registry import find_family

        return tuple(name for name in allowed_names() if find_family(name) is cls)

    def checksum(self, model: str) -> str | None:
        """Of the source, and of a tokenizer's file behind it."""
        source = source_checksum(model)
        return f"{source}{_AND}{self._vocabulary()}" if is_tokenizer(self.encoder) else source

    def _vocabulary(self) -> str:
        return file_checksum(self.encoder, "--encoder")

    def reader(self, settings: TrainSettings, device: torch.device) -> Reader:
        known = (settings.source or "").partition(_AND)[2]
        if settings.kind == "text" and known and self._vocabulary() != known:
            raise TurnoverError(
                f"--encoder {self.encoder}: the tokenizer changed since the run was made; put it "
                "back as it was, or train again"
            )
        return super().reader(settings, device)

    def reads(self, settings: TrainSettings) -> str:
        if settings.kind == "image":
            return PIXELS
        from turnover.models.own import reading

        assert settings.model is not None and settings.source is not None
        return reading(settings.model, settings.source.partition(_AND)[0])

    def build(self, settings: TrainSettings, classes: int, shape: tuple[int, ...]) -> Members:
        from turnover.models.own import own_members

        assert settings.model is not None and settings.source is not None
        return own_members(
            settings.model,
            settings.source.partition(_AND)[0],
            classes,
            shape,
            members=settings.members or 1,
            seed=settings.seed,
            tokens=self.reads(settings) == TOKENS,
        )
