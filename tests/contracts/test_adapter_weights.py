"""New weights of models with masks inside an encoder, what is saved of them, and which encoders they take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
)

from core import TurnoverError, turnover
from core.dropout import turnover_layers
from core.models.adapters import AdapterClassifier, MaskedClassifier, adapter_classifier, masked_everywhere
from core.models.encoders import DEFAULT_ENCODER
from core.models.state import load_trained, trained_state
from core.models.text import load_encoder
from tests.helpers.tiny_encoders import (
    BUILDS,
    KINDS,
    LAYERS,
    SIZES,
    around,
    batch,
    built,
    grown,
    tiny_encoder,
)

# New weights


@pytest.mark.parametrize("kind", KINDS)
def test_new_adapters_change_little(kind: str) -> None:
    encoder = tiny_encoder(kind)
    before = encoder(**batch()).last_hidden_state
    AdapterClassifier(encoder, 3, layers=None, groups=None, seed=0)
    change = (encoder(**batch()).last_hidden_state - before).norm() / before.norm()
    assert 0 < change < 0.2


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
        assert change.norm() < 0.1 * encoder(**inputs).last_hidden_state.norm()
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
