"""BERT with masked adapters (Houlsby et al. 2019), and BERT masked as a whole for comparison.

A frozen text encoder keeps the masks out of its features. Adapters let training change the features
themselves, and so leave more of each instance in the model. An adapter is a bottleneck beside the
identity, here with a mask inside:

    a(x) = x + U (gelu(V x + c) ∘ m(z)) + d

There are two in each of the last L layers, one after attention and one after the feed-forward
network, each behind the dense layer that ends the sub-layer, before the residual sum and its
LayerNorm. The mean of the last layer's token vectors, masked once more, gives the logits. U starts
near zero, so that new adapters change little.

The encoder is frozen with its LayerNorms, which Houlsby et al. train: every instance would change
them. Of what is trained, a row of V, its entry of c and a column of U belong to one bottleneck
unit, a column of the output layer to one feature; an instance whose mask switches that unit or
feature off cannot change them. The up-biases d and the output bias belong to no unit: the leaks.

Leaks make the flipped sub-network look too good; another effect makes it look too bad. Items share
half of their units, so they react to what an item wrote there; its flipped sub-network holds the
reactions without the item, and does worse on it than a network that never saw it. The reaction is
weaker the less an item resembles the others and the fewer steps follow. So V starts at its usual
size (from near zero all units would grow in the same direction), the encoder's ordinary dropout is
off (with it an item takes more steps to learn), and the learning rate falls to zero.

Masks over all layers without adapters is what Kobayashi et al. (2020, section 4.1) found unstable.
`MaskedClassifier` is that model: the whole encoder is trained, and most of it leaks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from turnover.attribution.dropout import TurnoverDropout
from turnover.attribution.masks import derive_seed
from turnover.errors import TurnoverError
from turnover.models.heads import load_encoder, token_mean

BOTTLENECK = 64
_INIT, _MASKS = 1, 2
_UP_STD = 0.01  # as Houlsby et al.
_OUTPUT_STD = 0.02  # BERT's own


def _linear(width_in: int, width_out: int, std: float, seed: int) -> nn.Linear:
    """A linear layer drawn from its own seed: normal weights truncated at two standard deviations,
    zero biases.
    """
    layer = nn.utils.skip_init(nn.Linear, width_in, width_out)
    nn.init.trunc_normal_(
        layer.weight, std=std, a=-2 * std, b=2 * std, generator=torch.Generator().manual_seed(seed)
    )
    nn.init.zeros_(layer.bias)
    return layer


class Adapter(nn.Module):
    """A bottleneck beside the identity, masked by instance: `(B, T, width)` → `(B, T, width)`."""

    def __init__(
        self,
        width: int,
        bottleneck: int,
        mask: Callable[..., TurnoverDropout],
        *,
        seed: int,
        layer: int,
    ) -> None:
        super().__init__()
        self.down = _linear(width, bottleneck, width**-0.5, derive_seed(seed, _INIT, layer, 0))
        self.mask = mask(bottleneck, layer=layer)
        self.up = _linear(bottleneck, width, _UP_STD, derive_seed(seed, _INIT, layer, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.mask(nn.functional.gelu(self.down(x))))


def _sublayer_ends(encoder: nn.Module) -> list[Any]:
    """The ends of the encoder's sub-layers, alternating attention and feed-forward: dense, dropout,
    then residual and LayerNorm.

    Raises:
        TurnoverError: if the encoder is not built like BERT, or has masks already.
    """
    name = type(encoder).__name__
    layers = getattr(getattr(encoder, "encoder", None), "layer", None)
    ends = []
    for layer in layers if isinstance(layers, nn.ModuleList) else ():
        ends += [
            getattr(getattr(layer, "attention", None), "output", None),
            getattr(layer, "output", None),
        ]
    if not ends or not all(
        hasattr(end, part) for end in ends for part in ("dense", "dropout", "LayerNorm")
    ):
        raise TurnoverError(
            f"{name} is not built like BERT (dense, dropout and LayerNorm end each sub-layer); use "
            "BERT, RoBERTa, ELECTRA or their like"
        )
    if any(isinstance(module, TurnoverDropout) for module in encoder.modules()):
        raise TurnoverError(
            f"this {name} has turn-over dropout already; load the encoder anew for each classifier"
        )
    return ends


def _insert(ends: Sequence[Any], first: int, make: Callable[[int], nn.Module]) -> None:
    """Put a module after the ordinary dropout of every sub-layer from number `first` on."""
    for number in range(first, len(ends)):
        ends[number].dropout = nn.Sequential(
            ends[number].dropout, make(number).to(ends[number].dense.weight)
        )


class EncoderClassifier(nn.Module):
    """A BERT-family encoder, the mean of its token vectors, a mask and a linear layer: the
    common base of both models.

    The encoder becomes a part of the model and is changed in place. Mask 2i is in the attention
    of encoder layer i, mask 2i + 1 in its feed-forward network, mask 2N before the output.

    Attributes:
        leaks: what all instances share in spite of their masks, in words (law 3).
    """

    leaks: tuple[str, ...]

    def __init__(
        self,
        encoder: nn.Module,
        classes: int,
        *,
        groups: int | None,
        seed: int,
        masks: int | None = None,
    ) -> None:
        super().__init__()
        ends = _sublayer_ends(encoder)
        self.new_mask = partial(
            TurnoverDropout, groups=groups, seed=derive_seed(seed, _MASKS), masks=masks
        )
        self.encoder: Any = encoder
        width = int(ends[-1].dense.out_features)
        self.mask = self.new_mask(width, layer=len(ends))
        self.out = _linear(width, classes, _OUTPUT_STD, derive_seed(seed, _INIT, len(ends))).to(
            ends[-1].dense.weight
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits `(B, classes)` of token ids `(B, T)`; `attention_mask` is 0 on padding; None
        means no padding.
        """
        return self.out(self.mask(self.pooled(input_ids, attention_mask)))

    def pooled(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Mean token vectors `(B, width)`, the output layer's input."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return token_mean(
            hidden, torch.ones_like(input_ids) if attention_mask is None else attention_mask
        )


