"""Fit: the training loop, its curves, checkpoints and resume.

All K members take a step together, each on a batch of its own order, each row under its own instance's mask; the loss is
the mean cross-entropy of a batch, summed over members. Four losses are measured after every epoch (Figure 2 of the paper):

- *masked*: training items under their own masks, what the optimiser sees fall;
- *flipped*: training items under their flipped masks, the half that never saw them;
- *validation*: the full network;
- *unowned*: validation items under masks that no training item owns. A flipped mask is such a mask as well, as far as
  the item is concerned, so without leaks flipped and unowned agree in expectation.

Training stops when the validation loss has not fallen for `patience` epochs. Kept is the last epoch whose validation loss
is within one standard error of the best one's (of the paired difference, over validation items): among epochs that the
validation set cannot tell apart, the one that has learned most from its training items says most about them. `Recipe.keep`
may name another. A checkpoint
after every epoch holds everything that the next one needs, and batch orders depend only on (seed, epoch, member), so a
resumed run gives the same bits as one that was never stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from core.atomic import write_atomic
from core.dropout import turnover, turnover_layers
from core.errors import TurnoverError
from core.masks import MAX_ID, UNOWNED, derive_seed
from core.models.members import Members
from core.models.state import load_trained, trained_state
from core.recipe import Recipe

CURVES = ("masked", "flipped", "validation", "unowned")
_ORDER, _DROPOUT, _AUGMENT = 4, 5, 6
_MOVED = 4
_ITEM_LOSSES = ("masked_items", "flipped_items", "validation_items")
_EVALUATION_ROWS = 512


@dataclass(frozen=True)
class Split:
    """Rows as tensors on the training device: inputs `(N, …)`, labels `(N,)`."""

    inputs: Tensor
    labels: Tensor


@dataclass
class History:
    """Losses in nats: each curve one mean a finished epoch, and each training item's two losses a finished epoch."""

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
        """Number (from 0) of the epoch that `Recipe.keep` names; `learned`: the last whose validation loss is within one standard error of the best."""
        if self.keep != "learned":
            return self.best if self.keep == "best" else self.epochs - 1
        best = self.validation_items[self.best]
        excess = np.stack(self.validation_items) - best
        error = excess.std(1) / np.sqrt(len(best))
        return int(np.flatnonzero(excess.mean(1) <= error)[-1])


def item_losses(model: Members, split: Split, ids: Tensor | None = None, flipped: bool = False) -> Tensor:
    """Cross-entropy of each member on each row, `(K, N)` in nats; under the rows' masks if ids are given."""
    return _evaluated(model, split.inputs, lambda logits, rows: _member_losses(logits, split.labels[rows]), ids, flipped)


def _member_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy `(K, B)` of logits `(K, B, C)`."""
    return nn.functional.cross_entropy(logits.transpose(1, 2), labels.expand(len(logits), -1), reduction="none")


def validate(model: Members, split: Split) -> tuple[Tensor, float]:
    """`item_losses` and `accuracy` of the full network, from one pass."""

    def judged(logits: Tensor, rows: Tensor) -> Tensor:
        right = logits.softmax(-1).mean(0).argmax(-1) == split.labels[rows]
        return torch.cat((_member_losses(logits, split.labels[rows]), right[None]))

    losses = _evaluated(model, split.inputs, judged)
    return losses[:-1], float(losses[-1].mean())


def probabilities(model: Members, inputs: Tensor, ids: Tensor | None = None, flipped: bool = False) -> Tensor:
    """Class probabilities `(N, classes)`, mean over members; of the full network, or under the masks of `ids` if given."""
    return _evaluated(model, inputs, lambda logits, rows: logits.softmax(-1).mean(0).T, ids, flipped).T


def _evaluated(model: Members, inputs: Tensor, made: Callable[[Tensor, Tensor], Tensor], ids: Tensor | None = None, flipped: bool = False) -> Tensor:
    """What `made` makes `(…, B)` of logits `(K, B, C)` and their row numbers, put together `(…, N)`; rows run in the order that the model reads fastest."""
    order, parts = model.reading_order(inputs), []
    with torch.inference_mode():
        for rows in order.split(_EVALUATION_ROWS):
            with turnover(ids[rows.to(ids.device)], flipped) if ids is not None else nullcontext():
                parts.append(made(model(inputs[rows]), rows))
        return torch.cat(parts, -1)[..., order.argsort()]


def accuracy(model: Members, split: Split) -> float:
    """Share of rows whose most probable class (mean over members) is the label."""
    return float((probabilities(model, split.inputs).argmax(-1) == split.labels).float().mean())


def epoch_order(rows: int, seed: int, member: int, epoch: int) -> Tensor:
    """The order in which a member sees the training items in an epoch."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(derive_seed(seed, member, _ORDER, epoch)))


