"""The training loop, its curves, checkpoints and resume.

All K members take a step together, each on a batch of its own order, each row under its own
instance's mask; the loss is the mean cross-entropy of a batch, summed over members. Four losses are
measured after every epoch (Figure 2 of the paper):

- *masked*: training items under their own masks, what the optimiser minimises;
- *flipped*: training items under their flipped masks, the sub-network that never saw them;
- *validation*: the full network, with batch norms' statistics measured without masks;
- *unowned*: validation items, each under the mask that an id of its own gives: one that no training
  item has, or, with shared masks, that of the cohort that the id falls into. It is a half of the
  network that never saw the item, as a flipped mask is to a training item, so without leaks flipped
  and unowned agree in expectation.

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
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from turnover.attribution.device import at_least_float32
from turnover.attribution.ensemble import Members
from turnover.attribution.masks import MAX_ID, UNOWNED, derive_seed
from turnover.attribution.norms import settle_norms
from turnover.attribution.scope import turnover
from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.training.checkpoint import Trainee, load_checkpoint, save_checkpoint
from turnover.training.history import CHANCES, HISTORY, History, share_right

_ORDER, _DROPOUT, _AUGMENT = 4, 5, 6
_MOVED = 4
_EVALUATION_ROWS = 512
_MEASURED = 256
"""Rows of a batch, of each member's own, on which batch norms are measured, or more."""


@dataclass(frozen=True)
class Split:
    """Rows as tensors on the training device: inputs `(N, …)`, labels `(N,)`."""

    inputs: Tensor
    labels: Tensor

    def take(self, rows: slice | Tensor) -> Split:
        """Some of the rows; their numbers may be on another device."""
        chosen = rows.to(self.labels.device) if isinstance(rows, Tensor) else rows
        return Split(self.inputs[chosen], self.labels[chosen])


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
    return judged[:, 0], share_right(judged[:, 1:].mean(0), split.labels)


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


def train_epoch(
    model: Members,
    optimizer: torch.optim.Optimizer,
    train: Split,
    recipe: Recipe,
    epoch: int,
    orders: Tensor,
    first: int = 0,
) -> None:
    """Run all steps of one epoch, measure the batch norms' statistics without masks, and leave the
    model in evaluation mode.

    `orders` `(K, n)` are each member's training items in order; `first` is the number of the
    first member.

    Raises:
        TurnoverError: if the user's own code fails, or a batch norm gets a batch of one item.
    """
    with torch.random.fork_rng():
        # for ordinary dropout, resumed or not
        torch.manual_seed(derive_seed(recipe.seed, _DROPOUT, epoch, *([first] if first else [])))
        randoms = [
            torch.Generator().manual_seed(derive_seed(recipe.seed, _AUGMENT, epoch, member))
            for member in range(first, first + model.members)
        ]
        with model.failing():
            model.train()
            orders = orders.to(train.labels.device)
            try:
                _train_epoch(model, optimizer, train, recipe, epoch, orders, randoms)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise TurnoverError(
                    "a batch norm cannot learn from a batch of one item; train on more items "
                    "(--limit)"
                ) from None
            model.eval()
            parts = (train.inputs[ids] for ids in batches(orders, max(recipe.batch, _MEASURED)))
            settle_norms(model, parts if recipe.masked else None, model.member_rows)


def _train_epoch(
    model: Members,
    optimizer: torch.optim.Optimizer,
    train: Split,
    recipe: Recipe,
    epoch: int,
    orders: Tensor,
    randoms: Sequence[torch.Generator],
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
        optimizer.zero_grad()
        with turnover(owners) if recipe.masked else nullcontext(), autocast:
            logits = at_least_float32(model.member_rows(inputs))
            losses = nn.functional.cross_entropy(
                logits.flatten(0, 1), train.labels[ids].flatten(), reduction="none"
            )
            # first per member: its gradients have the same bits whoever else is trained
            loss = losses.view(ids.shape).mean(1).sum()
        loss.backward()
        optimizer.step()


def member_losses(
    model: Members, train: Split, validation: Split, owned: bool = True
) -> dict[str, Tensor]:
    """Each member's losses on each item, `(K, N)` by the names in `CURVES`, and class probabilities
    of the validation items, `(K, C, N)`; the losses under masks are NaN if nobody owns masks.
    """
    count, seen, judged = len(train.labels), len(validation.labels), _judged(model, validation)
    losses = {"validation": judged[:, 0], CHANCES: judged[:, 1:]}
    if owned:
        for name in ("masked", "flipped"):
            losses[name] = item_losses(model, train, torch.arange(count), name == "flipped")
        losses["unowned"] = item_losses(model, validation, UNOWNED + torch.arange(seen))
    else:
        for name, size in (("masked", count), ("flipped", count), ("unowned", seen)):
            losses[name] = torch.full((model.members, size), torch.nan)
    return losses


def measured(model: Members, train: Split, validation: Split) -> History:
    """The history of a model that was trained elsewhere: one epoch, with its current losses.

    Raises:
        TurnoverError: if a loss is not finite.
    """
    history = History(keep="last")
    history.append(member_losses(model.eval(), train, validation), validation.labels)
    return history


def next_epoch(
    trainee: Trainee, train: Split, validation: Split, epoch: int, owned: bool
) -> dict[str, Tensor]:
    """Train for an epoch, numbered from 0; returns its `member_losses`. Training item i has
    instance id i.
    """
    model, recipe, first = trainee.model, trainee.recipe, trainee.first
    orders = [
        epoch_order(len(train.labels), recipe.seed, member, epoch)
        for member in range(first, first + model.members)
    ]
    train_epoch(model, trainee.optimizer, train, recipe, epoch, torch.stack(orders), first)
    return member_losses(model, train, validation, owned)


def fit(
    model: Members,
    train: Split,
    validation: Split,
    recipe: Recipe,
    checkpoint: Path | None = None,
    progress: Callable[[History], object] | None = None,
) -> History:
    """Train `model` in place and leave it at the epoch that `History.kept` names.

    Training item i has instance id i. With a `checkpoint` path, the state after each epoch is saved
    there, and training resumes from it if it exists.

    Raises:
        TurnoverError: if the checkpoint was made by another recipe or model, is damaged, or the
            loss is not finite; or as `train_epoch`.
    """
    history, trainee = History.of(recipe), Trainee(model, recipe)
    if checkpoint is not None and checkpoint.exists():
        tensors, facts = load_checkpoint(checkpoint, trainee.made_with, HISTORY)
        trainee.load(tensors)
        history.load(tensors, facts)
    while history.goes_on(recipe):
        epoch = history.epochs
        history.append(
            next_epoch(trainee, train, validation, epoch, history.owned), validation.labels
        )
        if history.kept == epoch:
            trainee.keep()
        if checkpoint is not None:
            items, facts = history.saved()
            save_checkpoint(checkpoint, trainee.made_with, trainee.tensors() | items, **facts)
        if progress:
            progress(history)
    trainee.finish()
    return history
