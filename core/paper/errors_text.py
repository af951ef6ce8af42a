"""Mistakes on SST-2 and the training sentences behind them (Figures 3 and 4).

The paper shows single sentences; here is a page of many, `errors-text.html` beside the runs, and what they have in common.
At the small scale few are explained: a sentence costs two passes of the encoder for each of 5,000 training sentences, twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from turnover.paper.mistakes import explain_mistakes
from turnover.paper.row import PaperRow
from turnover.paper.setup import Setup
from turnover.paper.side_effect import text_settings

_MOST = {"small": 6, "paper": 50}


def errors_text(setup: Setup) -> Iterator[PaperRow]:
    """How many mistakes there are, the page that explains them, and whose labels their proponents carry."""
    run = setup.run("sst2-adapters-5000", text_settings(setup, 5000))
    yield from explain_mistakes(setup, run, "errors-text.html", _MOST[setup.scale])
