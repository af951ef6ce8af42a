"""The training loop: curves that are what they say, a rule for the kept epoch, and interruptions that change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import save_file
from torch import Tensor, nn

from core import TurnoverError, turnover
from core.masks import UNOWNED
from core.models.members import MemberModel
from core.models.vision import small_vgg
from core.recipe import Recipe
from core.training import CURVES, History, Split, accuracy, fit, item_losses, probabilities
from tests.helpers.builders import member_heads

RECIPE = Recipe(epochs=5, patience=10, batch=8, learning_rate=1e-2, seed=2)


class Interruption(Exception):
    """What a test throws into the middle of training."""


def a_split(rows: int, seed: int, width: int = 8) -> Split:
    """Items of three classes that a line can mostly tell apart."""
    rng = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, width, generator=rng)
    return Split(inputs, (inputs[:, :3] + torch.randn(rows, 3, generator=rng)).argmax(1))


TRAIN, VALIDATION = a_split(30, 0), a_split(20, 1)


def new_model(**options: Any) -> MemberModel:
    return member_heads(**{"groups": 4, "members": 2, "seed": 2, **options}).float()


def same_history(first: History, second: History) -> bool:
    lists = ("masked_items", "flipped_items", "validation_items")
    arrays_equal = all(np.array_equal(np.stack(getattr(first, name)), np.stack(getattr(second, name))) for name in lists)
    return first.curves == second.curves and first.accuracy == second.accuracy and arrays_equal


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


# Interruptions


@pytest.mark.parametrize("epochs_before", [(1,), (2,), (3,), (4,), (5,), (1, 1, 1), (2, 2)])
def test_training_interrupted_after_any_epoch_goes_on_as_if_it_had_not_been(epochs_before: tuple[int, ...], tmp_path: Path) -> None:
    whole, checkpoint = new_model(), tmp_path / "checkpoint"
    expected = fit(whole, TRAIN, VALIDATION, RECIPE)
    told: list[int] = []
    for epochs in epochs_before:
        stop_at = len(told) + epochs

        def stop(history: History, stop_at: int = stop_at) -> None:
            told.append(history.epochs)
            if history.epochs == stop_at:
                raise Interruption

        with pytest.raises(Interruption):
            fit(new_model(), TRAIN, VALIDATION, RECIPE, checkpoint, stop)
    resumed = new_model()
    history = fit(resumed, TRAIN, VALIDATION, RECIPE, checkpoint, lambda history: told.append(history.epochs))
    assert told == [1, 2, 3, 4, 5]
    assert same_history(history, expected)
    assert same_weights(resumed, whole)


@given(call=st.integers(1, 60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_training_interrupted_inside_an_epoch_loses_that_epoch_only(call: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The interruption falls on any of the loss computations, in training or in measuring."""
    whole, checkpoint = new_model(), tmp_path_factory.mktemp("fit") / "checkpoint"
    expected = fit(whole, TRAIN, VALIDATION, RECIPE)
    calls, finished = [0], [0]
    real = nn.functional.cross_entropy

    def interrupting(*arguments: Any, **options: Any) -> Tensor:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "cross_entropy", interrupting)
        try:
            fit(new_model(), TRAIN, VALIDATION, RECIPE, checkpoint, lambda history: finished.__setitem__(0, history.epochs))
        except KeyboardInterrupt:
            assert calls[0] == call
    resumed, after = new_model(), [0]
    history = fit(resumed, TRAIN, VALIDATION, RECIPE, checkpoint, lambda _: after.__setitem__(0, after[0] + 1))
    assert after[0] == RECIPE.epochs - finished[0]
    assert same_history(history, expected)
    assert same_weights(resumed, whole)


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first, again, told = new_model(), new_model(), []
    history = fit(first, TRAIN, VALIDATION, RECIPE, tmp_path / "checkpoint")
    assert same_history(fit(again, TRAIN, VALIDATION, RECIPE, tmp_path / "checkpoint", told.append), history)
    assert same_weights(again, first)
    assert told == []


