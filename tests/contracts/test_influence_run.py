"""Influences added to a run: the engine's, estimated as the manifest says, whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import turnover.workflows.influence as influence_pipeline
import turnover.workflows.influence_chunks as influence_files
from tests.helpers.builders import checksums, failing_after, names, train_digits
from tests.helpers.own_modules import command
from tests.helpers.storage_testing import FULL, failing_writes, together
from turnover import Run, TurnoverError, influence, mean_influence, self_influence
from turnover.attribution.ensemble import Members, member_cohorts, shared_masks
from turnover.cli import main
from turnover.dashboard.errors.pane_view import pane
from turnover.dashboard.runs.details import build_details
from turnover.explain.causes import causes
from turnover.explain.explanation import error_items
from turnover.explain.facts import run_facts
from turnover.explain.html import signed
from turnover.explain.listing import list_errors
from turnover.models.heads import TextEncoder
from turnover.models.inputs import pixels
from turnover.runs.model import describe_targets, load_model, split_inputs
from turnover.runs.ranking import stored_estimator
from turnover.runs.run import RUN_FILES
from turnover.storage.artifacts import write_manifest
from turnover.storage.lock import alone
from turnover.training import fit
from turnover.training.fit import Split
from turnover.workflows import subsets
from turnover.workflows.explain import Explainer
from turnover.workflows.influence import compute_influence
from turnover.workflows.influence_chunks import InfluenceFiles

CPU = torch.device("cpu")
WHOLE = sorted([*RUN_FILES, "manifest.json", "influence", "causes"])


def computed(folder: Path, targets: str = "validation", **options: Any) -> dict[str, Any]:
    """Compute a run's influences on the CPU."""
    return compute_influence(Run(folder), targets, "cpu", **options)


def test_influences_of_a_run_are_the_engine_s(small_run: Path) -> None:
    run = Run(small_run)
    part, model, ids = run.influence, load_model(run, CPU), np.arange(60)
    validation = split_inputs(run, "validation", list(range(597)), CPU)
    labels, predicted = (
        torch.tensor(run.validation[name].tolist()) for name in ("label", "predicted")
    )
    train = split_inputs(run, "train", list(range(60)), CPU)
    own = torch.tensor(run.train["label"].tolist())
    wrong = validation[run.misclassified_positions], predicted[run.misclassified_positions]
    for name, expected in {
        "truth_members": influence(model, validation, labels, ids).values,
        "prediction_members": influence(model, *wrong, ids).values,
        "mean_members": mean_influence(model, validation, labels, ids),
        "self": self_influence(model, train, own, ids),
    }.items():
        np.testing.assert_allclose(part.array(name), expected, atol=1e-5)
    assert (part.targets, part.misclassified) == (list(range(597)), run.misclassified_positions)
    assert part.manifest["layout"] == "full"


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose 60 training items share forty masks, with its influences."""
    folder = train_digits(tmp_path_factory.mktemp("sharing") / "run", masks=40, epochs=3)
    computed(folder)
    return folder


def test_a_run_with_shared_masks_keeps_a_number_for_each_mask(sharing: Path) -> None:
    """Law 4 through the whole pipeline; the plain loop runs each item by itself."""
    run, ids = Run(sharing), torch.arange(60)
    model, rows = load_model(run, CPU), list(range(0, 597, 60))
    labels = torch.tensor(run.validation["label"].loc[rows].tolist())
    expected = influence(model, split_inputs(run, "validation", rows, CPU), labels, ids, plain=True)
    part = run.influence
    np.testing.assert_allclose(part.members("truth", rows), expected.values, atol=1e-5)
    assert part.array("truth_members").shape == (2, 597, 40)
    np.testing.assert_array_equal(part.array("cohorts"), member_cohorts(model, ids))
    kept = (run.manifest["masks"], run.manifest["settings"]["masks"], part.manifest["masks"])
    assert kept == (40, 40, 40)


def test_errors_say_what_like_items_share_and_how_many_share_a_mask(sharing: Path) -> None:
    """The two parts of an influence, and a count of cohort mates by hand."""
    run = Run(sharing)
    part, estimator = run.influence, stored_estimator(run)
    model, listed = load_model(run, CPU), list_errors(run, top=3)["errors"]
    cohorts = member_cohorts(model, torch.arange(60))
    assert estimator.name == "best" and cohorts is not None and listed
    for entry in listed:
        at = int(run.validation.index[run.validation["id"] == entry["id"]][0])
        common = estimator.foreseen(*part.evidence(at, "prediction"))[0]
        for shown in entry["proponents"] + entry["opponents"]:
            mates = (cohorts == cohorts[:, [shown["position"]]]).sum(1) - 1
            assert shown["common"] == pytest.approx(common[shown["position"]])
            assert shown["mates"] == pytest.approx(float(mates.float().mean()))
    first, (item, *_) = listed[0], error_items(run, with_influence=True)
    cards = pane(run, item, causes(run))["teachers"][:3]
    for shown, card in zip(first["proponents"], cards, strict=True):
        parts = [shown["common"], shown["influence"] - shown["common"]]
        assert all(signed(part, 3) in card["hover"] for part in parts)
        assert "shares a mask with" in card["hover"]


def test_a_run_says_how_many_masks_its_items_share(
    sharing: Path, small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, masks in ((sharing, 40), (small_run, None)):
        run = Run(folder)
        (row,) = command(capsys, "runs", "--folder", folder.parent)["runs"]
        assert row["masks"] == run.manifest["masks"] == masks
        assert main(["runs", "--folder", str(folder.parent)]) == 0
        assert (", 40 shared masks" in capsys.readouterr().out) == bool(masks)
        assert ("40 that items share" in run_facts(run)["Model"]) == bool(masks)
        settings = dict(dict(build_details(run).groups)["Settings"])
        assert settings.get("masks") == (masks and "40")


def test_what_trains_the_model_again_keeps_the_masks(
    sharing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models of a cleansing and of an evaluation, also on fewer items than there are masks."""
    seen: set[int | None] = set()
    real = fit.train_epoch

    def noted(model: Members, *others: Any) -> None:
        seen.add(shared_masks(model))
        real(model, *others)

    monkeypatch.setattr(fit, "train_epoch", noted)
    monkeypatch.setattr(subsets, "train_epoch", noted)
    run = Run(Path(shutil.copytree(sharing, tmp_path / "run")))
    run.cleanse(fraction=0.05, repeats=1)
    run.evaluate("lds", halves=4, seeds=1, masked=True, baselines=[])
    assert seen == {40}


