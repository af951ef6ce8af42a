"""Real label errors: does influence point at the labels that people have found to be wrong?

As `turnover.fidelity.planted`, for errors that nobody planted: five raters a review confirmed them (`turnover.data.imdb_checks`). A
planted error is wrong at random; a real one is one that a person made, on a text that invites it, and is harder to find. Raters
saw only the labels that cross-validated doubt had suspected, so that way of suspecting has helped to define the answer, and the
errors that it missed count as right labels: read its area, and how far others fall short of it, with that in mind.
"""

from __future__ import annotations

from typing import Any

from turnover.data.base import CONFIRMED_ERROR
from turnover.fidelity.options import Options
from turnover.fidelity.planted import marked_items, suspicion_rows
from turnover.fidelity.subject import Subject


def measure(subject: Subject, options: Options) -> dict[str, Any]:
    """How well every way to suspect finds the confirmed label errors.

    Raises:
        TurnoverError: if the run has none.
    """
    confirmed = marked_items(subject.run, CONFIRMED_ERROR, "no confirmed label errors; train with --data imdb-checks")
    return {"confirmed_errors": int(confirmed.sum()), "instances": len(confirmed), "rows": suspicion_rows(subject, options, confirmed)}
