"""Models trained again on random halves of the training set, many at once: the truth that group influences predict.

Half h is trained S times, as members 0 … S − 1 of the run's seed: every half has the same S starts, and batch orders that
depend on member and epoch alone, so that two halves differ by their items and by nothing else that could be held still. Recipe and number of epochs are
those of the run's plain twin, or of the run itself where turn-over dropout stays on. All models of a block are members of
one model (`core.models.members`): each takes its own batches from its own rows, and no model feels another, so model
(h, s) is the one that would be trained alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from core.fidelity.members import some_members
from core.fidelity.store import Store
from core.fidelity.subject import Subject
from core.masks import derive_seed
from core.models.ensemble import Ensemble
from core.models.members import Members
from core.progress import Advance, bar
from core.rivals.losses import row_bytes
from core.training import epoch_order, item_losses, train_epoch

_HALVES = 11
_TOGETHER = 60
_BATCH_BYTES = 2**30
_COPIES = 3  # of each layer's result: itself, its gradient, and one on the way


def draw_halves(total: int, count: int, seed: int) -> np.ndarray:
    """Training positions of `count` random halves, `(count, total // 2)`, rising in each."""
    rng = np.random.default_rng(derive_seed(seed, _HALVES))
    return np.stack([np.sort(rng.permutation(total)[: total // 2]) for _ in range(count)])


def retrained_losses(subject: Subject, halves: np.ndarray, seeds: int, masked: bool = False) -> np.ndarray:
    """Loss in nats of every target after training on every half, `(seeds, halves, T)`.

    Blocks of halves are kept in the run's folder as soon as they are trained, and are not trained again.

    Raises:
        TurnoverError: if a kept block was changed, or training diverges.
    """
    few, epochs = subject.untrained(seeds), subject.epochs(masked)
    rows = torch.from_numpy(halves)
    blocks = rows.split(_block_size(few, subject, seeds))
    settings = {"targets": subject.positions, "halves": len(halves), "seeds": seeds, "masked": masked, "epochs": epochs}
    store = Store(subject.run, "halves", settings)
    names = [f"block-{number:03d}" for number in range(len(blocks))]
    missing = [(name, block) for name, block in zip(names, blocks, strict=True) if name not in store]
    label = f"{subject.run.name}: halves{' with turn-over dropout' if masked else ''}"
    if missing:
        with bar(sum(len(block) for _, block in missing) * seeds * epochs, label, "model epochs") as advance:
            for name, block in missing:
                store.keep(name, _train_block(few, subject, block, masked, epochs, advance))
    return np.concatenate([store.load(name)[0] for name in names], 1)


def _block_size(few: Members, subject: Subject, seeds: int) -> int:
    """How many halves train at once: deep models one by one, small ones as many as a batch of each fits into memory for."""
    if isinstance(few, Ensemble):
        return 1
    batch = _COPIES * subject.recipe.batch * row_bytes(few, subject.train.inputs)
    return max(1, min(_TOGETHER // seeds, _BATCH_BYTES // batch))


def _train_block(few: Members, subject: Subject, rows: torch.Tensor, masked: bool, epochs: int, advance: Advance) -> np.ndarray:
    """Losses `(seeds, h, T)` of the members `few`, each trained on every one of some halves `(h, n)`."""
    seeds, (halves, size) = few.members, rows.shape
    model = some_members(few, [*range(seeds)] * halves)
    recipe = replace(subject.recipe, masked=masked)
    optimizer = torch.optim.AdamW(
        [own for own in model.parameters() if own.requires_grad], lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    own = rows.repeat_interleave(seeds, 0)
    for epoch in range(epochs):
        orders = torch.stack([epoch_order(size, recipe.seed, seed, epoch) for seed in range(seeds)]).repeat(halves, 1)
        train_epoch(model, optimizer, subject.train, recipe, epoch, own.gather(1, orders))
        advance(model.members)
    losses = item_losses(model, subject.targets).unflatten(0, (halves, seeds))
    return losses.transpose(0, 1).cpu().numpy()
