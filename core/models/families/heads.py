"""Heads on a frozen encoder of texts or images, perceptrons on pixels, and a small VGG."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from turnover.data.recipe import Recipe
from turnover.models.encoders import DEFAULT_ENCODER, IMAGE_ENCODER, NO_ENCODER
from turnover.models.family import (
    FEATURES,
    PIXELS,
    USUAL_MASKS,
    WINDOW,
    Convolutional,
    Masked,
    OnEncoder,
    Reader,
)
from turnover.models.options import KINDS, option

if TYPE_CHECKING:
    import torch

    from turnover.attribution.ensemble import Members
    from turnover.models.registry import TrainSettings


@dataclass(frozen=True)
class Heads(OnEncoder, Masked):
    """Members side by side in one model; the encoder runs once, and its features are kept in the
    run. Colour images are read by the packaged encoder and grey ones as pixels, unless an encoder
    is named.
    """

    name = "heads"
    kinds = KINDS
    default_for = ("text",)
    usual_masks = USUAL_MASKS
    on = "on"
    encoder: str = option(
        DEFAULT_ENCODER,
        f"frozen encoder, a hub name or a folder (default: {DEFAULT_ENCODER} for texts and "
        f"{IMAGE_ENCODER} for colour images, both packaged; for grey images {NO_ENCODER}, which is "
        "none)",
        "NAME",
        label="Encoder",
        empty=f"texts {DEFAULT_ENCODER}, colour images {IMAGE_ENCODER}, grey images none",
        path="folder",
    )
    max_tokens: int | None = option(**WINDOW, before=256)

    def for_images(self, model: str, data: str, shape: tuple[int, ...]) -> Self:
        usual = self.encoder == DEFAULT_ENCODER and len(shape) == 3
        return replace(self, encoder=IMAGE_ENCODER) if usual else self

    def reads(self, settings: TrainSettings) -> str:
        return FEATURES if self.where(settings.kind) else PIXELS

    def reader(self, settings: TrainSettings, device: torch.device) -> Reader:
        if settings.kind == "text" or self.reads(settings) == PIXELS:
            return super().reader(settings, device)
        from turnover.models.torchvision import hub_images, packaged_images

        packaged = self.encoder == IMAGE_ENCODER
        return (packaged_images(device) if packaged else hub_images(self.encoder, device)).features

    def build(self, settings: TrainSettings, classes: int, shape: tuple[int, ...]) -> Members:
        from turnover.models.heads import turnover_heads

        return turnover_heads(shape, classes, **self.in_one(settings))

    def where(self, kind: str) -> str:
        on_encoder = kind == "text" or self.encoder not in (DEFAULT_ENCODER, NO_ENCODER)
        return f" on {self.encoder}" if on_encoder else ""


@dataclass(frozen=True)
class Mlp(Masked):
    """The perceptron of dattri's MNIST benchmark (Deng et al. 2024), with masks on both hidden
    layers, and its training.
    """

    name = "mlp"
    title = "perceptron of the MNIST benchmark"
    kinds = ("image",)
    recipe = Recipe(
        epochs=50, patience=50, learning_rate=0.01, weight_decay=0.0, momentum=0.9, keep="last"
    )

    def reader(self, settings: TrainSettings, device: torch.device) -> Reader:
        from turnover.models.inputs import standardised

        return standardised

    def build(self, settings: TrainSettings, classes: int, shape: tuple[int, ...]) -> Members:
        from turnover.models.heads import mlp

        return mlp(shape, classes, **self.in_one(settings))


@dataclass(frozen=True)
class SmallVgg(Convolutional):
    """Three blocks of convolutions for small images, masked from the last block on."""

    name = "small-vgg"
    kinds = ("image",)
    default_for = ("image",)

    def build(self, settings: TrainSettings, classes: int, shape: tuple[int, ...]) -> Members:
        from turnover.models.heads import small_vgg

        return small_vgg(shape, classes, **self.in_one(settings))
