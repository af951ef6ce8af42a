"""How models are trained: fresh masks that nobody owns, moved and mirrored images, and which recipe and defaults a user gets."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import core.training as training
from core import TurnoverError, turnover
from core.cli import main
from core.masks import UNOWNED
from core.models.members import MemberModel
from core.models.vision import small_vgg
from core.pipeline.settings import MODEL_RECIPES, RECIPES, TrainSettings
from core.recipe import Recipe
from core.training import History, Split, accuracy, augmented, fit
from tests.contracts.test_training import TRAIN, VALIDATION, Interruption, new_model, same_weights
from tests.helpers.token_builders import small_images

FRESH = Recipe(epochs=4, patience=10, batch=8, learning_rate=1e-2, seed=2, fresh=True)


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


def test_every_row_of_every_step_and_member_has_a_mask_that_no_instance_owns(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = ids_of_training(monkeypatch, FRESH)
    assert [ids.shape for ids in seen] == [(2, 8), (2, 8), (2, 8), (2, 6)] * 4
    together = torch.cat([ids.flatten() for ids in seen])
    assert (together >= UNOWNED).all()
    assert len(together.unique()) == len(together) == 4 * 2 * 30


def test_fresh_masks_are_the_seed_s(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = (torch.cat([ids.flatten() for ids in ids_of_training(monkeypatch, replace(FRESH, seed=seed))]) for seed in (2, 2, 3))
    assert torch.equal(first, again)
    assert not set(first.tolist()) & set(other.tolist())


def test_fresh_training_sees_the_batches_of_the_masked_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[bool, list[Tensor]] = {False: [], True: []}
    real = MemberModel.member_rows
    for fresh, batches in seen.items():
        monkeypatch.setattr(MemberModel, "member_rows", lambda self, x, batches=batches: (batches.append(x.clone()), real(self, x))[1])
        fit(new_model(), TRAIN, VALIDATION, replace(FRESH, epochs=2, fresh=fresh))
    assert all(torch.equal(one, other) for one, other in zip(seen[False], seen[True], strict=True))


def test_losses_under_masks_that_nobody_owns_are_not_numbers() -> None:
    history = fit(new_model(), TRAIN, VALIDATION, FRESH)
    for name in ("masked", "flipped", "unowned"):
        assert len(history.curves[name]) == 4
        assert np.isnan(history.curves[name]).all()
    assert np.isnan(history.masked_items).all() and np.isnan(history.flipped_items).all()
    assert np.isfinite(history.curves["validation"]).all() and np.isfinite(history.validation_items).all()
    assert history.masked_items[0].shape == (30,)


def test_fresh_training_stops_early_and_keeps_the_epoch_that_the_rule_names() -> None:
    states: list[dict[str, Tensor]] = []
    model = new_model()
    recipe = replace(FRESH, epochs=60, patience=2, learning_rate=5e-2)
    history = fit(model, TRAIN, VALIDATION, recipe, progress=lambda _: states.append({name: value.clone() for name, value in model.state_dict().items()}))
    assert history.epochs < 60
    assert history.epochs == history.best + 1 + 2
    assert all(torch.equal(value, states[history.kept][name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("decay", [False, True])
def test_fresh_training_resumes_bit_equal(decay: bool, tmp_path: Path) -> None:
    recipe = replace(FRESH, decay=decay)
    whole, resumed, checkpoint = new_model(), new_model(), tmp_path / "checkpoint"
    expected = fit(whole, TRAIN, VALIDATION, recipe)

    def stop(history: History) -> None:
        if history.epochs == 2:
            raise Interruption

    with pytest.raises(Interruption):
        fit(new_model(), TRAIN, VALIDATION, recipe, checkpoint, stop)
    history = fit(resumed, TRAIN, VALIDATION, recipe, checkpoint)
    assert same_weights(resumed, whole)
    assert history.curves["validation"] == expected.curves["validation"]
    with pytest.raises(TurnoverError, match="other settings"):
        fit(new_model(), TRAIN, VALIDATION, replace(recipe, fresh=False), checkpoint)


# Falling rates


def test_the_rate_falls_in_a_straight_line_to_zero_and_stays_where_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 rows in batches of 8 are 4 steps an epoch."""
    rates: list[float] = []

    class Recording(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    fit(new_model(), TRAIN, VALIDATION, replace(FRESH, decay=True))
    fit(new_model(), TRAIN, VALIDATION, FRESH)
    np.testing.assert_allclose(rates, [*np.linspace(1e-2, 0, 16, endpoint=False), *[1e-2] * 16])


def test_inputs_that_are_not_finite_are_refused_with_fresh_masks_too() -> None:
    spoiled = TRAIN.inputs.clone()
    spoiled[3, 2] = float("nan")
    with pytest.raises(TurnoverError, match="not finite"):
        fit(new_model(), Split(spoiled, TRAIN.labels), VALIDATION, FRESH)


def test_plain_training_pays_no_heed_to_fresh() -> None:
    first, second = new_model(), new_model()
    for model, fresh in ((first, False), (second, True)):
        fit(model, TRAIN, VALIDATION, replace(FRESH, masked=False, fresh=fresh))
    assert same_weights(first, second)


# Moved and mirrored images


def possible(image: Tensor) -> list[Tensor]:
    """All that an image may become: 81 moves, mirrored or not."""
    _, height, width = image.shape
    padded = nn.functional.pad(image, (4,) * 4)
    moved = [padded[:, down : down + height, right : right + width] for down in range(9) for right in range(9)]
    return [*moved, *(one.flip(2) for one in moved)]


@given(rows=st.integers(1, 4), channels=st.integers(1, 3), height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 2**40))
def test_an_image_is_only_moved_and_mirrored(rows: int, channels: int, height: int, width: int, seed: int) -> None:
    images = torch.arange(1.0, 1 + rows * channels * height * width).view(rows, channels, height, width)
    made = augmented(images, random(seed))
    assert made.shape == images.shape
    for before, after in zip(images, made, strict=True):
        assert any(torch.equal(after, one) for one in possible(before))
    assert torch.equal(augmented(images, random(seed)), made)


