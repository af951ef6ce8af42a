"""The published benchmark on some digits: its rows, the files it keeps, and rows of others."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.helpers.builders import checksums
from tests.helpers.calling import answer, call
from turnover.models.families.heads import Mlp
from turnover.research.paper import lds_mnist
from turnover.research.paper.lds_mnist import cross_validated_damping

_ITEMS, _TARGETS, _HALVES = 120, 40, 12


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the two files; few epochs, halves and kinds of masks."""
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8) * 15).astype(np.uint8)
    for name, rows in (
        (lds_mnist.TRAIN, slice(0, _ITEMS)),
        (lds_mnist.TARGETS, slice(_ITEMS, _ITEMS + _TARGETS)),
    ):
        columns = {"image": [png(image) for image in images[rows]], "label": labels[rows]}
        pd.DataFrame(columns).to_parquet(tmp_path / name)
    monkeypatch.setattr(Mlp, "recipe", replace(Mlp.recipe, epochs=4))
    monkeypatch.setattr(lds_mnist, "HALVES", _HALVES)
    monkeypatch.setattr(lds_mnist, "MASKS", (8, None))
    return tmp_path


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_every_method_has_a_row_at_each_budget_and_all_is_kept(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("paper", "lds-mnist", "--path", str(data), "--members", "4")
    asked += ("--runs", str(tmp_path / "runs"))
    result = answer(capsys, *asked)
    rows = {(row["method"], row["trainings"]): row for row in result["rows"]}
    for masks in ("8 masks", "own masks"):
        assert {k for name, k in rows if name == f"turn-over, raw mean, {masks}"} == {1, 2, 4}
    named = {name for name, _ in rows}
    for part in ("permuted over targets", "cross-validated damping", "TracIn", "cosine", "random"):
        assert any(part in name for name in named), part
    assert all(
        row["lds"]["low"] <= row["lds"]["value"] <= row["lds"]["high"] for row in rows.values()
    )
    bank = tmp_path / "runs" / "lds-mnist"
    assert np.load(bank / "subsets.npy").shape == (_HALVES, _ITEMS // 2)
    losses = np.load(bank / "losses.npy")
    assert losses.shape == (3, _HALVES, _TARGETS) and losses.std(1).min() > 0
    with np.load(bank / "scores" / "turn-over-raw-mean-8-masks-4.npz") as kept:
        summed = kept["scores"][:, np.load(bank / "subsets.npy")].sum(-1)
    ranks = [pd.DataFrame(part).rank(axis=1) for part in (summed, -losses[0].T)]
    by_hand = ranks[0].corrwith(ranks[1], axis=1).mean()
    row = rows["turn-over, raw mean, 8 masks", 4]
    assert row["lds"]["value"] == pytest.approx(by_hand, abs=1e-6)

    # again, nothing is trained; a row of somebody else's stands beside
    before = checksums(tmp_path / "runs" / "paper-lds-mnist-test_first500-8-4-small")
    truth = {"scores": np.random.default_rng(0).random((_TARGETS, _ITEMS), np.float32)}
    np.savez(bank / "scores" / "mine.npz", method="mine", trainings=3, seconds=1.5, **truth)
    again = answer(capsys, *asked)
    assert before == checksums(tmp_path / "runs" / "paper-lds-mnist-test_first500-8-4-small")
    mine = next(row for row in again["rows"] if row["method"] == "mine")
    assert (mine["trainings"], mine["seconds"]) == (3, 1.5)
    np.savez(bank / "scores" / "mine.npz", method="mine", trainings=3, seconds=1.5, scores=[1.0])
    code, _, error = call(capsys, *asked)
    assert code == 2 and "mine.npz: scores of shape (1,) are not (40, 120)" in error


def test_missing_files_and_too_few_trainings_are_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more, message in (
        (("--path", str(tmp_path / "none")), "no such file; put it there"),
        (("--path", str(data), "--targets", "none.parquet"), "none.parquet: no such file"),
        (("--path", str(data), "--members", "1"), "--members 1"),
    ):
        code, _, error = call(capsys, "paper", "lds-mnist", "--runs", str(tmp_path / "r"), *more)
        assert code == 2 and message in error and len(error.strip().splitlines()) == 1


def test_cross_validation_damps_noise_and_not_signal() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 20)) * np.geomspace(1, 0.03, 20)
    noise, signal = rng.normal(size=(200, 3)), features @ rng.normal(size=(20, 3))
    dampings = [
        cross_validated_damping(features, signal + size * noise) for size in (0.0, 0.3, 100.0)
    ]
    assert dampings == sorted(dampings) and dampings[0] == -5 and dampings[-1] >= 0
