"""CONTRIBUTING's recipes, tried: what it says is all that an addition needs."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import turnover.cli
from tests.helpers.builders import ROOT
from tests.helpers.calling import answer
from turnover.cli.options import Command
from turnover.data.base import Dataset, Items, check_dataset
from turnover.data.sources import SOURCES, Source
from turnover.research.baselines.base import Baseline, Clock, Problem
from turnover.research.evaluate import scores
from turnover.research.evaluate.scores import BASELINES
from turnover.storage.progress import Advance

Capture = pytest.CaptureFixture[str]
RECIPES = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def toy(folder: Path | None) -> Dataset:
    """Twelve squares, bright or dark."""
    shades = np.tile([40, 200], 6)
    noise = np.random.default_rng(0).integers(0, 20, (12, 8, 8))
    images = (shades[:, None, None] + noise).astype(np.uint8)

    def items(name: str) -> Items:
        return Items([f"{name}-{row}" for row in range(12)], np.tile([0, 1], 6), images=images)

    data = Dataset("toy", "made for a test", ("dark", "bright"), items("train"), items("held"))
    return check_dataset(data)


def test_the_files_that_recipes_name_are_there() -> None:
    named = re.findall(r"`((?:core|dashboard|tests|docs)/[\w/.]+)`", RECIPES)
    assert len(named) > 15 and not [name for name in named if not (ROOT / name).exists()]


def test_a_data_set_needs_its_entry_alone(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is trained by the recipe of its kind."""
    monkeypatch.setitem(SOURCES, "toy", Source("image", toy))
    words = ["train", "--data", "toy", "--run", str(tmp_path / "run"), "--device", "cpu"]
    assert answer(capsys, *words, "--check")["train_size"] == 12
    told = answer(capsys, *words, "--epochs", "2", "--members", "2")
    assert (told["members"], told["epochs"]) == (2, 2)


class FirstFeature(Baseline):
    """The product of first features."""

    name = "first feature"

    def values(
        self, problem: Problem, chosen: torch.Tensor, clock: Clock, progress: Advance
    ) -> tuple[torch.Tensor, int]:
        with clock.spent("estimate"):
            mine, theirs = (
                x.flatten(1)[:, 0] for x in (problem.targets.inputs, problem.train.inputs)
            )
            return mine[:, None] * theirs[chosen][None], 0


def test_a_baseline_needs_its_entry_alone(
    run_copy: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "BASELINES", {**BASELINES, "first": FirstFeature()})
    words = ["--measure", "injected", "--baselines", "first", "--device", "cpu"]
    rows = answer(capsys, "evaluate", "--run", str(run_copy), *words)["rows"]
    assert any(FirstFeature.name in row["method"] for row in rows)


def test_a_command_needs_its_entry_alone(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(parser: ArgumentParser) -> None:
        parser.add_argument("--word", required=True)

    module = ModuleType("turnover.cli.toy")
    echo = Command(add, lambda arguments: {"word": arguments.word}, lambda result: result["word"])
    module.COMMANDS = {"echo": echo}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "turnover.cli.toy", module)
    monkeypatch.setitem(turnover.cli.COMMANDS, "echo", ("toy", "say a word"))
    assert answer(capsys, "echo", "--word", "aye") == {"word": "aye"}
