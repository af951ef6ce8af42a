"""BERT with masked adapters, and with masks everywhere: what an instance can reach, and what it cannot."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaModel,
)

from core import TurnoverDropout, TurnoverError, influence, turnover
from core.dropout import turnover_layers
from core.models.adapters import Adapter, AdapterClassifier, EncoderClassifier, MaskedClassifier, adapter_classifier, masked_everywhere
from core.models.state import load_trained, trained_state
from core.models.text import DEFAULT_ENCODER, load_encoder
from tests.core.builders import naive_influence, some_labels

KINDS = ("bert", "roberta", "electra")
BUILDS = ("adapters", "masked")
LAYERS, WIDTH, PADDING, MANY = 3, 16, 1, range(24)
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
PLACES = {
    "the adapters' up-biases": ".up.bias",
    "the embeddings": "encoder.embeddings",
    "the queries, keys and values of attention": ".attention.self.",
    "the first layer of each feed-forward network": ".intermediate.dense.",
    "the LayerNorms": ".LayerNorm.",
    "the output bias": "out.bias",
}
"""Where the leaks lie: a part of the names of their parameters."""


def tiny_encoder(kind: str = "bert") -> nn.Module:
    """An encoder of three layers with random weights."""
    torch.manual_seed(0)
    options = {**SIZES, "max_position_embeddings": 32, "initializer_range": 0.5, "pad_token_id": PADDING}
    if kind == "roberta":
        return RobertaModel(RobertaConfig(**options)).eval()
    if kind == "electra":
        return ElectraModel(ElectraConfig(**options, embedding_size=8)).eval()
    return BertModel(BertConfig(**options)).eval()


def around(build: str, encoder: nn.Module, *, groups: int | None = None, seed: int = 0) -> EncoderClassifier:
    """One of our two models around an encoder."""
    if build == "masked":
        return MaskedClassifier(encoder, 3, groups=groups, seed=seed)
    return AdapterClassifier(encoder, 3, layers=None, groups=groups, seed=seed, bottleneck=8)


def built(build: str, kind: str = "bert", *, groups: int | None = None, seed: int = 0) -> EncoderClassifier:
    return around(build, tiny_encoder(kind), groups=groups, seed=seed)


def grown(model: EncoderClassifier) -> EncoderClassifier:
    """The model in float64, its new weights as large as after much training, in evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.double().named_parameters():
        if (isinstance(model, AdapterClassifier) and parameter.requires_grad) or name.startswith("out."):
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) / 2
    return model.eval()


def batch(rows: int = 2) -> dict[str, Tensor]:
    """Token ids, the second text shorter than the others."""
    ids = torch.randint(3, 50, (rows, 9), generator=torch.Generator().manual_seed(1))
    keep = torch.ones_like(ids)
    ids[1:2, 5:], keep[1:2, 5:] = PADDING, 0
    return {"input_ids": ids, "attention_mask": keep}


def gradients(model: nn.Module, instance: int, inputs: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """Gradients of the loss that an instance is trained on, by parameter."""
    model.zero_grad()
    with turnover([instance] * len(inputs["input_ids"])):
        nn.functional.cross_entropy(model(**inputs), some_labels(len(inputs["input_ids"]), 3)).backward()
    return {name: None if parameter.grad is None else parameter.grad.clone() for name, parameter in model.named_parameters()}


def unmasked(model: nn.Module) -> nn.Module:
    """A copy whose mask layers are gone."""
    plain = copy.deepcopy(model)
    for parent in list(plain.modules()):
        for name, child in parent.named_children():
            if isinstance(child, TurnoverDropout):
                setattr(parent, name, nn.Identity())
    return plain


def is_leak(model: EncoderClassifier, name: str) -> bool:
    return any(PLACES[leak] in name for leak in model.leaks)


# What an instance's loss can reach


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("groups", [None, 4])
def test_law_3_adapters(kind: str, groups: int | None) -> None:
    """In training mode, the encoder's ordinary dropout included."""
    model = grown(built("adapters", kind, groups=groups)).train()
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


# New weights


@pytest.mark.parametrize("kind", KINDS)
def test_new_adapters_are_nearly_the_identity(kind: str) -> None:
    encoder = tiny_encoder(kind)
    before = encoder(**batch()).last_hidden_state
    AdapterClassifier(encoder, 3, layers=None, groups=None, seed=0)
    change = (encoder(**batch()).last_hidden_state - before).norm() / before.norm()
    assert 0 < change < 0.01


@pytest.mark.parametrize("build", BUILDS)
def test_the_seed_decides_all_new_weights_and_nothing_else_does(build: str) -> None:
    states = []
    for random_seed, seed in enumerate((5, 5, 6)):
        encoder = tiny_encoder()
        torch.manual_seed(random_seed)
        random_state = torch.get_rng_state()
        states.append(trained_state(around(build, encoder, seed=seed)))
        assert torch.equal(torch.get_rng_state(), random_state)
    one, again, other = states
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["out.weight"], other["out.weight"])
    drawn = [value for name, value in one.items() if name.endswith("down.weight")]
    assert not any(torch.equal(value, drawn[0]) for value in drawn[1:])


