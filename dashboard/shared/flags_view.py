"""The view model of the Flags page: flags filtered, disputes to settle, undo, import and export.

A dispute is a training item on which people decided differently; each distinct decision is a side
with a letter.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from turnover.dashboard.shared.choice_view import ANY
from turnover.data.sources import SOURCES
from turnover.data.tables import HUB
from turnover.data.tables.formats import ENDINGS
from turnover.errors import counted
from turnover.explain.report import (
    Flagged,
    count_words,
    flagged_items,
    minute,
    people_words,
    verdict_words,
)
from turnover.explain.words import snippet
from turnover.flags import CLEARED, Conflict, Decision, Flag, Step
from turnover.runs.run import Run

ANY_DECISION, ANYBODY = "Any decision", "Anybody"
DECISIONS = {ANY_DECISION: "", "Drop": "drop", "Relabel": "relabel", "Keep": "keep"}

_NAMED, _ID, _NAME = 3, 60, 60


@dataclass(frozen=True)
class FlagQuery:
    """The filters of the Flags page."""

    decision: str = ANY_DECISION
    label: str = ANY
    person: str = ANYBODY
    search: str = ""


@dataclass(frozen=True)
class Side:
    """One of the differing decisions on an item: letter, who decided so, notes, and the flag."""

    letter: str
    words: str
    people: tuple[str, ...]
    notes: tuple[str, ...]
    flag: Flag


@dataclass(frozen=True)
class Dispute:
    """A training item on which people differ; `now` is in force until somebody settles it."""

    item: Flagged
    sides: tuple[Side, ...]
    now: str


def newest_first(items: Iterable[Flagged]) -> list[Flagged]:
    """Flags in the order they are shown in."""
    return sorted(items, key=lambda item: item.flag.at, reverse=True)


def people(items: Iterable[Flagged]) -> list[str]:
    """The names of those who decided, sorted."""
    return sorted({item.flag.by for item in items})


def select(items: Iterable[Flagged], query: FlagQuery) -> list[Flagged]:
    """The flags that match a query, newest first."""
    wanted, action = query.search.strip().lower(), DECISIONS.get(query.decision, "")
    return newest_first(
        item
        for item in items
        if action in ("", item.flag.action)
        and query.label in (ANY, item.label)
        and query.person in (ANYBODY, item.flag.by)
        and (
            not wanted
            or any(
                wanted in text.lower()
                for text in (item.id, item.text, item.flag.note, item.flag.new_label, item.injected)
            )
        )
    )


def summary(items: Sequence[Flagged]) -> str:
    """The number of flags (at least one), by kind and by person."""
    flags = [item.flag for item in items]
    return (
        f"{counted(len(items), 'training item')} flagged: {count_words(flags)}; by "
        f"{people_words(flags)}."
    )


def undo_sentence(run: Run, step: Step | None) -> str:
    """What undo would revert, in words."""
    if step is None:
        return "There is nothing of yours to undo."
    if step.kind == "import":
        what = f"the import of {counted(len(step.flags), 'flag')}"
    else:
        first = step.flags[0]
        settled = "settled as " if step.kind == "settle" else ""
        what = (
            f"“{settled}{snippet(verdict_words(first), _NAME)}” on "
            f"{_items(run, [flag.instance for flag in step.flags])}"
        )
    return f"Undo takes back {what}, of {minute(step.at)}."


def disputes(run: Run, conflicts: Sequence[Conflict]) -> list[Dispute]:
    """The items on which people differ, ready to be settled."""
    disputed = []
    for conflict in conflicts:
        newest = conflict.flag or conflict.decisions[-1].flag
        for item in flagged_items(run, {conflict.instance: newest}):
            now = (
                f"{verdict_words(conflict.flag)} ({conflict.flag.by})"
                if conflict.flag
                else "no flag"
            )
            disputed.append(Dispute(item, _sides(conflict.decisions), now))
    return disputed


def history_lines(history: Iterable[Decision]) -> list[tuple[str, str]]:
    """All decisions on an item, oldest first: the decision with its author, and the note."""
    return [(f"{_who(decision)}: {_done(decision)}", decision.flag.note) for decision in history]


def import_sentence(counts: dict[str, Any]) -> str:
    """The result of an import (`merge_flag_file`), in words."""
    if not counts["new"]:
        return (
            f"Nothing new: {counts['known']:,} of its flags are known here already."
            if counts["known"]
            else "There is no flag in it that could be imported."
        )
    differing = (
        f" {counts['conflicting']:,} of them differ from what others decided; settle them above."
        if counts["conflicting"]
        else ""
    )
    known = f" {counts['known']:,} were known already." if counts["known"] else ""
    return f"{counts['new']:,} flag{'s are' if counts['new'] > 1 else ' is'} new.{differing}{known}"


def apply_command(run: Run) -> tuple[str, str]:
    """The command that applies the run's flags to the training data, and what its placeholder DATA
    stands for ("" if it has none).
    """
    origin, settings = run.manifest["data"].get("origin") or {}, run.manifest["settings"]
    source, data, missing = str(settings.get("data", "")), "", ""
    if not (origin or (source in SOURCES and SOURCES[source].packaged)):
        data = " --data DATA"
        missing = f"DATA is the file or folder that holds the training {run.kind}s."
    usual = ".csv" if run.kind == "text" else ".parquet"
    path = str(origin.get("path", usual))
    ending = ".parquet" if path.startswith(HUB) else Path(f"x{path}").suffix
    out = f"cleansed{ending if ending in ENDINGS else ''}"
    return f"turnover apply --run {shlex.quote(str(run.folder))}{data} --out {out}", missing


def _sides(decisions: Sequence[Decision]) -> tuple[Side, ...]:
    groups: dict[tuple[str, str], list[Decision]] = {}
    for decision in decisions:
        groups.setdefault(decision.flag.verdict, []).append(decision)
    return tuple(
        Side(
            letter,
            verdict_words(group[-1].flag),
            tuple(_who(decision) for decision in group),
            tuple(decision.flag.note for decision in group if decision.flag.note),
            group[-1].flag,
        )
        for letter, group in zip(ascii_uppercase, groups.values(), strict=False)
    )


def _who(decision: Decision) -> str:
    return (
        f"{decision.flag.by}{' (imported)' if decision.imported else ''}, "
        f"{minute(decision.flag.at)}"
    )


def _done(decision: Decision) -> str:
    words = "cleared the flag" if decision.flag.action == CLEARED else verdict_words(decision.flag)
    settled = "settled: " if decision.kind == "settle" else ""
    return f"{settled}{words}{f' (undone {minute(decision.undone)})' if decision.undone else ''}"


def _items(run: Run, instances: Sequence[int]) -> str:
    """Training items by their ids; the first few if there are many."""
    known = run.train["id"].to_numpy()
    names = [
        snippet(str(known[instance]), _ID) if instance < len(known) else str(instance)
        for instance in instances[:_NAMED]
    ]
    if len(instances) <= _NAMED:
        return ", ".join(names)
    return f"{len(instances):,} items ({', '.join(names)} …)"
