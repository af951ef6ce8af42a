"""Near duplicates: ranks are counted right, the oracle ranks them first, chance in the middle, and a real run has all methods."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cli import main
from core.data.images import png_bytes
from core.fidelity.correlation import median_over_rows
from core.fidelity.duplicates import RANK, TOP, figures_of, rank_shares
from core.fidelity.estimators import ESTIMATORS
from core.fidelity.methods import RIVALS
from core.runs import Run

QUICK = ("similarity", "tracin-last")
HEADER = "test_index,train_index,judgment\n"


# Ranks


@given(st.integers(0, 2**31))
def test_a_rank_is_the_place_in_the_sorted_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, rows, columns = rng.normal(size=(6, 50)), rng.integers(6, size=9), rng.integers(50, size=9)
    places = [np.argsort(-scores[row]).tolist().index(column) + 1 for row, column in zip(rows, columns, strict=True)]
    np.testing.assert_allclose(rank_shares(scores, rows, columns), np.array(places) / 50)


def test_equals_share_their_middle_place() -> None:
    scores = np.array([[3.0, 1, 1, 1, 0]])
    assert (5 * rank_shares(scores, np.array([0, 0, 0]), np.array([0, 2, 4]))).tolist() == [1, 3, 5]
    everyone = rank_shares(np.zeros((1, 9)), np.zeros(9, int), np.arange(9))
    assert (9 * everyone).tolist() == [5] * 9, "who says nothing ranks nobody first"


def test_the_oracle_ranks_its_planted_duplicate_first_and_chance_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.arange(300), rng.integers(1000, size=300)
    chance = rng.normal(size=(300, 1000))
    oracle = chance.copy()
    oracle[rows, columns] += 20
    made, blind = (figures_of(rank_shares(scores, rows, columns)) for scores in (oracle, chance))
    assert (made[RANK].value, made[TOP].value) == (pytest.approx(1 / 1000), 1)
    assert blind[RANK].value == pytest.approx(0.5, abs=0.06) and blind[TOP].value == pytest.approx(0.01, abs=0.015)
    contrary = figures_of(rank_shares(-oracle, rows, columns))
    assert (contrary[RANK].value, contrary[TOP].value) == (1, 0)


def test_the_interval_of_a_median_holds_the_true_one() -> None:
    held = 0
    for seed in range(100):
        figure = median_over_rows(np.random.default_rng(seed).exponential(size=60))
        assert figure.low is not None and figure.high is not None and figure.low <= figure.value <= figure.high
        held += figure.low <= np.log(2) <= figure.high
    assert held / 100 == pytest.approx(0.95, abs=0.06)


# A run


def photos(count: int, seed: int) -> np.ndarray:
    """Smooth patches of colour, red for even rows, blue for odd ones."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 160, (count, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    images[::2, ..., 0] += 90
    images[1::2, ..., 2] += 90
    return images.astype(np.uint8)


def write(path: Path, images: np.ndarray, numbers: Sequence[int]) -> None:
    columns = {"image": [png_bytes(pixels) for pixels in images], "label": [row % 2 for row in range(len(images))], "index": list(numbers)}
    pq.write_table(pa.table(columns), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test images 500 to 505 nearly repeat training images 1030 to 1035; of 60 training and 30 test images, 40 and 10 are drawn."""
    made = tmp_path_factory.mktemp("twins")
    train, test = photos(60, 1), photos(30, 2)
    test[:6] = np.clip(train[30:36].astype(int) + 3, 0, 255)
    write(made / "train.parquet", train, range(1000, 1060))
    write(made / "test.parquet", test, range(500, 530))
    (made / "pairs.csv").write_text(HEADER + "".join(f"{500 + row},{1030 + row},1\n" for row in range(6)) + "700,1001,1\n501,9,2\n")
    options = ["--model", "heads", "--limit", "40", "--validation-limit", "10", "--members", "2", "--device", "cpu"]
    assert main(["train", "--data", "cifar10", "--path", str(made), "--run", str(made / "run"), "--keep", str(made / "pairs.csv"), *options]) == 0
    assert main(["influence", "--run", str(made / "run"), "--device", "cpu"]) == 0
    return made


def evaluate(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    wanted = ["evaluate", "--run", str(folder / "run"), "--measure", "duplicates", "--rivals", *QUICK, "--device", "cpu", "--json", *arguments]
    assert main(wanted) == 0
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


def test_limits_keep_the_pairs(folder: Path) -> None:
    run = Run(folder / "run")
    assert {f"train-{1030 + row}" for row in range(6)} <= set(run.train["id"]) and len(run.train) == 40
    assert {f"test-{500 + row}" for row in range(6)} <= set(run.validation["id"]) and len(run.validation) == 10


def test_every_method_ranks_the_pairs_that_are_in_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate(folder, capsys, "--path", str(folder / "pairs.csv"))
    assert (result["pairs"], result["targets"], result["instances"]) == (6, 6, 40)
    rows = {row["method"]: row["figures"] for row in result["rows"]}
    features = "signed cosine similarity, features of the run"
    assert set(rows) == {*(f"turn-over, {name}" for name in ESTIMATORS), *(RIVALS[name].name for name in QUICK), features}
    assert all(1 / 40 <= figures[RANK]["value"] <= 1 for figures in rows.values())
    for method in (RIVALS["similarity"].name, features):
        assert rows[method][RANK]["value"] == pytest.approx(1 / 40), "nothing is as like an image as its copy"
    run = Run(folder / "run")
    part = run.influence
    ids = run.train["id"].tolist()
    shares = []
    for row in range(6):
        (position,) = run.validation.index[run.validation["id"] == f"test-{500 + row}"]
        values = part.ranked(int(position), "truth").values
        shares.append(float((values > values[ids.index(f"train-{1030 + row}")]).sum() + 1) / 40)
    assert rows["turn-over, as shown"][RANK]["value"] == pytest.approx(float(np.median(shares)))


def test_what_is_missing_is_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["evaluate", "--run", str(folder / "run"), "--measure", "duplicates", "--device", "cpu", *arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
        return printed.err

    assert "name the CSV with columns test_index and train_index by --path" in refusal()
    (tmp_path / "other.csv").write_text(HEADER + "1,2,1\n")
    assert "no pair has both its items here" in refusal("--path", str(tmp_path / "other.csv"))
    assert "no such file" in refusal("--path", str(tmp_path / "none.csv"))
