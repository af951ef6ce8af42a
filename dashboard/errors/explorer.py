"""The component that draws the list and the shown error, and what it sends.

It owns list, focus and keys in the browser (explorer.js), where steps and decisions show at once;
its one message says where it is and what was decided. Python answers with the error and its
neighbours, as far as the browser has not got them, and with the number of the last decision that is
on the disk. Texts from the data go there as data only.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from turnover.dashboard.errors.list_view import (
    SORTS,
    TWINS,
    Place,
    Visits,
    index_of,
    lost_sentence,
    place_of,
    progress_sentence,
    row,
    select,
    visit,
    window,
)
from turnover.dashboard.errors.message_view import Act, Message, read_message
from turnover.dashboard.errors.own_view import OWN, Collection
from turnover.dashboard.errors.pane_view import decisions, own_pane, pane, proof_facts
from turnover.dashboard.shared.component import Tab, Undo, component, stamp_of, store, tried, undo
from turnover.dashboard.shared.flag_form import current_flags, current_judgements, flags_of
from turnover.dashboard.shared.prove import begin_proof, is_proving, proof_steps, seconds_words
from turnover.dashboard.state import PLACE, Opened
from turnover.errors import counted
from turnover.explain.explanation import ErrorItem
from turnover.explain.words import visible
from turnover.flags import Flags
from turnover.flags.judgements import VERDICTS, Judgement, judge
from turnover.runs.proofs import read_proofs
from turnover.runs.run import Run

HERE = Path(__file__).parent
KEY = "explorer"
NEIGHBOURS = 3
"""Errors on each side of the shown one that are sent with it."""

MORE, PART, CONTAINING = "more", "more-choice", "containing"
PARTS = {
    "groups": "Groups",
    "regions": "Regions",
    "change": "Change it",
    "truth": "Why not another label?",
    "numbers": "All numbers",
    "markdown": "Copy as Markdown",
}
"""What is reached below, by its name in the address."""

_KEPT = 400
"""Panes that are kept for all tabs."""


_SOON = 0.05
"""Seconds for neighbours before the shown error is sent."""

_EXPLORER = component("turnover_errors", HERE, "explorer.css", "pane.js", "list.js", "explorer.js")


@dataclass
class Explorer(Tab):
    """Where a tab is in a run; a new `turn` adds an entry to the browser's history if `push`.

    Attributes:
        opened: counts the changes of *More* by hand.
        yours: names what the tab asked (`turnover.dashboard.errors.own_view.Collection`).
        heard: the message that this run of the page answers; None if it answers none.
    """

    place: Place = field(default_factory=Place)
    push: bool = False
    opened: int = 0
    yours: str = ""
    visits: Visits = field(default_factory=Visits)
    heard: Message | None = None

    def go(self, place: Place) -> None:
        """Have the browser go to a place, as by a click."""
        self.place, self.turn, self.push, self.heard = place, f"{time.time_ns()}", True, None


def explorer_of(run: Run) -> Explorer:
    """Where the tab is in a run: where it was left, or where the address says."""
    known = st.session_state.get(PLACE)
    if isinstance(known, Explorer) and known.run == run.name:
        return known
    chosen_by_hand = PLACE in st.session_state and known is None
    said = {} if chosen_by_hand else st.query_params.to_dict()
    explorer = Explorer(run.name, place=place_of(said, run.classes))
    explorer.yours = said.get("yours", "")
    open_more(explorer.place)
    st.session_state[PLACE] = explorer
    return explorer


def open_more(place: Place) -> None:
    """Open below the list what a place names."""
    state = st.session_state
    state[MORE], state[CONTAINING] = bool(place.more), place.containing
    if place.more in PARTS:
        state[PART] = place.more


def more_changed(run: Run) -> None:
    """Take in what was opened below by hand; the address names it."""
    explorer, state = explorer_of(run), st.session_state
    part = (state.get(PART) or next(iter(PARTS))) if state.get(MORE) else ""
    containing = state.get(CONTAINING, explorer.place.containing) or ""
    explorer.place = replace(explorer.place, more=part, containing=containing)
    explorer.opened += 1


def shown_item(opened: Opened, explorer: Explorer, collection: Collection) -> ErrorItem | None:
    """The item that is shown; None if none matches."""
    matching, index = _list(opened, explorer, collection)
    return matching[index] if matching else None


def show_explorer(opened: Opened, explorer: Explorer, collection: Collection) -> None:
    """Draw list and pane."""
    _EXPLORER(
        key=KEY,
        data=_data(opened, explorer, collection),
        on_message_change=partial(receive, opened),
    )
    explorer.heard = None


def _list(
    opened: Opened, explorer: Explorer, collection: Collection
) -> tuple[list[ErrorItem], int]:
    """The items that match, one's own first, and which of them is shown."""
    items = (*(own.item for own in collection.items.values()), *opened.misclassified)
    matching = select(items, explorer.place, _groups(opened, collection))
    if explorer.heard and matching:
        explorer.place = heard_place(explorer.place, explorer.heard.index, matching)
    return matching, index_of(matching, explorer.place)


