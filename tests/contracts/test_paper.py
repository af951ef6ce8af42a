"""The paper's experiments on tiny data: their rows, their runs used again, and what is said when data are missing."""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import core.paper.cleansing as cleansing_module
import core.paper.errors_images as errors_images_module
import core.paper.errors_text as errors_text_module
import core.paper.mistakes as mistakes_module
import core.paper.setup as paper_setup
import core.paper.side_effect as side_effect_module
from core import Run, TurnoverError, influence
from core.cleansing.choose import CLEANSED, CONDITIONS, NONE
from core.cli import main
from core.commands.paper import EXPERIMENTS
from core.data.elec import load_elec
from core.estimators.stored import stored_estimator
from core.models.encoders import DEFAULT_ENCODER
from core.paper.cleansing import cleansing
from core.paper.curves import curves
from core.paper.errors_images import errors_images
from core.paper.errors_text import errors_text
from core.paper.row import PaperRow, paper_table
from core.paper.setup import Setup
from core.paper.side_effect import image_settings, side_effect, text_settings
from core.pipeline.cleanse import cleanse, prepare
from core.pipeline.estimate import describe_targets
from core.pipeline.model import load_model, run_settings
from core.pipeline.settings import DEFAULT_MEMBERS, MODEL_RECIPES, RECIPES, TrainSettings
from core.recipe import Recipe
from core.report.facts import explained_pattern
from tests.helpers.builders import checksums, names
from tests.helpers.token_builders import elec_in, encoder_in, sst2_in


def test_a_table_has_a_line_a_row() -> None:
    rows = [PaperRow("accuracy", "SST-2", "90.0 %", "88.1 %"), PaperRow("loss", "Elec", "", ".5")]
    assert paper_table(rows).split("\n") == [
        "| what | setting | paper | measured |",
        "| --- | --- | ---: | ---: |",
        "| accuracy | SST-2 | 90.0 % | 88.1 % |",
        "| loss | Elec |  | .5 |",
    ]
    assert paper_table([]).count("\n") == 1


def a_setup(folder: Path, scale: str = "small") -> Setup:
    """A setup whose data folders are there and empty."""
    for name in ("sst2", "elec", "cifar10"):
        (folder / "data" / name).mkdir(parents=True)
    return Setup(scale, folder / "data", folder / "runs", "cpu")


# Runs


def test_a_run_is_trained_once_and_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup("small", tmp_path, tmp_path / "runs", "cpu")
    settings = TrainSettings("digits", limit=30, members=1)
    first = setup.run("digits", settings)
    before = checksums(first.folder)
    monkeypatch.setattr(paper_setup, "train_run", None)
    assert setup.run("digits", replace(settings, path="elsewhere")).folder == first.folder == tmp_path / "runs" / "paper-digits-small"
    with pytest.raises(TurnoverError, match=r"^[^\n]*paper-digits-small was trained with other settings[^\n]*delete it[^\n]*$"):
        setup.run("digits", replace(settings, seed=5))
    with monkeypatch.context() as patch, pytest.raises(TurnoverError, match="other settings"):
        patch.setitem(RECIPES, "digits", replace(RECIPES["digits"], weight_decay=0.5))
        setup.run("digits", settings)
    assert checksums(first.folder) == before
    assert names(tmp_path / "runs") == ["paper-digits-small"]


def test_the_scales_differ_as_they_say(tmp_path: Path) -> None:
    small, paper = a_setup(tmp_path / "small"), a_setup(tmp_path / "paper", "paper")
    texts = [text_settings(setup, 5000).resolved("text") for setup in (small, paper)]
    assert [(one.encoder, one.groups, one.limit, one.members) for one in texts] == [(DEFAULT_ENCODER, 16, 5000, 1), ("bert-base-uncased", 0, 5000, 1)]
    assert [(text_settings(paper, size).data, paper.encoder_name) for size in (5000, 20_000)] == [("sst2", "BERT-base"), ("sst2-phrases", "BERT-base")]
    named = replace(paper, encoder="some/where/else")
    assert (text_settings(named, 5000).encoder, named.encoder_name, small.encoder_name) == ("some/where/else", "else", "MiniLM")
    images = [image_settings(setup, 0.5).resolved("image") for setup in (small, paper)]
    assert [(one.model, one.limit, one.groups, one.dropout) for one in images] == [("vgg19", 2000, 0, 0.5), ("vgg19", None, 0, 0.5)]
    assert [(one.validation_limit, one.recipe.epochs) for one in images] == [(500, 5), (None, MODEL_RECIPES["vgg19"].epochs)]


