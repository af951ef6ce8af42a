"""What is kept in a run's folder: the same bits, for the same weights and settings only, and never a changed file."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from core.errors import TurnoverError
from core.fidelity.store import Store
from core.runs import Run
from tests.helpers.builders import names


def a_store(folder: Path, weights: str = "abc", **settings: Any) -> Store:
    run = SimpleNamespace(folder=folder, manifest={"files": {"weights.safetensors": {"sha256": weights}}})
    return Store(cast(Run, run), "part", settings)


def test_what_is_kept_comes_back_with_its_facts(tmp_path: Path) -> None:
    store, array = a_store(tmp_path, seeds=3), np.linspace(0, 1, 7, dtype=np.float32)
    assert "one" not in store
    store.keep("one", array, seconds=1.5)
    store.keep("two", np.empty(0), note="refused")
    for again in (store, a_store(tmp_path, seeds=3)):
        assert "one" in again and "three" not in again
        loaded, facts = again.load("one")
        assert loaded.dtype == np.float32 and np.array_equal(loaded, array) and facts == {"seconds": 1.5}
        assert again.load("two")[1] == {"note": "refused"}
    assert names(store.folder) == ["manifest.json", "one.npy", "two.npy"]


def test_other_weights_or_settings_are_another_place(tmp_path: Path) -> None:
    a_store(tmp_path, seeds=3).keep("one", np.ones(2))
    others = [a_store(tmp_path, seeds=4), a_store(tmp_path, seeds=3, more=True), a_store(tmp_path, "def", seeds=3)]
    assert not any("one" in other for other in others)
    assert len({store.folder for store in others}) == 3


def test_a_file_without_its_line_in_the_manifest_does_not_count(tmp_path: Path) -> None:
    """As after a crash between the two: it is written again."""
    store = a_store(tmp_path)
    store.keep("one", np.ones(2))
    np.save(store.folder / "two.npy", np.zeros(2))
    again = a_store(tmp_path)
    assert "two" not in again
    again.keep("two", np.ones(3))
    assert a_store(tmp_path).load("two")[0].tolist() == [1, 1, 1]


def test_who_fills_it_second_knows_what_the_first_kept_and_keeps_it(tmp_path: Path) -> None:
    first, second = a_store(tmp_path), a_store(tmp_path)
    with first.filling():
        first.keep("one", np.ones(2))
    assert "one" not in second
    with second.filling():
        assert "one" in second
        second.keep("two", np.zeros(2))
    again = a_store(tmp_path)
    assert again.load("one")[0].tolist() == [1, 1] and again.load("two")[0].tolist() == [0, 0]
    assert names(tmp_path / "fidelity") == [first.folder.name]


@pytest.mark.parametrize("spoil", ["edit", "cut", "remove"])
def test_a_changed_file_is_refused_with_the_remedy(spoil: str, tmp_path: Path) -> None:
    store = a_store(tmp_path)
    store.keep("one", np.ones(20))
    path = store.folder / "one.npy"
    content = path.read_bytes()
    if spoil == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-8] if spoil == "cut" else content[:-1] + b"x")
    with pytest.raises(TurnoverError, match=r"one\.npy: .*; delete .*, and it is computed again$"):
        a_store(tmp_path)


def test_the_manifest_says_what_the_arrays_were_made_with(tmp_path: Path) -> None:
    store = a_store(tmp_path, seeds=3)
    store.keep("one", np.ones(2))
    assert json.loads((store.folder / "manifest.json").read_text(encoding="utf-8"))["made_with"] == {"run": "abc", "seeds": 3}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "fidelity").write_text("a file in its place")
    with pytest.raises(TurnoverError, match=r"^[^\n]*cannot be written"):
        a_store(tmp_path).keep("one", np.ones(2))
