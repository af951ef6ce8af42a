"""Models trained again on parts of the training set, many at once, for proofs and measures.

Each set of training items is trained on S times, as members 0 … S − 1 of the run's seed: every set
has the same S starts, and batch orders that depend on member, epoch and size alone, so that two
sets of one size differ by their items only. A set may have other items for each of the S. Recipe
and number of epochs are those of the run's plain twin, or of the run itself where turn-over dropout
stays on. All models of a block are members of one model (`turnover.attribution.ensemble`): each
takes its own batches from its own rows, and no model affects another, so model (set, seed) is the
one that would be trained alone.

`retrained_losses` trains on random halves: the truth that summed influences predict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from turnover.attribution.device import row_bytes
from turnover.attribution.ensemble import Ensemble, Members, some_members
from turnover.attribution.masks import derive_seed
from turnover.errors import TurnoverError
from turnover.jobs.tasks import Task, open_workers
from turnover.runs.run import Run
from turnover.storage.progress import Advance, bar
from turnover.training.checkpoint import new_optimizer
from turnover.training.fit import Split, epoch_order, item_losses, train_epoch
from turnover.workflows.targets import Targets

_TOGETHER = 60
_BATCH_BYTES = 2**30
_COPIES = 3  # of each layer's result: itself, its gradient, and one on the way
_SAME = ("run", "device", "positions", "meaning", "seeds")


def _log_probabilities(model: Members, targets: Split) -> torch.Tensor:
    with torch.inference_mode():
        return model(targets.inputs).log_softmax(-1)


LOOKS: dict[str, Callable[[Members, Split], torch.Tensor]] = {
    "losses": item_losses,
    "log probabilities": _log_probabilities,
}
"""What is kept of K models on the targets: `(K, …)`."""


def retrained(
    task: Targets,
    sets: Mapping[str, np.ndarray],
    seeds: int,
    kept: tuple[str, Mapping[str, Any]],
    look: str,
    masked: bool = False,
) -> dict[str, np.ndarray]:
    """What a look of `LOOKS` sees of models trained on some sets of training positions: sets `(n,
    size)`, or `(n, seeds, size)` where each seed has its own items, by name; answers `(seeds, n,
    …)`.

    Blocks of sets are tasks (`turnover.jobs.tasks`). They are kept in the store that `kept` names
    (`Targets.store`) as soon as they are trained, and are not trained again.

    Raises:
        TurnoverError: if a kept block is damaged, or training diverges.
    """
    starts, epochs, store = task.untrained(seeds), task.epochs(masked), task.store(*kept)
    size = _block_size(starts, task, seeds)
    arguments = {
        "run": str(task.run.folder.absolute()),
        "device": str(task.device),
        "positions": task.positions,
        "meaning": task.meaning,
        "seeds": seeds,
    }
    details = {"store": kept, "look": look, "masked": masked}
    tasks = {
        name: [
            Task(
                "retrain",
                {**arguments, **details, "sets": name, "rows": [first, first + size]},
                store.path(f"{name}-{first // size:03d}"),
                min(size, len(positions) - first) * seeds * epochs,
            )
            for first in range(0, len(positions), size)
        ]
        for name, positions in sets.items()
    }
    with store.filling():
        blocks = [block for part in tasks.values() for block in part]
        missing = [block for block in blocks if block.result.stem not in store]
        for name in {block.arguments["sets"] for block in missing}:
            store.save(f"{name}-sets", {"positions": sets[name]})
        _train_blocks(task, starts, missing, len(blocks), masked)
    return {
        name: np.concatenate([store.load(block.result.stem)[0]["seen"] for block in blocks], 1)
        for name, blocks in tasks.items()
    }


def _train_blocks(
    task: Targets, starts: Members, missing: Sequence[Task], of: int, masked: bool
) -> None:
    """Train the missing blocks of so many, with the task and the starts that this process has."""
    if not missing:
        return
    label = f"{task.run.name}: retraining{' with turn-over dropout' if masked else ''}"
    units, deep = round(sum(block.size for block in missing)), isinstance(starts, Ensemble)
    _here[_key(missing[0].arguments)] = task, starts
    try:
        with (
            open_workers(of, task.device, task.cluster, deep) as workers,
            bar(units, label, "model epochs") as advance,
        ):
            for _ in workers.run(missing, advance):
                pass
    finally:
        _here.clear()


_here: dict[str, tuple[Targets, Members]] = {}
"""The task whose models this process trains, and their starts."""


def _key(arguments: Mapping[str, Any]) -> str:
    return json.dumps([arguments[name] for name in _SAME])


def retrain_block(arguments: Mapping[str, Any], advance: Advance) -> None:
    """Train the models of a block of sets, and keep what is seen of them."""
    key, seeds = _key(arguments), arguments["seeds"]
    if key not in _here:
        _here.clear()
        loaded = Targets(
            Run(Path(arguments["run"])),
            torch.device(arguments["device"]),
            arguments["positions"],
            arguments["meaning"],
        )
        _here[key] = loaded, loaded.untrained(seeds)
    task, starts = _here[key]
    store, (first, stop) = task.store(*arguments["store"]), arguments["rows"]
    rows = torch.from_numpy(store.load(f"{arguments['sets']}-sets")[0]["positions"][first:stop])
    masked = arguments["masked"]
    model = _train_block(starts, task, rows, masked, task.epochs(masked), advance)
    seen = LOOKS[arguments["look"]](model, task.targets)
    if not seen.isfinite().all():
        raise TurnoverError(
            f"{task.run.folder}: training again diverged with learning rate "
            f"{task.recipe.learning_rate:g}"
        )
    by_seed = seen.unflatten(0, (len(rows), seeds)).transpose(0, 1)
    name = f"{arguments['sets']}-{first // (stop - first):03d}"
    store.save(name, {"seen": by_seed.cpu().numpy()})


def _block_size(starts: Members, task: Targets, seeds: int) -> int:
    """How many sets train at once: deep models one by one, small ones as many as fit into memory
    with their batches.
    """
    if isinstance(starts, Ensemble):
        return 1
    batch = _COPIES * task.recipe.batch * row_bytes(starts, task.train.inputs)
    return max(1, min(_TOGETHER // seeds, _BATCH_BYTES // batch))


def _train_block(
    starts: Members,
    task: Targets,
    rows: torch.Tensor,
    masked: bool,
    epochs: int,
    advance: Advance,
) -> Members:
    """Train each of the members `starts` on every one of some sets `(n, size)`, or on its own of
    each `(n, seeds, size)`; the models of a set are neighbours.
    """
    seeds, sets, size = starts.members, len(rows), rows.shape[-1]
    model = some_members(starts, [*range(seeds)] * sets)
    recipe = replace(task.recipe, masked=masked)
    optimizer = new_optimizer(model, recipe, fused=True)
    member_rows = (rows if rows.ndim == 3 else rows[:, None].expand(-1, seeds, -1)).flatten(0, 1)
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
    task: Targets, halves: np.ndarray, seeds: int, masked: bool = False
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
    kept = "halves", settings
    return retrained(task, {"block": halves}, seeds, kept, "losses", masked)["block"]
