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

_FEW = 5
"""Training items on each side."""

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
    taken = f"{code(item.label, _NAME)} taken for " if item.label else ""
    whose = "wrong label" if item.label else "label"
    predicted = code(item.predicted, _NAME)
    few = (explanation.proponents[:_FEW], explanation.opponents[:_FEW])
    parts = [
        f"### {code(item.id, _NAME)}: {taken}{predicted} ({item.probability:.0%})",
        f"> {code(item.text, _TEXT)}" if item.text else "",
        f"**Why:** {code(why, _TEXT)}",
        *(code(f"{proof.words(item.predicted)} {proof.numbers}.", _TEXT) for proof in proofs),
        (
            f"Run {code(run, _NAME)}{f', [see it there](<{link}>)' if link else ''}. "
            f"{explanation.certainty}"
        ),
        (
            f"Influence on the prediction, the loss of the {whose} "
            f"{code(explanation.target, _NAME)}. {explanation.units} {explanation.yardstick}"
        ),
        f"**Proponents** pushed towards {code(explanation.target, _NAME)}:",
        _list(few[0], explanation.decimals, verdicts(proofs)),
        f"**Opponents** pushed away from {code(explanation.target, _NAME)}:",
        _list(few[1], explanation.decimals, {}),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def item_link(page: str, run: str, item: str, yours: str = "") -> str:
    """The address of an item, by its id, on the Errors page at `page`, with what somebody asked
    (`yours`) if it is among that; "" if `page` is unknown ("").
    """
    said = {"run": run, **({"yours": yours} if yours else {}), "item": item}
    return f"{page}?{urlencode(said)}" if page else ""


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
    times = "" if card.times is None else f" ({card.times:,.0f} × usual)"
    text = f": {code(card.text.plain, _CARD)}" if card.text else ""
    trust = f"{times}{', uncertain' * card.uncertain}"
    doubt = f" (label in doubt: {code(str(card.doubt), _NAME)})" if card.doubt else ""
    proof = f" (retraining: {verdict})" if verdict else ""
    return (
        f"{signed(card.influence, decimals)}{error}{trust}, {code(card.id, _NAME)} labelled "
        f"{code(card.label, _NAME)}{doubt}{proof}{text}"
    )
