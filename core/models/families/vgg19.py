"""VGG19 for images of 32 × 32, masked from the 12th convolution on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.models.family import USUAL_MASKS, Convolutional
from turnover.models.options import option

if TYPE_CHECKING:
    from torch import nn

    from turnover.models.registry import TrainSettings

_SIZE = 32


@dataclass(frozen=True)
class Vgg19(Convolutional):
    """See `turnover.models.vgg19`."""

    name = "vgg19"
    kinds = ("image",)
    deep = True
    usual_masks = USUAL_MASKS
    recipe = Recipe(
        epochs=24,
        learning_rate=1e-3,
        batch=256,
        weight_decay=0.05,
        augment=True,
        decay=True,
        keep="last",
    )
    width: int = option(
        512,
        "channels of the widest layers, the others in proportion (default 512)",
        "C",
        label="Channels of the widest layers",
        least=64,
        even=True,
    )
    dropout: float = option(
        0.0,
        "ordinary dropout beside the masks (default 0)",
        "P",
        label="Ordinary dropout",
        least=0,
        below=1,
    )
    conv_dropout: float = option(
        0.0,
        "ordinary dropout between the masked convolutions (default 0)",
        "P",
        label="Ordinary dropout between convolutions",
        least=0,
        below=1,
    )
    late_norm: bool = option(
        True, "leave out the batch norms after the first mask, whose statistics leak"
    )

    def for_images(self, model: str, data: str, shape: tuple[int, ...]) -> Self:
        if tuple(shape) != (_SIZE, _SIZE, 3):
            raise TurnoverError(
                f"--model {model} reads RGB images of {_SIZE} x {_SIZE} pixels, not {data}'s; "
                "choose small-vgg"
            )
        return self

    def member(
        self, settings: TrainSettings, classes: int, shape: tuple[int, ...], seed: int
    ) -> nn.Module:
        from turnover.models.vgg19 import vgg19

        self.for_images(self.name, settings.data, (*shape[1:], *shape[:1]))
        return vgg19(
            classes,
            seed=seed,
            width=self.width,
            dropout=self.dropout,
            conv_dropout=self.conv_dropout,
            norm_after_mask=self.late_norm,
            **self.mask_options,
        )
