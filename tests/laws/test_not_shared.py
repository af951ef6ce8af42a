"""Law 4 for models whose part before the first mask cannot be shared: the plain path is taken, and its name says why.

Unset memory is full of NaN in these tests, so that a value that was not computed shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from core import influence
from tests.helpers.builders import ODD_IDS, Net, check_law_4, naive_influence, randn, some_labels

NOT_SHARED = "plain: two forward passes per pair (no part is shared: "
CHECK_FAILED = NOT_SHARED + "the check against the plain path failed)"


@pytest.fixture(autouse=True)
def unset_memory_is_nan() -> Iterator[None]:
    """torch fills it so in its deterministic mode."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def rows_known_by_number(net: Net, x: Tensor) -> Tensor:
    """The numbers are made before the first mask and used after it."""
    rows = torch.arange(len(x))
    return net.tail(net.first(x))[rows]


def time_before_rows(net: Net, x: Tensor) -> Tensor:
    """Parts of a row do not lie together, and are read after the first mask."""
    parts = net.first(x).view(-1, 2, 4).transpose(0, 1).reshape(-1, 4) * 2
    return net.tail(net.first(x)) + parts.view(2, len(x), 4)[1, :, :3]


def input_changed_in_place(net: Net, x: Tensor) -> Tensor:
    x = x.detach()
    x.mul_(2)
    return net.tail(net.first(x)) * x[:, :3]


def constant_changed_in_place(net: Net, x: Tensor) -> Tensor:
    factor = torch.tensor([2.0, 3.0, 4.0], dtype=x.dtype)
    factor.mul_(2)
    return net.tail(net.first(x)) * factor


def features_changed_in_place_after_the_mask(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    masked = net.mask(h)
    h.sin_()
    return net.out(masked + h)


def values_that_leave_torch(net: Net, x: Tensor) -> Tensor:
    return net.tail(torch.from_numpy(net.first(x).detach().numpy() * 2))


def other_operations_for_many_rows(net: Net, x: Tensor) -> Tensor:
    return net.tail(net.first(x) + 1 if len(x) > 3 else net.first(x + 0) + 1)


def fewer_operations_for_many_rows(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    return net.tail(h if len(x) > 3 else h + 0)


def more_operations_for_many_rows(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    return net.tail(h + 0 if len(x) > 3 else h)


def a_loop_over_rows(net: Net, x: Tensor) -> Tensor:
    return net.tail(net.first(torch.stack([row + 1 for row in x])))


def a_row_added_and_dropped(net: Net, x: Tensor) -> Tensor:
    return net.tail(net.first(torch.cat((x, x[:1])))[:-1])


NOT_SHAREABLE = {
    rows_known_by_number: NOT_SHARED,
    time_before_rows: NOT_SHARED,
    constant_changed_in_place: CHECK_FAILED,
    features_changed_in_place_after_the_mask: CHECK_FAILED,
    values_that_leave_torch: CHECK_FAILED,
    other_operations_for_many_rows: NOT_SHARED + "its operations before the first mask are not always the same (at aten.add",
    more_operations_for_many_rows: NOT_SHARED + "its operations before the first mask are not always the same (at aten.add",
    fewer_operations_for_many_rows: NOT_SHARED + "it runs fewer operations before the first mask than when it was recorded)",
    a_loop_over_rows: NOT_SHARED + "its operations before the first mask depend on the size of the batch)",
    a_row_added_and_dropped: NOT_SHARED + "a result before the first mask has size 3 for 2 rows and 4 for 3)",
}


@pytest.mark.parametrize(("run", "path"), NOT_SHAREABLE.items())
@pytest.mark.parametrize("rows", [3, 17])
def test_law_4_and_a_reason_for_a_model_that_cannot_be_shared(run: Callable[[Net, Tensor], Tensor], path: str, rows: int) -> None:
    check_law_4(Net(run), randn(rows, 6), some_labels(rows, 3), path)


@pytest.mark.parametrize("run", NOT_SHAREABLE)
def test_law_4_where_the_first_instances_are_the_same(run: Callable[[Net, Tensor], Tensor]) -> None:
    """Rows that get each other's values cannot be told by these."""
    check_law_4(Net(run), randn(3, 6), some_labels(3, 3), NOT_SHARED, [5, 5, 7, 8])


def test_an_input_that_is_changed_in_place() -> None:
    model, twin = Net(input_changed_in_place), Net(lambda net, x: input_changed_in_place(net, x.clone()))
    x = randn(3, 6)
    made = influence(model, x, some_labels(3, 3), ODD_IDS)
    assert torch.equal(x, randn(3, 6))
    assert made.path.startswith(NOT_SHARED)
    torch.testing.assert_close(made.values, naive_influence(twin, x, some_labels(3, 3), ODD_IDS), rtol=0, atol=1e-9)


def test_features_drawn_at_random() -> None:
    made = influence(Net(lambda net, x: net.tail(torch.randn_like(net.first(x)))), randn(3, 6), some_labels(3, 3), ODD_IDS)
    assert made.path.startswith(NOT_SHARED)


def test_features_that_depend_on_the_size_of_the_batch_are_not_shared() -> None:
    """Such a model has no logits of a row. Whatever a path gives, it is not what two rows give."""
    made = influence(Net(lambda net, x: net.tail(net.first(x) / x.abs().sum())), randn(3, 6), some_labels(3, 3), ODD_IDS)
    assert made.path.startswith(NOT_SHARED)


@pytest.mark.parametrize("rows", [3, 17])
def test_a_model_that_fails_says_so_itself(rows: int) -> None:
    def run(net: Net, x: Tensor) -> Tensor:
        if len(x) > 3:
            raise ZeroDivisionError("by a model")
        return net.tail(net.first(x))

    with pytest.raises(ZeroDivisionError, match="by a model"):
        influence(Net(run), randn(rows, 6), some_labels(rows, 3), ODD_IDS)
