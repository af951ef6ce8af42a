"""Budgets in words, tiles within them, and going on in smaller pieces where memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.helpers.builders import HALVES, KINDS, PLAIN, Net, a_case, randn, some_labels
from turnover import TurnoverDropout, TurnoverError, influence, mean_influence, top_influences
from turnover.attribution.engine import backend_for
from turnover.attribution.engine.checked import CheckedBackend
from turnover.attribution.engine.tiling import (
    Cost,
    Tiling,
    default_budget,
    is_out_of_memory,
    parse_memory,
    tile_size,
)
from turnover.models.heads import turnover_heads

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 8 bytes."
    ),
    MemoryError("Unable to allocate 8 bytes"),
]
SIZES = {
    **{"1M": 2**20, "512M": 2**29, "2G": 2**31, "1t": 2**40, "4096k": 2**22, "1048576": 2**20},
    **{"2000000b": 2_000_000, "1.5 GB": 3 * 2**29, " 2 gib ": 2**31, "3MiB": 3 * 2**20},
    **{"0.5g": 2**29, "1024 KB": 2**20, "1.0000001M": 2**20, "007M": 7 * 2**20},
}
NO_SIZES = (
    *("", " ", "M", "G", "much", "-1G", "+1G", "1e9", "1,5G", "1.G", ".5G", "1..5G", "0x10G"),
    *("1 G B", "2GBB", "2PB", "1G 2G", "1_000_000_000", "0", "0G", "1", "512k", "0.9M"),
    *("1048575", "nan", "inf", "infG", "1G\n1"),
)
SOME_SIZE = st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,9})? ?[kmgtKMGT]?i?[bB]?", fullmatch=True)
every_kind = pytest.mark.parametrize("kind", KINDS)


# Sizes in words


def test_sizes_are_understood_or_refused() -> None:
    assert {text: parse_memory(text) for text in SIZES} == SIZES
    for text in NO_SIZES:
        with pytest.raises(TurnoverError, match="at least 1M, such as 512M or 4G") as refusal:
            parse_memory(text)
        assert str(refusal.value).startswith(f"--memory {text}: ")


@given(text=st.one_of(st.text(max_size=6), SOME_SIZE, st.integers(2**20, 2**50).map(str)))
@example(text="9" * 400)
@example(text="1" + "0" * 308 + "T")
def test_any_text_is_a_size_or_refused_in_words_and_bytes_are_themselves(text: str) -> None:
    with suppress(TurnoverError):
        assert (size := parse_memory(text)) >= 2**20
        assert not (text.isascii() and text.isdecimal()) or size == int(text)


def test_the_default_budget_is_some_memory_but_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert 2**20 < default_budget(cpu) <= 2**30
    known = {"SC_AVPHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", known.__getitem__)
    assert default_budget(cpu) == 1000 * 4096 // 4

    def refusing(error: type[Exception]) -> Callable[[str], NoReturn]:
        def function(_: str) -> NoReturn:
            raise error

        return function

    for refusal in (ValueError, OSError):
        monkeypatch.setattr("os.sysconf", refusing(refusal))
        assert default_budget(cpu) == 2**30


# Tiles


costs = st.builds(Cost, st.integers(0, 10**7), st.integers(1, 10**5))
memories = st.one_of(st.integers(1, 2**36), st.integers(1, 10**7))


def bytes_of(cost: Cost, tiling: Tiling) -> int:
    return tiling.targets * cost.target + tiling.targets * tiling.instances * cost.pair


@settings(max_examples=300)
@given(costs, memories, st.integers(1, 300), st.integers(1, 5000))
def test_a_tile_is_as_large_as_the_budget_allows_or_as_small_as_can_be(
    cost: Cost, memory: int, targets: int, instances: int
) -> None:
    """One target more does not fit, or is not wanted; the same for twice the instances."""
    tiling = tile_size(cost, memory, targets, instances)
    assert 1 <= tiling.targets <= targets
    assert 1 <= tiling.instances <= instances
    fits = bytes_of(cost, tiling) <= memory
    assert fits or (tiling.targets == 1 and tiling.instances <= 16)
    assume(fits and instances >= 16)
    more, twice = (
        Tiling(tiling.targets + 1, tiling.instances),
        Tiling(1, 2 * tiling.instances + 1),
    )
    assert tiling.targets == targets or bytes_of(cost, more) > memory
    assert tiling.instances == instances or bytes_of(cost, twice) > memory


@given(targets=st.integers(1, 300), instances=st.integers(1, 5000))
def test_a_tile_shrinks_to_one_pair_and_no_further(targets: int, instances: int) -> None:
    tiling = Tiling(targets, instances)
    area = targets * instances
    while tiling.shrink():
        assert tiling.targets * tiling.instances < area
        area = tiling.targets * tiling.instances
    assert (tiling.targets, tiling.instances) == (1, 1)


@given(
    sizes=st.tuples(*[st.integers(1, 20)] * 4),
    starts=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    shrinking=st.booleans(),
)
def test_rectangles_cover_everything_once_also_if_the_tile_shrinks_meanwhile(
    sizes: tuple[int, ...], starts: tuple[int, int], shrinking: bool
) -> None:
    rows, columns, targets, instances = sizes
    tiling, covered = Tiling(targets, instances), []
    all_rows, all_columns = (
        range(start, start + size) for start, size in zip(starts, (rows, columns), strict=True)
    )
    whole = (slice(places.start, places.stop) for places in (all_rows, all_columns))
    for own, others in tiling.rectangles(*whole):
        covered += product(range(own.start, own.stop), range(others.start, others.stop))
        if shrinking:
            tiling.shrink()
    assert sorted(covered) == sorted(product(all_rows, all_columns))


class Largest(TorchDispatchMode):
    """Watches for the largest result of any operation, and for the most rows of a linear layer.

    Beside the whole result's own shape.
    """

    def __init__(self, result: tuple[int, ...]) -> None:
        super().__init__()
        self.result, self.bytes, self.rows = result, 0, 0

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = operation(*args, **(kwargs or {}))
        for leaf in () if operation.is_view else tree_leaves(made):
            if isinstance(leaf, Tensor) and leaf.shape != self.result:
                self.bytes = max(self.bytes, leaf.nbytes)
        if operation is torch.ops.aten.addmm.default:
            self.rows = max(self.rows, made.shape[0])
        return made


@pytest.mark.parametrize("groups", [16, None])
@pytest.mark.parametrize("memory", [2**20, 2**22, 2**24])
def test_no_result_of_heads_is_larger_than_the_budget(groups: int | None, memory: int) -> None:
    """Beside the activations of as many pairs as stay in a core's cache."""
    model = turnover_heads((128,), 2, members=1, groups=groups, seed=1)
    x, labels = randn(200, 128).float(), some_labels(200, 2)
    with torch.no_grad(), Largest((1, 200, 300)) as watch:
        influence(model, x, labels, range(300), memory=memory)
    assert watch.bytes <= max(memory, 2**11 * 384 * 4)


