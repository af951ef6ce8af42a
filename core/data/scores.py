"""Scores of other attribution engines: how much each training item did for each target.

A file holds a matrix with a row for each validation item and a column for each training item, in
the order of the run: `.npy`; `.npz` and `.safetensors` with an array `scores`, or only one array;
`.parquet` with numeric columns alone. Or it is a table, parquet or CSV, with the columns `target`,
`item` and `score`: ids, and the strongest items of each target; what is not named counts as 0.

Engines do not agree on the sign, and nothing in a file tells it. So whoever names a file says what
a positive score means: that the item `helps`, it lowers the target's loss, or that it `hurts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pyarrow.parquet as pq

from turnover.data.tables.known import read_table
from turnover.errors import TurnoverError
from turnover.storage.atomic import looked_at

HELPS, HURTS = "helps", "hurts"
TRIPLES = ("target", "item", "score")
_ARRAY = "scores"
_SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet", ".csv")


def read_scores(
    path: Path, targets: Sequence[str], items: Sequence[str], positive: str
) -> np.ndarray:
    """Scores `(T, N)` in float32 of training items on targets, given by their ids; positive = the
    item lowers the target's loss.

    Raises:
        TurnoverError: for a file that cannot be read, another shape, scores that are not finite, or
            an id that nobody has.
    """
    if not looked_at(path).is_file():
        raise TurnoverError(f"{path}: no such file; name a file of scores")
    if path.suffix not in _SUFFIXES:
        raise TurnoverError(f"{path}: scores are read from {', '.join(_SUFFIXES)}; convert it")
    if path.suffix == ".csv" or (path.suffix == ".parquet" and {*TRIPLES} <= {*_columns(path)}):
        scores = _triples(path, targets, items)
    else:
        scores = _matrix(path)
    if scores.shape != (len(targets), len(items)):
        raise TurnoverError(
            f"{path}: scores of shape {scores.shape}, but the run has {len(targets):,} validation "
            f"items and {len(items):,} training items; give a row for each of the former and a "
            "column for each of the latter"
        )
    if len(wrong := np.argwhere(~np.isfinite(scores))):
        row, column = wrong[0].tolist()
        raise TurnoverError(
            f"{path}, row {row + 1}, column {column + 1}: {scores[row, column]} is not a finite "
            "number; correct it"
        )
    return scores if positive == HELPS else -scores


def _columns(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: object) -> TurnoverError:
    return TurnoverError(f"{path}: no scores that can be read ({error}); write it again")


def _matrix(path: Path) -> np.ndarray:
    try:
        values = _arrays(path)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise _unreadable(path, error) from None
    named = next(iter(values.values())) if len(values) == 1 else values.get(_ARRAY)
    if named is None or named.dtype.kind not in "fiu":
        raise TurnoverError(
            f"{path}: no array {_ARRAY!r} of numbers (it holds {', '.join(values) or 'nothing'}); "
            "write one"
        )
    return np.asarray(named, np.float32)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name."""
    if path.suffix == ".npy":
        return {_ARRAY: np.load(path, allow_pickle=False)}
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as kept:
            return dict(kept)
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return {_ARRAY: np.stack([column.to_numpy() for column in table.columns], 1)}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(error) from None


def _triples(path: Path, targets: Sequence[str], items: Sequence[str]) -> np.ndarray:
    table = read_table(path, TRIPLES)
    scores = np.zeros((len(targets), len(items)), np.float32)
    places = [{name: place for place, name in enumerate(ids)} for ids in (targets, items)]
    for row in range(len(table)):
        at = []
        for column, known in zip(TRIPLES, places, strict=False):
            name = str(table.columns[column][row])
            if name not in known:
                raise TurnoverError(
                    f"{table.where(row, column)}: the run has no "
                    f"{'validation' if column == 'target' else 'training'} item {name!r:.60}; "
                    "correct the id"
                )
            at.append(known[name])
        cell = table.columns["score"][row]
        try:
            scores[tuple(at)] = float(cell)
        except (TypeError, ValueError):
            raise TurnoverError(
                f"{table.where(row, 'score')}: {cell!r:.60} is not a number; correct it"
            ) from None
    return scores
