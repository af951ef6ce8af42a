"""The training loop, its curves, checkpoints and resume.

All K members take a step together, each on a batch of its own order, each row under its own
instance's mask; the loss is the mean cross-entropy of a batch, summed over members. Four losses are
measured after every epoch (Figure 2 of the paper):

- *masked*: training items under their own masks, what the optimiser minimises;
- *flipped*: training items under their flipped masks, the sub-network that never saw them;
- *validation*: the full network;
- *unowned*: validation items under masks that no training item owns. To the item its flipped mask
  is such a mask too, so without leaks flipped and unowned agree in expectation.

Training stops when the validation loss has not fallen for `patience` epochs. The last epoch whose
validation loss is within one standard error of the best one's (of the paired difference, over
validation items) is kept: among epochs that the validation set cannot tell apart, it has learned
most from its training items. `Recipe.keep` may choose another. A checkpoint after every epoch holds
everything that the next one needs, and batch orders depend only on (seed, epoch, member), so a
resumed run gives the same bits as one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from turnover.attribution.device import at_least_float32
from turnover.attribution.ensemble import Members
from turnover.attribution.masks import MAX_ID, UNOWNED, derive_seed
from turnover.attribution.scope import turnover
from turnover.attribution.state import load_trained, trained_state
from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.storage.schema import CURVES
from turnover.training.checkpoint import Trainee, load_checkpoint, save_checkpoint
from turnover.training.teams import Team, one_rank, shared_norms

_ORDER, _DROPOUT, _AUGMENT = 4, 5, 6
_MOVED = 4
_ITEM_LOSSES = ("masked_items", "flipped_items", "validation_items")
_EVALUATION_ROWS = 512


@dataclass(frozen=True)
class Split:
    """Rows as tensors on the training device: inputs `(N, …)`, labels `(N,)`."""

    inputs: Tensor
    labels: Tensor

    def take(self, rows: slice | Tensor) -> Split:
        """Some of the rows; their numbers may be on another device."""
        chosen = rows.to(self.labels.device) if isinstance(rows, Tensor) else rows
        return Split(self.inputs[chosen], self.labels[chosen])


@dataclass
class History:
    """Losses in nats per finished epoch: the mean of each curve, and those of each training and
    validation item.
    """

    curves: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CURVES})
    accuracy: list[float] = field(default_factory=list)
    masked_items: list[np.ndarray] = field(default_factory=list)
    flipped_items: list[np.ndarray] = field(default_factory=list)
    validation_items: list[np.ndarray] = field(default_factory=list)
    keep: str = "learned"

    @property
    def epochs(self) -> int:
        return len(self.accuracy)

    @property
    def best(self) -> int:
        """Number (from 0) of the epoch with the lowest validation loss."""
        return int(np.argmin(self.curves["validation"]))

    @property
    def kept(self) -> int:
        """Number (from 0) of the epoch that `Recipe.keep` names; `learned`: the last whose
        validation loss is within one standard error of the best.
        """
        if self.keep != "learned":
            return self.best if self.keep == "best" else self.epochs - 1
        best = self.validation_items[self.best]
        excess = np.stack(self.validation_items) - best
        error = excess.std(1) / np.sqrt(len(best))
        return int(np.flatnonzero(excess.mean(1) <= error)[-1])


def item_losses(
    model: Members, split: Split, ids: Tensor | None = None, flipped: bool = False
) -> Tensor:
    """Cross-entropy of each member on each row, `(K, N)` in nats; under the rows' masks if ids are
    given.
    """
    return _evaluated(
        model,
        split.inputs,
        lambda logits, rows: _member_losses(logits, split.labels[rows]),
        ids,
        flipped,
    )


def _member_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy `(K, B)` of logits `(K, B, C)`."""
    return nn.functional.cross_entropy(
        logits.transpose(1, 2), labels.expand(len(logits), -1), reduction="none"
    )


