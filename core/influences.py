"""Influence of training instances: equation (2) of Kobayashi et al. (2020).

    I(z, target) = L(f^m̃(z), target) − L(f^m(z), target)        in nats

The loss of the half of the network that never saw z, minus the loss of the half that learned from it. Positive: z helps
the target (a proponent of its label); negative: z hurts it (an opponent). One trained model gives the influence of every
training instance on every target by forward passes alone.

With K members there are K such values for each pair; `Influence` keeps them apart, so that the mean comes with a
standard error. `mean_influence` and `top_influences` never hold the matrix of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.dropout import InstanceIds, as_instance_ids, turnover_layers
from core.engine import PairPath, path_for
from core.engine.plain import Inputs, both_halves, device_of, evaluating, row_count, take_rows
from core.errors import TurnoverError

if TYPE_CHECKING:
    import pandas as pd

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits `(R, …)` and labels `(R, …)` → one loss a row, `(R,)`."""

Progress = Callable[[int], object]
_SELF_ROWS = 256


def default_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats; for a single logit a row, binary cross-entropy with labels 0 and 1."""
    if logits.dim() == 1 or logits.shape[-1] == 1:
        return nn.functional.binary_cross_entropy_with_logits(logits.flatten(), labels.to(logits.dtype), reduction="none")
    return nn.functional.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class Influence:
    """Influences in nats of loss; positive: the training instance helps the target.

    Attributes:
        values: `(members, targets, training instances)`, on the CPU.
        train_ids: the training instances' ids, `(N,)`.
        path: how the values were computed, in words.
    """

    values: Tensor
    train_ids: Tensor
    path: str

    @property
    def mean(self) -> Tensor:
        """Mean over members, `(targets, N)`."""
        return self.values.mean(0)

    @property
    def median(self) -> Tensor:
        """Median over members, `(targets, N)`; the mean of the middle two for an even number."""
        ordered = self.values.sort(0).values
        count = len(ordered)
        return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2

    @property
    def standard_error(self) -> Tensor:
        """Standard error of the mean, `(targets, N)`; NaN for one member."""
        if len(self.values) == 1:
            return torch.full_like(self.values[0], torch.nan)
        return self.values.std(0) / len(self.values) ** 0.5

    def to_pandas(self) -> pd.DataFrame:
        """One row a pair: target, instance, influence (mean over members) and standard_error."""
        import pandas as pd

        targets, count = self.values.shape[1:]
        return pd.DataFrame(
            {
                "target": torch.arange(targets).repeat_interleave(count).numpy(),
                "instance": self.train_ids.repeat(targets).numpy(),
                "influence": self.mean.flatten().numpy(),
                "standard_error": self.standard_error.flatten().numpy(),
            }
        )


@dataclass(frozen=True)
class TopInfluences:
    """The ends of each target's ranking by mean influence; each tensor is `(targets, top)`.

    Proponents run from the most positive down, opponents from the most negative up. `*_errors` are standard errors.
    """

    proponent_ids: Tensor
    proponents: Tensor
    proponent_errors: Tensor
    opponent_ids: Tensor
    opponents: Tensor
    opponent_errors: Tensor


def _pair_losses(loss: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """Losses `(K, t, n)` of logits `(K, t, n, …)` under labels `(t, …)`."""
    members, targets, count = logits.shape[:3]
    rows = labels.to(logits.device)[None, :, None].expand(members, targets, count, *labels.shape[1:])
    losses = loss(logits.flatten(0, 2), rows.flatten(0, 2))
    if losses.shape != (members * targets * count,):
        raise TurnoverError(f"the loss gave shape {tuple(losses.shape)}, not one loss a row; use reduction='none'")
    return losses.view(members, targets, count)


def _check(model: nn.Module, inputs: Inputs, labels: Tensor, ids: Tensor) -> None:
    turnover_layers(model)
    if row_count(inputs) != len(labels):
        raise TurnoverError(f"{row_count(inputs)} targets with {len(labels)} labels; give one label per target")
    if ids.dim() != 1:
        raise TurnoverError(f"train_ids must be one list of ids, not of shape {tuple(ids.shape)}")


def _dtype(model: nn.Module) -> torch.dtype:
    """The number type of the model's weights, which its influences have too."""
    first = next(model.parameters(), None)
    return torch.get_default_dtype() if first is None else first.dtype


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def _tiles(path: PairPath, labels: Tensor, ids: Tensor, loss: Loss, progress: Progress | None) -> Iterator[tuple[slice, slice, Tensor]]:
    """All tiles `(targets, instances, values (K, t, n) on the CPU)`, one slice of targets after the other."""
    for targets in _slices(len(labels), path.targets_per_tile):
        for instances in _slices(len(ids), path.instances_per_tile):
            masked, flipped = path.tile(targets, ids[instances])
            own = labels[targets]
            values = _pair_losses(loss, flipped, own) - _pair_losses(loss, masked, own)
            yield targets, instances, values.cpu()
            if progress:
                progress(values.numel())


