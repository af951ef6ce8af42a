"""Networks that were trained without masks, and get them now.

From a named layer on, in the order in which the network lists its layers, every convolution and
every linear layer gets a mask on the units or channels that it reads, and its weights are trained:
a column of them never learns from an item whose mask switches its unit off (law 3). Everything
else stays frozen: biases but the output's, norms with their statistics, depthwise convolutions.

What such a network had learned before, from the same items perhaps, no mask tells apart: influences
are those of the training under masks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from turnover.attribution.insert import insert_masks
from turnover.attribution.masks import derive_seed
from turnover.errors import TurnoverError
from turnover.models.adapters import trimmed
from turnover.models.heads import load_encoder

_MASKS, _LAST = 2, 2
_NORM = nn.modules.batchnorm._NormBase


def masked_layers(network: nn.Module, first: str | None = None) -> list[str]:
    """Names of the layers from `first` on, by default the last two, that get a mask: an even number
    of units or channels, all read by every output. The last is the output layer.

    Raises:
        TurnoverError: if the network has no such layer, or its layers from there on cannot be
            masked.
    """
    layers = [*_maskable(network, first)]
    if not layers or not isinstance(network.get_submodule(layers[-1]), nn.Linear):
        raise TurnoverError(
            f"--from-layer {first}: the last layer of a {type(network).__name__} is not linear; "
            "choose another network"
        )
    return layers if first else layers[-_LAST:]


def _maskable(network: nn.Module, first: str | None) -> Iterator[str]:
    names = [name for name, _ in network.named_modules()]
    if first and first not in names[1:]:
        parts = ", ".join(name for name, _ in network.named_children())
        raise TurnoverError(
            f"--from-layer {first}: a {type(network).__name__} has no such layer; choose one of "
            f"{parts}, or a part of them"
        )
    for name, layer in list(network.named_modules())[names.index(first or "") :]:
        if first and isinstance(layer, nn.MultiheadAttention):
            raise TurnoverError(
                f"--from-layer {first}: {name} is attention, inside which no mask can be put; "
                "choose a later layer, or leave --from-layer out"
            )
        whole = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.in_channels % 2 == 0
        if whole or (isinstance(layer, nn.Linear) and layer.in_features % 2 == 0):
            yield name


class MaskedFrom(nn.Module):
    """A network with masks before some layers, whose weights alone are trained, and the bias of the
    last. Its inputs and outputs are the network's.
    """

    leaks: tuple[str, ...] = ("the output bias",)

    def __init__(
        self,
        network: nn.Module,
        layers: list[str],
        *,
        groups: int | None,
        seed: int,
        masks: int | None = None,
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        for name in layers:
            network.get_submodule(name).weight.requires_grad_(True)
        mask_seed = derive_seed(seed, _MASKS)
        insert_masks(network, layers, groups=groups, seed=mask_seed, masks=masks)
        if (bias := network.get_submodule(layers[-1])[1].bias) is not None:  # type: ignore[index]
            bias.requires_grad_(True)

    def train(self, mode: bool = True) -> MaskedFrom:
        """Training mode except for the norms, whose statistics all items would share."""
        super().train(mode)
        for layer in self.network.modules():
            if isinstance(layer, _NORM):
                layer.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


class TextCheckpoint(MaskedFrom):
    """A classifier of transformers with its own head: token ids `(B, T)`, padded with the padding
    token → logits `(B, classes)`.

    Raises:
        TurnoverError: if the folder has no trained head, or one for other classes.
    """

    def __init__(
        self,
        name: str,
        first: str | None,
        classes: int,
        *,
        groups: int | None,
        seed: int,
        masks: int | None = None,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            network = load_encoder(name, network="AutoModelForSequenceClassification")[1]
        known = int(network.config.num_labels)
        if known != classes or network.turnover_missing:
            what = f"one for {known} classes" if known != classes else "none that was trained"
            raise TurnoverError(
                f"encoder {name!r}: of {classes} classes a head is needed, and it has {what}; name "
                "the folder of a classifier, or choose --model adapters"
            )
        super().__init__(
            network, masked_layers(network, first), groups=groups, seed=seed, masks=masks
        )
        self.padding = int(network.config.pad_token_id or 0)

    def forward(self, tokens: Tensor) -> Tensor:
        ids, real = trimmed(tokens, self.padding)
        logits: Tensor = self.network(input_ids=ids, attention_mask=real).logits
        return logits
