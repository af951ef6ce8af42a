"""The notebooks of docs run from the first cell to the last, and end with what they promise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def first_look(names: dict[str, Any]) -> bool:
    """The flag that was undone is as before it, and all three conditions were measured."""
    (flag,) = names["flags"].values()
    cleansed = names["cleansed"]
    measured = (
        cleansed["condition"].tolist() == ["no cleansing", "random removal", "cleansing"]
        and cleansed["accuracy"].between(0.5, 1).all()
    )
    return bool(
        measured
        and (flag.instance, flag.action) == (names["strongest"], "drop")
        and len(names["removed"]) == 15
    )


def hugging_face_trainer(names: dict[str, Any]) -> bool:
    """The errors are the reviews with the word, and those that taught it stand above the rest."""
    texts = names["data"].validation.texts
    return all("zilch" in texts[row] for row in names["errors"]) and names["above"] > 0.6


def own_model(names: dict[str, Any]) -> bool:
    """Wrong labels are found far more often than by chance."""
    return (
        len(names["found"]) >= 8
        and len(set(names["suspects"].tolist()) & set(names["wrong"].tolist())) >= 8
    )


def reading_influences(names: dict[str, Any]) -> bool:
    """The top stands out, and what is shown agrees between halves better than one member does."""
    spearman = names["agreement"]["Spearman"]
    return bool(
        names["top"].min() > abs(names["random"]).mean()
        and spearman["turn-over, as shown"] > 0.3 > spearman["turn-over, one member"]
    )


ENDS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "first-look": first_look,
    "hugging-face-trainer": hugging_face_trainer,
    "own-model": own_model,
    "reading-influences": reading_influences,
}


def test_every_notebook_is_held_to_its_end() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(ENDS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as a notebook's own folder is
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
    assert ENDS[path.stem](names)
