"""K deep models side by side, for the price of K.

Heads on frozen features are so small that K of them train as one batched program (`turnover.models.members`). A network that
is trained as a whole fills the machine alone; its members differ in masks and initialisation just the same, but run one
after the other. Usually there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from turnover.models.members import Members
from turnover.scope import member_masks


class Ensemble(Members):
    """Models `(B, …)` → logits `(B, classes)` as one K-member model.

    Attributes:
        models: the members; each has `features(x)`, what its output layers see, one vector or map a row, and may have a `reading_order(x)`.
        leaks: what all instances share in spite of their masks, in words (law 3).
    """

    def __init__(self, models: Sequence[nn.Module], classes: int, leaks: Sequence[str]) -> None:
        super().__init__(len(models), classes, leaks)
        self.models = nn.ModuleList(models)

    def of(self, models: Sequence[nn.Module]) -> Self:
        """The same kind of model, of other members."""
        return type(self)(models, self.classes, self.leaks)

    def features(self, x: Tensor) -> Tensor:
        """What the members' output layers see of rows that all share, without masks: `(B, …)` → `(K, B, D)`."""
        return torch.stack([model.features(x).flatten(1) for model in self.models])  # type: ignore[operator]

    def member_rows(self, x: Tensor) -> Tensor:
        """Logits `(K, B, classes)` of rows `(K, B, …)` of each member's own."""
        logits = []
        for member, (model, rows) in enumerate(zip(self.models, x, strict=True)):
            with member_masks(member):
                logits.append(model(rows))
        return torch.stack(logits)

    def reading_order(self, x: Tensor) -> Tensor:
        """The members' own order, if they have one."""
        own: Tensor = getattr(self.models[0], "reading_order", super().reading_order)(x)
        return own

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(K, B, classes)` of rows `(B, …)` that all members share."""
        return self.member_rows(x.expand(self.members, *x.shape))