def test_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    with_one, without = new_model(), new_model()
    assert same_history(fit(with_one, TRAIN, VALIDATION, RECIPE, tmp_path / "checkpoint"), fit(without, TRAIN, VALIDATION, RECIPE))
    assert same_weights(with_one, without)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_convolutions_resume_to_the_same_bits(tmp_path: Path) -> None:
    train, validation = (Split(torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(seed)), torch.arange(24) % 3) for seed in (0, 1))
    recipe = replace(RECIPE, epochs=2)
    models = [small_vgg((1, 8, 8), 3, members=2, groups=8, seed=0) for _ in range(3)]
    fit(models[0], train, validation, recipe)
    with pytest.raises(Interruption):
        fit(models[1], train, validation, recipe, tmp_path / "checkpoint", lambda _: (_ for _ in ()).throw(Interruption))
    fit(models[2], train, validation, recipe, tmp_path / "checkpoint")
    assert same_weights(models[0], models[2])


# Checkpoints that cannot be used


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "masked.checkpoint"
    fit(new_model(), TRAIN, VALIDATION, replace(RECIPE, epochs=1, patience=1), path)
    return path


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 100, b"not a checkpoint at all", None, "half", "zero header"])
def test_a_damaged_checkpoint_is_refused_by_name(content: bytes | str | None, checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    damaged = {"half": whole[: len(whole) // 2], "zero header": b"\0" * 8 + whole[8:], None: whole[:-1]}
    checkpoint.write_bytes(content if isinstance(content, bytes) else damaged[content])
    with pytest.raises(TurnoverError, match=r"masked\.checkpoint: the checkpoint is damaged .*; delete it to train from the beginning"):
        fit(new_model(), TRAIN, VALIDATION, replace(RECIPE, epochs=1, patience=1), checkpoint)


@pytest.mark.parametrize("facts", [None, {"format": "pt"}, {"facts": "[]"}, {"facts": "{}"}, {"facts": "not json"}])
def test_a_foreign_file_of_tensors_is_refused_by_name(facts: dict[str, str] | None, checkpoint: Path) -> None:
    save_file({"weight": torch.zeros(3)}, checkpoint, facts)
    with pytest.raises(TurnoverError, match=r"masked\.checkpoint: "):
        fit(new_model(), TRAIN, VALIDATION, replace(RECIPE, epochs=1, patience=1), checkpoint)


@pytest.mark.parametrize(
    "change", [{"epochs": 9}, {"patience": 2}, {"batch": 9}, {"learning_rate": 1e-3}, {"weight_decay": 0.5}, {"seed": 3}, {"masked": False}]
)
def test_a_checkpoint_of_another_recipe_is_refused(change: dict[str, Any], checkpoint: Path) -> None:
    with pytest.raises(TurnoverError, match="made with other settings; use the same settings to resume, or delete it"):
        fit(new_model(), TRAIN, VALIDATION, replace(RECIPE, **{"epochs": 1, "patience": 1, **change}), checkpoint)


@pytest.mark.parametrize("change", [{"members": 3}, {"hidden": 16}, {"classes": 4}, {"groups": 2}, {"groups": None}, {"seed": 7}])
def test_a_checkpoint_of_another_model_is_refused(change: dict[str, Any], checkpoint: Path) -> None:
    """Models that differ in their masks alone have tensors of the same shape."""
    with pytest.raises(TurnoverError, match="made with other settings"):
        fit(new_model(**change), TRAIN, VALIDATION, replace(RECIPE, epochs=1, patience=1), checkpoint)


# The rule for the kept epoch


@given(losses=arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 12)), elements=st.floats(0, 3, width=32)))
def test_kept_is_the_last_epoch_within_one_standard_error_of_the_best(losses: np.ndarray) -> None:
    history = History({"masked": [], "flipped": [], "unowned": [], "validation": [float(row.mean()) for row in losses]}, [0.0] * len(losses))
    history.validation_items = list(losses)
    best = min(range(len(losses)), key=lambda epoch: float(losses[epoch].mean()))
    assert history.best == best
    within = []
    for epoch, row in enumerate(losses):
        excess = row - losses[best]
        if epoch == best or excess.mean() <= excess.std() / len(row) ** 0.5:
            within.append(epoch)
    assert history.kept == within[-1]


