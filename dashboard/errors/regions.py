"""The regions of a misclassified image: its patches coloured by the proponents' influence on them.

Regions are computed by the worker, on request. `patches_html` draws an image under a grid of its
patches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from turnover.dashboard.engine import Worker
from turnover.dashboard.errors.answer_view import Question
from turnover.dashboard.errors.edits_view import InputPart
from turnover.dashboard.errors.regions_view import (
    Region,
    Regions,
    build_regions,
    joined,
    patches_of,
    regions_request,
)
from turnover.dashboard.errors.worker import when_ready
from turnover.dashboard.shared.notice import heading, problem, quiet
from turnover.dashboard.state import worker_of
from turnover.errors import TurnoverError
from turnover.explain.explanation import Card, ErrorItem, Explanation
from turnover.explain.html import image_html, safe, signed
from turnover.explain.parts import GRID
from turnover.runs.run import Run, made_with


def patches_html(image: str, pixels: int, values: Sequence[float]) -> str:
    """The HTML of an image, `pixels` wide, with a colour over each patch: blue for positive values,
    orange for negative, the largest in full colour. Colours are decorative: the alternative text of
    the image, or a list beside it, must say the same.
    """
    largest = max(map(abs, values), default=0.0) or 1.0
    cells = "".join(
        f'<i class="to-{"for" if value > 0 else "against"}" '
        f'style="opacity:{0.75 * abs(value) / largest:.2f}"></i>'
        for value in values
    )
    return (
        f'<div class="to-map" style="width:{pixels}px">{image}<div style="--cells:{GRID}" '
        f'aria-hidden="true">{cells}</div></div>'
    )


_STATE = "error-regions"
_MOST, _WIDE, _NARROW = 6, 160, 96
_SECONDS, _TOGETHER = 180.0, 10.0
"""Seconds for an answer, and the most that one answer about several proponents may take, as
estimated from the first; a slower engine is asked about one proponent at a time.
"""
_HELP = (
    "Blanks each patch of the error’s image in turn, to see on which of them the proponents’ "
    "influence rests"
)


@dataclass(frozen=True)
class _Wanted:
    """The explanation whose regions are wanted (`of`), and the regions, or why there are none."""

    of: tuple[object, ...]
    regions: Regions | None = None
    problem: str = ""


def show_regions(run: Run, item: ErrorItem, explanation: Explanation) -> Callable[[Card], str]:
    """Draw the button, or the region of all proponents together; returns the HTML of a card's
    region, "" while there is none.
    """
    if run.kind != "image" or not explanation.proponents:
        return lambda card: ""
    computed = made_with(run)  # new influences of the same proponents have other regions
    wanted = _Wanted(
        (
            str(run.folder),
            *computed.values(),
            item.id,
            explanation.target,
            *(card.position for card in explanation.proponents),
        )
    )
    known = st.session_state.get(_STATE)
    if known is None or known.of != wanted.of:
        st.button(
            "Mark the regions", key="mark-regions", on_click=_keep, args=(wanted,), help=_HELP
        )
    elif known.problem:
        problem("The regions cannot be marked", known.problem)
        st.button("Try again", key="mark-regions", on_click=_keep, args=(wanted,))
    elif known.regions is None:
        worker = worker_of(run)
        worker.start()
        when_ready(
            worker,
            "The regions are marked as soon as it is ready.",
            partial(_ask, run, worker, item, explanation, wanted),
        )
    else:
        _show_together(known.regions, len(explanation.proponents))
        return partial(_card_html, known.regions)
    return lambda card: ""


def _keep(wanted: _Wanted) -> None:
    st.session_state[_STATE] = wanted


def _ask(
    run: Run, worker: Worker, item: ErrorItem, explanation: Explanation, wanted: _Wanted
) -> None:
    """Ask the engine, keep its reply, and redraw the page."""
    try:
        with st.spinner("Blanking each patch in turn"):
            question, parts = patches_of(run, item.id, explanation.target)
            reply = ask_each(
                question, parts, explanation, lambda request: worker.ask(request, _SECONDS)
            )
            result = _Wanted(
                wanted.of,
                build_regions(
                    question, parts, explanation, int(run.manifest["results"]["members"]), reply
                ),
            )
    except TurnoverError as error:
        result = _Wanted(wanted.of, problem=str(error))
    _keep(result)
    st.rerun()


def ask_each(
    question: Question,
    parts: Sequence[InputPart],
    explanation: Explanation,
    ask: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """The engine's reply on all proponents: it is asked about the first, then about all others, or
    about one after the other if the first took long, as with deep networks.

    Raises:
        TurnoverError: as `ask` and `joined`.
    """
    first, *others = [card.position for card in explanation.proponents]
    begun = time.monotonic()
    replies = [ask(regions_request(question, parts, explanation.target, [first]))]
    quick = (time.monotonic() - begun) * len(others) < _TOGETHER
    batches = [others] if quick and others else [[position] for position in others]
    return joined(
        [
            *replies,
            *(
                ask(regions_request(question, parts, explanation.target, batch))
                for batch in batches
            ),
        ]
    )


def _show_together(regions: Regions, count: int) -> None:
    """The image with the patches on which the proponents together rest, and a line for each of the
    largest changes.
    """
    together = regions.together
    heading(
        "Regions",
        f"Where on the error’s image the influence of the {count} proponents below rests, together "
        "and, on each card, one by one.",
    )
    alt = (
        "the error’s image; largest changes of the proponents’ summed influence without a patch: "
        f"{together.told}"
    )
    lines = "".join(f"<li>{safe(together.named(fall))}</li>" for fall in together.largest[:_MOST])
    st.html(
        '<div class="to-region">'
        f"{patches_html(image_html(regions.image, _WIDE, alt), _WIDE, _values(together))}"
        f"<div>Together {safe(signed(together.whole, together.decimals))} nats. Without a "
        f"patch it changes by<ul>{lines}</ul></div></div>"
    )
    quiet(regions.caption)


def _card_html(regions: Regions, card: Card) -> str:
    """The image with the patches on which one proponent rests, and a line on the largest; "" for
    other cards.
    """
    region = regions.by_item.get(card.position)
    if region is None:
        return ""
    drawn = image_html(
        regions.image,
        _NARROW,
        f"the error’s image; largest changes of this influence without a patch: {region.told}",
    )
    return (
        f"{patches_html(drawn, _NARROW, _values(region))}<div "
        f'class="to-id">{safe(region.rests)}</div>'
    )


def _values(region: Region) -> list[float]:
    return [fall.value for fall in region.falls]
