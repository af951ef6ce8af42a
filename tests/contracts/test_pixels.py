"""Perceptrons on pixels: the engine's laws hold for them, and a run can be trained with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from core import Run
from core.models.pixels import HIDDEN, pixel_heads
from core.pipeline.model import load_model, run_split
from core.rivals.plain import plain_classifier
from core.scope import turnover
from core.training import accuracy
from tests.helpers.builders import ALGEBRA, check_law_4, randn, shaken, some_labels, train_digits


@pytest.mark.parametrize("groups", [16, None])
def test_the_engine_equals_two_passes_a_pair(groups: int | None) -> None:
    model = shaken(pixel_heads((1, 8, 8), 10, members=2, groups=groups, seed=2), 3).double()
    check_law_4(model, randn(3, 1, 8, 8), some_labels(3, 10), ALGEBRA)


def test_it_is_a_perceptron_with_two_hidden_layers_and_masks_after_both() -> None:
    model, images = shaken(pixel_heads((3, 4, 4), 5, members=2, groups=8, seed=0), 1).double(), randn(6, 3, 4, 4)
    ids = torch.arange(6)
    first, second, third = model.prefix.linear, model.head.linear_in, model.head.linear_out  # type: ignore[union-attr]
    assert [tuple(layer.weight.shape) for layer in (first, second, third)] == [(2, 48, HIDDEN), (2, HIDDEN, HIDDEN), (2, HIDDEN, 5)]  # type: ignore[union-attr]
    with turnover(ids):
        made = model(images)
    for member in range(2):
        bits = [mask.bits(ids)[member].repeat_interleave(HIDDEN // 8, 1) * 2.0 for mask in (model.head.mask_in, model.head.mask_hidden)]
        hidden = torch.relu(images.flatten(1) @ first.weight[member] + first.bias[member]) * bits[0]  # type: ignore[union-attr,index]
        hidden = torch.relu(hidden @ second.weight[member] + second.bias[member]) * bits[1]
        torch.testing.assert_close(made[member], hidden @ third.weight[member] + third.bias[member], rtol=0, atol=1e-12)


def test_a_member_does_not_depend_on_how_many_there_are_and_can_be_cut_out() -> None:
    few, many = (pixel_heads((1, 8, 8), 3, members=members, groups=8, seed=4) for members in (2, 5))
    for name, value in few.state_dict().items():
        assert torch.equal(many.state_dict()[name][:2], value)
    model, images = shaken(few, 1).double(), randn(5, 1, 8, 8)
    for member in range(2):
        plain = plain_classifier(model, member)
        torch.testing.assert_close(plain(images), model(images)[member], rtol=0, atol=1e-12)
        assert {type(module) for module in plain.modules()} == {nn.Sequential, nn.Flatten, nn.Linear, nn.ReLU}


def test_the_output_bias_is_the_only_leak() -> None:
    """What an item's own loss and its flipped network's loss both move."""
    model, image = shaken(pixel_heads((1, 8, 8), 3, members=2, groups=8, seed=1), 1).double(), randn(1, 1, 8, 8)
    moved = []
    for flipped in (False, True):
        model.zero_grad()
        with turnover([3], flipped=flipped):
            nn.functional.cross_entropy(model(image).flatten(0, 1), torch.tensor([1, 1])).backward()
        moved.append({name: parameter.grad != 0 for name, parameter in model.named_parameters()})
    shared = {name for name in moved[0] if (moved[0][name] & moved[1][name]).any()}
    assert moved[0]["prefix.linear.weight"].any() and moved[1]["prefix.linear.weight"].any()
    assert shared == {"head.linear_out.bias"}
    assert model.leaks == ("the output bias",)


def test_a_run_of_images_can_have_them(tmp_path: Path) -> None:
    run = Run(train_digits(tmp_path / "run", model="heads", limit=300, validation_limit=100))
    results = run.manifest["results"]
    model, validation = load_model(run, torch.device("cpu")), run_split(run, "validation", torch.device("cpu"))
    assert results["validation_accuracy"] == pytest.approx(accuracy(model, validation)) and results["validation_accuracy"] > 0.8
    assert run.array("features").shape == (400, 2 * HIDDEN)
    assert 1 <= results["plain_kept_epoch"] <= results["epochs"] + 30
