"""Encoders of three layers with random weights, and our models around them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaModel,
)

from tests.helpers.builders import some_labels
from turnover import TurnoverDropout, turnover
from turnover.models.adapters import AdapterClassifier, EncoderClassifier, MaskedClassifier

KINDS = ("bert", "roberta", "electra")
BUILDS = ("adapters", "masked")
LAYERS, WIDTH, PADDING, MANY = 3, 16, 1, range(24)
SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
}
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
    options = {
        **SIZES,
        "max_position_embeddings": 32,
        "initializer_range": 0.5,
        "pad_token_id": PADDING,
    }
    if kind == "roberta":
        return RobertaModel(RobertaConfig(**options)).eval()
    if kind == "classifier":
        config = BertConfig(**options, num_labels=3)
        return BertForSequenceClassification(config).eval()
    if kind == "electra":
        return ElectraModel(ElectraConfig(**options, embedding_size=8)).eval()
    return BertModel(BertConfig(**options)).eval()


def around(
    build: str, encoder: nn.Module, *, groups: int | None = None, seed: int = 0
) -> EncoderClassifier:
    """One of our two models around an encoder."""
    if build == "masked":
        return MaskedClassifier(encoder, 3, groups=groups, seed=seed)
    return AdapterClassifier(encoder, 3, layers=None, groups=groups, seed=seed, bottleneck=8)


def built(
    build: str, kind: str = "bert", *, groups: int | None = None, seed: int = 0
) -> EncoderClassifier:
    return around(build, tiny_encoder(kind), groups=groups, seed=seed)


def grown(model: EncoderClassifier) -> EncoderClassifier:
    """The model in float64, its new weights as large as after much training, in evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.double().named_parameters():
        if (isinstance(model, AdapterClassifier) and parameter.requires_grad) or name.startswith(
            "out."
        ):
            parameter.data = (
                torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) / 2
            )
    return model.eval()


def batch(rows: int = 2) -> dict[str, Tensor]:
    """Token ids, the second text shorter than the others."""
    ids = torch.randint(3, 50, (rows, 9), generator=torch.Generator().manual_seed(1))
    keep = torch.ones_like(ids)
    ids[1:2, 5:], keep[1:2, 5:] = PADDING, 0
    return {"input_ids": ids, "attention_mask": keep}


def gradients(
    model: nn.Module, instance: int, inputs: dict[str, Tensor]
) -> dict[str, Tensor | None]:
    """Gradients of the loss that an instance is trained on, by parameter."""
    model.zero_grad()
    with turnover([instance] * len(inputs["input_ids"])):
        nn.functional.cross_entropy(
            model(**inputs), some_labels(len(inputs["input_ids"]), 3)
        ).backward()
    return {
        name: None if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


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