@pytest.mark.parametrize("memory", [2**20, 2**22])
def test_no_result_of_a_chain_is_larger_than_the_budget(memory: int) -> None:
    """Beside copies of its weights."""
    one, two = (TurnoverDropout(256, layer=number, seed=1) for number in range(2))
    inside = (nn.Linear(16, 256), one, nn.Linear(256, 256), nn.ReLU(), two, nn.Linear(256, 3))
    model, x = nn.Sequential(*inside).double(), randn(100, 16)
    with torch.no_grad(), Largest((1, 100, 150)) as watch:
        made = influence(model, x, some_labels(100, 3), range(150), memory=memory)
    assert made.backend.startswith(HALVES)
    assert watch.bytes <= memory


@pytest.mark.parametrize("rows", [5, 40])
def test_a_pass_has_few_rows_also_where_a_fast_path_is_given_up(rows: int) -> None:
    """The tile was made for that path; the plain one must not do all its pairs in one pass."""
    model = Net(lambda net, x: net.tail(net.first(x) + torch.rand(())))
    with torch.no_grad(), Largest(()) as watch:
        made = influence(model, randn(rows, 6), some_labels(rows, 3), range(300))
    assert made.backend.startswith(PLAIN)
    assert watch.rows <= 256


# Where memory runs out


