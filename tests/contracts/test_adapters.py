"""BERT with masked adapters, and with masks everywhere: what an instance can reach, and what it cannot."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core import TurnoverDropout, influence, turnover
from core.dropout import turnover_layers
from core.models.adapters import Adapter, AdapterClassifier
from core.models.state import trained_state
from tests.helpers.builders import naive_influence, some_labels
from tests.helpers.tiny_encoders import (
    BUILDS,
    KINDS,
    LAYERS,
    MANY,
    PADDING,
    PLACES,
    WIDTH,
    batch,
    built,
    gradients,
    grown,
    is_leak,
    tiny_encoder,
    unmasked,
)

# What an instance's loss can reach


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("groups", [None, 4])
def test_law_3_adapters(kind: str, groups: int | None) -> None:
    """In training mode, in which a frozen encoder computes what it always does."""
    model = grown(built("adapters", kind, groups=groups)).train()
    torch.testing.assert_close(model(**batch()), copy.deepcopy(model).eval()(**batch()), rtol=0, atol=0)
    for instance in (0, 7, 2**62):
        grads = gradients(model, instance, batch())
        for name, adapter in model.named_modules():
            if isinstance(adapter, Adapter):
                on = adapter.mask.mask([instance])[0] > 0
                for safe in (grads[f"{name}.down.weight"], grads[f"{name}.down.bias"], grads[f"{name}.up.weight"].T):
                    assert safe[~on].count_nonzero() == 0
                    assert safe[on].count_nonzero() > 0
        on = model.mask.mask([instance])[0] > 0
        assert grads["out.weight"][:, ~on].count_nonzero() == 0
        assert grads["out.weight"][:, on].count_nonzero() == 3 * on.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_law_3_masks_everywhere(kind: str) -> None:
    model = grown(built("masked", kind)).train()
    for instance in (0, 7):
        grads = gradients(model, instance, batch())
        for layer in range(LAYERS):
            for number, place in ((2 * layer, f"{layer}.attention.output"), (2 * layer + 1, f"{layer}.output")):
                on = TurnoverDropout(WIDTH, seed=model.mask.seed, layer=number).mask([instance])[0] > 0
                for part in ("weight", "bias"):
                    safe = grads[f"encoder.encoder.layer.{place}.dense.{part}"]
                    assert safe[~on].count_nonzero() == 0
                    assert safe[on].count_nonzero() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", BUILDS)
def test_what_every_instance_changes_is_listed_as_a_leak(build: str, kind: str) -> None:
    model = grown(built(build, kind))
    touched = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters() if parameter.requires_grad}
    for instance in MANY:
        for name, grad in gradients(model, instance, batch()).items():
            if name in touched and grad is not None:
                touched[name] += grad != 0
    leaked = {name for name, count in touched.items() if (count == len(MANY)).any()}
    assert not [name for name in leaked if not is_leak(model, name)]
    for leak in model.leaks:
        assert any(PLACES[leak] in name for name in leaked), leak


@pytest.mark.parametrize("build", BUILDS)
def test_a_step_on_an_instance_reaches_its_flipped_half_by_leaks_alone(build: str) -> None:
    for frozen in (True, False):
        model, inputs = grown(built(build)), batch()
        for name, parameter in model.named_parameters():
            if frozen and is_leak(model, name):
                parameter.requires_grad_(False)
        before, after = [], []
        for halves in (before, after):
            for flipped in (False, True):
                with torch.no_grad(), turnover([5, 5], flipped=flipped):
                    halves.append(model(**inputs))
            if halves is before:
                gradients(model, 5, inputs)
                torch.optim.SGD([parameter for parameter in model.parameters() if parameter.grad is not None], lr=1.0).step()
        assert not torch.allclose(before[0], after[0])
        assert torch.equal(before[1], after[1]) == frozen


def test_a_frozen_encoder_gets_no_gradient_and_a_pooler_never() -> None:
    adapters, masked = grown(built("adapters")), grown(built("masked"))
    for name, grad in gradients(adapters, 3, batch()).items():
        assert (grad is not None) == (".dropout.1." in name or name.startswith("out."))
    assert {name for name, grad in gradients(masked, 3, batch()).items() if grad is None} == {"encoder.pooler.dense.weight", "encoder.pooler.dense.bias"}
    assert not [name for name in trained_state(masked) if "pooler" in name]


# The influence


class Named(nn.Module):
    """A model whose output has a name, as those of Hugging Face have."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Any:
        return SimpleNamespace(logits=self.model(**inputs))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", BUILDS)
