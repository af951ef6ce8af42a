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
from turnover.dashboard.errors.pane_view import decisions, pane, proof_facts
from turnover.dashboard.shared.flag_form import current_flags, flags_of
from turnover.dashboard.shared.prove import begin_proof, errors_of, proving, seconds_words
from turnover.dashboard.state import PLACE, Opened
from turnover.errors import TurnoverError, counted
from turnover.explain.explanation import ErrorItem
from turnover.explain.words import visible
from turnover.flags import CLEARED, Flags
from turnover.flags.judgements import VERDICTS, Judgement, judge, judgements
from turnover.runs.proofs import read_proofs
from turnover.runs.run import Run

HERE = Path(__file__).parent
KEY = "explorer"
NEIGHBOURS = 3
"""Errors on each side of the shown one that are sent with it."""

_KEPT = 400
"""Panes that are kept for all tabs."""

_SOON = 0.05
"""Seconds for neighbours before the shown error is sent."""

_EXPLORER = st.components.v2.component(
    "turnover_errors",
    css=(HERE / "explorer.css").read_text(encoding="utf-8"),
    js="\n".join(
        (HERE / name).read_text(encoding="utf-8") for name in ("pane.js", "list.js", "explorer.js")
    ),
)


@dataclass
class Explorer:
    """Where a tab is in a run. A new `turn` tells the browser to go to `place`.

    Attributes:
        client, done: the browser's tab, and the number of its last decision that was dealt with.
        steps: the steps of the flags that this tab made, which it can undo.
        problem: why the last decision was not stored, or "".
        heard: the message that this run of the page answers; None if it answers none.
    """

    run: str
    place: Place
    turn: str
    client: str = ""
    done: int = 0
    steps: list[int] = field(default_factory=list)
    problem: str = ""
    visits: Visits = field(default_factory=Visits)
    heard: Message | None = None


def explorer_of(run: Run) -> Explorer:
    """Where the tab is in a run: where it was left, or where the address says."""
    known = st.session_state.get(PLACE)
    if isinstance(known, Explorer) and known.run == run.name:
        return known
    chosen_by_hand = PLACE in st.session_state and known is None
    place = Place() if chosen_by_hand else place_of(st.query_params.to_dict(), run.classes)
    explorer = st.session_state[PLACE] = Explorer(run.name, place, f"{time.time_ns()}")
    return explorer


def show_explorer(opened: Opened, explorer: Explorer) -> ErrorItem | None:
    """Draw list and pane; returns the shown error, None if none matches."""
    matching = select(opened.misclassified, explorer.place, opened.groups)
    if explorer.heard and matching:
        explorer.place = heard_place(explorer.place, explorer.heard.index, matching)
    index = index_of(matching, explorer.place)
    _EXPLORER(
        key=KEY,
        data=_data(opened, explorer, matching, index),
        on_message_change=partial(receive, opened),
    )
    explorer.heard = None
    return matching[index] if matching else None


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
        hear(explorer, message, flags_of(run), run.classes, partial(begin_proof, run))


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
    if message.client != explorer.client:
        explorer.client, explorer.done, explorer.steps = message.client, 0, []
    explorer.place, explorer.heard = place_of(message.place, classes), message
    new = [act for act in message.acts if act.number > explorer.done]
    if new:
        said = [
            prove(act.position)
            if act.kind == "prove"
            else decide(flags, act, classes, explorer.steps)
            for act in new
        ]
        explorer.problem = next(filter(None, said), "")
        explorer.done = new[-1].number


def decide(flags: Flags, act: Act, classes: Sequence[str], steps: list[int]) -> str:
    """Store a decision, and add its step to `steps`; or undo the last of these. Returns why it was
    not stored, or "".
    """
    try:
        if act.kind == "undo":
            if not steps:
                return "There is nothing to undo in this tab; Review, at the top, has the rest."
            flags.undo(steps.pop())
            return ""
        if act.kind == "judge":
            judge(flags, act.position, "" if act.label is None else VERDICTS[act.label])
            return ""
        if act.kind == CLEARED:
            flags.clear(act.position)
        else:
            flags.put(act.position, act.kind, act.new_label(classes), act.note)
        last = flags.overview().last
        steps += [last.number] if last else []
    except TurnoverError as error:
        return str(error)
    return ""


