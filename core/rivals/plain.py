"""One member of a run as a plain model: ordinary layers, no masks, logits `(B, C)`.

A K-member model without a mask context is K ordinary classifiers side by side. Rivals are given one of them, made of
`nn.Linear` and `nn.Conv2d`, which every library understands. It is cut out before training (to be trained by
`turnover.rivals.repeat`) or after. The members of an ensemble are such models already.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from turnover.device import at_least_float32
from turnover.errors import TurnoverError
from turnover.models.ensemble import Ensemble
from turnover.models.members import MemberConv2d, MemberLinear, MemberModel, Members
from turnover.models.pixels import PixelPrefix
from turnover.models.vision import VggPrefix

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def _linear(layer: MemberLinear, member: int) -> nn.Linear:
    weight, bias = layer.weight.detach()[member], layer.bias.detach()[member, 0]
    return _filled(nn.Linear(weight.shape[0], weight.shape[1], device="meta"), weight.T, bias)


def _convolution(layer: MemberConv2d, member: int) -> nn.Conv2d:
    weight, bias = layer.weight.detach()[member], layer.bias.detach()[member]
    return _filled(nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, device="meta"), weight, bias)


def _filled(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    layer.weight, layer.bias = nn.Parameter(weight.clone(memory_format=torch.contiguous_format)), nn.Parameter(bias.clone())
    return layer


def plain_classifier(model: Members, member: int = 0) -> nn.Module:
    """A copy of one member of heads on features or pixels, of a small VGG or of an ensemble, in float32 at least.

    Raises:
        TurnoverError: if there is no such member, or the model is of another kind.
    """
    if not 0 <= member < model.members:
        raise TurnoverError(f"the model has members 0 to {model.members - 1}, not {member}")
    if isinstance(model, Ensemble):
        own = copy.deepcopy(model.models[member])
        for parameter in own.parameters():
            parameter.data = at_least_float32(parameter.data)
        return own
    if isinstance(model, MemberModel):
        return nn.Sequential(*_prefix(model.prefix, member), _linear(model.head.linear_in, member), nn.ReLU(), _linear(model.head.linear_out, member))
    raise TurnoverError(f"members of a {type(model).__name__} cannot be cut out; build the plain model by hand")


def _prefix(prefix: nn.Module, member: int) -> list[nn.Module]:
    """The layers before the head."""
    if isinstance(prefix, nn.Identity):
        return []
    if isinstance(prefix, PixelPrefix):
        return [nn.Flatten(), _linear(prefix.linear, member), nn.ReLU()]
    if isinstance(prefix, VggPrefix):
        layers = [_convolution(layer, member) if isinstance(layer, MemberConv2d) else copy.deepcopy(layer) for layer in prefix.layers]
        return [*layers, nn.Flatten()]
    raise TurnoverError(f"a prefix that is a {type(prefix).__name__} cannot be cut out; build the plain model by hand")
