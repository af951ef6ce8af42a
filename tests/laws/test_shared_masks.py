"""Laws 1 to 4 and 6 where instances share masks: a cohort has one mask, pairs of cohorts have
complementary ones, and M passes a target are the plain loop over all instances.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.helpers.builders import (
    GOLDEN,
    KINDS,
    PLAIN,
    a_case,
    check_law_4,
    randn,
    reference_mask,
    sequential_net,
    small_chain,
    some_labels,
    splitmix,
)
from turnover import (
    TurnoverDropout,
    TurnoverError,
    cohorts,
    influence,
    insert_masks,
    mean_influence,
    self_influence,
    top_influences,
    turnover,
)
from turnover.attribution.dropout import turnover_layers
from turnover.attribution.ensemble import Ensemble
from turnover.attribution.masks import MAX_ID, UNOWNED

EXACT = 1e-9
ids_in_range = st.one_of(st.integers(0, MAX_ID), st.sampled_from([0, 2**53 + 1, UNOWNED, MAX_ID]))
seeds_in_range = st.integers(0, MAX_ID)
even = st.integers(1, 40).map(lambda half: 2 * half)
every_kind = pytest.mark.parametrize("kind", KINDS)


def reference_cohort(instance: int, seed: int, masks: int) -> int:
    """An instance's cohort in exact integers."""
    place = splitmix(splitmix(seed + GOLDEN) ^ splitmix(3 * GOLDEN))
    return (splitmix(splitmix(instance + GOLDEN) ^ place) >> 1) % masks


def sharing(model: nn.Module, masks: int) -> Any:
    """The model with shared masks."""
    for layer in turnover_layers(model):
        layer.masks = masks
    return model


def an_ensemble() -> Ensemble:
    """Two members with cohorts of their own."""
    return Ensemble([sharing(sequential_net(seed=seed), 6) for seed in (1, 2)], 3, ())


# Law 1


@given(ids=st.lists(ids_in_range, min_size=1, max_size=9), seed=seeds_in_range, masks=even)
def test_a_cohort_is_the_definition_in_exact_integers(
    ids: list[int], seed: int, masks: int
) -> None:
    expected = [reference_cohort(instance, seed, masks) for instance in ids]
    assert cohorts(ids, seed, masks).tolist() == expected


@given(
    ids=st.lists(ids_in_range, min_size=1, max_size=6),
    seed=seeds_in_range,
    layer=st.integers(0, 1000),
    masks=even,
    half=st.integers(1, 20),
)
def test_a_mask_is_that_of_the_pair_or_its_complement(
    ids: list[int], seed: int, layer: int, masks: int, half: int
) -> None:
    """Whether the masks of all cohorts are computed once or those of the instances one by one."""
    mask = TurnoverDropout(2 * half, seed=seed, masks=masks, layer=layer)
    for rows in (ids, ids * 40):
        for instance, bits in zip(rows, mask.bits(torch.tensor(rows)).tolist(), strict=True):
            pair, second = divmod(reference_cohort(instance, seed, masks), 2)
            known = reference_mask(pair, 2 * half, half, seed=seed, layer=layer)
            assert bits == [on ^ bool(second) for on in known]


@pytest.mark.parametrize(
    ("instance", "seed", "masks", "cohort"),
    [(0, 0, 64, 25), (1, 0, 64, 19), (0, 1, 64, 56), (MAX_ID, MAX_ID, 2**20, 923_995)],
)
def test_cohorts_never_change_between_versions(
    instance: int, seed: int, masks: int, cohort: int
) -> None:
    """Stored runs depend on these."""
    assert cohorts([instance], seed, masks).item() == cohort


