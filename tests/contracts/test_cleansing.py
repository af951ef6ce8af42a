"""Cleansing: what each condition removes, what the comparison says, and that retraining is ordinary training."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from core.cleansing.choose import CLEANSED, CONDITIONS, NONE, RANDOM, count_removed, kept_rows, lowest
from core.cleansing.retraining import retrain
from core.cleansing.summary import Retrained, summarise
from core.cli import main
from core.models.members import Members
from core.pipeline.architecture import build_model
from core.pipeline.model import run_settings, split_inputs
from core.recipe import Recipe
from core.runs import Run
from core.training import Split, accuracy, fit, item_losses
from tests.contracts.test_training import TRAIN, VALIDATION, a_split
from tests.helpers.builders import member_heads, run_python, train_digits

CPU, RECIPE, MEASURED = torch.device("cpu"), Recipe(epochs=3, batch=8, learning_rate=1e-2, masked=False), a_split(40, 5)
SCORES = np.random.default_rng(0).standard_normal(30)


# What goes


@pytest.mark.parametrize(
    ("total", "fraction", "count"), [(100, 0.01, 1), (60, 0.01, 1), (40, 0.01, 0), (3, 0.5, 2), (5000, 0.05, 250), (7, 0.0, 0), (7, 1.0, 7)]
)
def test_a_fraction_is_rounded_to_the_nearest_count_and_halves_up(total: int, fraction: float, count: int) -> None:
    assert count_removed(total, fraction) == count


@given(scores=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=30), count=st.integers(0, 30))
def test_the_lowest_scores_come_in_order_and_ties_by_position(scores: list[float], count: int) -> None:
    expected = sorted(range(len(scores)), key=lambda position: (scores[position], position))[:count]
    assert lowest(np.array(scores), count).tolist() == expected


@given(count=st.integers(0, 30), seed=st.integers(0, 2**31))
def test_conditions_keep_rising_positions_of_the_right_number(count: int, seed: int) -> None:
    kept = {name: kept_rows(name, SCORES, count, seed) for name in CONDITIONS}
    assert kept[NONE].tolist() == list(range(30))
    assert set(kept[CLEANSED]) == set(range(30)) - set(lowest(SCORES, count))
    for rows in (kept[RANDOM], kept[CLEANSED]):
        assert len(rows) == 30 - count
        assert (np.diff(rows) > 0).all()


def test_random_removal_differs_by_seed_ignores_scores_and_is_even() -> None:
    gone = [frozenset(range(30)) - frozenset(kept_rows(RANDOM, SCORES, 6, seed)) for seed in range(600)]
    assert len(set(gone)) > 590
    assert gone[7] == frozenset(range(30)) - frozenset(kept_rows(RANDOM, -SCORES, 6, 7))
    counts = np.bincount([row for rows in gone for row in rows], minlength=30)
    assert abs(counts - 120).max() < 5 * np.sqrt(600 * 0.2 * 0.8)


def test_random_removal_is_the_same_in_another_process() -> None:
    code = "import numpy as np; from core.cleansing.choose import *; print([kept_rows(RANDOM, np.zeros(30), 6, s).tolist() for s in (0, 1, 2**40)])"
    assert json.loads(run_python(code)) == [kept_rows(RANDOM, SCORES, 6, seed).tolist() for seed in (0, 1, 2**40)]


# What is said


def results(condition: str, accuracies: list[float]) -> list[Retrained]:
    return [Retrained(condition, seed, value, value + 1, value + 2) for seed, value in enumerate(accuracies)]


def test_a_summary_is_numpy_s_and_its_p_value_scipy_s() -> None:
    base, own = [0.5, 0.625, 0.75, 0.5], [0.75, 0.625, 0.875, 0.625]
    shuffled = [(results(NONE, base) + results(CLEANSED, own))[place] for place in np.random.default_rng(1).permutation(8)]
    none, cleansed = summarise(shuffled)
    assert (none.condition, cleansed.condition) == (NONE, CLEANSED)
    assert none.against == ()
    (against,) = cleansed.against
    assert against.other == NONE
    assert (against.accuracy_p, against.loss_p) == pytest.approx((ttest_rel(own, base).pvalue,) * 2)  # these losses are the accuracies plus 1
    assert (against.accuracy, against.loss) == pytest.approx((np.mean(own) - np.mean(base),) * 2)
    assert (cleansed.accuracy, cleansed.accuracy_sd) == pytest.approx((np.mean(own), np.std(own, ddof=1)))
    assert (cleansed.loss, cleansed.loss_sd, cleansed.validation_loss) == pytest.approx((np.mean(own) + 1, np.std(own, ddof=1), np.mean(own) + 2))


def test_every_condition_is_compared_with_those_before_it() -> None:
    """Accuracy and loss each with its own seeds' differences."""
    accuracies = {NONE: [0.5, 0.75, 0.625], RANDOM: [0.5, 0.5, 0.75], CLEANSED: [0.75, 0.875, 0.75]}
    losses = {NONE: [0.3, 0.5, 0.4], RANDOM: [0.5, 0.25, 0.75], CLEANSED: [0.1, 0.125, 0.3]}
    made = [Retrained(name, seed, accuracies[name][seed], losses[name][seed], 0.0) for seed in range(3) for name in CONDITIONS]
    summaries = {one.condition: {other.other: other for other in one.against} for one in summarise(made)}
    assert {name: list(others) for name, others in summaries.items()} == {NONE: [], RANDOM: [NONE], CLEANSED: [NONE, RANDOM]}
    for name, others in summaries.items():
        for other, found in others.items():
            assert found.accuracy_p == pytest.approx(ttest_rel(accuracies[name], accuracies[other]).pvalue)
            assert found.loss_p == pytest.approx(ttest_rel(losses[name], losses[other]).pvalue)
            assert found.loss == pytest.approx(np.mean(losses[name]) - np.mean(losses[other]))


