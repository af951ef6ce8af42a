"""From data to a run folder with influences: right numbers, whole or absent, and the same bits after any interruption."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import core.pipeline.influence as influence_pipeline
import core.pipeline.train as train_pipeline
from core import Run, TurnoverError, influence, mean_influence, self_influence
from core.data.base import WRONG_LABEL
from core.data.digits import load_digits
from core.data.images import png_pixels
from core.models.text import TextEncoder
from core.pipeline.influence import compute_influence
from core.pipeline.model import load_model, split_inputs
from core.pipeline.train import TrainSettings, image_inputs, train_run
from core.runs import RUN_FILES, find_runs, write_manifest
from core.training import History, Split, accuracy, item_losses
from tests.core.builders import ONE_THREAD, ROOT, SMALL_RUN, checksums, names, run_killed, train_digits

CPU = torch.device("cpu")
RESULTS = ("train_size", "validation_size", "validation_accuracy", "validation_loss", "masked_loss", "flipped_loss", "epochs", "plain_accuracy")


class Interruption(Exception):
    """What a test throws into the middle of the work."""


def settled(results: dict[str, Any]) -> dict[str, Any]:
    """Results without the time they took and the place they went to."""
    return {name: value for name, value in results.items() if name not in ("run", "seconds")}


# What a run holds


def test_a_run_holds_what_its_command_prints(small_run: Path) -> None:
    manifest = Run(small_run).manifest
    results = manifest["results"]
    assert set(RESULTS) <= set(results)
    assert (results["train_size"], results["validation_size"], results["members"], results["device"]) == (60, 597, 2, "cpu")
    assert manifest["settings"] | {} == TrainSettings(**SMALL_RUN).resolved().__dict__
    assert manifest["recipe"]["seed"] == SMALL_RUN["seed"]
    assert set(manifest) >= {"created", "data", "versions", "timings", "leaks", "device", "classes", "kind"}
    assert manifest["leaks"] == ["the convolutions before the first mask", "the output bias"]


def test_a_run_folder_holds_its_files_and_no_others(small_run: Path) -> None:
    assert names(small_run) == sorted([*RUN_FILES, "manifest.json", "influence"])
    assert find_runs(small_run.parent) == [small_run]


def test_items_are_the_data_with_its_planted_labels(small_run: Path) -> None:
    run, data = Run(small_run), load_digits()
    train = run.train
    rows = [data.train.ids.index(name) for name in train["id"]]
    assert np.array_equal(train["true_label"], data.train.labels[rows])
    wrong = train["label"] != train["true_label"]
    assert wrong.sum() == 3
    assert np.array_equal(train["planted"] == WRONG_LABEL, wrong)
    assert list(run.validation["id"]) == data.validation.ids
    assert np.array_equal(run.validation["label"], data.validation.labels)
    assert (run.validation["planted"] == "").all()
    for row, content in zip(rows[:5], train["image"], strict=False):
        assert np.array_equal(png_pixels(content), data.train.images[row])  # type: ignore[index]


def test_the_model_of_a_run_is_the_one_that_its_numbers_come_from(small_run: Path) -> None:
    run = Run(small_run)
    model, results = load_model(run, CPU), run.manifest["results"]
    validation = Split(split_inputs(run, "validation", list(range(597)), CPU), torch.tensor(run.validation["label"].tolist()))
    train = Split(split_inputs(run, "train", list(range(60)), CPU), torch.tensor(run.train["label"].tolist()))
    assert accuracy(model, validation) == results["validation_accuracy"] == pytest.approx(1 - len(run.errors) / 597)
    assert float(item_losses(model, validation).mean()) == pytest.approx(results["validation_loss"], rel=1e-5)
    for flipped, name in enumerate(("masked", "flipped")):
        losses = item_losses(model, train, torch.arange(60), bool(flipped)).mean(0).numpy()
        assert losses.mean() == pytest.approx(results[f"{name}_loss"], rel=1e-5)
        np.testing.assert_allclose(run.array("item_losses")[flipped, results["kept_epoch"] - 1], losses, rtol=1e-4, atol=1e-6)
    for split, rows in (("train", train), ("validation", validation)):
        np.testing.assert_allclose(run.features(split), model.features(rows.inputs).transpose(0, 1).flatten(1).detach(), rtol=1e-4, atol=1e-5)
    assert not model.training


def test_curves_have_one_row_an_epoch(small_run: Path) -> None:
    run = Run(small_run)
    curves, results = run.curves, run.manifest["results"]
    assert list(curves["epoch"]) == list(range(1, results["epochs"] + 1))
    kept = curves.iloc[results["kept_epoch"] - 1]
    for name in ("masked", "flipped", "validation", "unowned"):
        assert kept[name] == results[f"{name}_loss"]
    assert kept["accuracy"] == results["validation_accuracy"]
    assert run.array("item_losses").shape == (2, results["epochs"], 60)
    np.testing.assert_allclose(run.array("item_losses").mean(2), curves[["masked", "flipped"]].to_numpy().T, rtol=1e-5)


def test_another_seed_gives_another_run(small_run: Path, tmp_path: Path) -> None:
    """In every file; that the same seed gives the same run is tested with interruptions below."""
    other = checksums(train_digits(tmp_path / "other", seed=5))
    assert {name for name, value in checksums(small_run).items() if other[name] != value} == set(RUN_FILES)


# Settings that cannot be


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"members": 0}, "--members 0: choose 1 or more"),
        ({"members": -2}, "--members -2: choose 1 or more"),
        ({"limit": 1}, "--limit 1: choose a number from 2 to the 1200 training items"),
        ({"limit": 5000}, "--limit 5000"),
        ({"label_noise": 1.0}, "--label-noise 1.0"),
        ({"groups": 7}, "7 groups do not divide a width of 64"),
        ({"groups": -1}, "-1 groups do not divide"),
        ({"data": "imagenet"}, "unknown data set 'imagenet'"),
        ({"path": "somewhere"}, "leave --path out"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_leave_nothing_behind(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=reason):
        train_run(TrainSettings(**{**SMALL_RUN, **change}), tmp_path / "run", "cpu")
    assert names(tmp_path) == []


def test_an_encoder_that_cannot_be_loaded_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    with pytest.raises(TurnoverError, match=r"encoder '.*encoder' cannot be loaded"):
        train_run(TrainSettings("reviews", encoder=str(tmp_path / "encoder")), tmp_path / "run", "cpu")
    assert names(tmp_path) == ["encoder"]


def test_a_folder_that_exists_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(TurnoverError, match="run exists; choose another --run, or delete it first"):
        train_digits(tmp_path / "run")
    assert names(tmp_path / "run") == ["mine.txt"]


def test_defaults_are_filled_in_by_data_set() -> None:
    digits, reviews = TrainSettings("digits").resolved(), TrainSettings("reviews").resolved()
    assert (digits.label_noise, digits.members, digits.groups) == (0.05, 8, 16)
    assert (reviews.label_noise, reviews.members, reviews.groups) == (0.0, 16, 16)
    assert TrainSettings("digits", label_noise=0.0, members=1, groups=0).resolved() == TrainSettings("digits", label_noise=0.0, members=1, groups=0)


# Interruptions


def interrupt_after(epochs: int, patch: pytest.MonkeyPatch) -> None:
    """Let the next training stop once, after so many epochs of masked and plain training together."""
    real, finished = train_pipeline.fit, [0]

    def fit(*arguments: Any, **options: Any) -> Any:
        told = arguments[-1]

        def progress(history: History) -> None:
            told(history)
            finished[0] += 1
            if finished[0] == epochs:
                raise KeyboardInterrupt

        return real(*arguments[:-1], progress, **options)

    patch.setattr(train_pipeline, "fit", fit)


@pytest.mark.parametrize("epochs", [2, 9])
def test_a_run_stopped_by_ctrl_c_goes_on_to_the_same_bits(epochs: int, small_run: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(epochs, patch)
        with pytest.raises(KeyboardInterrupt):
            train_digits(tmp_path / "run")
    assert names(tmp_path) == ["run.partial"]
    assert find_runs(tmp_path) == []
    with pytest.raises(TurnoverError, match=r"run\.partial was begun with other settings or data; give the same again to resume, or delete it"):
        train_digits(tmp_path / "run", members=3)
    assert checksums(train_digits(tmp_path / "run")) == checksums(small_run)
    assert names(tmp_path) == ["run"]


def test_a_stop_in_the_last_moment_loses_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is trained and written; only the rename is missing."""
    settings = {"limit": 20, "members": 1}

    def stop(*_: Path) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_pipeline, "replace_folder", stop)
        with pytest.raises(KeyboardInterrupt):
            train_digits(tmp_path / "run", **settings)
    trained: list[int] = []
    real = train_pipeline.fit

    def counting(*arguments: Any, **options: Any) -> Any:
        *others, told = arguments
        return real(*others, lambda history: (trained.append(1), told(history)), **options)

    monkeypatch.setattr(train_pipeline, "fit", counting)
    Run(train_digits(tmp_path / "run", **settings))
    assert len(trained) <= 1


