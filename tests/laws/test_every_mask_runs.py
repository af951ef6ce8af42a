"""Law 10: a mask layer that ran in training runs in every scope, or the scope is refused by its
name.

Models of the sort that people bring, trained by the README's loop, against two plain passes written
here: masks put on by hooks, one instance at a time, without any scope.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertForSequenceClassification

from tests.helpers.builders import randn, some_labels
from turnover import (
    TurnoverDropout,
    TurnoverError,
    influence,
    mean_influence,
    self_influence,
    top_influences,
    turnover,
)
from turnover.attribution.dropout import turnover_layers

WIDTH, CLASSES, COUNT = 8, 3, 12
IDS, LABELS = torch.arange(COUNT), some_labels(COUNT, CLASSES)


def net(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), *parts, nn.Linear(WIDTH, CLASSES))


class Transformer(nn.Module):
    """Masks inside torch's own encoder layers, which evaluation passes by on the fused path, and
    one behind them.
    """

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.0, batch_first=True)
        layer.dropout1, layer.dropout = TurnoverDropout(WIDTH), TurnoverDropout(16)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.mask, self.out = TurnoverDropout(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.unsqueeze(1) + torch.linspace(-1, 1, 3, dtype=x.dtype).view(1, 3, 1)
        padding = (x[:, :3] < -1.5).index_fill(1, torch.tensor([0]), False)
        logits: Tensor = self.out(
            self.mask(self.encoder(tokens, src_key_padding_mask=padding).mean(1))
        )
        return logits


class Steps(nn.Module):
    """Two masked steps, whichever way they are run."""

    def __init__(
        self, run: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor], *, nested: bool = False
    ) -> None:
        super().__init__()
        self.run, self.nested = run, nested
        self.first, self.second = net(TurnoverDropout(WIDTH))[:3], net(TurnoverDropout(WIDTH))[:3]
        self.out = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = (
            self.run(self._both, x)
            if self.nested
            else self.run(self.second, self.run(self.first, x))
        )
        logits: Tensor = self.out(hidden)
        return logits

    def _both(self, x: Tensor) -> Tensor:
        return self.run(self.second, self.first(x))


class Tied(nn.Module):
    """The same matrix twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.again = net(TurnoverDropout(WIDTH)), nn.Linear(WIDTH, WIDTH)
        self.again.weight = self.body[0].weight  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(self.again(x))
        return logits


class Whole(nn.Module):
    """A first parameter of whole numbers, as quantized networks have."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.arange(-4, 4, dtype=torch.int8), requires_grad=False)
        self.body = net(TurnoverDropout(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x + self.table.to(x) / 10)
        return logits


class Bert(nn.Module):
    """A Hugging Face model with every dropout replaced, those in attention too, of which only the
    rate is read.
    """

    def __init__(self) -> None:
        super().__init__()
        sizes = {
            "hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "vocab_size": 30,
        }
        self.bert = BertForSequenceClassification(
            BertConfig(**sizes, num_labels=CLASSES, attn_implementation="eager")
        )
        for name, module in list(self.bert.named_modules()):
            if isinstance(module, nn.Dropout):
                self.bert.set_submodule(name, TurnoverDropout(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.bert(input_ids=(x * 5).long() % 30).logits
        return logits


class Keeping(nn.Module):
    """Keeps what it makes when the number of rows changes, as recurrent states, positions and
    causal masks are kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body, self.state, self.known = (
            net(TurnoverDropout(WIDTH)),
            torch.zeros(0),
            dict[int, Tensor](),
        )

    def forward(self, x: Tensor) -> Tensor:
        if len(self.state) != len(x):
            self.state = torch.zeros(len(x), WIDTH, dtype=x.dtype) * x
        if len(x) not in self.known:
            self.known[len(x)] = torch.arange(WIDTH, dtype=x.dtype).expand(len(x), -1) / WIDTH
        logits: Tensor = self.body(x + self.state + self.known[len(x)])
        return logits


