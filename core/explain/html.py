"""Pieces of HTML shared by pages and the report.

Whatever comes from data, be it a text, an id or a class name, is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from turnover.data.base import CONFIRMED_ERROR
from turnover.explain.words import MarkedText, Segment, visible


def safe(text: str) -> str:
    """A text for HTML contents and quoted attributes: escaped, without characters that hide or
    reverse the text around them.
    """
    return escape(visible(text), quote=True)


def marked_html(text: MarkedText) -> str:
    """A text with its marks; the rest of a long text unfolds on a click."""
    parts = _segments_html(text.head)
    if text.tail:
        left_out = (
            f"<em> … and {text.left_out:,} characters more, which are not shown</em>"
            if text.left_out
            else ""
        )
        summary = f"Show all {text.length:,} characters" if not left_out else "Show more"
        parts += (
            "<details "
            f'class="to-more"><summary>{summary}</summary>{_segments_html(text.tail)}{left_out}</details>'
        )
    return f'<div class="to-text" dir="auto">{parts}</div>'


def image_html(png: bytes, pixels: int, alt: str) -> str:
    """A small image, enlarged without blur."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<img class="to-image" src="data:image/png;base64,{data}" alt="{safe(alt)}" '
        f'style="width:{pixels}px">'
    )


def chip_html(text: str, kind: str = "label") -> str:
    """A short word in a frame: `label`, `wrong`, `injected` or `flag`."""
    return f'<span class="to-chip to-{kind}">{safe(text)}</span>'


def mark_html(mark: str) -> str:
    """An item's known mark as a chip: what was injected, or that people found its label wrong; ""
    without a mark.
    """
    if not mark:
        return ""
    return chip_html(
        "label found wrong by people" if mark == CONFIRMED_ERROR else f"injected: {mark}",
        "injected",
    )


def trust_html(trust: str) -> str:
    """An influence's trust word; "" where no standard error is known."""
    return f' <span class="to-trust">{safe(trust)}</span>' if trust else ""


def signed(number: float, decimals: int) -> str:
    """A number with its sign; the minus is a real one."""
    return f"{number:+.{decimals}f}".replace("-", "−")


def _segments_html(segments: Sequence[Segment]) -> str:
    return "".join(
        f"<mark>{safe(segment.text)}</mark>" if segment.marked else safe(segment.text)
        for segment in segments
    )
