"""A share of the items for validation: of every class, and no content on both sides."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

SHARE = 0.2


def split_off(labels: np.ndarray, contents: Sequence[Hashable], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train and to validate on, each in order: about `SHARE` of each class, drawn by the seed.

    Rows of the same content stay together. A class of one content is trained on only; of one with more, some is validated on.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, content in enumerate(contents):
        groups.setdefault(content, []).append(row)
    by_class: dict[int, list[list[int]]] = {}
    for rows in groups.values():
        by_class.setdefault(int(labels[rows[0]]), []).append(rows)
    rng, chosen = np.random.default_rng(seed), list[int]()
    for number in sorted(by_class):
        own = by_class[number]
        count = max(1, int(SHARE * len(own) + 0.5)) if len(own) > 1 else 0
        chosen += [row for place in rng.permutation(len(own))[:count] for row in own[place]]
    validation = np.sort(np.array(chosen, np.int64))
    return np.setdiff1d(np.arange(len(labels)), validation), validation