_KILLED_RUN = """
import json
from core.pipeline.train import TrainSettings, train_run
print(json.dumps(train_run(TrainSettings(**json.loads(sys.argv[5])), Path(sys.argv[1]) / "run", "cpu")))
"""


def run_until_killed(folder: Path, start: str = "settings.json", count: int = 0, seconds: float = 0.0) -> dict[str, Any] | None:
    """Train `folder`/run in another process that is killed at its count-th file operation or after some seconds; None if it was."""
    settings = json.dumps({"data": "digits", "limit": 40, "members": 1, "seed": 1})
    printed = run_killed(_KILLED_RUN, folder, start, count, seconds, settings)
    return None if printed is None else dict(json.loads(printed))


def test_a_run_killed_again_and_again_is_whole_or_absent_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    chance = random.Random(7)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    expected, folder = run_until_killed(tmp_path / "whole"), tmp_path / "killed"
    assert expected is not None
    kills: list[dict[str, Any]] = [
        {"count": chance.randint(1, 4)},
        {"start": "masked.checkpoint", "count": chance.randint(3, 12)},
        {"seconds": chance.uniform(0.05, 0.4)},
        {"start": "plain.checkpoint", "count": chance.randint(3, 9)},
        {"start": "manifest.json", "count": chance.randint(1, 8)},
    ]
    for kill in kills:
        assert run_until_killed(folder, **kill) is None, f"not killed: {kill}"
        for run in find_runs(folder):
            assert Run(run).errors
        assert len(names(folder)) <= 1
        if (folder / "run").exists():
            shutil.rmtree(folder / "run")
    results = run_until_killed(folder)
    assert results is not None
    assert settled(results) == settled(expected)
    assert checksums(folder / "run") == checksums(tmp_path / "whole" / "run")
    assert names(folder) == ["run"]
    weights, others = (load_file(path / "run" / "weights.safetensors") for path in (folder, tmp_path / "whole"))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


