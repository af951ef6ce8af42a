"""The ends of each target's ranking, found without holding the pairs: ties, short lists, values
that are not finite.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.helpers.builders import KINDS, a_case, member_heads, randn, some_labels
from turnover import TopInfluences, influence, mean_influence, top_influences
from turnover.attribution.engine import backend_for
from turnover.attribution.engine.tiling import Tiling


def sides(ends: TopInfluences) -> list[tuple[bool, Tensor, Tensor, Tensor]]:
    """Whether the largest come first, ids, means and errors of both ends."""
    return [
        (True, ends.proponent_ids, ends.proponents, ends.proponent_std_errors),
        (False, ends.opponent_ids, ends.opponents, ends.opponent_std_errors),
    ]


def check_ends(ends: TopInfluences, values: Tensor, ids: list[int], top: int) -> None:
    """Each end has the ranking's values in order, and each value is that of an instance of its id
    which stands there once.
    """
    mean = values.mean(0)
    for largest, found, means, errors in sides(ends):
        assert found.shape == means.shape == errors.shape == (len(mean), min(top, len(ids)))
        assert torch.equal(means, mean.sort(1, descending=largest).values[:, :top])
        for row in range(len(mean)):
            left = [
                (instance, value) for instance, value in zip(ids, mean[row].tolist(), strict=True)
            ]
            for pair in zip(found[row].tolist(), means[row].tolist(), strict=True):
                left.remove(pair)


def tie(logits: Tensor, labels: Tensor) -> Tensor:
    return labels + 0 * logits[:, 0]


def three_values(logits: Tensor, labels: Tensor) -> Tensor:
    """One of few losses, so that many instances tie."""
    return (logits.argmax(1) != labels).to(logits.dtype)


@pytest.mark.parametrize("loss", [tie, three_values])
@pytest.mark.parametrize("top", [1, 7, 29, 30, 31, 10**6])
def test_ties_and_short_lists(loss: Any, top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a tie is cut by a tile."""
    model, x, labels, ids = (
        member_heads(groups=4),
        randn(3, 8),
        some_labels(3, 3),
        list(range(100, 130)),
    )
    values = influence(model, x, labels, ids, loss).values
    check_ends(top_influences(model, x, labels, ids, top, loss), values, ids, top)
    monkeypatch.setattr("turnover.attribution.influence.backend_for", in_tiles_of_four)
    check_ends(top_influences(model, x, labels, ids, top, loss), values, ids, top)


def in_tiles_of_four(*arguments: Any, **options: Any) -> Any:
    path = backend_for(*arguments, **options)
    path.tiling = Tiling(2, 4)
    return path


@given(ids=st.lists(st.integers(0, 12), min_size=1, max_size=40), top=st.integers(1, 50))
def test_an_instance_named_twice_stands_there_twice(ids: list[int], top: int) -> None:
    model, x, labels = member_heads(groups=4, members=2), randn(2, 8), some_labels(2, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnover.attribution.influence.backend_for", in_tiles_of_four)
        values = influence(model, x, labels, ids).values
        check_ends(top_influences(model, x, labels, ids, top), values, ids, top)


def test_no_place_and_no_instances() -> None:
    model, x, labels = member_heads(), randn(2, 8), some_labels(2, 3)
    assert top_influences(model, x, labels, range(9), 0).proponents.shape == (2, 0)
    assert top_influences(model, x, labels, [], 5).opponents.shape == (2, 0)


@pytest.mark.parametrize("wrong", [torch.inf, torch.nan])
def test_losses_that_are_not_finite_keep_their_instances(wrong: float) -> None:
    """Nobody else's id stands in their place."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return torch.where(
            logits.argmax(1) == labels,
            nn.functional.cross_entropy(logits, labels, reduction="none"),
            wrong,
        )

    model, x, labels, ids = (
        member_heads(groups=4, members=1),
        randn(4, 8),
        some_labels(4, 3),
        list(range(100, 120)),
    )
    assert not influence(model, x, labels, ids, loss).values.isfinite().all()
    for _, found, _, _ in sides(top_influences(model, x, labels, ids, 20, loss)):
        assert [sorted(row) for row in found.tolist()] == [ids] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_ends_agree_with_the_matrix_on_every_path(kind: str) -> None:
    model, x, labels, _ = a_case(kind)
    values = influence(model, x, labels, range(300)).values
    torch.testing.assert_close(
        mean_influence(model, x, labels, range(300)), values.mean(1), rtol=0, atol=1e-12
    )
    ends = top_influences(model, x, labels, range(300), 9)
    for largest, found, means, errors in sides(ends):
        torch.testing.assert_close(
            means, values.mean(0).sort(1, descending=largest).values[:, :9], rtol=0, atol=1e-12
        )
        torch.testing.assert_close(means, values.mean(0).gather(1, found), rtol=0, atol=1e-12)
        if len(values) > 1:
            spread = values.std(0) / len(values) ** 0.5
            torch.testing.assert_close(errors, spread.gather(1, found), rtol=0, atol=1e-12)
        else:
            assert errors.isnan().all()