@pytest.mark.parametrize("own", [[0.5], [0.5, 0.625, 0.75], [0.625, 0.75, 0.875]])
def test_without_a_spread_of_differences_there_is_no_p_value(own: list[float]) -> None:
    none, cleansed = summarise(results(NONE, [0.5, 0.625, 0.75][: len(own)]) + results(CLEANSED, own))
    assert (cleansed.against[0].accuracy_p, cleansed.against[0].loss_p) == (None, None)
    if len(own) == 1:
        assert (none.accuracy_sd, cleansed.loss_sd) == (0, 0)


def test_differences_that_are_equal_but_for_rounding_have_no_p_value() -> None:
    """Two of ten items more from every seed; in floats .3 - .1 is not .2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, cleansed = summarise(results(NONE, [0.1, 0.0, 0.5]) + results(CLEANSED, [0.3, 0.2, 0.7]))
    assert (cleansed.against[0].accuracy_p, cleansed.against[0].loss_p) == (None, None)


# Retraining


def build(seed: int) -> Members:
    return member_heads(groups=4, members=1, seed=seed).float()


def recipe(seed: int) -> Recipe:
    return replace(RECIPE, seed=seed)


def retrained(seeds: list[int], conditions: tuple[str, ...] = CONDITIONS) -> list[Retrained]:
    return list(retrain(build, recipe, TRAIN, VALIDATION, MEASURED, SCORES, 6, seeds, conditions))


def test_the_same_seed_and_condition_give_the_same_bits_in_any_company() -> None:
    together = retrained([0, 1])
    assert [(one.seed, one.condition) for one in together] == [(seed, name) for seed in (0, 1) for name in CONDITIONS]
    torch.randn(7)
    assert retrained([1], (CLEANSED,)) == [one for one in together if (one.seed, one.condition) == (1, CLEANSED)]
    assert len({one.loss for one in together}) == 6


@pytest.mark.parametrize("condition", CONDITIONS)
def test_retraining_is_plain_training_on_what_is_kept(condition: str) -> None:
    rows = torch.from_numpy(kept_rows(condition, SCORES, 6, 3))
    model = build(3)
    fit(model, Split(TRAIN.inputs[rows], TRAIN.labels[rows]) if condition != NONE else TRAIN, VALIDATION, recipe(3))
    losses = [float(item_losses(model, split).mean()) for split in (MEASURED, VALIDATION)]
    assert retrained([3], (condition,)) == [Retrained(condition, 3, accuracy(model, MEASURED), *losses)]


def test_removing_planted_labels_beats_random_removal(tmp_path: Path) -> None:
    run = Run(train_digits(tmp_path / "run", limit=100, members=1, label_noise=0.3))
    planted = (run.train["label"] != run.train["true_label"]).to_numpy()
    assert planted.sum() == 30
    train, held = (
        Split(split_inputs(run, name, list(range(100)), CPU), torch.tensor(run.split(name)["label"].tolist()[:100])) for name in ("train", "validation")
    )
    settings = replace(run_settings(run), members=1)
    made = list(
        retrain(
            lambda seed: build_model(replace(settings, seed=seed), 10, (1, 8, 8)),
            lambda seed: replace(settings.recipe, masked=False, seed=seed),
            *(train, held, held),
            np.where(planted, -1.0, 0.0),
            *(30, [0, 1], (RANDOM, CLEANSED)),
        )
    )
    means = {name: np.mean([one.accuracy for one in made if one.condition == name]) for name in (RANDOM, CLEANSED)}
    assert means[CLEANSED] >= means[RANDOM]


# The command


def strict(text: str) -> Any:
    """JSON without NaN and infinities, which are not JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("repeats", [1, 2])
