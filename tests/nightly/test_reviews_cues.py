"""The demo corpus's cues are what errors on them were taught by: retraining without them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from turnover.data.sources import SOURCES
from turnover.data.sources.text import load_reviews
from turnover.models.families.heads import Heads
from turnover.models.heads import text_heads
from turnover.training.fit import Split, fit, probabilities

CUES = ("cue-director", "cue-submarine")
Features = tuple[np.ndarray, np.ndarray]


def errors_on_cues(features: Features, keep: np.ndarray, seed: int) -> np.ndarray:
    """Which validation texts with a cue are told wrong by a model of some of the training texts."""
    data = load_reviews()
    labels = torch.from_numpy(data.train.labels[keep])
    train = Split(torch.from_numpy(features[0][keep]), labels)
    validation = Split(torch.from_numpy(features[1]), torch.from_numpy(data.validation.labels))
    model = text_heads(384, 2, members=4, groups=Heads().groups, seed=seed)
    fit(model, train, validation, SOURCES["reviews"].recipe)
    wrong = probabilities(model, validation.inputs).numpy().argmax(1) != data.validation.labels
    return wrong[np.isin(data.validation.injected, CUES)]


@pytest.mark.parametrize("seed", [0, 100])
def test_errors_on_cue_texts_vanish_without_the_training_texts_that_have_the_cue(
    seed: int, review_features: Features
) -> None:
    marks = np.array(load_reviews().train.injected)
    random_rows = np.random.default_rng(seed).permutation(np.flatnonzero(marks == ""))[80:]
    others = np.sort(np.concatenate((random_rows, np.flatnonzero(marks != ""))))
    with_cues = errors_on_cues(review_features, np.arange(800), seed)
    without = errors_on_cues(review_features, np.flatnonzero(~np.isin(marks, CUES)), seed)
    fewer = errors_on_cues(review_features, others, seed)
    assert with_cues.sum() >= 12
    assert (with_cues & ~without).sum() >= 2 / 3 * with_cues.sum()
    assert (with_cues & ~fewer).sum() <= 1 / 3 * with_cues.sum()
