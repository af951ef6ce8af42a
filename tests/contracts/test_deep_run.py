"""Deep models from end to end: trained, opened again, their influences, and a new text explained.

`tests/nightly/test_deep_runs.py` asks the same of the other deep models.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.own_modules import command
from tests.helpers.token_builders import encoder_in, sst2_in
from turnover import Run, influence
from turnover.attribution.ensemble import Ensemble
from turnover.cli import main
from turnover.data.recipe import Recipe
from turnover.models.registry import find_family
from turnover.runs.model import load_model, run_settings, split_inputs
from turnover.training.fit import Split, accuracy, probabilities

CPU = torch.device("cpu")


def train_deep(folder: Path, model: str, *options: object) -> Path:
    """A run of two members on a tiny encoder, of two epochs, with influence."""
    family = find_family(model)
    assert family
    recipe = replace(family().recipe or Recipe(), epochs=2, batch=12)
    data = ("--path", sst2_in(folder / "sst2"), "--encoder", encoder_in(folder / "encoder"))
    small = ("--limit", 20, "--members", 2, "--seed", 4, "--run", folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(family, "recipe", recipe)
        train = ("train", "--data", "sst2", *data, "--model", model, *options, *small)
        assert main([*map(str, train)]) == 0
    assert main(["influence", "--run", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def deep_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_deep(tmp_path_factory.mktemp("adapters"), "adapters", "--layers", 1)


def test_a_deep_run_says_what_it_is(deep_run: Path) -> None:
    run = Run(deep_run)
    told, model = run_settings(run), load_model(run, CPU)
    assert isinstance(model, Ensemble)
    assert (told.members, told.options["groups"], len(run.train), len(run.validation)) == (
        2,
        16,
        20,
        10,
    )
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
    told = run.manifest["results"]["validation_accuracy"]
    assert accuracy(model, split) == pytest.approx(told)


def test_influences_of_a_deep_run_are_the_engine_s(deep_run: Path) -> None:
    run = Run(deep_run)
    model, rows = load_model(run, CPU), split_inputs(run, "validation", list(range(10)), CPU)
    labels = torch.tensor(run.validation["label"].tolist())
    expected = influence(model, rows, labels, range(20), plain=True).values
    np.testing.assert_allclose(run.influence.array("truth_members"), expected, atol=1e-4)
    assert expected.abs().max() > 1e-3
    assert not torch.allclose(expected[0], expected[1])


def test_a_text_is_explained_as_it_was_measured(
    deep_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, asked = Run(deep_run), ("explain", "--run", deep_run)
    made = command(capsys, *asked, "--text", run.validation["text"].iloc[0], "--top", 3)
    stored = run.influence.ranked(0, "prediction")
    places = stored.ends(3)[0]
    assert made["predicted"] == run.classes[int(run.validation["predicted"].iloc[0])]
    assert [entry["position"] for entry in made["proponents"]] == list(places)
    values = [entry["influence"] for entry in made["proponents"]]
    assert values == pytest.approx(list(stored.values[places]), abs=1e-4)
    longer = command(capsys, *asked, "--text", "a superb film " * 200)
    assert sum(longer["probabilities"].values()) == pytest.approx(1)


def test_token_rows_of_a_run_have_one_width_and_no_text_is_lost(deep_run: Path) -> None:
    inputs = run_settings(Run(deep_run)).reader(CPU)
    told: list[int] = []
    made = inputs(["a superb film", "", "dull " * 300], told.append)
    assert (made.shape, made.dtype, told) == ((3, 128), np.int64, [3])
    assert [(row != 0).sum() for row in made] == [5, 2, 128]
    np.testing.assert_array_equal(inputs(["a superb film"])[0], made[0])
