"""The training loop: interruptions change nothing, and curves are what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.helpers.builders import member_heads, some_labels
from tests.helpers.token_builders import token_ensemble, token_rows
from turnover import TurnoverError, turnover
from turnover.attribution.ensemble import Ensemble, MemberModel, Members
from turnover.attribution.masks import UNOWNED
from turnover.attribution.state import trained_state
from turnover.data.recipe import Recipe
from turnover.models.heads import small_vgg
from turnover.storage.schema import CURVES
from turnover.training.fit import Split, accuracy, fit, item_losses, probabilities
from turnover.training.history import History

RECIPE = Recipe(epochs=5, patience=10, batch=8, learning_rate=1e-2, seed=2)
SHORT = replace(RECIPE, epochs=1, patience=1)


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


def images(rows: int, seed: int) -> Split:
    pixels = torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Split(pixels, torch.arange(rows) % 3)


def texts(rows: int, seed: int) -> Split:
    return Split(token_rows(rows, seed=seed), some_labels(rows, 3, seed))


def same_history(first: History, second: History) -> bool:
    """Whether all that was noted is equal to the bit; losses that nobody measured are equal too."""
    lists = ("masked_items", "flipped_items", "validation_items")
    pairs = [(first.curves[name], second.curves[name]) for name in CURVES]
    pairs += [(getattr(first, name), getattr(second, name)) for name in (*lists, "accuracy")]
    return all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


# Interruptions

MODELS: dict[str, tuple[Callable[[], Members], Split, Split]] = {
    "heads": (new_model, TRAIN, VALIDATION),
    "small-vgg": (
        lambda: small_vgg((1, 8, 8), 3, members=2, groups=8, seed=0),
        images(24, 0),
        images(24, 1),
    ),
    "adapters": (lambda: token_ensemble(2), texts(20, 3), texts(10, 4)),
    "masked-encoder": (lambda: token_ensemble(2, "masked"), texts(20, 3), texts(10, 4)),
}
FRESH = replace(RECIPE, fresh=True)
INTERRUPTED = [
    *(("heads", RECIPE, (epochs,)) for epochs in range(1, 6)),
    ("heads", RECIPE, (1, 1, 1)),
    ("heads", RECIPE, (2, 2)),
    ("heads", FRESH, (2,)),
    ("heads", replace(FRESH, decay=True), (2,)),
    ("heads", replace(RECIPE, momentum=0.9, decay=True, warm_up=0.4), (1, 2)),
    ("small-vgg", replace(RECIPE, augment=True), (2,)),
    ("adapters", RECIPE, (1,)),
    ("masked-encoder", RECIPE, (1, 2)),  # whose ordinary dropout draws at random
]


@pytest.mark.parametrize(("kind", "recipe", "epochs_before"), INTERRUPTED)
def test_training_interrupted_after_any_epoch_goes_on_as_if_it_had_not_been(
    kind: str, recipe: Recipe, epochs_before: tuple[int, ...], tmp_path: Path
) -> None:
    make, train, validation = MODELS[kind]
    whole, checkpoint = make(), tmp_path / "checkpoint"
    expected = fit(whole, train, validation, recipe)
    told: list[int] = []
    for epochs in epochs_before:
        stop_at = len(told) + epochs

        def stop(history: History, stop_at: int = stop_at) -> None:
            told.append(history.epochs)
            if history.epochs == stop_at:
                raise Interruption

        with pytest.raises(Interruption):
            fit(make(), train, validation, recipe, checkpoint, stop)
    torch.manual_seed(99)
    random_state, resumed = torch.get_rng_state(), make()
    last = fit(resumed, train, validation, recipe, checkpoint, lambda own: told.append(own.epochs))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert told == [1, 2, 3, 4, 5]
    assert same_history(last, expected)
    assert same_weights(resumed, whole)
    again, told = make(), []  # what is finished is not repeated
    last = fit(again, train, validation, recipe, checkpoint, lambda own: told.append(own.epochs))
    assert same_history(last, expected) and same_weights(again, whole) and told == []
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@cache
def undisturbed() -> tuple[MemberModel, History]:
    model = new_model()
    return model, fit(model, TRAIN, VALIDATION, RECIPE)


@given(call=st.integers(1, 60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_training_interrupted_inside_an_epoch_loses_that_epoch_only(
    call: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The interruption falls on any of the loss computations, in training or in measuring."""
    whole, expected = undisturbed()
    checkpoint = tmp_path_factory.mktemp("fit") / "checkpoint"
    calls, told = [0], [0]
    real = nn.functional.cross_entropy

    def interrupting(*arguments: Any, **options: Any) -> Tensor:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    def count(history: History) -> None:
        told.append(history.epochs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "cross_entropy", interrupting)
        try:
            fit(new_model(), TRAIN, VALIDATION, RECIPE, checkpoint, count)
        except KeyboardInterrupt:
            assert calls[0] == call
    resumed = new_model()
    history = fit(resumed, TRAIN, VALIDATION, RECIPE, checkpoint, count)
    assert told == [0, 1, 2, 3, 4, 5]
    assert same_history(history, expected)
    assert same_weights(resumed, whole)


