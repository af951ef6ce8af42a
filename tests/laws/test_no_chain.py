"""Law 4 for what looks like a chain of layers and is none, or cannot be known to be one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.helpers.builders import (
    HALVES,
    ODD_IDS,
    SHARED,
    Net,
    check_law_4,
    naive_influence,
    randn,
    some_labels,
)
from tests.laws.test_backends import SHAREABLE, VECTOR, Built, Run, on_h
from turnover import TurnoverDropout, influence

MANY = 16
"""From so many targets on chains are looked for."""
TOKENS, IMAGE, IDS = (4, 6), (2, 4, 4), ODD_IDS[:4]


def built(*layers: nn.Module, shape: tuple[int, ...] = VECTOR) -> Built:
    """Layers in float64 that leave a row of zeros what it is, as far as they can: no biases."""
    model = nn.Sequential(*layers).double().eval()
    for number, (name, parameter) in enumerate(model.named_parameters()):
        zero = name.endswith("bias")
        parameter.data = (
            torch.zeros_like(parameter) if zero else randn(*parameter.shape, seed=number)
        )
    return model, shape


def mask(layer: int = 0, width: int = 6, dim: int = -1) -> TurnoverDropout:
    return TurnoverDropout(width, layer=layer, seed=7, dim=dim)


def after_a_mask(layer: Callable[[], nn.Module]) -> Callable[[], Built]:
    """A layer that is not zero at zero."""
    return lambda: built(nn.Linear(6, 6), mask(), layer(), nn.Linear(6, 3))


def between_masks(layer: Callable[[], nn.Module]) -> Callable[[], Built]:
    """A layer that mixes units, or is more than its class says."""
    return lambda: built(
        *(nn.Linear(6, 6), mask(), nn.Linear(6, 6), layer(), mask(1), nn.Linear(6, 3))
    )


def on_channels(layer: Callable[[], nn.Module], *more: nn.Module) -> Callable[[], Built]:
    """A layer after masked channels."""
    first, last = (nn.Conv2d(2, 4, 1), mask(0, 4, 1)), (nn.Flatten(), nn.Linear(64, 3))
    return lambda: built(*first, layer(), nn.ReLU(), *more, *last, shape=IMAGE)


def batch_norm_after_a_mask() -> Built:
    model, shape = built(nn.Linear(6, 6), mask(), nn.BatchNorm1d(6), nn.Linear(6, 3))
    model[2].running_mean += 1
    return model, shape


def masks_on_tokens() -> Built:
    layers = (nn.Linear(6, 6), mask(), nn.Linear(6, 6), nn.ReLU(), mask(1))
    return built(*layers, nn.Flatten(), nn.Linear(24, 3), shape=TOKENS)


def listened_to(place: int | None, before: bool) -> Callable[[], Built]:
    """A hook that doubles what a layer, or the whole model, reads or gives."""

    def build() -> Built:
        inside = nn.Sequential(mask(), nn.Linear(6, 6), nn.ReLU(), mask(1))
        model, shape = built(nn.Linear(6, 6), inside, nn.Linear(6, 3))
        module = model if place is None else model[place]
        if before:
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2,))
        else:
            module.register_forward_hook(lambda *call: call[2] * 2)
        return model, shape

    return build


class Doubled(nn.Linear):
    """A linear layer with a forward pass of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def another_forward_pass() -> Built:
    model, shape = between_masks(nn.ReLU)()
    real = model[2].forward
    model[2].forward = lambda x: real(x).roll(1, 1)
    return model, shape


def blank_at_blank(run: Run) -> Callable[[], Built]:
    """A network of one's own without biases."""

    def build() -> Built:
        net = Net(run)
        for layer in (net.first, net.hidden, net.out):
            nn.init.zeros_(layer.bias)
        return net, VECTOR

    return build


def changed_by_a_statement(net: Net, x: Tensor, h: Tensor) -> Tensor:
    h.relu_()
    return net.tail(h)


NO_CHAINS: dict[str, Callable[[], Built]] = {
    "a relu between two masks": lambda: built(
        nn.Linear(6, 6), mask(), nn.ReLU(), mask(1), nn.Linear(6, 3)
    ),
    "a sigmoid after a mask": after_a_mask(nn.Sigmoid),
    "a softplus after a mask": after_a_mask(nn.Softplus),
    "batch norm after a mask": batch_norm_after_a_mask,
    "tokens": masks_on_tokens,
    "masks on channels and on columns": on_channels(
        lambda: nn.Conv2d(4, 4, 3, padding=1), mask(1, 4)
    ),
    "a linear layer on columns": on_channels(lambda: nn.Linear(4, 4)),
    "channels in groups": on_channels(lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2)),
    "circular padding": on_channels(lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")),
    "layer norm": between_masks(lambda: nn.LayerNorm(6)),
    "softmax": between_masks(lambda: nn.Softmax(1)),
    "a hook before the model": listened_to(None, True),
    "a hook after the model": listened_to(None, False),
    "a hook after a part": listened_to(1, False),
    "a hook before a part": listened_to(1, True),
    "a hook before a layer": listened_to(2, True),
    "a hook after a layer": listened_to(2, False),
    "another forward pass": another_forward_pass,
    "a subclass of a layer": between_masks(lambda: Doubled(6, 6)),
    "a spectral norm": between_masks(lambda: parametrizations.spectral_norm(nn.Linear(6, 6))),
    "changed by a statement": blank_at_blank(on_h(changed_by_a_statement)),
    **{
        name: blank_at_blank(SHAREABLE[name])
        for name in (
            *("mean of the batch", "largest of the batch", "skip of a layer"),
            *("skip after the mask", "two branches", "dropout as a function"),
        )
    },
}


@pytest.mark.parametrize("kind", NO_CHAINS)
def test_law_4_for_what_is_no_chain(kind: str) -> None:
    model, shape = NO_CHAINS[kind]()
    check_law_4(model, randn(MANY, *shape), some_labels(MANY, 3), SHARED, IDS)


@pytest.mark.parametrize("kind", NO_CHAINS)
def test_law_4_where_most_targets_are_blank(kind: str) -> None:
    """There nearly every wrong computation is right; of 17 targets only blank ones are compared."""
    model, shape = NO_CHAINS[kind]()
    x, labels = torch.zeros(MANY + 1, *shape, dtype=torch.float64), some_labels(MANY + 1, 3)
    x[7] = randn(*shape)
    x[8] = -x[7]
    made, expected = influence(model, x, labels, IDS), naive_influence(model, x, labels, IDS)
    torch.testing.assert_close(made.values, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("place", "before"), [(0, True), (0, False)])
def test_a_hook_before_the_masks_is_heard(place: int, before: bool) -> None:
    model, shape = listened_to(place, before)()
    check_law_4(model, randn(MANY, *shape), some_labels(MANY, 3), HALVES, IDS)


def test_a_model_that_mixes_rows_gives_each_target_its_own_values() -> None:
    """Whatever targets it is computed with, and however many."""
    model, shape = NO_CHAINS["mean of the batch"]()
    x, labels = randn(MANY, *shape), some_labels(MANY, 3)
    whole = influence(model, x, labels, IDS).values
    for first, last in pairwise((0, 1, 5, MANY)):
        part = influence(model, x[first:last], labels[first:last], IDS).values
        torch.testing.assert_close(part, whole[:, first:last], rtol=0, atol=1e-12)