# A full disk

_LIMITED_RUN = """
import json, resource, sys
from pathlib import Path
from core.errors import TurnoverError
from core.pipeline.train import TrainSettings, train_run
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    train_run(TrainSettings("digits", limit=20, members=1), Path(sys.argv[1]), "cpu")
except TurnoverError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [60, 100_000])
def test_a_file_that_the_system_will_not_write_is_one_clear_line(size: int, tmp_path: Path) -> None:
    """First the settings do not fit, then the checkpoint does not."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED_RUN, str(tmp_path / "run"), str(size)],
        cwd=ROOT,
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "run.partial" in done.stdout
    assert "cannot be written (File too large)" in done.stdout
    assert not (tmp_path / "run").exists()
    assert list(tmp_path.rglob("*.new")) == []
    assert len(Run(train_digits(tmp_path / "run", limit=20, members=1, groups=None, seed=0)).train) == 20


def failing_after(calls: int, real: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """The function, failing from its calls-th call on."""
    count = [0]

    def function(*arguments: Any, **options: Any) -> Any:
        count[0] += 1
        if count[0] >= calls:
            raise error
        return real(*arguments, **options)

    return function


@pytest.mark.parametrize(("place", "calls"), [("save", 2), ("to_parquet", 1)])
def test_a_disk_that_fills_up_at_the_end_costs_no_training(place: str, calls: int, tmp_path: Path, small_run: Path) -> None:
    full = OSError(28, "No space left on device")
    with pytest.MonkeyPatch.context() as patch:
        owner = np if place == "save" else pd.DataFrame
        patch.setattr(owner, place, failing_after(calls, getattr(owner, place), full))
        with pytest.raises(TurnoverError, match=r"run\.partial: the disk is full; free some space and run the same command again"):
            train_digits(tmp_path / "run")
    assert names(tmp_path) == ["run.partial"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.training._train_epoch", failing_after(1, print, Interruption()))
        assert checksums(train_digits(tmp_path / "run")) == checksums(small_run)


def test_space_for_influences_is_taken_before_they_are_computed(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file that is mapped into memory would crash the process, without a word, when the disk fills up."""
    sparse: list[str] = []
    real = influence_pipeline.influence

    def looking(*arguments: Any, **options: Any) -> Any:
        for path in (run_copy / ".influence.new").glob("*.npy"):
            facts = path.stat()
            if facts.st_blocks * 512 < facts.st_size:
                sparse.append(path.name)
        return real(*arguments, **options)

    monkeypatch.setattr(influence_pipeline, "influence", looking)
    compute_influence(Run(run_copy), device_choice="cpu")
    assert sparse == []


# Influences


def test_influences_of_a_run_are_the_engine_s(small_run: Path) -> None:
    run = Run(small_run)
    part, model, ids = run.influence, load_model(run, CPU), np.arange(60)
    validation = split_inputs(run, "validation", list(range(597)), CPU)
    labels, predicted = (torch.tensor(run.validation[name].tolist()) for name in ("label", "predicted"))
    truth = influence(model, validation, labels, ids)
    np.testing.assert_allclose(part.array("truth_members"), truth.values, atol=1e-5)
    prediction = influence(model, validation[run.errors], predicted[run.errors], ids)
    np.testing.assert_allclose(part.array("prediction_members"), prediction.values, atol=1e-5)
    np.testing.assert_allclose(part.array("mean_members"), mean_influence(model, validation, labels, ids), atol=1e-5)
    train, own = split_inputs(run, "train", list(range(60)), CPU), torch.tensor(run.train["label"].tolist())
    np.testing.assert_allclose(part.array("self"), self_influence(model, train, own, ids), atol=1e-5)
    assert (part.targets, part.errors) == (list(range(597)), run.errors)
    assert part.manifest["layout"] == "full"


def test_estimates_are_made_of_the_members_values_as_the_manifest_says(small_run: Path) -> None:
    part = Run(small_run).influence
    assert part.estimator in ("mean", "smoothed")
    smoother = np.load(small_run / "influence" / "smoother.npy") if part.estimator == "smoothed" else None
    for meaning in ("truth", "prediction"):
        members = np.asarray(part.array(f"{meaning}_members"), np.float64)
        if smoother is not None:
            members = members @ smoother @ smoother.T
        np.testing.assert_allclose(part.array(f"{meaning}_estimate"), members.mean(0), atol=1e-5)
        np.testing.assert_allclose(part.array(f"{meaning}_error"), members.std(0, ddof=1) / 2**0.5, atol=1e-5)


def test_what_the_command_prints_counts_what_was_computed(run_copy: Path) -> None:
    made = compute_influence(Run(run_copy), device_choice="cpu")
    part = Run(run_copy).influence
    assert (made["targets"], made["train_size"], made["members"], made["estimator"]) == (597, 60, 2, part.estimator)
    assert made["pairs"] >= 2 * 60 * (597 + len(part.errors))
    assert made["pairs_per_second"] > 0
    assert made["path"].startswith("mask algebra")


@pytest.mark.parametrize("top", [4, 25, 100])
def test_the_top_layout_holds_the_ends_of_the_full_one(top: int, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Run(run_copy).influence
    whole = {target: full.ranked(target, "prediction") for target in full.targets}
    monkeypatch.setattr(influence_pipeline, "TOP", top)
    compute_influence(Run(run_copy), device_choice="cpu", full_bytes=0)
    part = Run(run_copy).influence
    assert part.manifest["layout"] == "top"
    assert not (run_copy / "influence" / "truth_members.npy").exists()
    np.testing.assert_allclose(part.mean_influence[0], full.mean_influence[0], atol=1e-6)
    np.testing.assert_allclose(part.self_influence, full.self_influence, atol=1e-6)
    for target, expected in whole.items():
        known = part.ranked(target, "prediction")
        assert len(set(known.instances)) == len(known.instances) == min(60, 2 * top)
        np.testing.assert_allclose(known.values, expected.values[known.instances], atol=1e-5)
        np.testing.assert_allclose(known.errors, expected.errors[known.instances], atol=1e-5)
        ordered = np.sort(expected.values)[::-1]
        ends = ordered if 2 * top >= 60 else np.concatenate((ordered[:top], ordered[-top:]))
        np.testing.assert_allclose(known.values, ends, atol=1e-5)
        for one, other in zip(known.ends(3), expected.ends(3), strict=True):
            np.testing.assert_allclose(known.values[one], expected.values[other], atol=1e-5)


def test_slices_of_targets_change_nothing(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: np.load(path) for path in (run_copy / "influence").glob("*.npy")}
    monkeypatch.setattr(influence_pipeline, "_SLICE_BYTES", 4 * 2 * 60 * 50)
    compute_influence(Run(run_copy), device_choice="cpu")
    assert names(run_copy / "influence") == sorted([*before, "manifest.json"])
    for name, array in before.items():
        np.testing.assert_allclose(np.load(run_copy / "influence" / name), array, atol=1e-5)


def test_the_same_command_gives_the_same_influences(run_copy: Path) -> None:
    before = checksums(run_copy / "influence")
    compute_influence(Run(run_copy), device_choice="cpu")
    assert checksums(run_copy / "influence") == before


def test_influences_on_the_errors_alone(run_copy: Path) -> None:
    full = Run(run_copy).influence
    expected = {(target, meaning): full.ranked(target, meaning).values for target in full.errors for meaning in ("truth", "prediction")}
    made = compute_influence(Run(run_copy), "errors", "cpu")
    run = Run(run_copy)
    assert made["targets"] == len(run.errors)
    assert run.influence.targets == run.influence.errors == run.errors
    if run.influence.estimator == full.estimator == "mean":
        for (target, meaning), values in expected.items():
            np.testing.assert_allclose(run.influence.ranked(target, meaning).values, values, atol=1e-5)
    np.testing.assert_allclose(run.influence.array("truth_members"), np.load(run_copy / "influence" / "truth_members.npy"))
    right = next(position for position in range(597) if position not in run.errors)
    with pytest.raises(TurnoverError, match=f"validation item {right} has no influences in this run; compute them with --targets validation"):
        run.influence.ranked(right, "truth")


def without_errors(folder: Path) -> Run:
    """The run as it would be had the model been right everywhere."""
    items = pd.read_parquet(folder / "items.parquet")
    items["predicted"] = items["label"]
    items.to_parquet(folder / "items.parquet", index=False)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    write_manifest(folder, {name: value for name, value in manifest.items() if name not in ("format", "files")}, RUN_FILES)
    return Run(folder)


def test_a_model_without_errors_has_influences_on_the_truth(run_copy: Path) -> None:
    run = without_errors(run_copy)
    compute_influence(run, device_choice="cpu")
    part = Run(run_copy).influence
    assert part.errors == []
    assert part.array("prediction_estimate").shape == (0, 60)
    assert len(part.ranked(0, "prediction").values) == 60


def test_a_model_without_errors_has_no_influences_on_them(run_copy: Path) -> None:
    """Nothing to compute: a clear line or an empty part, and no crash."""
    run = without_errors(run_copy)
    try:
        made = compute_influence(run, "errors", "cpu")
    except TurnoverError as error:
        assert "error" in str(error)
    else:
        assert made["targets"] == 0
        assert Run(run_copy).influence.targets == []


def test_one_member_has_no_standard_errors(tmp_path: Path) -> None:
    folder = train_digits(tmp_path / "run", members=1, limit=30)
    compute_influence(Run(folder), device_choice="cpu")
    part = Run(folder).influence
    assert part.estimator == "mean"
    assert np.isnan(part.array("truth_error")).all()
    assert np.isnan(part.mean_influence[1]).all()
    assert np.isfinite(part.array("truth_estimate")).all()


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device"), RuntimeError("x")])
def test_influences_that_fail_leave_the_old_ones_and_no_scraps(failure: BaseException, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = checksums(run_copy / "influence")
    monkeypatch.setattr(influence_pipeline, "influence", failing_after(2, influence, failure))
    with pytest.raises(TurnoverError if isinstance(failure, OSError) else type(failure)):
        compute_influence(Run(run_copy), device_choice="cpu")
    assert checksums(run_copy / "influence") == before
    assert names(run_copy) == sorted([*RUN_FILES, "manifest.json", "influence"])
    assert Run(run_copy).influence.targets == list(range(597))


# A run of texts


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of forty short texts with influence."""
    folder = tmp_path_factory.mktemp("texts")
    words = ("superb", "lovely", "witty", "moving"), ("dreadful", "dull", "clumsy", "tired")
    for name, count in (("train.csv", 40), ("dev.csv", 12)):
        texts = [f"A {words[row % 2][row // 2 % 4]} film, number {row} of the {name[:-4]} list." for row in range(count)]
        pd.DataFrame({"text": texts, "label": [1 - row % 2 for row in range(count)]}).to_csv(folder / name, index=False)
    train_run(TrainSettings("sst2", path=str(folder), members=2, seed=1), folder / "run", "cpu")
    compute_influence(Run(folder / "run"), device_choice="cpu")
    return folder / "run"


def test_a_text_run_keeps_the_encoder_s_features(text_run: Path, encoder: TextEncoder) -> None:
    run = Run(text_run)
    assert (run.kind, run.classes) == ("text", ["negative", "positive"])
    for split in ("train", "validation"):
        np.testing.assert_allclose(run.features(split), encoder.features(list(run.split(split)["text"])), atol=1e-4)
    assert run.train["label"].tolist() == [1, 0] * 20
    assert run.manifest["settings"]["groups"] == 16
    assert run.manifest["leaks"] == ["the output bias"]
    assert run.manifest["data"]["source"].startswith("train.csv and dev.csv in ")


def test_influences_of_a_text_run_are_the_engine_s(text_run: Path, encoder: TextEncoder) -> None:
    run = Run(text_run)
    features = torch.from_numpy(encoder.features(list(run.validation["text"])))
    expected = influence(load_model(run, CPU), features, torch.tensor(run.validation["label"].tolist()), range(40))
    np.testing.assert_allclose(run.influence.array("truth_members"), expected.values, atol=1e-4)
    torch.testing.assert_close(split_inputs(run, "validation", [3, 1], CPU), features[[3, 1]], atol=1e-4, rtol=0)
    np.testing.assert_array_equal(split_inputs(run, "train", [5, 2], CPU), run.features("train")[[5, 2]])


def test_images_are_scaled_to_minus_one_and_one() -> None:
    images = np.array([[[0, 255], [51, 204]]], np.uint8)
    torch.testing.assert_close(image_inputs(images), torch.tensor([[[[-1.0, 1.0], [-0.6, 0.6]]]]))