def _groups(opened: Opened, collection: Collection) -> dict[int, str]:
    return {own.item.position: OWN for own in collection.items.values()} | opened.groups


def heard_place(place: Place, index: int, matching: Sequence[ErrorItem]) -> Place:
    """Where a browser is in its list: by id, or by row where it does not know the id; the first
    error if the shown one no longer matches.
    """
    ids = [item.id for item in matching]
    if place.item in ids:
        return place
    return replace(place, item=ids[0 if place.item else min(index, len(ids) - 1)])


def receive(opened: Opened) -> None:
    """Take in the browser's message: store the decisions that are new, and go where it is."""
    run = opened.run
    explorer = explorer_of(run)
    sizes = len(run.train), len(run.validation)
    message = read_message(st.session_state[KEY].get("message"), run.classes, sizes)
    if message and message.stamp == stamp_of(opened):
        before = explorer.place
        hear(explorer, message, flags_of(run), run.classes, lambda error: begin_proof(run, [error]))
        if (before.more, before.containing) != (explorer.place.more, explorer.place.containing):
            open_more(explorer.place)


def hear(
    explorer: Explorer,
    message: Message,
    flags: Flags,
    classes: Sequence[str],
    prove: Callable[[int], str],
) -> None:
    """Go where a message is, and store its decisions that are new, each once; `prove` begins to
    prove the cause of an error, and returns why it cannot.
    """
    place = place_of(message.place, classes)
    if message.opened != explorer.opened:  # it has not heard of the last change by hand
        known = explorer.place
        place = replace(place, more=known.more, containing=known.containing)
    explorer.place, explorer.heard = place, message

    def deal_with(act: Act) -> str:
        if act.kind == "prove":
            return prove(act.position)
        return decide(flags, act, classes, explorer.steps)

    explorer.take(message.client, message.acts, deal_with)


def decide(flags: Flags, act: Act, classes: Sequence[str], steps: list[Undo]) -> str:
    """Store a decision, and add to `steps` what takes it back; or do the last of these. Returns
    why it was not stored, or "".
    """
    if act.kind == "undo":
        return undo(flags, steps)
    if act.kind == "judge":

        def change() -> None:
            verdict = "" if act.label is None else VERDICTS[act.label]
            before = judge(flags, act.position, verdict)
            steps.append(partial(judge, position=act.position, verdict=before, instead_of=verdict))

        return tried(change)
    verdict = act.kind, act.new_label(classes)
    return store(flags, {act.position: verdict}, act.note, steps)


# The data


