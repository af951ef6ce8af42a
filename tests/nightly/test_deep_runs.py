"""Runs of deep models that take long: the contract of deep runs, cleansing, VGG19, fine-tuning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from tests.contracts.test_deep_run import (
    test_a_deep_run_says_what_it_is,
    test_a_text_is_explained_as_it_was_measured,
    test_influences_of_a_deep_run_are_the_engine_s,
    test_the_opened_model_is_the_trained_one,
    test_token_rows_of_a_run_have_one_width_and_no_text_is_lost,
    train_deep,
)
from tests.helpers.own_modules import command, own_code
from tests.helpers.token_builders import elec_in, small_images
from turnover import Run, influence
from turnover.cli import main
from turnover.models.families.vgg19 import Vgg19
from turnover.runs.model import load_model, split_inputs
from turnover.training.fit import probabilities

__all__ = [
    "own_code",
    "test_a_deep_run_says_what_it_is",
    "test_a_text_is_explained_as_it_was_measured",
    "test_influences_of_a_deep_run_are_the_engine_s",
    "test_the_opened_model_is_the_trained_one",
    "test_token_rows_of_a_run_have_one_width_and_no_text_is_lost",
]
CPU = torch.device("cpu")
MODELS = {"adapters": ("--layers", 1), "masked-encoder": ()}


@pytest.fixture(scope="module", params=MODELS)
def deep_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return train_deep(folder, request.param, *MODELS[request.param])


def test_the_same_command_makes_the_same_run(deep_run: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = str(Run(deep_run).manifest["settings"]["model"])
    again = train_deep(tmp_path, model, *MODELS[model])
    same = [(folder / "weights.safetensors").read_bytes() for folder in (deep_run, again)]
    assert same[0] == same[1]


def test_influences_on_errors_alone(deep_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(deep_run)
    made = command(capsys, "influence", "--run", deep_run, "--targets", "errors")
    assert made["targets"] == len(run.misclassified_positions)
    command(capsys, "influence", "--run", deep_run)


def test_a_deep_run_is_cleansed_for_another_domain(
    deep_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("cleanse", "--run", deep_run, "--fraction", 0.2, "--repeats", 1)
    asked += ("--validation", "elec")
    made = command(capsys, *asked, "--path", elec_in(tmp_path / "elec"))
    counts = (made["removed"], made["targets"], made["measured_on"], len(made["models"]))
    assert counts == ([4], 8, 12, 3)
    for extra, expected in (((), "--path"), (("--path", tmp_path / "none"), "none")):
        assert main([*map(str, (*asked, *extra))]) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        assert expected in printed.err


def influences_are_the_engine_s(run: Run) -> None:
    rows = split_inputs(run, "validation", list(range(len(run.validation))), CPU)
    labels, known = torch.tensor(run.validation["label"].tolist()), range(len(run.train))
    model = load_model(run, CPU)
    expected = influence(model, rows, labels, known, plain=True).values
    np.testing.assert_allclose(run.influence.array("truth_members"), expected, atol=1e-4)
    chances = run.validation[[f"probability_{number}" for number in range(len(run.classes))]]
    np.testing.assert_allclose(probabilities(model, rows), chances, atol=1e-4)


def test_vgg19_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = small_images(24, 4), tmp_path / "run"
    monkeypatch.setattr(Vgg19, "recipe", replace(Vgg19.recipe, epochs=1, batch=12))
    monkeypatch.setattr("turnover.runs.plan.load_data", lambda *_: data)
    asked = ("--data", "cifar10", "--model", "vgg19", "--dropout", 0.5, "--run", folder)
    result = command(capsys, "train", *asked)
    command(capsys, "influence", "--run", folder)
    run = Run(folder)
    assert (result["members"], result["epochs"], len(run.features("train"))) == (1, 1, 24)
    influences_are_the_engine_s(run)
    assert data.validation.images is not None
    Image.fromarray(data.validation.images[1]).save(tmp_path / "light.png")
    asked = ("--run", folder, "--image", tmp_path / "light.png", "--top", 2)
    made = command(capsys, "explain", *asked)
    assert made["predicted"] == run.classes[int(run.validation["predicted"].iloc[1])]
    assert len(made["proponents"]) <= 2


FEW = ("--data", "digits", "--limit", 16, "--validation-limit", 4, "--epochs", 1)


def test_a_fine_tuned_run_has_all_when_the_file_of_its_weights_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnover.models.torchvision._SIDE", 32)
    torch.manual_seed(2)
    file, folder = tmp_path / "w.safetensors", tmp_path / "run"
    save_file(models.resnet18(weights=None).state_dict(), file)
    options = ("--model", "torchvision:resnet18", "--from-layer", "layer4.1", "--weights", file)
    command(capsys, "train", *FEW, *options, "--run", folder)
    file.unlink()
    command(capsys, "influence", "--run", folder)
    run = Run(folder)
    influences_are_the_engine_s(run)
    assert run.manifest["leaks"] == ["the output bias"]
    assert run.features("train").shape == (16, 512)


def test_a_fine_tuned_network_of_one_s_own(
    own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What leaks is found by running it: the output bias alone."""
    own = ("--model", "fine_tuned:build", "--run", own_code / "run")
    command(capsys, "train", *FEW, *own)
    assert command(capsys, "influence", *own)["path"].startswith("shared prefix")
    run = Run(own_code / "run")
    influences_are_the_engine_s(run)
    assert run.manifest["leaks"] == ["network.fc.1.bias"]
    assert run.features("train").shape == (16, 512)
