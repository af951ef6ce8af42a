"""Law 4 for chains: sub-networks cut out for each instance."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers.builders import (
    HALVES,
    LAW_4,
    ODD_IDS,
    SHARED,
    check_law_4,
    naive_influence,
    randn,
    sequential_net,
    small_chain,
    some_labels,
)
from turnover import TurnoverDropout, TurnoverError, influence
from turnover.attribution.engine.subnetworks import find_chain
from turnover.attribution.engine.tails import favours_subnetworks
from turnover.attribution.masks import MAX_ID
from turnover.research.bench.timing import threads as threads_inside

MANY = 16
"""From so many targets on the small networks of these tests take sub-networks (`conftest.py`)."""
ON_UNITS = [
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU),
    *(nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Hardswish, nn.Softplus),
]
POOLS: list[Callable[[], nn.Module]] = [
    nn.Identity,
    lambda: nn.MaxPool2d(3, 2, 1),
    lambda: nn.AvgPool2d(3, 2, 1),
    lambda: nn.AdaptiveAvgPool2d(2),
    lambda: nn.AdaptiveMaxPool2d((2, 1)),
]
MASKS_ON: list[dict[str, Any]] = [
    *({}, {"groups": 4}, {"groups": 2}),
    *({"p": 0.25}, {"p": 0.4}, {"groups": 4, "p": 0.25}),
]
Built = tuple[nn.Module, tuple[int, ...]]
widths, yes = st.sampled_from([4, 8, 12]), st.booleans()

pytestmark = pytest.mark.filterwarnings("ignore:with p=:UserWarning")


def mask(width: int, layer: int, **options: Any) -> TurnoverDropout:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TurnoverDropout(width, layer=layer, seed=7, **options)


def trained(model: nn.Module) -> nn.Module:
    """In float64 in evaluation mode with batch norms as after training."""
    generator = torch.Generator().manual_seed(0)
    for module in model.double().modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, *module.parameters()):
                values.data.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


@st.composite
def vectors(draw: st.DrawFn) -> Built:
    """A chain of linear layers, and the shape of its inputs."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    masks_on, plain = st.sampled_from(MASKS_ON), [nn.Identity, nn.Dropout, nn.AlphaDropout]
    width = draw(widths)
    shape, layers = (width,), []
    if draw(yes):
        layers += [nn.Linear(width, width), draw(st.sampled_from(ON_UNITS))()]
    for number in range(draw(st.integers(1, 4))):
        layers.append(mask(width, number, **draw(masks_on)))
        for _ in range(draw(st.integers(1, 2))):
            width_in, width = width, draw(widths)
            layers.append(nn.Linear(width_in, width, bias=draw(yes)))
            layers += [nn.BatchNorm1d(width, affine=draw(yes))] * draw(yes)
            layers.append(draw(st.sampled_from([*ON_UNITS, *plain]))())
    layers += [mask(width, 9, **draw(masks_on))] * draw(yes)
    return nn.Sequential(*layers, nn.Linear(width, draw(st.sampled_from([2, 3, 10])))), shape


