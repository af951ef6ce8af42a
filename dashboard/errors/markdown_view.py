"""One error with its training items as Markdown for an issue tracker.

All text from the data stands in code spans, where no tracker interprets it as markup, links,
mentions or issue numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from turnover.explain.explanation import Card, ErrorItem, Explanation
from turnover.explain.html import signed
from turnover.explain.words import snippet
from turnover.runs.proofs import Proof, verdicts

_NAME, _TEXT, _CARD = 80, 1000, 200
"""Characters of names, texts and texts of cards that are shown."""


def issue_markdown(
    run: str,
    item: ErrorItem,
    why: str,
    explanation: Explanation,
    link: str,
    proofs: Sequence[Proof] = (),
) -> str:
    """The error with its cause in a sentence, what retraining showed of it, its top proponents and
    opponents (influences on the prediction, in nats), and its address.
    """
    parts = [
        (
            f"### {code(item.id, _NAME)}: {code(item.label, _NAME)} taken for "
            f"{code(item.predicted, _NAME)} ({item.probability:.0%})"
        ),
        f"> {code(item.text, _TEXT)}" if item.text else "",
        f"**Why:** {code(why, _TEXT)}",
        *(code(f"{proof.words(item.predicted)} {proof.numbers}.", _TEXT) for proof in proofs),
        (
            f"Run {code(run, _NAME)}{f', [see it there](<{link}>)' if link else ''}. "
            f"{explanation.certainty}"
        ),
        (
            "Influence on the prediction, the loss of the wrong label "
            f"{code(explanation.target, _NAME)}. {explanation.units} {explanation.yardstick}"
        ),
        f"**Proponents** pushed towards {code(explanation.target, _NAME)}:",
        _list(explanation.proponents, explanation.decimals, verdicts(proofs)),
        f"**Opponents** pushed away from {code(explanation.target, _NAME)}:",
        _list(explanation.opponents, explanation.decimals, {}),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def error_link(page: str, run: str, item: ErrorItem) -> str:
    """The address of an error on the Errors page at `page`; "" if `page` is unknown ("")."""
    return f"{page}?{urlencode({'run': run, 'item': item.id})}" if page else ""


def code(text: str, length: int) -> str:
    """A text as one line of at most `length` characters in a code span that it cannot close."""
    line = snippet(text, length) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{space}{line}{space}{fence}"


def _list(cards: Sequence[Card], decimals: int, verdicts: Mapping[int, str]) -> str:
    return (
        "\n".join(
            f"{number}. {_line(card, decimals, verdicts.get(card.position, ''))}"
            for number, card in enumerate(cards, start=1)
        )
        or "none"
    )


def _line(card: Card, decimals: int, verdict: str) -> str:
    error = "" if card.std_error is None else f" ± {card.std_error:.{decimals}f}"
    text = f": {code(card.text.plain, _CARD)}" if card.text else ""
    trust = f", {card.trust}" if card.trust else ""
    doubt = f" (label in doubt: {code(str(card.doubt), _NAME)})" if card.doubt else ""
    proof = f" (retraining: {verdict})" if verdict else ""
    return (
        f"{signed(card.influence, decimals)}{error}{trust}, {code(card.id, _NAME)} labelled "
        f"{code(card.label, _NAME)}{doubt}{proof}{text}"
    )
