"""The regions of an image: its patches coloured by the proponents' influence on them.

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
from turnover.dashboard.errors.answer_view import question_of
from turnover.dashboard.errors.edits_view import parts_of
from turnover.dashboard.errors.regions_view import Regions, build_regions, regions_request
from turnover.dashboard.errors.worker import when_ready
from turnover.dashboard.shared.notice import problem, quiet
from turnover.dashboard.state import worker_of
from turnover.errors import TurnoverError
from turnover.explain.explanation import ErrorItem, Explanation
from turnover.explain.html import image_html
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


_STATE, _WIDE, _TOP = "regions", 240, 5
_SECONDS, _TOGETHER = 180.0, 10.0
"""Seconds for an answer, and the most that one answer about several proponents may take, as
estimated from the first; a slower engine is asked about one proponent at a time.
"""
_HELP = "Blanks each patch in turn, to see on which of them the teachers’ influence rests"
_LEGEND = (
    '<div class="to-legend"><i class="to-for"></i> speaks for it <i class="to-against"></i> '
    "speaks against it</div>"
)


@dataclass(frozen=True)
class _Wanted:
    """The explanation whose regions are wanted (`of`), and the regions, or why there are none."""

    of: tuple[object, ...]
    regions: Regions | None = None
    problem: str = ""


def show_regions(run: Run, item: ErrorItem, explanation: Explanation) -> None:
    """Draw the button, or the regions of the strongest proponents together."""
    positions = [card.position for card in explanation.proponents[:_TOP]]
    computed = made_with(run)  # new influences of the same proponents have other regions
    named = (str(run.folder), item.id, item.image, explanation.target)
    wanted = _Wanted((*named, *computed.values(), *positions))
    known = st.session_state.get(_STATE)
    if not positions:
        quiet("No training item has an influence of this sign.")
    elif known is None or known.of != wanted.of:
        st.button("Mark the regions", key="mark", on_click=_keep, args=(wanted,), help=_HELP)
    elif known.problem:
        problem("The regions cannot be marked", known.problem)
        st.button("Try again", key="mark", on_click=_keep, args=(wanted,))
    elif known.regions is None:
        worker = worker_of(run)
        worker.start()
        draw = partial(_ask, worker, item, explanation.target, positions, wanted)
        when_ready(worker, "The regions are marked as soon as it is ready.", draw)
    else:
        _show(known.regions, explanation.target)


def _keep(wanted: _Wanted) -> None:
    st.session_state[_STATE] = wanted


def _ask(
    worker: Worker, item: ErrorItem, target: str, positions: list[int], wanted: _Wanted
) -> None:
    """Ask the engine, keep its reply, and redraw the page."""
    try:
        with st.spinner("Blanking each patch in turn"):
            question = question_of(item)
            parts = parts_of(question, target)
            replies = ask_each(
                positions,
                lambda some: worker.ask(regions_request(question, parts, target, some), _SECONDS),
            )
            result = _Wanted(wanted.of, build_regions(question, parts, replies))
    except TurnoverError as error:
        result = _Wanted(wanted.of, problem=str(error))
    _keep(result)
    st.rerun()


def ask_each(
    positions: Sequence[int], ask: Callable[[Sequence[int]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """The engine's replies on all proponents: it is asked about the first, then about all others,
    or about one after the other if the first took long, as with deep networks.
    """
    first, *others = positions
    begun = time.monotonic()
    replies = [ask([first])]
    quick = (time.monotonic() - begun) * len(others) < _TOGETHER
    batches = [others] if quick and others else [[position] for position in others]
    return [*replies, *map(ask, batches)]


def _show(regions: Regions, target: str) -> None:
    """The image with the patches on which the proponents together rest."""
    drawn = image_html(regions.image, _WIDE, f"the image; {regions.words}")
    st.html(patches_html(drawn, _WIDE, regions.falls) + _LEGEND)
    quiet(
        f"Where the training items that taught “{target}” find what they share with this image: "
        "each patch was blanked in turn. The model never saw such blanks."
    )
