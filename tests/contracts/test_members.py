"""K members as one program: each is an ordinary network that could be trained alone.

Laws 3, 4 and 6, and that K changes no member, hold for every family of models
(`tests/laws/test_model_families.py`); here is what our own batched layers compute.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.helpers.builders import member_heads, randn, shaken, some_labels
from turnover import TurnoverDropout, TurnoverError, turnover
from turnover.attribution.ensemble import (
    MemberConv2d,
    MemberLinear,
    MemberModel,
    member_generators,
    some_members,
)
from turnover.attribution.masks import MAX_ID, derive_seed
from turnover.data.recipe import Recipe
from turnover.models.heads import PIXELS_HIDDEN as HIDDEN
from turnover.models.heads import mlp, small_vgg, turnover_heads
from turnover.research.baselines.retraining import plain_classifier
from turnover.training.fit import Split, fit
from turnover.training.history import History

_BATCH_ORDER = 4
"""The place of batch orders among the seeds derived from a run's seed."""
EXACT = {"rtol": 0, "atol": 1e-12}
INSTANCES = st.lists(st.integers(0, MAX_ID), min_size=1, max_size=5)


def single(model: MemberModel, member: int) -> nn.Sequential:
    """One member of a model of heads as an ordinary network with the same weights and masks."""
    head = model.head
    layers: list[nn.Module] = []
    for mask, linear in ((head.mask_in, head.linear_in), (head.mask_hidden, head.linear_out)):
        plain = nn.Linear(*linear.weight.shape[1:]).to(linear.weight.dtype)
        plain.weight.data = linear.weight[member].detach().T.clone()
        plain.bias.data = linear.bias[member, 0].detach().clone()
        own = {"groups": mask.groups, "seed": mask.seeds[member], "layer": mask.layer}
        layers += [TurnoverDropout(mask.width, **own), plain]
    return nn.Sequential(*layers[:2], nn.ReLU(), *layers[2:])


@given(
    groups=st.sampled_from([None, 2, 4]),
    seed=st.integers(0, 10**6),
    flipped=st.booleans(),
    ids=INSTANCES,
)
def test_each_member_is_an_ordinary_network(
    groups: int | None, seed: int, flipped: bool, ids: list[int]
) -> None:
    model, x = member_heads(groups=groups, seed=seed), randn(len(ids), 8, seed=seed)
    alone = [single(model, member) for member in range(3)]
    torch.testing.assert_close(model(x), torch.stack([own(x) for own in alone]), **EXACT)
    with turnover(ids, flipped=flipped):
        together = model(x)
    for own, logits in zip(alone, together, strict=True):
        with turnover(ids, flipped=flipped):
            torch.testing.assert_close(logits, own(x), **EXACT)


def test_each_member_trained_with_the_others_is_the_one_trained_alone() -> None:
    train, validation = (Split(randn(own, 8, seed=own), some_labels(own, 3)) for own in (50, 20))
    settings = {"weight_decay": 0.1, "seed": 5}
    recipe = Recipe(epochs=3, patience=100, batch=16, learning_rate=1e-2, **settings)
    model = member_heads(groups=4, seed=5)
    alone = [single(model, member) for member in range(3)]
    after: list[list[Tensor]] = []

    def keep(_: History) -> None:
        members = [single(model, member) for member in range(3)]
        after.append([value.detach() for own in members for value in own.parameters()])

    fit(model, train, validation, recipe, progress=keep)
    optimizers = [torch.optim.AdamW(own.parameters(), lr=1e-2, weight_decay=0.1) for own in alone]
    for epoch in range(3):
        for member, (own, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
            drawn = torch.Generator().manual_seed(derive_seed(5, member, _BATCH_ORDER, epoch))
            for batch in torch.randperm(50, generator=drawn).split(16):
                optimizer.zero_grad()
                with turnover(batch):
                    logits = own(train.inputs[batch])
                nn.functional.cross_entropy(logits, train.labels[batch]).backward()
                optimizer.step()
        values = [value.detach() for own in alone for value in own.parameters()]
        torch.testing.assert_close(after[epoch], values, rtol=0, atol=1e-9)


@given(
    instance=st.integers(0, MAX_ID), seed=st.integers(0, 1000), groups=st.sampled_from([None, 4])
)
def test_law_3_for_any_instance_seed_and_groups(
    instance: int, seed: int, groups: int | None
) -> None:
    model = member_heads(groups=groups, seed=seed)
    with turnover([instance]):
        logits = model(randn(1, 8, seed=seed))
    nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor([1, 1, 1])).backward()
    first, last = model.head.linear_in, model.head.linear_out
    masks = (model.head.mask_in, model.head.mask_hidden)
    for member in range(3):
        off_in, off_hidden = (mask.mask([instance])[member, 0] == 0 for mask in masks)
        assert (off_in.sum(), off_hidden.sum()) == (4, 6)
        grad = first.weight.grad[member]  # type: ignore[index]
        assert (grad[off_in] == 0).all() and (grad[:, off_hidden] == 0).all()
        assert (first.bias.grad[member][:, off_hidden] == 0).all()  # type: ignore[index]
        assert (last.weight.grad[member][off_hidden] == 0).all()  # type: ignore[index]
        assert (last.bias.grad[member] != 0).all()  # type: ignore[index]


# Masks and seeds


def test_members_and_both_masks_of_a_member_are_independent() -> None:
    head = member_heads(members=6, width=64, hidden=64).head
    masks = [mask.mask(range(200)) for mask in (head.mask_in, head.mask_hidden)]
    pairs = [*zip(*masks, strict=True), *combinations(masks[0], 2)]
    assert all(abs((one == other).double().mean() - 0.5) < 0.02 for one, other in pairs)
    for one, other in combinations(head.linear_in.weight, 2):
        assert not torch.isclose(one, other).any()


