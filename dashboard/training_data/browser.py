"""The component that draws training items, and what it sends.

It owns view, selection, current item, panel and keys in the browser (browser.js); its one message
says where it is, what is selected and what was decided. Python answers with the order of all that
match, where that has changed, and with the rows, panels and map that the browser has not got.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from turnover.dashboard.shared.component import Tab, component, stamp_of, store, undo
from turnover.dashboard.shared.flag_form import current_flags, current_judgements, flags_of
from turnover.dashboard.shared.prove import begin_proof, is_proving, proof_steps, seconds_words
from turnover.dashboard.state import BROWSED, Opened
from turnover.dashboard.training_data.browse_view import (
    FLAGGED,
    MAP,
    STEP,
    VIEWS,
    Place,
    Training,
    chunks,
    flags_data,
    place_of,
    row,
    rows,
    select,
    sorts_of,
)
from turnover.dashboard.training_data.map_view import COLOURS, PLACES, ways
from turnover.dashboard.training_data.message_view import Act, Message, read_message, verdicts
from turnover.dashboard.training_data.panel_view import panel, told
from turnover.errors import TurnoverError
from turnover.explain.words import snippet, visible
from turnover.flags import Decision, Flag
from turnover.runs.proofs import read_proofs
from turnover.runs.run import Run

KEY = "browser"
_KEPT = 400
"""Panels that are kept for all tabs."""

_BROWSER = component(
    *("turnover_training", Path(__file__).parent, "browser.css"),
    *("tiles.js", "panel.js", "map.js", "browser.js"),
)


@dataclass
class Browser(Tab):
    """Where a tab is among a run's training items; `heard` is its last message on this run."""

    place: Place = field(default_factory=Place)
    heard: Message | None = None

    @property
    def selected(self) -> list[int]:
        """The positions of the selected items."""
        return self.heard.selected if self.heard else []


def browser_of(run: Run) -> Browser:
    """Where the tab is in a run: where it was left, or where the address says."""
    known = st.session_state.get(BROWSED)
    if isinstance(known, Browser) and known.run == run.name:
        return known
    chosen_by_hand = BROWSED in st.session_state and known is None
    place = Place() if chosen_by_hand else place_of(st.query_params.to_dict(), run.classes)
    browser = st.session_state[BROWSED] = Browser(run.name, place=place)
    return browser


def show_browser(opened: Opened, browser: Browser, drawn: dict[str, Any] | None) -> None:
    """Draw the component; `drawn` is the map, where that is the view."""
    flags = current_flags(opened.run)
    order = select(opened.training, browser.place, flags)
    _BROWSER(
        key=KEY,
        data=_data(opened, browser, flags, order, drawn),
        on_message_change=partial(receive, opened),
    )


def receive(opened: Opened) -> None:
    """Take in the browser's message: store the decisions that are new, and go where it is."""
    run = opened.run
    message = read_message(
        st.session_state[KEY].get("message"), run.classes, len(run.train), len(run.items)
    )
    if message and message.stamp == stamp_of(opened):
        hear(browser_of(run), message, opened.training, partial(_prove, opened))


def _prove(opened: Opened, position: int) -> str:
    return begin_proof(opened.run, _taught(opened, position), position)


def hear(
    browser: Browser, message: Message, training: Training, prove: Callable[[int], str]
) -> None:
    """Go where a message is, and store its decisions that are new, each once; `prove` begins to
    prove what an item taught, and returns why it cannot.
    """
    run = training.run
    flags = flags_of(run)
    browser.place, browser.heard = place_of(message.place, run.classes), message

    def decide(act: Act) -> str:
        if act.kind == "undo":
            return undo(flags, browser.steps)
        if act.kind == "prove":
            return next(filter(None, map(prove, act.positions)), "")
        wanted = verdicts(act, run.classes, training.suspects, current_flags(run))
        return store(flags, wanted, "", browser.steps) if wanted else ""

    browser.take(message.client, message.acts, decide)


# The data


