"""Small VGG: three blocks of convolutions for small images, masked from the last block on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnover.models.family import Masked

if TYPE_CHECKING:
    from turnover.attribution.ensemble import Members
    from turnover.models.registry import TrainSettings


@dataclass(frozen=True)
class SmallVgg(Masked):
    """See `turnover.models.heads`."""

    name = "small-vgg"
    kinds = ("image",)
    default_for = ("image",)

    def build(self, settings: TrainSettings, classes: int, shape: tuple[int, ...]) -> Members:
        from turnover.models.heads import small_vgg

        channels, height, width = shape
        return small_vgg((channels, height, width), classes, **self.in_one(settings))
