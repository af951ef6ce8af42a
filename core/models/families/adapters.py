"""Text encoders with masks inside: in adapters, or, for comparison, everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnover.data.recipe import Recipe
from turnover.models.family import Masked, OnEncoder
from turnover.models.options import option

if TYPE_CHECKING:
    from torch import nn

    from turnover.models.registry import TrainSettings


@dataclass(frozen=True)
class Adapters(OnEncoder, Masked):
    """Masked adapters in the last layers of a frozen encoder."""

    name = "adapters"
    deep = True
    recipe = Recipe(epochs=2, learning_rate=1.3e-3, batch=32, decay=True, keep="last")
    layers: int | None = option(
        None,
        "adapters in the last L layers of the encoder (default: all)",
        "L",
        label="Layers with adapters",
        empty="all",
        least=1,
    )

    @property
    def needs_trial(self) -> bool:
        return self.layers is not None or super().needs_trial

    def member(
        self, settings: TrainSettings, classes: int, shape: tuple[int, ...], seed: int
    ) -> nn.Module:
        from turnover.models.adapters import AdapterClassifier, TokenRows, new_encoder

        encoder, masks = new_encoder(self.encoder), self.mask_options
        return TokenRows(
            AdapterClassifier(encoder, classes, layers=self.layers, seed=seed, **masks)
        )

    def where(self, kind: str) -> str:
        return super().where(kind) + (f", last {self.layers} layers" if self.layers else "")


@dataclass(frozen=True)
class MaskedEncoder(OnEncoder, Masked):
    """An encoder that is trained and masked as a whole."""

    name = "masked-encoder"
    deep = True
    recipe = Recipe(epochs=8, patience=2, learning_rate=5e-5, batch=32)

    def member(
        self, settings: TrainSettings, classes: int, shape: tuple[int, ...], seed: int
    ) -> nn.Module:
        from turnover.models.adapters import MaskedClassifier, TokenRows, new_encoder

        encoder = new_encoder(self.encoder)
        return TokenRows(MaskedClassifier(encoder, classes, seed=seed, **self.mask_options))
