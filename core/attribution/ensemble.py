"""K members trained and evaluated as one batched program.

A single turn-over influence is noisy, since it depends on one draw of masks. Averaging over K
*members*, models that differ in mask seed, initialisation and batch order, tames the noise and its
spread gives a standard error. Training K small models one after another wastes the machine on tiny
matrix products, so every weight here carries a leading member axis and one batched product serves
all of them. The loss is a sum over members, so the members never mix: member k of a K-member model
is the model that would be trained alone (a test).

A `MemberModel` is a *prefix* (what lies before the first mask; for texts, nothing: the frozen
features) and a *head*:

    h = relu(W₁ (f ∘ m₁(z)) + b₁),   logits = W₂ (h ∘ m₂(z)) + b₂

Activations are `(K, B, …)`. Only b₂ and the prefix are shared by all instances: these are the leaks
(law 3).

K deep models side by side, for the price of K.

Heads on frozen features are so small that K of them train as one batched program
(`turnover.attribution.ensemble`). A network that is trained as a whole fills the machine alone; its
members differ in masks and initialisation just the same, but run one after the other. Usually there
is one.

Some members of a K-member model: half an ensemble, or the same start many times (deep members:
once, since two would share masks).

Some of K members as a model of their own, and tensors of such parts cut out of the whole's and put
together again.

Members never mix, so ranks may train some each (`turnover.training.ranks`). In a `MemberModel`
every tensor has the members first; the tensors of an `Ensemble`'s members carry the member's number
in their names.
"""

from __future__ import annotations

import copy
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import torch
from torch import Tensor, nn

from turnover.attribution.dropout import TurnoverDropout, turnover_layers
from turnover.attribution.masks import derive_seed
from turnover.attribution.scope import MaskScope, member_masks
from turnover.attribution.state import NUMBERED, trained_state
from turnover.errors import TurnoverError

_INIT, _MASKS = 1, 2


def member_generators(seed: int, members: int, *path: int) -> list[torch.Generator]:
    """One CPU random generator per member for the place named by `path`, each with a seed of its
    own.
    """
    return [
        torch.Generator().manual_seed(derive_seed(seed, member, *path)) for member in range(members)
    ]


def _he_normal(
    generators: Sequence[torch.Generator], fan_in: int, shape: Sequence[int]
) -> nn.Parameter:
    """He initialisation, `(K, *shape)`, drawn member by member so that K does not change what a
    member gets.
    """
    draws = [
        torch.randn(*shape, generator=generator, dtype=torch.float64) for generator in generators
    ]
    return nn.Parameter((torch.stack(draws) * math.sqrt(2 / fan_in)).to(torch.get_default_dtype()))


class MemberTurnoverDropout(TurnoverDropout):
    """Turn-over dropout for activations `(K, B, …)`, with one mask seed a member; ids are `(B,)` or
    `(K, B)`.
    """

    def __init__(
        self, width: int, seeds: Sequence[int], groups: int | None, *, layer: int, dim: int = -1
    ) -> None:
        super().__init__(width, groups=groups, layer=layer, dim=dim)
        self.seeds = tuple(seeds)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, seeds={self.seeds}"

    def bits(self, ids: Tensor) -> Tensor:
        """Which units are on, `(K, B, units)`, for ids `(B,)` or `(K, B)`."""
        rows = ids.expand(len(self.seeds), -1) if ids.dim() == 1 else ids
        return torch.stack(
            [self.seeded_bits(own, seed) for own, seed in zip(rows, self.seeds, strict=True)]
        )

    def _key(self) -> tuple[int, ...]:
        return (*self.seeds, self.layer or 0)

    def _ids_for(self, x: Tensor, scope: MaskScope) -> Tensor:
        if scope.ids.shape not in (x.shape[1:2], x.shape[:2]):
            raise TurnoverError(
                f"instance ids of shape {tuple(scope.ids.shape)} for {x.shape[0]} members and "
                f"{x.shape[1]} rows; give one id per row"
            )
        return scope.ids_on(x.device)

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


class MemberHead(nn.Module):
    """K turn-over heads: mask, linear, relu, mask, linear; `(K, B, width)` → logits `(K, B,
    classes)`.
    """

    def __init__(
        self, width: int, hidden: int, classes: int, *, groups: int | None, seed: int, members: int
    ) -> None:
        super().__init__()
        seeds = [derive_seed(seed, member, _MASKS) for member in range(members)]
        self.mask_in = MemberTurnoverDropout(width, seeds, groups, layer=0)
        self.linear_in = MemberLinear(width, hidden, member_generators(seed, members, _INIT, 0))
        self.mask_hidden = MemberTurnoverDropout(hidden, seeds, groups, layer=1)
        self.linear_out = MemberLinear(hidden, classes, member_generators(seed, members, _INIT, 1))

    def forward(self, features: Tensor) -> Tensor:
        hidden = torch.relu(self.linear_in(self.mask_in(features)))
        return self.linear_out(self.mask_hidden(hidden))


