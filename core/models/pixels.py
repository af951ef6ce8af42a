"""A multilayer perceptron on pixels: two hidden layers, turn-over dropout after each.

    h₀ = relu(W₀ x + b₀),   then turn-over heads (`turnover.models.members`) on h₀

For 8 × 8 digits and ten classes that is 64-256-256-10. The first mask lies on the units that W₀ leads into, so an instance
trains only those of its own half: the layer before the mask is no leak.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from turnover.models.members import MemberHead, MemberLinear, MemberModel, member_generators

HIDDEN = 256
_PIXELS = 9


class PixelPrefix(nn.Module):
    """The first layer of K perceptrons: images `(K, B, C, H, W)` → features `(K, B, HIDDEN)`."""

    def __init__(self, pixels: int, seed: int, members: int) -> None:
        super().__init__()
        self.linear = MemberLinear(pixels, HIDDEN, member_generators(seed, members, _PIXELS))

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.linear(images.flatten(2)))


def pixel_heads(image_shape: tuple[int, ...], classes: int, *, members: int, groups: int | None, seed: int) -> MemberModel:
    """K perceptrons for images `(C, H, W)`."""
    head = MemberHead(HIDDEN, HIDDEN, classes, groups=groups, seed=seed, members=members)
    return MemberModel(PixelPrefix(math.prod(image_shape), seed, members), head, leaks=("the output bias",))
