"""A network of torchvision that is trained from a layer on, with turn-over dropout from there.

From the named layer on, in the order in which the network lists its layers, every convolution and every linear layer gets a mask
on the units or channels that it reads, and its weights are trained: a column of them never learns from an item whose mask
switches its unit off (law 3). Everything else stays as it is: biases, norms with their statistics, depthwise convolutions. The
output layer is new, and its bias is the only leak.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from turnover.errors import TurnoverError
from turnover.insert import insert_masks
from turnover.masks import derive_seed
from turnover.models.image_encoders import as_imagenet, torchvision_network

LEAKS = ("the output bias",)
_INIT, _MASKS = 1, 2
_NORM = nn.modules.batchnorm._NormBase


class FineTuned(nn.Module):
    """Images `(B, 1 or 3, H, W)` in [-1, 1] → logits `(B, classes)`.

    Raises:
        TurnoverError: if the network has no such layer, or its layers from there on cannot be masked.
    """

    def __init__(self, network: nn.Module, first: str, classes: int, *, groups: int | None, seed: int) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        layers = list(_maskable(network, first))
        out = layers[-1] if layers else ""
        if not out or not isinstance(network.get_submodule(out), nn.Linear):
            raise TurnoverError(f"--from-layer {first}: the last layer of a {type(network).__name__} is not linear; choose another network")
        network.set_submodule(out, _output(network.get_submodule(out).in_features, classes, seed))  # type: ignore[arg-type]
        for name in layers:
            network.get_submodule(name).weight.requires_grad_(True)
        insert_masks(network, layers, groups=groups, seed=derive_seed(seed, _MASKS))
        network.get_submodule(out)[1].bias.requires_grad_(True)  # type: ignore[index]

    def train(self, mode: bool = True) -> FineTuned:
        """Training mode, but for the norms, whose statistics all items would share."""
        super().train(mode)
        for layer in self.network.modules():
            if isinstance(layer, _NORM):
                layer.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(as_imagenet((images.expand(-1, 3, -1, -1) + 1) / 2))
        return logits


def _output(width: int, classes: int, seed: int) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, width, classes)
    nn.init.normal_(layer.weight, std=width**-0.5, generator=torch.Generator().manual_seed(derive_seed(seed, _INIT)))
    nn.init.zeros_(layer.bias)
    return layer


def _maskable(network: nn.Module, first: str) -> Iterator[str]:
    """Names of the layers from `first` on that get a mask: an even number of units or channels, all read by every output."""
    names = [name for name, _ in network.named_modules()]
    if first not in names[1:]:
        parts = ", ".join(name for name, _ in network.named_children())
        raise TurnoverError(f"--from-layer {first}: a {type(network).__name__} has no such layer; choose one of {parts}, or a part of them")
    for name, layer in list(network.named_modules())[names.index(first) :]:
        if isinstance(layer, nn.MultiheadAttention):
            raise TurnoverError(f"--from-layer {first}: {name} is attention, inside which no mask can be put; choose a later layer, or leave --from-layer out")
        whole = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.in_channels % 2 == 0
        if whole or (isinstance(layer, nn.Linear) and layer.in_features % 2 == 0):
            yield name


def fine_tuned(model: str, first: str, classes: int, *, weights: str | None, pretrained: bool, groups: int | None, seed: int) -> FineTuned:
    """A new `FineTuned` around the network that `torchvision:NAME` names.

    Raises:
        TurnoverError: as `torchvision_network` and `FineTuned`, or if the network does not run with masks.
    """
    made = FineTuned(torchvision_network(model, weights, pretrained, seed), first, classes, groups=groups, seed=seed).eval()
    try:
        with torch.no_grad():
            made(torch.zeros(1, 3, 32, 32))
    except (AttributeError, TypeError, RuntimeError) as error:
        raise TurnoverError(f"--from-layer {first}: {model} does not run with masks from there on ({str(error).splitlines()[0]}); choose another") from None
    return made
