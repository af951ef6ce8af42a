"""K-member models: members that differ in mask seed, initialisation and batch order.

A single turn-over influence is noisy, since it depends on one draw of masks. Averaging over K
members reduces the noise, and their spread gives a standard error.

`MemberModel` trains and evaluates K small members as one batched program: K small matrix products
one after another would leave the machine idle, so every weight has a leading member axis. The loss
is a sum over members, so the members never mix: member k of a K-member model equals the model
trained alone (a test). It consists of a *prefix* (what lies before the first mask; for frozen
features, nothing) and a *head*:

    h = relu(W₁ (f ∘ m₁(z)) + b₁),   logits = W₂ (h ∘ m₂(z)) + b₂

Activations are `(K, B, …)`. All instances share only b₂ and the prefix, which are the leaks
(law 3).

`Ensemble` holds K deep models. Each of them fills the machine alone, so they run one after the
other, at K times the cost; usually K is 1.

`some_members` selects members as a model of their own.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import torch
from torch import Tensor, nn

from turnover.attribution.dropout import TurnoverDropout, turnover_layers
from turnover.attribution.masks import derive_seed, instance_cohorts
from turnover.attribution.scope import MaskScope, member_masks
from turnover.errors import TurnoverError

_INIT, _MASKS = 1, 2


def member_generators(seed: int, members: int, *path: int) -> list[torch.Generator]:
    """One CPU random generator per member for the use named by `path`, each with its own seed."""
    return [
        torch.Generator().manual_seed(derive_seed(seed, member, *path)) for member in range(members)
    ]


def _he_normal(
    generators: Sequence[torch.Generator], fan_in: int, shape: Sequence[int]
) -> nn.Parameter:
    """He initialisation, `(K, *shape)`, drawn member by member so that K does not change a
    member's weights.
    """
    draws = [
        torch.randn(*shape, generator=generator, dtype=torch.float64) for generator in generators
    ]
    return nn.Parameter((torch.stack(draws) * math.sqrt(2 / fan_in)).to(torch.get_default_dtype()))


class MemberTurnoverDropout(TurnoverDropout):
    """Turn-over dropout for activations `(K, B, …)`, with one mask seed per member; ids are `(B,)`
    or `(K, B)`.
    """

    def __init__(
        self,
        width: int,
        seeds: Sequence[int],
        groups: int | None,
        *,
        layer: int,
        masks: int | None = None,
        dim: int = -1,
    ) -> None:
        super().__init__(width, groups=groups, masks=masks, layer=layer, dim=dim)
        self.seeds = tuple(seeds)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, seeds={self.seeds}"

    def bits(self, ids: Tensor) -> Tensor:
        """Which units are on, `(K, B, units)`, for ids `(B,)` or `(K, B)`."""
        rows = ids.expand(len(self.seeds), -1) if ids.dim() == 1 else ids
        return torch.stack(
            [
                self.seeded_bits(member_ids, seed)
                for member_ids, seed in zip(rows, self.seeds, strict=True)
            ]
        )

    def _key(self) -> tuple[int, ...]:
        return (*self.seeds, self.layer or 0)

    def _check_rows(self, x: Tensor, scope: MaskScope) -> None:
        rows = (*scope.ids.shape[:-1], *(size * scope.times for size in scope.ids.shape[-1:]))
        if rows not in (x.shape[1:2], x.shape[:2]):
            raise TurnoverError(
                f"instance ids of shape {tuple(scope.ids.shape)} for {x.shape[0]} members and "
                f"{x.shape[1]} rows; give one id per row"
            )

    def _broadcast(self, mask: Tensor, x: Tensor) -> Tensor:
        shape = [1] * x.dim()
        shape[0], shape[1], shape[self.dim] = x.shape[0], x.shape[1], self.width
        return mask.view(shape)


class MemberLinear(nn.Module):
    """K linear layers in one batched product: `(K, B, in)` → `(K, B, out)`; `weight` is `(K, in,
    out)`.
    """

    def __init__(
        self, width_in: int, width_out: int, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.weight = _he_normal(generators, width_in, (width_in, width_out))
        self.bias = nn.Parameter(torch.zeros(len(generators), 1, width_out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class MemberConv2d(nn.Module):
    """K 3 × 3 convolutions as one grouped convolution: `(B, K·in, H, W)` → `(B, K·out, H, W)`."""

    def __init__(
        self, channels_in: int, channels_out: int, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.weight = _he_normal(generators, 9 * channels_in, (channels_out, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(len(generators), channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(
            x,
            self.weight.flatten(0, 1),
            self.bias.flatten(),
            padding=1,
            groups=self.weight.shape[0],
        )


class MemberDropout(nn.Dropout):
    """Ordinary dropout of activations `(K, B, …)`, the same units in all members, so that a member
    does not depend on how many are trained beside it.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(torch.ones_like(x[0])) if self.training and self.p else x


