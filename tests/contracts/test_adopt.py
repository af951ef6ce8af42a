"""Models that were trained elsewhere become runs, by command or by `core.save_run`: what was measured, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import core
from core import training
from core.cli import build_parser, main
from core.data import load_data
from core.data.base import Dataset
from core.data.images import png_bytes
from core.models import source
from core.pipeline.adopt import UNLEARNED
from core.pipeline.architecture import image_inputs
from core.pipeline.influence import compute_influence
from tests.contracts.test_own_models import command, refused
from tests.helpers.builders import names
from tests.helpers.own_modules import own_code

__all__ = ["own_code"]
MODEL, SEED = "own_images:build", 4


def digits() -> Dataset:
    """The built-in digits, all of them: what `--data digits` reads."""
    return load_data("digits")


def few(data: Dataset) -> Dataset:
    return replace(data, train=data.train.take(np.arange(60)), validation=data.validation.take(np.arange(30)))


def trained_elsewhere(data: Dataset, epochs: int = 2, seed: int = SEED) -> nn.Module:
    """A loop of the user's own, in three lines more than without turn-over dropout."""
    source.allow(MODEL)
    torch.manual_seed(0)
    module: nn.Module = source.load_function(MODEL, source.source_checksum(MODEL))(10, (1, 8, 8), seed)
    assert data.train.images is not None
    inputs, labels = image_inputs(data.train.images), torch.from_numpy(data.train.labels)
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(20):
            with core.turnover(rows):
                loss = nn.functional.cross_entropy(module(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    source._allowed.clear()
    return module.eval()


@pytest.mark.filterwarnings("error")
def test_influences_of_a_saved_run_are_those_of_the_module(own_code: Path) -> None:
    """core.influence on the module itself = the run's, and so are its losses and predictions."""
    data = few(digits())
    module = trained_elsewhere(data, epochs=20)
    run = core.save_run(own_code / "run", data, module, MODEL, seed=SEED)
    compute_influence(run)
    assert data.validation.images is not None and data.train.images is not None
    rows, labels = image_inputs(data.validation.images), torch.from_numpy(data.validation.labels)
    expected = core.influence(module, rows, labels, range(60)).values
    np.testing.assert_allclose(run.influence.array("truth_members"), expected, atol=1e-4)
    own = core.self_influence(module, image_inputs(data.train.images), torch.from_numpy(data.train.labels), range(60))
    masked, flipped = run.array("item_losses")[:, 0]
    np.testing.assert_allclose(flipped - masked, own[0], atol=1e-4)
    with torch.no_grad():
        chances = module(rows).softmax(-1)
    np.testing.assert_allclose(run.validation[[f"probability_{number}" for number in range(10)]], chances, atol=1e-5)
    assert run.influence.estimator == "raw"


def test_a_compiled_module_is_saved_as_what_it_compiles(own_code: Path) -> None:
    data, module = few(digits()), trained_elsewhere(few(digits()), epochs=20)
    runs = [
        core.save_run(own_code / name, data, own, MODEL, seed=SEED) for name, own in (("run", module), ("compiled", torch.compile(module, backend="eager")))
    ]
    assert (runs[0].folder / "weights.safetensors").read_bytes() == (runs[1].folder / "weights.safetensors").read_bytes()


def test_tied_weights_may_be_given_under_any_of_their_names(own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.allow("own_images:tied")
    module = source.load_function("own_images:tied", source.source_checksum("own_images:tied"))(10, (1, 8, 8), SEED)
    whole = {name: value.clone() for name, value in module.state_dict().items()}
    for left_out in ("out.weight", "again.weight"):
        save_file({name: value for name, value in whole.items() if name != left_out}, own_code / "tied.safetensors")
        options = ("--weights", own_code / "tied.safetensors", "--data", "digits", "--seed", SEED, "--run", own_code / left_out)
        command(capsys, "adopt", "--model", "own_images:tied", *options)
        assert sorted(load_file(own_code / left_out / "weights.safetensors")) == sorted(f"models.0.{name}" for name in whole if name != "again.weight")


def test_what_nobody_measured_is_not_made_up(own_code: Path) -> None:
    run = core.save_run(own_code / "run", few(digits()), trained_elsewhere(few(digits()), epochs=20), MODEL, seed=SEED)
    results, curves = run.manifest["results"], run.curves
    assert [results[name] for name in ("plain_accuracy", "plain_loss", "plain_kept_epoch")] == [None] * 3
    assert (len(curves), results["epochs"], results["kept_epoch"], run.manifest["recipe"]) == (1, 1, 1, {})
    assert curves["masked"].iloc[0] == pytest.approx(run.array("item_losses")[0, 0].mean(), abs=1e-6)
    assert curves["validation"].iloc[0] == pytest.approx(results["validation_loss"])
    assert run.manifest["leaks"] == ["0.weight", "0.bias", "1.weight", "1.bias", "9.bias", "the statistics of 1"]
    assert names(run.folder) == sorted((*core.runs.RUN_FILES, "manifest.json"))


def execute(command: str, *options: object) -> None:
    """Run a command here, where what is interrupted can be seen."""
    arguments = build_parser().parse_args([command, *map(str, options)])
    arguments.module.execute(arguments)


@pytest.fixture
def weights(own_code: Path) -> Path:
    save_file(trained_elsewhere(digits(), epochs=1).state_dict(), own_code / "mine.safetensors")
    return own_code / "mine.safetensors"


def test_a_file_of_weights_is_adopted(own_code: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = command(capsys, "adopt", "--model", MODEL, "--weights", weights, "--data", "digits", "--seed", SEED, "--run", own_code / "run")
    assert (made["learned"], made["train_size"], made["members"], made["model"]) == (True, 1200, 1, MODEL)
    assert (core.Run(own_code / "run").train["planted"] == "").all()  # no wrong labels are planted in what was trained elsewhere
    source._allowed.clear()
    command(capsys, "influence", "--run", own_code / "run", "--model", MODEL, "--most", 10)
    assert "trained elsewhere" in refused(capsys, "evaluate", "--run", own_code / "run", "--model", MODEL, "--measure", "lds")
    other = command(capsys, "adopt", "--model", MODEL, "--weights", weights, "--data", "digits", "--seed", SEED + 1, "--run", own_code / "other")
    assert not other["learned"]
    arguments = ("--model", MODEL, "--weights", weights, "--data", "digits", "--seed", SEED + 1, "--run", own_code / "words")
    assert main(["adopt", *map(str, arguments)]) == 0
    assert UNLEARNED in capsys.readouterr().out


def test_an_untrained_module_is_saved_with_a_warning(own_code: Path) -> None:
    with pytest.warns(UserWarning, match="do no better under their own masks"):
        core.save_run(own_code / "run", few(digits()), trained_elsewhere(few(digits()), epochs=0), MODEL, seed=SEED)


def adopted(weights: object, folder: Path, **changes: object) -> list[object]:
    options = {"--model": MODEL, "--weights": weights, "--data": "digits", "--run": folder} | changes
    return ["adopt", *(part for pair in options.items() for part in pair)]


def test_weights_that_do_not_fit_are_refused_and_leave_nothing(own_code: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, run = trained_elsewhere(digits(), epochs=0), own_code / "run"
    state = module.state_dict()
    cases: list[tuple[dict[str, Any], str]] = [
        ({name: value for name, value in state.items() if name != "9.bias"}, "'9.bias' is missing, but the model that the function builds has (10,)"),
        ({**state, "extra": torch.zeros(2)}, "'extra' is of shape (2,), but the model that the function builds has no such tensor"),
        ({**state, "9.weight": torch.zeros(11, 16)}, "'9.weight' is of shape (11, 16), but the model that the function builds has (10, 16)"),
        ({**state, "9.bias": torch.full((10,), torch.nan)}, "a loss is not finite"),
    ]
    for number, (tensors, expected) in enumerate(cases):
        save_file(tensors, own_code / f"{number}.safetensors")
        assert expected in refused(capsys, *adopted(own_code / f"{number}.safetensors", run))
    (own_code / "torn.safetensors").write_bytes(weights.read_bytes()[:100])
    assert "torn.safetensors: no weights that can be read" in refused(capsys, *adopted(own_code / "torn.safetensors", run))
    assert "none.safetensors" in refused(capsys, *adopted(own_code / "none.safetensors", run))
    assert "module:function" in refused(capsys, *adopted(weights, run, **{"--model": "small-vgg"}))
    assert "has no TurnoverDropout layer" in refused(capsys, *adopted(weights, run, **{"--model": "own_images:maskless"}))
    assert not run.exists() and not (own_code / "run.partial").exists()
    run.mkdir()
    assert "exists; choose another" in refused(capsys, *adopted(weights, run))


def test_a_training_that_was_stopped_is_not_swept_away(own_code: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data, run, real = few(digits()), own_code / "run", training.save_checkpoint

    def stop(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    options = ("--data", "digits", "--model", MODEL, "--members", 1, "--label-noise", 0, "--seed", SEED, "--run", run)
    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr(training, "save_checkpoint", stop)
        execute("train", *options)
    save_file(trained_elsewhere(data).state_dict(), own_code / "mine.safetensors")
    line = refused(capsys, *adopted(own_code / "mine.safetensors", run, **{"--seed": SEED}))
    assert f"{own_code / 'run.partial'} is a training that was stopped; finish it, delete it, or choose another folder for this run" in line
    assert "masked.checkpoint" in names(own_code / "run.partial") and not run.exists()


def test_a_module_with_other_masks_than_its_function_makes_is_refused(own_code: Path) -> None:
    data = few(digits())
    module = trained_elsewhere(data)
    with pytest.raises(core.TurnoverError, match="makes other masks than the module has; give the seed"):
        core.save_run(own_code / "run", data, module, MODEL, seed=SEED + 1)
    (own_code / "there").mkdir()
    with pytest.raises(core.TurnoverError, match="exists; choose another folder"):
        core.save_run(own_code / "there", data, module, MODEL, seed=SEED)
    with pytest.raises(core.TurnoverError, match="repeats the id"):
        core.save_run(own_code / "run", replace(data, train=replace(data.train, ids=["same"] * 60)), module, MODEL, seed=SEED)
    assert names(own_code / "there") == [] and not (own_code / "run").exists()


def test_the_manifest_says_that_a_run_was_adopted(own_code: Path) -> None:
    from core.report.facts import run_facts

    run = core.save_run(own_code / "run", few(digits()), trained_elsewhere(few(digits()), epochs=20), MODEL, seed=SEED)
    facts = run_facts(run, with_influence=False)
    assert facts["Accuracy"].endswith("unknown without")
    assert facts["Trained"].startswith("elsewhere, made a run on 20")
    assert facts["Model"] == "own_images:build, its own masks"
    assert json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))["adopted"] == "the module"


def test_own_files_are_adopted_with_their_validation_items_alone(own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Own images are RGB; drawing validation items from the training file would change who owns which mask."""
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 8, 3), np.uint8)
    for split, rows in (("train", range(20)), ("validation", range(20, 30))):
        for row in rows:
            path = own_code / split / ("even", "odd")[row % 2] / f"{row:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png_bytes(images[row]))
    source.allow(MODEL)
    module = source.load_function(MODEL, source.source_checksum(MODEL))(2, (3, 8, 8), SEED)
    save_file(module.state_dict(), own_code / "rgb.safetensors")
    options = ("--model", MODEL, "--weights", own_code / "rgb.safetensors", "--seed", SEED, "--train", own_code / "train")
    assert "--validation: name the validation items" in refused(capsys, "adopt", *options, "--run", own_code / "run")
    made = command(capsys, "adopt", *options, "--validation", own_code / "validation", "--run", own_code / "run")
    assert (made["train_size"], made["validation_size"]) == (20, 10)
    assert core.Run(own_code / "run").classes == ["even", "odd"]