def test_the_command_scores_removes_retrains_and_prints_json(repeats: int, run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cleanse", "--run", str(run_copy), "--fraction", "0.1", "--repeats", str(repeats), "--json"]) == 0
    result = strict(capsys.readouterr().out)
    run = Run(run_copy)
    assert (result["removed"], result["repeats"], result["targets"], result["measured_on"]) == (6, repeats, 299, 298)
    assert len(set(result["removed_ids"])) == 6 and set(result["removed_ids"]) <= set(run.train["id"])
    removed = run.train.set_index("id").loc[result["removed_ids"], "label"]
    assert result["removed_by_class"] == {name: int((removed == number).sum()) for number, name in enumerate(run.classes)}
    assert [one["condition"] for one in result["conditions"]] == list(CONDITIONS)
    assert [(one["seed"], one["condition"]) for one in result["models"]] == [(seed, name) for seed in range(repeats) for name in CONDITIONS]


def test_the_command_prints_a_table(run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cleanse", "--run", str(run_copy), "--fraction", "0.05", "--repeats", "1"]) == 0
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in CONDITIONS)


def no_influence(run: Path) -> None:
    for file in (run / "influence").iterdir():
        file.unlink()
    (run / "influence").rmdir()


BAD_CALLS: dict[str, tuple[str, str, Callable[[Path], object] | None]] = {
    "nothing removed": ("--fraction 0", "--fraction", None),
    "everything removed": ("--fraction 1", "--fraction", None),
    "a negative share": ("--fraction -0.5", "--fraction", None),
    "more than all": ("--fraction 3", "--fraction", None),
    "no number": ("--fraction nan", "--fraction", None),
    "infinite": ("--fraction inf", "--fraction", None),
    "a whole class removed": ("--fraction 0.97", "every training item of class", None),
    "no repeats": ("--repeats 0 --fraction 0.1", "--repeats 0", None),
    "unknown validation set": ("--validation mnist", "--validation mnist", None),
    "elec for images": ("--validation elec --path .", "does not tell negative from positive", None),
    "no influence": ("--fraction 0.1", "python -m core influence", no_influence),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_input_is_one_line_and_code_2(case: str, run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, expected, prepare = BAD_CALLS[case]
    if prepare:
        prepare(run_copy)
    capsys.readouterr()
    code = main(["cleanse", "--run", str(run_copy), *options.split()])
    printed = capsys.readouterr()
    lines = [line for line in printed.err.replace("\r", "\n").split("\n") if line.strip() and "%|" not in line]
    assert (code, printed.out, len(lines)) == (2, "", 1), printed.err
    assert expected in lines[0]
