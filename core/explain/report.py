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

from turnover.explain.explanation import (
    TRUST_WORDS,
    Card,
    ErrorItem,
    Explanation,
    error_items,
    explain_error,
    marked_target,
    rounded,
    units_sentence,
)
from turnover.explain.facts import Pattern, explained_pattern, run_facts
from turnover.explain.html import (
    chip_html,
    image_html,
    mark_html,
    marked_html,
    safe,
    signed,
    trust_html,
)
from turnover.explain.words import SplitWord, mark, run_splitter, snippet
from turnover.flags import CLEARED, Flag, Flags
from turnover.runs.ranking import TOP
from turnover.runs.run import PREDICTION, TRUTH, Run
from turnover.storage.atomic import write_atomic

CHARACTERS = 4000
"""Most characters of a text on the page."""

_ID, _NAME = 80, 60


# The mistakes


def index_html(items: Sequence[ErrorItem]) -> str:
    """Links to all mistakes of the page; needs at least one."""
    lines = []
    for number, item in enumerate(items, start=1):
        content = (
            image_html(item.image, 40, "")
            if item.image
            else f'<span class="snippet" dir="auto">{safe(snippet(item.text, 110))}</span>'
        )
        verdict = (
            f'<span class="verdict">{safe(_name(item.label))} → '
            f"{safe(_name(item.predicted))}</span>"
        )
        lines.append(
            f'<li><a href="#mistake-{number}"><span '
            f'class="place">{number}</span>{content}{verdict}</a></li>'
        )
    kind = "images" if items[0].image else "texts"
    summary = f"All {len(items)} at a glance"
    return (
        f'<nav aria-label="Mistakes"><details class="index"><summary>{summary}</summary><ol '
        f'class="{kind}">{"".join(lines)}</ol></details></nav>'
    )


def error_html(run: Run, item: ErrorItem, number: int, top: int) -> str:
    """Mistake `number`, with the training items behind it.

    Raises:
        TurnoverError: if the run has no usable influence for this item.
    """
    prediction, truth = (
        explain_error(run, item, meaning, top, CHARACTERS) for meaning in (PREDICTION, TRUTH)
    )
    injected = mark_html(item.injected)
    return (
        f'<article id="mistake-{number}" aria-labelledby="title-{number}"><h3 '
        f'id="title-{number}"><span class="place">{number}</span> '
        f"{chip_html(_name(item.label))} taken for {chip_html(_name(item.predicted), 'wrong')}</h3>"
        f'<div class="target">{_target_html(item, prediction, run_splitter(run))}</div>'
        f'<p class="foot">predicted with probability {item.probability:.0%}{injected}<span '
        f'class="id">{safe(snippet(item.id, _ID))}</span></p>'
        f"<section>{_heading('prediction', 'wrong', prediction)}{_sides_html(prediction)}</section>"
        f"<details><summary>{_heading('truth', 'true', truth)}</summary>"
        f"{_sides_html(truth)}</details></article>"
    )


def _target_html(item: ErrorItem, explanation: Explanation, cut: SplitWord | None) -> str:
    if item.image:
        return image_html(
            item.image,
            160,
            f"validation image of class {_name(item.label)}, predicted {_name(item.predicted)}",
        )
    return marked_html(marked_target(item.text, explanation.proponents, CHARACTERS, cut))


def _heading(meaning: str, which: str, explanation: Explanation) -> str:
    return (
        f"<h4>Influence on the {meaning} <span>loss of the {which} label "
        f"“{safe(_name(explanation.target))}”</span></h4>"
    )


def _sides_html(explanation: Explanation) -> str:
    """Proponents and opponents, with how many can be trusted and the influence of a random item."""
    cards = (*explanation.proponents, *explanation.opponents)
    scale = max((abs(card.influence) + (card.std_error or 0) for card in cards), default=0) or 1
    target = f"“{safe(_name(explanation.target))}”"
    sides = (
        ("for", "Proponents", "towards", explanation.proponents),
        ("against", "Opponents", "away from", explanation.opponents),
    )
    sections = "".join(
        f'<section class="{side}"><h5>{title} <span>pushed {where} '
        f"{target}</span></h5>{_cards_html(shown, explanation.decimals, scale)}</section>"
        for side, title, where, shown in sides
    )
    certainty = (
        f"<p>{explanation.certainty}</p>"
        if not explanation.advice
        else f"<p><strong>{explanation.certainty}</strong> {explanation.advice}</p>"
    )
    return (
        f'<div class="certainty">{certainty}</div><div class="sides">{sections}</div><p '
        f'class="quiet">{explanation.yardstick}</p>'
    )