@pytest.mark.parametrize("build", BUILDS)
def test_trained_weights_are_saved_without_what_is_frozen(build: str, tmp_path: Path) -> None:
    model, file = grown(built(build, seed=2)), tmp_path / "weights.safetensors"
    save_file(trained_state(model), file)
    saved = load_file(file)
    assert set(saved) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if build == "adapters":
        assert all(".dropout.1." in name or name.startswith("out.") for name in saved)
    restored = built(build, seed=2).double().eval()
    load_trained(restored, saved)
    logits = []
    for one in (model, restored):
        with torch.no_grad(), turnover([3, 8]):
            logits.append(one(**batch()))
    assert torch.equal(*logits)


def test_weights_of_another_model_are_refused() -> None:
    state = trained_state(AdapterClassifier(tiny_encoder(), 3, layers=2, groups=None, seed=0))
    for other in (AdapterClassifier(tiny_encoder(), 4, layers=2, groups=None, seed=0), AdapterClassifier(tiny_encoder(), 3, layers=1, groups=None, seed=0)):
        before = {name: value.clone() for name, value in trained_state(other).items()}
        with pytest.raises(TurnoverError, match=r"^the weights are of another AdapterClassifier: they differ at '[\w.]+'; .*$"):
            load_trained(other, state)
        assert all(torch.equal(value, before[name]) for name, value in trained_state(other).items())


# Encoders


@pytest.mark.parametrize("build", BUILDS)
def test_an_encoder_of_another_kind_is_refused_by_name(build: str) -> None:
    distilbert = DistilBertModel(DistilBertConfig(dim=8, hidden_dim=16, n_layers=2, n_heads=2, vocab_size=50))
    albert = AlbertModel(AlbertConfig(hidden_size=8, embedding_size=4, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=50))
    for encoder in (distilbert, albert, nn.Linear(3, 3)):
        with pytest.raises(TurnoverError, match=rf"^{type(encoder).__name__} is not built like BERT .*$"):
            around(build, encoder)


def test_an_encoder_serves_one_classifier() -> None:
    model = built("adapters")
    with pytest.raises(TurnoverError, match=r"^this BertModel has turn-over dropout already; .*$"):
        MaskedClassifier(model.encoder, 3, groups=None, seed=0)


@pytest.mark.parametrize("layers", [0, -1, LAYERS + 1])
def test_more_layers_than_there_are_is_refused(layers: int) -> None:
    with pytest.raises(TurnoverError, match=rf"^layers={layers}, but the BertModel has 3; choose 1 to 3, or None for all$"):
        AdapterClassifier(tiny_encoder(), 3, layers=layers, groups=None, seed=0)


@pytest.mark.parametrize(("groups", "bottleneck", "width"), [(3, 8, 16), (16, 8, 8)])
def test_groups_must_divide_both_widths(groups: int, bottleneck: int, width: int) -> None:
    with pytest.raises(TurnoverError, match=rf"^{groups} groups do not divide a width of {width}; choose a divisor$"):
        AdapterClassifier(tiny_encoder(), 3, layers=None, groups=groups, seed=0, bottleneck=bottleneck)


def test_the_packaged_encoder_with_adapters() -> None:
    tokenizer, encoder = load_encoder(DEFAULT_ENCODER)
    inputs = tokenizer(["A warm, witty film.", "Dull."], padding=True, return_tensors="pt")
    random_state = torch.get_rng_state()
    model = adapter_classifier(DEFAULT_ENCODER, 2, layers=2, groups=32, seed=1).eval()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert len(turnover_layers(model)) == 5
    frozen = {name: value for name, value in model.named_parameters() if not value.requires_grad}
    assert all(torch.equal(frozen[f"encoder.{name}"], value) for name, value in encoder.named_parameters() if "LayerNorm" in name)
    with torch.no_grad():
        change = model.encoder(**inputs).last_hidden_state - encoder(**inputs).last_hidden_state
        assert change.norm() < 0.01 * encoder(**inputs).last_hidden_state.norm()
        assert model(inputs["input_ids"], inputs["attention_mask"]).shape == (2, 2)


def test_masks_everywhere_in_an_encoder_from_a_file_without_a_pooler(tmp_path: Path) -> None:
    """The missing weights are drawn, and not from the global random state."""
    encoder, tokenizer = BertModel(BertConfig(**SIZES), add_pooling_layer=False), load_encoder(DEFAULT_ENCODER)[0]
    encoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    random_state = torch.get_rng_state()
    model = masked_everywhere(str(tmp_path), 2, groups=None, seed=0)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert len(turnover_layers(model)) == 2 * LAYERS + 1


def test_an_encoder_that_cannot_be_loaded_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match="cannot be loaded: it is a local folder") as raised:
        adapter_classifier(str(tmp_path), 2, layers=None, groups=None, seed=0)
    assert "\n" not in str(raised.value)
