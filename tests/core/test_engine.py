"""Law 4: every path of the engine equals two plain forward passes per pair, for every kind of model."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from core import TurnoverDropout, TurnoverError, influence, turnover
from core.engine import path_for
from core.engine.heads import HeadPath
from core.engine.plain import PlainPath, both_halves, evaluating, row_count, run_model, take_rows
from core.masks import MAX_ID
from core.models.text import text_heads
from core.models.vision import small_vgg
from tests.core.builders import member_heads, naive_influence, randn, sequential_net, shaken, small_cnn, some_labels

IDS = [0, 1, 7, 10**8, 2**53 + 1, MAX_ID]
EXACT, SINGLE = 1e-9, 1e-4


def check_equal_to_naive(model: nn.Module, inputs: Tensor | Mapping[str, Tensor], labels: Tensor, path: type, **options: Any) -> None:
    """Both the path that `influence` picks (which must be `path`) and the reference give the naive loop's values."""
    assert isinstance(path_for(model, inputs), path)
    expected = naive_influence(model, inputs, labels, IDS, options.get("loss"))
    assert expected.abs().max() > 1e-3
    for plain in (False, True):
        made = influence(model, inputs, labels, IDS, plain=plain, **options)
        torch.testing.assert_close(made.values, expected, rtol=0, atol=EXACT)


@given(
    groups=st.sampled_from([None, 2, 4, 8]), classes=st.sampled_from([2, 10]), members=st.integers(1, 3), seed=st.integers(0, 10**6), targets=st.integers(1, 4)
)
def test_heads_of_any_shape(groups: int | None, classes: int, members: int, seed: int, targets: int) -> None:
    model = member_heads(8, 16, classes, members=members, groups=groups, seed=seed)
    check_equal_to_naive(model, randn(targets, 8, seed=seed), some_labels(targets, classes, seed), HeadPath)


@given(seed=st.integers(0, 10**6), ids=st.lists(st.integers(0, MAX_ID), min_size=1, max_size=30))
def test_heads_for_any_instances(seed: int, ids: list[int]) -> None:
    model, x, labels = member_heads(groups=4, seed=seed), randn(3, 8, seed=seed), some_labels(3, 3, seed)
    fast, slow = (influence(model, x, labels, ids, plain=plain).values for plain in (False, True))
    torch.testing.assert_close(fast, slow, rtol=0, atol=EXACT)


@pytest.mark.parametrize("groups", [None, 32])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, EXACT), (torch.float32, SINGLE)])
def test_text_heads_of_full_size(groups: int | None, dtype: torch.dtype, bound: float) -> None:
    model = shaken(text_heads(384, 2, members=2, groups=groups, seed=1), 1).to(dtype)
    x, labels = randn(3, 384).to(dtype), torch.tensor([0, 1, 1])
    fast, slow = (influence(model, x, labels, range(40), plain=plain) for plain in (False, True))
    torch.testing.assert_close(fast.values, slow.values, rtol=0, atol=bound)
    assert fast.values.dtype == dtype
    assert fast.path != slow.path
    torch.testing.assert_close(fast.values[:, :, :3], naive_influence(model, x, labels, [0, 1, 2]), rtol=0, atol=bound)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize(("shape", "groups"), [((1, 8, 8), 16), ((1, 8, 8), None), ((3, 16, 16), 8)])
def test_small_vgg(shape: tuple[int, int, int], groups: int | None, classes: int) -> None:
    model = shaken(small_vgg(shape, classes, members=2, groups=groups, seed=2), 3).double()
    check_equal_to_naive(model, randn(3, *shape), some_labels(3, classes), HeadPath)


def test_small_vgg_in_single_precision() -> None:
    model = small_vgg((1, 8, 8), 10, members=2, groups=16, seed=2)
    x, labels = randn(3, 1, 8, 8).float(), some_labels(3, 10)
    for plain in (False, True):
        made = influence(model, x, labels, IDS, plain=plain).values
        torch.testing.assert_close(made, naive_influence(model, x, labels, IDS), rtol=0, atol=SINGLE)