class MemberHead(nn.Module):
    """K turn-over heads: mask, linear, relu, mask, linear; `(K, B, width)` → logits `(K, B,
    classes)`.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        classes: int,
        *,
        groups: int | None,
        seed: int,
        members: int,
        masks: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        seeds = [derive_seed(seed, member, _MASKS) for member in range(members)]
        self.mask_in = MemberTurnoverDropout(width, seeds, groups, layer=0, masks=masks)
        self.linear_in = MemberLinear(width, hidden, member_generators(seed, members, _INIT, 0))
        self.mask_hidden = MemberTurnoverDropout(hidden, seeds, groups, layer=1, masks=masks)
        self.dropout = MemberDropout(dropout)
        self.linear_out = MemberLinear(hidden, classes, member_generators(seed, members, _INIT, 1))

    def forward(self, features: Tensor) -> Tensor:
        hidden = torch.relu(self.linear_in(self.mask_in(features)))
        return self.linear_out(self.dropout(self.mask_hidden(hidden)))


class Members(nn.Module, ABC):
    """K classifiers that differ in masks, initialisation and batch order.

    Attributes:
        members: K.
        classes: number of classes.
        leaks: what all instances share in spite of their masks, in words (law 3).
        whole: whether all tensors are saved, including those that are never trained.
    """

    whole = False

    def __init__(self, members: int, classes: int, leaks: Sequence[str]) -> None:
        super().__init__()
        self.members, self.classes, self.leaks = members, classes, tuple(leaks)

    def failing(self) -> AbstractContextManager[None]:
        """Inside, an error in the user's own code becomes a `TurnoverError`; here no code is the
        user's.
        """
        return nullcontext()

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """The output layers' inputs for rows that all members share: `(B, …)` → `(K, B, D)`."""

    @abstractmethod
    def member_rows(self, x: Tensor) -> Tensor:
        """Logits `(K, B, classes)` of rows `(K, B, …)` of each member's own."""

    def reading_order(self, x: Tensor) -> Tensor:
        """Numbers `(B,)` of the rows `(B, …)` in the order in which the model evaluates them
        fastest; here unchanged.
        """
        return torch.arange(len(x), device=x.device)


class MemberModel(Members):
    """K turn-over heads behind a prefix.

    Attributes:
        prefix: module `(K, B, …)` → `(K, B, D)`, free of masks.
        head: the turn-over heads.
    """

    def __init__(self, prefix: nn.Module, head: MemberHead, leaks: Sequence[str]) -> None:
        super().__init__(head.linear_in.weight.shape[0], head.linear_out.weight.shape[-1], leaks)
        self.prefix, self.head = prefix, head

    def features(self, x: Tensor) -> Tensor:
        """The heads' inputs for rows that all members share: `(B, …)` → `(K, B, D)`."""
        return self.prefix(x.expand(self.members, *x.shape))

    def member_rows(self, x: Tensor) -> Tensor:
        """Logits `(K, B, classes)` of rows `(K, B, …)` of each member's own."""
        return self.head(self.prefix(x))

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(K, B, classes)` of rows `(B, …)` that all members share."""
        return self.head(self.features(x))


class Ensemble(Members):
    """Models `(B, …)` → logits `(B, classes)` as one K-member model.

    Attributes:
        models: the members; each has `features(x)`, the inputs of its output layers, one vector or
            map per row, and may have a `reading_order(x)`.
        leaks: what all instances share in spite of their masks, in words (law 3).
    """

    def __init__(self, models: Sequence[nn.Module], classes: int, leaks: Sequence[str]) -> None:
        super().__init__(len(models), classes, leaks)
        self.models = nn.ModuleList(models)

    def of(self, models: Sequence[nn.Module]) -> Self:
        """The same kind of model with other members."""
        return type(self)(models, self.classes, self.leaks)

    def features(self, x: Tensor) -> Tensor:
        """The output layers' inputs for rows that all members share, without masks: `(B, …)` →
        `(K, B, D)`.
        """
        return torch.stack([model.features(x).flatten(1) for model in self.models])  # type: ignore[operator]

    def member_rows(self, x: Tensor) -> Tensor:
        """Logits `(K, B, classes)` of rows `(K, B, …)` of each member's own."""
        logits = []
        for member, (model, rows) in enumerate(zip(self.models, x, strict=True)):
            with member_masks(member):
                logits.append(model(rows))
        return torch.stack(logits)

    def reading_order(self, x: Tensor) -> Tensor:
        """The members' reading order, if they define one."""
        order: Tensor = getattr(self.models[0], "reading_order", super().reading_order)(x)
        return order

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(K, B, classes)` of rows `(B, …)` that all members share."""
        return self.member_rows(x.expand(self.members, *x.shape))


def some_members(model: Members, places: Sequence[int]) -> Members:
    """A copy with the members of these numbers, which may repeat; it shares no weights.

    Raises:
        TypeError: for a kind of model whose members cannot be separated.
    """
    if isinstance(model, Ensemble):
        return model.of([copy.deepcopy(model.models[member]) for member in places])
    if not isinstance(model, MemberModel):
        raise TypeError(f"members of a {type(model).__name__} are not told apart here")
    chosen = copy.deepcopy(model)
    for parameter in chosen.parameters():  # each has a leading member axis
        parameter.data = parameter.data[list(places)]
    for mask in turnover_layers(chosen):
        assert isinstance(mask, MemberTurnoverDropout)
        mask.seeds = tuple(mask.seeds[member] for member in places)
    chosen.members = len(places)
    return chosen


# Shared masks


def shared_masks(model: nn.Module) -> int | None:
    """How many masks instances share in each member; None where every instance has its own.

    Raises:
        TurnoverError: if the model has no mask, or its layers do not agree.
    """
    known = {layer.masks for layer in turnover_layers(model)}
    if len(known) > 1:
        raise TurnoverError(
            f"the mask layers of this {type(model).__name__} have masks={known}; give all layers "
            "of a network one seed= and one masks="
        )
    return known.pop()


def member_cohorts(model: nn.Module, ids: Tensor) -> Tensor | None:
    """The cohort of each instance in each member, `(K, N)`; None where every instance has masks of
    its own. Errors as `shared_masks`.
    """
    masks = shared_masks(model)
    if masks is None:
        return None
    models = list(model.models) if isinstance(model, Ensemble) else [model]
    seeds = [seed for member_model in models for seed in turnover_layers(member_model)[0].seeds]
    return torch.stack([instance_cohorts(ids, masks, seed=seed) for seed in seeds])