def test_influence_is_that_of_the_naive_loop(build: str, kind: str) -> None:
    model, labels, ids = grown(built(build, kind, groups=4)), some_labels(2, 3), [0, 7, 2**53 + 1]
    expected = naive_influence(Named(model), batch(), labels, ids)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(influence(model, batch(), labels, ids).values, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", BUILDS)
def test_law_6_without_a_context_it_is_the_model_without_masks(build: str, kind: str) -> None:
    model = grown(built(build, kind))
    ordinary = model(**batch())
    assert torch.equal(ordinary, unmasked(model)(**batch()))
    with turnover([1, 2]):
        assert not torch.allclose(model(**batch()), ordinary)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", BUILDS)
def test_padding_changes_nothing(build: str, kind: str) -> None:
    model, inputs = grown(built(build, kind)), batch()
    padded = {name: nn.functional.pad(value, (0, 6), value=PADDING if name == "input_ids" else 0) for name, value in inputs.items()}
    alone = {name: value[1:, :5] for name, value in inputs.items()}
    torch.testing.assert_close(model(**padded), model(**inputs), rtol=0, atol=1e-9)
    with turnover([4, 9]):
        masked = model(**inputs)
        torch.testing.assert_close(model(**padded), masked, rtol=0, atol=1e-9)
    with turnover([9]):
        torch.testing.assert_close(model(**alone), masked[1:], rtol=0, atol=1e-9)
        torch.testing.assert_close(model(alone["input_ids"]), masked[1:], rtol=0, atol=1e-9)


# Masks and where they lie


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "numbers"), [(2, [2, 3, 4, 5]), (None, [0, 1, 2, 3, 4, 5]), (1, [4, 5])])
def test_two_masked_adapters_lie_in_each_of_the_last_layers(kind: str, layers: int | None, numbers: list[int]) -> None:
    model = AdapterClassifier(tiny_encoder(kind), 3, layers=layers, groups=None, seed=0)
    found = {name: module.layer for name, module in model.encoder.named_modules() if isinstance(module, TurnoverDropout)}
    places = [f"encoder.layer.{number // 2}.{'output' if number % 2 else 'attention.output'}.dropout.1.mask" for number in numbers]
    assert found == dict(zip(places, numbers, strict=True))
    assert model.mask.layer == 2 * LAYERS
    assert len(turnover_layers(model)) == len(numbers) + 1


def test_masks_everywhere_lie_behind_every_dense_layer_that_ends_a_sublayer() -> None:
    model = built("masked")
    assert [layer.layer for layer in turnover_layers(model) if layer is not model.mask] == list(range(2 * LAYERS))
    assert [layer.width for layer in turnover_layers(model)] == [WIDTH] * (2 * LAYERS + 1)


@pytest.mark.parametrize("build", BUILDS)
def test_masks_of_different_layers_and_seeds_differ(build: str) -> None:
    masks = [
        layer.mask(range(50)) for seed in (0, 1) for layer in turnover_layers(built(build, seed=seed)) if layer.width == (8 if build == "adapters" else WIDTH)
    ]
    assert len(masks) == 2 * (2 * LAYERS + (build == "masked"))
    for number, mask in enumerate(masks):
        for other in masks[:number]:
            assert 0.35 < (mask == other).double().mean() < 0.65


def test_masks_do_not_depend_on_how_many_layers_have_adapters() -> None:
    few, all_of_them = (AdapterClassifier(tiny_encoder(), 3, layers=layers, groups=None, seed=4) for layers in (1, None))
    for one, other in zip(turnover_layers(few)[-3:], turnover_layers(all_of_them)[-3:], strict=True):
        assert torch.equal(one.mask(range(20)), other.mask(range(20)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_lies_before_the_residual_sum_and_the_layer_norm(kind: str) -> None:
    model = grown(built("adapters", kind))
    hidden, residual = torch.randn(2, 2, 5, WIDTH, dtype=torch.float64).unbind()
    end = model.encoder.encoder.layer[1].attention.output
    adapter = end.dropout[1]
    x = end.dense(hidden)
    with_adapter = x + adapter.up(nn.functional.gelu(adapter.down(x)))
    torch.testing.assert_close(end(hidden, residual), end.LayerNorm(with_adapter + residual), rtol=0, atol=1e-12)
