"""Influence of training instances: equation (2) of Kobayashi et al. (2020).

    I(z, target) = L(f^m̃(z), target) − L(f^m(z), target)        in nats

The loss of the sub-network that never saw z, minus the loss of the sub-network that learned from
it. Positive: z lowers the target's loss (a proponent of its label); negative: z raises it (an
opponent). One trained model gives the influence of every training instance on every target by
forward passes alone.

Where instances share M masks (`turnover.attribution.masks`), all of a cohort have one value: M
forward passes a target give both losses of every instance, and an influence is read by its
instance's cohort.

K members give K such values for each pair; `Influence` keeps them apart, so that the mean has a
standard error. `mean_influence` and `top_influences` never hold the whole matrix of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from turnover.attribution.dropout import turnover_layers
from turnover.attribution.engine import backend_for
from turnover.attribution.engine.naive import (
    Inputs,
    both_halves,
    device_of,
    evaluating,
    masks_of_training,
    members_of,
    row_count,
    take_rows,
)
from turnover.attribution.engine.tiling import Loss, pair_losses, pieces, tiles
from turnover.attribution.ensemble import member_cohorts, shared_masks
from turnover.attribution.inputs import batch_of
from turnover.attribution.masks import pair_ids
from turnover.attribution.scope import InstanceIds, as_instance_ids
from turnover.errors import TurnoverError, counted
from turnover.storage.progress import Advance, silent

if TYPE_CHECKING:
    import pandas as pd

_SELF_ROWS = 256
_RANKED_TARGETS, _RANKED_INSTANCES = 64, 2**16
"""How many values are ranked at a time."""
_LARGEST_TABLE = 2**14
"""Sums of two members' values that stay in a CPU's cache."""


@dataclass(frozen=True)
class Influence:
    """Influences in nats; positive: the training instance lowers the target's loss.

    Attributes:
        by_mask: of each mask, on the CPU: `(members, targets, N)` where every instance has its own,
            `(members, targets, M)` where they share M.
        train_ids: the training instances' ids, `(N,)`.
        backend: how the values were computed, in words.
        cohorts: the cohort of each instance in each member, `(members, N)`, where masks are shared.
    """

    by_mask: Tensor
    train_ids: Tensor
    backend: str
    cohorts: Tensor | None = None

    @property
    def values(self) -> Tensor:
        """`(members, targets, N)`."""
        if self.cohorts is None:
            return self.by_mask
        return torch.stack([self._member(member) for member in range(len(self.by_mask))])

    def _member(self, member: int) -> Tensor:
        """The values of a member, `(targets, N)`."""
        values = self.by_mask[member]
        return values if self.cohorts is None else values[:, self.cohorts[member]]

    @property
    def mean(self) -> Tensor:
        """Mean over members, `(targets, N)`."""
        if self.cohorts is None:
            return self.by_mask.mean(0)
        return _cohort_sums(self.by_mask, self.cohorts) / len(self.by_mask)

    @property
    def median(self) -> Tensor:
        """Median over members, `(targets, N)`; the mean of the middle two for an even number."""
        ordered = self.values.sort(0).values
        count = len(ordered)
        return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2

    @property
    def std_error(self) -> Tensor:
        """Standard error of the mean, `(targets, N)`; NaN for one member."""
        return _std_error(self.values)

    def of(self, instances: Tensor) -> Tensor:
        """`(members, targets, n)` of some instances of each target, by their numbers `(targets,
        n)`.
        """
        if self.cohorts is None:
            return self.by_mask.gather(2, instances.expand(len(self.by_mask), -1, -1))
        return self.by_mask.gather(2, self.cohorts[:, instances])

    def part(self, targets: slice, instances: slice) -> Influence:
        """The influences of some instances on some targets."""
        if self.cohorts is None:
            cohorts, by_mask = None, self.by_mask[:, targets, instances]
        else:
            cohorts, by_mask = self.cohorts[:, instances], self.by_mask[:, targets]
        return Influence(by_mask, self.train_ids[instances], self.backend, cohorts)

    def __repr__(self) -> str:
        members, targets = self.by_mask.shape[:2]
        return (
            f"Influence({counted(members, 'member')}, {counted(targets, 'target')}, "
            f"{counted(len(self.train_ids), 'training instance')}; {self.backend})"
        )

    def _repr_html_(self) -> str:
        return self.top().to_pandas()._repr_html_()  # type: ignore[operator]

    def top(self, count: int = 10) -> TopInfluences:
        """The strongest proponents and opponents of each target, by mean over members."""
        targets, instances = slice(0, self.by_mask.shape[1]), slice(0, len(self.train_ids))
        ends = [
            _End(targets.stop, min(count, instances.stop), self.by_mask.dtype, largest)
            for largest in (True, False)
        ]
        for rows in pieces(targets, _RANKED_TARGETS):
            for columns in pieces(instances, _RANKED_INSTANCES):
                part = self.part(rows, columns)
                mean = part.mean
                for end in ends:
                    end.add(rows, part, mean)
        return TopInfluences(
            *(column for end in ends for column in (end.ids, end.means, end.std_errors))
        )

    def to_pandas(self) -> pd.DataFrame:
        """One row per pair: target, instance, influence (mean over members) and std_error."""
        import pandas as pd

        targets, count = self.by_mask.shape[1], len(self.train_ids)
        return pd.DataFrame(
            {
                "target": torch.arange(targets).repeat_interleave(count).numpy(),
                "instance": self.train_ids.repeat(targets).numpy(),
                "influence": self.mean.flatten().numpy(),
                "std_error": self.std_error.flatten().numpy(),
            }
        )


@dataclass(frozen=True)
class TopInfluences:
    """The ends of each target's ranking by mean influence; each tensor is `(targets, top)`.

    Proponents run from the most positive down, opponents from the most negative up. `*_std_errors`
    are standard errors.
    """

    proponent_ids: Tensor
    proponents: Tensor
    proponent_std_errors: Tensor
    opponent_ids: Tensor
    opponents: Tensor
    opponent_std_errors: Tensor

    def to_pandas(self) -> pd.DataFrame:
        """One row per influence: target, role (proponent or opponent), instance, influence and
        std_error.
        """
        import pandas as pd

        targets, count = self.proponents.shape
        sides = {
            "proponent": (self.proponent_ids, self.proponents, self.proponent_std_errors),
            "opponent": (self.opponent_ids, self.opponents, self.opponent_std_errors),
        }
        frames = [
            pd.DataFrame(
                {
                    "target": torch.arange(targets).repeat_interleave(count).numpy(),
                    "role": role,
                    **{
                        name: column.flatten().numpy()
                        for name, column in zip(
                            ("instance", "influence", "std_error"), columns, strict=True
                        )
                    },
                }
            )
            for role, columns in sides.items()
        ]
        return pd.concat(frames).sort_values("target", kind="stable", ignore_index=True)

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()  # type: ignore[operator]


def _check(model: nn.Module, inputs: Inputs, labels: Tensor, ids: Tensor) -> None:
    turnover_layers(model)
    if row_count(inputs) != len(labels):
        raise TurnoverError(
            f"{row_count(inputs)} targets with {len(labels)} labels; give one label per target"
        )
    if ids.dim() != 1:
        raise TurnoverError(
            f"train_ids must be one list of ids, not of shape {tuple(ids.shape)}; where positions "
            "of N training items are their ids, range(N)"
        )


def _dtype(model: nn.Module) -> torch.dtype:
    """The number type of the model's influences: the most precise type of its weights, and at least
    float32.
    """
    weights = [
        parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()
    ] or [torch.get_default_dtype()]
    return torch.float64 if torch.float64 in weights else torch.float32


def influence(
    model: nn.Module,
    inputs: Any,
    labels: Any,
    train_ids: InstanceIds,
    loss: Loss | None = None,
    *,
    plain: bool = False,
    dtype: torch.dtype | None = None,
    memory: int | None = None,
    progress: Advance = silent,
) -> Influence:
    """Influence of every training instance on every target (equation 2).

    Args:
        model: any module with `TurnoverDropout` layers (one member), or a K-member model.
        inputs: the targets, rows first: a tensor or array, the named tensors of a Hugging Face
            model, or a `Dataset` or `DataLoader`.
        labels: the label whose loss counts, one per target: the true one, or the predicted one to
            explain a misclassified target; None if the data set has them.
        train_ids: ids of N training instances.
        loss: `(logits, labels) → one loss per row`; default cross-entropy in nats.
        plain: use the reference backend, two forward passes per pair.
        dtype: number type of the large products, such as `torch.bfloat16`: faster where the
            hardware supports it, less exact. Default: the model's own.
        memory: bytes that tiles may use beside the model and the result; default by device.
        progress: called with the number of (member, target, instance) values just finished; where
            M masks are shared, of M / 2 pairs of masks in place of instances.

    Returns:
        Values `(members, targets, N)`.

    Raises:
        TurnoverError: for ids out of range, a number of labels other than that of targets, or a
            model without turn-over layers.
    """
    inputs, labels = batch_of(model, inputs, labels, loss)
    return influences(
        model,
        inputs,
        (labels,),
        train_ids,
        loss,
        plain=plain,
        dtype=dtype,
        memory=memory,
        progress=progress,
    )[0]


def influences(
    model: nn.Module,
    inputs: Inputs,
    labels: Sequence[Tensor],
    train_ids: InstanceIds,
    loss: Loss | None = None,
    *,
    plain: bool = False,
    dtype: torch.dtype | None = None,
    memory: int | None = None,
    progress: Advance = silent,
) -> list[Influence]:
    """`influence` under several labels of the same targets, such as the true and the predicted
    label of a misclassified one, for the forward passes of one.

    Args and errors as for `influence`, with several `labels`, each one label per target; one result
    for each.
    """
    ids = as_instance_ids(train_ids)
    for target_labels in labels:
        _check(model, inputs, target_labels, ids)
    masks, cohorts = shared_masks(model), member_cohorts(model, ids)
    owners = pair_ids(masks) if masks else ids
    with evaluating(model):
        backend = backend_for(model, inputs, plain=plain, dtype=dtype, memory=memory)
        values = [
            torch.empty(backend.members, row_count(inputs), len(owners), dtype=_dtype(model))
            for _ in labels
        ]
        for targets, instances, tile in tiles(backend, labels, owners, loss, progress):
            for whole, part in zip(values, tile, strict=True):
                whole[:, targets, instances] = part
    if cohorts is not None:  # what one mask of a pair loses, the other gains
        values = [torch.stack((first, -first), -1).flatten(2) for first in values]
    return [Influence(tensor, ids, backend.name, cohorts) for tensor in values]


def self_influence(
    model: nn.Module, inputs: Any, labels: Any, train_ids: InstanceIds, loss: Loss | None = None
) -> Tensor:
    """Influence of each training instance on itself, `(members, N)` in nats: the diagonal of the
    pairwise influences.

    Args and errors as for `influence`, with one row of `inputs` and one label per training
    instance.
    """
    inputs, labels = batch_of(model, inputs, labels, loss)
    ids = as_instance_ids(train_ids)
    _check(model, inputs, labels, ids)
    if len(ids) != len(labels):
        raise TurnoverError(
            f"{len(ids)} ids for {len(labels)} training instances; self-influence needs one each"
        )
    device = device_of(model)
    parts = []
    with evaluating(model):
        expected = masks_of_training(model, inputs)
        for rows in pieces(slice(0, len(ids)), _SELF_ROWS):
            batch = take_rows(inputs, torch.arange(rows.start, rows.stop), device)
            masked, flipped = (
                logits.unsqueeze(2) for logits in both_halves(model, batch, ids[rows], expected)
            )
            parts.append(
                (pair_losses(loss, flipped, labels[rows]) - pair_losses(loss, masked, labels[rows]))
                .squeeze(2)
                .cpu()
            )
    return torch.cat(parts, 1).to(_dtype(model)) if parts else torch.empty(members_of(model), 0)


def mean_influence(
    model: nn.Module,
    inputs: Any,
    labels: Any,
    train_ids: InstanceIds,
    loss: Loss | None = None,
    *,
    dtype: torch.dtype | None = None,
    memory: int | None = None,
    progress: Advance = silent,
) -> Tensor:
    """Mean over all targets of each training instance's influence, `(members, N)` in nats, without
    holding the pairs.

    The score by which cleansing sorts (section 4.4). Args and errors as for `influence`.
    """
    inputs, labels = batch_of(model, inputs, labels, loss)
    ids = as_instance_ids(train_ids)
    _check(model, inputs, labels, ids)
    if shared_masks(model):
        (whole,) = influences(
            model, inputs, (labels,), ids, loss, dtype=dtype, memory=memory, progress=progress
        )
        assert whole.cohorts is not None
        return whole.by_mask.mean(1, dtype=torch.float64).gather(1, whole.cohorts).to(_dtype(model))
    with evaluating(model):
        backend = backend_for(model, inputs, dtype=dtype, memory=memory)
        total = torch.zeros(backend.members, len(ids), dtype=torch.float64)
        for _, instances, (tile,) in tiles(backend, (labels,), ids, loss, progress):
            total[:, instances] += tile.sum(1, dtype=torch.float64)
    return (total / len(labels)).to(_dtype(model))


def top_influences(
    model: nn.Module,
    inputs: Any,
    labels: Any,
    train_ids: InstanceIds,
    top: int = 10,
    loss: Loss | None = None,
    *,
    dtype: torch.dtype | None = None,
    memory: int | None = None,
    progress: Advance = silent,
) -> TopInfluences:
    """The `top` strongest proponents and opponents of each target by mean over members, without
    holding the pairs.

    Args and errors as for `influence`.
    """
    inputs, labels = batch_of(model, inputs, labels, loss)
    ids = as_instance_ids(train_ids)
    _check(model, inputs, labels, ids)
    if shared_masks(model):
        return influences(
            model, inputs, (labels,), ids, loss, dtype=dtype, memory=memory, progress=progress
        )[0].top(top)
    ends = [
        _End(len(labels), min(top, len(ids)), _dtype(model), largest) for largest in (True, False)
    ]
    with evaluating(model):
        backend = backend_for(model, inputs, dtype=dtype, memory=memory)
        for targets, instances, (tile,) in tiles(backend, (labels,), ids, loss, progress):
            part = Influence(tile, ids[instances], backend.name)
            mean = part.mean
            for end in ends:
                end.add(targets, part, mean)
    return TopInfluences(
        *(column for end in ends for column in (end.ids, end.means, end.std_errors))
    )


def _std_error(values: Tensor) -> Tensor:
    """Standard error of the mean of members' values `(K, …)`; NaN for one member."""
    members = len(values)
    return values.std(0) / members**0.5 if members > 1 else torch.full_like(values[0], torch.nan)


