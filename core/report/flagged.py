"""Flagged training items as they are shown, and the part of the page that lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from turnover.flags import CLEARED, Flag, Flags
from turnover.report.fragments import chip_html, image_html, mark_html, marked_html, safe
from turnover.report.words import mark, snippet
from turnover.runs import Run

FLAGS = 200
"""How many flags a page holds at most."""

_CHARACTERS, _ID, _NAME = 2000, 80, 60


@dataclass(frozen=True)
class Flagged:
    """A training item with the flag on it."""

    id: str
    label: str
    planted: str
    text: str
    image: bytes
    flag: Flag


def flagged_items(run: Run, flags: Mapping[int, Flag]) -> list[Flagged]:
    """The items of some flags, by position; flags on items that the run does not have are left out."""
    names = ("id", "label", "planted", "text" if run.kind == "text" else "image")
    ids, labels, planted, contents = (run.train[name].to_numpy() for name in names)
    classes = run.classes
    return [
        Flagged(
            id=str(ids[place]),
            label=classes[int(labels[place])],
            planted=str(planted[place]),
            text=str(contents[place]) if run.kind == "text" else "",
            image=bytes(contents[place]) if run.kind == "image" else b"",
            flag=flag,
        )
        for place, flag in sorted(flags.items())
        if place < len(ids)
    ]


def verdict_words(flag: Flag) -> str:
    """What was decided, in words; not escaped yet."""
    return {"drop": "drop", "keep": "keep", CLEARED: "no flag"}.get(flag.action, f"relabel to {flag.new_label}")


def count_words(flags: Iterable[Flag]) -> str:
    """How many flags there are of each sort: "3 to drop, 1 to keep"."""
    counts = Counter(flag.action for flag in flags)
    return ", ".join(f"{counts[action]:,} to {action}" for action in ("drop", "relabel", "keep") if counts[action])


def people_words(flags: Iterable[Flag], most: int = 5) -> str:
    """Who decided, most decisions first; not escaped yet."""
    names = [snippet(name, _NAME) for name, _ in Counter(flag.by for flag in flags).most_common()]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def minute(at: str) -> str:
    """A flag's time to the minute, in UTC."""
    return f"{at[:16].replace('T', ' ')} UTC"


def flags_html(run: Run) -> str:
    """The part of a page that lists the flags of a run, newest first; nothing if there are none."""
    items = flagged_items(run, Flags(run.folder).current())
    if not items:
        return ""
    flags = [item.flag for item in items]
    shown = sorted(items, key=lambda item: item.flag.at, reverse=True)[:FLAGS]
    more = f" The newest {FLAGS} are shown." if len(items) > FLAGS else ""
    told = f"{len(items):,} training {run.kind}{'s are' if len(items) > 1 else ' is'} flagged: {count_words(flags)}; by {people_words(flags)}.{more}"
    kind = "images" if items[0].image else "texts"
    return f'<section><h2>The flags</h2><p class="said">{safe(told)}</p><ol class="flags {kind}">{"".join(map(_item_html, shown))}</ol></section>'


def _item_html(item: Flagged) -> str:
    label = snippet(item.label, _NAME)
    content = image_html(item.image, 72, f"training image labelled {label}") if item.image else marked_html(mark(item.text, (), limit=_CHARACTERS))
    note = f'<p class="note" dir="auto">{safe(item.flag.note)}</p>' if item.flag.note else ""
    who = f"{item.flag.by}, {minute(item.flag.at)}"
    return (
        f'<li><p class="line">{chip_html(label)}{chip_html(snippet(verdict_words(item.flag), _NAME), "flag")}</p>{content}{note}'
        f'<p class="foot"><span class="id">{safe(snippet(item.id, _ID))}</span>{mark_html(item.planted)}<span>{safe(who)}</span></p></li>'
    )