class AdapterClassifier(EncoderClassifier):
    """A frozen BERT-family encoder with masked adapters in its last layers.

    Args:
        encoder: a model built like BERT, such as one from `AutoModel`.
        classes: number of classes.
        layers: how many of the last layers have adapters; None means all.
        groups: mask this many groups of units, in the bottlenecks and before the output; None means
            single units.
        seed: determines the masks and the new weights.
        masks: how many masks the instances share; None: every instance has its own.
        bottleneck: width of the adapters' bottlenecks.

    Raises:
        TurnoverError: if the encoder is not built like BERT or has fewer layers, or `groups` does
            not divide a width.
    """

    leaks = ("the adapters' up-biases", "the output bias")

    def __init__(
        self,
        encoder: nn.Module,
        classes: int,
        *,
        layers: int | None,
        groups: int | None,
        seed: int,
        masks: int | None = None,
        bottleneck: int = BOTTLENECK,
    ) -> None:
        super().__init__(encoder, classes, groups=groups, seed=seed, masks=masks)
        ends = _sublayer_ends(encoder)
        if layers is not None and not 1 <= layers <= len(ends) // 2:
            raise TurnoverError(
                f"layers={layers}, but the {type(encoder).__name__} has {len(ends) // 2}; choose 1 "
                f"to {len(ends) // 2}, or None for all"
            )
        encoder.requires_grad_(False)
        first = 0 if layers is None else len(ends) - 2 * layers
        _insert(
            ends,
            first,
            lambda number: Adapter(
                ends[number].dense.out_features, bottleneck, self.new_mask, seed=seed, layer=number
            ),
        )
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0


class MaskedClassifier(EncoderClassifier):
    """A BERT-family encoder trained as a whole, masked after the dense layer that ends each
    sub-layer.

    Args and errors as for `AdapterClassifier`.
    """

    leaks = (
        "the embeddings",
        "the queries, keys and values of attention",
        "the first layer of each feed-forward network",
        "the LayerNorms",
        "the output bias",
    )

    def __init__(
        self,
        encoder: nn.Module,
        classes: int,
        *,
        groups: int | None,
        seed: int,
        masks: int | None = None,
    ) -> None:
        super().__init__(encoder, classes, groups=groups, seed=seed, masks=masks)
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_(not name.startswith("pooler."))  # the pooler is not used
        ends = _sublayer_ends(encoder)
        _insert(
            ends, 0, lambda number: self.new_mask(ends[number].dense.out_features, layer=number)
        )


class TokenRows(nn.Module):
    """An `EncoderClassifier` whose input is one tensor: token ids `(B, T)`, padded with the
    padding token.
    """

    def __init__(self, model: EncoderClassifier) -> None:
        super().__init__()
        self.model, self.leaks = model, model.leaks
        self.padding = int(model.encoder.config.pad_token_id or 0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `(B, classes)`."""
        logits: Tensor = self.model(*trimmed(tokens, self.padding))
        return logits

    def features(self, tokens: Tensor) -> Tensor:
        """Mean token vectors `(B, width)`."""
        return self.model.pooled(*trimmed(tokens, self.padding))

    def reading_order(self, tokens: Tensor) -> Tensor:
        """Short texts first, so that a batch has texts of similar length and little padding."""
        return (tokens != self.padding).sum(1).argsort(stable=True)


def trimmed(tokens: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, without the columns that are padding in every row."""
    real = tokens != padding
    width = max(1, int(real.sum(1).max()))
    return tokens[:, :width], real[:, :width].long()


def new_encoder(name: str) -> nn.Module:
    """The encoder of this name, by `turnover.models.heads.load_encoder`; weights that its file
    lacks, such as an unused pooler's, are drawn without changing the global random state.
    """
    with torch.random.fork_rng(devices=[]):
        return load_encoder(name)[1]