class Answering(nn.Module):
    """Logits as some models give them."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.form = net(TurnoverDropout(WIDTH)), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.body(x))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "fused": Transformer,
    "reentrant": lambda: Steps(partial(checkpoint, use_reentrant=True)),
    "not reentrant": lambda: Steps(partial(checkpoint, use_reentrant=False)),
    "bert": Bert,
    "whole numbers first": Whole,
    "tied": Tied,
    "batch norm": lambda: net(nn.BatchNorm1d(WIDTH), TurnoverDropout(WIDTH)),
    "keeping": Keeping,
    "unused mask": lambda: nn.ModuleDict(
        {"0": net(TurnoverDropout(WIDTH)), "1": TurnoverDropout(WIDTH)}
    )["0"],
}


def built(make: Callable[[], nn.Module], kind: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    model = make()
    for parameter in model.parameters():
        parameter.data = (
            parameter.data.to(kind) if parameter.is_floating_point() else parameter.data
        )
    for module in model.modules():
        module._buffers = {
            name: value.to(kind) if value is not None and value.is_floating_point() else value
            for name, value in module._buffers.items()
        }
    return model


def trained(model: nn.Module, x: Tensor, epochs: int = 2) -> nn.Module:
    """The model after the README's loop, whose backward pass is outside of the context; batches are
    of six.
    """
    optimizer = torch.optim.SGD(
        [weight for weight in model.parameters() if weight.requires_grad], lr=0.1
    )
    for rows in [part for _ in range(epochs) for part in IDS.split(6)]:
        with turnover(rows):
            loss = nn.functional.cross_entropy(model.train()(x[rows]), LABELS[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@contextmanager
def masks_by_hand(model: nn.Module, instance: int, flipped: bool) -> Iterator[None]:
    """The masks of one instance on all rows, without a scope; torch takes no fused path past a
    hook.
    """
    hooks = [
        layer.register_forward_hook(
            lambda layer, given, _: (
                given[0]
                * layer.mask([instance], flipped, given[0].dtype).view(
                    1, *[1] * (given[0].dim() - 2), -1
                )
            ),
        )
        for layer in turnover_layers(model)
    ]
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def two_passes(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Influences `(targets, instances)` by the definition."""
    model, values = copy.deepcopy(model).eval(), []
    for instance in range(COUNT):
        halves = []
        for flipped in (False, True):
            with masks_by_hand(model, instance, flipped):
                halves.append(
                    nn.functional.cross_entropy(
                        model(x).to(torch.promote_types(x.dtype, torch.float32)),
                        labels,
                        reduction="none",
                    )
                )
        values.append(halves[1] - halves[0])
    return torch.stack(values, 1)


@pytest.mark.parametrize("targets", [5, 20])
@pytest.mark.parametrize("kind", MODELS)
def test_influences_are_those_of_two_plain_passes(kind: str, targets: int) -> None:
    """For the model that was trained here, and for one that was built anew and given its
    weights.
    """
    model = trained(built(MODELS[kind]), randn(COUNT, WIDTH))
    x, labels = randn(targets, WIDTH, seed=1), some_labels(targets, CLASSES, seed=1)
    expected = two_passes(model, x, labels)
    assert expected.std() > 1e-3 and expected.dtype == torch.float64
    anew = built(MODELS[kind])
    with turnover(IDS[:2]):
        anew.train()(randn(2, WIDTH))  # numbers its mask layers
    anew = copy.deepcopy(anew)
    anew.load_state_dict(model.state_dict())
    for layer in turnover_layers(anew):
        layer.trained_with.clear()
    for own in (model, anew):
        torch.testing.assert_close(
            influence(own, x, labels, IDS).values[0], expected, rtol=0, atol=1e-9
        )
        torch.testing.assert_close(
            influence(own, x, labels, IDS, plain=True).values[0], expected, rtol=0, atol=1e-9
        )
        torch.testing.assert_close(
            mean_influence(own, x, labels, IDS)[0], expected.mean(0), rtol=0, atol=1e-9
        )
        torch.testing.assert_close(
            self_influence(own, randn(COUNT, WIDTH), LABELS, IDS)[0],
            two_passes(own, randn(COUNT, WIDTH), LABELS).diag(),
            rtol=0,
            atol=1e-9,
        )
        torch.testing.assert_close(
            top_influences(own, x, labels, IDS, 3).proponents,
            expected.topk(3).values,
            rtol=0,
            atol=1e-9,
        )


