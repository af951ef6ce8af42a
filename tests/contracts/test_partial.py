"""A training that goes on, read from its checkpoint while it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from core import TurnoverError
from core.partial import find_partials, read_partial
from core.training import CURVES, History, Recipe, Split, fit
from tests.helpers.builders import member_heads, randn, some_labels

ROOT = Path(__file__).parents[2]


def begun(runs: Path, name: str = "one") -> Path:
    folder = runs / f"{name}.partial"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text("{}")
    return folder


def train(folder: Path, epochs: int = 3, checkpoint: str = "masked", masked: bool = True) -> list[History]:
    """Train small heads with a checkpoint; what was read after every epoch is compared with what had been measured."""
    train_split, validation = (Split(randn(rows, 8, seed=rows).float(), some_labels(rows, 3)) for rows in (30, 12))
    seen: list[History] = []

    def look(history: History) -> None:
        seen.append(history)
        if not masked:
            return
        partial = read_partial(folder.parent, folder.name.removesuffix(".partial"))
        assert len(partial.curves) == history.epochs
        for name in CURVES:
            np.testing.assert_array_equal(partial.curves[name], history.curves[name])
        np.testing.assert_array_equal(partial.curves["accuracy"], history.accuracy)
        np.testing.assert_array_equal(partial.flipped, np.stack(history.flipped_items))
        assert (partial.most, partial.validation_size, partial.curves["epoch"].tolist()) == (9, 12, list(range(1, history.epochs + 1)))

    recipe = Recipe(epochs=9, patience=epochs, batch=10, learning_rate=1.0, masked=masked)
    fit(member_heads(members=2).float(), train_split, validation, recipe, folder / f"{checkpoint}.checkpoint", look)
    return seen


def test_after_every_epoch_the_curves_so_far_are_those_that_were_measured(tmp_path: Path) -> None:
    assert len(train(begun(tmp_path))) >= 2


def test_the_twin_s_epochs_are_counted(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    masked, twin = train(folder), train(folder, 2, "plain", masked=False)
    partial = read_partial(tmp_path, "one")
    assert (len(partial.curves), partial.twin) == (masked[-1].epochs, twin[-1].epochs)
    assert partial.changed == pytest.approx((folder / "plain.checkpoint").stat().st_mtime)


def test_before_the_first_epoch_there_are_no_curves(tmp_path: Path) -> None:
    begun(tmp_path)
    partial = read_partial(tmp_path, "one")
    assert (len(partial.curves), partial.twin, partial.most) == (0, 0, 0)


def test_trainings_are_found_until_their_run_is_there(tmp_path: Path) -> None:
    assert find_partials(tmp_path / "nowhere") == find_partials(tmp_path) == []
    begun(tmp_path, "two"), begun(tmp_path, "one")
    (tmp_path / "odd.partial").mkdir()
    assert find_partials(tmp_path) == ["one", "two"]
    (tmp_path / "two.partial").rename(tmp_path / "two")
    assert find_partials(tmp_path) == ["one"]
    with pytest.raises(TurnoverError, match=r"two\.partial: not there any more; the run is finished"):
        read_partial(tmp_path, "two")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x08\0\0\0\0\0\0\0{}      ", b"cut"])
def test_a_damaged_checkpoint_says_what_to_do(content: bytes, tmp_path: Path) -> None:
    folder = begun(tmp_path)
    if content == b"cut":
        train(folder, 1)
        content = (folder / "masked.checkpoint").read_bytes()[:-9]
    (folder / "masked.checkpoint").write_bytes(content)
    with pytest.raises(TurnoverError, match=r"masked\.checkpoint: the checkpoint is damaged .*; delete it to train from the beginning"):
        read_partial(tmp_path, "one")


def test_no_torch_is_needed(tmp_path: Path) -> None:
    train(begun(tmp_path), 1)
    script = f"import sys; from pathlib import Path; from core.partial import read_partial; read_partial(Path({str(tmp_path)!r}), 'one')"
    done = subprocess.run([sys.executable, "-c", f"{script}; print('torch' in sys.modules)"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False" and "torch" in sys.modules and torch is sys.modules["torch"]
