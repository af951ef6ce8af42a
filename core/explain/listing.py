"""All errors of a run as `turnover errors` prints them: causes first, then training items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from turnover.errors import TurnoverError
from turnover.explain.causes import Causes, causes
from turnover.explain.doubt import Doubt
from turnover.explain.explanation import ErrorItem, error_items
from turnover.explain.reasons import Cause
from turnover.runs.ranking import content_of, ranking_entries, stored_estimator
from turnover.runs.run import PREDICTION, Run


def list_errors(run: Run, top: int = 5) -> dict[str, Any]:
    """All errors of a run with their causes, proponents and opponents, by influence on the
    prediction; clearest first. And the groups of errors with the same cause.

    Raises:
        TurnoverError: if the run has no influence yet.
    """
    part = run.influence
    items = error_items(run, with_influence=True)[: len(part.misclassified)]
    entries = [_entry(run, item, top) for item in items]
    with suppress(TurnoverError):  # of earlier runs, and those with the ends alone, it is unknown
        _add_parts(run, items, entries)
    found = causes(run)  # kept only where nothing was refused
    for item, entry in zip(items, entries, strict=True):
        _add_cause(entry, found, found.by_error[item.position])
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
        **ranking_entries(run, run.influence.ranked(item.position, PREDICTION), top),
    }


def _add_parts(run: Run, items: Sequence[ErrorItem], entries: list[dict[str, Any]]) -> None:
    """Add how much of each influence its item has in common with like items, in nats, the rest
    being its own; and how many training items share a mask with it, on average over members.
    """
    part, estimator, mates = run.influence, stored_estimator(run), run.influence.mates
    for item, entry in zip(items, entries, strict=True):
        common = estimator.foreseen(*part.evidence(item.position, PREDICTION))[0]
        for shown in (*entry["proponents"], *entry["opponents"]):
            position = shown["position"]
            shown["common"], shown["mates"] = float(common[position]), float(mates[position])


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
