"""Law 4 for chains: half networks cut out for each instance; and for what looks like a chain and is none."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from core import TurnoverDropout, TurnoverError, influence
from core.bench.timing import threads as threads_inside
from core.engine.chain import find_chain
from core.masks import MAX_ID
from tests.helpers.builders import (
    HALVES,
    LAW_4,
    ODD_IDS,
    SHARED,
    Net,
    check_law_4,
    naive_influence,
    randn,
    small_chain,
    some_labels,
)

MANY = 16
"""From so many targets on chains are looked for."""
ON_UNITS = [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Hardswish, nn.Softplus]
POOLS = [nn.Identity, lambda: nn.MaxPool2d(3, 2, 1), lambda: nn.AvgPool2d(3, 2, 1), lambda: nn.AdaptiveAvgPool2d(2), lambda: nn.AdaptiveMaxPool2d((2, 1))]

pytestmark = pytest.mark.filterwarnings("ignore:with p=:UserWarning")


def mask(width: int, layer: int, **options: Any) -> TurnoverDropout:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TurnoverDropout(width, layer=layer, seed=7, **options)


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 in evaluation mode with batch norms as after training."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.double().modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, *module.parameters()):
                values.data.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


masks_on = st.sampled_from([{}, {"groups": 4}, {"groups": 2}, {"p": 0.25}, {"p": 0.4}, {"groups": 4, "p": 0.25}])
widths = st.sampled_from([4, 8, 12])


@st.composite
def vectors(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A chain of linear layers, and the shape of its inputs."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    width = draw(widths)
    shape, layers = (width,), []
    if draw(st.booleans()):
        layers += [nn.Linear(width, width), draw(st.sampled_from(ON_UNITS))()]
    for number in range(draw(st.integers(1, 4))):
        layers.append(mask(width, number, **draw(masks_on)))
        for _ in range(draw(st.integers(1, 2))):
            width_in, width = width, draw(widths)
            layers.append(nn.Linear(width_in, width, bias=draw(st.booleans())))
            layers += [nn.BatchNorm1d(width, affine=draw(st.booleans()))] * draw(st.booleans())
            layers += [draw(st.sampled_from([*ON_UNITS, nn.Identity, nn.Dropout, nn.AlphaDropout]))()]
    layers += [mask(width, 9, **draw(masks_on))] * draw(st.booleans())
    return nn.Sequential(*layers, nn.Linear(width, draw(st.sampled_from([2, 3, 10])))), shape


@st.composite
def images(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A chain of convolutions with masked channels, then masked linear layers, and the shape of its inputs."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    channels, shape, layers = draw(widths), (2, 6, 5), []
    layers += [nn.Conv2d(2, channels, 3, padding=1), nn.ReLU(), draw(st.sampled_from(POOLS))()]
    for number in range(draw(st.integers(1, 2))):
        layers.append(mask(channels, number, dim=1, **draw(masks_on)))
        channels_in, channels = channels, draw(widths)
        options = {"padding": draw(st.sampled_from([1, "same"])), "dilation": 1} if draw(st.booleans()) else {"padding": 2, "dilation": 2, "stride": 2}
        layers.append(nn.Conv2d(channels_in, channels, 3, bias=draw(st.booleans()), **options))
        layers += [nn.BatchNorm2d(channels), nn.Dropout2d()] * draw(st.booleans())
        layers += [draw(st.sampled_from(ON_UNITS))(), draw(st.sampled_from(POOLS))()]
    layers += [mask(channels, 5, dim=1, **draw(masks_on))] * draw(st.booleans())
    layers += [nn.AdaptiveAvgPool2d(draw(st.integers(1, 2))), nn.Flatten()]
    width = nn.Sequential(*layers).eval()(torch.zeros(1, *shape)).shape[1]
    if draw(st.booleans()):
        layers += [mask(width, 6, **draw(masks_on))] if not isinstance(layers[-3], TurnoverDropout) else []
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
@given(data=st.data(), sizes=sizes_of_loops, ids=st.lists(st.integers(0, MAX_ID), min_size=1, max_size=4), dtype=st.sampled_from(list(LAW_4)))
def test_law_4_for_chains_of_every_shape(kind: Callable[[], Any], data: st.DataObject, sizes: dict[str, int], ids: list[int], dtype: torch.dtype) -> None:
    model, shape = data.draw(kind())
    trained(model).to(dtype)
    x, labels = randn(3, *shape).to(dtype), some_labels(3, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.engine.FEW_TARGETS", 1)
        for name, value in sizes.items():
            patch.setattr(f"core.engine.submodels.{name}", value)
        made = influence(model, x, labels, ids)
    assert made.path.startswith(HALVES), made.path
    torch.testing.assert_close(made.values, naive_influence(model, x, labels, ids), rtol=0, atol=LAW_4[dtype])


def test_chains_are_for_many_targets() -> None:
    for rows, path in ((MANY - 1, SHARED), (MANY, HALVES)):
        check_law_4(small_chain(), randn(rows, 6), some_labels(rows, 3), path)


def test_law_4_for_a_chain_written_by_hand() -> None:
    """Functions in place of modules: its order is known only by running it, so its prefix is shared and no more."""

    def run(net: Net, x: Tensor) -> Tensor:
        h = functional.relu(net.first(x.abs().flatten(1)), inplace=True)
        h = torch.sigmoid(functional.gelu(functional.silu(torch.tanh(net.hidden(net.mask(h))))))
        return net.out(torch.flatten(functional.relu(net.late_mask(h)), 1))

    check_law_4(Net(run), randn(MANY, 6), some_labels(MANY, 3), SHARED)


def test_a_loss_of_one_s_own_and_a_single_logit() -> None:
    def margin(logits: Tensor, rows: Tensor) -> Tensor:
        return logits.logsumexp(1) - 2 * logits.gather(1, rows[:, None])[:, 0]

    def binary(logits: Tensor, label: Tensor) -> Tensor:
        return functional.softplus(logits.flatten() * (1 - 2 * label))

    check_law_4(small_chain(), randn(MANY, 6), some_labels(MANY, 3), HALVES, loss=margin)
    expected = naive_influence(small_chain(1), randn(MANY, 6), some_labels(MANY, 2), ODD_IDS, binary)
    torch.testing.assert_close(influence(small_chain(1), randn(MANY, 6), some_labels(MANY, 2), ODD_IDS).values, expected, rtol=0, atol=1e-9)


def test_layers_without_numbers_get_those_of_a_first_pass() -> None:
    models = [nn.Sequential(TurnoverDropout(6), nn.Linear(6, 8), nn.ReLU(), TurnoverDropout(8), nn.Linear(8, 3)).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    made = influence(models[0], randn(MANY, 6), some_labels(MANY, 3), ODD_IDS)
    assert made.path.startswith(HALVES)
    torch.testing.assert_close(made.values, naive_influence(models[1], randn(MANY, 6), some_labels(MANY, 3), ODD_IDS), rtol=0, atol=1e-9)


def test_two_masks_with_the_same_seed_and_number_are_refused_all_the_same() -> None:
    model = nn.Sequential(mask(6, 1), nn.Linear(6, 8), nn.ReLU(), mask(8, 1), nn.Linear(8, 3)).double()
    with pytest.raises(TurnoverError, match="would share masks"):
        influence(model, randn(MANY, 6), some_labels(MANY, 3), ODD_IDS)


def test_law_5_in_two_threads_inside() -> None:
    model, x, labels = small_chain(), randn(40, 6), some_labels(40, 3)
    one = influence(model, x, labels, range(70)).values
    with threads_inside(2):
        two, again = (influence(model, x, labels, range(70)).values for _ in range(2))
    assert torch.equal(two, again)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


def test_between_two_masks_a_chain_costs_a_quarter_of_two_passes() -> None:
    """Half of the rows and half of the columns, for each of two halves; and what lies before the first mask costs nothing for an instance."""
    wide, targets = 128, 16
    layers = [layer for number in range(2) for layer in (mask(wide, number), nn.Linear(wide, wide), nn.ReLU())]
    model = nn.Sequential(nn.Linear(6, wide), *layers, mask(wide, 2), nn.Linear(wide, 3)).double()
    flops = []
    for count in (10, 20):
        with FlopCounterMode(display=False) as counter:
            made = influence(model, randn(targets, 6), some_labels(targets, 3), range(count))
        assert made.path.startswith(HALVES)
        flops.append(counter.get_total_flops())
    two_passes_between, two_passes_out = 2 * (2 * 2 * wide * wide), 2 * (2 * wide * 3)
    assert flops[1] - flops[0] == 10 * targets * (two_passes_between // 4 + two_passes_out // 2)


def test_the_inputs_are_not_changed_by_a_model_that_works_in_place() -> None:
    model, x = nn.Sequential(nn.ReLU(inplace=True), *small_chain()), randn(MANY, 6)
    twin = nn.Sequential(nn.ReLU(), *model[1:])
    made = influence(model, x, some_labels(MANY, 3), ODD_IDS)
    assert torch.equal(x, randn(MANY, 6))
    torch.testing.assert_close(made.values, naive_influence(twin, x, some_labels(MANY, 3), ODD_IDS), rtol=0, atol=1e-9)


def test_a_chain_is_found_without_running_the_model() -> None:
    """Nor by tracing it, which would change what modules do in other threads: one of them may be training another model."""

    class Never(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError

    never, mask, linear = Never(), TurnoverDropout(4), nn.Linear(4, 2)
    chain = find_chain(nn.Sequential(never, mask, linear))
    assert chain is not None
    assert (list(chain.prefix.children()), chain.steps) == ([never], (mask, linear))
