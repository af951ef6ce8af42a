"""An error and the training items behind it as Markdown, to paste into an issue tracker.

Whatever comes from data stands in code spans: there, no tracker takes it for markup, links, mentions or numbers of issues.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlencode

from turnover.report.errors import ErrorItem
from turnover.report.explanation import PREDICTION, Card, Explanation
from turnover.report.fragments import signed
from turnover.report.words import snippet

_TEXT, _CARD, _NAME = 1000, 200, 80


def issue_markdown(run: str, item: ErrorItem, explanation: Explanation, meaning: str, link: str) -> str:
    """The error with its top proponents and opponents, their influences in nats, and where to see it."""
    which = "the wrong label" if meaning == PREDICTION else "the true label"
    parts = [
        f"### {code(item.id, _NAME)}: {code(item.label, _NAME)} taken for {code(item.predicted, _NAME)} ({item.probability:.0%})",
        f"> {code(item.text, _TEXT)}" if item.text else "",
        f"Run {code(run, _NAME)}{f', [see it there](<{link}>)' if link else ''}. {explanation.certainty}",
        f"Influence on the {meaning}, the loss of {which} {code(explanation.target, _NAME)}. {explanation.units} {explanation.yardstick}",
        f"**Proponents** pushed towards {code(explanation.target, _NAME)}:",
        _list(explanation.proponents, explanation.decimals),
        f"**Opponents** pushed away from {code(explanation.target, _NAME)}:",
        _list(explanation.opponents, explanation.decimals),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def error_link(page: str, run: str, item: ErrorItem, meaning: str) -> str:
    """The address that shows an error again; `page` is that of the Errors page, "" if it is not known."""
    return f"{page}?{urlencode({'run': run, 'item': item.id, 'meaning': meaning})}" if page else ""


def code(text: str, length: int) -> str:
    """A text of one line, cut to `length` characters, as a code span that it cannot end."""
    line = snippet(text, length) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{space}{line}{space}{fence}"


def _list(cards: Sequence[Card], decimals: int) -> str:
    return "\n".join(f"{place}. {_line(card, decimals)}" for place, card in enumerate(cards, start=1)) or "none"


def _line(card: Card, decimals: int) -> str:
    error = "" if card.standard_error is None else f" ± {card.standard_error:.{decimals}f}"
    text = f": {code(card.text.plain, _CARD)}" if card.text else ""
    trust = f", {card.trust}" if card.trust else ""
    return f"{signed(card.influence, decimals)}{error}{trust}, {code(card.id, _NAME)} labelled {code(card.label, _NAME)}{text}"