def validate(model: Members, split: Split) -> tuple[Tensor, float]:
    """`item_losses` and `accuracy` of the full network, from one pass."""
    judged = _judged(model, split)
    return judged[:, 0], _share_right(judged[:, 1:].mean(0), split.labels)


def _judged(model: Members, split: Split) -> Tensor:
    """Each member's losses and, below them, class probabilities on each row, `(K, 1 + C, N)`."""

    def judged(logits: Tensor, rows: Tensor) -> Tensor:
        return torch.cat(
            (
                _member_losses(logits, split.labels[rows]).unsqueeze(1),
                logits.softmax(-1).transpose(1, 2),
            ),
            1,
        )

    return _evaluated(model, split.inputs, judged)


def _share_right(chances: Tensor, labels: Tensor) -> float:
    """Accuracy of probabilities `(C, N)`."""
    return float((chances.argmax(0) == labels).float().mean())


def probabilities(
    model: Members, inputs: Tensor, ids: Tensor | None = None, flipped: bool = False
) -> Tensor:
    """Class probabilities `(N, classes)`, mean over members; of the full network, or under the
    masks of `ids` if given.
    """
    return _evaluated(
        model, inputs, lambda logits, rows: logits.softmax(-1).mean(0).T, ids, flipped
    ).T


def _evaluated(
    model: Members,
    inputs: Tensor,
    compute: Callable[[Tensor, Tensor], Tensor],
    ids: Tensor | None = None,
    flipped: bool = False,
) -> Tensor:
    """The results `(…, N)` of `compute`, which maps logits `(K, B, C)` and their row numbers to
    `(…, B)`; rows run in the order that the model evaluates fastest.
    """
    order, parts = model.reading_order(inputs), []
    with torch.inference_mode():
        for rows in order.split(_EVALUATION_ROWS):
            with turnover(ids[rows.to(ids.device)], flipped) if ids is not None else nullcontext():
                parts.append(compute(at_least_float32(model(inputs[rows])), rows))
        return torch.cat(parts, -1)[..., order.argsort()]


def accuracy(model: Members, split: Split) -> float:
    """Share of rows whose most probable class (mean over members) is the label."""
    return float((probabilities(model, split.inputs).argmax(-1) == split.labels).float().mean())