def test_every_move_and_mirror_comes_about_equally_often_and_rows_differ() -> None:
    image = torch.arange(1.0, 1 + 81).view(1, 1, 9, 9)
    made = augmented(image.expand(16_200, -1, -1, -1), random(0))
    numbers = {tuple(one.flatten().tolist()): place for place, one in enumerate(possible(image[0]))}
    counts = np.bincount([numbers[tuple(row.flatten().tolist())] for row in made], minlength=162)
    assert len(numbers) == 162
    assert 55 < counts.min() <= counts.max() < 150


def test_training_sees_moved_images_each_epoch_anew_and_measures_the_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = torch.randn(6, 1, 8, 8, generator=random(0)), torch.arange(6) % 2
    seen: dict[bool, list[Tensor]] = {True: [], False: []}
    model = small_vgg((1, 8, 8), 2, members=2, groups=16, seed=0)
    real_rows, real_features = model.member_rows, model.features
    monkeypatch.setattr(model, "member_rows", lambda x: (seen[True].append(x.clone()), real_rows(x))[1])
    monkeypatch.setattr(model, "features", lambda x: (seen[False].append(x.clone()), real_features(x))[1])
    split = Split(images, labels)
    fit(model, split, split, Recipe(epochs=2, batch=6, augment=True))
    choices = [possible(image) for image in images]
    for batch in seen[True]:
        assert batch.shape == (2, 6, 1, 8, 8)
        for row in batch.flatten(0, 1):
            assert any(torch.equal(row, one) for own in choices for one in own)
    assert not torch.equal(seen[True][0].sort().values, seen[True][1].sort().values)
    assert all(torch.equal(x, images) for x in seen[False])
    assert 0 <= accuracy(model, split) <= 1


