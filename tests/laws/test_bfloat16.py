"""Large products in bfloat16: how far the values are from those in float32, and that these stay
what they were.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.builders import (
    ALGEBRA,
    KINDS,
    SHARED,
    Net,
    a_case,
    check_law_4,
    randn,
    shaken,
    some_labels,
)
from turnover import influence, mean_influence, top_influences
from turnover.models.heads import turnover_heads


def check_close(rough: Tensor, exact: Tensor) -> None:
    """Off by less than 0.2 nats, by less than a hundredth of the values' spread on average, and in
    the same order nearly everywhere.
    """
    assert rough.dtype == exact.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.2
    assert (rough - exact).abs().mean() < 0.01 * exact.std()
    assert torch.corrcoef(torch.stack((rough.flatten(), exact.flatten())))[0, 1] > 0.9999


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_close_on_every_path_and_float32_is_as_it_was(kind: str) -> None:
    """Networks with random weights, whose influences spread by one to four nats; sub-networks, and
    unit masks with few targets, stay in float32 on a CPU.
    """
    model, x, labels, path = a_case(kind)
    model, x = model.float(), x.float()
    exact, rough = (
        influence(model, x, labels, range(200), dtype=dtype) for dtype in (None, torch.bfloat16)
    )
    assert torch.equal(influence(model, x, labels, range(200)).values, exact.values)
    assert rough.backend.startswith(path)
    assert torch.equal(rough.values, exact.values) == (kind in ("chain", "products"))
    check_close(rough.values, exact.values)


@pytest.mark.parametrize("groups", [32, None])
@pytest.mark.parametrize("targets", [3, 30])
def test_values_of_heads_of_full_size_are_close_and_the_path_says_it(
    groups: int | None, targets: int
) -> None:
    """Their influences spread by 3.6 nats; they are off by 0.01 on average, at most by 0.1."""
    model, labels, ids = (
        shaken(turnover_heads((384,), 2, members=2, groups=groups, seed=1), 1),
        some_labels(targets, 2),
        range(200),
    )
    x = nn.functional.normalize(randn(targets, 384).float(), dim=-1) * 384**0.5
    exact, rough = (
        influence(model, x, labels, ids, dtype=dtype) for dtype in (None, torch.bfloat16)
    )
    assert exact.backend.startswith(ALGEBRA)
    stays = groups is None and targets == 3
    assert rough.backend == exact.backend + ("" if stays else ", in bfloat16")
    check_close(rough.values, exact.values)


@pytest.mark.parametrize("kind", KINDS)
def test_all_functions_compute_so(kind: str) -> None:
    model, x, labels, _ = a_case(kind)
    model, x = model.float(), x.float()
    values = influence(model, x, labels, range(40), dtype=torch.bfloat16).values
    torch.testing.assert_close(
        mean_influence(model, x, labels, range(40), dtype=torch.bfloat16),
        values.mean(1),
        rtol=0,
        atol=1e-5,
    )
    ends = top_influences(model, x, labels, range(40), 4, dtype=torch.bfloat16)
    torch.testing.assert_close(ends.proponents, values.mean(0).topk(4).values, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("rows", "path"), [(3, SHARED), (17, SHARED)])
def test_a_model_that_is_bfloat16_itself(rows: int, path: str) -> None:
    """Law 4 holds to what the type can tell."""
    model, x, labels = (
        Net(lambda net, x: net.tail(net.first(x))),
        randn(rows, 6),
        some_labels(rows, 3),
    )
    exact = check_law_4(model, x, labels, path, range(9)).values
    rough = influence(model.bfloat16(), x.bfloat16(), labels, range(9))
    assert rough.values.dtype == torch.float32
    assert rough.backend.startswith(path)
    torch.testing.assert_close(rough.values.double(), exact, rtol=0.05, atol=0.05)