def test_runs_with_different_seeds_share_no_member() -> None:
    """Neither masks nor first weights: an experiment with another seed is a new draw."""
    models = [member_heads(seed=seed, members=4) for seed in range(6)]
    assert len({own for model in models for own in model.head.mask_in.seeds}) == 24
    starts = torch.cat([model.head.linear_in.weight.detach().flatten(1) for model in models])
    assert len(torch.unique(starts, dim=0)) == 24
    places = [member_generators(0, 8, _BATCH_ORDER, epoch) for epoch in range(10)]
    drawn = {float(torch.rand(1, generator=own)) for generators in places for own in generators}
    assert len(drawn) == 80


@pytest.mark.parametrize("ids", [[1, 2, 3], [[1, 2]], [[1], [2], [3]], 1])
def test_ids_of_another_shape_are_refused(ids: object) -> None:
    said = "for 3 members and 2 rows; give one id per row"
    with pytest.raises(TurnoverError, match=said), turnover(ids):  # type: ignore[arg-type]
        member_heads()(randn(2, 8))


def test_groups_that_do_not_divide_the_features_are_refused() -> None:
    with pytest.raises(TurnoverError, match="5 groups do not divide a width of 384"):
        turnover_heads((384,), 2, members=1, groups=5, seed=0)


# Layers


def test_linear_and_convolution_are_torch_s_own_side_by_side() -> None:
    linear = MemberLinear(5, 4, member_generators(0, 3, 1))
    convolution = MemberConv2d(2, 4, member_generators(0, 3, 1))
    for module in (linear, convolution):
        nn.init.normal_(module.bias)
    x, images = torch.randn(3, 7, 5), torch.randn(7, 6, 5, 5)
    lines, maps = linear(x), convolution(images).split(4, 1)
    for k, own in enumerate(images.split(2, 1)):
        line = nn.functional.linear(x[k], linear.weight[k].T, linear.bias[k, 0])
        torch.testing.assert_close(lines[k], line)
        weight, bias = convolution.weight[k], convolution.bias[k]
        torch.testing.assert_close(maps[k], nn.functional.conv2d(own, weight, bias, padding=1))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 24)])
def test_the_vision_prefix_is_one_convolutional_network_per_member(
    shape: tuple[int, int, int],
) -> None:
    """Of three blocks of two convolutions."""
    model = shaken(small_vgg(shape, 4, members=3, groups=8, seed=2), 1).double()
    images, layers = randn(5, *shape), list(model.prefix.layers)  # type: ignore[arg-type]
    features = model.features(images)
    for member in range(3):
        x = images
        for layer in layers:
            if isinstance(layer, MemberConv2d):
                own = (layer.weight[member], layer.bias[member])
                x = nn.functional.conv2d(x, *own, padding=1)
            else:
                x = layer(x)
        torch.testing.assert_close(features[member], x.flatten(1), **EXACT)
    widths = [own.weight.shape[1] for own in layers if isinstance(own, MemberConv2d)]
    assert widths == [16, 16, 32, 32, 64, 64]
    assert features.shape == (3, 5, 64 * (shape[1] // 8) * (shape[2] // 8))


def test_a_perceptron_on_pixels_has_two_hidden_layers_and_masks_after_both() -> None:
    model = shaken(turnover_heads((3, 4, 4), 5, members=2, groups=8, seed=0), 1).double()
    images, ids, head = randn(6, 3, 4, 4), torch.arange(6), model.head
    layers = [model.prefix.linear, head.linear_in, head.linear_out]
    sizes = [(48, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 5)]
    assert [tuple(own.weight.shape[1:]) for own in layers] == sizes  # type: ignore[union-attr]
    with turnover(ids):
        made = model(images)
    for member in range(2):
        x = images.flatten(1)
        for layer, mask in zip(layers, (head.mask_in, head.mask_hidden, None), strict=True):
            x = x @ layer.weight[member] + layer.bias[member]  # type: ignore[union-attr, index]
            if mask is not None:
                x = torch.relu(x) * mask.bits(ids)[member].repeat_interleave(HIDDEN // 8, 1) * 2
        torch.testing.assert_close(made[member], x, **EXACT)


MODELS: dict[str, Callable[[], MemberModel]] = {
    "perceptron": lambda: turnover_heads((1, 8, 8), 3, members=2, groups=8, seed=4),
    "small-vgg": lambda: small_vgg((1, 8, 8), 3, members=2, groups=8, seed=4),
    "mlp": lambda: mlp((1, 8, 8), 3, members=2, groups=None, seed=4),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_member_can_be_cut_out_as_ordinary_layers(kind: str) -> None:
    model, images = shaken(MODELS[kind](), 1).double().eval(), randn(5, 1, 8, 8)
    for member in range(2):
        plain = plain_classifier(model, member).eval()
        torch.testing.assert_close(plain(images), model(images)[member], **EXACT)
        assert {type(module).__module__.split(".")[0] for module in plain.modules()} == {"torch"}
        rates = [module.p for module in plain.modules() if isinstance(module, nn.Dropout)]
        assert rates == ([0.1, 0.1] if kind == "mlp" else [])


def test_ordinary_dropout_does_not_depend_on_who_is_trained_beside() -> None:
    model = MODELS["mlp"]().train()
    images, logits = randn(2, 5, 1, 8, 8).float(), []
    for members in ([0, 1], [1]):
        torch.manual_seed(3)
        logits.append(some_members(model, members).member_rows(images[members]))
    torch.testing.assert_close(logits[0][1:], logits[1])
    assert not torch.allclose(logits[0], model.eval().member_rows(images))
