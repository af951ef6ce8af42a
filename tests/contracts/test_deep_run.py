"""Deep models from end to end: trained, opened again, their influences, and a new text or image explained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import core.pipeline.settings as settings_module
from core import Run, influence
from core.cli import main
from core.models.ensemble import Ensemble
from core.pipeline.architecture import TextInputs
from core.pipeline.model import load_model, run_settings, split_inputs
from core.training import Split, accuracy, probabilities
from tests.helpers.token_builders import elec_in, encoder_in, small_images, sst2_in

CPU = torch.device("cpu")
MODELS = ("adapters", "masked-encoder")


@pytest.fixture(scope="module")
def short_recipes() -> Any:
    """Deep models trained for two epochs, VGG19 for one."""
    with pytest.MonkeyPatch.context() as patch:
        for name, recipe in settings_module.MODEL_RECIPES.items():
            patch.setitem(settings_module.MODEL_RECIPES, name, replace(recipe, epochs=1 if name == "vgg19" else 2, batch=12))
        yield


def command(capsys: pytest.CaptureFixture[str] | None, *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out) if capsys else {}


@pytest.fixture(scope="module", params=MODELS)
def deep_run(request: pytest.FixtureRequest, short_recipes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two members on a tiny encoder, with influence."""
    folder = tmp_path_factory.mktemp(request.param)
    encoder, data = encoder_in(folder / "encoder"), sst2_in(folder / "sst2")
    layers = ("--layers", 1) if request.param == "adapters" else ()
    options = ("--path", data, "--encoder", encoder, "--model", request.param, *layers, "--limit", 20, "--members", 2, "--seed", 4)
    command(None, "train", "--data", "sst2", *options, "--run", folder / "run")
    command(None, "influence", "--run", folder / "run")
    return folder / "run"


def test_a_deep_run_says_what_it_is(deep_run: Path) -> None:
    run = Run(deep_run)
    settings, model = run_settings(run), load_model(run, CPU)
    assert isinstance(model, Ensemble)
    assert (settings.members, settings.groups, len(run.train), len(run.validation)) == (2, 16, 20, 10)
    assert run.features("train").shape == (20, 2 * 32)
    assert run.manifest["leaks"] == list(model.leaks)
    assert run.manifest["recipe"]["batch"] == 12
    assert not list(deep_run.glob("*.checkpoint")) and not (deep_run / "inputs.npz").exists()


def test_the_opened_model_is_the_trained_one(deep_run: Path) -> None:
    run = Run(deep_run)
    model = load_model(run, CPU)
    for name in ("train", "validation"):
        items = run.split(name)
        rows = split_inputs(run, name, list(range(len(items))), CPU)
        stored = items[["probability_0", "probability_1"]].to_numpy()
        np.testing.assert_allclose(probabilities(model, rows), stored, atol=1e-5)
        with torch.no_grad():
            features = model.features(rows).transpose(0, 1).flatten(1)
        np.testing.assert_allclose(run.features(name), features, atol=1e-4)
    split = Split(rows, torch.tensor(run.validation["label"].tolist()))
    assert accuracy(model, split) == pytest.approx(run.manifest["results"]["validation_accuracy"])


def test_influences_of_a_deep_run_are_the_engine_s(deep_run: Path) -> None:
    run = Run(deep_run)
    model, rows = load_model(run, CPU), split_inputs(run, "validation", list(range(10)), CPU)
    labels = torch.tensor(run.validation["label"].tolist())
    expected = influence(model, rows, labels, range(20), plain=True).values
    np.testing.assert_allclose(run.influence.array("truth_members"), expected, atol=1e-4)
    assert expected.abs().max() > 1e-3
    assert not torch.allclose(expected[0], expected[1])


