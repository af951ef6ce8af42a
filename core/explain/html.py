"""The templates of HTML, and pieces of it that pages share with the report.

Whatever comes from data, be it a text, an id or a class name, is made visible and escaped wherever
a template puts it; a template need not ask for it.
"""

from __future__ import annotations

import base64
from functools import partial
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from turnover.attribution.estimators.significance import NOISE
from turnover.data.base import CONFIRMED_ERROR
from turnover.errors import counted
from turnover.explain.explanation import Card, rounded
from turnover.explain.words import MarkedText, snippet, visible

NAME = 60
"""Most characters of the name of a class or a person."""


def safe(text: str) -> str:
    """A text for HTML contents and quoted attributes: escaped, without characters that hide or
    reverse the text around them.
    """
    return escape(visible(text), quote=True)


def signed(number: float, decimals: int) -> str:
    """A number with its sign; the minus is a real one."""
    return f"{number:+.{decimals}f}".replace("-", "−")


def parts_words(card: Card) -> str:
    """What a training item's influence consists of, and with how many others it shares a mask, for
    a person; "" where nothing is known.
    """
    words = []
    if card.common is not None:
        own = signed(card.influence - card.common, 3)
        words.append(f"{signed(card.common, 3)} as items like it, {own} of its own")
    if card.mates:
        words.append(f"shares a mask with {counted(round(card.mates), 'other item')}, on average")
    return "; ".join(words)


TEMPLATES = Environment(
    loader=PackageLoader("turnover.explain"),
    autoescape=True,
    finalize=lambda value: value if hasattr(value, "__html__") else visible(str(value)),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.globals["CONFIRMED_ERROR"] = CONFIRMED_ERROR
TEMPLATES.filters |= {
    "base64": lambda png: base64.b64encode(png).decode("ascii"),
    "formatted": format,
    "name": partial(snippet, length=NAME),
    "rounded": rounded,
    "signed": signed,
    "snippet": snippet,
}
TEMPLATES.globals["noise"] = NOISE
_PIECES: Any = TEMPLATES.get_template("pieces.html.jinja").module


def marked_html(text: MarkedText) -> str:
    """A text with its marks; the rest of a long text unfolds on a click."""
    return str(_PIECES.marked_text(text))


def image_html(png: bytes, pixels: int, alt: str) -> str:
    """A small image, enlarged without blur."""
    return str(_PIECES.image(png, pixels, alt))


def chip_html(text: str, kind: str = "label") -> str:
    """A short word in a frame: `label`, `wrong`, `injected` or `flag`."""
    return str(_PIECES.chip(text, kind))


def mark_html(mark: str) -> str:
    """An item's known mark as a chip: what was injected, or that people found its label wrong; ""
    without a mark.
    """
    return str(_PIECES.mark_chip(mark))


def trust_html(trust: str) -> str:
    """A mark on an influence, by its trust word, whose sign cannot be told from noise."""
    return str(_PIECES.trust(trust))