def short_of_memory(most: int, error: BaseException) -> Callable[..., Any]:
    """`backend_for`, giving paths that can compute so many pairs at a time."""

    def function(*arguments: Any, **options: Any) -> Any:
        path = backend_for(*arguments, **options)
        for part in (path.backend, path.plain) if isinstance(path, CheckedBackend) else (path,):
            part.tile = limited(part.tile)
        return path

    def limited(real: Callable[[slice, Tensor], Any]) -> Callable[[slice, Tensor], Any]:
        def tile(targets: slice, ids: Tensor) -> Any:
            if (targets.stop - targets.start) * len(ids) > most:
                raise error
            return real(targets, ids)

        return tile

    return function


def check_complete(kind: str, most: int, error: BaseException) -> None:
    """With memory for so many pairs all is the same, and progress counts each value once."""
    model, x, labels, _ = a_case(kind)
    ids, told = range(11), list[int]()
    whole, ends = influence(model, x, labels, ids), top_influences(model, x, labels, ids, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnover.attribution.influence.backend_for", short_of_memory(most, error))
        made = influence(model, x, labels, ids, progress=told.append)
        mean = mean_influence(model, x, labels, ids)
        found = top_influences(model, x, labels, ids, 5)
    assert made.backend == whole.backend
    assert sum(told) == whole.values.numel()
    assert max(told) <= most * len(whole.values)
    pairs = [(made.values, whole.values), (mean, whole.values.mean(1))]
    for side in ("proponents", "opponents"):
        values, places = getattr(found, side), getattr(found, f"{side[:-1]}_ids")
        pairs += [(whole.mean.gather(1, places), values), (values, getattr(ends, side))]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@every_kind
@pytest.mark.parametrize("most", [1, 40])
def test_a_run_short_of_memory_is_complete_and_right(kind: str, most: int) -> None:
    check_complete(kind, most, FULL[1])


@pytest.mark.parametrize("error", FULL)
def test_memory_may_run_out_in_any_way(error: BaseException) -> None:
    check_complete("chain", 40, error)


def test_memory_may_run_out_in_the_loss() -> None:
    def loss(logits: Tensor, rows: Tensor) -> Tensor:
        if len(logits) > 10:
            raise FULL[1]
        return nn.functional.cross_entropy(logits, rows, reduction="none")

    model, x, labels, _ = a_case("chain")
    made = influence(model, x, labels, range(23), loss).values
    whole = influence(model, x, labels, range(23)).values
    torch.testing.assert_close(made, whole, rtol=0, atol=1e-12)


@every_kind
@pytest.mark.parametrize("function", [influence, mean_influence, top_influences])
def test_without_memory_for_one_pair_one_line_says_so(
    kind: str, function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, labels, _ = a_case(kind)
    monkeypatch.setattr("turnover.attribution.influence.backend_for", short_of_memory(0, FULL[0]))
    said = r"^[^\n]*memory runs out even for one target and one training instance[^\n]*$"
    with pytest.raises(TurnoverError, match=said) as refusal:
        function(model, x, labels, range(50))
    assert refusal.value.__context__ is None or refusal.value.__suppress_context__


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, labels, _ = a_case("groups")
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    monkeypatch.setattr("turnover.attribution.influence.backend_for", short_of_memory(10, error))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        influence(model, x, labels, range(50))
    assert not is_out_of_memory(error)


def test_what_torch_and_numpy_say_when_memory_runs_out_is_understood() -> None:
    for allocate in (torch.empty, np.empty):
        with pytest.raises((RuntimeError, MemoryError)) as error:
            allocate(2**50)
        assert is_out_of_memory(error.value)
