"""What a recipe decides: whose masks, rates, the epoch that is kept, images moved and mirrored."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

import turnover.training.fit as training
from tests.contracts.test_training import RECIPE, TRAIN, VALIDATION, a_split, new_model
from turnover import turnover
from turnover.attribution.masks import UNOWNED
from turnover.data.recipe import Recipe
from turnover.data.sources import SOURCES
from turnover.models.heads import small_vgg
from turnover.models.registry import TrainSettings, families
from turnover.training.fit import Split, augmented, fit, item_losses
from turnover.training.history import History

FRESH = replace(RECIPE, epochs=4, fresh=True)


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Fresh masks


def ids_of_training(monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> list[Tensor]:
    """Whose masks each context of a training asked for."""
    seen: list[Tensor] = []

    def recording(ids: Any, flipped: bool = False) -> AbstractContextManager[None]:
        seen.append(torch.as_tensor(ids).clone())
        return turnover(ids, flipped)

    monkeypatch.setattr(training, "turnover", recording)
    fit(new_model(), TRAIN, VALIDATION, recipe)
    return seen


def test_every_row_of_every_step_and_member_has_a_mask_that_no_instance_owns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And it is the seed's alone."""
    seen, again, other = (
        ids_of_training(monkeypatch, replace(FRESH, seed=seed)) for seed in (2, 2, 3)
    )
    assert [ids.shape for ids in seen] == [(2, 8), (2, 8), (2, 8), (2, 6)] * 4
    together = torch.cat([ids.flatten() for ids in seen])
    assert (together >= UNOWNED).all()
    assert len(together.unique()) == len(together) == 4 * 2 * 30
    assert all(torch.equal(one, same) for one, same in zip(seen, again, strict=True))
    assert not {*together.tolist()} & {one for ids in other for one in ids.flatten().tolist()}


def test_losses_under_masks_that_nobody_owns_are_not_numbers() -> None:
    history = fit(new_model(), TRAIN, VALIDATION, FRESH)
    for name in ("masked", "flipped", "unowned"):
        assert len(history.curves[name]) == 4
        assert np.isnan(history.curves[name]).all()
    assert np.isnan(history.masked_items).all() and np.isnan(history.flipped_items).all()
    for known in (history.curves["validation"], history.validation_items):
        assert np.isfinite(known).all()
    assert history.masked_items[0].shape == (30,)


# Falling rates


def test_the_rate_falls_in_a_straight_line_to_zero_and_stays_where_nobody_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """30 rows in batches of 8 are 4 steps an epoch."""
    rates: list[float] = []

    class Recording(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    for decay in (True, False):
        fit(new_model(), TRAIN, VALIDATION, replace(FRESH, decay=decay))
    np.testing.assert_allclose(rates, [*np.linspace(1e-2, 0, 16, endpoint=False), *[1e-2] * 16])


def test_by_sgd_steps_are_torch_s_and_the_rate_rises_before_it_falls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In torch's own one-cycle of straight lines, but for the end, which is zero."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.05, 21, pct_start=5 / 21, anneal_strategy="linear", final_div_factor=1e9
    )
    expected, seen = [], []
    for _ in range(20):
        expected.append(cycle.get_last_lr()[0])
        optimizer.step()
        cycle.step()

    class Recording(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append(dict(self.param_groups[0]))
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "SGD", Recording)
    settings = TrainSettings.of("cifar10", model="vgg19", sgd=True, epochs=5).resolved("image")
    recipe = replace(settings.recipe, batch=8, augment=False)
    fit(new_model(), TRAIN, VALIDATION, recipe)
    np.testing.assert_allclose([group["lr"] for group in seen], expected, rtol=1e-6)
    assert {(group["momentum"], group["weight_decay"]) for group in seen} == {(0.9, 5e-4)}
    for model in ("small-vgg", "torchvision:resnet18"):
        told = TrainSettings.of("cifar10", model=model, sgd=True, seed=3).resolved("image").recipe
        assert (told.momentum, told.decay, told.keep, told.seed) == (0.9, True, "last", 3)
        assert TrainSettings.of("cifar10", model=model).resolved("image").recipe.momentum is None


def test_only_vgg19_augments_deep_models_decay_and_no_recipe_is_fresh() -> None:
    known = {name: source.recipe for name, source in SOURCES.items()}
    known |= {family.name: recipe for family in families() if (recipe := family().recipe)}
    assert [name for name, recipe in known.items() if recipe.decay] == ["adapters", "vgg19"]
    assert [name for name, recipe in known.items() if recipe.augment] == ["vgg19"]
    assert all(recipe.keep == "last" for recipe in known.values() if recipe.decay)
    assert all(recipe.masked and not recipe.fresh for recipe in known.values())


# The rule for the kept epoch


def history_of(losses: np.ndarray) -> History:
    curves = {**History().curves, "validation": [float(row.mean()) for row in losses]}
    return History(curves, [0.0] * len(losses), validation_items=list(losses))


LOSSES = st.tuples(st.integers(1, 8), st.integers(1, 12))


