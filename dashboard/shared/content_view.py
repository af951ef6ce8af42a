"""Items and label doubts as data that a component draws, and the basics of what it sends."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from turnover.explain.doubt import Doubt
from turnover.explain.words import MarkedText, visible
from turnover.runs.run import Run


def data_url(png: bytes) -> str:
    """A PNG as a source of an image; "" for none."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}" if png else ""


def doubt_data(run: Run, doubt: Doubt | None) -> dict[str, Any] | None:
    """The label that is proposed, by name and number, and how sure that is."""
    if doubt is None:
        return None
    return {
        "label": visible(doubt.label),
        "index": run.classes.index(doubt.label) if doubt.label in run.classes else -1,
        "chance": f"{doubt.probability:.0%}",
    }


def content_data(text: MarkedText | None, png: bytes) -> dict[str, Any]:
    """A text in pieces, each `[text, marked]`, what unfolds and what is not sent; or an image."""
    if text is None:
        return {"image": data_url(png)}
    return {"head": _pieces(text.head), "tail": _pieces(text.tail), "left": text.left_out}


def _pieces(segments: Iterable[Any]) -> list[list[Any]]:
    return [
        [f" [cut here: the model reads {part.window} tokens] ", 2]
        if part.window
        else [visible(part.text), int(part.marked)]
        for part in segments
    ]


# What it sends


def valid_values(
    params: Mapping[str, Any], names: Collection[str], known: Mapping[str, Collection[str]]
) -> dict[str, str]:
    """What an address or a browser says under these names; what makes no sense counts as not said:
    a value that is no text, or none of the `known` ones of its name.
    """
    return {
        name: value
        for name, value in params.items()
        if name in names and isinstance(value, str) and value in known.get(name, (value,))
    }


Name = Annotated[str, Field(max_length=1000)]
Count = Annotated[int, Field(ge=0)]


class Sent(BaseModel):
    """Something in a message, checked."""

    model_config = ConfigDict(strict=True, frozen=True)
