"""Random halves of the training set, and the models trained again on each: the truth that group influences predict."""

from __future__ import annotations

import numpy as np

from turnover.fidelity.retrained import retrained
from turnover.fidelity.store import Store
from turnover.fidelity.subject import Subject
from turnover.masks import derive_seed
from turnover.training import item_losses

_HALVES = 11


def draw_halves(total: int, count: int, seed: int) -> np.ndarray:
    """Training positions of `count` random halves, `(count, total // 2)`, rising in each."""
    rng = np.random.default_rng(derive_seed(seed, _HALVES))
    return np.stack([np.sort(rng.permutation(total)[: total // 2]) for _ in range(count)])


def retrained_losses(subject: Subject, halves: np.ndarray, seeds: int, masked: bool = False) -> np.ndarray:
    """Loss in nats of every target after training on every half, `(seeds, halves, T)`; kept in the run's folder, half by half.

    Raises:
        TurnoverError: if what was kept was changed, or training diverges.
    """
    settings = {**subject.asked, "halves": len(halves), "seeds": seeds, "masked": masked, "epochs": subject.epochs(masked)}
    store = Store(subject.run, "halves", settings)
    return retrained(subject, {"block": halves}, seeds, store, lambda model: item_losses(model, subject.targets), masked)["block"]