@pytest.mark.filterwarnings("ignore:with p=:UserWarning")
def test_heads_whose_masks_are_not_halves_take_the_reference_path() -> None:
    check_equal_to_naive(member_heads(9, 12, 3, groups=3), randn(3, 9), some_labels(3, 3), PlainPath)
    check_equal_to_naive(member_heads(8, 13, 3), randn(3, 8), some_labels(3, 3), PlainPath)


@pytest.mark.parametrize("classes", [2, 10])
def test_an_ordinary_network_of_a_user(classes: int) -> None:
    check_equal_to_naive(sequential_net(6, 8, classes), randn(4, 6), some_labels(4, classes), PlainPath)


@pytest.mark.filterwarnings("ignore:with p=:UserWarning")
def test_a_keep_rate_other_than_half() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(TurnoverDropout(8, p=0.25), nn.Linear(8, 3)).double()
    check_equal_to_naive(model, randn(4, 8), some_labels(4, 3), PlainPath)


def test_convolutions_with_batch_norm_and_channel_masks() -> None:
    """The engine evaluates, whatever the model's mode; so the loop must as well."""
    model, images, labels = small_cnn(3), randn(4, 1, 6, 6), some_labels(4, 3)
    expected = naive_influence(model, images, labels, IDS)
    model.train()
    torch.testing.assert_close(influence(model, images, labels, IDS).values, expected, rtol=0, atol=EXACT)
    assert expected.abs().max() > 1e-3


def tiny_bert(classes: int) -> BertForSequenceClassification:
    """A BERT of two layers with masks on token activations (3-D) and before the classifier (2-D)."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
    model = BertForSequenceClassification(BertConfig(**sizes, max_position_embeddings=16, num_labels=classes, initializer_range=0.5))
    for number, layer in enumerate(model.bert.encoder.layer):
        layer.intermediate = nn.Sequential(layer.intermediate, TurnoverDropout(32, groups=8, layer=number))
    model.classifier = nn.Sequential(TurnoverDropout(16, layer=2), model.classifier)
    return model.double().eval()


@pytest.mark.parametrize("classes", [2, 10])
def test_bert_with_masks_inside_and_named_inputs(classes: int) -> None:
    tokens = torch.randint(3, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    keep = torch.ones(3, 9, dtype=torch.int64)
    keep[1, 5:] = 0
    check_equal_to_naive(tiny_bert(classes), {"input_ids": tokens, "attention_mask": keep}, some_labels(3, classes), PlainPath)


def test_bert_is_evaluated_without_its_own_dropout() -> None:
    model, inputs = tiny_bert(2).train(), {"input_ids": torch.randint(3, 50, (2, 7))}
    first, second = (influence(model, inputs, torch.tensor([0, 1]), IDS).values for _ in range(2))
    assert torch.equal(first, second)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the margin of the label over the other classes."""
    own = logits.gather(1, labels[:, None])[:, 0]
    return logits.logsumexp(1) - 2 * own


@pytest.mark.parametrize("path", [HeadPath, PlainPath])
def test_a_loss_of_one_s_own(path: type) -> None:
    model = member_heads() if path is HeadPath else sequential_net(8, 12, 3)
    check_equal_to_naive(model, randn(4, 8), some_labels(4, 3), path, loss=margin)
    assert not torch.allclose(
        influence(model, randn(4, 8), some_labels(4, 3), IDS, margin).values, influence(model, randn(4, 8), some_labels(4, 3), IDS).values
    )


@pytest.mark.parametrize("squeezed", [False, True])
def test_models_with_a_single_logit(squeezed: bool) -> None:
    """Binary cross-entropy of logits `(R, 1)` or `(R,)`, with whole or real labels."""
    model, labels = sequential_net(6, 8, 1), torch.tensor([0, 1, 1])
    if squeezed:
        model.append(nn.Flatten(0))
    by_hand = naive_influence(model, randn(3, 6), labels, IDS, lambda logits, label: nn.functional.softplus(logits.flatten() * (1 - 2 * label)))
    for given_labels in (labels, labels.double()):
        torch.testing.assert_close(influence(model, randn(3, 6), given_labels, IDS).values, by_hand, rtol=0, atol=EXACT)


def test_heads_with_a_single_logit() -> None:
    labels = torch.tensor([0, 1, 1])
    fast, slow = (influence(member_heads(classes=1, groups=4), randn(3, 8), labels, IDS, plain=plain).values for plain in (False, True))
    torch.testing.assert_close(fast, slow, rtol=0, atol=EXACT)
    assert fast.abs().max() > 1e-3