@pytest.mark.parametrize("masks", [2, 6, 64, 1024])
@pytest.mark.parametrize("first", [0, 10**8, UNOWNED])
def test_cohorts_are_of_equal_size_and_independent_between_seeds(masks: int, first: int) -> None:
    count = 40 * masks**2 if masks < 10 else 400 * masks
    one, two = (cohorts(np.arange(first, first + count), seed, masks) for seed in (7, 8))
    sizes = torch.bincount(one, minlength=masks).double()
    expected = count / masks
    chi_squared = float(((sizes - expected) ** 2 / expected).sum())
    assert abs(chi_squared - (masks - 1)) < 5 * np.sqrt(2 * masks)
    together = float((one == two).double().mean())
    assert abs(together - 1 / masks) < 5 * np.sqrt(1 / masks / count)


# Law 2


@given(
    ids=st.lists(ids_in_range, min_size=1, max_size=40),
    masks=even,
    groups=st.sampled_from([None, 4]),
)
def test_halves_add_up_and_cohorts_of_a_pair_are_each_other_s_flip(
    ids: list[int], masks: int, groups: int | None
) -> None:
    layer = TurnoverDropout(8, groups=groups, seed=3, masks=masks, layer=1)
    mask, flipped = (layer.mask(ids, flip, torch.float64) for flip in (False, True))
    assert torch.equal(mask + flipped, torch.full_like(mask, 2))
    assert torch.equal(mask.sum(1), torch.full((len(ids),), 8.0, dtype=torch.float64))
    number = cohorts(ids, 3, masks)
    for first, second in product(range(len(ids)), repeat=2):
        if number[first] == number[second]:
            assert torch.equal(mask[first], mask[second])
        if number[first] == number[second] ^ 1:
            assert torch.equal(mask[first], flipped[second])


# Law 3


@given(instance=ids_in_range, other=ids_in_range)
def test_a_cohort_sends_no_gradient_into_units_that_are_off(instance: int, other: int) -> None:
    model = sharing(sequential_net(), 4)
    mask_in, first, _, mask_hidden, last = model
    ids = [instance, other]
    with turnover(ids):
        losses = nn.functional.cross_entropy(
            model(randn(2, 6)), torch.tensor([1, 2]), reduction="none"
        )
    number = cohorts(ids, mask_in.seed, 4)
    losses[number == number[0]].sum().backward()
    off_in, off_hidden = (
        ~layer.bits(torch.tensor([instance]))[0] for layer in (mask_in, mask_hidden)
    )
    assert (first.weight.grad[:, off_in] == 0).all()
    assert (first.weight.grad[off_hidden] == 0).all()
    assert (last.weight.grad[:, off_hidden] == 0).all()
    assert (last.bias.grad != 0).all()


# Law 4


@every_kind
@pytest.mark.parametrize("masks", [2, 6, 128])
def test_law_4(kind: str, masks: int) -> None:
    """M passes a target are the plain loop over all instances, on the path taken by default and on
    the reference; also where there are more masks than instances.
    """
    model, x, labels, path = a_case(kind)
    model = sharing(model, masks)
    for backend, options in ((path, {}), (PLAIN, {"plain": True})):
        result = check_law_4(model, x, labels, backend, **options)
        assert result.by_mask.shape[2] == masks


def test_law_4_for_members_with_cohorts_of_their_own() -> None:
    x, labels, ids = randn(5, 6), some_labels(5, 3), torch.arange(50)
    result = influence(an_ensemble(), x, labels, ids)
    for member, model in enumerate(an_ensemble().models):
        alone = influence(model, x, labels, ids)
        torch.testing.assert_close(result.values[member], alone.values[0], rtol=0, atol=EXACT)
    assert not torch.equal(*result.cohorts)


@given(ids=st.lists(ids_in_range, min_size=1, max_size=30))
@settings(max_examples=8)
def test_law_4_for_any_instances(ids: list[int]) -> None:
    model, x, labels, _ = a_case("groups")
    result = influence(sharing(model, 8), x, labels, ids)
    plain = influence(model, x, labels, ids, plain=True)
    torch.testing.assert_close(result.values, plain.values, rtol=0, atol=EXACT)


