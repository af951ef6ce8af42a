"""Law 5: what the public functions of the engine say agrees with the full matrix; and what they
refuse.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import turnover.attribution.influence as influences_module
from tests.helpers.builders import member_heads, randn, sequential_net, some_labels
from turnover import (
    Influence,
    TurnoverError,
    influence,
    mean_influence,
    self_influence,
    top_influences,
    turnover,
)
from turnover.attribution.engine.tiling import default_loss
from turnover.attribution.ensemble import MemberModel
from turnover.attribution.influence import influences

EXACT = 1e-9


def some_items(
    count: int, width: int = 8, classes: int = 3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    return randn(count, width, seed=seed), some_labels(count, classes, seed)


def a_model(kind: str) -> nn.Module:
    return member_heads(groups=4) if kind == "members" else sequential_net(8, 12, 3)


def some_influence(members: int) -> Influence:
    return Influence(randn(members, 2, 3), torch.tensor([5, 9, 2**40]), "a path")


# The functions beside the full matrix


@pytest.mark.parametrize("kind", ["members", "user"])
def test_self_influence_is_the_diagonal(kind: str) -> None:
    model, (x, labels) = a_model(kind), some_items(13)
    ids = np.arange(100, 113)
    matrix = influence(model, x, labels, ids).values
    torch.testing.assert_close(
        self_influence(model, x, labels, ids), matrix.diagonal(dim1=1, dim2=2), rtol=0, atol=EXACT
    )


def test_self_influence_of_many_items_is_computed_in_slices() -> None:
    model, (x, labels) = member_heads(members=1), some_items(600)
    own = self_influence(model, x, labels, range(600))
    for row in (0, 255, 256, 511, 512, 599):
        matrix = influence(model, x[row : row + 1], labels[row : row + 1], [row]).values
        torch.testing.assert_close(own[:, row], matrix[:, 0, 0], rtol=0, atol=EXACT)


@pytest.mark.parametrize("kind", ["members", "user"])
@pytest.mark.parametrize("count", [5, 300])
def test_mean_influence_is_the_mean_over_targets(kind: str, count: int) -> None:
    model, (x, labels) = a_model(kind), some_items(9)
    matrix = influence(model, x, labels, range(count)).values
    torch.testing.assert_close(
        mean_influence(model, x, labels, range(count)), matrix.mean(1), rtol=0, atol=EXACT
    )


@pytest.mark.parametrize("kind", ["members", "user"])
@pytest.mark.parametrize(("count", "top"), [(300, 10), (300, 1), (600, 290), (7, 10)])
def test_top_influences_are_the_ends_of_the_ranking(kind: str, count: int, top: int) -> None:
    model, (x, labels) = a_model(kind), some_items(4)
    ids = torch.arange(1000, 1000 + count)
    whole, ends = influence(model, x, labels, ids), top_influences(model, x, labels, ids, top)
    ranking = whole.mean.sort(1, descending=True).values
    sides = (
        (ranking[:, :top], ends.proponent_ids, ends.proponents, ends.proponent_std_errors),
        (ranking.flip(1)[:, :top], ends.opponent_ids, ends.opponents, ends.opponent_std_errors),
    )
    for expected, found, means, errors in sides:
        torch.testing.assert_close(means, expected, rtol=0, atol=EXACT)
        torch.testing.assert_close(means, whole.mean.gather(1, found - 1000), rtol=0, atol=EXACT)
        torch.testing.assert_close(
            errors, whole.std_error.gather(1, found - 1000), rtol=0, atol=EXACT, equal_nan=True
        )
        assert all(len(set(row)) == min(top, count) for row in found.tolist())


@pytest.mark.parametrize("kind", ["members", "user"])
def test_several_labels_share_the_passes_of_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, labels) = a_model(kind), some_items(5)
    others, passes = (labels + 1) % 3, 0
    expected = [influence(model, x, own, range(40)) for own in (labels, others)]
    real = influences_module.backend_for

    def counted(*arguments: Any, **options: Any) -> Any:
        path = real(*arguments, **options)
        compute = path.tile

        def tile(*asked: Any) -> Any:
            nonlocal passes
            passes += 1
            return compute(*asked)

        monkeypatch.setattr(path, "tile", tile, raising=False)
        return path

    monkeypatch.setattr(influences_module, "backend_for", counted)
    told: list[int] = []
    made = influences(model, x, (labels, others), range(40), progress=told.append)
    together = passes
    influence(model, x, labels, range(40))
    assert together == passes - together > 0
    assert sum(told) == 2 * expected[0].values.numel()
    for own, alone in zip(made, expected, strict=True):
        torch.testing.assert_close(own.values, alone.values, rtol=0, atol=0)
        assert own.backend == alone.backend
    assert not torch.allclose(made[0].values, made[1].values)


def test_a_loss_of_one_s_own_reaches_every_function() -> None:
    model, (x, labels) = member_heads(), some_items(5)

    def doubled(logits: Tensor, rows: Tensor) -> Tensor:
        return 2 * nn.functional.cross_entropy(logits, rows, reduction="none")

    torch.testing.assert_close(
        influence(model, x, labels, range(5), doubled).values,
        2 * influence(model, x, labels, range(5)).values,
    )
    torch.testing.assert_close(
        self_influence(model, x, labels, range(5), doubled),
        2 * self_influence(model, x, labels, range(5)),
    )
    torch.testing.assert_close(
        mean_influence(model, x, labels, range(5), doubled),
        2 * mean_influence(model, x, labels, range(5)),
    )
    torch.testing.assert_close(
        top_influences(model, x, labels, range(5), 2, doubled).opponents,
        2 * top_influences(model, x, labels, range(5), 2).opponents,
    )


def test_an_instance_helps_what_it_taught_and_a_wrong_one_hurts() -> None:
    """The sign: positive means that the instance lowers the target's loss."""
    model = member_heads(members=4, hidden=64, width=16)
    x = torch.randn(1, 16, dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        with turnover([7]):
            logits = model(x)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), torch.full((4,), 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    helped, hurt = (influence(model, x, torch.tensor([label]), [7]).values for label in (2, 0))
    assert (helped > 0).all()
    assert (hurt < 0).all()


@given(count=st.integers(1, 40), repeats=st.integers(1, 3))
def test_each_instance_s_value_is_its_own_in_any_company(count: int, repeats: int) -> None:
    model, (x, labels) = member_heads(members=2), some_items(2)
    alone = torch.cat(
        [influence(model, x, labels, [instance]).values for instance in range(count)], 2
    )
    together = influence(model, x, labels, list(range(count)) * repeats).values
    torch.testing.assert_close(together, alone.repeat(1, 1, repeats), rtol=0, atol=EXACT)


# The result


@pytest.mark.parametrize("members", [1, 2, 3, 4, 7])
def test_mean_median_and_standard_error_are_numpy_s(members: int) -> None:
    made = some_influence(members)
    values = made.values.numpy()
    np.testing.assert_allclose(made.mean, values.mean(0), atol=1e-14)
    np.testing.assert_allclose(made.median, np.median(values, axis=0), atol=1e-14)
    expected = values.std(0, ddof=1) / np.sqrt(members) if members > 1 else np.full((2, 3), np.nan)
    np.testing.assert_allclose(made.std_error, expected, atol=1e-14)


def test_an_influence_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        some_influence(2).backend = "another"  # type: ignore[misc]


def test_a_data_frame_has_one_row_a_pair() -> None:
    made = some_influence(3)
    frame = made.to_pandas()
    assert list(frame.columns) == ["target", "instance", "influence", "std_error"]
    assert frame["target"].tolist() == [0, 0, 0, 1, 1, 1]
    assert frame["instance"].tolist() == [5, 9, 2**40] * 2
    np.testing.assert_allclose(frame["influence"], made.mean.flatten())
    np.testing.assert_allclose(frame["std_error"], made.std_error.flatten())


def test_one_member_has_no_standard_error_in_the_data_frame() -> None:
    assert some_influence(1).to_pandas()["std_error"].isna().all()


def test_values_are_on_the_cpu_and_carry_no_gradient() -> None:
    model, (x, labels) = member_heads(), some_items(3)
    made = influence(model, x, labels, range(4))
    assert made.values.shape == (3, 3, 4)
    assert made.values.device.type == "cpu"
    assert not made.values.requires_grad
    assert made.train_ids.tolist() == [0, 1, 2, 3]


def test_no_instances_have_no_influences() -> None:
    model, (x, labels) = member_heads(), some_items(3)
    assert influence(model, x, labels, []).values.shape == (3, 3, 0)
    assert influence(model, x, labels, []).to_pandas().empty


def test_no_targets_have_no_influences() -> None:
    model, (x, labels) = member_heads(), some_items(3)
    assert influence(model, x[:0], labels[:0], range(4)).values.shape == (3, 0, 4)
    assert len(top_influences(model, x[:0], labels[:0], range(4), 2).proponents) == 0


# The default loss


@given(seed=st.integers(0, 1000))
def test_the_default_loss_is_cross_entropy_in_nats(seed: int) -> None:
    logits, labels = some_items(6, 4, 4, seed)
    expected = -torch.log(logits.exp()[torch.arange(6), labels] / logits.exp().sum(1))
    torch.testing.assert_close(default_loss(logits, labels), expected)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_the_default_loss_of_a_single_logit_is_binary(shape: tuple[int, ...]) -> None:
    logits, labels = some_items(6, 1, 2)
    chance = torch.sigmoid(logits.flatten())
    torch.testing.assert_close(
        default_loss(logits.view(shape), labels),
        -torch.log(torch.where(labels == 1, chance, 1 - chance)),
    )


# What is refused


@pytest.mark.parametrize("function", [influence, self_influence, mean_influence, top_influences])
class TestRefusals:
    """The same checks stand before every function."""

    def test_a_model_without_turnover_layers(self, function: object) -> None:
        x, labels = some_items(3)
        with pytest.raises(TurnoverError, match="Linear has no TurnoverDropout layer"):
            function(nn.Linear(8, 3).double(), x, labels, range(3))  # type: ignore[operator]

    @pytest.mark.parametrize(
        ("ids", "reason"),
        [
            ([0, -1, 2], "negative"),
            ([0.5, 1, 2], "whole numbers"),
            ([0, 1, 2**63], "from 0 to"),
            ([[0, 1, 2]], "one list of ids"),
        ],
    )
    def test_ids_that_are_no_list_of_ids(self, function: object, ids: object, reason: str) -> None:
        x, labels = some_items(3)
        with pytest.raises(TurnoverError, match=reason):
            function(member_heads(), x, labels, ids)  # type: ignore[operator]

    def test_another_number_of_labels_than_targets(self, function: object) -> None:
        x, labels = some_items(3)
        with pytest.raises(
            TurnoverError, match="3 targets with 2 labels; give one label per target"
        ):
            function(member_heads(), x, labels[:2], range(3))  # type: ignore[operator]


def test_self_influence_needs_one_id_a_row() -> None:
    x, labels = some_items(3)
    with pytest.raises(TurnoverError, match="4 ids for 3 training instances"):
        self_influence(member_heads(), x, labels, range(4))


def test_a_loss_that_is_not_one_number_a_row_is_refused() -> None:
    """The loss most users have at hand is already a mean."""
    x, labels = some_items(3)
    with pytest.raises(TurnoverError, match="one loss a row"):
        influence(member_heads(), x, labels, range(4), nn.CrossEntropyLoss())


def test_our_model_counts_its_members_and_any_other_is_one() -> None:
    x, labels = some_items(2)
    ours, other = member_heads(members=5), sequential_net(8, 12, 3)
    assert isinstance(ours, MemberModel)
    assert len(influence(ours, x, labels, [0]).values) == 5
    assert len(influence(other, x, labels, [0]).values) == 1
