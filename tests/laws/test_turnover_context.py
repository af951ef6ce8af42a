"""The context that says whose masks apply: ids, numbers of layers, nesting, threads and tasks."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.helpers.builders import sequential_net
from turnover import TurnoverDropout, TurnoverError, turnover
from turnover.attribution.dropout import turnover_layers
from turnover.attribution.masks import MAX_ID
from turnover.attribution.scope import as_instance_ids

pytestmark = pytest.mark.filterwarnings("ignore:with p=:UserWarning")
ids_in_range = st.integers(0, MAX_ID)


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([0, 1], "2 instance ids for a batch of 3 rows"),
        ([0, 1, 2, 3], "4 instance ids for a batch of 3 rows"),
        ([], "0 instance ids"),
        (7, "1 instance ids for a batch of 3 rows"),
        ([[0, 1, 2]], "give one id per row"),
        ([0, -1, 2], "-1 is negative"),
        (torch.tensor([0, -5, 2]), "-5 is negative"),
        ([0.0, 1.0, 2.0], "whole numbers"),
        (torch.tensor([0.0, 1.0, 2.0]), "whole numbers"),
        (torch.tensor([1 + 0j, 2, 3]), "whole numbers"),
        ([True, False, True], "whole numbers"),
        (torch.tensor([True, False, True]), "whole numbers"),
        (np.array([0, 1, 2**63], np.uint64), "from 0 to 2\\^63-1"),
        ([0, 1, 2**63], "from 0 to 2\\^63-1"),
        ([0, 1, 2**70], "from 0 to 2\\^63-1"),
        (torch.tensor([0, 1, 2**63], dtype=torch.uint64), "from 0 to 2\\^63-1"),
        (["a", "b", "c"], "whole numbers"),
        ([None, 1, 2], "whole numbers"),
    ],
)
def test_ids_that_are_no_ids_are_refused(ids: object, reason: str) -> None:
    with pytest.raises(TurnoverError, match=reason), turnover(ids):  # type: ignore[arg-type]
        sequential_net()(torch.randn(3, 6, dtype=torch.float64))


@given(ids=st.lists(ids_in_range, max_size=5))
def test_ids_in_range_are_kept_as_they_are(ids: list[int]) -> None:
    assert as_instance_ids(ids).tolist() == ids
    assert as_instance_ids(np.array(ids, np.uint64)).tolist() == ids


def test_a_context_around_a_model_without_turnover_layers_is_an_error() -> None:
    with pytest.raises(TurnoverError, match="no TurnoverDropout layer ran"), turnover([0, 1]):
        nn.Linear(3, 2)(torch.randn(2, 3))


def test_a_model_without_turnover_layers_is_named() -> None:
    with pytest.raises(TurnoverError, match="Linear has no TurnoverDropout layer"):
        turnover_layers(nn.Linear(3, 2))


def test_layers_are_listed_in_the_order_of_the_modules() -> None:
    model = sequential_net()
    assert turnover_layers(model) == [model[0], model[3]]


@pytest.mark.parametrize(
    ("layer", "x"),
    [(TurnoverDropout(8), torch.ones(3, 7)), (TurnoverDropout(8, dim=1), torch.ones(3, 4, 8, 8))],
)
def test_activations_of_another_width_are_refused(layer: TurnoverDropout, x: Tensor) -> None:
    with pytest.raises(TurnoverError, match="masks 8 units, but dimension"), turnover([0, 1, 2]):
        layer(x)


def test_two_layers_with_the_same_number_are_refused() -> None:
    model = nn.Sequential(TurnoverDropout(8, layer=1), nn.Linear(8, 8), TurnoverDropout(8, layer=1))
    with (
        pytest.raises(TurnoverError, match="two turn-over layers share seed 0 and layer 1"),
        turnover([0]),
    ):
        model(torch.ones(1, 8))


def test_two_layers_with_the_same_number_and_different_seeds_are_fine() -> None:
    first, second = TurnoverDropout(8, layer=1, seed=1), TurnoverDropout(8, layer=1, seed=2)
    with turnover([0, 1]):
        assert nn.Sequential(first, second)(torch.ones(2, 8)).shape == (2, 8)
    assert not torch.equal(first.mask(range(20)), second.mask(range(20)))


def test_a_layer_may_run_twice_in_one_context() -> None:
    layer, x = TurnoverDropout(8), torch.ones(2, 8)
    with turnover([0, 1]):
        assert torch.equal(layer(layer(x)), layer.mask([0, 1]) ** 2)


def test_default_layers_are_numbered_in_the_order_they_run_and_get_different_masks() -> None:
    model = nn.Sequential(*(TurnoverDropout(64) for _ in range(4)))
    for _ in range(2):
        with turnover([5]):
            model(torch.ones(1, 64))
    assert [layer.layer for layer in turnover_layers(model)] == [0, 1, 2, 3]
    assert len({tuple(layer.mask([5])[0].tolist()) for layer in turnover_layers(model)}) == 4


def test_a_default_layer_keeps_clear_of_numbers_given_by_hand() -> None:
    """The count of layers that ran before may be a number that one of them was given."""
    model = nn.Sequential(TurnoverDropout(64, layer=1), TurnoverDropout(64), TurnoverDropout(64))
    with turnover([5]):
        model(torch.ones(1, 64))
    assert len({layer.layer for layer in turnover_layers(model)}) == 3


def test_numbers_once_given_stay_in_copies() -> None:
    model = nn.Sequential(TurnoverDropout(16), TurnoverDropout(16))
    with turnover([5]):
        model(torch.ones(1, 16))
    assert [layer.layer for layer in turnover_layers(copy.deepcopy(model))] == [0, 1]


def test_nested_contexts_apply_from_the_inside_out() -> None:
    layer, x = TurnoverDropout(16, layer=0), torch.ones(1, 16)
    with turnover([1]):
        outer = layer(x)
        with turnover([2], flipped=True):
            inner = layer(x)
        again = layer(x)
    assert torch.equal(outer, layer.mask([1]))
    assert torch.equal(inner, layer.mask([2], flipped=True))
    assert torch.equal(again, outer)


def test_a_context_ends_with_an_exception_inside_it_and_passes_it_on() -> None:
    layer, x = TurnoverDropout(8), torch.ones(1, 8)
    with pytest.raises(KeyError, match="mine"), turnover([0]):
        raise KeyError("mine")
    assert layer(x) is x
    with turnover([1]):
        with pytest.raises(ZeroDivisionError), turnover([2]):
            raise ZeroDivisionError
        assert torch.equal(layer(x), layer.mask([1]))
    with pytest.raises(TurnoverError), turnover([-1]):
        layer(x)
    assert layer(x) is x


def in_turns(work: Callable[[int, threading.Barrier], Tensor], workers: int) -> list[Tensor]:
    """What `work(number, barrier)` gives in threads that the barrier keeps in step."""
    barrier = threading.Barrier(workers)
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda number: work(number, barrier), range(workers)))


def test_threads_with_different_masks_on_one_model_do_not_mix() -> None:
    model, x = sequential_net(), torch.randn(5, 6, dtype=torch.float64)

    def alone(number: int) -> Tensor:
        with turnover(range(number, number + 5), flipped=number % 2 == 1):
            return model(x).detach()

    def in_step(number: int, barrier: threading.Barrier) -> Tensor:
        out = x
        for _ in range(30):
            with turnover(range(number, number + 5), flipped=number % 2 == 1):
                out = x
                for module in model:
                    barrier.wait(60)
                    out = module(out)
            barrier.wait(60)
        return out.detach()

    for number, made in enumerate(in_turns(in_step, 4)):
        assert torch.equal(made, alone(number))


def test_threads_that_number_new_layers_at_once_agree() -> None:
    model, x = nn.Sequential(*(TurnoverDropout(32) for _ in range(8))), torch.ones(1, 32)

    def run(_: int, barrier: threading.Barrier) -> Tensor:
        with turnover([4]):
            barrier.wait(60)
            return model(x)

    made = in_turns(run, 4)
    assert all(torch.equal(one, made[0]) for one in made)
    assert [layer.layer for layer in turnover_layers(model)] == list(range(8))


def test_a_context_is_not_seen_by_other_threads() -> None:
    layer, x = TurnoverDropout(8), torch.ones(1, 8)
    with turnover([0]), ThreadPoolExecutor(1) as pool:
        layer(x)
        assert pool.submit(layer, x).result() is x


def test_tasks_of_one_thread_with_different_masks_do_not_mix() -> None:
    layer, x = TurnoverDropout(16, layer=0), torch.ones(1, 16)

    async def task(instance: int) -> Tensor:
        with turnover([instance]):
            await asyncio.sleep(0)
            out: Tensor = layer(x)
            await asyncio.sleep(0)
            return out

    async def both() -> list[Tensor]:
        return await asyncio.gather(*(task(instance) for instance in range(10)))

    with ThreadPoolExecutor(
        1
    ) as elsewhere:  # this thread's event loop may be in use, by a browser for one
        made = elsewhere.submit(lambda: asyncio.run(both())).result()
    for instance, output in enumerate(made):
        assert torch.equal(output, layer.mask([instance]))
