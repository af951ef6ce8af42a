"""Law 4 for models of every kind: what can be shared, and what cannot and why.

Unset memory is full of NaN in these tests, so that a value that was not computed shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.builders import (
    HALVES,
    ODD_IDS,
    SHARED,
    Net,
    check_law_4,
    naive_influence,
    randn,
    sequential_net,
    small_cnn,
    some_labels,
)
from turnover import influence

MANY = 17
"""So many targets that chains are looked for."""
NOT_SHARED = "plain: two forward passes per pair (no part is shared: "
CHECK_FAILED = NOT_SHARED + "the check against the plain backend failed)"
NOT_THE_SAME = NOT_SHARED + "its operations before the first mask "
VECTOR = (6,)

Run = Callable[[Net, Tensor], Any]
Built = tuple[nn.Module, tuple[int, ...]]


@pytest.fixture(autouse=True)
def unset_memory_is_nan() -> Iterator[None]:
    """torch fills it so in its deterministic mode."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def on_h(run: Callable[[Net, Tensor, Tensor], Any]) -> Run:
    """From the input and what `first` makes of it."""
    return lambda net, x: run(net, x, net.first(x))


def a_part_changed_in_place(net: Net, x: Tensor, h: Tensor) -> Tensor:
    h[:, 2:4] = 1.0
    h.relu_()
    return net.tail(h) + h[:, 1:4]


def written_to_memory_given(net: Net, x: Tensor) -> Tensor:
    h = torch.empty(len(x), 8, dtype=x.dtype)
    torch.mm(x, net.first.weight.T, out=h)
    return net.tail(h) * h[:, :3]


def rows_known_by_number(net: Net, x: Tensor) -> Tensor:
    """The numbers are made before the first mask and used after it."""
    rows = torch.arange(len(x))
    return net.tail(net.first(x))[rows]


def constant_changed_in_place(net: Net, x: Tensor) -> Tensor:
    factor = torch.tensor([2.0, 3.0, 4.0], dtype=x.dtype)
    factor.mul_(2)
    return net.tail(net.first(x)) * factor


def number_asked_for(net: Net, x: Tensor) -> Tensor:
    largest = x.max().item()
    return net.tail(net.first(x) / largest) * (largest + int(x[0].argmax()))


def heads_beside_the_batch(net: Net, x: Tensor, h: Tensor) -> Tensor:
    heads = h.view(len(x) * 2, 4, 1)
    mixed = torch.bmm(torch.bmm(heads, heads.transpose(1, 2)).softmax(-1), heads)
    return net.tail(mixed.view(len(x), 8)) + heads.view(len(x), 8)[:, :3]


def rows_repeated(net: Net, x: Tensor) -> Tensor:
    views = net.first(x.repeat_interleave(2, 0)).view(len(x), 2, 8)
    return net.tail(views.mean(1)) + views[:, 1, :3]


def another_layout(net: Net, x: Tensor) -> Tensor:
    columns = (net.first.weight @ x.T).tanh()
    return net.tail(columns.T) + columns.T[:, 5:]


def whole_numbers_read_later(net: Net, x: Tensor, h: Tensor) -> Tensor:
    order, (largest, where) = h.argsort(1), h.topk(3, 1)
    return net.tail(h).gather(1, order[:, :3] % 3) + largest * (where == 2)


def parts_in_a_list(net: Net, x: Tensor, h: Tensor) -> Tensor:
    left, right = h.sin().split(4, 1)
    masked = net.mask(torch.cat((right, left), 1))
    return net.out(masked + torch.stack((left, right), 2).flatten(1))


def constants_made_inside(net: Net, x: Tensor, h: Tensor) -> Tensor:
    places, factor = torch.arange(8, dtype=x.dtype), torch.tensor([2.0, 3.0, 4.0], dtype=x.dtype)
    return net.tail(h + places) * factor + x.new_full((len(x), 1), 0.5)


def functions_in_place_of_layers(net: Net, x: Tensor) -> Tensor:
    """A chain written by hand, whose order only running it would show."""
    h = functional.relu(net.first(x.abs().flatten(1)), inplace=True)
    h = torch.sigmoid(functional.gelu(functional.silu(torch.tanh(net.hidden(net.mask(h))))))
    return net.out(torch.flatten(functional.relu(net.late_mask(h)), 1))


