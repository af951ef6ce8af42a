"""The view model of the tray: what was decided, disputes to settle, undo, import and export.

A dispute is a training item on which people decided differently; each distinct decision is a side
with a letter.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from turnover.data.sources import SOURCES
from turnover.data.tables import HUB
from turnover.data.tables.formats import ENDINGS
from turnover.errors import counted
from turnover.explain.report import count_words, minute, people_words, verdict_words
from turnover.explain.words import snippet
from turnover.flags import Conflict, Decision, Flag, Step
from turnover.flags.judgements import Judgement
from turnover.runs.run import Run

_NAMED, _ID, _NAME = 3, 60, 60


@dataclass(frozen=True)
class Entry:
    """One decision: on a training item, or on an error of the validation items (`split`).

    Attributes:
        verdict: the decision in words.
        who: by whom and when.
        at: UTC, ISO 8601.
    """

    split: str
    position: int
    id: str
    text: str
    image: bytes
    verdict: str
    who: str
    note: str
    at: str


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

    item: Entry
    sides: tuple[Side, ...]
    now: str


def decisions_words(count: int) -> str:
    """How many decisions there are; list.js says the same."""
    return counted(count, "decision")


def entries(run: Run, flags: Mapping[int, Flag], judged: Mapping[int, Judgement]) -> list[Entry]:
    """All decisions, newest first; those on items that the run does not have are skipped."""
    of_errors = (
        (one.position, one.verdict, f"{one.by}, {minute(one.at)}", "", one.at)
        for one in judged.values()
    )
    known = [
        *_entries(run, "train", map(_decided, flags.values())),
        *_entries(run, "validation", of_errors),
    ]
    return sorted(known, key=lambda entry: entry.at, reverse=True)


def _decided(flag: Flag) -> tuple[int, str, str, str, str]:
    who = f"{flag.by}, {minute(flag.at)}"
    return flag.instance, verdict_words(flag), who, flag.note, flag.at


def _entries(
    run: Run, split: str, decided: Iterable[tuple[int, str, str, str, str]]
) -> Iterator[Entry]:
    frame, texts = run.split(split), run.kind == "text"
    ids, contents = frame["id"].to_numpy(), frame["text" if texts else "image"].to_numpy()
    for position, *words in decided:
        if position < len(ids):
            content = ("", contents[position]) if not texts else (str(contents[position]), b"")
            yield Entry(split, position, str(ids[position]), *content, *words)


def matching(known: Sequence[Entry], search: str) -> list[Entry]:
    """The decisions whose item, verdict, author or note has all these words."""
    words = search.casefold().split()
    return [
        entry
        for entry in known
        if all(
            word in f"{entry.id} {entry.text} {entry.verdict} {entry.who} {entry.note}".casefold()
            for word in words
        )
    ]


def summary(flags: Iterable[Flag], judged: int) -> str:
    """How many decisions there are (at least one), by kind and by person."""
    flags, parts = list(flags), []
    if flags:
        parts.append(
            f"{counted(len(flags), 'training item')} flagged: {count_words(flags)}; by "
            f"{people_words(flags)}."
        )
    if judged:
        parts.append(f"{counted(judged, 'error')} judged.")
    return " ".join(parts)


def undo_sentence(run: Run, step: Step) -> str:
    """What undo would take back, in words."""
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
    newest = [_decided(one.flag or one.decisions[-1].flag) for one in conflicts]
    shown = {entry.position: entry for entry in _entries(run, "train", newest)}
    return [
        Dispute(
            shown[conflict.instance],
            _sides(conflict.decisions),
            f"{verdict_words(conflict.flag)} ({conflict.flag.by})" if conflict.flag else "no flag",
        )
        for conflict in conflicts
        if conflict.instance in shown
    ]


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
            tuple(who_words(decision) for decision in group),
            tuple(decision.flag.note for decision in group if decision.flag.note),
            group[-1].flag,
        )
        for letter, group in zip(ascii_uppercase, groups.values(), strict=False)
    )


def who_words(decision: Decision) -> str:
    """By whom and when."""
    return (
        f"{decision.flag.by}{' (imported)' if decision.imported else ''}, "
        f"{minute(decision.flag.at)}"
    )


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
