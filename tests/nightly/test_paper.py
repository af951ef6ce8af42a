"""The paper's experiments on tiny data: their rows, runs used again, and data that are missing."""

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

import turnover.research.paper.experiments as experiments
import turnover.research.paper.setup as paper_setup
from tests.helpers.builders import checksums, names
from tests.helpers.calling import answer, call
from tests.helpers.token_builders import (
    elec_in,
    encoder_in,
    sst2_in,
)
from turnover import Run, TurnoverError, influence
from turnover.cli.evaluate import EXPERIMENTS
from turnover.data.sources import SOURCES
from turnover.data.sources.text import load_elec
from turnover.explain.facts import explained_pattern
from turnover.models.encoders import DEFAULT_ENCODER
from turnover.models.families.adapters import Adapters
from turnover.models.families.vgg19 import Vgg19
from turnover.models.registry import TrainSettings
from turnover.research.evaluate.lds import halves_of, lds, placebo
from turnover.research.evaluate.scores import ESTIMATORS, Options, evidence_of
from turnover.research.evaluate.task import EvaluationTask
from turnover.research.paper.experiments import (
    FULL,
    MASKED,
    curves,
    footnote4,
    full_influence,
    image_settings,
    side_effect,
    text_settings,
)
from turnover.research.paper.setup import PaperRow, Setup, paper_table
from turnover.runs.model import describe_targets, load_model, run_settings
from turnover.runs.ranking import stored_estimator
from turnover.training.fit import item_losses
from turnover.workflows.cleanse import cleanse, prepare
from turnover.workflows.cleansing import CLEANSED, CONDITIONS, NONE

Patch, Capture = pytest.MonkeyPatch, pytest.CaptureFixture[str]


