"""Models trained elsewhere become runs by `register` or `turnover.save_run`, or are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import turnover
from tests.helpers.builders import names
from tests.helpers.own_modules import LEAKS, code_in, command, own_code, refused
from turnover.attribution.dropout import turnover_layers
from turnover.cli import build_parser, main
from turnover.cli.cleanse import describe_cleanse
from turnover.data.base import Dataset
from turnover.data.images import png_bytes
from turnover.data.sources import load_data
from turnover.explain.facts import run_facts
from turnover.models import names as source
from turnover.models.inputs import pixels
from turnover.runs.model import run_settings
from turnover.training import fit as training
from turnover.workflows.influence import compute_influence
from turnover.workflows.register import UNLEARNED

__all__ = ["own_code"]
MODEL, SEED = "own_images:build", 4


def digits() -> Dataset:
    """The built-in digits, all of them: what `--data digits` reads."""
    return load_data("digits")


def few() -> Dataset:
    data = digits()
    validation = data.validation.take(np.arange(30))
    return replace(data, train=data.train.take(np.arange(60)), validation=validation)


def read(items: Any) -> tuple[Tensor, Tensor]:
    """What a module sees of images, and their labels."""
    return torch.from_numpy(pixels(items.images)), torch.from_numpy(items.labels)


def built(model: str = MODEL, classes: int = 10, channels: int = 1) -> nn.Module:
    """What the function of one's own builds."""
    source.allow(model)
    build = source.load_function(model, source.source_checksum(model))
    torch.manual_seed(0)
    module: nn.Module = build(classes, (channels, 8, 8), SEED)
    source._allowed.clear()
    return module