def test_each_member_learns_and_frozen_weights_are_not_in_checkpoints(tmp_path: Path) -> None:
    model, checkpoint = token_ensemble(2), tmp_path / "checkpoint"
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, texts(20, 3), texts(10, 4), SHORT, checkpoint)
    trained = {name for name, own in model.named_parameters() if own.requires_grad}
    after = model.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == trained
    with safe_open(checkpoint, "pt") as file:
        names = [str(name) for name in file.keys()]  # noqa: SIM118
    saved = {name.removeprefix("model.") for name in names if name.startswith("model.")}
    assert saved == set(trained_state(model)) == trained


# Checkpoints that cannot be used


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "masked.checkpoint"
    fit(new_model(), TRAIN, VALIDATION, SHORT, path)
    return path


def test_a_damaged_checkpoint_or_a_foreign_file_is_refused_by_name(checkpoint: Path) -> None:
    whole, half = checkpoint.read_bytes(), checkpoint.stat().st_size // 2
    damaged = [b"", b"{}", b"\0" * 100, b"not a checkpoint at all"]
    for content in (*damaged, whole[:half], b"\0" * 8 + whole[8:], whole[:-1]):
        checkpoint.write_bytes(content)
        said = r"masked\.checkpoint: the checkpoint is damaged .*; delete it to train from"
        with pytest.raises(TurnoverError, match=said):
            fit(new_model(), TRAIN, VALIDATION, SHORT, checkpoint)
    foreign = [None, {"format": "pt"}, {"facts": "[]"}, {"facts": "{}"}, {"facts": "not json"}]
    for facts in foreign:
        save_file({"weight": torch.zeros(3)}, checkpoint, facts)
        with pytest.raises(TurnoverError, match=r"masked\.checkpoint: "):
            fit(new_model(), TRAIN, VALIDATION, SHORT, checkpoint)


OTHER_RECIPES = [
    *({"epochs": 9}, {"patience": 2}, {"batch": 9}, {"learning_rate": 1e-3}),
    *({"weight_decay": 0.5}, {"seed": 3}, {"masked": False}, {"fresh": True}),
]
OTHER_MODELS = [
    *({"members": 3}, {"hidden": 16}, {"classes": 4}),
    *({"groups": 2}, {"groups": None}, {"seed": 7}),  # of tensors of the same shape
]


def test_a_checkpoint_of_another_recipe_or_model_is_refused(checkpoint: Path) -> None:
    cases = [(new_model(), replace(SHORT, **change)) for change in OTHER_RECIPES]
    cases += [(new_model(**change), SHORT) for change in OTHER_MODELS]
    said = "made with other settings; use the same settings to resume, or delete it"
    for model, recipe in cases:
        with pytest.raises(TurnoverError, match=said):
            fit(model, TRAIN, VALIDATION, recipe, checkpoint)


def test_a_batch_norm_meets_a_batch_of_one_item_only_where_there_are_no_more() -> None:
    """21 rows in batches of ten: the last one joins the batch before it."""

    def normed() -> Ensemble:
        model = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 3))
        model.features = nn.Identity()  # type: ignore[assignment]
        return Ensemble([model], 3, ())

    recipe = replace(SHORT, batch=10, masked=False)
    assert fit(normed(), a_split(21, 0), VALIDATION, recipe).epochs == 1
    with pytest.raises(TurnoverError, match="batch of one item; train on more items"):
        fit(normed(), a_split(1, 0), VALIDATION, recipe)


# What is measured


@pytest.mark.parametrize("masks", [None, 6])
def test_curves_and_item_losses_are_what_they_say(masks: int | None) -> None:
    """Each validation item is measured under the mask that its own id gives."""
    model = new_model(masks=masks)

    def loss(split: Split, row: int) -> float:
        logits = model(split.inputs[row : row + 1])
        labels = split.labels[row].expand(2)
        return float(nn.functional.cross_entropy(logits.flatten(0, 1), labels).detach())

    def under(split: Split, owner: int, flipped: bool = False) -> list[float]:
        losses = []
        for row in range(len(split.labels)):
            with turnover([owner + row], flipped):
                losses.append(loss(split, row))
        return losses

    def check(history: History) -> None:
        validation = [loss(VALIDATION, row) for row in range(20)]
        masked, flipped = under(TRAIN, 0), under(TRAIN, 0, True)
        means = (masked, flipped, validation, under(VALIDATION, UNOWNED))
        for name, values in zip(CURVES, means, strict=True):
            assert history.curves[name][-1] == pytest.approx(np.mean(values), rel=1e-5)
        items = (history.masked_items, history.flipped_items, history.validation_items)
        for made, expected in zip(items, means[:3], strict=True):
            np.testing.assert_allclose(made[-1], expected, rtol=1e-4, atol=1e-6)
        chances = model.eval()(VALIDATION.inputs).softmax(-1).mean(0)
        right = (chances.argmax(1) == VALIDATION.labels).float().mean()
        assert history.accuracy[-1] == pytest.approx(float(right))

    assert fit(model, TRAIN, VALIDATION, replace(RECIPE, epochs=3), progress=check).epochs == 3