@st.composite
def images(draw: st.DrawFn) -> Built:
    """Convolutions with masked channels, then masked linear layers."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    masks_on, pools = st.sampled_from(MASKS_ON), st.sampled_from(POOLS)
    channels, shape, layers = draw(widths), (2, 6, 5), []
    layers += [nn.Conv2d(2, channels, 3, padding=1), nn.ReLU(), draw(pools)()]
    for number in range(draw(st.integers(1, 2))):
        layers.append(mask(channels, number, dim=1, **draw(masks_on)))
        channels_in, channels = channels, draw(widths)
        wide = {"padding": 2, "dilation": 2, "stride": 2}
        options = {"padding": draw(st.sampled_from([1, "same"]))} if draw(yes) else wide
        layers.append(nn.Conv2d(channels_in, channels, 3, bias=draw(yes), **options))
        layers += [nn.BatchNorm2d(channels), nn.Dropout2d()] * draw(yes)
        layers += [draw(st.sampled_from(ON_UNITS))(), draw(pools)()]
    layers += [mask(channels, 5, dim=1, **draw(masks_on))] * draw(yes)
    layers += [nn.AdaptiveAvgPool2d(draw(st.integers(1, 2))), nn.Flatten()]
    width = nn.Sequential(*layers).eval()(torch.zeros(1, *shape)).shape[1]
    if draw(yes):
        if not isinstance(layers[-3], TurnoverDropout):
            layers.append(mask(width, 6, **draw(masks_on)))
        layers += [nn.Linear(width, 8), nn.ReLU(), mask(8, 7)]
        width = 8
    return nn.Sequential(*layers, nn.Linear(width, draw(st.sampled_from([2, 10])))), shape


sizes_of_loops = st.fixed_dictionaries(
    {
        "_TARGETS": st.integers(1, 4),
        "_INSTANCES": st.integers(1, 4),
        "_MOST_GROUPS": st.sampled_from([0, 64]),
        "_TOGETHER_BYTES": st.sampled_from([1, 2**10, 2**25]),
    }
)


@pytest.mark.parametrize("kind", [vectors, images])
@given(
    data=st.data(),
    sizes=sizes_of_loops,
    ids=st.lists(st.integers(0, MAX_ID), min_size=1, max_size=4),
    dtype=st.sampled_from(list(LAW_4)),
)
def test_law_4_for_chains_of_every_shape(
    kind: Callable[[], Any],
    data: st.DataObject,
    sizes: dict[str, int],
    ids: list[int],
    dtype: torch.dtype,
) -> None:
    model, shape = data.draw(kind())
    trained(model).to(dtype)
    x, labels = randn(3, *shape).to(dtype), some_labels(3, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnover.attribution.engine.favours_subnetworks", lambda *_: True)
        for name, value in sizes.items():
            patch.setattr(f"turnover.attribution.engine.subnetworks.{name}", value)
        made = influence(model, x, labels, ids)
    assert made.backend.startswith(HALVES), made.backend
    expected = naive_influence(model, x, labels, ids)
    torch.testing.assert_close(made.values, expected, rtol=0, atol=LAW_4[dtype])


def test_chains_are_for_many_targets_and_any_loss() -> None:
    def margin(logits: Tensor, rows: Tensor) -> Tensor:
        return logits.logsumexp(1) - 2 * logits.gather(1, rows[:, None])[:, 0]

    for rows, path in ((MANY - 1, SHARED), (MANY, HALVES)):
        for loss in (None, margin):
            check_law_4(small_chain(), randn(rows, 6), some_labels(rows, 3), path, loss=loss)


def test_a_step_that_works_in_place_leaves_a_lone_target_as_it_was() -> None:
    model = sequential_net()
    lone = nn.Sequential(
        nn.Linear(6, 6), model[0], nn.LeakyReLU(0.5, inplace=True), *model[1:]
    ).double()
    check_law_4(lone, randn(1, 6), some_labels(1, 3), SHARED)


@pytest.mark.parametrize("groups", [None, 4])
def test_large_layers_and_many_targets_favour_sub_networks(groups: int | None) -> None:
    """Never fewer targets, nor smaller layers, where more and larger ones do not."""
    taken = []
    for width in (8, 64, 512):
        chain = find_chain(sequential_net(width, width, groups=groups))
        assert chain is not None
        taken.append(
            [
                favours_subnetworks(chain, chain.results(randn(1, width)), targets)
                for targets in (1, 50, 2500)
            ]
        )
    assert not taken[0][0] and taken[2][2]
    for fewer, more in [*pairwise(taken), *pairwise(zip(*taken, strict=True))]:
        assert all(not before or after for before, after in zip(fewer, more, strict=True))


def unnumbered() -> nn.Module:
    torch.manual_seed(0)
    masks = TurnoverDropout(6), TurnoverDropout(8)
    return nn.Sequential(masks[0], nn.Linear(6, 8), nn.ReLU(), masks[1], nn.Linear(8, 3)).double()


TWINS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "layers get their numbers in a first pass": (unnumbered, unnumbered),
    "a model that works in place does not change its inputs": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), *small_chain()),
        lambda: nn.Sequential(nn.ReLU(), *small_chain()),
    ),
}


@pytest.mark.parametrize("kind", TWINS)
def test_a_chain_gives_what_its_twin_does_in_the_plain_loop(kind: str) -> None:
    model, twin = (build() for build in TWINS[kind])
    x, labels = randn(MANY, 6), some_labels(MANY, 3)
    made = influence(model, x, labels, ODD_IDS)
    assert made.backend.startswith(HALVES)
    assert torch.equal(x, randn(MANY, 6))
    expected = naive_influence(twin, x, labels, ODD_IDS)
    torch.testing.assert_close(made.values, expected, rtol=0, atol=1e-9)


def test_two_masks_with_the_same_seed_and_number_are_refused_all_the_same() -> None:
    layers = (mask(6, 1), nn.Linear(6, 8), nn.ReLU(), mask(8, 1), nn.Linear(8, 3))
    with pytest.raises(TurnoverError, match="would share masks"):
        influence(nn.Sequential(*layers).double(), randn(MANY, 6), some_labels(MANY, 3), ODD_IDS)


def test_law_5_in_two_threads_inside() -> None:
    model, x, labels = small_chain(), randn(40, 6), some_labels(40, 3)
    one = influence(model, x, labels, range(70)).values
    with threads_inside(2):
        two, again = (influence(model, x, labels, range(70)).values for _ in range(2))
    assert torch.equal(two, again)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


def test_between_two_masks_a_chain_costs_a_quarter_of_two_passes() -> None:
    """Half of the rows and of the columns, for each half; and an instance pays for no prefix."""
    wide, targets, layers = 128, 16, []
    for number in range(2):
        layers += [mask(wide, number), nn.Linear(wide, wide), nn.ReLU()]
    model = nn.Sequential(nn.Linear(6, wide), *layers, mask(wide, 2), nn.Linear(wide, 3)).double()
    flops = []
    for count in (10, 20):
        with FlopCounterMode(display=False) as counter:
            made = influence(model, randn(targets, 6), some_labels(targets, 3), range(count))
        assert made.backend.startswith(HALVES)
        flops.append(counter.get_total_flops())
    two_passes_between, two_passes_out = 2 * (2 * 2 * wide * wide), 2 * (2 * wide * 3)
    each = two_passes_between // 4 + two_passes_out // 2
    assert flops[1] - flops[0] == 10 * targets * each


def test_a_chain_is_found_without_running_the_model() -> None:
    """Nor by tracing it, which would change modules in other threads that train another model."""

    class Never(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError

    never, first, linear = Never(), TurnoverDropout(4), nn.Linear(4, 2)
    chain = find_chain(nn.Sequential(never, first, linear))
    assert chain is not None
    assert (list(chain.prefix.children()), chain.steps) == ([never], (first, linear))