def shrunk(layer: Any, _: Any) -> None:
    """What a maximal norm does in training."""
    if layer.training:
        layer[0].weight.data.mul_(0.5)


def test_influences_leave_a_model_as_it_was() -> None:
    """What it keeps for later is what it would be, and looking for its masks in training mode
    changes no weight.
    """
    model = built(Keeping)
    influence(model, randn(5, WIDTH), some_labels(5, CLASSES), IDS)
    assert not model.state.any() and all(
        torch.equal(rows[0], torch.arange(8.0).double() / 8) for rows in model.known.values()
    )  # type: ignore[union-attr, operator]
    norm = built(lambda: net(TurnoverDropout(WIDTH)))
    norm.register_forward_pre_hook(shrunk)
    before = copy.deepcopy(norm.state_dict())
    influence(norm, randn(5, WIDTH), some_labels(5, CLASSES), IDS)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize(
    "form", [lambda logits: (logits, 7), lambda logits: {"logits": logits}, lambda logits: [logits]]
)
def test_logits_come_alone_in_a_tuple_or_by_name(form: Callable[[Tensor], Any]) -> None:
    x, labels = randn(5, WIDTH), some_labels(5, CLASSES)
    expected = influence(built(lambda: Answering(lambda logits: logits)), x, labels, IDS).values
    assert torch.equal(influence(built(lambda: Answering(form)), x, labels, IDS).values, expected)
    with pytest.raises(TurnoverError, match="returns a dict without logits; return the logits"):
        influence(built(lambda: Answering(lambda logits: {"scores": logits})), x, labels, IDS)