def a_setup(folder: Path, scale: str = "small") -> Setup:
    """A setup whose data folders are there and empty."""
    for name in ("sst2", "elec", "cifar10"):
        (folder / "data" / name).mkdir(parents=True)
    return Setup(scale, folder / "data", folder / "runs", "cpu")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: Patch) -> Setup:
    """SST-2 and Elec of a few texts, a tiny encoder, and few items, members and halves."""
    sst2_in(tmp_path / "data" / "sst2", 24, 10)
    elec_in(tmp_path / "data" / "elec")
    encoder = encoder_in(tmp_path / "encoder")

    def settings(data: str, options: Any = None, **shared: Any) -> TrainSettings:
        texts = {"limit": 20, "encoder": encoder}
        few = texts if data == "sst2" else {"limit": 60, "validation_limit": 12}
        return TrainSettings.of(data, **{**shared, **(options or {}), **few})

    def adapters(setup: Setup, size: int) -> TrainSettings:
        return settings("sst2", path=setup.folder("sst2"), model="adapters")

    for module, name, value in (
        (experiments, "SHARES", (0.1, 0.3)),
        (experiments, "_REPEATS", 2),
        (experiments, "TrainSettings", settings),
        (experiments, "TrainSettings", settings),
        (experiments, "_MEMBERS", 2),
        (experiments, "_OPTIONS", Options(halves=4, seeds=1)),
        (experiments, "text_settings", adapters),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setitem(SOURCES, "sst2", replace(SOURCES["sst2"], members=2))
    monkeypatch.setitem(experiments._MOST_TEXTS, "small", 2)
    monkeypatch.setattr(Adapters, "recipe", replace(Adapters.recipe, epochs=1, batch=12))
    return Setup("small", tmp_path / "data", tmp_path / "runs", "cpu")


# Runs and data


def test_a_table_has_a_line_a_row() -> None:
    rows = [PaperRow("accuracy", "SST-2", "90 %", "88.1 %"), PaperRow("loss", "Elec", "", ".5")]
    assert paper_table(rows).split("\n") == [
        "| what | setting | paper | measured |",
        "| --- | --- | ---: | ---: |",
        "| accuracy | SST-2 | 90 % | 88.1 % |",
        "| loss | Elec |  | .5 |",
    ]
    assert paper_table([]).count("\n") == 1


def test_a_run_is_trained_once_and_used_again(tmp_path: Path, monkeypatch: Patch) -> None:
    setup = Setup("small", tmp_path, tmp_path / "runs", "cpu")
    settings = TrainSettings("digits", model="heads", limit=40, members=1)
    first = setup.run("digits", settings)
    before = checksums(first.folder)
    monkeypatch.setattr(paper_setup, "train_run", None)
    again = setup.run("digits", replace(settings, path="elsewhere")).folder
    assert again == first.folder == tmp_path / "runs" / "paper-digits-small"
    refusal = r"^[^\n]*paper-digits-small was trained with other settings[^\n]*delete it[^\n]*$"
    with pytest.raises(TurnoverError, match=refusal):
        setup.run("digits", replace(settings, seed=5))
    other = replace(SOURCES["digits"].recipe, weight_decay=0.5)
    monkeypatch.setitem(SOURCES, "digits", replace(SOURCES["digits"], recipe=other))
    with pytest.raises(TurnoverError, match=refusal):
        setup.run("digits", settings)
    assert checksums(first.folder) == before and names(tmp_path / "runs") == [first.folder.name]


def test_the_scales_differ_as_they_say(tmp_path: Path) -> None:
    small, paper = a_setup(tmp_path / "small"), a_setup(tmp_path / "paper", "paper")
    texts = [text_settings(setup, 5000).resolved("text") for setup in (small, paper)]
    encoders = [(one.options["encoder"], one.options["groups"]) for one in texts]
    assert encoders == [(DEFAULT_ENCODER, 16), ("bert-base-uncased", 0)]
    assert {(one.limit, one.members) for one in texts} == {(5000, 1)}
    data = [text_settings(paper, size).data for size in (5000, 20_000)]
    assert data == ["sst2", "sst2-phrases"]
    named = replace(paper, encoder="some/where/else")
    found = [setup.encoder_name for setup in (small, paper, named)]
    assert found == ["MiniLM", "BERT-base", "else"]
    assert text_settings(named, 5000).options["encoder"] == "some/where/else"
    images = [image_settings(setup, 0.5).resolved("image") for setup in (small, paper)]
    assert {(one.model, one.options["groups"], one.options["dropout"]) for one in images} == {
        ("vgg19", 0, 0.5)
    }
    sizes = [(one.limit, one.validation_limit, one.recipe.epochs) for one in images]
    assert sizes == [(2000, 500, 5), (None, None, Vgg19.recipe.epochs)]


@pytest.mark.parametrize("missing", ["sst2", "elec", "cifar10"])
def test_a_missing_folder_is_named(missing: str, tmp_path: Path) -> None:
    setup = a_setup(tmp_path)
    (setup.data / missing).rmdir()
    end = f"no such folder; --path names a folder that holds {missing}/"
    with pytest.raises(TurnoverError, match=rf"^[^\n]*{missing}: {end}$"):
        setup.folder(missing)


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "lds-mnist"])
def test_without_data_an_experiment_is_one_line(name: str, tmp_path: Path, capsys: Capture) -> None:
    arguments = ("--path", tmp_path / "none", "--runs", tmp_path / "runs")
    code, out, err = call(capsys, "paper", name, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and "no such folder" in err
    assert list(tmp_path.iterdir()) == []


def test_a_second_command_trains_nothing(tiny: Setup, monkeypatch: Patch, capsys: Capture) -> None:
    """And prints as a table what the first printed as JSON."""
    arguments = ("paper", "cleansing", "--path", tiny.data, "--runs", tiny.runs, "--device", "cpu")
    result = answer(capsys, *arguments)
    assert {"experiment": "cleansing", "scale": "small"}.items() <= result.items()
    assert set(result["rows"][0]) == {"what", "setting", "paper", "measured"}
    assert "NaN" not in json.dumps(result)
    monkeypatch.setattr(paper_setup, "train_run", None)
    code, table, _ = call(capsys, *arguments)
    assert code == 0 and paper_table([PaperRow(**row) for row in result["rows"]]) in table
    assert f"| {NONE}: accuracy |" in table


# Experiments on the small run in place of the real ones


def test_curves_are_those_of_the_runs(small_run: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    run = Run(small_run)
    monkeypatch.setattr(Setup, "run", lambda *_: run)
    rows, epochs = list(curves(a_setup(tmp_path))), len(run.curves)
    kept = int(run.manifest["results"]["kept_epoch"])
    assert len(rows) == 3 * (epochs + 2)
    ends = [row.what for row in rows if row.what.endswith("(kept)")]
    assert ends == [f"epoch {kept} (kept)"] * 3
    first, last = run.curves.iloc[0], run.curves.iloc[kept - 1]
    parts = (f"{name} {first[name]:.3f}" for name in ("masked", "flipped", "validation"))
    assert rows[0].measured.startswith(", ".join(parts))
    for place, name in enumerate(("flipped", "masked")):
        assert rows[epochs + place].measured == f"{last[name] / last['validation']:.2f}"


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_side_effects(scale: str, small_run: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    """The paper's numbers stand beside ours."""
    asked: dict[str, TrainSettings] = {}
    recipes, real = list[Any](), experiments.fit

    def run(self: Setup, name: str, settings: TrainSettings) -> Run:
        asked[name] = settings
        return Run(small_run)

    def fit(*all_of: Any, **named: Any) -> Any:
        recipes.append(all_of[3])
        return real(*all_of, **named)

    monkeypatch.setattr(experiments, "fit", fit)
    monkeypatch.setattr(Setup, "run", run)
    rows = list(side_effect(a_setup(tmp_path, scale)))
    results = Run(small_run).manifest["results"]
    assert (len(rows), len(recipes)) == {"small": (8, 1), "paper": (11, 2)}[scale]
    assert all(recipe.fresh and recipe.masked for recipe in recipes)
    assert [asked[f"cifar10-vgg19{end}"].options["dropout"] for end in ("-dropout", "")] == [0.5, 0]
    assert asked["sst2-masked-encoder"].model == "masked-encoder"
    words = {"out": "plain_accuracy", " turn-over": "validation_accuracy"}
    for end, name in words.items():
        own = {row.measured for row in rows if row.what == f"accuracy with{end} dropout"}
        assert own == {f"{results[name]:.1%}"}
    assert [row.paper for row in rows[:2]] == ["90.0 %", "88.3 %"]
    assert [row.paper for row in rows[-3:]] == ["92.0 %", "86.2 %", "91.3 %"]


# Mistakes explained


def test_mistakes_on_texts_are_explained_on_a_page(tiny: Setup, monkeypatch: Patch) -> None:
    """Many are misclassified, since the labels to validate on are turned round."""
    development = pd.read_csv(tiny.data / "sst2" / "dev.csv")
    turned = development.assign(label=1 - development["label"])
    turned.to_csv(tiny.data / "sst2" / "dev.csv", index=False)
    rows = list(experiments.errors_text(tiny))
    run = Run(tiny.runs / "paper-sst2-adapters-5000-small")
    pattern, page = explained_pattern(run), tiny.runs / "errors-text.html"
    assert len(run.misclassified_positions) > 2 and pattern
    assert pattern.misclassified == len(run.influence.targets) == 2
    assert names(tiny.runs) == [page.name, run.name]
    measured = [row.measured for row in rows]
    assert measured[:3] == [f"{len(run.misclassified_positions)} of 10", "2", str(page)]
    assert measured[3].startswith(f"{pattern.proponents:.1%} ± ")
    assert f"of all training items {pattern.chance:.1%}" in measured[3]
    assert measured[4] == f"{pattern.opponents:.1%}"
    assert {row.paper for row in rows} == {""}
    assert all("members: 1, estimator: raw" in row.setting for row in rows)
    html = page.read_text(encoding="utf-8")
    assert html.count("<article") == 2
    assert all(run.item("validation", one)["id"] in html for one in run.influence.targets)
    before = checksums(run.folder / "influence")
    monkeypatch.setattr(paper_setup, "train_run", None)
    monkeypatch.setattr(experiments, "compute_influence", None)
    assert list(experiments.errors_text(tiny)) == rows
    assert checksums(run.folder / "influence") == before


def test_mistakes_on_images_show_them(run_copy: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    shutil.rmtree(run_copy / "influence")
    setup, asked = a_setup(tmp_path), list[tuple[str, TrainSettings]]()
    setup.runs.mkdir()

    def run(self: Setup, *named: Any) -> Run:
        asked.append(named)
        return Run(run_copy)

    monkeypatch.setattr(Setup, "run", run)
    monkeypatch.setattr(experiments, "_MOST_IMAGES", 4)
    rows, made = list(experiments.errors_images(setup)), Run(run_copy)
    assert asked == [("cifar10-vgg19", image_settings(setup))] and rows[1].measured == "4"
    targets = made.influence.targets
    assert targets == made.influence.misclassified and len(targets) == 4
    page = (setup.runs / "errors-images.html").read_text(encoding="utf-8")
    images = (made.item("validation", target)["image"] for target in targets)
    assert all(b64encode(image).decode() in page for image in images)


# Cleansing


def test_cleansing_rows_are_those_of_cleanse(tiny: Setup) -> None:
    rows = list(experiments.cleansing(tiny))
    run = Run(tiny.runs / "paper-sst2-cleansing-small")
    assert run.has_influence
    prepared, tried = prepare(run, "elec", tiny.folder("elec"), "cpu"), {}
    for fraction in (0.1, 0.3):
        found = cleanse(prepared, [fraction], 2)["conditions"]
        tried[fraction] = {one["condition"]: one for one in found}
    best = min(tried, key=lambda fraction: tried[fraction][CLEANSED]["validation_loss"])
    fractions = [0.1] if best == 0.1 else [0.1, best]
    whats = [f"{name}: {what}" for name in CONDITIONS for what in ("accuracy", "loss")]
    assert [row.what for row in rows] == whats * len(fractions)
    for number, row in enumerate(rows):
        fraction = fractions[number // 6]
        one = tried[fraction][CONDITIONS[number % 6 // 2]]
        accuracy = f"{one['accuracy']:.1%} ± {one['accuracy_sd']:.1%}"
        loss = f"{one['loss']:.3f} ± {one['loss_sd']:.3f}"
        assert row.measured.startswith(loss if number % 2 else accuracy)
        chosen = ", chosen by validation loss" if fraction == best else ""
        assert f"{fraction:.0%} removed{chosen}, 2 seeds" in row.setting
    assert rows[0].paper == "77.0 ± .9 %" and all(row.paper == "" for row in rows[6:])


def test_targets_of_a_cleansing_for_elec_are_its_validation_reviews(tiny: Setup) -> None:
    """They score the items and end the training; the test reviews measure."""
    run, folder = experiments._run(tiny), tiny.folder("elec")
    prepared, elec = prepare(run, "elec", folder, "cpu"), load_elec(Path(folder))
    targets = prepared.targets
    assert targets.labels.tolist() == elec.validation.labels.tolist()
    assert prepared.measured.labels.tolist() == elec.test.labels.tolist()
    model, estimator = load_model(run, torch.device("cpu")), stored_estimator(run)
    members = influence(model, targets.inputs, targets.labels, range(20)).values
    described = describe_targets(model, targets, targets.inputs.numpy())
    coefficients = estimator.coefficients_of(described).mean(0, keepdims=True)
    known = estimator.apply(members.mean(1, keepdim=True).numpy(), coefficients)[0][0]
    np.testing.assert_allclose(prepared.scores, known, atol=1e-5)
    assert run_settings(run).members == 2


# Footnote 4


def test_the_full_network_stands_where_the_masked_one_stood(small_run: Path) -> None:
    task = EvaluationTask.of(Run(small_run), "cpu", 4)
    evidence, _ = evidence_of(task)
    made, model, targets = full_influence(evidence), task.model, task.targets
    full = item_losses(model, targets)
    for instance in (0, 7, 59):
        under = torch.full((4,), instance)
        masked, flipped = (item_losses(model, targets, under, turned) for turned in (False, True))
        for values, other in ((made, full), (evidence.values, masked)):
            known = (flipped - other).numpy()
            np.testing.assert_allclose(values[:, :, instance], known, rtol=0, atol=1e-4)
    assert np.abs(made - evidence.values).max() > 1e-2


def test_footnote_4_has_both_choices_for_every_estimator(tiny: Setup, capsys: Capture) -> None:
    rows, each = list(footnote4(tiny)), len(ESTIMATORS)
    assert [row.what for row in rows] == [f"LDS of {MASKED}", f"LDS of {FULL}"] * (2 * each)
    assert rows[2].measured != rows[3].measured and all(row.paper == "" for row in rows)
    for place, (data, size) in enumerate((("digits", 60), ("sst2", 20))):
        own = rows[place * 2 * each :][: 2 * each]
        for name, pair in zip(ESTIMATORS, zip(own[::2], own[1::2], strict=True), strict=True):
            start = f"{data}, N = {size}, 2 members, {name}"
            assert all(row.setting.startswith(start) for row in pair)
        task = EvaluationTask.of(Run(tiny.runs / f"paper-footnote4-{data}-small"), "cpu")
        evidence, _ = evidence_of(task)
        inside, losses = halves_of(task, Options(halves=4, seeds=1))
        for row, values in zip(own[2:4], (evidence.values, full_influence(evidence)), strict=True):
            figures = [act(values.mean(0), inside, losses) for act in (lds, placebo)]
            assert row.measured == f"{figures[0]}; placebo {figures[1]}"
    without = ("--runs", tiny.runs, "--device", "cpu")
    code, printed, _ = call(capsys, "paper", "footnote4", *without)
    assert code == 0 and "sst2" not in printed
    assert "| digits, N = 60, 2 members, one member |" in printed
    code, _, error = call(capsys, "paper", "curves", *without)
    assert code == 2 and "name the folder that holds sst2/ with --path" in error