def test_kept_by_example() -> None:
    """Epoch 2 is best; 3 is worse by less than the noise of the difference, 4 by more."""
    base = np.zeros(100, np.float32)
    noise = np.where(np.arange(100) % 2, 1, -1).astype(np.float32)
    items = [base + 2, base + 1, base, base + 0.09 + noise, base + 0.11 + noise]
    history = History({**History().curves, "validation": [float(row.mean()) for row in items]}, [0.0] * 5, validation_items=items)
    assert (history.best, history.kept) == (2, 3)
    assert (replace(history, keep="best").kept, replace(history, keep="last").kept) == (2, 4)


@pytest.mark.parametrize("keep", ["learned", "best", "last"])
@pytest.mark.parametrize("seed", range(4))
def test_the_model_is_left_at_the_kept_epoch(seed: int, keep: str) -> None:
    """Here one before the last: the model learns fast, and so many validation items see it get worse."""
    model, states, validation = new_model(), [], a_split(600, 1)

    def remember(_: History) -> None:
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    recipe = replace(RECIPE, epochs=30, patience=8, learning_rate=0.05, seed=seed, keep=keep)
    history = fit(model, TRAIN, validation, recipe, progress=remember)
    assert history.kept < history.epochs - 1 if keep != "last" else history.kept == history.epochs - 1
    assert keep != "best" or history.kept == history.best
    assert all(torch.equal(value, states[history.kept][name]) for name, value in model.state_dict().items())
    assert float(item_losses(model, validation).mean()) == pytest.approx(history.curves["validation"][history.kept], rel=1e-6)
    assert not model.training


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_training_stops_when_the_validation_loss_has_not_fallen_for_patience_epochs(patience: int) -> None:
    history = fit(new_model(), TRAIN, VALIDATION, replace(RECIPE, epochs=200, patience=patience))
    assert history.epochs - 1 - history.best == patience
    assert history.epochs < 200


def test_training_stops_after_the_last_epoch() -> None:
    assert fit(new_model(), TRAIN, VALIDATION, replace(RECIPE, epochs=3, patience=100)).epochs == 3


# What is measured


