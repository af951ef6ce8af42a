"""Law 4 for any model whose part before the first mask can be shared: it is computed once a target.

Unset memory is full of NaN in these tests, so that a value that was not computed shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from core import influence
from tests.helpers.builders import HALVES, ODD_IDS, SHARED, Net, check_law_4, naive_influence, randn, sequential_net, small_cnn, some_labels


@pytest.fixture(autouse=True)
def unset_memory_is_nan() -> Iterator[None]:
    """torch fills it so in its deterministic mode."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def skip(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    return net.out(net.mask(h) + h)


def joined(net: Net, x: Tensor) -> Tensor:
    h = torch.tanh(net.first(x))
    return net.out(net.hidden(torch.cat((net.mask(h)[:, :4], h[:, 4:]), 1)))


def input_used_again(net: Net, x: Tensor) -> Tensor:
    return net.tail(net.first(x)) * x[:, :3] + x.sum(1, keepdim=True)


def relu_in_place(net: Net, x: Tensor) -> Tensor:
    h = functional.relu(net.first(x), inplace=True)
    return net.tail(h) + h[:, :3]


def a_part_changed_in_place(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    h[:, 2:4] = 1.0
    h.relu_()
    return net.tail(h) + h[:, 1:4]


def written_to_memory_given(net: Net, x: Tensor) -> Tensor:
    h = torch.empty(len(x), 8, dtype=x.dtype)
    torch.mm(x, net.first.weight.T, out=h)
    return net.tail(h) * h[:, :3]


def branch_by_values(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    return net.tail(h.cos() if x.sum() > 0 else h.sin() * 2)


def number_asked_for(net: Net, x: Tensor) -> Tensor:
    largest = x.max().item()
    return net.tail(net.first(x) / largest) * (largest + int(x[0].argmax()))


def heads_beside_the_batch(net: Net, x: Tensor) -> Tensor:
    heads = net.first(x).view(len(x) * 2, 4, 1)
    mixed = torch.bmm(torch.bmm(heads, heads.transpose(1, 2)).softmax(-1), heads)
    return net.tail(mixed.view(len(x), 8)) + heads.view(len(x), 8)[:, :3]


def rows_repeated(net: Net, x: Tensor) -> Tensor:
    views = net.first(x.repeat_interleave(2, 0)).view(len(x), 2, 8)
    return net.tail(views.mean(1)) + views[:, 1, :3]


def another_layout(net: Net, x: Tensor) -> Tensor:
    columns = (net.first.weight @ x.T).tanh()
    return net.tail(columns.T) + columns.T[:, 5:]


def whole_numbers_read_later(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    order, (largest, where) = h.argsort(1), h.topk(3, 1)
    return net.tail(h).gather(1, order[:, :3] % 3) + largest * (where == 2)


def parts_in_a_list(net: Net, x: Tensor) -> Tensor:
    left, right = net.first(x).sin().split(4, 1)
    return net.out(net.mask(torch.cat((right, left), 1)) + torch.stack((left, right), 2).flatten(1))


def constants_made_inside(net: Net, x: Tensor) -> Tensor:
    places, factor = torch.arange(8, dtype=x.dtype), torch.tensor([2.0, 3.0, 4.0], dtype=x.dtype)
    return net.tail(net.first(x) + places) * factor + x.new_full((len(x), 1), 0.5)


def similarities_of_rows(net: Net, x: Tensor) -> Tensor:
    """A result that grows along two dimensions."""
    h = net.first(x)
    return net.tail(h) + (h @ h.T).mean(1, keepdim=True)


def a_mask_used_twice(net: Net, x: Tensor) -> Tensor:
    return net.out(net.mask(net.hidden(net.mask(net.first(x)))))


def an_object_with_logits(net: Net, x: Tensor) -> SimpleNamespace:
    return SimpleNamespace(loss=None, logits=skip(net, x))


def noise_without_effect(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    return net.tail(h + 0 * torch.rand_like(h))


def mean_of_the_batch_taken_off(net: Net, x: Tensor) -> Tensor:
    """The batch is one target many times, so its mean is the target; as for a batch of this one row."""
    return net.tail(net.first(x - x.mean(0) + 0.1 * x))


SHAREABLE = [
    *(skip, joined, input_used_again, relu_in_place, a_part_changed_in_place, written_to_memory_given, branch_by_values, number_asked_for),
    *(heads_beside_the_batch, rows_repeated, another_layout, whole_numbers_read_later, parts_in_a_list, constants_made_inside, similarities_of_rows),
    *(a_mask_used_twice, noise_without_effect, mean_of_the_batch_taken_off),
]


@pytest.mark.parametrize("run", SHAREABLE)
@pytest.mark.parametrize("rows", [3, 17])
def test_law_4_for_a_model_of_one_s_own(run: Callable[[Net, Tensor], Tensor], rows: int) -> None:
    """With many targets too, where chains are looked for first."""
    check_law_4(Net(run), randn(rows, 6), some_labels(rows, 3), SHARED)


@pytest.mark.parametrize("run", SHAREABLE)
def test_law_4_in_several_tiles_with_a_last_one_of_one_row(run: Callable[[Net, Tensor], Tensor]) -> None:
    model, x, labels = Net(run), randn(2, 6), some_labels(2, 3)
    made = influence(model, x, labels, range(257))
    assert made.path.startswith(SHARED)
    some = [0, 127, 128, 255, 256]
    torch.testing.assert_close(made.values[..., some], naive_influence(model, x, labels, some), rtol=0, atol=1e-9)


def test_a_model_that_gives_an_object_with_logits() -> None:
    model, twin = Net(an_object_with_logits), Net(skip)
    made = influence(model, randn(3, 6), some_labels(3, 3), ODD_IDS)
    assert made.path.startswith(SHARED)
    torch.testing.assert_close(made.values, naive_influence(twin, randn(3, 6), some_labels(3, 3), ODD_IDS), rtol=0, atol=1e-9)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_networks(layer: Callable[..., nn.Module], batch_first: bool) -> None:
    def run(net: Net, x: Tensor) -> Tensor:
        states = net.recurrent(x if batch_first else x.transpose(0, 1))[0]
        return net.tail(states[:, -1] if batch_first else states[-1])

    model = Net(run)
    model.recurrent = layer(6, 8, num_layers=2, batch_first=batch_first).double().eval()
    check_law_4(model, randn(3, 5, 6), some_labels(3, 3), SHARED)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
def test_transformers_of_torch(batch_first: bool) -> None:
    def run(net: Net, x: Tensor) -> Tensor:
        tokens = net.encoder(x if batch_first else x.transpose(0, 1))
        return net.out(net.mask(tokens if batch_first else tokens.transpose(0, 1)).mean(1))

    model = Net(run)
    model.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first), 2).double().eval()
    check_law_4(model, randn(3, 5, 8), some_labels(3, 3), SHARED)


@pytest.mark.parametrize("training", [False, True])
def test_convolutions_with_batch_norm_and_channel_masks(training: bool) -> None:
    """The engine evaluates, whatever the model's mode; so the loop must as well."""
    model, images, labels = small_cnn(3), randn(4, 1, 6, 6), some_labels(4, 3)
    expected = naive_influence(model, images, labels, ODD_IDS)
    made = influence(model.train(training), images, labels, ODD_IDS)
    assert made.path.startswith(SHARED)
    torch.testing.assert_close(made.values, expected, rtol=0, atol=1e-9)


def test_images_in_channels_last_layout() -> None:
    check_law_4(small_cnn(3), randn(4, 1, 6, 6).to(memory_format=torch.channels_last), some_labels(4, 3), SHARED)
    check_law_4(small_cnn(3).to(memory_format=torch.channels_last), randn(4, 1, 6, 6), some_labels(4, 3), SHARED)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_mask_on_the_input_itself(classes: int, dtype: torch.dtype) -> None:
    check_law_4(sequential_net(6, 8, classes).to(dtype), randn(4, 6).to(dtype), some_labels(4, classes), SHARED)


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("rows", [3, 20])
def test_models_with_a_single_logit(squeezed: bool, rows: int) -> None:
    """Binary cross-entropy of logits `(R, 1)` or `(R,)`, with whole or real labels."""
    model, x, labels = sequential_net(6, 8, 1), randn(rows, 6), some_labels(rows, 2)
    if squeezed:
        model.append(nn.Flatten(0))
    by_hand = naive_influence(model, x, labels, ODD_IDS, lambda logits, label: functional.softplus(logits.flatten() * (1 - 2 * label)))
    for given_labels in (labels, labels.double()):
        made = influence(model, x, given_labels, ODD_IDS)
        assert made.path.startswith(HALVES if rows == 20 and not squeezed else SHARED)
        torch.testing.assert_close(made.values, by_hand, rtol=0, atol=1e-9)
