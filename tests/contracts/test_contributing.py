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
from turnover.dashboard.runs.train_model_view import fields_of
from turnover.data.base import Dataset, Items, check_dataset
from turnover.data.recipe import Recipe, image_source
from turnover.data.sources import SOURCES
from turnover.explain.facts import run_facts
from turnover.models import families
from turnover.research.baselines.base import Baseline, Clock, Problem
from turnover.research.evaluate import scores
from turnover.research.evaluate.scores import BASELINES
from turnover.runs.run import Run
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
    """Its members and its recipe too, or those of its kind."""
    words = ["train", "--data", "toy", "--run", str(tmp_path / "run"), "--device", "cpu"]
    monkeypatch.setitem(SOURCES, "toy", image_source(toy))
    told = answer(capsys, *words, "--check")
    assert (told["train_size"], told["members"], told["epochs"]) == (12, 8, 30)
    monkeypatch.setitem(SOURCES, "toy", image_source(toy, members=2, recipe=Recipe(epochs=2)))
    told = answer(capsys, *words)
    assert (told["members"], told["epochs"]) == (2, 2)


FAMILY = '''"""A linear model for images."""

from dataclasses import dataclass

from turnover.models.family import Masked
from turnover.models.options import option


@dataclass(frozen=True)
class Linear(Masked):
    name = "linear"
    kinds = ("image",)
    OPTION

    def member(self, settings, classes, shape, seed):
        import math

        from torch import nn

        from turnover import TurnoverDropout

        pixels = math.prod(shape)
        mask = TurnoverDropout(pixels, seed=seed, **self.mask_options)
        return nn.Sequential(nn.Flatten(), mask, nn.Linear(pixels, classes, bias=BIAS))
'''
BIAS = 'bias: bool = option(True, "leave the bias out", label="Bias")'


@pytest.mark.parametrize("bias", [False, True])
def test_a_model_family_needs_one_file_and_an_option_one_line(
    bias: bool, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line, the check, the page, the run and its leaks know both."""
    family = FAMILY.replace("OPTION", BIAS if bias else "pass")
    folder = tmp_path / f"families{bias}"
    folder.mkdir()
    (folder / f"linear_{bias}.py").write_text(family.replace("BIAS", f"{bias and 'self.bias'}"))
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(folder)])
    monkeypatch.setitem(SOURCES, "toy", image_source(toy))
    run = tmp_path / "run"
    words = ["train", "--data", "toy", "--model", "linear", "--run", str(run), "--device", "cpu"]
    checked = answer(capsys, *words, "--check")
    assert {**checked, "bias": bias and checked["bias"]}["bias"] is bias
    fields = [own.name for own in fields_of("linear", "image")]
    assert fields == ["groups", "masks", *["bias"] * bias]
    told = answer(
        capsys, *words, "--groups", "8", "--epochs", "2", "--members", "2", "--masks", "4"
    )
    assert (told["model"], told["members"], told["epochs"]) == ("linear", 2, 2)
    answer(capsys, "influence", "--run", str(run), "--device", "cpu")
    made = Run(run)
    assert made.manifest["leaks"] == ["2.bias"] * bias
    assert run_facts(made)["Model"] == "linear, masks of 8 groups of units, 4 that items share"
    if bias:
        other = [*words[:-3], str(tmp_path / "other"), *words[-2:], "--epochs", "1"]
        answer(capsys, *other, "--no-bias")
        assert Run(tmp_path / "other").manifest["leaks"] == []


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