def skip_after_the_mask(net: Net, x: Tensor, h: Tensor) -> Tensor:
    masked = net.mask(h)
    return net.out(net.late_mask(net.hidden(masked)) + masked)


SHAREABLE: dict[str, Run] = {
    "skip": on_h(lambda net, x, h: net.out(net.mask(h) + h)),
    "skip of a layer": on_h(lambda net, x, h: net.out(net.hidden(net.mask(h)) + h)),
    "skip after the mask": on_h(skip_after_the_mask),
    "two branches": on_h(lambda net, x, h: net.out(net.mask(h)) + net.out(net.late_mask(h))),
    "joined": on_h(
        lambda net, x, h: net.out(net.hidden(torch.cat((net.mask(h)[:, :4], h[:, 4:]), 1)))
    ),
    "input used again": on_h(lambda net, x, h: net.tail(h) * x[:, :3] + x.sum(1, keepdim=True)),
    "relu in place": on_h(lambda net, x, h: net.tail(functional.relu(h, inplace=True)) + h[:, :3]),
    "a part changed in place": on_h(a_part_changed_in_place),
    "written to memory given": written_to_memory_given,
    "rows known by number": rows_known_by_number,
    "constant changed in place": constant_changed_in_place,
    "branch by values": on_h(lambda net, x, h: net.tail(h.cos() if x.sum() > 0 else h.sin() * 2)),
    "number asked for": number_asked_for,
    "heads beside the batch": on_h(heads_beside_the_batch),
    "rows repeated": rows_repeated,
    "another layout": another_layout,
    "whole numbers read later": on_h(whole_numbers_read_later),
    "parts in a list": on_h(parts_in_a_list),
    "constants made inside": on_h(constants_made_inside),
    "similarities of rows": on_h(lambda net, x, h: net.tail(h) + (h @ h.T).mean(1, keepdim=True)),
    "a mask used twice": on_h(
        lambda net, x, h: net.out(net.mask(torch.relu(net.hidden(net.mask(h)))))
    ),
    "a layer used twice": on_h(
        lambda net, x, h: net.out(net.late_mask(net.hidden(net.hidden(net.mask(h)).relu())))
    ),
    "a bypass before the mask": on_h(lambda net, x, h: net.tail(h + net.hidden(h).sin())),
    "functions in place of layers": functions_in_place_of_layers,
    "dropout as a function": on_h(
        lambda net, x, h: net.out(functional.dropout(net.hidden(net.mask(h)), 0.5, net.training))
    ),
    "noise without effect": on_h(lambda net, x, h: net.tail(h + 0 * torch.rand_like(h))),
    # The batch is one target many times, as for the plain path; then its mean is the target.
    "mean of the batch": lambda net, x: net.tail(net.first(x - x.mean(0) / 2)),
    "largest of the batch": lambda net, x: net.tail(net.first(x - x.amax(0) / 2)),
}


# What cannot be shared


def time_before_rows(net: Net, x: Tensor) -> Tensor:
    """Parts of a row do not lie together, and are read after the first mask."""
    parts = net.first(x).view(-1, 2, 4).transpose(0, 1).reshape(-1, 4) * 2
    return net.tail(net.first(x)) + parts.view(2, len(x), 4)[1, :, :3]


def features_changed_in_place_after_the_mask(net: Net, x: Tensor, h: Tensor) -> Tensor:
    masked = net.mask(h)
    h.sin_()
    return net.out(masked + h)


def input_changed_in_place(net: Net, x: Tensor) -> Tensor:
    x = x.detach()
    x.mul_(2)
    return net.tail(net.first(x)) * x[:, :3]