def test_influences_on_errors_alone_and_a_text_explained(deep_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(deep_run)
    text = run.validation["text"].iloc[0]
    made = command(capsys, "explain", "--run", deep_run, "--text", text, "--top", 3)
    stored = run.influence.ranked(0, "prediction")
    places = stored.ends(3)[0]
    assert made["predicted"] == run.classes[int(run.validation["predicted"].iloc[0])]
    assert [entry["position"] for entry in made["proponents"]] == list(places)
    assert [entry["influence"] for entry in made["proponents"]] == pytest.approx(list(stored.values[places]), abs=1e-4)
    longer = command(capsys, "explain", "--run", deep_run, "--text", "a superb film " * 200)
    assert sum(longer["probabilities"].values()) == pytest.approx(1)
    if run.errors:
        errors = command(capsys, "influence", "--run", deep_run, "--targets", "errors")
        assert errors["targets"] == len(run.errors)
        command(capsys, "influence", "--run", deep_run)


def test_token_rows_of_a_run_have_one_width_and_no_text_is_lost(deep_run: Path) -> None:
    inputs = TextInputs(run_settings(Run(deep_run)), CPU)
    told: list[int] = []
    made = inputs(["a superb film", "", "dull " * 300], told.append)
    assert made.shape == (3, 128)
    assert made.dtype == np.int64
    assert [(row != 0).sum() for row in made] == [5, 2, 128]
    assert told == [3]
    np.testing.assert_array_equal(inputs(["a superb film"])[0], made[0])


def test_the_same_command_makes_the_same_run(deep_run: Path, tmp_path: Path, short_recipes: None) -> None:
    settings = run_settings(Run(deep_run))
    options = ["--path", settings.path, "--encoder", settings.encoder, "--model", settings.model, "--limit", 20, "--members", 2, "--seed", 4]
    torch.manual_seed(5)
    command(None, "train", "--data", "sst2", *options, *(("--layers", 1) if settings.layers else ()), "--run", tmp_path / "again")
    assert (tmp_path / "again" / "weights.safetensors").read_bytes() == (deep_run / "weights.safetensors").read_bytes()


def test_a_deep_run_is_cleansed_for_another_domain(deep_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--fraction", 0.2, "--repeats", 1, "--validation", "elec")
    made = command(capsys, "cleanse", "--run", deep_run, *options, "--path", elec_in(tmp_path / "elec"))
    assert (made["removed"], made["targets"], made["measured_on"], len(made["models"])) == (4, 8, 12, 3)
    for extra, expected in (((), "--path"), (("--path", tmp_path / "none"), "none")):
        assert main([*map(str, ("cleanse", "--run", deep_run, *options, *extra))]) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        assert expected in printed.err


def test_vgg19_from_end_to_end(short_recipes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data = small_images(24, 4)
    monkeypatch.setattr("core.pipeline.plan.load_data", lambda *_: data)
    folder = tmp_path / "run"
    result = command(capsys, "train", "--data", "cifar10", "--model", "vgg19", "--dropout", 0.5, "--run", folder)
    command(capsys, "influence", "--run", folder)
    run = Run(folder)
    assert (result["members"], result["epochs"], run.features("train").shape[0]) == (1, 1, 24)
    model, rows = load_model(run, CPU), split_inputs(run, "validation", [0, 1, 2, 3], CPU)
    np.testing.assert_allclose(probabilities(model, rows), run.validation[["probability_0", "probability_1"]], atol=1e-4)
    expected = influence(model, rows, torch.tensor([0, 1, 0, 1]), range(4), plain=True).values
    np.testing.assert_allclose(run.influence.array("truth_members")[..., :4], expected, atol=1e-4)
    assert data.validation.images is not None
    Image.fromarray(data.validation.images[1]).save(tmp_path / "light.png")
    made = command(capsys, "explain", "--run", folder, "--image", tmp_path / "light.png", "--top", 2)
    assert made["predicted"] == run.classes[int(run.validation["predicted"].iloc[1])]
    assert len(made["proponents"]) <= 2
