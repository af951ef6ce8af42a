"""All errors of a run as `turnover errors` prints them: causes first, then training items."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from turnover.explain.causes import Causes, causes
from turnover.explain.explanation import ErrorItem, error_items
from turnover.runs.ranking import content_of, ranking_entries
from turnover.runs.run import PREDICTION, Run


def list_errors(run: Run, top: int = 5) -> dict[str, Any]:
    """All errors of a run with their causes, proponents and opponents, by influence on the
    prediction; clearest first. And the groups of errors with the same cause.

    Raises:
        TurnoverError: if the run has no influence yet.
    """
    part, found = run.influence, causes(run)
    items = error_items(run, with_influence=True)[: len(part.misclassified)]
    return {
        "run": str(run.folder),
        "estimator": part.estimator,
        "meaning": PREDICTION,
        "note": found.note,
        "groups": [
            {
                "name": group.name,
                "kind": group.kind,
                "errors": run.validation["id"].loc[list(group.errors)].tolist(),
            }
            for group in found.groups
        ],
        "errors": [_error_entry(run, item, found, top) for item in items],
    }


def _error_entry(run: Run, item: ErrorItem, found: Causes, top: int) -> dict[str, Any]:
    """An error with its cause, and its proponents and opponents with the doubts of their labels."""
    shown = ("id", "label", "predicted", "probability", "injected")
    ranking = ranking_entries(run, run.influence.ranked(item.position, PREDICTION), top)
    for entry in (*ranking["proponents"], *ranking["opponents"]):
        doubt = found.doubts.get(entry["position"])
        entry["doubt"] = doubt and asdict(doubt)
    cause = asdict(found.by_error[item.position])
    return {
        **{name: getattr(item, name) for name in shown},
        "cause": {name: value for name, value in cause.items() if name != "error"},
        **content_of(run, item.position, "validation"),
        **ranking,
    }