NOT_SHAREABLE: dict[str, tuple[Run, str]] = {
    "time before rows": (time_before_rows, NOT_SHARED),
    "features changed in place": (
        on_h(features_changed_in_place_after_the_mask),
        CHECK_FAILED,
    ),
    "values that leave torch": (
        on_h(lambda net, x, h: net.tail(torch.from_numpy(h.detach().numpy() * 2))),
        CHECK_FAILED,
    ),
    "other operations for many rows": (
        lambda net, x: net.tail(net.first(x) + 1 if len(x) > 3 else net.first(x + 0) + 1),
        NOT_THE_SAME + "are not always the same (at aten.add",
    ),
    "more operations for many rows": (
        on_h(lambda net, x, h: net.tail(h + 0 if len(x) > 3 else h)),
        NOT_THE_SAME + "are not always the same (at aten.add",
    ),
    "fewer operations for many rows": (
        on_h(lambda net, x, h: net.tail(h if len(x) > 3 else h + 0)),
        NOT_SHARED + "it runs fewer operations before the first mask than when it was recorded)",
    ),
    "a loop over rows": (
        lambda net, x: net.tail(net.first(torch.stack([row + 1 for row in x]))),
        NOT_THE_SAME + "depend on the size of the batch)",
    ),
    "a row added and dropped": (
        lambda net, x: net.tail(net.first(torch.cat((x, x[:1])))[:-1]),
        NOT_SHARED + "a result before the first mask has size 3 for 2 rows and 4 for 3)",
    ),
}
BY_SIZE = {f"{what} operations for many rows" for what in ("other", "more", "fewer")}
"""Those of them that are shared where all batches are large."""


# Networks of torch


def network(make: Callable[[], nn.Module], width: int, run: Run) -> Callable[[], Built]:
    """Something of torch's in place of the first layer, on five steps in time."""

    def build() -> Built:
        model = Net(run)
        model.inner = make().double().eval()
        return model, (5, width)

    return build


def encoder(batch_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 2)


def in_time(net: Net, x: Tensor) -> Any:
    """What a network gives that wants time before the batch."""
    return net.inner(x.transpose(0, 1))


NETWORKS: dict[str, Callable[[], Built]] = {
    "transformer": network(
        lambda: encoder(True), 8, lambda net, x: net.out(net.mask(net.inner(x)).mean(1))
    ),
    "transformer, time first": network(
        lambda: encoder(False),
        8,
        lambda net, x: net.out(net.mask(in_time(net, x).transpose(0, 1)).mean(1)),
    ),
    "convolutions": lambda: (small_cnn(3), (1, 6, 6)),
    "a mask on the input": lambda: (sequential_net(6, 8, 3), VECTOR),
    "a mask on the input, two classes": lambda: (sequential_net(6, 8, 2), VECTOR),
}
for layer in (nn.LSTM, nn.GRU, nn.RNN):
    NETWORKS[layer.__name__] = network(
        partial(layer, 6, 8, num_layers=2, batch_first=True),
        6,
        lambda net, x: net.tail(net.inner(x)[0][:, -1]),
    )
    NETWORKS[f"{layer.__name__}, time first"] = network(
        partial(layer, 6, 8, num_layers=2), 6, lambda net, x: net.tail(in_time(net, x)[0][-1])
    )


# The law


@pytest.mark.parametrize("kind", SHAREABLE)
@pytest.mark.parametrize("rows", [3, MANY])
def test_law_4_for_a_model_of_one_s_own_that_can_be_shared(kind: str, rows: int) -> None:
    """With many targets too, where chains are looked for first."""
    check_law_4(Net(SHAREABLE[kind]), randn(rows, 6), some_labels(rows, 3), SHARED)


