"""Mistakes on CIFAR-10 and the training images behind them (Figure 5): a page, `errors-images.html` beside the runs."""

from __future__ import annotations

from collections.abc import Iterator

from turnover.paper.mistakes import explain_mistakes
from turnover.paper.row import PaperRow
from turnover.paper.setup import Setup
from turnover.paper.side_effect import image_settings

_MOST = 50


def errors_images(setup: Setup) -> Iterator[PaperRow]:
    """How many mistakes there are, the page that explains them, and whose labels their proponents carry."""
    run = setup.run("cifar10-vgg19", image_settings(setup))
    yield from explain_mistakes(setup, run, "errors-images.html", _MOST)
