"""Law 4 for what looks like a chain and is none, or cannot be known to be one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from core import TurnoverDropout, influence
from tests.helpers.builders import HALVES, ODD_IDS, SHARED, Net, check_law_4, naive_influence, randn, some_labels

MANY = 16
VECTOR, TOKENS, IMAGE = (6,), (4, 6), (2, 4, 4)
IDS = ODD_IDS[:4]

Built = tuple[nn.Module, tuple[int, ...]]


def built(*layers: nn.Module, shape: tuple[int, ...] = VECTOR) -> Built:
    """A chain of layers in float64 that leave a row of zeros what it is, as far as they can: without biases."""
    model = nn.Sequential(*layers).double().eval()
    for number, (name, parameter) in enumerate(model.named_parameters()):
        parameter.data = torch.zeros_like(parameter) if name.endswith("bias") else randn(*parameter.shape, seed=number)
    return model, shape


def masks(width: int = 6, count: int = 3, dim: int = -1) -> list[TurnoverDropout]:
    return [TurnoverDropout(width, layer=number, seed=7, dim=dim) for number in range(count)]


def a_relu_between_two_masks() -> Built:
    one, other, _ = masks()
    return built(nn.Linear(6, 6), one, nn.ReLU(), other, nn.Linear(6, 3))


def what_is_not_zero_at_zero_after_a_mask(layer: Callable[[], nn.Module]) -> Callable[[], Built]:
    return lambda: built(nn.Linear(6, 6), masks()[0], layer(), nn.Linear(6, 3))


def batch_norm_after_a_mask() -> Built:
    model, shape = built(nn.Linear(6, 6), masks()[0], nn.BatchNorm1d(6), nn.Linear(6, 3))
    model[2].running_mean += 1
    return model, shape


def masks_on_tokens() -> Built:
    one, other, _ = masks()
    return built(nn.Linear(6, 6), one, nn.Linear(6, 6), nn.ReLU(), other, nn.Flatten(), nn.Linear(24, 3), shape=TOKENS)


def a_mask_on_the_channels_and_one_on_the_columns() -> Built:
    convolution = nn.Conv2d(4, 4, 3, padding=1)
    return built(nn.Conv2d(2, 4, 1), masks(4, dim=1)[0], convolution, nn.ReLU(), masks(4)[1], nn.Flatten(), nn.Linear(64, 3), shape=IMAGE)


def a_linear_layer_on_the_columns() -> Built:
    return built(nn.Conv2d(2, 4, 1), masks(4, dim=1)[0], nn.Linear(4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3), shape=IMAGE)


def channels_in_groups() -> Built:
    convolution = nn.Conv2d(4, 4, 3, padding=1, groups=2)
    return built(nn.Conv2d(2, 4, 1), masks(4, dim=1)[0], convolution, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3), shape=IMAGE)


def padding_from_the_other_side() -> Built:
    convolution = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
    return built(nn.Conv2d(2, 4, 1), masks(4, dim=1)[0], convolution, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3), shape=IMAGE)


def mixing_units(layer: Callable[[], nn.Module]) -> Callable[[], Built]:
    one, other, _ = masks()
    return lambda: built(nn.Linear(6, 6), one, nn.Linear(6, 6), layer(), other, nn.Linear(6, 3))


def statistics_of_the_batch() -> Built:
    """Before the masks, where all rows are the same."""
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    return built(nn.Conv2d(2, 4, 1), norm, masks(4, dim=1)[0], nn.Conv2d(4, 3, 4), nn.Flatten(), shape=IMAGE)


def listened_to(place: int | None, before: bool) -> Callable[[], Built]:
    """A hook that doubles what a layer, or the whole model, reads or gives."""

    def build() -> Built:
        one, other, _ = masks()
        model, shape = built(nn.Linear(6, 6), nn.Sequential(one, nn.Linear(6, 6), nn.ReLU(), other), nn.Linear(6, 3))
        module = model if place is None else model[place]
        if before:
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2,))
        else:
            module.register_forward_hook(lambda *call: call[2] * 2)
        return model, shape

    return build


def of_one_s_own(run: Callable[[Net, Tensor], Tensor]) -> Callable[[], Built]:
    def build() -> Built:
        net = Net(run)
        for layer in (net.first, net.hidden, net.out):
            nn.init.zeros_(layer.bias)
        return net, VECTOR

    return build


def changed_by_a_statement(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    h.relu_()
    return net.tail(h)


def mean_of_the_batch_taken_off(net: Net, x: Tensor) -> Tensor:
    """The batch is one target many times, as for the plain path; then its mean is the target."""
    return net.tail(net.first(x - x.mean(0) / 2))


def largest_of_the_batch(net: Net, x: Tensor) -> Tensor:
    return net.tail(net.first(x - x.amax(0) / 2))


def skip(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    return net.out(net.hidden(net.mask(h)) + h)


def skip_after_the_mask(net: Net, x: Tensor) -> Tensor:
    masked = net.mask(net.first(x))
    return net.out(net.late_mask(net.hidden(masked)) + masked)


def two_branches(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    return net.out(net.mask(h)) + net.out(net.late_mask(h))


def dropout_as_a_function(net: Net, x: Tensor) -> Tensor:
    return net.out(functional.dropout(net.hidden(net.mask(net.first(x))), 0.5, net.training))


class Doubled(nn.Linear):
    """A linear layer with a forward pass of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def another_forward_pass() -> Built:
    model, shape = built(nn.Linear(6, 6), masks()[0], nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    real = model[2].forward
    model[2].forward = lambda x: real(x).roll(1, 1)
    return model, shape


NO_CHAINS = {
    "a relu between two masks": a_relu_between_two_masks,
    "a sigmoid after a mask": what_is_not_zero_at_zero_after_a_mask(nn.Sigmoid),
    "a softplus after a mask": what_is_not_zero_at_zero_after_a_mask(nn.Softplus),
    "batch norm after a mask": batch_norm_after_a_mask,
    "tokens": masks_on_tokens,
    "masks on channels and on columns": a_mask_on_the_channels_and_one_on_the_columns,
    "a linear layer on columns": a_linear_layer_on_the_columns,
    "channels in groups": channels_in_groups,
    "circular padding": padding_from_the_other_side,
    "layer norm": mixing_units(lambda: nn.LayerNorm(6)),
    "softmax": mixing_units(lambda: nn.Softmax(1)),
    "statistics of the batch": statistics_of_the_batch,
    "a hook before the model": listened_to(None, True),
    "a hook after the model": listened_to(None, False),
    "a hook after a part": listened_to(1, False),
    "a hook before a layer": listened_to(2, True),
    "a hook after a layer": listened_to(2, False),
    "another forward pass": another_forward_pass,
    "a subclass of a layer": mixing_units(lambda: Doubled(6, 6)),
    "a spectral norm": mixing_units(lambda: parametrizations.spectral_norm(nn.Linear(6, 6))),
    **{
        run.__name__: of_one_s_own(run)
        for run in (
            *(changed_by_a_statement, mean_of_the_batch_taken_off, largest_of_the_batch, skip),
            *(skip_after_the_mask, two_branches, dropout_as_a_function),
        )
    },
}


@pytest.mark.parametrize("kind", NO_CHAINS)
def test_law_4_for_what_is_no_chain(kind: str) -> None:
    model, shape = NO_CHAINS[kind]()
    check_law_4(model, randn(MANY, *shape), some_labels(MANY, 3), SHARED, IDS)


@pytest.mark.parametrize("kind", NO_CHAINS)
def test_law_4_where_most_targets_are_blank(kind: str) -> None:
    """On a blank target nearly every wrong computation is right."""
    model, shape = NO_CHAINS[kind]()
    x, labels = torch.zeros(MANY, *shape, dtype=torch.float64), some_labels(MANY, 3)
    x[7] = randn(*shape)
    x[8] = -x[7]
    torch.testing.assert_close(influence(model, x, labels, IDS).values, naive_influence(model, x, labels, IDS), rtol=0, atol=1e-9)


# Chains that only running them would show


def one_layer_used_twice(net: Net, x: Tensor) -> Tensor:
    return net.out(net.late_mask(net.hidden(torch.relu(net.hidden(net.mask(net.first(x)))))))


def one_mask_used_twice(net: Net, x: Tensor) -> Tensor:
    return net.out(net.mask(torch.relu(net.hidden(net.mask(net.first(x))))))


def a_bypass_before_the_mask(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    return net.tail(h + net.hidden(h).sin())


@pytest.mark.parametrize("run", [one_layer_used_twice, one_mask_used_twice, a_bypass_before_the_mask])
def test_law_4_for_chains_in_code_of_one_s_own(run: Callable[[Net, Tensor], Tensor]) -> None:
    check_law_4(Net(run), randn(MANY, 6), some_labels(MANY, 3), SHARED, IDS)


@pytest.mark.parametrize(("place", "before", "path"), [(0, True, HALVES), (0, False, HALVES), (1, True, SHARED)])
def test_a_hook_before_the_masks_is_heard(place: int, before: bool, path: str) -> None:
    model, shape = listened_to(place, before)()
    check_law_4(model, randn(MANY, *shape), some_labels(MANY, 3), path, IDS)


def test_a_model_that_mixes_rows_gives_each_target_its_own_values() -> None:
    """Whatever targets it is computed with, and however many: with few of them the prefix is shared, with many chains are looked for."""
    model, shape = NO_CHAINS["mean_of_the_batch_taken_off"]()
    x, labels = randn(MANY, *shape), some_labels(MANY, 3)
    whole = influence(model, x, labels, IDS).values
    for first, last in pairwise((0, 1, 5, MANY)):
        torch.testing.assert_close(influence(model, x[first:last], labels[first:last], IDS).values, whole[:, first:last], rtol=0, atol=1e-12)
