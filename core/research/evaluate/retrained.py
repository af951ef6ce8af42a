"""Models trained again on parts of the training set, many at once: the truth for several measures.

Each set of training items is trained on S times, as members 0 … S − 1 of the run's seed: every set
has the same S starts, and batch orders that depend on member, epoch and size alone, so that two
sets of one size differ by their items only. Recipe and number of epochs are those of the run's
plain twin, or of the run itself where turn-over dropout stays on. All models of a block are members
of one model (`turnover.attribution.ensemble`): each takes its own batches from its own rows, and no
model affects another, so model (set, seed) is the one that would be trained alone.

`retrained_losses` trains on random halves: the truth that summed influences predict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from turnover.attribution.ensemble import Ensemble, Members, some_members
from turnover.attribution.masks import derive_seed
from turnover.errors import TurnoverError
from turnover.research.baselines.losses import row_bytes
from turnover.research.evaluate.task import EvaluationTask
from turnover.storage.artifacts import Parts
from turnover.storage.progress import Advance, bar
from turnover.training.fit import epoch_order, item_losses, train_epoch

_TOGETHER = 60
_BATCH_BYTES = 2**30
_COPIES = 3  # of each layer's result: itself, its gradient, and one on the way

Look = Callable[[Members], torch.Tensor]
"""A function of K trained models: `(K, …)`."""


def retrained(
    task: EvaluationTask,
    sets: Mapping[str, np.ndarray],
    seeds: int,
    store: Parts,
    look: Look,
    masked: bool = False,
) -> dict[str, np.ndarray]:
    """What `look` sees of models trained on some sets of training positions: sets `(n, size)` by
    name, answers `(seeds, n, …)`.

    Blocks of sets are kept in the store as soon as they are trained, and are not trained again.

    Raises:
        TurnoverError: if a kept block is damaged, or training diverges.
    """
    starts, epochs = task.untrained(seeds), task.epochs(masked)
    size = _block_size(starts, task, seeds)
    blocks = {
        name: {
            f"{name}-{number:03d}": rows
            for number, rows in enumerate(torch.from_numpy(positions).split(size))
        }
        for name, positions in sets.items()
    }
    label = f"{task.run.name}: retraining{' with turn-over dropout' if masked else ''}"
    with store.filling():
        missing = {
            part: rows
            for parts in blocks.values()
            for part, rows in parts.items()
            if part not in store
        }
        if missing:
            with bar(
                sum(map(len, missing.values())) * seeds * epochs, label, "model epochs"
            ) as advance:
                for part, rows in missing.items():
                    seen = look(_train_block(starts, task, rows, masked, epochs, advance))
                    if not seen.isfinite().all():
                        raise TurnoverError(
                            f"{task.run.folder}: training again diverged with learning rate "
                            f"{task.recipe.learning_rate:g}"
                        )
                    by_seed = seen.unflatten(0, (len(rows), seeds)).transpose(0, 1)
                    store.save(part, {"seen": by_seed.cpu().numpy()})
    return {
        name: np.concatenate([store.load(part)[0]["seen"] for part in parts], 1)
        for name, parts in blocks.items()
    }


def _block_size(starts: Members, task: EvaluationTask, seeds: int) -> int:
    """How many sets train at once: deep models one by one, small ones as many as fit into memory
    with their batches.
    """
    if isinstance(starts, Ensemble):
        return 1
    batch = _COPIES * task.recipe.batch * row_bytes(starts, task.train.inputs)
    return max(1, min(_TOGETHER // seeds, _BATCH_BYTES // batch))


def _train_block(
    starts: Members,
    task: EvaluationTask,
    rows: torch.Tensor,
    masked: bool,
    epochs: int,
    advance: Advance,
) -> Members:
    """Train each of the members `starts` on every one of some sets `(n, size)`; the models of a set
    are neighbours.
    """
    seeds, (sets, size) = starts.members, rows.shape
    model = some_members(starts, [*range(seeds)] * sets)
    recipe = replace(task.recipe, masked=masked)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    member_rows = rows.repeat_interleave(seeds, 0)
    for epoch in range(epochs):
        orders = torch.stack(
            [epoch_order(size, recipe.seed, seed, epoch) for seed in range(seeds)]
        ).repeat(sets, 1)
        train_epoch(model, optimizer, task.train, recipe, epoch, member_rows.gather(1, orders))
        advance(model.members)
    return model


# Random halves

_HALVES = 11


def draw_halves(total: int, count: int, seed: int) -> np.ndarray:
    """Training positions of `count` random halves, `(count, total // 2)`, rising in each."""
    rng = np.random.default_rng(derive_seed(seed, _HALVES))
    return np.stack([np.sort(rng.permutation(total)[: total // 2]) for _ in range(count)])


def retrained_losses(
    task: EvaluationTask, halves: np.ndarray, seeds: int, masked: bool = False
) -> np.ndarray:
    """Loss in nats of every target after training on every half, `(seeds, halves, T)`; kept in the
    run's folder, half by half.

    Raises:
        TurnoverError: if what was kept was changed, or training diverges.
    """
    settings = {
        **task.asked,
        "halves": len(halves),
        "seeds": seeds,
        "masked": masked,
        "epochs": task.epochs(masked),
    }
    return retrained(
        task,
        {"block": halves},
        seeds,
        task.store("halves", settings),
        lambda model: item_losses(model, task.targets),
        masked,
    )["block"]
