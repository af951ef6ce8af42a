"""All errors of a run as `turnover errors` prints them: causes first, then training items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from turnover.explain.causes import Causes, causes
from turnover.explain.doubt import Doubt
from turnover.explain.explanation import ErrorItem, error_items
from turnover.explain.reasons import Cause
from turnover.runs.proofs import proofs_of, read_proofs
from turnover.runs.ranking import content_of, target_entries
from turnover.runs.run import PREDICTION, Run


def list_errors(run: Run, top: int = 5) -> dict[str, Any]:
    """All errors of a run with their causes, what retraining showed of these, and proponents and
    opponents by influence on the prediction; clearest first. And the groups of errors with the same
    cause.

    Raises:
        TurnoverError: if the run has no influence yet.
    """
    part = run.influence
    items = error_items(run, with_influence=True)[: len(part.misclassified)]
    entries = [_entry(run, item, top) for item in items]
    found = causes(run)  # kept only where nothing was refused
    proofs = read_proofs(run)[0]
    for item, entry in zip(items, entries, strict=True):
        _add_cause(entry, found, found.by_error[item.position])
        entry["proofs"] = [
            proof.facts | {"sentence": proof.words(item.predicted), "numbers": proof.numbers}
            for proof in proofs_of(proofs, item.position)
        ]
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
        "errors": entries,
    }


def _entry(run: Run, item: ErrorItem, top: int) -> dict[str, Any]:
    """An error, with its proponents and opponents."""
    shown = ("id", "label", "predicted", "probability", "injected")
    return {
        **{name: getattr(item, name) for name in shown},
        "cause": None,
        **content_of(run, item.position, "validation"),
        **target_entries(run, item.position, PREDICTION, top),
    }


def _add_cause(entry: dict[str, Any], found: Causes, cause: Cause) -> None:
    """Add an error's cause, and the doubts of its training items' labels."""
    entry["cause"] = cause_facts(cause)
    add_doubts((*entry["proponents"], *entry["opponents"]), found.doubts)


def cause_facts(cause: Cause) -> dict[str, Any]:
    """A cause for JSON, without the error that it is of."""
    return {name: value for name, value in asdict(cause).items() if name != "error"}


def add_doubts(entries: Iterable[dict[str, Any]], doubts: Mapping[int, Doubt]) -> None:
    """Add the doubts of their labels to training items."""
    for entry in entries:
        doubt = doubts.get(entry["position"])
        entry["doubt"] = doubt and asdict(doubt)
