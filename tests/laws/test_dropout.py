"""The layer: laws 2, 3 and 6, and every way to build it wrongly."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.helpers.builders import sequential_net, small_cnn
from turnover import TurnoverDropout, TurnoverError, turnover
from turnover.attribution.masks import MAX_ID, MAX_UNITS

pytestmark = pytest.mark.filterwarnings("ignore:with p=:UserWarning")
ids_in_range = st.integers(0, MAX_ID)


@st.composite
def layers(draw: st.DrawFn) -> TurnoverDropout:
    """Turn-over layers of any width, keep rate and grouping that can be built."""
    units, size = draw(st.integers(2, 24)), draw(st.integers(1, 4))
    p = draw(st.one_of(st.just(0.5), st.floats(0.1, 0.9)))
    assume(0 < int(p * units + 0.5) < units)
    grouped = draw(st.booleans()) or size > 1
    return TurnoverDropout(
        units * size,
        p=p,
        groups=units if grouped else None,
        seed=draw(ids_in_range),
        layer=draw(st.integers(0, 9)),
    )


def off_units(layer: TurnoverDropout, instance: int) -> Tensor:
    """Which units an instance's mask switches off."""
    return layer.mask([instance])[0] == 0


# Law 2


@given(layer=layers(), ids=st.lists(ids_in_range, min_size=1, max_size=5))
def test_mask_values_are_0_and_1_over_p_and_the_halves_add_up(
    layer: TurnoverDropout, ids: list[int]
) -> None:
    mask, flipped = (
        layer.mask(ids, dtype=torch.float64),
        layer.mask(ids, flipped=True, dtype=torch.float64),
    )
    scale = layer.units / layer.on
    assert mask.unique().tolist() == pytest.approx([0.0, scale], rel=1e-15)
    assert torch.equal(mask + flipped, torch.full_like(mask, 1 / layer.keep))
    assert mask.sum(-1).tolist() == pytest.approx([layer.width] * len(ids))
    assert flipped.mean(-1).tolist() == pytest.approx([(1 - layer.keep) / layer.keep] * len(ids))


@given(layer=layers(), instance=ids_in_range)
def test_groups_of_neighbouring_units_share_their_fate(
    layer: TurnoverDropout, instance: int
) -> None:
    by_group = layer.mask([instance]).view(layer.units, -1)
    assert (by_group == by_group[:, :1]).all()
    assert int((by_group[:, 0] > 0).sum()) == layer.on


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_masks_are_the_same_bits_in_every_number_type(dtype: torch.dtype) -> None:
    layer, ids = TurnoverDropout(32, seed=4, layer=1), torch.arange(10**8, 10**8 + 50)
    assert torch.equal(layer.mask(ids, dtype=dtype).double(), layer.mask(ids, dtype=torch.float64))
    x = torch.ones(50, 32, dtype=dtype)
    with turnover(ids):
        masked = layer(x)
    assert masked.dtype == dtype
    assert torch.equal(masked.double(), layer.mask(ids, dtype=torch.float64))


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize(
    ("shape", "dim", "spread"),
    [
        ((5, 8), -1, (5, 8)),
        ((5, 3, 8), -1, (5, 1, 8)),
        ((5, 8, 2, 3), 1, (5, 8, 1, 1)),
        ((5, 2, 3, 8), 3, (5, 1, 1, 8)),
    ],
)
def test_activations_of_2_3_and_4_dimensions_are_multiplied_by_the_mask(
    shape: tuple[int, ...], dim: int, spread: tuple[int, ...], flipped: bool
) -> None:
    layer, ids, x = (
        TurnoverDropout(8, groups=4, dim=dim, layer=0),
        [3, 1, 4, 1, 5],
        torch.randn(shape, dtype=torch.float64),
    )
    with turnover(ids, flipped=flipped):
        out = layer(x)
    assert torch.equal(out, x * layer.mask(ids, flipped, torch.float64).view(spread))


def test_a_keep_rate_other_than_half_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"flipped mask has mean 3 instead of 1"):
        assert TurnoverDropout(8, p=0.25).keep == 0.25
    with pytest.warns(UserWarning, match=r"p=0\.6"):
        assert TurnoverDropout(5).keep == 0.6


