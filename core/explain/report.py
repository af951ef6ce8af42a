"""A run's mistakes, and the flags on its training items, as one self-contained HTML file.

It is meant for someone who has neither the run nor Turnover. Nothing is loaded from elsewhere and
no script runs: images are embedded, long parts unfold by `<details>`, and a content security policy
in the page forbids the rest. Its size is bounded: in errors, in training items on each side, and in
characters of a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnover.explain.causes import Causes, causes
from turnover.explain.explanation import (
    UNCERTAIN,
    ErrorItem,
    error_items,
    explain_error,
    marked_target,
    units_sentence,
)
from turnover.explain.facts import explained_pattern, run_facts
from turnover.explain.html import NAME, TEMPLATES
from turnover.explain.words import mark, run_pieces, snippet
from turnover.flags import CLEARED, Flag, Flags
from turnover.runs.proofs import Proof, proofs_of, read_proofs, verdicts
from turnover.runs.ranking import TOP
from turnover.runs.run import PREDICTION, TRUTH, Run
from turnover.storage.atomic import write_atomic

ERRORS, SIDE = 50, 5
"""Defaults: errors on a page, and training items on each side of one."""

CHARACTERS = 4000
"""Most characters of a text on the page."""

FLAGS = 200
"""Most flags on a page."""

_FLAG_CHARACTERS = 2000


def write_report(run: Run, path: Path, errors: int = ERRORS, top: int = SIDE) -> dict[str, Any]:
    """Write the page of a run with influence to `path`, whole or not at all.

    Args:
        run: with influence.
        path: the file to write; an existing one is replaced.
        errors: at most so many errors, clearest explanation first.
        top: at most so many proponents and as many opponents of each.

    Returns:
        What `turnover report --json` prints: report (the path), misclassified, explained, shown and
        bytes.

    Raises:
        TurnoverError: if the run has no usable influence, its flags cannot be read, or the file
            cannot be written.
    """
    explained = len(run.influence.misclassified)
    content = report_page(run, errors, top).encode()
    write_atomic(path, lambda beside: beside.write_bytes(content))
    return {
        "report": str(path),
        "misclassified": len(run.misclassified_positions),
        "explained": explained,
        "shown": min(explained, errors),
        "bytes": len(content),
    }


def report_page(run: Run, errors: int = ERRORS, top: int = SIDE) -> str:
    """The page that `write_report` writes.

    Raises:
        TurnoverError: if the run has no usable influence, or its flags cannot be read.
    """
    return TEMPLATES.get_template("report.html.jinja").render(page_data(run, errors, top))


def page_data(run: Run, errors: int, top: int) -> dict[str, Any]:
    """What the page shows of a run, by the names of its template.

    Raises:
        TurnoverError: if the run has no usable influence, or its flags cannot be read.
    """
    explained, members = len(run.influence.misclassified), int(run.manifest["results"]["members"])
    found, proofs = causes(run), read_proofs(run)[0]
    items = error_items(run, with_influence=True)[:explained]
    flagged = flagged_items(run, Flags(run.folder).current())
    newest = sorted(flagged, key=lambda item: item.flag.at, reverse=True)
    flags = [item.flag for item in flagged]
    return {
        "name": run.name,
        "kind": run.kind,
        "texts": run.kind == "text",
        "facts": run_facts(run),
        "total": len(run.validation),
        "wrong": len(run.misclassified_positions),
        "explained": explained,
        "units": units_sentence(run.influence.estimator, members),
        "members": members,
        "uncertain": UNCERTAIN,
        "pattern": explained_pattern(run),
        "top": TOP,
        "groups": found.groups,
        "note": found.note,
        "mistakes": [_mistake(run, item, found, proofs, top) for item in items[:errors]],
        "flagged": len(flags),
        "counts": count_words(flags),
        "people": people_words(flags),
        "flags": [_flag(run, item) for item in newest[:FLAGS]],
    }


def _mistake(
    run: Run, item: ErrorItem, found: Causes, proofs: Sequence[Proof], top: int
) -> dict[str, Any]:
    """A mistake, with its cause, what retraining showed, and the training items behind it."""
    prediction, truth = (
        explain_error(run, item, meaning, top, CHARACTERS, doubts=found.doubts)
        for meaning in (PREDICTION, TRUTH)
    )
    text = marked_target(item.text, prediction.proponents, CHARACTERS, run_pieces(run))
    why = found.by_error[item.position].sentence
    tested = proofs_of(proofs, item.position)
    return {
        "item": item,
        "why": why,
        "proofs": [f"{proof.words(item.predicted)} {proof.numbers}." for proof in tested],
        "verdicts": verdicts(tested),
        "text": text,
        "prediction": prediction,
        "truth": truth,
    }


def _flag(run: Run, item: Flagged) -> dict[str, Any]:
    """A flagged item, with the decision, and who made it when, in words."""
    return {
        "item": item,
        "text": mark(item.text, (), limit=_FLAG_CHARACTERS, pieces=run_pieces(run)),
        "verdict": verdict_words(item.flag),
        "who": f"{item.flag.by}, {minute(item.flag.at)}",
    }


# The flags


@dataclass(frozen=True)
class Flagged:
    """A training item with the flag on it."""

    id: str
    label: str
    injected: str
    text: str
    image: bytes
    flag: Flag


def flagged_items(run: Run, flags: Mapping[int, Flag]) -> list[Flagged]:
    """The items of some flags, by position; flags on items that the run does not have are
    skipped.
    """
    names = ("id", "label", "planted", "text" if run.kind == "text" else "image")
    ids, labels, injected, contents = (run.train[name].to_numpy() for name in names)
    classes = run.classes
    return [
        Flagged(
            id=str(ids[position]),
            label=classes[int(labels[position])],
            injected=str(injected[position]),
            text=str(contents[position]) if run.kind == "text" else "",
            image=bytes(contents[position]) if run.kind == "image" else b"",
            flag=flag,
        )
        for position, flag in sorted(flags.items())
        if position < len(ids)
    ]


def verdict_words(flag: Flag) -> str:
    """The decision in words."""
    return {"drop": "drop", "keep": "keep", CLEARED: "no flag"}.get(
        flag.action, f"relabel to {flag.new_label}"
    )


def count_words(flags: Iterable[Flag]) -> str:
    """How many flags there are of each sort: "3 to drop, 1 to keep"."""
    counts = Counter(flag.action for flag in flags)
    return ", ".join(
        f"{counts[action]:,} to {action}"
        for action in ("drop", "relabel", "keep")
        if counts[action]
    )


def people_words(flags: Iterable[Flag], most: int = 5) -> str:
    """Who decided, most decisions first."""
    names = [snippet(name, NAME) for name, _ in Counter(flag.by for flag in flags).most_common()]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def minute(at: str) -> str:
    """A flag's time to the minute, in UTC."""
    return f"{at[:16].replace('T', ' ')} UTC"