def _data(opened: Opened, explorer: Explorer, collection: Collection) -> dict[str, Any]:
    run, heard = opened.run, explorer.heard
    matching, index = _list(opened, explorer, collection)
    near = matching[max(0, index - NEIGHBOURS) : index + NEIGHBOURS + 1]
    panes = _panes(opened, collection, near, matching[index]) if matching else {}
    flags, judged, proofs = current_flags(run), current_judgements(run), read_proofs(run)[0]
    groups, waiting = _groups(opened, collection), {own.id for own in collection.unknown}
    at_work = proof_steps(run)
    rows = window(index, len(matching))
    rows_name = f"{stamp_of(opened)} {explorer.place.filters} {rows} {collection.changes}"
    if matching:
        explorer.visits = visit(explorer.visits, matching[index].id, time.monotonic())
    return {
        **_facts(opened, groups),
        "push": explorer.push,
        "opened": explorer.opened,
        "yours": collection.token if collection.items else explorer.yours,
        "place": vars(explorer.place),
        "item": matching[index].id if matching else "",
        "index": index,
        "total": len(matching),
        "rowsName": rows_name,
        "first": rows.start,
        "rows": (
            None
            if heard and heard.rows == rows_name
            else [
                row(item, groups.get(item.position, ""), item.id in waiting)
                for item in matching[rows.start : rows.stop]
            ]
        ),
        "panes": [one for id, one in panes.items() if not (heard and id in heard.panes)],
        "near": list(panes),
        "more": len(panes) < len(near),
        "flags": decisions(flags, panes.values()),
        "proofs": proof_facts(proofs, near, opened.causes),
        "proving": [
            one.id for one in near if one.position >= 0 and is_proving(run, at_work, [one.position])
        ],
        "proveTime": seconds_words(run, proofs),
        "flagged": len(flags),
        "decided": len(flags) + len(judged),
        "judged": _judged(judged, [matching[place] for place in rows]),
        **explorer.confirmed,
        "lost": lost_sentence(opened.misclassified, matching, explorer.place.item),
        "progress": progress_sentence(
            explorer.visits, [item.id for item in matching if item.position >= 0]
        ),
    }


def _facts(opened: Opened, groups: dict[int, str]) -> dict[str, Any]:
    """What stays the same for a run, and how many items each group has."""
    return {
        "run": opened.run.name,
        "stamp": stamp_of(opened),
        "kind": opened.run.kind,
        "headline": headline(opened),
        "classes": [visible(name) for name in opened.run.classes],
        "confusions": opened.confusions,
        "causes": [
            {"name": name, "words": f"{visible(name)} ({count:,})"}
            for name, count in Counter(groups.values()).items()
        ],
        "twins": _twins(opened.misclassified),
        "sorts": SORTS,
        "verdicts": VERDICTS,
    }


def _judged(known: Mapping[int, Judgement], items: Sequence[ErrorItem]) -> dict[str, int]:
    """The verdicts on some errors, by number and by the error's id."""
    return {
        item.id: VERDICTS.index(known[item.position].verdict)
        for item in items
        if item.position in known
    }


def _twins(items: Sequence[ErrorItem]) -> dict[str, str]:
    """The filters by the twin without masks; none where all errors are alike."""
    counts = Counter(item.twin for item in items if item.twin is not None)
    if len(counts) < 2:
        return {}
    count = {"": "", "yes": f" ({counts[True]:,})", "no": f" ({counts[False]:,})"}
    return {key: f"{words}{count[key]}" for key, words in TWINS.items()}


def headline(opened: Opened) -> str:
    """Accuracy, errors, how many are explained if not all, and how many its twin makes, in a
    line.
    """
    accuracy = opened.run.manifest["results"]["validation_accuracy"]
    total = len(opened.misclassified)
    certainty, twins = opened.certainty, [item.twin for item in opened.misclassified]
    clear = (
        sum(map(bool, certainty.strong.values())) if certainty and not opened.run.scored else total
    )
    explained = f", {clear:,} explained" if clear < total else ""
    both = twins.count(True)
    many = "all the plain model’s" if both == total > 1 else f"{both:,} the plain model’s too"
    twin = f", {many}" if True in twins or False in twins else ""
    return f"{accuracy:.1%} right · {counted(total, 'error')}{explained}{twin}"


def _panes(
    opened: Opened, collection: Collection, near: Sequence[ErrorItem], shown: ErrorItem
) -> dict[str, dict[str, Any]]:
    """The shown error, and of its neighbours those that are ready soon; the browser asks for the
    others when it has drawn the first.
    """
    end = time.monotonic() + _SOON
    panes = {shown.id: pane_of(opened, collection, shown)}
    for item in near:
        if item.id in opened.panes or time.monotonic() < end:
            panes[item.id] = pane_of(opened, collection, item)
    return panes


def pane_of(opened: Opened, collection: Collection, item: ErrorItem) -> dict[str, Any]:
    """An item as data; an error is kept for all tabs."""
    panes = opened.panes
    if item.id in collection.items and item.position < 0:
        return own_pane(opened.run, collection.items[item.id])
    if item.id not in panes:
        while len(panes) >= _KEPT:
            panes.pop(next(iter(panes)), None)
        panes[item.id] = pane(opened.run, item, opened.causes)
    return panes[item.id]