def augmented(images: Tensor, random: torch.Generator) -> Tensor:
    """Images `(B, C, H, W)` moved by up to four pixels and mirrored at random, the usual augmentation of small images; masks stay the instance's own."""
    rows, channels, height, width = images.shape
    down, right = torch.randint(0, 2 * _MOVED + 1, (2, rows), generator=random).to(images.device)
    mirrored = torch.rand(rows, generator=random).to(images.device) < 0.5
    columns = torch.arange(width, device=images.device).expand(rows, -1)
    columns = right.unsqueeze(1) + torch.where(mirrored.unsqueeze(1), columns.flip(1), columns)
    lines = down.unsqueeze(1) + torch.arange(height, device=images.device)
    padded = nn.functional.pad(images, (_MOVED,) * 4)
    whole = torch.arange(rows, device=images.device).view(-1, 1, 1, 1), torch.arange(channels, device=images.device).view(1, -1, 1, 1)
    return padded[(*whole, lines.view(rows, 1, -1, 1), columns.view(rows, 1, 1, -1))]


def train_epoch(model: Members, optimizer: torch.optim.Optimizer, train: Split, recipe: Recipe, epoch: int, orders: Tensor) -> None:
    """Take all steps of one epoch and leave the model in evaluation mode.

    `orders` `(K, n)` are each member's training items, one after the other.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(recipe.seed, _DROPOUT, epoch))  # for ordinary dropout, the same in a resumed run
        model.train()
        _train_epoch(model, optimizer, train, recipe, epoch, orders.to(train.labels.device))
    model.eval()


def _train_epoch(model: Members, optimizer: torch.optim.Optimizer, train: Split, recipe: Recipe, epoch: int, orders: Tensor) -> None:
    autocast = torch.autocast("cuda", torch.bfloat16) if train.labels.is_cuda else nullcontext()
    random = torch.Generator().manual_seed(derive_seed(recipe.seed, _AUGMENT, epoch))
    batches = orders.split(recipe.batch, dim=1)
    for step, ids in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(epoch + step / len(batches))
        inputs = train.inputs[ids]
        if recipe.augment:
            inputs = augmented(inputs.flatten(0, 1), random).view_as(inputs)
        owners = torch.randint(UNOWNED, MAX_ID, ids.shape, generator=random).to(ids.device) if recipe.fresh else ids
        with turnover(owners) if recipe.masked else nullcontext(), autocast:
            logits = model.member_rows(inputs)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), train.labels[ids].flatten()) * model.members
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _measure(model: Members, train: Split, validation: Split, history: History, owned: bool) -> None:
    """Append the losses after an epoch; if instances own no masks, the losses under masks mean nothing and are NaN."""
    by_member, share_right = validate(model, validation)
    full = by_member.mean(0)
    own, under = torch.arange(len(train.labels)), [torch.full((len(train.labels),), torch.nan)] * 2
    unowned = torch.tensor(torch.nan)
    if owned:
        under = [item_losses(model, train, own, flipped).mean(0) for flipped in (False, True)]
        unowned = item_losses(model, validation, UNOWNED + torch.arange(len(validation.labels)))
    for name, losses in zip(CURVES, (*under, full, unowned), strict=True):
        history.curves[name].append(float(losses.mean()))
    for items, losses in zip((history.masked_items, history.flipped_items, history.validation_items), (*under, full), strict=True):
        items.append(losses.cpu().numpy())
    history.accuracy.append(share_right)


def measured(model: Members, train: Split, validation: Split) -> History:
    """The history of a model that was trained elsewhere: one epoch, with the losses of now.

    Raises:
        TurnoverError: if a loss is not finite.
    """
    history = History(keep="last")
    _measure(model.eval(), train, validation, history, owned=True)
    if not np.isfinite([losses[-1] for losses in history.curves.values()]).all():
        raise TurnoverError("a loss is not finite; check the weights, and the inputs of both splits, for infinite or missing values")
    return history


def fit(
    model: Members,
    train: Split,
    validation: Split,
    recipe: Recipe,
    checkpoint: Path | None = None,
    progress: Callable[[History], object] | None = None,
) -> History:
    """Train `model` in place and leave it at the epoch that `History.kept` names.

    Training item i has instance id i. With a `checkpoint` path, the state after each epoch is kept there and training
    goes on from it if it exists.

    Raises:
        TurnoverError: if the checkpoint was made by another recipe or model, is damaged, or the loss is not finite.
    """
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    best = {name: value.clone() for name, value in trained_state(model).items()}
    history, owned = History(keep=recipe.keep), recipe.masked and not recipe.fresh
    if checkpoint is not None and checkpoint.exists():
        history, best = _load_checkpoint(checkpoint, model, optimizer, recipe)
    while history.epochs < recipe.epochs and (recipe.decay or not history.epochs or history.epochs - 1 - history.best < recipe.patience):
        orders = [epoch_order(len(train.labels), recipe.seed, member, history.epochs) for member in range(model.members)]
        train_epoch(model, optimizer, train, recipe, history.epochs, torch.stack(orders))
        _measure(model, train, validation, history, owned)
        if not np.isfinite([losses[-1] for name, losses in history.curves.items() if owned or name == "validation"]).all():
            raise TurnoverError(f"a loss is not finite after epoch {history.epochs}; check the inputs of both splits for infinite or missing values")
        if history.kept == history.epochs - 1:
            best = {name: value.clone() for name, value in trained_state(model).items()}
        if checkpoint is not None:
            _save_checkpoint(checkpoint, model, optimizer, recipe, history, best)
        if progress:
            progress(history)
    load_trained(model, best)
    model.eval()
    return history


def _made_with(model: Members, recipe: Recipe) -> dict[str, Any]:
    """What must be the same for a checkpoint to fit: the recipe, the tensors' shapes, and the masks, which leave no tensor."""
    shapes = {name: list(value.shape) for name, value in trained_state(model).items()}
    return {"recipe": asdict(recipe), "shapes": shapes, "masks": [repr(mask) for mask in turnover_layers(model)]}