# Settings


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("text", {"model": "vgg19"}, "--model vgg19: sst2 is text data; choose one of heads, adapters, masked-encoder"),
        ("text", {"model": "nonsense"}, "--model nonsense: "),
        ("image", {"model": "adapters"}, "--model adapters: sst2 is image data; choose one of small-vgg, vgg19, heads"),
        ("text", {"layers": 2}, "--layers .* heads has none"),
        ("text", {"model": "masked-encoder", "layers": 2}, "--layers .* masked-encoder has none"),
        ("image", {"model": "vgg19", "layers": 1}, "--layers .* vgg19 has none"),
        ("image", {"dropout": 0.5}, "--dropout is ordinary dropout beside the masks of vgg19"),
        ("text", {"model": "adapters", "dropout": 0.1}, "--dropout is ordinary dropout"),
        ("image", {"members": 0}, "--members 0: choose 1 or more"),
        ("image", {"late_norm": False}, "late_norm is about the batch norms of vgg19; small-vgg has none"),
        ("text", {"epochs": 0}, "--epochs 0: choose 1 or more"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_in_one_line(kind: str, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(TurnoverError, match=f"^{expected}[^\n]*$"):
        TrainSettings("sst2", **options).resolved(kind)


@pytest.mark.parametrize(
    ("data", "kind", "model", "resolved", "members", "noise"),
    [
        ("digits", "image", None, "small-vgg", 8, 0.05),
        ("cifar10", "image", None, "small-vgg", 8, 0.0),
        ("cifar10", "image", "vgg19", "vgg19", 1, 0.0),
        ("reviews", "text", None, "heads", 16, 0.0),
        ("sst2", "text", "adapters", "adapters", 1, 0.0),
        ("yahoo", "text", "masked-encoder", "masked-encoder", 1, 0.0),
    ],
)
def test_defaults_follow_data_and_model(data: str, kind: str, model: str | None, resolved: str, members: int, noise: float) -> None:
    made = TrainSettings(data, model=model).resolved(kind)
    assert (made.model, made.members, made.groups, made.label_noise, made.layers) == (resolved, members, 16, noise, None)
    assert made.resolved(kind) == made
    said = TrainSettings(data, model=model, members=3, groups=0, label_noise=0.25, seed=9).resolved(kind)
    assert replace(said, epochs=2).recipe == replace(said.recipe, epochs=2)
    assert (said.members, said.groups, said.label_noise) == (3, 0, 0.25)
    assert said.recipe == replace(MODEL_RECIPES[resolved] if resolved in MODEL_RECIPES else RECIPES[data], seed=9)


def test_only_vgg19_augments_deep_models_decay_and_no_recipe_is_fresh() -> None:
    assert [name for name, recipe in {**RECIPES, **MODEL_RECIPES}.items() if recipe.decay] == ["adapters", "vgg19"]
    assert [name for name, recipe in {**RECIPES, **MODEL_RECIPES}.items() if recipe.augment] == ["vgg19"]
    assert all(recipe.keep == "last" for recipe in MODEL_RECIPES.values() if recipe.decay)
    assert all(recipe.masked and not recipe.fresh for recipe in {**RECIPES, **MODEL_RECIPES}.values())


BAD_CALLS = {
    "text model for images": "--data digits --model adapters",
    "image model for texts": "--data reviews --model vgg19",
    "images too small for vgg19": "--data digits --model vgg19 --limit 30",
    "layers of heads": "--data reviews --layers 2",
    "more layers than there are": "--data reviews --limit 30 --validation-limit 10 --model adapters --layers 99",
    "dropout of heads": "--data reviews --dropout 0.5",
    "no epochs": "--data reviews --epochs 0",
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_settings_are_one_line_and_code_2(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["train", *BAD_CALLS[case].split(), "--run", str(tmp_path / "run")])
    printed = capsys.readouterr()
    lines = [line for line in printed.err.replace("\r", "\n").split("\n") if line.strip() and "%|" not in line]
    assert (code, printed.out, len(lines)) == (2, "", 1), printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", ["1.5", "-0.2", "nan"])
def test_a_dropout_that_is_no_rate_is_one_line_and_code_2(
    rate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("core.pipeline.plan.load_data", lambda *_: small_images(4, 2))
    assert main(["train", "--data", "cifar10", "--model", "vgg19", "--dropout", rate, "--run", str(tmp_path / "run")]) == 2
    assert "--dropout" in capsys.readouterr().err