def _data(
    opened: Opened,
    browser: Browser,
    flags: Mapping[int, Flag],
    order: np.ndarray,
    drawn: dict[str, Any] | None,
) -> dict[str, Any]:
    place, heard, training = browser.place, browser.heard, opened.training
    at = training.position_of(place.item) if place.item else None
    name = f"{stamp_of(opened)} {place.filters} {zlib.crc32(order.tobytes())}"
    known = heard is not None and heard.rows == name
    index = min(heard.index, max(0, len(order) - 1)) if heard and known else _index(order, at)
    wanted = [
        chunk
        for chunk in chunks(index, len(order))
        if not (known and chunk in heard.chunks)  # type: ignore[union-attr]
    ]
    return {
        **_facts(opened),
        **browser.confirmed,
        "place": vars(place),
        "item": place.item,
        "index": index,
        "rowsName": name,
        "order": None if known else order.tolist(),
        "chances": None if known else training.chances[order].tolist(),
        "chunks": {
            chunk: rows(training, order[chunk * STEP : (chunk + 1) * STEP]) for chunk in wanted
        },
        "panels": _panels(opened, browser, at, order),
        **_told(opened, at),
        "lost": ""
        if at is not None or not place.item
        else f"“{snippet(place.item, 80)}” is not among the training items of this run.",
        "flags": flags_data(flags),
        "decided": len(flags) + len(current_judgements(opened.run)),
        "map": drawn if drawn and not (heard and heard.map == drawn["name"]) else None,
        "peeked": _peeked(training, drawn, heard.peek if heard and place.view == MAP else -1),
    }


def _index(order: np.ndarray, position: int | None) -> int:
    """Where an item is in the order; 0 if it is not there."""
    found = np.flatnonzero(order == (-1 if position is None else position))
    return int(found[0]) if len(found) else 0


def _facts(opened: Opened) -> dict[str, Any]:
    """What stays the same for a run."""
    run = opened.run
    return {
        "run": run.name,
        "stamp": stamp_of(opened),
        "kind": run.kind,
        "items": len(run.train),
        "suspects": len(opened.training.suspects),
        "classes": [visible(name) for name in run.classes],
        "views": VIEWS,
        "sorts": sorts_of(run),
        "flaggedBy": FLAGGED,
        "places": [*PLACES.items()],
        "colours": [*COLOURS.items()],
        "ways": ways(),
    }


def _told(opened: Opened, position: int | None) -> dict[str, Any]:
    """What changes of the opened item: decisions, proofs, and whether one is at work."""
    if position is None:
        return {}
    run, proofs = opened.run, read_proofs(opened.run)[0]
    decided = list[Decision]()
    with suppress(TurnoverError):  # which `current_flags` tells
        decided = flags_of(run).history(position)
    about = told(run, position, decided, proofs)
    about["proving"] = is_proving(run, proof_steps(run), _taught(opened, position), position)
    return {"told": about, "proveTime": seconds_words(run, proofs)}


def _taught(opened: Opened, position: int) -> list[int]:
    """The errors in its panel that an item taught."""
    return [error["position"] for error in _panel(opened, position)["taught"]]


def _panels(
    opened: Opened, browser: Browser, position: int | None, order: np.ndarray
) -> list[dict[str, Any]]:
    """The opened item's panel, and those of its neighbours in the list, as far as the browser has
    not got them.
    """
    if position is None:
        return []
    at, heard = _index(order, position), browser.heard
    near = order[max(0, at - 1) : at + 2].tolist() if len(order) and order[at] == position else []
    ids = opened.run.train["id"].to_numpy()
    return [
        _panel(opened, one)
        for one in dict.fromkeys([position, *near])
        if not (heard and str(ids[one]) in heard.panels)
    ]


def _panel(opened: Opened, position: int) -> dict[str, Any]:
    """A panel as data, kept for all tabs."""
    panels = opened.training_panels
    if position not in panels:
        while len(panels) >= _KEPT:
            panels.pop(next(iter(panels)), None)
        ids = set(opened.taught.get(position, ()))
        taught = [error for error in opened.misclassified if error.id in ids]
        panels[position] = panel(opened.training, position, taught, not opened.influence_problem)
    return panels[position]


def _peeked(training: Training, drawn: dict[str, Any] | None, at: int) -> dict[str, Any] | None:
    """The item of the point of the map under the pointer."""
    if drawn is None or not 0 <= at < len(drawn["items"]):
        return None
    run, position = training.run, drawn["items"][at]
    if position >= 0:
        return {"at": at, "row": row(run, position, training.suspects.get(position))}
    error = drawn["positions"][at - drawn["first"]]
    predicted = run.classes[int(run.item("validation", error)["predicted"])]
    return {
        "at": at,
        "row": row(run, error, None, "validation") | {"predicted": visible(predicted)},
    }