class Members(nn.Module, ABC):
    """K classifiers that differ in masks, initialisation and batch order.

    Attributes:
        members: K.
        classes: number of classes.
        leaks: what all instances share in spite of their masks, in words (law 3).
        whole: whether all tensors are saved, those that are never trained too.
    """

    whole = False

    def __init__(self, members: int, classes: int, leaks: Sequence[str]) -> None:
        super().__init__()
        self.members, self.classes, self.leaks = members, classes, tuple(leaks)

    def failing(self) -> AbstractContextManager[None]:
        """Around what runs the members: inside, an error of code that is the user's own becomes a
        `TurnoverError`. Here none is.
        """
        return nullcontext()

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """What the output layers see of rows that all members share: `(B, …)` → `(K, B, D)`."""

    @abstractmethod
    def member_rows(self, x: Tensor) -> Tensor:
        """Logits `(K, B, classes)` of rows `(K, B, …)` of each member's own."""

    def reading_order(self, x: Tensor) -> Tensor:
        """Numbers of the rows `(B, …)` in the order in which the model reads many of them fastest,
        `(B,)`: as they are.
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
        """What the heads see of rows that all members share: `(B, …)` → `(K, B, D)`."""
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
        models: the members; each has `features(x)`, what its output layers see, one vector or map a
            row, and may have a `reading_order(x)`.
        leaks: what all instances share in spite of their masks, in words (law 3).
    """

    def __init__(self, models: Sequence[nn.Module], classes: int, leaks: Sequence[str]) -> None:
        super().__init__(len(models), classes, leaks)
        self.models = nn.ModuleList(models)

    def of(self, models: Sequence[nn.Module]) -> Self:
        """The same kind of model, of other members."""
        return type(self)(models, self.classes, self.leaks)

    def features(self, x: Tensor) -> Tensor:
        """What the members' output layers see of rows that all share, without masks: `(B, …)` →
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
        """The members' own order, if they have one."""
        own: Tensor = getattr(self.models[0], "reading_order", super().reading_order)(x)
        return own

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(K, B, classes)` of rows `(B, …)` that all members share."""
        return self.member_rows(x.expand(self.members, *x.shape))


def some_members(model: Members, places: Sequence[int]) -> Members:
    """A copy with the members at these places; neither shares weights with the other.

    Raises:
        TypeError: for a model whose members cannot be told apart.
    """
    if isinstance(model, Ensemble):
        return model.of([copy.deepcopy(model.models[place]) for place in places])
    if not isinstance(model, MemberModel):
        raise TypeError(f"members of a {type(model).__name__} are not told apart here")
    chosen = copy.deepcopy(model)
    for parameter in chosen.parameters():  # every one has a leading member axis
        parameter.data = parameter.data[list(places)]
    for mask in turnover_layers(chosen):
        assert isinstance(mask, MemberTurnoverDropout)
        mask.seeds = tuple(mask.seeds[place] for place in places)
    chosen.members = len(places)
    return chosen


def part_of(model: Members, members: range) -> Members:
    """The members with these numbers; the model itself if these are all."""
    if len(members) == model.members:
        return model
    if isinstance(model, Ensemble):
        return model.of([model.models[member] for member in members])
    part = copy.deepcopy(model)
    part.members = len(members)
    for tensor in (*part.parameters(), *part.buffers()):
        tensor.data = tensor.data[members.start : members.stop].clone()
    for module in part.modules():
        if isinstance(module, MemberTurnoverDropout):
            module.seeds = module.seeds[members.start : members.stop]
    return part


def descriptions(model: Members) -> list[str]:
    """What each member is, but for its weights: shapes and masks."""

    def described(state: Mapping[str, Tensor], first: int, masks: Sequence[str]) -> str:
        return json.dumps(
            [{name: list(value.shape[first:]) for name, value in state.items()}, list(masks)]
        )

    if isinstance(model, Ensemble):
        return [
            described(trained_state(own), 0, [repr(mask) for mask in turnover_layers(own)])
            for own in model.models
        ]
    masks = [mask for mask in turnover_layers(model) if isinstance(mask, MemberTurnoverDropout)]
    return [
        described(
            trained_state(model),
            1,
            [f"{TurnoverDropout.extra_repr(mask)}, seed={mask.seeds[member]}" for mask in masks],
        )
        for member in range(model.members)
    ]


def joined_tensors(
    model: Members, parts: Sequence[Mapping[str, Tensor]], counts: Sequence[int]
) -> dict[str, Tensor]:
    """The whole's tensors from those of its parts, of so many members each, by names in which the
    model's occur; numbers are any part's.
    """
    if len(parts) == 1:
        return dict(parts[0])
    if not isinstance(model, Ensemble):
        return {
            name: torch.cat([part[name] for part in parts]) if first.dim() else first
            for name, first in parts[0].items()
        }
    firsts = [sum(counts[:place]) for place in range(len(counts))]
    return {
        _moved(name, first): value
        for part, first in zip(parts, firsts, strict=True)
        for name, value in part.items()
    }


def cut_tensors(model: Members, tensors: Mapping[str, Tensor], members: range) -> dict[str, Tensor]:
    """Those of some members, as their part `model` names them, from the whole's."""
    if not isinstance(model, Ensemble):
        return {
            name: value[members.start : members.stop] if value.dim() else value
            for name, value in tensors.items()
        }
    found = {name: NUMBERED.search(name) for name in tensors}
    return {
        _moved(name, -members.start): tensors[name]
        for name, number in found.items()
        if number is not None and int(number[1]) in members
    }


def _moved(name: str, by: int) -> str:
    """A tensor's name after its member's number has changed."""
    return NUMBERED.sub(lambda number: f"models.{int(number[1]) + by}.", name, count=1)
