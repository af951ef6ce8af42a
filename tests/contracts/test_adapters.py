"""Encoders with masks in adapters or everywhere: where masks lie, new weights, padding, refusals.

Laws 3, 4 and 6 hold for them as for every family (`tests/laws/test_model_families.py`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
)

from tests.helpers.builders import some_labels
from tests.helpers.tiny_encoders import (
    BUILDS,
    KINDS,
    LAYERS,
    PADDING,
    SIZES,
    WIDTH,
    around,
    batch,
    built,
    gradients,
    grown,
    tiny_encoder,
)
from tests.helpers.token_builders import grown as grown_tokens
from tests.helpers.token_builders import token_ensemble, token_member, token_rows
from turnover import TurnoverDropout, TurnoverError, turnover
from turnover.attribution.dropout import turnover_layers
from turnover.attribution.state import load_trained, trained_state
from turnover.models.adapters import (
    AdapterClassifier,
    MaskedClassifier,
    new_encoder,
)
from turnover.models.encoders import DEFAULT_ENCODER
from turnover.models.heads import load_encoder
from turnover.training.fit import Split, item_losses, probabilities, validate

# Masks and where they lie


def adapted(kind: str = "bert", layers: int | None = None, seed: int = 0) -> AdapterClassifier:
    return AdapterClassifier(tiny_encoder(kind), 3, layers=layers, groups=None, seed=seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [2, None])
def test_two_masked_adapters_lie_in_each_of_the_last_layers(kind: str, layers: int | None) -> None:
    """Behind attention and feed-forward network; how many there are changes no mask."""
    model = adapted(kind, layers, seed=4)
    modules = model.encoder.named_modules()
    found = {name: own.layer for name, own in modules if isinstance(own, TurnoverDropout)}
    numbers = range(2 * (LAYERS - (layers or LAYERS)), 2 * LAYERS)
    ends = ("attention.output", "output")
    places = [f"encoder.layer.{own // 2}.{ends[own % 2]}.dropout.1.mask" for own in numbers]
    assert found == dict(zip(places, numbers, strict=True))
    assert model.mask.layer == 2 * LAYERS
    alone = turnover_layers(adapted(kind, 1, seed=4))
    for one, other in zip(alone, turnover_layers(model)[-3:], strict=True):
        assert torch.equal(one.mask(range(20)), other.mask(range(20)))


def test_masks_everywhere_lie_behind_every_dense_layer_that_ends_a_sublayer() -> None:
    model = built("masked")
    layers = [layer for layer in turnover_layers(model) if layer is not model.mask]
    assert [layer.layer for layer in layers] == list(range(2 * LAYERS))
    assert [layer.width for layer in layers] == [WIDTH] * (2 * LAYERS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_lies_before_the_residual_sum_and_the_layer_norm(kind: str) -> None:
    model = grown(built("adapters", kind))
    hidden, residual = torch.randn(2, 2, 5, WIDTH, dtype=torch.float64).unbind()
    end = model.encoder.encoder.layer[1].attention.output
    adapter, x = end.dropout[1], end.dense(hidden)
    wanted = x + adapter.up(nn.functional.gelu(adapter.down(x))) + residual
    torch.testing.assert_close(end(hidden, residual), end.LayerNorm(wanted), rtol=0, atol=1e-12)


def test_a_frozen_encoder_gets_no_gradient_and_a_pooler_never() -> None:
    adapters, masked = grown(built("adapters")).train(), grown(built("masked"))
    torch.testing.assert_close(adapters(**batch()), adapters.eval()(**batch()), rtol=0, atol=0)
    for name, grad in gradients(adapters, 3, batch()).items():
        assert (grad is not None) == (".dropout.1." in name or name.startswith("out."))
    missing = {name for name, grad in gradients(masked, 3, batch()).items() if grad is None}
    assert missing == {f"encoder.pooler.dense.{part}" for part in ("weight", "bias")}
    assert not [name for name in trained_state(masked) if "pooler" in name]


# New weights


@pytest.mark.parametrize("kind", KINDS)
def test_new_adapters_change_little(kind: str) -> None:
    encoder = tiny_encoder(kind)
    before = encoder(**batch()).last_hidden_state
    AdapterClassifier(encoder, 3, layers=None, groups=None, seed=0)
    change = (encoder(**batch()).last_hidden_state - before).norm() / before.norm()
    assert 0 < change < 0.2


def test_every_new_layer_has_draws_of_its_own() -> None:
    state = trained_state(adapted())
    drawn = [value for name, value in state.items() if name.endswith("down.weight")]
    assert len(drawn) == 2 * LAYERS
    assert not any(torch.equal(value, drawn[0]) for value in drawn[1:])


def test_weights_of_other_settings_are_refused() -> None:
    state = trained_state(adapted(layers=2))
    wide = AdapterClassifier(tiny_encoder(), 4, layers=2, groups=None, seed=0)
    said = r"^the weights are of another AdapterClassifier: they differ at '[\w.]+'; .*$"
    for other in (wide, adapted(layers=1)):
        with pytest.raises(TurnoverError, match=said):
            load_trained(other, state)


def test_the_packaged_encoder_with_adapters() -> None:
    tokenizer, encoder = load_encoder(DEFAULT_ENCODER)
    inputs = tokenizer(["A warm, witty film.", "Dull."], padding=True, return_tensors="pt")
    random_state = torch.get_rng_state()
    model = AdapterClassifier(new_encoder(DEFAULT_ENCODER), 2, layers=2, groups=32, seed=1).eval()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert len(turnover_layers(model)) == 5
    frozen = {name: own for name, own in model.named_parameters() if not own.requires_grad}
    norms = [one for one in encoder.named_parameters() if "LayerNorm" in one[0]]
    assert all(torch.equal(frozen[f"encoder.{name}"], value) for name, value in norms)
    with torch.no_grad():
        before, after = (one(**inputs).last_hidden_state for one in (encoder, model.encoder))
        assert 0 < (after - before).norm() < 0.1 * before.norm()
        assert model(inputs["input_ids"], inputs["attention_mask"]).shape == (2, 2)


def test_masks_everywhere_in_an_encoder_from_a_file_without_a_pooler(tmp_path: Path) -> None:
    """The missing weights are drawn, and not from the global random state."""
    BertModel(BertConfig(**SIZES), add_pooling_layer=False).save_pretrained(tmp_path)
    load_encoder(DEFAULT_ENCODER)[0].save_pretrained(tmp_path)
    random_state = torch.get_rng_state()
    model = MaskedClassifier(new_encoder(str(tmp_path)), 2, groups=None, seed=0)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert len(turnover_layers(model)) == 2 * LAYERS + 1


# What cannot be built


@pytest.mark.parametrize("build", BUILDS)
def test_an_encoder_of_another_kind_is_refused_by_name(build: str) -> None:
    sizes = {"num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 16}
    distilbert = DistilBertConfig(dim=8, hidden_dim=16, n_layers=2, n_heads=2, vocab_size=50)
    albert = AlbertConfig(hidden_size=8, embedding_size=4, vocab_size=50, **sizes)
    for encoder in (DistilBertModel(distilbert), AlbertModel(albert), nn.Linear(3, 3)):
        said = rf"^{type(encoder).__name__} is not built like BERT .*$"
        with pytest.raises(TurnoverError, match=said):
            around(build, encoder)


def test_what_does_not_fit_the_encoder_is_refused() -> None:
    used = built("adapters").encoder
    with pytest.raises(TurnoverError, match=r"^this BertModel has turn-over dropout already; .*$"):
        MaskedClassifier(used, 3, groups=None, seed=0)
    for layers in (0, -1, LAYERS + 1):
        with pytest.raises(
            TurnoverError,
            match=rf"^layers={layers}, but the BertModel has 3; choose 1 to 3, or None for all$",
        ):
            adapted(layers=layers)
    for groups, bottleneck, width in ((3, 8, 16), (16, 8, 8)):
        said = rf"^{groups} groups do not divide a width of {width}; choose a divisor$"
        options = {"groups": groups, "seed": 0, "bottleneck": bottleneck}
        with pytest.raises(TurnoverError, match=said):
            AdapterClassifier(tiny_encoder(), 3, layers=None, **options)


# Padding


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", BUILDS)
def test_padding_changes_nothing(build: str, kind: str) -> None:
    model, inputs = grown(built(build, kind)), batch()
    alone = {name: value[1:, :5] for name, value in inputs.items()}
    padded = {
        name: nn.functional.pad(value, (0, 6), value=PADDING if name == "input_ids" else 0)
        for name, value in inputs.items()
    }
    torch.testing.assert_close(model(**padded), model(**inputs), rtol=0, atol=1e-9)
    with turnover([4, 9]):
        masked = model(**inputs)
        torch.testing.assert_close(model(**padded), masked, rtol=0, atol=1e-9)
    with turnover([9]):
        torch.testing.assert_close(model(**alone), masked[1:], rtol=0, atol=1e-9)
        torch.testing.assert_close(model(alone["input_ids"]), masked[1:], rtol=0, atol=1e-9)


def test_rows_are_trimmed_to_the_longest_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model, widths = token_member(0), []
    real = model.model.forward

    def watched(ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        widths.append((ids.shape[1], keep.sum(1).tolist()))
        return real(ids, keep)

    monkeypatch.setattr(model.model, "forward", watched)
    wide = nn.functional.pad(token_rows(), (0, 40), value=PADDING)
    for rows in (wide, wide[1:2]):
        torch.testing.assert_close(model.features(rows), model.features(rows[:, :9]))
        model(rows)
    assert widths == [(9, [9, 5, 9, 5]), (5, [5])]


@pytest.mark.parametrize("flipped", [None, False, True])
def test_short_texts_are_measured_together_and_every_loss_stays_with_its_text(
    flipped: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokens, widths = token_ensemble(), token_rows(), []
    grown_tokens(model)
    half, split = bool(flipped), Split(tokens, some_labels(4, 3))
    ids = None if flipped is None else torch.tensor([0, 7, 2**53 + 1, 12])
    together = item_losses(model, split, ids, half)
    chances = probabilities(model, tokens, ids, half)
    assert model.reading_order(tokens).tolist() == [1, 3, 0, 2]
    for member in model.models:
        real = member.model.forward
        monkeypatch.setattr(
            member.model,
            "forward",
            lambda ids, keep, real=real: (widths.append(ids.shape[1]), real(ids, keep))[1],
        )
    monkeypatch.setattr("turnover.training.fit._EVALUATION_ROWS", 2)
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(item_losses(model, split, ids, half), together, **close)
    assert widths == [5] * model.members + [9] * model.members
    torch.testing.assert_close(probabilities(model, tokens, ids, half), chances, **close)
    for row in (slice(own, own + 1) for own in range(4)):
        alone = Split(tokens[row], split.labels[row])
        own = item_losses(model, alone, None if ids is None else ids[row], half)
        torch.testing.assert_close(together[:, row], own, **close)
    if flipped is None:
        losses, share = validate(model, split)
        torch.testing.assert_close(losses, together, **close)
        assert share == float((chances.argmax(1) == split.labels).double().mean())