def _cards_html(cards: Sequence[Card], decimals: int, scale: float) -> str:
    if not cards:
        return '<p class="quiet">No training item has an influence of this sign.</p>'
    kind = "texts" if cards[0].text else "images"
    return (
        '<ol class="cards '
        f'{kind}">{"".join(_card_html(card, decimals, scale) for card in cards)}</ol>'
    )


def _card_html(card: Card, decimals: int, scale: float) -> str:
    """A training item: its influence ± standard error and how far to trust it, label, contents and
    id.
    """
    error = (
        ""
        if card.std_error is None
        else f' <span class="error">± {card.std_error:.{decimals}f}</span>'
    )
    content = (
        marked_html(card.text)
        if card.text
        else image_html(card.image, 96, f"training image labelled {_name(card.label)}")
    )
    injected = mark_html(card.injected)
    return (
        '<li><p class="line"><span '
        f'class="number">{signed(card.influence, decimals)}{error}{trust_html(card.trust)}</span>'
        f"{chip_html(_name(card.label))}</p>{_bar_html(card, scale)}{content}"
        f'<p class="foot"><span class="id">{safe(snippet(card.id, _ID))}</span>{injected}</p></li>'
    )


def _bar_html(card: Card, scale: float) -> str:
    """The influence as a bar, and one standard error each way as a thin line on it; both in shares
    of `scale`.
    """
    size, error = abs(card.influence) / scale, (card.std_error or 0) / scale
    first = max(0.0, size - error)
    line = f'<b style="left:{first:.1%};width:{size + error - first:.1%}"></b>' if error else ""
    return f'<div class="bar" aria-hidden="true"><i style="width:{size:.1%}"></i>{line}</div>'


def _name(label: str) -> str:
    """A class name of sensible length; not escaped yet."""
    return snippet(label, _NAME)


# The flags

FLAGS = 200
"""Most flags on a page."""

_FLAG_CHARACTERS = 2000


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
    """The decision in words; not escaped yet."""
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
    summary = (
        f"{len(items):,} training {run.kind}{'s are' if len(items) > 1 else ' is'} flagged: "
        f"{count_words(flags)}; by {people_words(flags)}.{more}"
    )
    kind = "images" if items[0].image else "texts"
    return (
        f'<section><h2>The flags</h2><p class="said">{safe(summary)}</p><ol class="flags '
        f'{kind}">{"".join(map(_item_html, shown))}</ol></section>'
    )


def _item_html(item: Flagged) -> str:
    label = snippet(item.label, _NAME)
    content = (
        image_html(item.image, 72, f"training image labelled {label}")
        if item.image
        else marked_html(mark(item.text, (), limit=_FLAG_CHARACTERS))
    )
    note = f'<p class="note" dir="auto">{safe(item.flag.note)}</p>' if item.flag.note else ""
    who = f"{item.flag.by}, {minute(item.flag.at)}"
    return (
        f'<li><p class="line">{chip_html(label)}'
        f"{chip_html(snippet(verdict_words(item.flag), _NAME), 'flag')}</p>{content}{note}"
        f'<p class="foot"><span class="id">{safe(snippet(item.id, _ID))}</span>'
        f"{mark_html(item.injected)}<span>{safe(who)}</span></p></li>"
    )


# The page

ERRORS, SIDE = 50, 5
"""Defaults: errors on a page, and training items on each side of one."""

_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action "
    "'none'"
)
_ICON = (
    '<svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true"><circle cx="16" cy="16" '
    'r="13" fill="none" stroke="currentColor" stroke-width="3"/><path d="M16 3a13 13 0 0 1 0 26z" '
    'fill="currentColor"/></svg>'
)


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
    explained = set(run.influence.misclassified)
    items = [item for item in error_items(run, with_influence=True) if item.position in explained][
        :errors
    ]
    articles = [error_html(run, item, number, top) for number, item in enumerate(items, start=1)]
    body = [_header(run, len(items)), "<main>", _how_to_read(run), _numbers(explained_pattern(run))]
    if items:
        body += [f"<h2>The mistakes</h2>{index_html(items)}", *articles]
    return _document(
        f"What taught {run.name} its mistakes",
        "\n".join([*body, flags_html(run), "</main>", _FOOTER]),
    )