def trained_elsewhere(data: Dataset, epochs: int = 2) -> nn.Module:
    """A loop of the user's own, in three lines more than without turn-over dropout."""
    module, (inputs, labels) = built(), read(data.train)
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(20):
            with turnover.turnover(rows):
                loss = nn.functional.cross_entropy(module(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return module.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, turnover.Run]:
    """A module that has learned its items, and its run with influence."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with code_in(folder):
        module = trained_elsewhere(few(), epochs=20)
        run = turnover.save_run(folder / "run", few(), module, MODEL, seed=SEED)
        compute_influence(run)
    return module, turnover.Run(run.folder)


@pytest.mark.filterwarnings("error")
def test_influences_of_a_saved_run_are_those_of_the_module(
    saved: tuple[nn.Module, turnover.Run],
) -> None:
    """And so are its losses and predictions."""
    (module, run), data = saved, few()
    rows, labels = read(data.validation)
    expected = turnover.influence(module, rows, labels, range(60)).values
    np.testing.assert_allclose(run.influence.array("truth_members"), expected, atol=1e-4)
    own = turnover.self_influence(module, *read(data.train), range(60))
    masked, flipped = run.array("item_losses")[:, 0]
    np.testing.assert_allclose(flipped - masked, own[0], atol=1e-4)
    with torch.no_grad():
        chances = module(rows).softmax(-1)
    told = run.validation[[f"probability_{number}" for number in range(10)]]
    np.testing.assert_allclose(told, chances, atol=1e-5)
    assert run.influence.estimator == "raw"


def test_what_nobody_measured_is_not_made_up_and_the_run_says_so(
    saved: tuple[nn.Module, turnover.Run],
) -> None:
    _, run = saved
    manifest, curves = run.manifest, run.curves
    results = manifest["results"]
    plain = [results[f"plain_{name}"] for name in ("accuracy", "loss", "kept_epoch")]
    assert plain == [None] * 3 and manifest["recipe"] == {}
    assert (len(curves), results["epochs"], results["kept_epoch"]) == (1, 1, 1)
    masked = run.array("item_losses")[0, 0].mean()
    assert curves["masked"].iloc[0] == pytest.approx(masked, abs=1e-6)
    assert curves["validation"].iloc[0] == pytest.approx(results["validation_loss"])
    assert (manifest["leaks"], manifest["adopted"]) == (LEAKS, "the module")
    assert names(run.folder) == sorted(
        (*turnover.runs.run.RUN_FILES, "manifest.json", "influence", "causes")
    )
    facts = run_facts(run, with_influence=False)
    assert facts["Accuracy"].endswith("unknown without")
    assert facts["Trained"].startswith("elsewhere, made a run on 20")
    assert facts["Model"] == "own_images:build, its own masks"


def test_a_compiled_module_is_saved_as_what_it_compiles(
    saved: tuple[nn.Module, turnover.Run], own_code: Path
) -> None:
    module, run = saved
    compiled = torch.compile(module, backend="eager")
    again = turnover.save_run(own_code / "compiled", few(), compiled, MODEL, seed=SEED)
    same = [(one.folder / "weights.safetensors").read_bytes() for one in (run, again)]
    assert same[0] == same[1]


def test_what_does_not_learn_its_own_masks_is_warned_of_or_refused(own_code: Path) -> None:
    data, module = few(), built().eval()

    def save(name: str, seed: int = SEED, **changes: Any) -> object:
        return turnover.save_run(
            own_code / name, replace(data, **changes), module, MODEL, seed=seed
        )

    with pytest.warns(UserWarning, match="do no better under their own masks"):
        save("untrained")
    said = "makes other masks than the module has; give the seed"
    with pytest.raises(turnover.TurnoverError, match=said):
        save("run", SEED + 1)
    for layer in turnover_layers(module):
        layer.masks = 4
    with pytest.raises(turnover.TurnoverError, match=said):
        save("run")
    (own_code / "there").mkdir()
    with pytest.raises(turnover.TurnoverError, match="exists; choose another folder"):
        save("there")
    with pytest.raises(turnover.TurnoverError, match="repeats the id"):
        save("run", train=replace(data.train, ids=["same"] * 60))
    assert names(own_code / "there") == [] and not (own_code / "run").exists()


# A file of weights


def registering(weights: object, folder: Path, **changes: object) -> list[object]:
    options = {"--model": MODEL, "--weights": weights, "--data": "digits", "--run": folder}
    return ["register", *(part for pair in (options | changes).items() for part in pair)]


@pytest.fixture
def weights(own_code: Path) -> Path:
    save_file(trained_elsewhere(digits(), epochs=1).state_dict(), own_code / "mine.safetensors")
    return own_code / "mine.safetensors"


def test_a_file_of_weights_is_registered(
    own_code: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = own_code / "run", {"--seed": SEED + 1}
    made = command(capsys, *registering(weights, run, **{"--seed": SEED}))
    assert (made["learned"], made["train_size"], made["members"]) == (True, 1200, 1)
    assert made["model"] == MODEL
    planted = turnover.Run(run).train["planted"]
    assert (planted == "").all()  # no wrong labels are planted in what was trained elsewhere
    source._allowed.clear()
    named = ("--run", run, "--model", MODEL)
    command(capsys, "influence", *named, "--most", 10)
    assert "trained elsewhere" in refused(capsys, "evaluate", *named, "--measure", "lds")
    assert not command(capsys, *registering(weights, own_code / "other", **other))["learned"]
    assert main([*map(str, registering(weights, own_code / "words", **other))]) == 0
    assert UNLEARNED in capsys.readouterr().out


def test_tied_weights_may_be_given_under_any_of_their_names(
    own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, file = "own_images:tied", own_code / "tied.safetensors"
    whole = {own: value.clone() for own, value in built(name).state_dict().items()}
    both = {*whole, *(f"body.1.unmasked_{part}" for part in ("mean", "var"))}
    kept = sorted(f"models.0.{own}" for own in both if own != "again.weight")
    for left_out in ("out.weight", "again.weight"):
        save_file({own: value for own, value in whole.items() if own != left_out}, file)
        run = own_code / left_out
        command(capsys, *registering(file, run, **{"--model": name, "--seed": SEED}))
        assert sorted(load_file(run / "weights.safetensors")) == kept


def test_weights_that_do_not_fit_are_refused_and_leave_nothing(
    own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, run = built().state_dict(), own_code / "run"
    builds = "but the model that the function builds has"
    bias = state["9.bias"]
    cases: list[tuple[dict[str, Tensor | None], str]] = [
        ({"9.bias": None}, f"'9.bias' is missing, {builds} (10,)"),
        ({"extra": torch.zeros(2)}, f"'extra' is of shape (2,), {builds} no such tensor"),
        ({"9.weight": torch.zeros(11, 16)}, f"of shape (11, 16), {builds} (10, 16)"),
        ({"9.bias": torch.full_like(bias, torch.nan)}, "a loss is not finite"),
    ]
    file = own_code / "wrong.safetensors"
    for change, said in cases:
        tensors = {own: value for own, value in {**state, **change}.items() if value is not None}
        save_file(tensors, file)
        assert said in refused(capsys, *registering(file, run))
    save_file(state, file)
    (own_code / "torn.safetensors").write_bytes(file.read_bytes()[:100])
    torn = "torn.safetensors: no weights that can be read"
    assert torn in refused(capsys, *registering(own_code / "torn.safetensors", run))
    assert "none.safetensors" in refused(capsys, *registering(own_code / "none.safetensors", run))
    for model, said in (("small-vgg", "module:function"), ("own_images:maskless", "has no Turn")):
        assert said in refused(capsys, *registering(file, run, **{"--model": model}))
    assert not run.exists() and not (own_code / "run.partial").exists()
    run.mkdir()
    assert "exists; choose another" in refused(capsys, *registering(file, run))


def test_a_training_that_was_stopped_is_not_swept_away(
    own_code: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, real = own_code / "run", training.save_checkpoint

    def stop(*arguments: Any, **facts: Any) -> None:
        real(*arguments, **facts)
        raise KeyboardInterrupt

    options = {"--data": "digits", "--model": MODEL, "--members": 1, "--label-noise": 0}
    asked = [str(part) for pair in (options | {"--seed": SEED}).items() for part in pair]
    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr(training, "save_checkpoint", stop)
        arguments = build_parser().parse_args(["train", *asked, "--run", str(run)])
        arguments.call.execute(arguments)
    save_file(built().state_dict(), own_code / "mine.safetensors")
    line = refused(capsys, *registering(own_code / "mine.safetensors", run, **{"--seed": SEED}))
    partial = own_code / "run.partial"
    assert f"{partial} is a training that was stopped; finish it, delete it, or choose" in line
    assert "masked.checkpoint" in names(partial) and not run.exists()


def test_own_files_are_registered_with_their_validation_items_alone(
    own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Drawing validation items from the training file would change who owns which mask."""
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 8, 3), np.uint8)
    for row in range(30):
        split = "train" if row < 20 else "validation"
        path = own_code / split / ("even", "odd")[row % 2] / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_bytes(images[row]))
    save_file(built(classes=2, channels=3).state_dict(), own_code / "rgb.safetensors")
    options = ("--model", MODEL, "--weights", own_code / "rgb.safetensors", "--seed", SEED)
    asked = ("register", *options, "--train", own_code / "train", "--run", own_code / "run")
    assert "--validation: name the validation items" in refused(capsys, *asked)
    made = command(capsys, *asked, "--validation", own_code / "validation")
    assert (made["train_size"], made["validation_size"]) == (20, 10)
    run = turnover.Run(own_code / "run")
    assert run.classes == ["even", "odd"]
    assert json.loads((run.folder / "manifest.json").read_text())["adopted"] != "the module"


