"""Scores of other attribution engines, how much each training item did for each target, and the
predictions of the model that they explain.

A file holds a matrix with a row for each validation item and a column for each training item, in
the order of the run: `.npy`; `.npz` and `.safetensors` with an array `scores`, or only one array;
`.parquet` with numeric columns alone. Or it is a table, parquet or CSV, with the columns `target`,
`item` and `score`: ids, and the strongest items of each target; what is not named counts as 0.

Engines do not agree on the sign, and nothing in a file tells it. So whoever names a file says what
a positive score means: that the item `helps`, it lowers the target's loss, or that it `hurts`.

Predictions are a matrix `.npy` of class probabilities, or of class numbers; or a table, parquet or
CSV, with a column `id` and either `predicted`, class names, or a column of probabilities for each
class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pyarrow.parquet as pq

from turnover.data.tables.checks import check_column
from turnover.data.tables.known import label_column, read_table
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError
from turnover.storage.atomic import looked_at

HELPS, HURTS = "helps", "hurts"
TRUE, PREDICTED = "true", "predicted"
TRIPLES = ("target", "item", "score")
_ARRAY = "scores"
_SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet", ".csv")
_PREDICTIONS = (".npy", ".parquet", ".csv")
_OFF = 0.01
"""How far probabilities may be from a sum of 1."""


def read_scores(
    path: Path, targets: Sequence[str], items: Sequence[str], positive: str
) -> np.ndarray:
    """Scores `(T, N)` in float32 of training items on targets, given by their ids; positive = the
    item lowers the target's loss.

    Raises:
        TurnoverError: for a file that cannot be read, another shape, scores that are not finite, or
            an id that nobody has.
    """
    _check_file(path, "scores", _SUFFIXES)
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


def of_true_label(scores: np.ndarray, label: str, wrong: np.ndarray) -> np.ndarray:
    """Scores `(T, N)` of the loss of the true label, of such of the `label` that is named: what
    raises the one lowers, more or less, the other where a model is `wrong` `(T,)`.
    """
    return scores if label == TRUE else np.where(wrong[:, None], -scores, scores)


def read_predictions(path: Path, targets: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Class probabilities `(T, C)` in float32 of targets, given by their ids; where the file holds
    predicted labels alone, these count as certain.

    Raises:
        TurnoverError: for a file that cannot be read, another shape, what is no probability, a
            class or an id that nobody has, and targets without a prediction.
    """
    _check_file(path, "predictions", _PREDICTIONS)
    chances = _matrix(path) if path.suffix == ".npy" else _by_id(path, targets, classes)
    numbers = np.arange(len(classes))
    if chances.shape == (len(targets),) and np.isin(chances, numbers).all():
        return np.asarray(chances[:, None] == numbers, np.float32)
    if chances.shape != (len(targets), len(classes)):
        raise TurnoverError(
            f"{path}: predictions of shape {chances.shape}, but there are {len(targets):,} "
            f"validation items and {len(classes):,} classes; give a row of probabilities, or a "
            "class number from 0, for each item"
        )
    fits = (chances >= 0).all(1) & (np.abs(chances.sum(1) - 1) < _OFF)
    if not fits.all():
        row = int(np.argmin(fits))
        raise TurnoverError(
            f"{path}: the probabilities of validation item {targets[row]!r:.60} are not from 0 to 1"
            " with a sum of 1; give the softmax of the logits"
        )
    return chances


def _by_id(path: Path, targets: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """The predictions in a table, in the order of the targets."""
    table, known = read_table(path, ("id",)), {name: place for place, name in enumerate(targets)}
    rows = [_place(table, row, "id", known, "validation") for row in range(len(table))]
    counts = np.bincount(rows, minlength=len(targets))
    if (counts != 1).any():
        place = int(np.argmax(counts != 1))
        raise TurnoverError(
            f"{path}: {counts[place]} rows with the id {targets[place]!r:.60}; give one for each "
            f"of the {len(targets):,} validation items"
        )
    if "predicted" in table.columns:
        names = {"predicted": [*map(str, table.columns["predicted"])]}
        numbers = label_column(replace(table, columns=names), "predicted", tuple(classes))
        chances = np.eye(len(classes), dtype=np.float32)[numbers]
    else:
        for name in classes:
            check_column(name, table.columns, path, "add it, or a column 'predicted'")
        chances = np.array(
            [[_number(table, row, name) for name in classes] for row in range(len(table))],
            np.float32,
        )
    return chances[np.argsort(rows)]


def _check_file(path: Path, what: str, suffixes: tuple[str, ...]) -> None:
    if not looked_at(path).is_file():
        raise TurnoverError(f"{path}: no such file; name a file of {what}")
    if path.suffix not in suffixes:
        raise TurnoverError(f"{path}: {what} are read from {', '.join(suffixes)}; convert it")


def _columns(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: object) -> TurnoverError:
    return TurnoverError(f"{path}: no numbers that can be read ({error}); write it again")


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
    rows, columns = ({name: place for place, name in enumerate(ids)} for ids in (targets, items))
    for row in range(len(table)):
        place = (
            _place(table, row, "target", rows, "validation"),
            _place(table, row, "item", columns, "training"),
        )
        scores[place] = _number(table, row, "score")
    return scores


def _place(table: Table, row: int, column: str, known: Mapping[str, int], what: str) -> int:
    """The position of the item that a cell names."""
    name = str(table.columns[column][row])
    if name not in known:
        raise TurnoverError(
            f"{table.where(row, column)}: the run has no {what} item {name!r:.60}; correct the id"
        )
    return known[name]


def _number(table: Table, row: int, column: str) -> float:
    cell = table.columns[column][row]
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise TurnoverError(
            f"{table.where(row, column)}: {cell!r:.60} is not a number; correct it"
        ) from None