def _document(title: str, body: str) -> str:
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta '
        f'http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta '
        'name="color-scheme" content="light dark">\n'
        f"<title>{safe(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _header(run: Run, shown: int) -> str:
    """The run, and what the page shows of it."""
    facts = "".join(
        f"<div><dt>{name}</dt><dd>{safe(value)}</dd></div>"
        for name, value in run_facts(run).items()
    )
    return (
        f'<header><p class="brand">{_ICON} Turnover</p><h1>What taught <em>{safe(run.name)}</em> '
        f'its mistakes</h1><p class="lead">{_lead(run, shown)}</p><dl '
        f'class="facts">{facts}</dl></header>'
    )


def _lead(run: Run, shown: int) -> str:
    total, wrong, explained = (
        len(run.validation),
        len(run.misclassified_positions),
        len(run.influence.misclassified),
    )
    if not wrong:
        return (
            f"The model is right on all {total:,} validation {run.kind}s, so there is no mistake to"
            " explain."
        )
    lead = f"{wrong:,} of {total:,} validation {run.kind}s are misclassified. "
    if explained < wrong:
        lead += f"Influences were computed for {explained:,} of them. "
    if not shown:
        return lead.strip()
    which = f"the {shown:,} whose explanation is clearest" if shown < explained else "each"
    return (
        f"{lead}For {which}, here are the training {run.kind}s that pushed the model towards its "
        "wrong answer, and those that stood against it."
    )


def _how_to_read(run: Run) -> str:
    members = int(run.manifest["results"]["members"])
    noise = (
        "Members differ in their masks, their initialisation and the order of their batches; the "
        f"bracket on a bar spans one standard error each way. {TRUST_WORDS}"
        if members > 1
        else (
            "How much of a number is chance in the drawing of masks cannot be said; train more "
            "members to know."
        )
    )
    words = (
        " Words that a training text shares with the mistake are marked, and in the mistake those "
        "that at least two proponents share."
    )
    return (
        '<section><h2>How to read an influence</h2><p class="said">Half of the network learned '
        "from a training item, the other half never saw it. The item’s influence is the loss of a "
        "label under the half that never saw it, minus the loss under the half that did, in nats. "
        '<strong class="for">Positive: a proponent.</strong> Learning it lowered the loss and '
        'pushed the model towards the label. <strong class="against">Negative: an '
        "opponent.</strong> Learning it pushed the model away. <strong>Influence on the "
        "prediction</strong> takes the wrong label that the model chose, <strong>influence on the "
        "truth</strong> the right one.</p><p "
        f'class="quiet">{units_sentence(run.influence.estimator, members)} '
        f"{noise}{words if run.kind == 'text' else ''}</p></section>"
    )


def _numbers(pattern: Pattern | None) -> str:
    """The pattern over all explained errors."""
    if pattern is None:
        return ""
    figures = [
        (
            f"{pattern.proponents:.0%}",
            (
                f"of the {TOP} strongest proponents of a wrong label carry that label; of all "
                f"training items, {pattern.chance:.0%} do"
            ),
        ),
        (
            f"{pattern.opponents:.0%}",
            f"of the {TOP} strongest opponents of a wrong label carry that label",
        ),
        (
            f"+{rounded(pattern.strongest)}",
            "nats: influence of a mistake’s strongest proponent, median",
        ),
    ]
    if pattern.spread is not None:
        figures.append(
            (
                f"±{rounded(pattern.spread)}",
                "nats: influence of a random training item, standard deviation, median",
            )
        )
    tiles = "".join(f"<li><b>{number}</b> {words}</li>" for number, words in figures)
    over = (
        f"{pattern.misclassified:,} explained mistakes"
        if pattern.misclassified > 1
        else "the one explained mistake"
    )
    return (
        f'<section><h2>In numbers</h2><p class="quiet">Over {over}, by influence on the '
        f'prediction.</p><ul class="numbers">{tiles}</ul></section>'
    )


_FOOTER = (
    "<footer><p>Influences by turn-over dropout: Kobayashi, Yokoi, Suzuki and Inui (2020), "
    "Efficient Estimation of Influence of a Training Instance. This page is one file; it loads "
    "nothing and runs no script.</p></footer>"
)
