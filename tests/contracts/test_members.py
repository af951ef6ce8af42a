"""K members as one program: each is the model that would be trained alone, and keeps law 3 by itself."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core import TurnoverDropout, TurnoverError, turnover
from core.masks import MAX_ID, derive_seed
from core.models.members import MemberConv2d, MemberLinear, MemberModel, member_generators
from core.models.text import text_heads
from core.models.vision import small_vgg
from core.recipe import Recipe
from core.training import History, Split, fit
from tests.helpers.builders import member_heads, shaken

_BATCH_ORDER = 4
"""The place of batch orders among the seeds derived from a run's seed."""


def single(model: MemberModel, member: int) -> nn.Sequential:
    """One member of a model of heads as an ordinary network of single layers, with the same weights and masks."""
    head, layers = model.head, []
    for mask, linear in ((head.mask_in, head.linear_in), (head.mask_hidden, head.linear_out)):
        plain = nn.Linear(*linear.weight.shape[1:]).to(linear.weight.dtype)
        plain.weight.data, plain.bias.data = linear.weight[member].detach().T.clone(), linear.bias[member, 0].detach().clone()
        layers += [TurnoverDropout(mask.width, groups=mask.groups, seed=mask.seeds[member], layer=mask.layer), plain]
    return nn.Sequential(*layers[:2], nn.ReLU(), *layers[2:])


@given(groups=st.sampled_from([None, 2, 4]), seed=st.integers(0, 10**6), flipped=st.booleans(), ids=st.lists(st.integers(0, MAX_ID), min_size=1, max_size=5))
def test_each_member_is_an_ordinary_network(groups: int | None, seed: int, flipped: bool, ids: list[int]) -> None:
    model = member_heads(groups=groups, seed=seed)
    x = torch.randn(len(ids), 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with turnover(ids, flipped=flipped):
        together = model(x)
    torch.testing.assert_close(model(x), torch.stack([single(model, member)(x) for member in range(3)]), rtol=0, atol=1e-12)
    for member in range(3):
        with turnover(ids, flipped=flipped):
            torch.testing.assert_close(together[member], single(model, member)(x), rtol=0, atol=1e-12)


def test_each_member_trained_with_the_others_is_the_one_trained_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    train, validation = (
        Split(torch.randn(rows, 8, dtype=torch.float64, generator=generator), torch.randint(0, 3, (rows,), generator=generator)) for rows in (50, 20)
    )
    recipe = Recipe(epochs=3, patience=100, batch=16, learning_rate=1e-2, weight_decay=0.1, seed=5)
    model = member_heads(groups=4, seed=5)
    alone = [single(model, member) for member in range(3)]
    after: list[list[Tensor]] = []

    def keep(_: History) -> None:
        after.append([value.detach().clone() for member in range(3) for value in single(model, member).parameters()])

    fit(model, train, validation, recipe, progress=keep)
    optimizers = [torch.optim.AdamW(own.parameters(), lr=1e-2, weight_decay=0.1) for own in alone]
    for epoch in range(3):
        for member, (own, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
            order = torch.randperm(50, generator=torch.Generator().manual_seed(derive_seed(5, member, _BATCH_ORDER, epoch)))
            for batch in order.split(16):
                optimizer.zero_grad()
                with turnover(batch):
                    nn.functional.cross_entropy(own(train.inputs[batch]), train.labels[batch]).backward()
                optimizer.step()
        for together, value in zip(after[epoch], [value for own in alone for value in own.parameters()], strict=True):
            torch.testing.assert_close(together, value.detach(), rtol=0, atol=1e-9)


@given(instance=st.integers(0, MAX_ID), seed=st.integers(0, 1000), groups=st.sampled_from([None, 4]))
def test_an_instance_sends_no_gradient_into_the_units_that_a_member_switches_off(instance: int, seed: int, groups: int | None) -> None:
    model = member_heads(groups=groups, seed=seed)
    with turnover([instance]):
        logits = model(torch.randn(1, 8, dtype=torch.float64))
    nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor([1, 1, 1])).backward()
    head = model.head
    off_in, off_hidden = (mask.mask([instance])[:, 0] == 0 for mask in (head.mask_in, head.mask_hidden))
    for member in range(3):
        assert off_in[member].sum() == 4
        assert off_hidden[member].sum() == 6
        assert (head.linear_in.weight.grad[member][off_in[member]] == 0).all()
        assert (head.linear_in.weight.grad[member][:, off_hidden[member]] == 0).all()
        assert (head.linear_in.bias.grad[member][:, off_hidden[member]] == 0).all()
        assert (head.linear_out.weight.grad[member][off_hidden[member]] == 0).all()
        assert (head.linear_out.bias.grad[member] != 0).all()


@pytest.mark.parametrize(
    ("make", "leaks"),
    [
        (lambda: text_heads(16, 3, members=2, groups=4, seed=1), {"the output bias": "head.linear_out.bias"}),
        (
            lambda: small_vgg((1, 8, 8), 3, members=2, groups=8, seed=1),
            {"the convolutions before the first mask": "prefix.layers.0.weight", "the output bias": "head.linear_out.bias"},
        ),
    ],
)
def test_every_leak_is_listed(make: Callable[[], MemberModel], leaks: dict[str, str]) -> None:
    """What an instance's own loss and its flipped network's loss both move is in the model's list, and the list is no longer than that."""
    model = shaken(make(), 1).double()
    x = torch.randn(1, *((16,) if isinstance(model.prefix, nn.Identity) else (1, 8, 8)), dtype=torch.float64)
    moved = []
    for flipped in (False, True):
        model.zero_grad()
        with turnover([3], flipped=flipped):
            nn.functional.cross_entropy(model(x).flatten(0, 1), torch.tensor([1, 1])).backward()
        moved.append({name: parameter.grad != 0 for name, parameter in model.named_parameters()})
    shared = {name for name in moved[0] if (moved[0][name] & moved[1][name]).any()}
    assert model.leaks == tuple(leaks)
    assert set(leaks.values()) <= shared
    assert {name for name in shared if not name.startswith("prefix.")} == {"head.linear_out.bias"}


def test_what_a_member_starts_with_does_not_depend_on_how_many_there_are() -> None:
    few, many = (small_vgg((1, 8, 8), 3, members=members, groups=8, seed=4) for members in (2, 5))
    assert many.head.mask_in.seeds[:2] == few.head.mask_in.seeds
    for name, value in few.state_dict().items():
        assert torch.equal(many.state_dict()[name][:2], value)


def test_members_differ_in_masks_and_weights() -> None:
    model = member_heads(members=6, width=64)
    masks = model.head.mask_in.mask(range(100))
    weights = model.head.linear_in.weight
    for first in range(6):
        for second in range(first):
            assert abs((masks[first] == masks[second]).double().mean() - 0.5) < 0.02
            assert not torch.isclose(weights[first], weights[second]).any()


def test_both_masks_of_a_member_are_independent() -> None:
    head = member_heads(width=64, hidden=64).head
    agreement = (head.mask_in.mask(range(200)) == head.mask_hidden.mask(range(200))).double().mean((1, 2))
    assert (agreement - 0.5).abs().max() < 0.02


def test_runs_with_different_seeds_share_no_member() -> None:
    """Neither masks nor first weights: a repetition of an experiment with another seed must be a new draw."""
    models = [member_heads(seed=seed, members=4) for seed in range(6)]
    seeds = [own for model in models for own in model.head.mask_in.seeds]
    assert len(set(seeds)) == len(seeds)
    starts = torch.cat([model.head.linear_in.weight.detach().flatten(1) for model in models])
    assert len(torch.unique(starts, dim=0)) == len(seeds)


def test_generators_differ_for_every_member_and_place() -> None:
    drawn = [float(torch.rand(1, generator=own)) for epoch in range(10) for own in member_generators(0, 8, _BATCH_ORDER, epoch)]
    assert len(set(drawn)) == 80


def test_each_member_may_have_instances_of_its_own() -> None:
    model, ids = member_heads(), torch.tensor([[1, 2], [3, 4], [5, 6]])
    x = torch.randn(3, 2, 8, dtype=torch.float64)
    with turnover(ids):
        together = model.member_rows(x)
    for member in range(3):
        with turnover(ids[member]):
            torch.testing.assert_close(together[member], model(x[member])[member], rtol=0, atol=1e-12)


def test_rows_for_all_members_are_the_same_rows_for_each() -> None:
    model, x = small_vgg((1, 8, 8), 3, members=3, groups=8, seed=0).double(), torch.randn(4, 1, 8, 8, dtype=torch.float64)
    with turnover(range(4)):
        shared = model(x)
    with turnover(range(4)):
        own = model.member_rows(torch.stack([x, x, x]))
    torch.testing.assert_close(shared, own, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ids", [[1, 2, 3], [[1, 2]], [[1], [2], [3]], 1])
def test_ids_of_another_shape_are_refused(ids: object) -> None:
    with pytest.raises(TurnoverError, match="for 3 members and 2 rows; give one id per row"), turnover(ids):  # type: ignore[arg-type]
        member_heads()(torch.randn(2, 8, dtype=torch.float64))


def test_linear_and_convolution_are_torch_s_own_side_by_side() -> None:
    linear, convolution = MemberLinear(5, 4, member_generators(0, 3, 1)), MemberConv2d(2, 4, member_generators(0, 3, 1))
    for module in (linear, convolution):
        nn.init.normal_(module.bias)
    x, images = torch.randn(3, 7, 5), torch.randn(7, 6, 5, 5)
    lines, maps = linear(x), convolution(images)
    for member in range(3):
        torch.testing.assert_close(lines[member], nn.functional.linear(x[member], linear.weight[member].T, linear.bias[member, 0]))
        own = nn.functional.conv2d(images[:, 2 * member : 2 * member + 2], convolution.weight[member], convolution.bias[member], padding=1)
        torch.testing.assert_close(maps[:, 4 * member : 4 * member + 4], own)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 24)])
