"""A run's mistakes, and the flags that people put on its training items, as one HTML file, to send to someone who has neither the run nor Turnover.

Nothing is loaded from elsewhere and no script runs: images are part of the file, what unfolds is `<details>`, and a content
security policy in the page forbids the rest. Its size is bounded: so many errors, so many training items on each side, so
many characters of a text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from turnover.atomic import write_atomic
from turnover.ranking import TOP
from turnover.report.article import error_html, index_html
from turnover.report.errors import error_items
from turnover.report.explanation import TRUST_WORDS, rounded, units_sentence
from turnover.report.facts import Pattern, explained_pattern, run_facts
from turnover.report.flagged import flags_html
from turnover.report.fragments import safe
from turnover.runs import Run

ERRORS, SIDE = 50, 5
"""How many errors a page holds, and how many training items on each side of one, where nobody says otherwise."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_ICON = (
    '<svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true"><circle cx="16" cy="16" r="13" fill="none" stroke="currentColor" '
    'stroke-width="3"/><path d="M16 3a13 13 0 0 1 0 26z" fill="currentColor"/></svg>'
)


def write_report(run: Run, path: Path, errors: int = ERRORS, top: int = SIDE) -> dict[str, Any]:
    """Write the page of a run with influence to `path`, whole or not at all.

    Args:
        run: with influence.
        path: the file to write; an older one is replaced.
        errors: at most so many errors, clearest explanation first.
        top: at most so many proponents and as many opponents of each.

    Returns:
        What `turnover report --json` prints: report (the path), misclassified, explained, shown and bytes.

    Raises:
        TurnoverError: if the run has no usable influence, its flags cannot be read, or the file cannot be written.
    """
    explained = len(run.influence.errors)
    content = report_page(run, errors, top).encode()
    write_atomic(path, lambda beside: beside.write_bytes(content))
    return {"report": str(path), "misclassified": len(run.errors), "explained": explained, "shown": min(explained, errors), "bytes": len(content)}


def report_page(run: Run, errors: int = ERRORS, top: int = SIDE) -> str:
    """The page that `write_report` writes.

    Raises:
        TurnoverError: if the run has no usable influence, or its flags cannot be read.
    """
    explained = set(run.influence.errors)
    items = [item for item in error_items(run, with_influence=True) if item.position in explained][:errors]
    articles = [error_html(run, item, place, top) for place, item in enumerate(items, start=1)]
    body = [_header(run, len(items)), "<main>", _how_to_read(run), _numbers(explained_pattern(run))]
    if items:
        body += [f"<h2>The mistakes</h2>{index_html(items)}", *articles]
    return _document(f"What taught {run.name} its mistakes", "\n".join([*body, flags_html(run), "</main>", _FOOTER]))


def _document(title: str, body: str) -> str:
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{safe(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _header(run: Run, shown: int) -> str:
    """What the run is, and what the page shows of it."""
    facts = "".join(f"<div><dt>{name}</dt><dd>{safe(value)}</dd></div>" for name, value in run_facts(run).items())
    return (
        f'<header><p class="brand">{_ICON} Turnover</p><h1>What taught <em>{safe(run.name)}</em> its mistakes</h1>'
        f'<p class="lead">{_lead(run, shown)}</p><dl class="facts">{facts}</dl></header>'
    )


def _lead(run: Run, shown: int) -> str:
    total, wrong, explained = len(run.validation), len(run.errors), len(run.influence.errors)
    if not wrong:
        return f"The model is right on all {total:,} validation {run.kind}s, so there is no mistake to explain."
    said = f"{wrong:,} of {total:,} validation {run.kind}s are misclassified. "
    if explained < wrong:
        said += f"Influences were computed for {explained:,} of them. "
    if not shown:
        return said.strip()
    which = f"the {shown:,} whose explanation is clearest" if shown < explained else "each"
    return f"{said}For {which}, here are the training {run.kind}s that pushed the model towards its wrong answer, and those that stood against it."


def _how_to_read(run: Run) -> str:
    members = int(run.manifest["results"]["members"])
    noise = (
        "Members differ in their masks, their initialisation and the order of their batches; the bracket on a bar spans one standard error each way. "
        f"{TRUST_WORDS}"
        if members > 1
        else "How much of a number is chance in the drawing of masks cannot be said; train more members to know."
    )
    words = " Words that a training text shares with the mistake are marked, and in the mistake those that at least two proponents share."
    return (
        '<section><h2>How to read an influence</h2><p class="said">Half of the network learned from a training item, the other half never saw it. '
        "The item’s influence is the loss of a label under the half that never saw it, minus the loss under the half that did, in nats. "
        '<strong class="for">Positive: a proponent.</strong> Learning it lowered the loss and pushed the model towards the label. '
        '<strong class="against">Negative: an opponent.</strong> Learning it pushed the model away. '
        "<strong>Influence on the prediction</strong> takes the wrong label that the model chose, <strong>influence on the truth</strong> the right one."
        f'</p><p class="quiet">{units_sentence(run.influence.estimator, members)} {noise}{words if run.kind == "text" else ""}</p></section>'
    )


def _numbers(pattern: Pattern | None) -> str:
    """The pattern over all explained errors."""
    if pattern is None:
        return ""
    told = [
        (f"{pattern.proponents:.0%}", f"of the {TOP} strongest proponents of a wrong label carry that label; of all training items, {pattern.chance:.0%} do"),
        (f"{pattern.opponents:.0%}", f"of the {TOP} strongest opponents of a wrong label carry that label"),
        (f"+{rounded(pattern.strongest)}", "nats: influence of a mistake’s strongest proponent, median"),
    ]
    if pattern.spread is not None:
        told.append((f"±{rounded(pattern.spread)}", "nats: influence of a random training item, standard deviation, median"))
    tiles = "".join(f"<li><b>{number}</b> {words}</li>" for number, words in told)
    over = f"{pattern.errors:,} explained mistakes" if pattern.errors > 1 else "the one explained mistake"
    return f'<section><h2>In numbers</h2><p class="quiet">Over {over}, by influence on the prediction.</p><ul class="numbers">{tiles}</ul></section>'


_FOOTER = (
    "<footer><p>Influences by turn-over dropout: Kobayashi, Yokoi, Suzuki and Inui (2020), Efficient Estimation of Influence of a Training Instance. "
    "This page is one file; it loads nothing and runs no script.</p></footer>"
)
