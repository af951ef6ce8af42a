"""Small tasks on all cores: each is done once, and torch's threads are what they were."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from turnover.attribution.engine.tiling import spread
from turnover.research.bench.timing import threads as threads_inside

CPU = torch.device("cpu")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 57])
def test_every_item_is_worked_on_once(threads: int, count: int) -> None:
    done: list[int] = []
    with threads_inside(threads):
        spread(done.append, range(count), CPU)
        assert torch.get_num_threads() == threads
    assert sorted(done) == list(range(count))


def test_items_run_side_by_side_in_as_many_threads_as_torch_has() -> None:
    """Each of the two waits for the other one."""
    together, seen = threading.Barrier(2), set()

    def work(_: int) -> None:
        together.wait(10)
        seen.add((threading.current_thread().name, torch.get_num_threads()))

    with threads_inside(2):
        spread(work, range(8), CPU)
    assert 1 <= len({name for name, _ in seen}) <= 2
    assert {threads for _, threads in seen} == {1}
    assert threading.current_thread().name not in {name for name, _ in seen}


@pytest.mark.parametrize(("threads", "device"), [(1, "cpu"), (2, "cuda"), (2, "mps")])
def test_without_threads_to_spread_on_items_run_in_order_where_they_are_asked_for(
    threads: int, device: str
) -> None:
    seen: list[tuple[int, int]] = []
    with threads_inside(threads):
        spread(
            lambda item: seen.append((item, threading.get_ident())), range(5), torch.device(device)
        )
    assert seen == [(item, threading.get_ident()) for item in range(5)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "error", [ZeroDivisionError("3"), torch.OutOfMemoryError("3"), KeyboardInterrupt("3")]
)
def test_the_first_error_is_raised_and_all_goes_on_afterwards(
    threads: int, error: BaseException
) -> None:
    """The first in the order of the items, not in time."""

    def work(item: int) -> None:
        if item == 3:
            time.sleep(0.02)
            raise error
        if item > 3:
            raise ValueError("a later one")

    done: list[int] = []
    with threads_inside(threads):
        for _ in range(2):
            with pytest.raises(type(error), match="3"):
                spread(work, range(20), CPU)
            assert torch.get_num_threads() == threads
        test_items_run_side_by_side_in_as_many_threads_as_torch_has()
        spread(done.append, range(4), CPU)
    assert sorted(done) == [0, 1, 2, 3]


def test_there_are_no_gradients_in_any_thread() -> None:
    weight, seen = torch.ones(2, requires_grad=True), []
    with threads_inside(2), torch.no_grad():
        spread(lambda _: seen.append((weight * 2).requires_grad), range(6), CPU)
    assert seen == [False] * 6
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("fails", [False, True])
def test_two_threads_may_spread_at_once(fails: bool) -> None:
    """The second does its work itself, and neither leaves another number of threads behind."""
    begin = threading.Barrier(2)

    def ask(number: int) -> tuple[list[int], int]:
        torch.set_num_threads(2)
        torch.get_num_threads()  # a thread's own number is settled when it first asks
        begin.wait(10)
        done: list[int] = []

        def work(item: int) -> None:
            time.sleep(0.001)
            done.append(item)
            if fails and item == 30:
                raise ZeroDivisionError

        for _ in range(3):
            try:
                spread(work, range(40), CPU)
            except ZeroDivisionError:
                assert fails
            else:
                assert not fails
        return done, torch.get_num_threads()

    with threads_inside(2), ThreadPoolExecutor(2) as pool:
        results = list(pool.map(ask, range(2)))
        assert torch.get_num_threads() == 2
    for done, threads in results:
        assert threads == 2
        assert fails or sorted(done) == sorted([*range(40)] * 3)


def test_an_item_may_spread_items_of_its_own() -> None:
    done: list[tuple[int, int]] = []
    with threads_inside(2):
        spread(
            lambda item: spread(lambda inner: done.append((item, inner)), range(3), CPU),
            range(4),
            CPU,
        )
        assert torch.get_num_threads() == 2
    assert sorted(done) == [(item, inner) for item in range(4) for inner in range(3)]
