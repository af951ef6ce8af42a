"""Networks of torchvision: frozen with heads on them, or trained from a layer on."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from turnover.data.recipe import Recipe
from turnover.models.family import FEATURES, FROM_LAYER, PIXELS, Convolutional, Reader
from turnover.models.names import file_checksum
from turnover.models.options import option

if TYPE_CHECKING:
    import torch
    from torch import nn

    from turnover.attribution.ensemble import Members
    from turnover.models.registry import TrainSettings

PREFIX = "torchvision:"
_USUAL = "resnet18"
_FINE_TUNED = Recipe(epochs=10, patience=2, learning_rate=3e-4, batch=32)
_REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@cache
def torchvision_networks() -> tuple[str, ...]:
    """The names of its classifiers, sorted, read from its source since pages list them; () where
    torchvision is missing.
    """
    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent / "models" if spec and spec.origin else Path()
    return tuple(
        sorted(
            name
            for file in folder.glob("*.py")
            if spec
            for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))
        )
    )


@dataclass(frozen=True)
class Torchvision(Convolutional):
    """See `turnover.models.torchvision`."""

    name = f"{PREFIX}NAME"
    title = "torchvision network"
    kinds = ("image",)
    needs_trial = True
    weights: str | None = option(
        None,
        "weights of the network, a safetensors file (default: random)",
        "FILE",
        label="File with the weights",
        empty="random weights",
        excludes="pretrained",
        path="file",
    )
    pretrained: bool = option(
        False, "download torchvision's own weights", label="Download torchvision’s own weights"
    )
    from_layer: str | None = option(**FROM_LAYER)

    @property
    def deep(self) -> bool:
        return self.from_layer is not None

    @property
    def recipe(self) -> Recipe | None:
        return _FINE_TUNED if self.from_layer else None

    @property
    def caution(self) -> str:
        if self.weights or self.pretrained:
            return ""
        return (
            "the network starts from random weights; name trained ones with --weights FILE or "
            "--pretrained"
        )

    @classmethod
    def matches(cls, model: str) -> bool:
        return model.startswith(PREFIX)

    @classmethod
    def choices(cls) -> tuple[str, ...]:
        networks = sorted(torchvision_networks(), key=lambda name: name != _USUAL)
        return tuple(f"{PREFIX}{name}" for name in networks)

    def checksum(self, model: str) -> str | None:
        return file_checksum(self.weights) if self.weights else None

    def downloads(self) -> dict[str, str]:
        if not self.pretrained:
            return {}
        return {
            "pretrained": "Downloaded from PyTorch unless they are in its cache, in PyTorch’s own "
            "format."
        }

    def offline(self) -> Self:
        return replace(self, pretrained=False)

    def blank(self) -> Self:
        return replace(self, weights=None, pretrained=False)

    def reads(self, settings: TrainSettings) -> str:
        return PIXELS if self.from_layer else FEATURES

    def reader(self, settings: TrainSettings, device: torch.device) -> Reader:
        if self.from_layer:
            return super().reader(settings, device)
        from turnover.models.torchvision import torchvision_images

        return torchvision_images(self._network(settings, settings.seed), device).features

    def build(self, settings: TrainSettings, classes: int, shape: tuple[int, ...]) -> Members:
        if self.from_layer:
            return super().build(settings, classes, shape)
        from turnover.models.heads import turnover_heads

        return turnover_heads(shape, classes, **self.in_one(settings))

    def member(
        self, settings: TrainSettings, classes: int, shape: tuple[int, ...], seed: int
    ) -> nn.Module:
        from turnover.models.torchvision import FineTuned

        assert self.from_layer is not None
        network = self._network(settings, seed)
        return FineTuned(network, self.from_layer, classes, seed=seed, **self.mask_options)

    def _network(self, settings: TrainSettings, seed: int) -> nn.Module:
        from turnover.models.torchvision import torchvision_network

        assert settings.model is not None
        return torchvision_network(
            settings.model, self.weights, settings.source, self.pretrained, seed
        )