def test_curves_and_item_losses_are_what_they_say() -> None:
    model = new_model()

    def loss(split: Split, row: int) -> Tensor:
        logits = model(split.inputs[row : row + 1])
        return nn.functional.cross_entropy(logits.flatten(0, 1), split.labels[row].expand(2)).detach()

    def check(history: History) -> None:
        masked, flipped, validation, unowned = [], [], [], []
        for row in range(30):
            with turnover([row]):
                masked.append(float(loss(TRAIN, row)))
            with turnover([row], flipped=True):
                flipped.append(float(loss(TRAIN, row)))
        for row in range(20):
            validation.append(float(loss(VALIDATION, row)))
            with turnover([UNOWNED + row]):
                unowned.append(float(loss(VALIDATION, row)))
        for name, values in zip(CURVES, (masked, flipped, validation, unowned), strict=True):
            assert history.curves[name][-1] == pytest.approx(np.mean(values), rel=1e-5)
        np.testing.assert_allclose(history.masked_items[-1], masked, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(history.flipped_items[-1], flipped, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(history.validation_items[-1], validation, rtol=1e-4, atol=1e-6)
        chances = torch.stack([model.eval()(VALIDATION.inputs)[member].softmax(-1) for member in range(2)]).mean(0)
        assert history.accuracy[-1] == pytest.approx(float((chances.argmax(1) == VALIDATION.labels).float().mean()))

    history = fit(model, TRAIN, VALIDATION, replace(RECIPE, epochs=3), progress=check)
    assert history.epochs == 3


def test_losses_of_many_rows_are_those_of_their_slices() -> None:
    model, split = new_model().double(), Split(torch.randn(1100, 8, dtype=torch.float64), torch.arange(1100) % 3)
    ids = torch.arange(1100)
    whole = item_losses(model, split, ids, flipped=True)
    parts = [item_losses(model, Split(split.inputs[rows], split.labels[rows]), ids[rows], flipped=True) for rows in ids.split(100)]
    torch.testing.assert_close(whole, torch.cat(parts, 1))
    torch.testing.assert_close(probabilities(model, split.inputs), torch.cat([probabilities(model, split.inputs[rows]) for rows in ids.split(100)]))


def test_probabilities_are_the_mean_over_members_and_decide_the_accuracy() -> None:
    model = new_model(members=3)
    expected = model(VALIDATION.inputs).softmax(-1).mean(0)
    torch.testing.assert_close(probabilities(model, VALIDATION.inputs), expected.detach())
    assert accuracy(model, Split(VALIDATION.inputs, expected.argmax(1))) == 1
    assert accuracy(model, Split(VALIDATION.inputs, (expected.argmax(1) + 1) % 3)) == 0


def test_every_epoch_every_member_sees_every_row_once_in_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Split(torch.arange(30.0)[:, None].repeat(1, 8), TRAIN.labels)
    seen: list[Tensor] = []
    real = MemberModel.member_rows
    monkeypatch.setattr(MemberModel, "member_rows", lambda self, x: (seen.append(x[:, :, 0].clone()), real(self, x))[1])
    fit(new_model(), rows, VALIDATION, replace(RECIPE, epochs=2))
    orders = torch.cat(seen, 1).view(2, 2, 30)
    assert torch.equal(orders.sort(-1).values, torch.arange(30.0).expand(2, 2, 30))
    assert len(torch.unique(orders.flatten(0, 1), dim=0)) == 4


def test_without_masks_the_twin_is_ordinary_training() -> None:
    twin, ordinary = new_model(members=1), new_model(members=1)
    optimizer = torch.optim.AdamW(ordinary.parameters(), lr=RECIPE.learning_rate, weight_decay=RECIPE.weight_decay)
    seen: list[Tensor] = []
    real = twin.member_rows
    twin.member_rows = lambda x: (seen.append(x.clone()), real(x))[1]  # type: ignore[method-assign]
    states: list[dict[str, Tensor]] = []
    fit(twin, TRAIN, VALIDATION, replace(RECIPE, epochs=1, masked=False), progress=lambda _: states.append(twin.state_dict()))
    for batch in seen:
        chosen = (TRAIN.inputs[None] == batch[0][:, None]).all(-1).float().argmax(1)
        optimizer.zero_grad()
        nn.functional.cross_entropy(ordinary(TRAIN.inputs[chosen])[0], TRAIN.labels[chosen]).backward()
        optimizer.step()
    for name, value in ordinary.state_dict().items():
        torch.testing.assert_close(states[0][name], value)


def test_training_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    fit(new_model(), TRAIN, VALIDATION, replace(RECIPE, epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("spoiled", ["train", "validation"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_inputs_that_are_not_finite_are_refused(spoiled: str, value: float) -> None:
    splits = {"train": TRAIN, "validation": VALIDATION}
    inputs = splits[spoiled].inputs.clone()
    inputs[3, 2] = value
    splits[spoiled] = Split(inputs, splits[spoiled].labels)
    with pytest.raises(TurnoverError, match="not finite"):
        fit(new_model(), splits["train"], splits["validation"], RECIPE)


# Law 3 as a curve: without leaks a flipped mask is a mask that nobody owns


def test_flipped_and_unowned_losses_agree_and_the_masked_loss_lies_below() -> None:
    """Heads leak by their output bias alone, and both splits are drawn alike; so the means agree within their noise."""
    rows, width = 1500, 16
    train, validation = a_split(rows, 100, width), a_split(rows, 200, width)
    model = member_heads(width, 64, 3, members=4, groups=8, seed=0).float()
    history = fit(model, train, validation, Recipe(epochs=8, patience=100, batch=32, learning_rate=5e-3, seed=0))
    masked, flipped, full, unowned = (history.curves[name][-1] for name in CURVES)
    noise = history.flipped_items[-1].std() * (2 / rows) ** 0.5
    assert abs(flipped - unowned) < 4 * noise
    assert masked < flipped - 12 * noise
    assert full < flipped - 8 * noise