def test_masks_that_run_in_another_order_in_training_are_those_of_training() -> None:
    class Turning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(net(TurnoverDropout(WIDTH)) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            made = [part(x) for part in (self.parts if self.training else reversed(self.parts))]
            return made[0] + made[1]

    model, anew = trained(built(Turning), randn(COUNT, WIDTH)), built(Turning)
    anew.load_state_dict(model.state_dict())
    x, labels = randn(5, WIDTH), some_labels(5, CLASSES)
    torch.testing.assert_close(
        influence(anew, x, labels, IDS).values,
        influence(model, x, labels, IDS).values,
        rtol=0,
        atol=1e-9,
    )


def test_masks_work_inside_the_transforms_of_torch_func() -> None:
    model, x = built(MODELS["batch norm"]).eval(), randn(COUNT, WIDTH)
    weights = {name: value.detach() for name, value in model.named_parameters()}

    def loss(named: dict[str, Tensor]) -> Tensor:
        with turnover(IDS):
            return nn.functional.cross_entropy(
                torch.func.functional_call(model, named, (x,)), LABELS
            )

    made = torch.func.grad(loss)(weights)
    with turnover(IDS):
        nn.functional.cross_entropy(model(x), LABELS).backward()
    for name, value in model.named_parameters():
        torch.testing.assert_close(made[name], value.grad, rtol=0, atol=1e-12)


# What is computed again in the backward pass


def way(kind: str) -> Steps:
    runs: dict[str, Any] = {
        "plain": lambda function, x: function(x),
        "reentrant": partial(checkpoint, use_reentrant=True),
        "not reentrant": partial(checkpoint, use_reentrant=False),
    }
    name, _, nested = kind.partition(", ")
    model = built(lambda: Steps(runs[name], nested=bool(nested)))
    assert isinstance(model, Steps)
    return model


def gradients(model: nn.Module, ids: Tensor | None, backward: str) -> list[Tensor]:
    """Of one step under the masks of `ids`, or of none, with the backward pass inside the context,
    outside, or inside another.
    """
    x = randn(COUNT, WIDTH).requires_grad_()
    inside = turnover(ids) if ids is not None else nullcontext()
    with inside:
        loss = nn.functional.cross_entropy(model.train()(x), LABELS)
        if backward == "inside":
            loss.backward()
    if backward == "outside":
        loss.backward()
    if backward == "inside another":
        with turnover(IDS + 100, flipped=True):
            nn.functional.cross_entropy(model(x), LABELS)
            loss.backward()
    return [torch.as_tensor(weight.grad) for weight in model.parameters()]


@pytest.mark.parametrize("backward", ["inside", "outside", "inside another"])
@pytest.mark.parametrize("ids", [IDS, None])
@pytest.mark.parametrize(
    "kind", ["reentrant", "not reentrant", "reentrant, nested", "not reentrant, nested"]
)
def test_gradient_checkpointing_changes_no_gradient(
    kind: str, ids: Tensor | None, backward: str
) -> None:
    expected = gradients(way("plain"), ids, "outside")
    assert expected[0].abs().max() > 1e-3
    for made, exact in zip(gradients(way(kind), ids, backward), expected, strict=True):
        assert torch.equal(made, exact)


def test_checkpoints_of_several_contexts_meet_in_one_backward_pass() -> None:
    def step(model: nn.Module) -> list[Tensor]:
        total = torch.zeros((), dtype=torch.float64)
        for rows in IDS.split(4):
            with turnover(rows):
                total = total + nn.functional.cross_entropy(
                    model.train()(randn(COUNT, WIDTH).requires_grad_()[rows]), LABELS[rows]
                )
        total.backward()
        return [torch.as_tensor(weight.grad) for weight in model.parameters()]

    expected = step(way("plain"))
    for kind in ("reentrant", "not reentrant"):
        assert all(torch.equal(*pair) for pair in zip(step(way(kind)), expected, strict=True))


class Again(torch.autograd.Function):
    """A checkpoint of somebody's own, which tells nobody."""

    @staticmethod
    def forward(context: Any, x: Tensor, layer: nn.Module, ids: Tensor | None) -> Tensor:
        context.layer, context.ids = layer, ids
        context.save_for_backward(x)
        with torch.no_grad():
            made: Tensor = layer(x)
        return made

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x = context.saved_tensors[0].detach().requires_grad_()
        with (
            torch.enable_grad(),
            turnover(context.ids) if context.ids is not None else nullcontext(),
        ):
            made = context.layer(x)
        return torch.autograd.grad(made, x, gradients)[0], None, None


@pytest.mark.parametrize("inside", [False, True])
def test_what_somebody_else_computes_again_is_refused_until_its_masks_are_named(
    inside: bool,
) -> None:
    layer, x = TurnoverDropout(WIDTH, layer=0), randn(COUNT, WIDTH).requires_grad_()
    with turnover(IDS):
        made = Again.apply(x, layer, None).sum()
        if inside:
            with pytest.raises(
                TurnoverError,
                match=(
                    r"^mask layer TurnoverDropout\(width=8.* runs again in the backward pass.*open "
                    r"turnover.turnover"
                ),
            ):
                made.backward()
    if not inside:
        with pytest.raises(TurnoverError, match="runs again in the backward pass"):
            made.backward()
    with turnover(IDS):
        made = Again.apply(x, layer, None).sum()
    layer(x)  # a look in between, without masks
    with pytest.raises(TurnoverError, match="runs again in the backward pass"):
        made.backward()
    with turnover(IDS):
        made = Again.apply(x, layer, IDS).sum()
    made.backward()
    torch.testing.assert_close(x.grad, layer.mask(IDS, dtype=torch.float64))
    Again.apply(x, TurnoverDropout(WIDTH), None).sum().backward()  # no masks, then or now


# Masks that are passed by


class Odd(nn.Module):
    """A model whose second mask runs at some times only."""

    def __init__(self, runs: Callable[[Odd], bool], thread: bool = False) -> None:
        super().__init__()
        self.body = net(TurnoverDropout(WIDTH, layer=0))
        self.late, self.runs, self.thread = TurnoverDropout(CLASSES, p=0.34, layer=1), runs, thread

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        runs = self.runs(self)
        if runs and self.thread:
            with ThreadPoolExecutor(1) as pool:
                logits = pool.submit(self.late, logits).result()
        elif runs:
            logits = self.late(logits)
        return logits


ODD = {
    "in training only": (
        lambda: Odd(lambda model: model.training),
        "'late' .*runs in training but did not",
    ),
    "in evaluation only": (
        lambda: Odd(lambda model: not model.training),
        "'late' .*did not in training",
    ),
    "in a thread in training": (
        lambda: Odd(lambda model: True, thread=True),
        "'late' .*runs outside the turnover context in training",
    ),
}


@pytest.mark.filterwarnings("ignore:with p=:UserWarning")
@pytest.mark.parametrize("kind", ODD)
def test_a_mask_that_does_not_run_is_refused_by_name(kind: str) -> None:
    make, reason = ODD[kind]
    model, x = trained(built(make), randn(COUNT, WIDTH)), randn(5, WIDTH, seed=1)
    labels = some_labels(5, CLASSES)
    for ask in (influence, partial(influence, plain=True), mean_influence, top_influences):
        with pytest.raises(TurnoverError, match=reason):
            ask(model, x, labels, IDS)
    with pytest.raises(TurnoverError, match=reason):
        self_influence(model, x, labels, IDS[:5])
    for layer in turnover_layers(model):  # as in a new process
        layer.trained_with.clear()
        layer.trained_outside = False
    with pytest.raises(TurnoverError, match=reason):
        influence(model, x, labels, IDS)


@pytest.mark.filterwarnings("ignore:with p=:UserWarning")
def test_a_scope_by_hand_is_held_against_training_too() -> None:
    model = trained(built(lambda: Odd(lambda model: model.training)), randn(COUNT, WIDTH)).eval()
    with (
        pytest.raises(
            TurnoverError,
            match=(
                r"^mask layer TurnoverDropout\(width=3.*, layer=1, .*runs in training but did not "
                r"in this turnover context"
            ),
        ),
        turnover(IDS),
    ):
        model(randn(COUNT, WIDTH))
    model = trained(built(lambda: Odd(lambda model: True)), randn(COUNT, WIDTH)).eval()
    with turnover(IDS):
        model(randn(COUNT, WIDTH))


def test_a_layer_that_runs_now_and_then_in_training_must_run_in_evaluation() -> None:
    """As with stochastic depth: what counts is all that ran."""
    steps = iter(range(100))
    model = trained(
        built(lambda: Odd(lambda model: not model.training or next(steps) % 2 == 0)),
        randn(COUNT, WIDTH),
    )
    x, labels = randn(5, WIDTH, seed=1), some_labels(5, CLASSES)
    torch.testing.assert_close(
        influence(model, x, labels, IDS).values[0], two_passes(model, x, labels), rtol=0, atol=1e-9
    )
    model.runs = lambda model: False  # type: ignore[union-attr, assignment]
    with pytest.raises(TurnoverError, match=r"'late' .*runs in training but did not"):
        influence(model, x, labels, IDS)


def test_what_also_runs_without_masks_in_training_is_served() -> None:
    """A regulariser on a part of the model, or a step without masks."""
    model, x = (
        built(lambda: net(TurnoverDropout(WIDTH), nn.Linear(WIDTH, WIDTH), TurnoverDropout(WIDTH))),
        randn(COUNT, WIDTH),
    )
    trained(model, x)
    model.train()[:3](x).sum().backward()  # type: ignore[index]
    labels = some_labels(COUNT, CLASSES)
    torch.testing.assert_close(
        influence(model, x, labels, IDS).values[0], two_passes(model, x, labels), rtol=0, atol=1e-9
    )


def test_masks_on_another_dimension_than_the_rows_are_refused() -> None:
    """Of sequences first, of which there are as many steps as instances."""
    model = built(
        lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), TurnoverDropout(WIDTH), nn.Flatten(0, 1))
    )
    with pytest.raises(TurnoverError, match="2 instance ids for a batch of 12 rows"):
        influence(Sideways(model), randn(5, COUNT, WIDTH), some_labels(5, CLASSES), IDS)


