"""The scores that a cleansing goes by, and its command, with flags and without."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import turnover.workflows.cleanse as cleanse_workflow
import turnover.workflows.cleansing_results as results
from turnover import Run, TurnoverError
from turnover.attribution.estimators.estimator import Estimator
from turnover.attribution.influence import mean_influence
from turnover.cli import main
from turnover.cli.cleanse import describe_cleanse as describe
from turnover.data.sources.text import load_elec
from turnover.flags import Flags
from turnover.runs.model import describe_targets, item_features, load_model, run_settings, run_split
from turnover.runs.run import made_with
from turnover.storage.artifacts import write_facts
from turnover.workflows.cleansing import (
    CLEANSED,
    CONDITIONS,
    FLAGGED,
    NONE,
    RANDOM,
    WITH_FLAGS,
    Retrained,
    summarise,
)
from turnover.workflows.cleansing_results import (
    Scores,
    curve_of,
    has_scores,
    keep_cleansing,
    read_cleansings,
    run_scores,
)

CPU = torch.device("cpu")


def test_scores_from_the_run_s_influence_are_those_computed_anew(small_run: Path) -> None:
    run = Run(small_run)
    scores, model = run_scores(run), load_model(run, CPU)
    targets = run_split(run, "validation", CPU)
    members = mean_influence(model, targets.inputs, targets.labels, np.arange(60)).numpy()
    described = describe_targets(model, targets, item_features(model, targets.inputs))
    shape = scores.estimator.coefficients_of(described).mean(0, keepdims=True)
    made = scores.estimator.apply(members[:, None], shape)
    for found, expected in zip(scores.estimates, made, strict=True):
        np.testing.assert_allclose(found, expected[0], atol=1e-5)
    assert scores.targets == 597
    assert has_scores(run, "validation") and not has_scores(run, "elec")
    with pytest.raises(TurnoverError, match="no influences on elec yet"):
        run_scores(run, "elec")


def test_a_sum_is_the_sum_of_the_scores_with_an_error_of_its_own(small_run: Path) -> None:
    scores, some = run_scores(Run(small_run)), np.array([3, 50, 7, 21])
    values, errors = scores.estimates
    total, error = scores.total(some)
    assert total == pytest.approx(values[some].sum(), rel=1e-4)
    assert scores.total(some[:1]) == pytest.approx((values[3], errors[3]), rel=1e-3)
    assert error is not None and error > 0


def test_without_a_shape_the_members_own_sums_say_the_error() -> None:
    random = [
        np.random.default_rng(seed).standard_normal((5, wide)) for seed, wide in ((0, 40), (1, 1))
    ]
    members, estimator = random[0] + random[1], Estimator("median", {})
    scores = Scores(members, None, estimator, 7)
    total, error = scores.total(np.arange(10))
    sums = members[:, :10].sum(1)
    assert (total, error) == pytest.approx((sums.mean(), sums.std(ddof=1) / 5**0.5))
    alone = np.sqrt(np.square(scores.estimates[1][:10]).sum())
    assert error is not None and error > alone  # their errors are shared
    assert Scores(members[:1], None, estimator, 7).total(np.arange(3))[1] is None


def test_scores_for_elec_are_computed_without_retraining(
    reviews_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, elec = Path(shutil.copytree(reviews_run, tmp_path / "run")), tmp_path / "elec"
    elec.mkdir()
    rows = "works well and looks good,1\nbroke after a day,0\ngood sound,1\nnever buy this,0\n"
    for name in ("valid.csv", "test.csv"):
        (elec / name).write_text(f"text,label\n{rows}")
    capsys.readouterr()
    options = ["--validation", "elec", "--path", str(elec), "--score-only", "--json"]
    assert main(["cleanse", "--run", str(run), *options]) == 0
    told = {"run": str(run), "validation": "elec", "targets": 4, "scored": 120}
    assert json.loads(capsys.readouterr().out) == told
    reviews = load_elec(elec).validation
    inputs = torch.from_numpy(run_settings(Run(run)).reader(CPU)(reviews.texts or []))
    labels = torch.from_numpy(reviews.labels)
    expected = mean_influence(load_model(Run(run), CPU), inputs, labels, np.arange(120))
    np.testing.assert_allclose(run_scores(Run(run), "elec").members, expected, atol=1e-6)
    assert read_cleansings(Run(run)) == ([], [])


# The command


def cleansed(capsys: pytest.CaptureFixture[str], run: Path, *options: str) -> dict[str, Any]:
    """What it prints, which is JSON: without NaN and infinities."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    capsys.readouterr()
    assert main(["cleanse", "--run", str(run), "--fraction", "0.1", "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=refuse)
    return found


def put_flags(folder: Path) -> None:
    """Two that change the training, one that does not."""
    run, flags = Run(folder), Flags(folder)
    flags.put(5, "drop")
    flags.put(6, "keep")
    own = run.classes[int(run.item("train", 7)["label"])]
    flags.put(7, "relabel", next(name for name in run.classes if name != own))


def test_the_command_scores_removes_retrains_and_keeps_models_as_they_finish(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without, run = cleansed(capsys, run_copy, "--repeats", "1"), Run(run_copy)
    sizes = without["removed"], without["repeats"], without["targets"], without["measured_on"]
    assert sizes == ([6], 1, 299, 298) and without["flags"] is None
    assert len(set(without["removed_ids"])) == 6 and {*without["removed_ids"]} <= {*run.train["id"]}
    assert [one["condition"] for one in without["conditions"]] == list(CONDITIONS)
    assert (without["shares"], without["chosen"], without["trained"]) == ([0.1], 0.1, 3)
    words = describe(without)
    assert all(f"| {name} |" in words for name in CONDITIONS) and "Does it help? No diff" in words

    seen: list[tuple[int, bool]] = []

    def looking(run: Run, result: dict[str, Any], finished: bool = True) -> Path:
        path = keep_cleansing(run, result, finished)
        newest = read_cleansings(run)[0][0]
        seen.append((len(newest.models), newest.finished))
        return path

    monkeypatch.setattr(results, "keep_cleansing", looking)
    put_flags(run_copy)
    result = cleansed(capsys, run_copy, "--repeats", "2", "--flags")
    assert seen == [*((count, False) for count in range(4, 9)), (8, True)]
    assert result["flags"]["dropped"] == result["flags"]["relabelled"] == 1
    order = [(seed, name) for seed in range(2) for name in WITH_FLAGS]
    assert [(one["seed"], one["condition"]) for one in result["models"]] == order
    first = [one for one in result["models"] if one["seed"] == 0]
    same = [one for one in first if one["condition"] != FLAGGED]
    assert same == without["models"] and result["trained"] == 5
    assert [one["other"] for one in result["conditions"][-1]["against"]] == [NONE]
    check_kept(Run(run_copy), result)


def test_a_curve_trains_what_no_earlier_one_did_and_flags_anew_as_they_change(
    run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_flags(run_copy)
    one = cleansed(capsys, run_copy, "--repeats", "1", "--flags")
    curve = cleansed(capsys, run_copy, "--fraction", ".2", ".1", "--repeats", "1", "--flags")
    assert (one["trained"], curve["trained"]) == (4, 2)
    assert (curve["shares"], curve["removed"], len(curve["removed_ids"])) == (
        [0.1, 0.2],
        [6, 12],
        12,
    )
    assert curve["removed_ids"][:6] == one["removed_ids"] and curve["chosen"] in (0.1, 0.2)
    assert [model for model in curve["models"] if model in one["models"]] == one["models"]
    Flags(run_copy).put(8, "drop")
    again = cleansed(capsys, run_copy, "--repeats", "1", "--flags")
    assert again["trained"] == 1 and again["models"][:-1] == one["models"][:-1]
    assert again["models"][-1] != one["models"][-1]


def test_the_usual_shares_are_those_that_leave_every_class_an_item(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cleanse_workflow, "SHARES", (0.001, 0.05, 0.1, 0.99))
    capsys.readouterr()
    assert main(["cleanse", "--run", str(run_copy), "--repeats", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == [3, 6]
    monkeypatch.setattr(cleanse_workflow, "SHARES", (0.001, 0.99))
    assert main(["cleanse", "--run", str(run_copy), "--repeats", "1", "--json"]) == 2
    assert "name one with --fraction" in capsys.readouterr().err


def test_a_cleansing_of_an_earlier_version_is_a_curve_of_one_share(run_copy: Path) -> None:
    """It has no shares, and no items by which another could tell that its models are the same."""
    run = Run(run_copy)
    models = [Retrained(name, seed, 0.5, 0.5, 0.5) for seed in (0, 1) for name in CONDITIONS]
    rows = [asdict(row) for row in summarise([replace(m, share=0.0) for m in models])]
    for row in (*rows, *(kept_models := [asdict(model) for model in models])):
        del row["share"]
    facts = {
        "validation": "validation",
        "fraction": 0.1,
        "removed": 6,
        "removed_ids": [],
        "flags": None,
    }
    result = facts | {"repeats": 2, "targets": 9, "measured_on": 9, "seconds": 1.0}
    result |= {"models": kept_models, "conditions": rows}
    path = run_copy / "cleansing" / "validation-0.1-2-seeds.json"
    write_facts(path, {"made_with": made_with(run), "result": result})
    (kept,), problems = read_cleansings(run)
    assert problems == [] and kept == curve_of(run, "validation")
    assert (kept.facts["shares"], kept.facts["removed"], kept.facts["chosen"]) == ([0.1], [6], 0.1)
    assert kept.seeds == {(NONE, 0.0): 2, (RANDOM, 0.1): 2, (CLEANSED, 0.1): 2}


def check_kept(run: Run, result: dict[str, Any]) -> None:
    """What was printed is there."""
    found, problems = read_cleansings(run)
    names = {"validation-0.1-1-seeds", "validation-0.1-2-seeds-flags"}
    assert problems == [] and {one.name for one in found} == names
    kept = next(one for one in found if one.name.endswith("flags"))
    shares = [0.1 if name in (RANDOM, CLEANSED) else 0.0 for name in WITH_FLAGS]
    assert kept.finished and not kept.stale
    assert kept.seeds == dict.fromkeys(zip(WITH_FLAGS, shares, strict=True), 2)
    assert kept.facts["removed_ids"] == result["removed_ids"]
    conditions = [asdict(one) for one in kept.conditions]
    assert json.loads(json.dumps(conditions)) == result["conditions"]


BAD_CALLS = {
    "--fraction 0": "--fraction",
    "--fraction 1": "--fraction",
    "--fraction -0.5": "--fraction",
    "--fraction 3": "--fraction",
    "--fraction nan": "--fraction",
    "--fraction inf": "--fraction",
    "--fraction 0.97": "every training item of class",
    "--repeats 0 --fraction 0.1": "--repeats 0",
    "--validation mnist": "--validation mnist",
    "--validation elec --path .": "does not tell negative from positive",
    "--fraction 0.1 --flags": "the flags take away every training item of class '4'",
    "--fraction 0.1": "turnover influence",
}


def test_bad_input_is_one_line_and_code_2(
    run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last one of a run without influence."""
    train = Run(run_copy).train
    Flags(run_copy).put_many(train.index[train["label"] == 4], "drop")
    for options, expected in BAD_CALLS.items():
        if options == "--fraction 0.1":
            shutil.rmtree(run_copy / "influence")
        capsys.readouterr()
        code, printed = (
            main(["cleanse", "--run", str(run_copy), *options.split()]),
            capsys.readouterr(),
        )
        said = printed.err.replace("\r", "\n").split("\n")
        lines = [line for line in said if line.strip() and "%|" not in line]
        assert (code, printed.out, len(lines)) == (2, "", 1), printed.err
        assert expected in lines[0]
    assert read_cleansings(Run(run_copy)) == ([], [])