def stamp_of(opened: Opened) -> str:
    """What the browser's copies belong to: it forgets them when this changes."""
    return f"{opened.run.name} {opened.number}"


# The data


def _data(
    opened: Opened, explorer: Explorer, matching: Sequence[ErrorItem], index: int
) -> dict[str, Any]:
    run, heard = opened.run, explorer.heard
    near = matching[max(0, index - NEIGHBOURS) : index + NEIGHBOURS + 1]
    panes = _panes(opened, near, matching[index]) if matching else {}
    flags, judged, proofs = current_flags(run), _judgements(run), read_proofs(run)[0]
    rows = window(index, len(matching))
    rows_name = f"{stamp_of(opened)} {explorer.place.filters} {rows}"
    if matching:
        explorer.visits = visit(explorer.visits, matching[index].id, time.monotonic())
    return {
        **_facts(opened),
        "turn": explorer.turn,
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
                row(item, opened.groups.get(item.position, ""))
                for item in matching[rows.start : rows.stop]
            ]
        ),
        "panes": [one for id, one in panes.items() if not (heard and id in heard.panes)],
        "near": list(panes),
        "more": len(panes) < len(near),
        "flags": decisions(flags, panes.values()),
        "proofs": proof_facts(proofs, near, opened.causes),
        "proving": sorted(errors_of(proving(run)) & {*panes}),
        "proveTime": seconds_words(run, proofs),
        "flagged": len(flags),
        "decided": len(flags) + len(judged),
        "judged": _judged(judged, [matching[place] for place in rows]),
        "client": explorer.client,
        "done": explorer.done,
        "undo": len(explorer.steps),
        "problem": explorer.problem,
        "lost": lost_sentence(opened.misclassified, matching, explorer.place.item),
        "progress": progress_sentence(explorer.visits, [item.id for item in matching]),
    }


def _facts(opened: Opened) -> dict[str, Any]:
    """What stays the same for a run."""
    return {
        "run": opened.run.name,
        "stamp": stamp_of(opened),
        "kind": opened.run.kind,
        "headline": headline(opened),
        "classes": [visible(name) for name in opened.run.classes],
        "confusions": opened.confusions,
        "causes": [
            {"name": name, "words": f"{visible(name)} ({count:,})"}
            for name, count in Counter(opened.groups.values()).items()
        ],
        "sorts": SORTS,
        "verdicts": VERDICTS,
    }


def _judgements(run: Run) -> dict[int, Judgement]:
    try:
        return judgements(flags_of(run))
    except TurnoverError:  # the page says so of the flags, in the same file
        return {}


def _judged(known: Mapping[int, Judgement], items: Sequence[ErrorItem]) -> dict[str, int]:
    """The verdicts on some errors, by number and by the error's id."""
    return {
        item.id: VERDICTS.index(known[item.position].verdict)
        for item in items
        if item.position in known
    }


def headline(opened: Opened) -> str:
    """Run, accuracy, errors and how many are explained, in a line."""
    accuracy = opened.run.manifest["results"]["validation_accuracy"]
    errors = counted(len(opened.misclassified), "error")
    certainty = opened.certainty
    explained = f", {sum(map(bool, certainty.strong.values())):,} explained" if certainty else ""
    return f"{accuracy:.1%} right · {errors}{explained}"


def _panes(
    opened: Opened, near: Sequence[ErrorItem], shown: ErrorItem
) -> dict[str, dict[str, Any]]:
    """The shown error, and of its neighbours those that are ready soon; the browser asks for the
    others when it has drawn the first.
    """
    end = time.monotonic() + _SOON
    panes = {shown.id: pane_of(opened, shown)}
    for item in near:
        if item.id in opened.panes or time.monotonic() < end:
            panes[item.id] = pane_of(opened, item)
    return panes


def pane_of(opened: Opened, item: ErrorItem) -> dict[str, Any]:
    """An error as data, kept for all tabs."""
    panes = opened.panes
    if item.id not in panes:
        while len(panes) >= _KEPT:
            panes.pop(next(iter(panes)), None)
        panes[item.id] = pane(opened.run, item, opened.causes)
    return panes[item.id]
