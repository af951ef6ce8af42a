"""The frozen encoder: features that depend on the text alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core import TurnoverError
from core.models.encoders import encoder_folder
from core.models.text import MAX_TOKENS, TextEncoder, length_batches
from core.runs import sha256

TEXTS = ["A warm, witty film.", "Dull.", "It goes on and on and on, " * 12, "Ça va? 你好 🎬", "I left after ten minutes; so did the projectionist."]


def test_features_are_the_scaled_mean_of_the_token_vectors(encoder: TextEncoder) -> None:
    features = encoder.features(TEXTS)
    for text, row in zip(TEXTS, features, strict=True):
        with torch.no_grad():
            hidden = encoder.model(**encoder.tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = hidden.mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm() * 384**0.5).numpy(), atol=2e-4)
    assert features.dtype == np.float32


def test_features_of_a_text_do_not_depend_on_the_other_texts(encoder: TextEncoder) -> None:
    together = encoder.features(TEXTS * 20)
    alone = np.concatenate([encoder.features([text]) for text in TEXTS])
    np.testing.assert_allclose(together, np.tile(alone, (20, 1)), atol=2e-4)


def test_texts_of_any_length_are_cut_to_the_encoder_s_window(encoder: TextEncoder) -> None:
    (tokens,) = encoder.tokens(["word " * 100_000])
    assert len(tokens) == encoder.max_tokens == MAX_TOKENS
    assert encoder.features(["word " * 100_000]).shape == (1, 384)


def test_progress_counts_every_text(encoder: TextEncoder) -> None:
    told: list[int] = []
    encoder.features(TEXTS, told.append)
    assert sum(told) == len(TEXTS)


def test_the_encoder_is_frozen_and_evaluates(encoder: TextEncoder) -> None:
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not encoder.model.training


def test_the_packaged_encoder_is_the_one_we_measured_with() -> None:
    weights = Path(encoder_folder("all-MiniLM-L6-v2")) / "model.safetensors"
    assert sha256(weights) == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_another_name_is_left_to_transformers() -> None:
    assert encoder_folder("bert-base-uncased") == "bert-base-uncased"


def test_a_folder_without_an_encoder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match="cannot be loaded: it is a local folder") as raised:
        TextEncoder(str(tmp_path))
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


@given(lengths=st.lists(st.integers(1, 300), max_size=60), tokens=st.integers(1, 2000))
def test_batches_hold_every_row_once_and_keep_to_their_size(lengths: list[int], tokens: int) -> None:
    batches = length_batches(lengths, tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= tokens for batch in batches)
