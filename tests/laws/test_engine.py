"""What holds for every path of the engine: threads, tiles and budgets change nothing, and the
engine changes nothing either.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from tests.helpers.builders import (
    KINDS,
    ODD_IDS,
    PLAIN,
    a_case,
    check_law_4,
    failing_after,
    member_heads,
    randn,
    sequential_net,
    small_cnn,
    some_labels,
)
from turnover import (
    TurnoverDropout,
    TurnoverError,
    influence,
    mean_influence,
    top_influences,
    turnover,
)
from turnover.attribution.engine import backend_for
from turnover.attribution.engine.checked import CheckedBackend
from turnover.attribution.engine.naive import (
    NaiveBackend,
    both_halves,
    evaluating,
    row_count,
    run_model,
    take_rows,
)
from turnover.attribution.engine.tiling import Tiling
from turnover.attribution.masks import MAX_ID, instance_masks
from turnover.models.heads import small_vgg
from turnover.research.bench.timing import threads as threads_inside

BUDGET = 2**30
every_kind = pytest.mark.parametrize("kind", KINDS)


# Law 4


@every_kind
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_law_4(kind: str, dtype: torch.dtype) -> None:
    """For the path that is taken by default, and for the reference."""
    model, x, labels, path = a_case(kind)
    model, x = model.to(dtype), x.to(dtype)
    made = check_law_4(model, x, labels, path)
    assert made.values.dtype == dtype
    plain = check_law_4(model, x, labels, PLAIN, plain=True)
    assert plain.backend == "plain: two forward passes per pair"


@every_kind
@given(ids=st.lists(st.integers(0, MAX_ID), min_size=1, max_size=30))
@settings(max_examples=8)
def test_law_4_for_any_instances(kind: str, ids: list[int]) -> None:
    model, x, labels, _ = a_case(kind)
    fast, slow = (influence(model, x, labels, ids, plain=plain).values for plain in (False, True))
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:with p=:UserWarning")
def test_a_keep_rate_other_than_half() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(TurnoverDropout(8, p=0.25), nn.Linear(8, 3)).double()
    for rows in (4, 20):
        check_law_4(model, randn(rows, 8), some_labels(rows, 3), "")


@pytest.mark.parametrize("rows", [2, 17])
def test_labels_of_every_token(rows: int) -> None:
    """A label may be a row of labels: here one a token, and the loss of a row is their sum."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), TurnoverDropout(8), nn.Linear(8, 3)).double()
    check_law_4(model, randn(rows, 5, 4), torch.randint(0, 3, (rows, 5)), "", loss=loss)


# Law 5


def cut(targets: int, instances: int) -> Callable[..., Any]:
    """`backend_for`, giving paths with tiles of this size."""

    def function(*arguments: Any, **options: Any) -> Any:
        path = backend_for(*arguments, **options)
        for part in (path.backend, path.plain) if isinstance(path, CheckedBackend) else (path,):
            part.tiling = Tiling(targets, instances)
        return path

    return function


@every_kind
@pytest.mark.parametrize(
    ("targets", "instances"), [(1, 1), (2, 3), (3, 5), (7, 1000), (1000, 7), (1000, 1000)]
)
def test_law_5_the_size_of_the_tiles_changes_nothing(
    kind: str, targets: int, instances: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, labels, path = a_case(kind)
    expected = influence(model, x, labels, range(20)).values
    monkeypatch.setattr("turnover.attribution.influence.backend_for", cut(targets, instances))
    made = influence(model, x, labels, range(20))
    assert made.backend.startswith(path)
    torch.testing.assert_close(made.values, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        mean_influence(model, x, labels, range(20)), expected.mean(1), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        top_influences(model, x, labels, range(20), 3).opponents,
        -(-expected.mean(0)).topk(3).values,
        rtol=0,
        atol=1e-12,
    )


@every_kind
@pytest.mark.parametrize("memory", [1, 2**10, 2**14, 2**17, 2**24, 2**40])
def test_law_5_the_budget_changes_nothing(kind: str, memory: int) -> None:
    model, x, labels, path = a_case(kind)
    expected, made = (
        influence(model, x, labels, range(40)),
        influence(model, x, labels, range(40), memory=memory),
    )
    assert made.backend.startswith(path)
    torch.testing.assert_close(made.values, expected.values, rtol=0, atol=1e-12)


@every_kind
def test_law_5_the_threads_inside_change_nothing_and_a_second_call_not_a_bit(kind: str) -> None:
    model, x, labels, _ = a_case(kind)
    made = []
    for count in (1, 2):
        with threads_inside(count):
            first, second = (influence(model, x, labels, range(70)).values for _ in range(2))
        assert torch.equal(first, second)
        made.append(first)
    torch.testing.assert_close(*made, rtol=0, atol=1e-12)


@every_kind
def test_threads_with_other_instances_on_one_model_get_their_own(kind: str) -> None:
    """Beside one that asks for the model itself, which is an ordinary model there (law 6)."""
    model, x, labels, _ = a_case(kind)
    ids = [range(start, start + 30) for start in (0, 10**6, 2**60)]
    expected = [influence(model, x, labels, own).values for own in ids]
    ordinary, start = run_model(model, x), threading.Barrier(4)

    def work(number: int) -> list[Tensor]:
        start.wait(10)
        return [
            run_model(model, x) if number == 3 else influence(model, x, labels, ids[number]).values
            for _ in range(4)
        ]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    for made, right in zip(results, [*expected, ordinary], strict=True):
        for values in made:
            torch.testing.assert_close(values, right, rtol=0, atol=1e-12)


@every_kind
def test_progress_counts_every_value_once(kind: str) -> None:
    model, x, labels, _ = a_case(kind)
    told: list[int] = []
    made = influence(model, x, labels, range(700), progress=told.append)
    assert sum(told) == made.values.numel()
    assert min(told) > 0


def test_tiles_hold_logits_of_both_halves() -> None:
    model, x, ids = sequential_net(), randn(4, 6), torch.tensor(ODD_IDS)
    masked, flipped = NaiveBackend(model, x, BUDGET).tile(slice(1, 3), ids)
    for row, instance in enumerate(ODD_IDS):
        for made, half in ((masked, False), (flipped, True)):
            with turnover([instance] * 2, flipped=half):
                torch.testing.assert_close(made[0, :, row], model(x[1:3]), rtol=0, atol=1e-12)


# What the engine leaves as it was


def state(model: nn.Module) -> list[Any]:
    """Everything about a model that its user would not want changed."""
    values = [
        (value.clone(), value.requires_grad) for value in model.state_dict(keep_vars=True).values()
    ]
    grads = [
        None if parameter.grad is None else parameter.grad.clone()
        for parameter in model.parameters()
    ]
    hooks = [
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    ]
    return [
        values,
        grads,
        [module.training for module in model.modules()],
        hooks,
        [sorted(vars(module)) for module in model.modules()],
    ]


def surroundings() -> list[Any]:
    """Everything about the process and torch's own state that anyone would not want changed."""
    randomness = [
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),
        random.getstate(),
    ]  # type: ignore[index,union-attr]
    modes = [
        torch.is_grad_enabled(),
        _get_current_dispatch_mode(),
        torch.is_autocast_enabled("cpu"),
        torch.is_inference_mode_enabled(),
    ]
    return [
        *randomness,
        *modes,
        torch.get_num_threads(),
        nn.Module.__call__,
        nn.Module.__getattr__,
        threading.active_count(),
    ]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return (
        torch.equal(one, other)
        if isinstance(one, Tensor) and isinstance(other, Tensor)
        else bool(one == other)
    )