def _cohort_sums(by_mask: Tensor, cohorts: Tensor) -> Tensor:
    """Sums over members `(t, N)` of values by mask `(K, t, M)`, where member k has instance n in
    cohort `cohorts[k, n]`.

    Two members at a time, from a table of all pairs of their masks, while that fits into a cache.
    """
    members, targets, masks = by_mask.shape
    total = by_mask.new_zeros(targets, cohorts.shape[1])
    step = 2 if masks**2 <= _LARGEST_TABLE else 1
    for first in range(0, members, step):
        table, index = by_mask[first], cohorts[first]
        for member in range(first + 1, min(first + step, members)):
            table = (table.unsqueeze(2) + by_mask[member].unsqueeze(1)).flatten(1)
            index = index * masks + cohorts[member]
        index = index.to(torch.int32)
        for row in range(targets):
            total[row] += table[row].index_select(0, index)
    return total


class _End:
    """One end of the ranking of every target, updated tile by tile."""

    def __init__(self, targets: int, top: int, dtype: torch.dtype, largest: bool) -> None:
        if top < 0:
            raise TurnoverError(f"top {top}: choose how many to list, 1 or more")
        self.largest, self.top = largest, top
        self.ids = torch.zeros(targets, top, dtype=torch.int64)
        self.means, self.std_errors = (
            torch.full((targets, top), torch.nan, dtype=dtype) for _ in range(2)
        )
        self.filled = [0] * targets

    def add(self, targets: slice, part: Influence, mean: Tensor) -> None:
        """Merge one tile, whose `mean` is given, into the current ends of its targets, which have
        all seen the same instances.
        """
        before = self.filled[targets.start]
        best = mean.topk(min(self.top, mean.shape[1]), largest=self.largest).indices
        new = part.train_ids[best], mean.gather(1, best), _std_error(part.of(best))
        columns = (self.ids, self.means, self.std_errors)
        ids, means, std_errors = (
            torch.cat((column[targets, :before], values), 1)
            for column, values in zip(columns, new, strict=True)
        )
        filled = min(self.top, means.shape[1])
        order = means.topk(filled, largest=self.largest).indices
        for column, values in zip(columns, (ids, means, std_errors), strict=True):
            column[targets, :filled] = values.gather(1, order)
        self.filled[targets] = [filled] * (targets.stop - targets.start)
