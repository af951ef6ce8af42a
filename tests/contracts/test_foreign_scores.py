"""Scores of other engines: every form of file gives the same matrix, and bad ones are one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from turnover import TurnoverError
from turnover.data.scores import HELPS, HURTS, read_scores

TARGETS, ITEMS = ["v0", "v1"], ["a", "b", "c"]
SCORES = np.array([[1, -2, 0], [0, 0.5, 3]], np.float32)


def triples(**changes: object) -> pd.DataFrame:
    """The scores that are not 0, one a row."""
    rows, columns = np.nonzero(SCORES)
    table = pd.DataFrame(
        {
            "target": [TARGETS[row] for row in rows],
            "item": [ITEMS[column] for column in columns],
            "score": SCORES[rows, columns],
        }
    )
    for column, value in changes.items():
        table[column] = table[column].astype(object)
        table.loc[1, column] = value
    return table


FORMS: dict[str, Callable[[Path], object]] = {
    "scores.npy": lambda file: np.save(file, SCORES),
    "named.npz": lambda file: np.savez(file, scores=SCORES, other=np.ones(3)),
    "only.npz": lambda file: np.savez(file, values=SCORES.astype(np.float64)),
    "scores.safetensors": lambda file: save_file({"scores": SCORES}, file),
    "matrix.parquet": lambda file: pd.DataFrame(SCORES, columns=[*"xyz"]).to_parquet(file),
    "top.parquet": lambda file: triples().to_parquet(file),
    "top.csv": lambda file: triples().to_csv(file, index=False),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_scores(name: str, tmp_path: Path) -> None:
    FORMS[name](tmp_path / name)
    helps = read_scores(tmp_path / name, TARGETS, ITEMS, HELPS)
    assert helps.dtype == np.float32 and np.array_equal(helps, SCORES)
    assert np.array_equal(read_scores(tmp_path / name, TARGETS, ITEMS, HURTS), -SCORES)


SPOILED = np.where(SCORES == 3, np.nan, SCORES)
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "none.npy": (lambda file: None, "no such file"),
    "scores.pt": (lambda file: file.write_bytes(b"x"), "scores are read from .npy"),
    "broken.npy": (lambda file: file.write_bytes(b"x"), "no scores that can be read"),
    "broken.npz": (lambda file: file.write_bytes(b"PK"), "no scores that can be read"),
    "broken.safetensors": (lambda file: file.write_bytes(b"x" * 99), "no scores that can be read"),
    "broken.parquet": (lambda file: file.write_bytes(b"x"), "no scores that can be read"),
    "objects.npy": (
        lambda file: np.save(file, np.array([{}]), allow_pickle=True),
        "no scores that can be read",
    ),
    "words.npy": (lambda file: np.save(file, np.array([["a"]])), "no array 'scores' of numbers"),
    "two.npz": (lambda file: np.savez(file, a=SCORES, b=SCORES), "it holds a, b"),
    "turned.npy": (lambda file: np.save(file, SCORES.T), "2 validation items and 3 training"),
    "nan.npy": (lambda file: np.save(file, SPOILED), "row 2, column 3: nan is not a finite"),
    "stranger.csv": (
        lambda file: triples(item="z").to_csv(file, index=False),
        "no training item 'z'",
    ),
    "target.csv": (
        lambda file: triples(target="z").to_csv(file, index=False),
        "no validation item 'z'",
    ),
    "words.csv": (lambda file: triples(score="much").to_csv(file, index=False), "'much' is not a"),
    "missing.csv": (
        lambda file: triples().drop(columns="score").to_csv(file, index=False),
        "score",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_one_line_with_its_place(name: str, tmp_path: Path) -> None:
    write, message = BAD[name]
    write(tmp_path / name)
    with pytest.raises(TurnoverError, match=message) as caught:
        read_scores(tmp_path / name, TARGETS, ITEMS, HELPS)
    assert name in str(caught.value) and "\n" not in str(caught.value)