def test_estimates_are_made_of_the_members_values_as_the_manifest_says(small_run: Path) -> None:
    """The estimator read from the folder, on all targets, against what was written by slices."""
    run = Run(small_run)
    part, estimator, model = run.influence, stored_estimator(run), load_model(run, CPU)
    assert part.estimator == estimator.name == "best"
    for meaning, column, rows in (
        ("truth", "label", part.targets),
        ("prediction", "predicted", part.misclassified),
    ):
        labels = torch.tensor(run.validation[column].loc[rows].tolist())
        targets = Split(split_inputs(run, "validation", rows, CPU), labels)
        described = describe_targets(model, targets, run.features("validation")[rows])
        members = np.asarray(part.array(f"{meaning}_members"))
        made = estimator.apply(members, estimator.coefficients_of(described))
        for name, array in zip(("estimate", "error"), made, strict=True):
            found = part.array(f"{meaning}_{name}")
            np.testing.assert_allclose(found, array, rtol=1e-4, atol=1e-6)


def test_a_target_is_described_alike_alone_and_in_company(small_run: Path) -> None:
    """Whatever the slice, so that explaining one item later agrees with the run."""
    run = Run(small_run)
    model, rows = load_model(run, CPU), [4, 9, 300, 12]
    inputs = split_inputs(run, "validation", rows, CPU)
    labels = torch.tensor(run.validation["label"].loc[rows].tolist())
    features = run.features("validation")[rows]
    company = describe_targets(model, Split(inputs, labels), features)
    one = describe_targets(model, Split(inputs[2:3], labels[2:3]), features[2:3])
    np.testing.assert_allclose(company.residuals[2:3], one.residuals, atol=1e-6)


def test_the_same_command_gives_the_same_bits_and_says_what_was_computed(run_copy: Path) -> None:
    before, made = checksums(run_copy / "influence"), computed(run_copy)
    part = Run(run_copy).influence
    told = made["targets"], made["train_size"], made["members"], made["estimator"]
    assert told == (597, 60, 2, part.estimator)
    assert (
        made["pairs"] >= 2 * 60 * (597 + len(part.misclassified)) and made["pairs_per_second"] > 0
    )
    assert made["path"].startswith("mask algebra")
    assert checksums(run_copy / "influence") == before and names(run_copy) == WHOLE