@given(losses=arrays(np.float32, LOSSES, elements=st.floats(0, 3, width=32)))
def test_kept_is_the_last_epoch_within_one_standard_error_of_the_best(losses: np.ndarray) -> None:
    history = history_of(losses)
    best = min(range(len(losses)), key=lambda epoch: float(losses[epoch].mean()))
    within = []
    for epoch, row in enumerate(losses):
        excess = row - losses[best]
        if epoch == best or excess.mean() <= excess.std() / len(row) ** 0.5:
            within.append(epoch)
    assert (history.best, history.kept) == (best, within[-1])


def test_kept_by_example() -> None:
    """Epoch 2 is best; 3 is worse by less than the noise of the difference, 4 by more."""
    noise = np.where(np.arange(100) % 2, 1, -1).astype(np.float32)
    base = np.zeros(100, np.float32)
    items = [base + 2, base + 1, base, base + 0.09 + noise, base + 0.11 + noise]
    history = history_of(np.stack(items))
    assert (history.best, history.kept) == (2, 3)
    assert (replace(history, keep="best").kept, replace(history, keep="last").kept) == (2, 4)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("keep", ["learned", "best", "last"])
def test_the_model_is_left_at_the_kept_epoch(keep: str, fresh: bool) -> None:
    """Here one before the last: the model learns fast, and many validation items see it worsen."""
    states: list[dict[str, Tensor]] = []
    model, validation = new_model(), a_split(600, 1)

    def remember(_: History) -> None:
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    recipe = replace(RECIPE, epochs=30, patience=8, learning_rate=0.05, keep=keep, fresh=fresh)
    history = fit(model, TRAIN, validation, recipe, progress=remember)
    assert (history.kept < history.epochs - 1) == (keep != "last")
    assert keep != "best" or history.kept == history.best
    kept = states[history.kept]
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    loss = float(item_losses(model, validation).mean())
    assert loss == pytest.approx(history.curves["validation"][history.kept], rel=1e-6)
    assert not model.training


def test_training_stops_when_the_validation_loss_has_not_fallen_for_patience_epochs() -> None:
    for patience in (1, 4):
        recipe = replace(RECIPE, epochs=200, patience=patience)
        history = fit(new_model(), TRAIN, VALIDATION, recipe)
        assert history.epochs - 1 - history.best == patience
        assert history.epochs < 200
    assert fit(new_model(), TRAIN, VALIDATION, replace(RECIPE, epochs=3)).epochs == 3


# Moved and mirrored images


def possible(image: Tensor) -> list[Tensor]:
    """All that an image may become: 81 moves, mirrored or not."""
    _, height, width = image.shape
    padded = nn.functional.pad(image, (4,) * 4)
    moved = [
        padded[:, down : down + height, right : right + width]
        for down in range(9)
        for right in range(9)
    ]
    return [*moved, *(one.flip(2) for one in moved)]


SIDES = st.integers(1, 9)


@given(
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 3), SIDES, SIDES),
    seed=st.integers(0, 2**40),
)
def test_an_image_is_only_moved_and_mirrored(sizes: tuple[int, int, int, int], seed: int) -> None:
    images = torch.arange(1.0, 1 + np.prod(sizes)).view(sizes)
    made = augmented(images, random(seed))
    assert made.shape == images.shape
    for before, after in zip(images, made, strict=True):
        assert any(torch.equal(after, one) for one in possible(before))
    assert torch.equal(augmented(images, random(seed)), made)


def test_every_move_and_mirror_comes_about_equally_often_and_rows_differ() -> None:
    image = torch.arange(1.0, 1 + 81).view(1, 1, 9, 9)
    made = augmented(image.expand(16_200, -1, -1, -1), random(0)).flatten(1)
    places = {tuple(one.flatten().tolist()): k for k, one in enumerate(possible(image[0]))}
    counts = np.bincount([places[tuple(row)] for row in made.tolist()], minlength=162)
    assert len(places) == 162
    assert 55 < counts.min() <= counts.max() < 150


def test_training_sees_moved_images_each_epoch_anew_and_measures_the_real_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.randn(6, 1, 8, 8, generator=random(0))
    seen: dict[str, list[Tensor]] = {"member_rows": [], "features": []}
    model = small_vgg((1, 8, 8), 2, members=2, groups=16, seed=0)
    for name, kept in seen.items():
        real = getattr(model, name)

        def watched(x: Tensor, kept: list[Tensor] = kept, real: Any = real) -> Tensor:
            kept.append(x.clone())
            return real(x)  # type: ignore[no-any-return]

        monkeypatch.setattr(model, name, watched)
    split = Split(images, torch.arange(6) % 2)
    fit(model, split, split, Recipe(epochs=2, batch=6, augment=True))
    choices = [one for image in images for one in possible(image)]
    trained, measured = seen["member_rows"], seen["features"]
    for batch in trained:
        assert batch.shape == (2, 6, 1, 8, 8)
        for row in batch.flatten(0, 1):
            assert any(torch.equal(row, one) for one in choices)
    assert not torch.equal(trained[0].sort().values, trained[1].sort().values)
    assert measured and all(torch.equal(x, images) for x in measured)