@pytest.mark.parametrize("kind", SHAREABLE)
def test_law_4_in_several_tiles_with_a_last_one_of_one_row(kind: str) -> None:
    model, x, labels = Net(SHAREABLE[kind]), randn(2, 6), some_labels(2, 3)
    made = influence(model, x, labels, range(257))
    assert made.backend.startswith(SHARED)
    some = [0, 127, 128, 255, 256]
    expected = naive_influence(model, x, labels, some)
    torch.testing.assert_close(made.values[..., some], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", NOT_SHAREABLE)
@pytest.mark.parametrize("rows", [3, MANY])
def test_law_4_and_a_reason_for_a_model_that_cannot_be_shared(kind: str, rows: int) -> None:
    """Also where the first instances are the same: rows with each other's values hide there. What
    depends on the number of rows may be shared by many targets, whose batches are large.
    """
    run, path = NOT_SHAREABLE[kind]
    check_law_4(Net(run), randn(1, 6), some_labels(1, 3), path)
    check_law_4(Net(run), randn(rows, 6), some_labels(rows, 3), SHARED if kind in BY_SIZE else path)
    if rows == 3:
        check_law_4(Net(run), randn(1, 6), some_labels(1, 3), NOT_SHARED, [5, 5, 7, 8])


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
@pytest.mark.parametrize("kind", NETWORKS)
def test_law_4_for_networks_of_torch(kind: str) -> None:
    model, shape = NETWORKS[kind]()
    check_law_4(model, randn(4, *shape), some_labels(4, 2), SHARED)


def test_the_engine_evaluates_whatever_the_model_s_mode_type_and_layout() -> None:
    images, labels = randn(4, 1, 6, 6), some_labels(4, 3)
    expected = naive_influence(small_cnn(3), images, labels, ODD_IDS)
    made = influence(small_cnn(3).train(), images, labels, ODD_IDS)
    assert made.backend.startswith(SHARED)
    torch.testing.assert_close(made.values, expected, rtol=0, atol=1e-9)
    last = torch.channels_last
    check_law_4(small_cnn(3), images.to(memory_format=last), labels, SHARED)
    check_law_4(small_cnn(3).to(memory_format=last), images, labels, SHARED)
    check_law_4(sequential_net(6, 8, 10).float(), randn(4, 6).float(), labels, SHARED)


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("rows", [3, 20])
def test_models_with_a_single_logit(squeezed: bool, rows: int) -> None:
    """Binary cross-entropy of logits `(R, 1)` or `(R,)`, with whole or real labels."""
    model, x, labels = sequential_net(6, 8, 1), randn(rows, 6), some_labels(rows, 2)
    if squeezed:
        model.append(nn.Flatten(0))

    def binary(logits: Tensor, label: Tensor) -> Tensor:
        return functional.softplus(logits.flatten() * (1 - 2 * label))

    by_hand = naive_influence(model, x, labels, ODD_IDS, binary)
    for given_labels in (labels, labels.double()):
        made = influence(model, x, given_labels, ODD_IDS)
        assert made.backend.startswith(HALVES if rows == 20 and not squeezed else SHARED)
        torch.testing.assert_close(made.values, by_hand, rtol=0, atol=1e-9)


TWINS: dict[str, tuple[Run, Run, str]] = {
    "an object with logits": (
        lambda net, x: SimpleNamespace(loss=None, logits=SHAREABLE["skip"](net, x)),
        SHAREABLE["skip"],
        SHARED,
    ),
    "an input changed in place": (
        input_changed_in_place,
        lambda net, x: input_changed_in_place(net, x.clone()),
        NOT_SHARED,
    ),
}


@pytest.mark.parametrize("kind", TWINS)
def test_what_the_plain_loop_cannot_run_gives_what_its_twin_does(kind: str) -> None:
    run, twin, path = TWINS[kind]
    x, labels = randn(3, 6), some_labels(3, 3)
    made = influence(Net(run), x, labels, ODD_IDS)
    assert torch.equal(x, randn(3, 6))
    assert made.backend.startswith(path)
    expected = naive_influence(Net(twin), x, labels, ODD_IDS)
    torch.testing.assert_close(made.values, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "run",
    [
        lambda net, x: net.tail(torch.randn_like(net.first(x))),
        lambda net, x: net.tail(net.first(x) / x.abs().sum()),
    ],
    ids=["features drawn at random", "features that depend on the size of the batch"],
)
def test_models_without_logits_of_a_row_are_not_shared(run: Run) -> None:
    """Whatever a path gives, it is not what two rows give."""
    made = influence(Net(run), randn(3, 6), some_labels(3, 3), ODD_IDS)
    assert made.backend.startswith(NOT_SHARED)


@pytest.mark.parametrize("rows", [3, MANY])
def test_a_model_that_fails_says_so_itself(rows: int) -> None:
    def run(net: Net, x: Tensor) -> Tensor:
        if len(x) > 3:
            raise ZeroDivisionError("by a model")
        return net.tail(net.first(x))

    with pytest.raises(ZeroDivisionError, match="by a model"):
        influence(Net(run), randn(rows, 6), some_labels(rows, 3), ODD_IDS)
