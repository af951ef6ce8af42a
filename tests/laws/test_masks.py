"""Law 1: a mask is a pure function of (seed, layer, instance), exactly balanced, independent of its
neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from tests.helpers.builders import GOLDEN, WORD, reference_mask, run_python, splitmix
from turnover.attribution.masks import (
    MAX_ID,
    MAX_UNITS,
    UNOWNED,
    _masks_numpy,
    _masks_torch,
    derive_seed,
    instance_masks,
    mix,
    units_on,
)
from turnover.attribution.scope import as_instance_ids

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
PLACES = [0, 10**7, 10**8, 2**31, 2**53, UNOWNED, MAX_ID - 20_000]
"""Where ids begin in the tests of independence: small ones, and where floats and 32-bit words lose
numbers.
"""

ids_in_range = st.one_of(
    st.integers(0, MAX_ID), st.sampled_from([0, 1, 2**31, 2**32, 2**53 + 1, UNOWNED, MAX_ID])
)
seeds_in_range = st.integers(0, MAX_ID)

_HASH_IN_ANOTHER_PROCESS = """
import hashlib, torch
from turnover.attribution.masks import instance_masks
ids = torch.cat([torch.arange(start, start + 50) for start in (0, 10**8, 2**62, 2**63 - 51)])
print(hashlib.sha256(instance_masks(ids, 96, 48, seed=7, layer=2).numpy().tobytes()).hexdigest())
"""


def bits(
    ids: list[int] | Tensor, units: int = 64, on: int = 32, seed: int = 0, layer: int = 0
) -> Tensor:
    return instance_masks(
        torch.as_tensor(ids, dtype=torch.int64), units, on, seed=seed, layer=layer
    )


def bits_in_torch(ids: Tensor, units: int, on: int, stream: int) -> Tensor:
    return _masks_torch(ids, units, on, stream)


def bits_in_numpy(ids: Tensor, units: int, on: int, stream: int) -> Tensor:
    return torch.from_numpy(_masks_numpy(ids.numpy(), units, on, stream))


BOTH = [bits_in_torch, bits_in_numpy]
"""The two ways in which masks are computed, for accelerators and for the CPU."""


def agreement(first: Tensor, second: Tensor) -> np.ndarray:
    """Share of units on which each row of two sets of masks agrees."""
    return (first == second).double().mean(-1).numpy()


def check_independent(first: Tensor, second: Tensor) -> None:
    """Rows of balanced masks (32 of 64 on) that agree as unrelated ones do: share .5 on average,
    hypergeometric spread.
    """
    shares = agreement(first, second)
    deviation = 2 / 64 * np.sqrt(32 * 0.5 * 0.5 * (32 / 63))
    assert abs(shares.mean() - 0.5) < 5 * deviation / np.sqrt(len(shares))
    assert abs(shares.std() / deviation - 1) < 5 / np.sqrt(2 * len(shares))
    assert shares.max() < 0.95


@given(
    ids=st.lists(ids_in_range, min_size=1, max_size=6),
    units=st.integers(2, 70),
    p=st.floats(0.1, 0.9),
    seed=seeds_in_range,
    layer=st.integers(0, 1000),
)
def test_bits_are_the_definition_in_exact_integers(
    ids: list[int], units: int, p: float, seed: int, layer: int
) -> None:
    on = min(max(int(p * units + 0.5), 1), units - 1)
    made = bits(ids, units, on, seed, layer)
    assert made.tolist() == [
        reference_mask(instance, units, on, seed=seed, layer=layer) for instance in ids
    ]


@pytest.mark.parametrize(
    ("instance", "seed", "layer", "mask"),
    [
        (0, 0, 0, "01100000011101010111010111101000"),
        (1, 0, 0, "10111001111101000110000101010001"),
        (0, 0, 1, "00111011000111100011001011000101"),
        (0, 1, 0, "01000000001010011111011011110101"),
        (MAX_ID, MAX_ID, 12, "01111111010100010001000010111010"),
    ],
)
def test_bits_never_change_between_versions(
    instance: int, seed: int, layer: int, mask: str
) -> None:
    """Stored runs depend on these: a change here needs a new run format."""
    assert "".join(str(int(bit)) for bit in bits([instance], 32, 16, seed, layer)[0]) == mask


@given(ids=st.lists(ids_in_range, min_size=2, max_size=40), seed=seeds_in_range, data=st.data())
def test_bits_are_the_same_in_any_batch_order_and_shape(
    ids: list[int], seed: int, data: st.DataObject
) -> None:
    whole = bits(ids, seed=seed)
    order = data.draw(st.permutations(range(len(ids))))
    assert torch.equal(bits([ids[row] for row in order], seed=seed), whole[list(order)])
    cut = data.draw(st.integers(1, len(ids) - 1))
    assert torch.equal(torch.cat([bits(ids[:cut], seed=seed), bits(ids[cut:], seed=seed)]), whole)
    twice = torch.tensor([ids, ids])
    assert torch.equal(bits(twice, seed=seed), torch.stack([whole, whole]))


@pytest.mark.parametrize("device", DEVICES)
def test_bits_are_the_same_on_every_device(device: str) -> None:
    ids = torch.cat([torch.arange(place, place + 100) for place in PLACES])
    assert torch.equal(
        instance_masks(ids.to(device), 96, 48, seed=9, layer=4).cpu(), bits(ids, 96, 48, 9, 4)
    )


def test_bits_are_the_same_in_another_process() -> None:
    ids = torch.cat([torch.arange(start, start + 50) for start in (0, 10**8, 2**62, 2**63 - 51)])
    here = hashlib.sha256(bits(ids, 96, 48, 7, 2).numpy().tobytes()).hexdigest()
    assert run_python(_HASH_IN_ANOTHER_PROCESS).strip() == here


def test_bits_are_the_same_in_every_thread() -> None:
    ids = torch.arange(500)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: bits(ids), range(12)))
    assert all(torch.equal(one, bits(ids)) for one in made)


@pytest.mark.parametrize(
    "form",
    [
        list,
        np.array,
        torch.tensor,
        np.uint64,
        lambda ids: torch.tensor(ids, dtype=torch.int32),
        lambda ids: np.array(ids, np.uint8),
    ],
)
def test_bits_do_not_depend_on_the_number_type_of_the_ids(
    form: Callable[[list[int]], object],
) -> None:
    ids = [0, 1, 77, 200]
    assert torch.equal(bits(as_instance_ids(form(ids))), bits(ids))  # type: ignore[arg-type]


@given(
    ids=st.lists(ids_in_range, min_size=1, max_size=20),
    units=st.integers(2, 300),
    p=st.floats(0.01, 0.99),
    seed=seeds_in_range,
)
def test_exactly_k_units_are_on(ids: list[int], units: int, p: float, seed: int) -> None:
    on = min(max(int(np.floor(p * units + 0.5)), 1), units - 1)
    assert bits(ids, units, on, seed).sum(-1).tolist() == [on] * len(ids)


@pytest.mark.parametrize("compute", BOTH)
def test_units_whose_numbers_are_equal_are_told_apart(
    compute: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tie at the threshold is as rare as can be, so here every number ties: the units with the
    lowest numbers are on.
    """
    monkeypatch.setattr("turnover.attribution.masks._mix", torch.zeros_like)
    monkeypatch.setattr("turnover.attribution.masks._mix_in_place", np.zeros_like)
    assert (
        compute(torch.tensor([3, 4]), 64, 20, stream=0).tolist() == [[True] * 20 + [False] * 44] * 2
    )