def _save_checkpoint(path: Path, model: Members, optimizer: torch.optim.Optimizer, recipe: Recipe, history: History, best: dict[str, Tensor]) -> None:
    tensors = {f"model.{name}": value for name, value in trained_state(model).items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adamw.{number}.{name}": value for name, value in state.items()}
    tensors |= {name: torch.from_numpy(np.stack(getattr(history, name))) for name in _ITEM_LOSSES}
    facts = {"made_with": _made_with(model, recipe), "curves": history.curves, "accuracy": history.accuracy}
    whole = {name: value.contiguous() for name, value in tensors.items()}
    write_atomic(path, lambda beside: beside.write_bytes(save(whole, {"facts": json.dumps(facts)})))


def _load_checkpoint(path: Path, model: Members, optimizer: torch.optim.Optimizer, recipe: Recipe) -> tuple[History, dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            made_with, curves, accuracies = (facts[name] for name in ("made_with", "curves", "accuracy"))
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise TurnoverError(f"{path}: the checkpoint is damaged ({error}); delete it to train from the beginning") from None
    if made_with != _made_with(model, recipe):
        raise TurnoverError(f"{path}: the checkpoint was made with other settings; use the same settings to resume, or delete it")
    named: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind in named:
            named[kind][rest] = value
        elif kind == "adamw":
            number, _, moment = rest.partition(".")
            moments.setdefault(int(number), {})[moment] = value
    load_trained(model, named["model"])
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    items = {name: list(tensors[name].numpy()) for name in _ITEM_LOSSES}
    history = History(curves, accuracies, **items, keep=recipe.keep)
    return history, {name: value.to(next(model.parameters()).device) for name, value in named["best"].items()}