@pytest.mark.parametrize("missing", ["sst2", "elec", "cifar10"])
def test_a_missing_folder_is_named(missing: str, tmp_path: Path) -> None:
    setup = a_setup(tmp_path)
    (setup.data / missing).rmdir()
    with pytest.raises(TurnoverError, match=rf"^[^\n]*{missing}: no such folder; --path names a folder that holds {missing}/$"):
        setup.folder(missing)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_without_data_an_experiment_is_one_line_and_code_2(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", name, "--path", str(tmp_path / "none"), "--runs", str(tmp_path / "runs")]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert "no such folder" in printed.err
    assert list(tmp_path.iterdir()) == []


# Experiments on the small run in place of the real ones


def test_curves_are_those_of_the_runs(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Setup, "run", lambda self, name, settings: Run(small_run))
    rows, run = list(curves(a_setup(tmp_path))), Run(small_run)
    epochs, kept = len(run.curves), int(run.manifest["results"]["kept_epoch"])
    assert len(rows) == 3 * (epochs + 2)
    assert [row.what for row in rows if row.what.endswith("(kept)")] == [f"epoch {kept} (kept)"] * 3
    first, at_kept = run.curves.iloc[0], run.curves.iloc[kept - 1]
    assert rows[0].measured.startswith(f"masked {first['masked']:.3f}, flipped {first['flipped']:.3f}, validation {first['validation']:.3f}")
    assert rows[epochs].measured == f"{at_kept['flipped'] / at_kept['validation']:.2f}"
    assert rows[epochs + 1].measured == f"{at_kept['masked'] / at_kept['validation']:.2f}"


@pytest.mark.parametrize(("scale", "count"), [("small", 8), ("paper", 11)])
def test_side_effects_have_the_paper_s_numbers_beside_ours(scale: str, count: int, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, TrainSettings] = {}

    def run(self: Setup, name: str, settings: TrainSettings) -> Run:
        asked[name] = settings
        return Run(small_run)

    recipes: list[Recipe] = []
    real = side_effect_module.fit
    monkeypatch.setattr(side_effect_module, "fit", lambda *all_of, **named: (recipes.append(all_of[3]), real(*all_of, **named))[1])
    monkeypatch.setattr(Setup, "run", run)
    rows, results = list(side_effect(a_setup(tmp_path, scale))), Run(small_run).manifest["results"]
    assert len(rows) == count
    assert [recipe.fresh and recipe.masked for recipe in recipes] == [True] * (1 if scale == "small" else 2)
    assert asked["cifar10-vgg19-dropout"].dropout == 0.5 and asked["cifar10-vgg19"].dropout == 0
    assert asked["sst2-masked-encoder"].model == "masked-encoder"
    for row in rows:
        if row.what == "accuracy without dropout":
            assert row.measured == f"{results['plain_accuracy']:.1%}"
        if row.what == "accuracy with turn-over dropout":
            assert row.measured == f"{results['validation_accuracy']:.1%}"
    assert [row.paper for row in rows[:2]] == ["90.0 %", "88.3 %"]
    assert [row.paper for row in rows[-3:]] == ["92.0 %", "86.2 %", "91.3 %"]


# Mistakes explained


@pytest.fixture
def wrong_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Adapters in a tiny encoder, and sentences of which many are misclassified, since the labels to validate on are turned round."""
    data, encoder = Path(sst2_in(tmp_path / "data" / "sst2", 24, 10)), encoder_in(tmp_path / "encoder")
    development = pd.read_csv(data / "dev.csv")
    development.assign(label=1 - development["label"]).to_csv(data / "dev.csv", index=False)
    settings = TrainSettings("sst2", path=str(data), model="adapters", encoder=encoder, limit=20)
    monkeypatch.setattr(errors_text_module, "text_settings", lambda setup, size: settings)
    monkeypatch.setitem(MODEL_RECIPES, "adapters", replace(MODEL_RECIPES["adapters"], epochs=1, batch=12))
    monkeypatch.setitem(errors_text_module._MOST, "small", 2)
    return Setup("small", tmp_path / "data", tmp_path / "runs", "cpu")


def test_mistakes_on_texts_are_explained_on_a_page_and_counted(wrong_texts: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(errors_text(wrong_texts))
    run = Run(wrong_texts.runs / "paper-sst2-adapters-5000-small")
    pattern = explained_pattern(run)
    assert len(run.errors) > 2 and pattern and pattern.errors == len(run.influence.targets) == 2
    assert names(wrong_texts.runs) == ["errors-text.html", run.name]
    measured = [row.measured for row in rows]
    assert measured[:3] == [f"{len(run.errors)} of 10", "2", str(wrong_texts.runs / "errors-text.html")]
    assert measured[3].startswith(f"{pattern.proponents:.1%} ± ") and f"of all training items {pattern.chance:.1%}" in measured[3]
    assert measured[4] == f"{pattern.opponents:.1%}"
    assert all(row.paper == "" and "members: 1, estimator: raw" in row.setting for row in rows)
    page = (wrong_texts.runs / "errors-text.html").read_text(encoding="utf-8")
    assert page.count("<article") == 2
    assert all(run.item("validation", target)["id"] in page for target in run.influence.targets)
    before = checksums(run.folder / "influence")
    monkeypatch.setattr(paper_setup, "train_run", None)
    monkeypatch.setattr(mistakes_module, "compute_influence", None)
    assert list(errors_text(wrong_texts)) == rows
    assert checksums(run.folder / "influence") == before


def test_mistakes_on_images_show_the_images(run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(run_copy / "influence")
    setup = a_setup(tmp_path)
    setup.runs.mkdir()
    asked: list[tuple[str, TrainSettings]] = []
    monkeypatch.setattr(Setup, "run", lambda self, name, settings: (asked.append((name, settings)), Run(run_copy))[1])
    monkeypatch.setattr(errors_images_module, "_MOST", 4)
    rows, run = list(errors_images(setup)), Run(run_copy)
    assert asked == [("cifar10-vgg19", image_settings(setup))]
    assert run.influence.targets == run.influence.errors and len(run.influence.errors) == 4
    assert rows[1].measured == "4"
    page = (setup.runs / "errors-images.html").read_text(encoding="utf-8")
    assert all(b64encode(run.item("validation", target)["image"]).decode() in page for target in run.influence.targets)


# Cleansing on tiny texts


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """SST-2 and Elec of a few texts, a tiny encoder, two members, two fractions and seeds."""
    sst2_in(tmp_path / "data" / "sst2", 24, 10), elec_in(tmp_path / "data" / "elec")
    encoder = encoder_in(tmp_path / "encoder")
    monkeypatch.setattr(cleansing_module, "_FRACTIONS", (0.1, 0.3))
    monkeypatch.setattr(cleansing_module, "_REPEATS", 2)
    monkeypatch.setattr(cleansing_module, "TrainSettings", lambda data, **options: TrainSettings(data, **{**options, "limit": 20, "encoder": encoder}))
    monkeypatch.setitem(DEFAULT_MEMBERS, "sst2", 2)
    return Setup("small", tmp_path / "data", tmp_path / "runs", "cpu")


def test_cleansing_rows_are_those_of_cleanse(tiny: Setup) -> None:
    rows = list(cleansing(tiny))
    run = Run(tiny.runs / "paper-sst2-cleansing-small")
    assert run.has_influence
    prepared = prepare(run, "elec", tiny.folder("elec"), "cpu")
    tried = {fraction: {one["condition"]: one for one in cleanse(prepared, fraction, 2)["conditions"]} for fraction in (0.1, 0.3)}
    best = min(tried, key=lambda fraction: tried[fraction][CLEANSED]["validation_loss"])
    fractions = [0.1] if best == 0.1 else [0.1, best]
    assert [row.what for row in rows] == [f"{name}: {what}" for _ in fractions for name in CONDITIONS for what in ("accuracy", "loss")]
    for number, row in enumerate(rows):
        fraction = fractions[number // 6]
        one = tried[fraction][CONDITIONS[number % 6 // 2]]
        measured = f"{one['accuracy']:.1%} ± {one['accuracy_sd']:.1%}" if number % 2 == 0 else f"{one['loss']:.3f} ± {one['loss_sd']:.3f}"
        assert row.measured.startswith(measured)
        assert f"{fraction:.0%} removed{', chosen by validation loss' if fraction == best else ''}, 2 seeds" in row.setting
    assert rows[0].paper == "77.0 ± .9 %"
    assert all(row.paper == "" for row in rows[6:])


def test_targets_of_a_cleansing_for_elec_are_its_validation_reviews(tiny: Setup) -> None:
    """They score the items and end the training; the test reviews measure."""
    run = cleansing_module._run(tiny)
    prepared, elec = prepare(run, "elec", tiny.folder("elec"), "cpu"), load_elec(Path(tiny.folder("elec")))
    assert prepared.targets.labels.tolist() == elec.validation.labels.tolist()
    assert prepared.measured.labels.tolist() == elec.test.labels.tolist()
    members = influence(load_model(run, torch.device("cpu")), prepared.targets.inputs, prepared.targets.labels, range(20)).values.mean(1, keepdim=True)
    estimator = stored_estimator(run)
    targets = describe_targets(load_model(run, torch.device("cpu")), prepared.targets, prepared.targets.inputs.numpy())
    shape = estimator.shape_of(targets).mean(0, keepdims=True)
    np.testing.assert_allclose(prepared.scores, estimator.apply(members.numpy(), shape)[0][0], atol=1e-5)
    assert run_settings(run).members == 2


def test_the_command_prints_json_and_a_table_and_trains_no_second_time(
    tiny: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["paper", "cleansing", "--path", str(tiny.data), "--runs", str(tiny.runs), "--device", "cpu"]
    assert main([*arguments, "--json"]) == 0

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    result = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert {"experiment": "cleansing", "scale": "small"}.items() <= result.items()
    assert set(result["rows"][0]) == {"what", "setting", "paper", "measured"}
    monkeypatch.setattr(paper_setup, "train_run", None)
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert paper_table([PaperRow(**row) for row in result["rows"]]) in table
    assert f"| {NONE}: accuracy |" in table