@pytest.mark.parametrize("kind", ["groups", "chain", "plain"])
def test_passes_do_not_depend_on_the_number_of_instances(
    kind: str,
) -> None:
    model, x, labels, _ = a_case(kind)
    model, counts = sharing(model, 16), []
    for count in (20, 20_000):
        progress: list[float] = []
        result = influence(model, x, labels, range(count), progress=progress.append)
        counts.append(sum(progress))
        assert result.values.shape[2] == count
    assert counts == [8 * len(labels) * len(result.by_mask)] * 2


@pytest.mark.parametrize("build", [an_ensemble, lambda: sharing(a_case("groups")[0], 16)])
def test_summaries_are_those_of_the_whole_matrix(build: Any) -> None:
    model = build()
    x, labels = randn(9, 8 if model.members == 3 else 6), some_labels(9, 3)
    ids = torch.arange(1000, 1300)
    whole = influence(model, x, labels, ids)
    values = whole.values
    for name, expected in (
        ("mean", values.mean(0)),
        ("std_error", values.std(0) / len(values) ** 0.5),
    ):
        torch.testing.assert_close(getattr(whole, name), expected, rtol=0, atol=EXACT)
    torch.testing.assert_close(
        mean_influence(model, x, labels, ids), values.mean(1), rtol=0, atol=EXACT
    )
    ranking = values.mean(0).sort(1).values
    ends = top_influences(model, x, labels, ids, 4)
    torch.testing.assert_close(ends.opponents, ranking[:, :4], rtol=0, atol=EXACT)
    torch.testing.assert_close(ends.proponents, ranking.flip(1)[:, :4], rtol=0, atol=EXACT)
    torch.testing.assert_close(
        self_influence(model, x, labels, ids[:9]),
        values[:, :, :9].diagonal(dim1=1, dim2=2),
        rtol=0,
        atol=EXACT,
    )
    part = whole.part(slice(2, 4), slice(5, 50))
    assert torch.equal(part.values, values[:, 2:4, 5:50])


# Law 6


def test_outside_the_context_a_model_is_an_ordinary_one() -> None:
    x = randn(7, 6)
    assert torch.equal(sharing(sequential_net(), 8)(x), sequential_net()(x))


# What is refused


@pytest.mark.parametrize("masks", [0, -2, 1, 3, 2**20 + 2])
def test_a_number_of_masks_that_cannot_be_shared_is_refused(masks: int) -> None:
    for build in (
        lambda: TurnoverDropout(8, masks=masks),
        lambda: cohorts([1], 0, masks),
        lambda: insert_masks(small_chain(), ["0"], masks=masks),
    ):
        with pytest.raises(TurnoverError, match=f"^masks={masks}: choose an even number .*None"):
            build()


@pytest.mark.parametrize("options", [{"p": 0.25}, {"groups": 3}, {"width": 9}])
def test_shared_masks_keep_half_of_the_units(options: dict[str, Any]) -> None:
    with pytest.raises(TurnoverError, match=r"come in pairs .* p=0.5 and an even number"):
        TurnoverDropout(**{"width": 12, "masks": 4, **options})


@pytest.mark.parametrize("other", [{"seed": 2, "masks": 4}, {"seed": 1, "masks": 6}, {"seed": 1}])
def test_layers_of_a_network_share_their_cohorts_or_are_refused(other: dict[str, Any]) -> None:
    model = nn.Sequential(
        TurnoverDropout(6, seed=1, masks=4, layer=0),
        nn.Linear(6, 6),
        TurnoverDropout(6, layer=1, **other),
    )
    with (
        pytest.raises(TurnoverError, match=r"different cohorts; give all layers .* one masks="),
        turnover([1]),
    ):
        model(randn(1, 6).float())


def test_inserted_masks_are_shared() -> None:
    model = insert_masks(
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), ["0", "2"], masks=8
    )
    assert [layer.masks for layer in turnover_layers(model)] == [8, 8]
    assert "masks=8" in repr(model)