def test_a_keep_rate_of_half_is_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TurnoverDropout(8, groups=4).keep == 0.5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"width": 10, "groups": 4}, "4 groups do not divide a width of 10"),
        ({"width": 10, "groups": 0}, "0 groups do not divide"),
        ({"width": 10, "groups": 20}, "20 groups do not divide"),
        ({"width": MAX_UNITS + 2}, "use groups="),
        ({"width": 10, "p": 0.0}, "leaves 0 on"),
        ({"width": 10, "p": 0.04}, "leaves 0 on"),
        ({"width": 10, "p": 0.96}, "leaves 10 on"),
        ({"width": 10, "p": 1.0}, "leaves 10 on"),
        ({"width": 10, "groups": 2, "p": 0.8}, "leaves 2 on"),
        ({"width": 10, "groups": 1}, "of 1 units or groups"),
        ({"width": 10, "p": -0.5}, "choose p so that"),
    ],
)
def test_masks_that_cannot_be_are_refused(arguments: dict[str, float], reason: str) -> None:
    with pytest.raises(TurnoverError, match=reason):
        TurnoverDropout(**arguments)  # type: ignore[arg-type]


# Law 3


@given(instance=ids_in_range, seed=st.integers(0, 1000), flipped=st.booleans())
def test_an_instance_sends_no_gradient_into_units_that_are_off(
    instance: int, seed: int, flipped: bool
) -> None:
    """Weights into and out of a unit get exactly 0; the output bias, a leak, does get gradient."""
    model = sequential_net(seed=seed, groups=None)
    mask_in, first, _, mask_hidden, last = model
    with turnover([instance], flipped=flipped):
        loss = nn.functional.cross_entropy(
            model(torch.randn(1, 6, dtype=torch.float64)), torch.tensor([1])
        )
    loss.backward()
    dead_in, dead_hidden = (
        off_units(layer, instance) ^ flipped for layer in (mask_in, mask_hidden)
    )
    assert (first.weight.grad[:, dead_in] == 0).all()
    assert (first.weight.grad[dead_hidden] == 0).all()
    assert (first.bias.grad[dead_hidden] == 0).all()
    assert (last.weight.grad[:, dead_hidden] == 0).all()
    assert (last.bias.grad != 0).all()


def test_an_instance_sends_gradient_into_units_that_are_on() -> None:
    model = sequential_net()
    model[2] = nn.Tanh()
    with turnover([8]):
        nn.functional.cross_entropy(
            model(torch.randn(1, 6, dtype=torch.float64)), torch.tensor([1])
        ).backward()
    on_in, on_hidden = (~off_units(model[place], 8) for place in (0, 3))
    assert (model[1].weight.grad[on_hidden][:, on_in] != 0).all()
    assert (model[4].weight.grad[:, on_hidden] != 0).all()


@given(instance=ids_in_range)
def test_an_instance_sends_no_gradient_into_channels_that_are_off(instance: int) -> None:
    model = small_cnn(3)
    mask, after, last_mask = model.body[3], model.body[4], model.body[7]
    with turnover([instance]):
        nn.functional.cross_entropy(
            model(torch.randn(1, 1, 6, 6, dtype=torch.float64)), torch.tensor([2])
        ).backward()
    assert (after.weight.grad[:, off_units(mask, instance)] == 0).all()
    assert (model.body[0].weight.grad[off_units(mask, instance)] == 0).all()
    assert (after.weight.grad[off_units(last_mask, instance)] == 0).all()
    assert (model.out.weight.grad[:, off_units(last_mask, instance)] == 0).all()
    assert (model.out.bias.grad != 0).all()


def test_what_an_instance_teaches_never_reaches_its_flipped_network() -> None:
    """After a step on z alone its flipped logits have moved by the output bias and by nothing
    else.
    """
    for instance in range(20):
        model, x = sequential_net(seed=instance), torch.randn(1, 6, dtype=torch.float64)
        before = copy.deepcopy(model)
        with turnover([instance]):
            nn.functional.cross_entropy(model(x), torch.tensor([0])).backward()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
        moved = model[4].bias - before[4].bias
        for flipped, change in ((True, 0), (False, 1e-3)):
            with turnover([instance], flipped=flipped):
                after = model(x) - moved
            with turnover([instance], flipped=flipped):
                difference = (after - before(x)).abs().max()
            assert difference > change if change else difference < 1e-14


# Law 6


@pytest.mark.parametrize("training", [False, True])
def test_outside_the_context_the_layer_is_the_identity(training: bool) -> None:
    layer, x = TurnoverDropout(8).train(training), torch.randn(4, 8)
    assert layer(x) is x


@pytest.mark.parametrize("training", [False, True])
def test_outside_the_context_a_model_is_an_ordinary_one(training: bool) -> None:
    model = sequential_net().train(training)
    ordinary = nn.Sequential(
        *(module for module in model if not isinstance(module, TurnoverDropout))
    )
    x = torch.randn(7, 6, dtype=torch.float64)
    assert torch.equal(model(x), ordinary(x))
    assert list(model.state_dict()) == ["1.weight", "1.bias", "4.weight", "4.bias"]
    with turnover(range(7)):
        assert not torch.equal(model(x), ordinary(x))
    assert torch.equal(model(x), ordinary(x))