@pytest.mark.parametrize("top", [4, 100])
def test_the_top_layout_holds_the_ends_of_the_full_one(
    top: int, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Run(run_copy).influence
    whole = {target: full.ranked(target, "prediction") for target in full.targets}
    monkeypatch.setattr(influence_files, "TOP", top)
    computed(run_copy, full_bytes=0)
    part = Run(run_copy).influence
    assert part.manifest["layout"] == "top" and not (part.folder / "truth_members.npy").exists()
    np.testing.assert_allclose(part.mean_influence[0], full.mean_influence[0], atol=1e-6)
    np.testing.assert_allclose(part.self_influence, full.self_influence, atol=1e-6)
    for target, expected in whole.items():
        known = part.ranked(target, "prediction")
        assert len(set(known.instances)) == len(known.instances) == min(60, 2 * top)
        there = known.instances
        np.testing.assert_allclose(known.values, expected.values[there], atol=1e-5)
        np.testing.assert_allclose(known.std_errors, expected.std_errors[there], atol=1e-5)
        ends = np.sort(expected.values)[::-1]
        ends = ends if 2 * top >= 60 else np.concatenate((ends[:top], ends[-top:]))
        np.testing.assert_allclose(known.values, ends, atol=1e-5)
        for one, other in zip(known.ends(3), expected.ends(3), strict=True):
            np.testing.assert_allclose(known.values[one], expected.values[other], atol=1e-5)


@pytest.mark.parametrize(("targets", "most"), [("errors", 10**6), ("errors", 3), ("validation", 5)])
def test_on_the_errors_alone_or_at_most_so_many_targets_the_same_every_time(
    targets: str, most: int, run_copy: Path
) -> None:
    full, run = Run(run_copy).influence, Run(run_copy)
    truth, wrong = (np.array(full.array(f"{name}_members")) for name in ("truth", "prediction"))
    assert computed(run_copy, targets, most=most)["targets"] == min(
        most, len(run.misclassified_positions)
    )
    part = Run(run_copy).influence
    assert part.targets == sorted(set(part.targets))
    assert part.misclassified == [
        target for target in part.targets if target in run.misclassified_positions
    ]
    assert targets == "validation" or part.targets == part.misclassified
    places = [full.misclassified.index(target) for target in part.misclassified]
    np.testing.assert_allclose(part.array("truth_members"), truth[:, part.targets], atol=1e-5)
    np.testing.assert_allclose(part.array("prediction_members"), wrong[:, places], atol=1e-5)
    other = next(position for position in range(597) if position not in part.targets)
    with pytest.raises(TurnoverError, match=f"validation item {other} has no influences in this"):
        part.ranked(other, "truth")
    before = checksums(run_copy / "influence")
    computed(run_copy, targets, most=most)
    assert checksums(run_copy / "influence") == before


def test_a_model_without_errors_has_influences_on_the_truth_and_none_on_them(
    run_copy: Path,
) -> None:
    """The run as it would be had the model been right everywhere."""
    items = pd.read_parquet(run_copy / "items.parquet")
    items.assign(predicted=items["label"]).to_parquet(run_copy / "items.parquet", index=False)
    facts = json.loads((run_copy / "manifest.json").read_text(encoding="utf-8"))
    told = {name: fact for name, fact in facts.items() if name not in ("format", "files")}
    write_manifest(run_copy, told, RUN_FILES)
    computed(run_copy)
    part = Run(run_copy).influence
    assert part.misclassified == [] and part.array("prediction_estimate").shape == (0, 60)
    assert len(part.ranked(0, "prediction").values) == 60
    with pytest.raises(TurnoverError, match="there are no errors to explain; use --targets valid"):
        computed(run_copy, "errors")


def test_one_member_has_no_standard_errors(tmp_path: Path) -> None:
    folder = train_digits(tmp_path / "run", members=1, limit=30)
    computed(folder)
    part = Run(folder).influence
    assert part.estimator == "raw"
    assert np.isnan(part.array("truth_error")).all() and np.isnan(part.mean_influence[1]).all()
    assert np.isfinite(part.array("truth_estimate")).all()


# Stops, full disks, two at once


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), FULL, RuntimeError("x")], ids=repr)
def test_influences_that_fail_leave_the_old_ones_and_no_scraps(
    failure: BaseException, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checksums(run_copy / "influence")
    failing = failing_after(2, influence_pipeline.influences, failure)
    monkeypatch.setattr(influence_pipeline, "influences", failing)
    with pytest.raises(TurnoverError if failure is FULL else type(failure)):
        computed(run_copy)
    assert checksums(run_copy / "influence") == before and names(run_copy) == WHOLE


def test_an_influence_that_finds_no_room_at_first_leaves_the_old_one(run_copy: Path) -> None:
    before = checksums(run_copy / "influence")
    for calls in range(1, 6):
        with failing_writes(calls, FULL):
            try:
                computed(run_copy, "errors", most=2)
            except TurnoverError as told:
                assert "the disk is full; free some space and run the same command" in str(told)
            else:
                break
        assert checksums(run_copy / "influence") == before and names(run_copy) == WHOLE
    assert calls > 2


def test_a_disk_that_is_full_when_influences_are_joined_costs_no_computation(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Space is taken at once: a sparse file that is mapped would crash the process."""
    before, real, sparse, seen = checksums(run_copy / "influence"), InfluenceFiles.put, [], set()
    with pytest.MonkeyPatch.context() as patch:
        failing = failing_after(2, influence_files.allocated, FULL)
        patch.setattr(influence_files, "allocated", failing)
        with pytest.raises(TurnoverError, match="the disk is full; free some space and run the"):
            computed(run_copy)
    assert checksums(run_copy / "influence") == before
    assert names(run_copy) == sorted([*WHOLE, ".influence.partial"])

    def looking(*arguments: Any) -> None:
        for path in (run_copy / ".influence.new").glob("*.npy"):
            seen.add(path.name)
            if path.stat().st_blocks * 512 < path.stat().st_size:
                sparse.append(path.name)
        real(*arguments)

    monkeypatch.setattr(InfluenceFiles, "put", looking)
    monkeypatch.setattr(influence_pipeline, "influences", None)
    assert computed(run_copy)["kept_pairs"] > 0
    assert checksums(run_copy / "influence") == before and names(run_copy) == WHOLE
    assert {"truth_members.npy", "prediction_estimate.npy"} <= seen and sparse == []


def test_a_second_influence_is_refused_and_disturbs_nothing(run_copy: Path) -> None:
    before, half = checksums(run_copy / "influence"), run_copy / ".influence.new" / "half.npy"
    with alone(run_copy / ".influence.lock", "at work"):
        half.parent.mkdir()
        half.touch()
        why = rf"process {os.getpid()} is computing influences of .*copy already"
        with pytest.raises(TurnoverError, match=why):
            computed(run_copy)
        assert half.exists() and checksums(run_copy / "influence") == before
    shutil.rmtree(half.parent)
    refused = together(*[lambda: computed(run_copy, "errors")] * 2)
    assert len(refused) <= 1
    assert all("is computing influences" in str(error) for error in refused)
    assert Run(run_copy).influence.targets and names(run_copy) == WHOLE


# A run of texts


def test_influences_of_a_text_run_are_the_engine_s_on_the_encoder_s_features(
    reviews_run: Path, encoder: TextEncoder
) -> None:
    run = Run(reviews_run)
    assert (run.kind, run.classes) == ("text", ["negative", "positive"])
    settings = run.manifest["settings"]["groups"], run.manifest["leaks"]
    assert settings == (16, ["the output bias"])
    for split in ("train", "validation"):
        features = encoder.features(list(run.split(split)["text"]))
        np.testing.assert_allclose(run.features(split), features, atol=1e-4)
    rows = run.influence.targets
    targets, labels = torch.from_numpy(features)[rows], run.validation["label"].loc[rows].tolist()
    expected = influence(load_model(run, CPU), targets, torch.tensor(labels), range(120))
    members = run.influence.members("truth", list(range(len(rows))))
    np.testing.assert_allclose(members, expected.values, atol=1e-4)
    torch.testing.assert_close(
        split_inputs(run, "validation", rows, CPU), targets, atol=1e-4, rtol=0
    )
    own = split_inputs(run, "train", [5, 2], CPU)
    np.testing.assert_array_equal(own, run.features("train")[[5, 2]])


@pytest.mark.parametrize("place", [0, 3, -1])
def test_explaining_a_validation_text_gives_the_stored_influences(
    place: int, reviews_run: Path
) -> None:
    """Encoded, described and estimated anew, by the estimator read from the folder."""
    run = Run(reviews_run)
    assert run.influence.estimator == "best"
    target = run.influence.targets[place]
    item = run.item("validation", target)
    made = Explainer(run, "cpu").explain_text(item["text"], run.classes[item["label"]], 5)
    stored = run.influence.ranked(target, "truth")
    scale = np.abs(stored.values).max()
    for name, rows in zip(("proponents", "opponents"), stored.ends(5), strict=True):
        found = {key: [entry[key] for entry in made[name]] for key in ("influence", "std_error")}
        np.testing.assert_allclose(found["influence"], stored.values[rows], atol=1e-3 * scale)
        np.testing.assert_allclose(found["std_error"], stored.std_errors[rows], rtol=1e-3)


def test_images_are_scaled_to_minus_one_and_one() -> None:
    images, scaled = np.array([[[0, 255], [51, 204]]], np.uint8), [[[[-1.0, 1.0], [-0.6, 0.6]]]]
    torch.testing.assert_close(torch.from_numpy(pixels(images)), torch.tensor(scaled))
