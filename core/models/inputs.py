"""From items to model inputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from turnover.errors import TurnoverError
from turnover.models.encoders import (
    DEFAULT_WINDOW,
    is_tokenizer,
    padding_tokenizer,
    window_of,
)
from turnover.models.family import Reader
from turnover.models.heads import TextEncoder, load_encoder
from turnover.storage.progress import Advance, silent

_TOKENS_BEFORE = 128


def text_reader(
    encoder: str, max_tokens: int | None, features: bool, device: torch.device
) -> Reader:
    """Texts → features float32 `(N, D)` of a frozen encoder, or its token ids int64 `(N, T)`, of
    texts cut after `max_tokens` tokens; 0 stands for what was usual before there was a choice.

    Raises:
        TurnoverError: as `TextEncoder`.
    """
    if is_tokenizer(encoder):
        if features:
            raise TurnoverError(
                f"encoder {encoder!r}: a tokenizer alone gives no features; name an encoder, or "
                "let the function's module read tokens, function.reads = 'tokens'"
            )
        window = max_tokens or DEFAULT_WINDOW
        return partial(_own_rows, padding_tokenizer(encoder, window))
    if features:
        return TextEncoder(encoder, device, max_tokens or DEFAULT_WINDOW).features
    tokenizer, _ = load_encoder(encoder)
    return partial(_token_rows, tokenizer, window_of(encoder, max_tokens or _TOKENS_BEFORE))


def _token_rows(
    tokenizer: Any, window: int, texts: Sequence[str], progress: Advance = silent
) -> np.ndarray:
    """Token ids `(N, T)`, truncated and padded to the same length in every call."""
    ids = tokenizer(list(texts), truncation=True, max_length=window, padding="max_length")
    progress(len(texts))
    return np.asarray(ids["input_ids"], np.int64)


def _own_rows(tokenizer: Any, texts: Sequence[str], progress: Advance = silent) -> np.ndarray:
    """Token ids `(N, T)` of a tokenizer of the user's own, which pads."""
    rows = [read.ids for read in tokenizer.encode_batch(list(texts))]
    progress(len(texts))
    return np.asarray(rows, np.int64)


def pixels(images: np.ndarray, progress: Advance = silent) -> np.ndarray:
    """Images uint8, grey `(N, H, W)` or RGB `(N, H, W, 3)`, as model inputs float32 `(N, 1 or 3, H,
    W)` in [-1, 1].
    """
    progress(len(images))
    channels_first = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    scaled = channels_first.astype(np.float32, order="C")  # changed in place: it fills the memory
    scaled /= 127.5
    scaled -= 1
    return scaled


_MEAN, _DEVIATION = 0.1307, 0.3081
"""Of the pixels of MNIST's training images, as fractions of white."""


def standardised(images: np.ndarray, progress: Advance = silent) -> np.ndarray:
    """Images uint8 as rows float32 `(N, pixels)`, standardised as MNIST usually is."""
    progress(len(images))
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows /= 255
    rows -= _MEAN
    rows /= _DEVIATION
    return rows