def test_losses_and_probabilities_of_many_rows_are_those_of_their_slices() -> None:
    model, ids = new_model(members=3).double(), torch.arange(1100)
    split = Split(torch.randn(1100, 8, dtype=torch.float64), ids % 3)
    slices = ids.split(100)
    whole, chances = item_losses(model, split, ids, True), probabilities(model, split.inputs)
    pieces = [Split(split.inputs[rows], split.labels[rows]) for rows in slices]
    pairs = zip(pieces, slices, strict=True)
    parts = [item_losses(model, own, own_ids, True) for own, own_ids in pairs]
    torch.testing.assert_close(whole, torch.cat(parts, 1))
    expected = model(split.inputs).softmax(-1).mean(0)  # the mean over members
    torch.testing.assert_close(chances, expected.detach())
    assert accuracy(model, Split(split.inputs, expected.argmax(1))) == 1
    assert accuracy(model, Split(split.inputs, (expected.argmax(1) + 1) % 3)) == 0


def test_every_epoch_every_member_sees_every_row_once_in_an_order_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same batches with fresh masks, whoever owns them."""
    rows = Split(torch.arange(30.0)[:, None].repeat(1, 8), TRAIN.labels)
    real, orders = MemberModel.member_rows, []
    for fresh in (False, True):
        seen: list[Tensor] = []

        def watched(self: MemberModel, x: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(x[:, :, 0].clone())
            return real(self, x)

        monkeypatch.setattr(MemberModel, "member_rows", watched)
        fit(new_model(), rows, VALIDATION, replace(RECIPE, epochs=2, fresh=fresh))
        orders.append(torch.cat(seen, 1).view(2, 2, 30))
    assert torch.equal(*orders)
    assert torch.equal(orders[0].sort(-1).values, torch.arange(30.0).expand(2, 2, 30))
    assert len(torch.unique(orders[0].flatten(0, 1), dim=0)) == 4


def remembered(real: Callable[[Tensor], Tensor], seen: list[Tensor], x: Tensor) -> Tensor:
    seen.append(x.clone())
    return real(x)


def test_without_masks_the_twin_is_ordinary_training_whatever_fresh_says() -> None:
    states: list[dict[str, Tensor]] = []
    seen: list[Tensor] = []
    ordinary = new_model(members=1)
    decay = RECIPE.weight_decay
    optimizer = torch.optim.AdamW(ordinary.parameters(), lr=1e-2, weight_decay=decay)
    for fresh in (False, True):
        twin = new_model(members=1)
        real = twin.member_rows
        watched = partial(remembered, real, seen)
        twin.member_rows = watched  # type: ignore[method-assign, assignment]
        fit(twin, TRAIN, VALIDATION, replace(SHORT, masked=False, fresh=fresh))
        states.append(twin.state_dict())
    for batch in seen[: len(seen) // 2]:
        chosen = (TRAIN.inputs[None] == batch[0][:, None]).all(-1).float().argmax(1)
        optimizer.zero_grad()
        logits = ordinary(TRAIN.inputs[chosen])[0]
        nn.functional.cross_entropy(logits, TRAIN.labels[chosen]).backward()
        optimizer.step()
    for name, value in ordinary.state_dict().items():
        torch.testing.assert_close(states[0][name], value)
        assert torch.equal(states[0][name], states[1][name])


@pytest.mark.parametrize("fresh", [False, True])
def test_inputs_that_are_not_finite_are_refused(fresh: bool) -> None:
    for value in (float("inf"), float("nan")):
        for spoiled in range(2):
            splits = [TRAIN, VALIDATION]
            inputs = splits[spoiled].inputs.clone()
            inputs[3, 2] = value
            splits[spoiled] = Split(inputs, splits[spoiled].labels)
            with pytest.raises(TurnoverError, match="not finite"):
                fit(new_model(), *splits, replace(RECIPE, fresh=fresh))


# Law 3 as a curve: without leaks a flipped mask is one of an item that was never seen


@pytest.mark.parametrize("masks", [None, 8])
def test_flipped_and_unowned_losses_agree_and_the_masked_loss_lies_below(masks: int | None) -> None:
    """Heads leak by their output bias alone, and both splits are drawn alike."""
    rows, width = 1500, 16
    train, validation = a_split(rows, 100, width), a_split(rows, 200, width)
    model = member_heads(width, 64, 3, members=4, groups=8, masks=masks, seed=0).float()
    recipe = Recipe(epochs=8, patience=100, batch=32, learning_rate=5e-3, seed=0)
    history = fit(model, train, validation, recipe)
    masked, flipped, full, unowned = (history.curves[name][-1] for name in CURVES)
    noise = history.flipped_items[-1].std() * (2 / rows) ** 0.5
    assert abs(flipped - unowned) < 4 * noise
    assert masked < flipped - 12 * noise
    assert full < flipped - 8 * noise