def test_labels_of_every_token() -> None:
    """A label may be a row of labels: here one a token, and the loss of a row is their sum."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), TurnoverDropout(8), nn.Linear(8, 3)).double()
    check_equal_to_naive(model, randn(2, 5, 4), torch.randint(0, 3, (2, 5)), PlainPath, loss=loss)


class Sizes:
    """A path cut into tiles of other sizes."""

    def __init__(self, targets: int, instances: int) -> None:
        self.targets, self.instances = targets, instances

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        path = path_for(*arguments, **options)
        path.targets_per_tile, path.instances_per_tile = self.targets, self.instances
        return path


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("targets", "instances"), [(1, 1), (2, 3), (3, 5), (7, 1000), (1000, 7), (1000, 1000)])
def test_law_5_the_size_of_the_tiles_changes_nothing(targets: int, instances: int, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, labels = member_heads(groups=4), randn(11, 8), some_labels(11, 3)
    expected = influence(model, x, labels, range(20), plain=plain).values
    monkeypatch.setattr("core.influences.path_for", Sizes(targets, instances))
    torch.testing.assert_close(influence(model, x, labels, range(20), plain=plain).values, expected, rtol=0, atol=EXACT)


def test_a_path_serves_tiles_in_any_order() -> None:
    """What a path keeps of one slice of targets must not answer for another."""
    model, x, ids = member_heads(groups=4), randn(6, 8), torch.tensor(IDS)
    path = path_for(model, x)
    slices = [slice(0, 3), slice(3, 6), slice(0, 3), slice(0, 2)]
    with evaluating(model):
        for targets in slices:
            for made, expected in zip(path.tile(targets, ids), PlainPath(model, x).tile(targets, ids), strict=True):
                torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)


def test_tiles_hold_logits_of_both_halves() -> None:
    model, x, ids = sequential_net(), randn(4, 6), torch.tensor(IDS)
    masked, flipped = PlainPath(model, x).tile(slice(1, 3), ids)
    for row, instance in enumerate(IDS):
        for made, half in ((masked, False), (flipped, True)):
            with turnover([instance] * 2, flipped=half):
                torch.testing.assert_close(made[0, :, row], model(x[1:3]), rtol=0, atol=1e-12)


def test_progress_counts_every_value() -> None:
    told: list[int] = []
    influence(member_heads(), randn(5, 8), some_labels(5, 3), range(700), progress=told.append)
    assert sum(told) == 3 * 5 * 700
    assert len(told) > 1


# What the engine leaves as it was


def state(model: nn.Module) -> list[Any]:
    """Everything about a model that its user would not want changed."""
    values = [(value.clone(), value.requires_grad) for value in model.state_dict(keep_vars=True).values()]
    return [values, [parameter.grad for parameter in model.parameters()], [module.training for module in model.modules()]]


def random_states() -> list[bytes]:
    return [torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()]  # type: ignore[union-attr,index]


@pytest.mark.parametrize("fails", [False, True])
def test_mode_gradients_statistics_and_random_state_are_left_alone(fails: bool) -> None:
    model = small_cnn(3).train()
    model.body[1].eval()
    model.body[0].weight.requires_grad_(False)
    before, random_before = state(model), random_states()

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if fails:
            raise ZeroDivisionError
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    try:
        made = influence(model, randn(3, 1, 6, 6), some_labels(3, 3), IDS, loss)
    except ZeroDivisionError:
        assert fails
    else:
        assert not made.values.requires_grad
        assert not fails
    after = state(model)
    assert all(torch.equal(one, other) and wanted == still for (one, wanted), (other, still) in zip(before[0], after[0], strict=True))
    assert after[1:] == before[1:]
    assert random_states() == random_before
    assert torch.is_grad_enabled()


def test_our_models_are_built_without_the_global_random_state() -> None:
    before = random_states()
    models = member_heads(), small_vgg((1, 8, 8), 3, members=2, groups=8, seed=0)
    assert random_states() == before
    torch.manual_seed(99)
    again = member_heads(), small_vgg((1, 8, 8), 3, members=2, groups=8, seed=0)
    for one, other in zip(models, again, strict=True):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


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
