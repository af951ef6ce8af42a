"""A small VGG (Simonyan and Zisserman 2015) with turn-over dropout in its last block and its head.

Three blocks of two 3 × 3 convolutions, each followed by max pooling, for small images; then a hidden layer and the
output. The first mask lies on the channels that the last block puts out, the second on the hidden layer. Since a mask
keeps or drops a whole channel and pooling works inside a channel, masking before or after the pooling is the same; the
model masks after it, so everything before the mask is computed once for all training instances. The convolutions are
trained by all instances: a leak, and named as one.
"""

from __future__ import annotations

from torch import Tensor, nn

from turnover.models.members import MemberConv2d, MemberHead, MemberModel, member_generators

BLOCKS = (16, 32, 64)
HIDDEN = 128
_CONVOLUTIONS = 3


class VggPrefix(nn.Module):
    """The convolutions of K small VGGs: images `(K, B, C, H, W)` → features `(K, B, D)`, channel by channel."""

    def __init__(self, channels: int, seed: int, members: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, width in enumerate(BLOCKS):
            for place, channels_in in enumerate((channels, width)):
                layers += [MemberConv2d(channels_in, width, member_generators(seed, members, _CONVOLUTIONS, number, place)), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        members, rows = images.shape[:2]
        side_by_side = images.transpose(0, 1).flatten(1, 2)
        return self.layers(side_by_side).view(rows, members, -1).transpose(0, 1)


def small_vgg(image_shape: tuple[int, int, int], classes: int, *, members: int, groups: int | None, seed: int) -> MemberModel:
    """K small VGGs for images `(C, H, W)` with H and W at least 8."""
    channels, height, width = image_shape
    features = BLOCKS[-1] * (height // 8) * (width // 8)
    head = MemberHead(features, HIDDEN, classes, groups=groups, seed=seed, members=members)
    return MemberModel(VggPrefix(channels, seed, members), head, leaks=("the convolutions before the first mask", "the output bias"))