def influence(
    model: nn.Module,
    inputs: Inputs,
    labels: Tensor,
    train_ids: InstanceIds,
    loss: Loss | None = None,
    *,
    plain: bool = False,
    progress: Progress | None = None,
) -> Influence:
    """Influence of every training instance on every target (equation 2).

    Args:
        model: any module with `TurnoverDropout` layers (one member), or a K-member model.
        inputs: the targets, rows first; a tensor, or the named tensors of a Hugging Face model.
        labels: the label whose loss is meant, one a target: the true one, or the predicted one to explain an error.
        train_ids: ids of N training instances.
        loss: `(logits, labels) → one loss a row`; default cross-entropy in nats.
        plain: use the reference path, two forward passes per pair.
        progress: told the number of (member, target, instance) values just finished.

    Returns:
        Values `(members, targets, N)`.

    Raises:
        TurnoverError: for ids out of range, as many labels as not targets, or a model without turn-over layers.
    """
    ids = as_instance_ids(train_ids)
    _check(model, inputs, labels, ids)
    with evaluating(model):
        path = path_for(model, inputs, plain=plain)
        values = torch.empty(path.members, len(labels), len(ids), dtype=_dtype(model))
        for targets, instances, tile in _tiles(path, labels, ids, loss or default_loss, progress):
            values[:, targets, instances] = tile
    return Influence(values, ids, path.name)


def self_influence(model: nn.Module, inputs: Inputs, labels: Tensor, train_ids: InstanceIds, loss: Loss | None = None) -> Tensor:
    """Influence of each training instance on itself, `(members, N)` in nats: the diagonal of the pairwise influences.

    Args and errors as for `influence`, with one row of `inputs` and one label per training instance.
    """
    ids = as_instance_ids(train_ids)
    _check(model, inputs, labels, ids)
    if len(ids) != len(labels):
        raise TurnoverError(f"{len(ids)} ids for {len(labels)} training instances; self-influence needs one each")
    device, loss = device_of(model), loss or default_loss
    parts = []
    with evaluating(model):
        for rows in _slices(len(ids), _SELF_ROWS):
            batch = take_rows(inputs, torch.arange(rows.start, rows.stop), device)
            masked, flipped = (logits.unsqueeze(2) for logits in both_halves(model, batch, ids[rows]))
            parts.append((_pair_losses(loss, flipped, labels[rows]) - _pair_losses(loss, masked, labels[rows])).squeeze(2).cpu())
    return torch.cat(parts, 1)


def mean_influence(model: nn.Module, inputs: Inputs, labels: Tensor, train_ids: InstanceIds, loss: Loss | None = None) -> Tensor:
    """Mean over all targets of each training instance's influence, `(members, N)` in nats, without holding the pairs.

    The score that cleansing sorts by (section 4.4). Args and errors as for `influence`.
    """
    ids = as_instance_ids(train_ids)
    _check(model, inputs, labels, ids)
    with evaluating(model):
        path = path_for(model, inputs)
        total = torch.zeros(path.members, len(ids), dtype=torch.float64)
        for _, instances, tile in _tiles(path, labels, ids, loss or default_loss, None):
            total[:, instances] += tile.sum(1, dtype=torch.float64)
    return (total / len(labels)).to(_dtype(model))


def top_influences(model: nn.Module, inputs: Inputs, labels: Tensor, train_ids: InstanceIds, top: int = 10, loss: Loss | None = None) -> TopInfluences:
    """The `top` strongest proponents and opponents of each target by mean over members, without holding the pairs.

    Args and errors as for `influence`.
    """
    ids = as_instance_ids(train_ids)
    _check(model, inputs, labels, ids)
    proponents, opponents = _End(top, largest=True), _End(top, largest=False)
    with evaluating(model):
        path = path_for(model, inputs)
        for targets, instances, tile in _tiles(path, labels, ids, loss or default_loss, None):
            part = Influence(tile, ids[instances], path.name)
            proponents.add(targets, part)
            opponents.add(targets, part)
    return TopInfluences(*proponents.columns(), *opponents.columns())


class _End:
    """One end of the ranking of every target, kept while slices of training instances pass by."""

    def __init__(self, top: int, largest: bool) -> None:
        self.top, self.largest = top, largest
        self.best: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def add(self, targets: slice, part: Influence) -> None:
        """Merge one tile into the best so far of its targets."""
        ids, means, errors = part.train_ids.expand_as(part.mean), part.mean, part.standard_error
        if targets.start in self.best:
            before = self.best[targets.start]
            ids, means, errors = (torch.cat((old, new), 1) for old, new in zip(before, (ids, means, errors), strict=True))
        order = means.topk(min(self.top, means.shape[1]), largest=self.largest).indices
        self.best[targets.start] = ids.gather(1, order), means.gather(1, order), errors.gather(1, order)

    def columns(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, means and standard errors, each `(targets, top)`."""
        none = torch.empty(0, self.top, dtype=torch.int64), torch.empty(0, self.top), torch.empty(0, self.top)
        ids, means, errors = (torch.cat(column) for column in zip(*(self.best.values() or [none]), strict=True))
        return ids, means, errors