@given(
    ids=st.lists(ids_in_range, max_size=12),
    units=st.integers(2, 300),
    p=st.floats(0.01, 0.99),
    stream=st.integers(0, WORD - 1),
    cache=st.integers(1, 2**15),
)
def test_torch_and_numpy_give_the_same_bits(
    ids: list[int], units: int, p: float, stream: int, cache: int
) -> None:
    """Also where numpy takes the rows in several turns."""
    on = min(max(int(p * units + 0.5), 1), units - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnover.attribution.masks._UNITS_IN_CACHE", cache)
        for rows in (
            torch.tensor(ids, dtype=torch.int64),
            torch.tensor([ids] * 3, dtype=torch.int64),
        ):
            made, expected = (
                bits_in_numpy(rows, units, on, stream),
                bits_in_torch(rows, units, on, stream),
            )
            assert made.shape == (*rows.shape, units)
            assert torch.equal(made, expected)


@pytest.mark.parametrize("compute", BOTH)
@pytest.mark.parametrize("units", [2, 64, 384, MAX_UNITS])
def test_both_ways_give_the_bits_of_the_definition(
    compute: Callable[..., Tensor], units: int
) -> None:
    ids = [0, 2**31, 2**53 + 1, MAX_ID] if units <= 384 else [MAX_ID]
    stream = splitmix(splitmix(5 + GOLDEN) ^ splitmix(3 + 2 * GOLDEN))
    made = compute(torch.tensor(ids), units, units // 2, stream=stream)
    assert made.sum(-1).tolist() == [units // 2] * len(ids)
    if units <= 384:
        assert made.tolist() == [
            reference_mask(instance, units, units // 2, seed=5, layer=3) for instance in ids
        ]


def test_masks_leave_the_ids_as_they_were() -> None:
    ids = torch.tensor([[0, 5], [2**62, MAX_ID]])
    for compute in BOTH:
        compute(ids, 8, 4, stream=1)
        assert ids.tolist() == [[0, 5], [2**62, MAX_ID]]


@given(units=st.integers(1, 5000), p=st.one_of(st.just(0.5), st.floats(0, 1)))
@example(units=5, p=0.5)
@example(units=10, p=0.25)
def test_k_is_p_units_rounded_half_up_and_never_all_or_nothing(units: int, p: float) -> None:
    on = int(np.floor(p * units + 0.5))
    if 0 < on < units:
        assert units_on(units, p) == on
    else:
        with pytest.raises(ValueError, match="choose p so that"):
            units_on(units, p)


def test_the_largest_layer_is_balanced() -> None:
    assert bits([5], MAX_UNITS, MAX_UNITS // 2).sum() == MAX_UNITS // 2


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("distance", [1, 2, 64, 4096])
def test_neighbouring_instances_have_independent_masks(place: int, distance: int) -> None:
    ids = torch.arange(place, place + 4000)
    check_independent(bits(ids), bits(ids + distance))


@pytest.mark.parametrize("place", PLACES)
def test_layers_have_independent_masks(place: int) -> None:
    ids = torch.arange(place, place + 3000)
    for first, second in [(0, 1), (1, 2), (0, 64), (3, 4)]:
        check_independent(bits(ids, layer=first), bits(ids, layer=second))


@pytest.mark.parametrize("place", PLACES)
def test_seeds_have_independent_masks(place: int) -> None:
    ids = torch.arange(place, place + 3000)
    members = [derive_seed(0, member, 2) for member in range(3)]
    for first, second in [
        (0, 1),
        (1, 2),
        (7, 2**40),
        (members[0], members[1]),
        (members[1], members[2]),
    ]:
        check_independent(bits(ids, seed=first), bits(ids, seed=second))


def test_seed_layer_and_instance_cannot_stand_in_for_one_another() -> None:
    ids = torch.arange(1, 1001)
    check_independent(bits(ids, seed=1, layer=2), bits(ids, seed=2, layer=1))
    check_independent(bits(ids, seed=5, layer=0), bits(ids, seed=0, layer=5))
    by_layer = torch.cat([bits([0], layer=layer) for layer in range(1, 1001)])
    by_seed = torch.cat([bits([0], seed=seed) for seed in range(1, 1001)])
    check_independent(by_layer, by_seed)
    check_independent(by_layer, bits(ids))
    check_independent(by_seed, bits(ids))


@pytest.mark.parametrize("place", PLACES)
def test_no_two_of_10_000_masks_are_equal(place: int) -> None:
    made = bits(torch.arange(place, place + 10_000))
    assert len(torch.unique(made, dim=0)) == 10_000


@pytest.mark.parametrize(("units", "on"), [(64, 32), (10, 3), (16, 8)])
@pytest.mark.parametrize("place", PLACES)
def test_every_unit_is_on_for_its_share_of_instances(place: int, units: int, on: int) -> None:
    share = on / units
    shares = bits(torch.arange(place, place + 10_000), units, on).double().mean(0)
    assert (shares - share).abs().max() < 5 * (share * (1 - share) / 10_000) ** 0.5


def test_units_of_a_mask_know_of_each_other_only_through_the_balance() -> None:
    made = bits(torch.arange(20_000), 16, 8).double()
    together = (made.T @ made / len(made))[~torch.eye(16, dtype=torch.bool)]
    expected = 8 / 16 * 7 / 15
    assert (together - expected).abs().max() < 5 * (expected * (1 - expected) / 20_000) ** 0.5


def test_mix_is_splitmix64() -> None:
    """First numbers of the published generator for the seeds 0 and 1234567."""
    assert [mix(step * GOLDEN) for step in (1, 2, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
    assert [mix(1234567 + step * GOLDEN) for step in (1, 2)] == [
        6457827717110365317,
        3203168211198807973,
    ]


@given(word=st.integers(-WORD, 2 * WORD))
def test_mix_works_modulo_2_to_the_64(word: int) -> None:
    assert mix(word) == mix(word % WORD) == splitmix(word)


@given(seed=seeds_in_range, path=st.lists(st.integers(0, 10**6), max_size=4))
def test_derived_seeds_fit_a_torch_generator(seed: int, path: list[int]) -> None:
    assert 0 <= derive_seed(seed, *path) <= MAX_ID


def test_derived_seeds_differ_for_every_seed_path_and_depth() -> None:
    """Member 1 of seed 0 is not member 0 of seed 1."""
    paths = [(), *product(range(30)), *product(range(30), repeat=2), *product(range(9), repeat=3)]
    derived = {derive_seed(seed, *path) for seed in range(4) for path in paths}
    assert len(derived) == 4 * len(paths)