def test_a_recipe_is_kept_for_every_retraining_and_a_poor_one_is_said_first(
    own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a retraining is given goes into the run; models of another recipe are not used again."""
    source.allow(MODEL)
    data = replace(digits(), train=digits().train.take(np.arange(200)))
    trained, folder = trained_elsewhere(data, epochs=20), own_code / "run"
    how = {"epochs": 20, "learning_rate": 5e-3, "batch": 20, "optimizer": "adamw"}
    run = turnover.save_run(folder, data, trained, MODEL, seed=SEED, **how)
    made = run_settings(run).recipe
    assert (made.epochs, made.learning_rate, made.batch, made.momentum) == (20, 5e-3, 20, None)
    command(capsys, "influence", "--run", folder, "--model", MODEL)
    asked = ("cleanse", "--run", folder, "--fraction", 0.1, "--repeats", 1, "--model", MODEL)
    assert "Caution" not in describe_cleanse(command(capsys, *asked))
    poor = command(capsys, *asked, "--learning-rate", 1e-8, "--optimizer", "sgd")
    assert poor["trained"] == 3 and describe_cleanse(poor).startswith("Caution: trained again on")
    made = run_settings(turnover.Run(folder)).recipe
    assert (made.learning_rate, made.momentum, made.batch) == (1e-8, 0.9, 20)
    assert command(capsys, *asked)["trained"] == 0
    measured = ("evaluate", "--run", folder, "--measure", "lds", "--halves", 4, "--seeds", 1)
    made_with = command(capsys, *measured, "--model", MODEL, "--baselines", "loss")
    assert made_with["epochs"] == 20
    for wrong, words in (
        (("--optimizer", "lion"), "--optimizer lion: choose adamw or sgd"),
        (("--batch", 0), "--batch 0: choose 1 or more"),
    ):
        assert words in refused(capsys, *asked, *wrong)
