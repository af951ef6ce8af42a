"""Law 4 for the heads of our own K-member models: every way of computing them, whatever turns their
loops take.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers.builders import (
    ALGEBRA,
    ODD_IDS,
    PLAIN,
    SHARED,
    check_law_4,
    member_heads,
    naive_influence,
    randn,
    shaken,
    some_labels,
)
from turnover import influence
from turnover.attribution.engine import backend_for
from turnover.attribution.engine.heads import GroupHeads, SubmatrixHeads
from turnover.attribution.engine.naive import NaiveBackend, evaluating
from turnover.attribution.engine.tiling import Tiling
from turnover.attribution.masks import MAX_ID
from turnover.models.heads import small_vgg, turnover_heads
from turnover.research.bench.timing import threads as threads_inside

WAYS = {
    "groups": (GroupHeads, 10**9, 0),
    "submatrices": (SubmatrixHeads, 0, 0),
    "products": (SubmatrixHeads, 0, 10**9),
}
"""Each way's class, and the limits `_MOST_SIGNS` and `_FEW_TARGETS` that make every model take it.
"""
BUDGET = 2**30


@contextmanager
def forced(way: str, **limits: int) -> Iterator[None]:
    """Every model takes this way inside, in loops with such limits."""
    _, most_signs, few_targets = WAYS[way]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"most_signs": most_signs, "few_targets": few_targets, **limits}.items():
            patch.setattr(f"turnover.attribution.engine.heads._{name.upper()}", value)
        yield


limits_of_loops = st.fixed_dictionaries(
    {
        "block": st.integers(1, 7),
        "pairs_in_cache": st.integers(1, 40),
        "instances_in_cache": st.integers(1, 5),
        "submatrices": st.integers(1, 3),
        "targets": st.integers(1, 5),
        "pairs": st.integers(1, 20),
        "wide": st.sampled_from([0, 64]),
    }
)


@pytest.mark.parametrize("way", WAYS)
@given(
    groups=st.sampled_from([None, 2, 4, 8]),
    sizes=st.tuples(
        st.sampled_from([8, 16]),
        st.sampled_from([8, 24]),
        st.sampled_from([2, 3, 10]),
        st.integers(1, 3),
    ),
    seed=st.integers(0, 10**6),
    targets=st.integers(1, 5),
    ids=st.lists(st.integers(0, MAX_ID), min_size=1, max_size=11),
    limits=limits_of_loops,
)
def test_law_4_with_several_turns_and_remainders(
    way: str,
    groups: int | None,
    sizes: tuple[int, int, int, int],
    seed: int,
    targets: int,
    ids: list[int],
    limits: dict[str, int],
) -> None:
    width, hidden, classes, members = sizes
    model = member_heads(width, hidden, classes, members=members, groups=groups, seed=seed)
    x, labels = randn(targets, width, seed=seed), some_labels(targets, classes, seed)
    expected = naive_influence(model, x, labels, ids)
    with forced(way, **limits):
        assert isinstance(backend_for(model, x), WAYS[way][0])
        torch.testing.assert_close(
            influence(model, x, labels, ids).values, expected, rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("way", WAYS)
@given(
    seed=st.integers(0, 10**6),
    ids=st.lists(st.integers(0, MAX_ID), min_size=1, max_size=40),
    targets=st.integers(1, 30),
    limits=limits_of_loops,
)
def test_law_5_the_limits_of_the_loops_change_nothing(
    way: str, seed: int, ids: list[int], targets: int, limits: dict[str, int]
) -> None:
    model, x, labels = (
        member_heads(groups=4, members=2, seed=seed),
        randn(targets, 8, seed=seed),
        some_labels(targets, 3, seed),
    )
    with forced(way):
        expected = influence(model, x, labels, ids).values
    with forced(way, **limits):
        torch.testing.assert_close(
            influence(model, x, labels, ids).values, expected, rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_law_4_at_full_size(way: str, dtype: torch.dtype, bound: float) -> None:
    """With enough targets and instances for several blocks, and more than one tile."""
    model = shaken(turnover_heads((384,), 2, members=2, groups=32, seed=1), 1).to(dtype)
    x, labels, ids = randn(30, 384).to(dtype), some_labels(30, 2), range(10**8, 10**8 + 70)
    with forced(way, block=64, pairs_in_cache=512):
        fast = influence(model, x, labels, ids)
    slow = influence(model, x[:2], labels[:2], ids, plain=True)
    assert fast.values.dtype == dtype
    assert fast.backend.startswith(ALGEBRA)
    assert slow.backend.startswith(PLAIN)
    torch.testing.assert_close(fast.values[:, :2], slow.values, rtol=0, atol=bound)
    torch.testing.assert_close(
        fast.values[:, 27:, :2],
        naive_influence(model, x[27:], labels[27:], list(ids[:2])),
        rtol=0,
        atol=bound,
    )


@pytest.mark.parametrize(
    ("groups", "path"),
    [(2, GroupHeads), (64, GroupHeads), (128, SubmatrixHeads), (None, SubmatrixHeads)],
)
def test_few_groups_are_summed_and_single_units_cut_out(groups: int | None, path: type) -> None:
    model = turnover_heads((384,), 2, members=1, groups=groups, seed=1)
    assert type(backend_for(model, torch.zeros(3, 384))) is path
    assert influence(
        model, torch.zeros(3, 384), torch.zeros(3, dtype=torch.int64), [1]
    ).backend.startswith(ALGEBRA)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize(
    ("shape", "groups"), [((1, 8, 8), 16), ((1, 8, 8), None), ((3, 16, 16), 8)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_small_vgg(
    shape: tuple[int, int, int], groups: int | None, classes: int, dtype: torch.dtype
) -> None:
    model = shaken(small_vgg(shape, classes, members=2, groups=groups, seed=2), 3).to(dtype)
    check_law_4(model, randn(2, *shape).to(dtype), some_labels(2, classes), ALGEBRA)


@pytest.mark.filterwarnings("ignore:with p=:UserWarning")
@pytest.mark.parametrize("sizes", [{"width": 9, "groups": 3}, {"hidden": 13}])
def test_heads_whose_masks_are_not_halves_share_the_prefix(sizes: dict[str, Any]) -> None:
    """Flipping is no change of sign there."""
    model = member_heads(**sizes)
    check_law_4(model, randn(3, sizes.get("width", 8)), some_labels(3, 3), SHARED)


@pytest.mark.parametrize("way", WAYS)
def test_a_single_logit_and_a_loss_of_one_s_own(way: str) -> None:
    def binary(logits: Tensor, label: Tensor) -> Tensor:
        return nn.functional.softplus(logits.flatten() * (1 - 2 * label))

    def margin(logits: Tensor, rows: Tensor) -> Tensor:
        return logits.logsumexp(1) - 2 * logits.gather(1, rows[:, None])[:, 0]

    with forced(way):
        model, labels = member_heads(classes=1, groups=4), torch.tensor([0, 1, 1])
        expected = naive_influence(model, randn(3, 8), labels, ODD_IDS, binary)
        torch.testing.assert_close(
            influence(model, randn(3, 8), labels, ODD_IDS).values, expected, rtol=0, atol=1e-9
        )
        made = check_law_4(
            member_heads(groups=4), randn(3, 8), some_labels(3, 3), ALGEBRA, loss=margin
        )
        assert not torch.allclose(
            made.values,
            influence(member_heads(groups=4), randn(3, 8), some_labels(3, 3), ODD_IDS).values,
        )


@pytest.mark.parametrize("way", WAYS)
def test_a_path_serves_tiles_in_any_order(way: str) -> None:
    """What a path keeps of one slice of targets must not answer for another."""
    model, x, ids = member_heads(groups=4), randn(6, 8), torch.tensor(ODD_IDS)
    plain = NaiveBackend(model, x, BUDGET)
    with forced(way), evaluating(model):
        path = backend_for(model, x)
        for targets in (slice(0, 3), slice(3, 6), slice(0, 3), slice(0, 2), slice(1, 3)):
            for made, expected in zip(
                path.tile(targets, ids), plain.tile(targets, ids), strict=True
            ):
                assert made.shape == (3, targets.stop - targets.start, len(ids), 3)
                torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_law_5_in_two_threads_inside(way: str) -> None:
    model, x, labels = member_heads(16, 24, groups=8), randn(30, 16), some_labels(30, 3)
    with forced(way, block=16):
        one = influence(model, x, labels, range(100)).values
        with threads_inside(2):
            two, again = (influence(model, x, labels, range(100)).values for _ in range(2))
    assert torch.equal(two, again)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_the_features_of_a_target_are_computed_once(way: str) -> None:
    """So that a pair costs the same whatever lies before the first mask."""
    growth = {}
    for shape in ((1, 8, 8), (1, 8, 15)):  # the same number of features, twice the convolutions
        model, x, labels = (
            small_vgg(shape, 3, members=1, groups=8, seed=0),
            torch.rand(2, *shape),
            some_labels(2, 3),
        )
        flops = []
        for count in (10, 20):
            with forced(way), FlopCounterMode(display=False) as counter:
                influence(model, x, labels, range(count))
            flops.append(counter.get_total_flops())
        growth[shape] = flops[1] - flops[0]
    assert growth[1, 8, 8] == growth[1, 8, 15] > 0


def test_a_tile_is_as_large_as_the_budget_allows() -> None:
    model, x = turnover_heads((384,), 2, members=4, groups=None, seed=1), torch.zeros(1000, 384)
    sizes = [backend_for(model, x, memory=memory).tiling for memory in (1, 2**20, 2**24, 2**30)]
    assert (sizes[0].targets, sizes[0].instances) == (1, 16)
    areas = [size.targets * size.instances for size in sizes]
    assert areas == sorted(areas)
    assert sizes[-1] == Tiling(128, 1024)