def test_a_batch_norm_that_mixes_rows_in_evaluation_is_refused_by_name() -> None:
    model = built(
        lambda: net(nn.BatchNorm1d(WIDTH, track_running_stats=False), TurnoverDropout(WIDTH))
    )
    x, labels = randn(5, WIDTH), some_labels(5, CLASSES)
    for ask in (influence, self_influence, mean_influence, top_influences):
        with pytest.raises(
            TurnoverError,
            match=r"^batch norm '2' keeps no running statistics.*track_running_stats=True",
        ):
            ask(model, x, labels, IDS[:5])


def test_a_model_that_cannot_be_seen_in_training_is_said_to_be_one() -> None:
    """One that wants its labels there."""
    model = built(lambda: Odd(lambda model: model.training and 1 / 0 > 0))
    with pytest.raises(
        TurnoverError,
        match=(
            r"^mask layer 'late' .* did not run in this turnover context, and the model does not "
            r"run in training mode"
        ),
    ):
        influence(model, randn(5, WIDTH), some_labels(5, CLASSES), IDS)


class Sideways(nn.Module):
    """Reads `(B, T, D)` and hands on `(T, B, D)`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x.transpose(0, 1)).unflatten(0, (x.shape[1], len(x))).mean(0)
        return logits


def test_the_fused_path_is_off_inside_and_on_again_afterwards() -> None:
    model = built(Transformer).eval()
    assert torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad(), turnover(IDS):
        model(randn(COUNT, WIDTH))
        assert not torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mha.get_fastpath_enabled()
    assert all(layer.layer is not None for layer in turnover_layers(model))


def test_replicas_for_data_parallel_are_refused() -> None:
    layer = TurnoverDropout(WIDTH)
    assert isinstance(layer._replicate_for_data_parallel(), TurnoverDropout)
    with turnover([0]):
        layer(torch.zeros(1, WIDTH))
        with pytest.raises(
            TurnoverError, match=r"^mask layer TurnoverDropout.*use DistributedDataParallel"
        ):
            layer._replicate_for_data_parallel()


# Rates and number types


def test_code_that_reads_the_rate_of_dropout_drops_nothing() -> None:
    """Hugging Face attention hands `self.dropout.p` to a dropout of its own."""
    assert TurnoverDropout(WIDTH).p == 0 and TurnoverDropout(WIDTH).keep == 0.5
    model, x = built(Bert).train(), randn(COUNT, WIDTH)
    with turnover(IDS):
        assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("kind", ["whole numbers first", "batch norm", "fused"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_influences_are_in_float32_at_least(kind: str, dtype: torch.dtype) -> None:
    """Losses are taken in float32, and different influences stay different."""
    model = trained(built(MODELS[kind], dtype), randn(COUNT, WIDTH).to(dtype))
    x, labels = randn(20, WIDTH, seed=1).to(dtype), some_labels(20, CLASSES, seed=1)
    made = influence(model, x, labels, IDS)
    assert made.values.dtype == torch.float32
    assert (
        mean_influence(model, x, labels, IDS).dtype
        == self_influence(model, x[:3], labels[:3], IDS[:3]).dtype
        == torch.float32
    )
    assert top_influences(model, x, labels, IDS, 2).proponents.dtype == torch.float32
    bound = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(made.values[0], two_passes(model, x, labels), rtol=0, atol=bound)
    exact = two_passes(trained(built(MODELS[kind]), randn(COUNT, WIDTH)), x.double(), labels)
    assert len(made.values.unique()) > 0.9 * len(exact.unique())


# Compiled models


@pytest.mark.parametrize("kind", ["batch norm", "tied"])
def test_a_compiled_model_trains_and_measures_as_the_model(kind: str) -> None:
    plain, x = trained(built(MODELS[kind]), randn(COUNT, WIDTH)), randn(5, WIDTH, seed=1)
    own = built(MODELS[kind])
    compiled: Any = torch.compile(own, backend="eager")
    trained(compiled, randn(COUNT, WIDTH))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(own.state_dict()[name], value, rtol=0, atol=1e-12)
    labels = some_labels(5, CLASSES)
    torch.testing.assert_close(
        influence(compiled, x, labels, IDS).values[0], two_passes(own, x, labels), rtol=0, atol=1e-9
    )


def test_names_of_models_are_in_the_message() -> None:
    """Two mask layers that are alike are told apart by where they lie."""
    model = trained(built(Transformer), randn(COUNT, WIDTH))
    model.encoder.layers[1].dropout1 = nn.Identity()  # type: ignore[index, union-attr]
    layer = TurnoverDropout(WIDTH)
    model.register_module("spare", layer)
    layer.trained_with.add(layer)
    with pytest.raises(
        TurnoverError, match=re.escape(f"mask layer 'spare' ({layer}) runs in training but did not")
    ):
        influence(model, randn(5, WIDTH), some_labels(5, CLASSES), IDS)