@every_kind
@pytest.mark.parametrize("fault", [None, "loss", "model"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_everything_is_left_as_it_was(
    kind: str,
    fault: str | None,
    threads: int,
    dtype: torch.dtype | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if the loss fails in the middle, or a layer does."""
    model, x, labels, _ = a_case(kind)
    model, x = model.float().train(), x.float()
    next(model.parameters()).requires_grad_(False)
    list(model.parameters())[-1].grad = torch.ones_like(list(model.parameters())[-1])
    next(model.modules()).register_forward_hook(lambda *_: None)
    list(model.modules())[1].eval()
    real = nn.functional.cross_entropy
    loss = failing_after(
        2 if fault == "loss" else 10**9,
        lambda logits, rows: real(logits, rows, reduction="none"),
        ZeroDivisionError(),
    )
    with threads_inside(threads), monkeypatch.context() as patch:
        if fault == "model":
            patch.setattr(
                "turnover.attribution.dropout.instance_masks",
                failing_after(3, instance_masks, ZeroDivisionError()),
            )
        before, around, given_x, given_labels = (
            state(model),
            surroundings(),
            x.clone(),
            labels.clone(),
        )
        try:
            made = influence(model, x, labels, range(80), loss, dtype=dtype)
        except ZeroDivisionError:
            assert fault
        else:
            assert not fault
            assert not made.values.requires_grad
        assert same(surroundings(), around)
        assert same([state(model), x, labels], [before, given_x, given_labels])
    run_model(model, x)


def test_our_models_are_built_without_the_global_random_state() -> None:
    before = surroundings()[:3]
    models = member_heads(), small_vgg((1, 8, 8), 3, members=2, groups=8, seed=0)
    assert surroundings()[:3] == before
    torch.manual_seed(99)
    again = member_heads(), small_vgg((1, 8, 8), 3, members=2, groups=8, seed=0)
    for one, other in zip(models, again, strict=True):
        assert all(
            torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items()
        )


# Rows


def test_named_tensors_of_different_length_are_refused() -> None:
    with pytest.raises(TurnoverError, match=r"\[2, 3\] rows; all must have the same number"):
        row_count({"a": torch.zeros(2), "b": torch.zeros(3)})


def test_rows_are_taken_by_number_from_one_tensor_or_several() -> None:
    batch, order = torch.arange(12).view(4, 3), torch.tensor([2, 0, 2])
    assert torch.equal(take_rows(batch, order, torch.device("cpu")), batch[order])  # type: ignore[arg-type]
    named = take_rows({"a": batch, "b": batch + 1}, order, torch.device("cpu"))
    assert isinstance(named, Mapping)
    assert torch.equal(named["b"], batch[order] + 1)
    assert row_count(batch) == row_count({"a": batch, "b": batch}) == 4


def test_both_halves_are_one_pass_under_each_mask() -> None:
    model, x, ids = sequential_net(), randn(3, 6), torch.tensor([4, 5, 6])
    masked, flipped = both_halves(model, x, ids)
    with turnover(ids):
        assert torch.equal(masked, run_model(model, x))
    assert not torch.equal(masked, flipped)


def test_threads_on_one_model_in_training_mode_do_not_disturb_each_other() -> None:
    """The one that ends first must not put the others back into training mode."""
    model = small_cnn(3).train()
    long_started, short_ended = threading.Event(), threading.Event()
    modes: list[bool] = []

    def long() -> None:
        with evaluating(model):
            long_started.set()
            short_ended.wait(10)
            modes.append(any(module.training for module in model.modules()))

    worker = threading.Thread(target=long)
    worker.start()
    long_started.wait(10)
    with evaluating(model):
        modes.append(any(module.training for module in model.modules()))
    short_ended.set()
    worker.join()
    assert modes == [False, False]
    assert all(module.training for module in model.modules())
