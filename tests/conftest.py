"""Settings of the engine's tests, and what is expensive enough to be made once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.helpers.builders import train_digits
from turnover.data.sources.text import load_reviews
from turnover.models.heads import TextEncoder
from turnover.runs.run import Run
from turnover.workflows.influence import compute_influence

settings.register_profile("laws", deadline=None, max_examples=25, derandomize=True, print_blob=True)
settings.load_profile("laws")
# small tensors: threads would cost more than they save, far more on a busy machine
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_name() -> Iterator[None]:
    """Nothing imports the package by the names of its folders, which would make every module
    twice.
    """
    yield
    assert not {"core", "dashboard"} & set(sys.modules)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run with influence, made once; tests that change it take a copy."""
    folder = train_digits(tmp_path_factory.mktemp("runs") / "small")
    compute_influence(Run(folder))
    return folder


@pytest.fixture(scope="session")
def reviews_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of reviews with influence on its errors; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("runs") / "reviews"
    train_digits(folder, data="reviews", limit=120, validation_limit=150)
    compute_influence(Run(folder), "errors")
    return folder


@pytest.fixture
def run_copy(small_run: Path, tmp_path: Path) -> Path:
    """A run of one's own to change or spoil."""
    return Path(shutil.copytree(small_run, tmp_path / "copy"))


@pytest.fixture(scope="session")
def encoder() -> TextEncoder:
    """The packaged text encoder."""
    return TextEncoder()


@pytest.fixture(scope="session")
def review_features(encoder: TextEncoder) -> tuple[np.ndarray, np.ndarray]:
    """Features of the demo corpus's training and validation texts."""
    data = load_reviews()
    train, validation = (
        encoder.features(items.texts or []) for items in (data.train, data.validation)
    )
    return train, validation


@pytest.fixture(scope="module")
def of_one_process(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """Checksums of what one process makes of a work of tasks in one go."""
    from tests.helpers.task_works import WORKS  # loads commands that few tests need

    @cache
    def made(name: str) -> dict[str, str]:
        return WORKS[name](tmp_path_factory.mktemp(name), None)

    return made