def test_the_vision_prefix_is_one_convolutional_network_per_member(shape: tuple[int, int, int]) -> None:
    model, images = shaken(small_vgg(shape, 4, members=3, groups=8, seed=2), 1).double(), torch.randn(5, *shape, dtype=torch.float64)
    features = model.features(images)
    for member in range(3):
        x = images
        for layer in model.prefix.layers:
            own = isinstance(layer, MemberConv2d)
            x = nn.functional.conv2d(x, layer.weight[member], layer.bias[member], padding=1) if own else layer(x)
        torch.testing.assert_close(features[member], x.flatten(1), rtol=0, atol=1e-12)
    assert features.shape == (3, 5, 64 * (shape[1] // 8) * (shape[2] // 8))


def test_the_small_vgg_has_three_blocks_of_two_convolutions() -> None:
    model = small_vgg((3, 16, 16), 10, members=1, groups=16, seed=0)
    shapes = [tuple(layer.weight.shape[1:3]) for layer in model.prefix.layers if isinstance(layer, MemberConv2d)]
    assert shapes == [(16, 3), (16, 16), (32, 16), (32, 32), (64, 32), (64, 64)]
    assert all(wide[0] == following[1] for wide, following in pairwise(shapes))


def test_groups_that_do_not_divide_the_features_are_refused() -> None:
    with pytest.raises(TurnoverError, match="5 groups do not divide a width of 384"):
        text_heads(384, 2, members=1, groups=5, seed=0)
