"""Contests of networks as users bring them: an `nn.Sequential`, or a module with code of its own.

In a *trunk* nearly all weights lie before the first mask, where all instances share them: three
million of them, then 64 → 128 → 5 units with two masks. A small convolutional network is the
opposite: nearly all of its work is under masks. Each is measured as an `nn.Sequential`, whose order
the engine knows, and as an opaque module, which it has to run to see what is shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from turnover.attribution.dropout import TurnoverDropout
from turnover.errors import counted
from turnover.research.bench.contests import (
    PUBLISHED_BATCH,
    Contest,
    contest,
    masks_in_words,
)

_TRUNK = (512, 1024, 1024, 1024, 64)
_INSTANCES, _CONVOLVED = 2000, 4000
"""Training instances; most pairs of a convolutional network whose instances share no masks."""


class Opaque(nn.Module):
    """A model behind code of its own, so that its order is not known."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """The model's logits."""
        logits: Tensor = self.model(x)
        return logits


def trunk(
    targets: int, groups: bool, opaque: bool, masks: int | None, device: torch.device
) -> Contest:
    """2.7 million weights, then 64 → 128 → 5 with two masks; 2,000 training instances."""
    number = 16 if groups else None
    first, second = (
        TurnoverDropout(width, groups=number, masks=masks, layer=layer)
        for layer, width in enumerate((64, 128))
    )
    layers = (part for pair in pairwise(_TRUNK) for part in (nn.Linear(*pair), nn.ReLU()))
    model = _drawn((*layers, first, nn.Linear(64, 128), nn.ReLU(), second, nn.Linear(128, 5)))
    return contest(
        f"trunk, {_words(opaque, number, masks, targets)}",
        (Opaque(model) if opaque else model).to(device).eval(),
        torch.randn(targets, _TRUNK[0], generator=torch.Generator().manual_seed(1)).to(device),
        _INSTANCES,
        device,
        halved=False,
    )


def convolutions(
    targets: int, groups: bool, opaque: bool, masks: int | None, device: torch.device
) -> Contest:
    """Two convolutions and two linear layers on images of 28 × 28, masked after the first; 2,000
    training instances, or fewer where they share no masks and targets are many.
    """
    number = 8 if groups else None
    mask = partial(TurnoverDropout, groups=number, masks=masks)
    model = _drawn(
        (
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(mask(16, layer=0, dim=1), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()),
            *(nn.MaxPool2d(2), mask(32, layer=1, dim=1), nn.Flatten(), nn.Linear(32 * 49, 64)),
            *(nn.ReLU(), mask(64, layer=2), nn.Linear(64, 10)),
        )
    )
    count = _INSTANCES if masks else max(PUBLISHED_BATCH, min(_INSTANCES, _CONVOLVED // targets))
    return contest(
        f"small convolutions, {_words(opaque, number, masks, targets)}",
        (Opaque(model) if opaque else model).to(device).eval(),
        torch.randn(targets, 1, 28, 28, generator=torch.Generator().manual_seed(1)).to(device),
        count,
        device,
        halved=False,
    )


def _words(opaque: bool, groups: int | None, masks: int | None, targets: int) -> str:
    kind = "opaque module" if opaque else "nn.Sequential"
    return f"{kind}, {masks_in_words(groups, masks)}, {counted(targets, 'target')}"


def _drawn(layers: Iterable[nn.Module]) -> nn.Sequential:
    """The layers one after the other, with weights drawn from one seed."""
    model, generator = nn.Sequential(*layers), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, generator=generator)
        else:
            nn.init.zeros_(parameter)
    return model