def epoch_order(rows: int, seed: int, member: int, epoch: int) -> Tensor:
    """The order in which a member sees the training items in an epoch."""
    return torch.randperm(
        rows, generator=torch.Generator().manual_seed(derive_seed(seed, member, _ORDER, epoch))
    )


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Batches `(…, size)` of an order `(…, n)`; a last batch of a single item, which no batch
    norm can learn from, joins the one before it.
    """
    parts = list(order.split(size, dim=-1))
    if size > 1 and len(parts) > 1 and parts[-1].shape[-1] == 1:
        parts[-2:] = [torch.cat(parts[-2:], -1)]
    return parts


def augmented(images: Tensor, random: torch.Generator) -> Tensor:
    """Images `(B, C, H, W)` shifted by up to four pixels and mirrored at random, the usual
    augmentation of small images; masks stay the instance's own.
    """
    rows, channels, height, width = images.shape
    down, right = torch.randint(0, 2 * _MOVED + 1, (2, rows), generator=random).to(images.device)
    mirrored = torch.rand(rows, generator=random).to(images.device) < 0.5
    columns = torch.arange(width, device=images.device).expand(rows, -1)
    columns = right.unsqueeze(1) + torch.where(mirrored.unsqueeze(1), columns.flip(1), columns)
    lines = down.unsqueeze(1) + torch.arange(height, device=images.device)
    padded = nn.functional.pad(images, (_MOVED,) * 4)
    whole = (
        torch.arange(rows, device=images.device).view(-1, 1, 1, 1),
        torch.arange(channels, device=images.device).view(1, -1, 1, 1),
    )
    return padded[(*whole, lines.view(rows, 1, -1, 1), columns.view(rows, 1, 1, -1))]


def _of_this_rank(team: Team) -> list[int]:
    """Numbers that make this rank's random draws differ from those of others, which would otherwise
    drop the same units; none on the first, which draws as one process does.
    """
    if team.rank:
        return [team.members.start, team.rank]
    return [team.members.start] if team.members.start else []


def train_epoch(
    model: Members,
    optimizer: torch.optim.Optimizer,
    train: Split,
    recipe: Recipe,
    epoch: int,
    orders: Tensor,
    team: Team | None = None,
) -> None:
    """Run all steps of one epoch and leave the model in evaluation mode.

    `orders` `(K, n)` are each member's training items in order; `team` are the ranks that train
    these members, by default this one alone.

    Raises:
        TurnoverError: if the user's own code fails, or a batch norm gets a batch of one item.
    """
    team = team or one_rank(model.members)
    with torch.random.fork_rng():
        # for ordinary dropout, resumed or not
        torch.manual_seed(derive_seed(recipe.seed, _DROPOUT, epoch, *_of_this_rank(team)))
        randoms = [
            torch.Generator().manual_seed(derive_seed(recipe.seed, _AUGMENT, epoch, member))
            for member in team.members
        ]
        with model.failing():
            model.train()
            _train_epoch(
                model,
                optimizer,
                train,
                recipe,
                epoch,
                orders.to(train.labels.device),
                randoms,
                team,
            )
            model.eval()


def _train_epoch(
    model: Members,
    optimizer: torch.optim.Optimizer,
    train: Split,
    recipe: Recipe,
    epoch: int,
    orders: Tensor,
    randoms: Sequence[torch.Generator],
    team: Team,
) -> None:
    autocast = torch.autocast("cuda", torch.bfloat16) if train.labels.is_cuda else nullcontext()
    steps = batches(orders, recipe.batch)
    for step, ids in enumerate(steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(epoch + step / len(steps))
        inputs = train.inputs[ids]
        if recipe.augment:
            inputs = torch.stack(
                [
                    augmented(member_images, random)
                    for member_images, random in zip(inputs, randoms, strict=True)
                ]
            )
        owners = (
            torch.stack(
                [
                    torch.randint(UNOWNED, MAX_ID, ids.shape[1:], generator=random)
                    for random in randoms
                ]
            ).to(ids.device)
            if recipe.fresh
            else ids
        )
        count, part = ids.shape[1], team.part(ids.shape[1])
        optimizer.zero_grad()
        with shared_norms(model, team, part.weight):
            with turnover(owners[:, part.rows]) if recipe.masked else nullcontext(), autocast:
                logits = at_least_float32(model.member_rows(inputs[:, part.rows]))
                losses = nn.functional.cross_entropy(
                    logits.flatten(0, 1),
                    train.labels[ids[:, part.rows]].flatten(),
                    reduction="none",
                )
                loss = (
                    losses.view(len(ids), -1).sum(1) * part.weight / count
                ).sum()  # a member's share has the same bits in any team
            loss.backward()
        team.all_reduce_gradients(model)
        optimizer.step()


def _measure(
    model: Members, team: Team, train: Split, validation: Split, history: History, owned: bool
) -> None:
    """Append the losses after an epoch, means over the members of all ranks; if instances own no
    masks, the losses under masks mean nothing and are NaN.
    """
    count, seen = len(train.labels), len(validation.labels)

    def losses_of(split: Split, ids: Tensor, flipped: bool = False) -> Tensor:
        return team.all_gather(
            len(ids), lambda rows: item_losses(model, split.take(rows), ids[rows], flipped)
        )

    parts = [team.all_gather(seen, lambda rows: _judged(model, validation.take(rows))).flatten(1)]
    if owned:
        train_ids, unowned_ids = torch.arange(count), UNOWNED + torch.arange(seen)
        parts += [
            losses_of(train, train_ids),
            losses_of(train, train_ids, True),
            losses_of(validation, unowned_ids),
        ]
    means = team.mean(torch.cat(parts, 1))
    by_class, *under = means.split([part.shape[1] for part in parts])
    full = by_class.view(-1, seen)
    if not owned:
        under = [torch.full((size,), torch.nan) for size in (count, count, seen)]
    masked, flipped, unowned = under
    for name, losses in zip(CURVES, (masked, flipped, full[0], unowned), strict=True):
        history.curves[name].append(float(losses.mean()))
    for items, losses in zip(
        (history.masked_items, history.flipped_items, history.validation_items),
        (masked, flipped, full[0]),
        strict=True,
    ):
        items.append(losses.cpu().numpy())
    history.accuracy.append(_share_right(full[1:], validation.labels))


def measured(model: Members, train: Split, validation: Split) -> History:
    """The history of a model that was trained elsewhere: one epoch, with its current losses.

    Raises:
        TurnoverError: if a loss is not finite.
    """
    history = History(keep="last")
    _measure(model.eval(), one_rank(model.members), train, validation, history, owned=True)
    if not np.isfinite([losses[-1] for losses in history.curves.values()]).all():
        raise TurnoverError(
            "a loss is not finite; check the weights, and the inputs of both splits, for infinite "
            "or missing values"
        )
    return history


def fit(
    model: Members,
    train: Split,
    validation: Split,
    recipe: Recipe,
    checkpoint: Path | None = None,
    progress: Callable[[History], object] | None = None,
    *,
    team: Team | None = None,
) -> History:
    """Train `model` in place and leave it at the epoch that `History.kept` names.

    Training item i has instance id i. With a `checkpoint` path, the state after each epoch is saved
    there, and training resumes from it if it exists. On several ranks `model` holds the team's
    share of the members; the losses, and so all decisions, are the same on every rank.

    Raises:
        TurnoverError: if the checkpoint was made by another recipe or model, is damaged, or the
            loss is not finite; or as `train_epoch`.
    """
    with model.failing():
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
    best = {name: value.clone() for name, value in trained_state(model).items()}
    history, owned = History(keep=recipe.keep), recipe.masked and not recipe.fresh
    team = team or one_rank(model.members)
    trainee = Trainee(model, optimizer, recipe, team)
    if checkpoint is not None and checkpoint.exists():
        facts, best, items = load_checkpoint(checkpoint, trainee, _ITEM_LOSSES)
        history = History(
            facts["curves"],
            facts["accuracy"],
            **{name: list(losses.numpy()) for name, losses in items.items()},
            keep=recipe.keep,
        )
    while history.epochs < recipe.epochs and (
        recipe.decay or not history.epochs or history.epochs - 1 - history.best < recipe.patience
    ):
        orders = [
            epoch_order(len(train.labels), recipe.seed, member, history.epochs)
            for member in team.members
        ]
        team.barrier()
        team.ranks.at(
            f"epoch {history.epochs + 1}, members {team.members.start + 1} to {team.members.stop}"
        )
        train_epoch(model, optimizer, train, recipe, history.epochs, torch.stack(orders), team)
        _measure(model, team, train, validation, history, owned)
        if not np.isfinite(
            [losses[-1] for name, losses in history.curves.items() if owned or name == "validation"]
        ).all():
            raise TurnoverError(
                f"a loss is not finite after epoch {history.epochs}; check the inputs of both "
                "splits for infinite or missing values"
            )
        if history.kept == history.epochs - 1:
            best = {name: value.clone() for name, value in trained_state(model).items()}
        if checkpoint is not None:
            items = {
                name: torch.from_numpy(np.stack(getattr(history, name))) for name in _ITEM_LOSSES
            }
            save_checkpoint(
                checkpoint,
                trainee,
                best,
                items,
                {"curves": history.curves, "accuracy": history.accuracy},
            )
        if progress:
            progress(history)
    load_trained(model, best)
    model.eval()
    return history
