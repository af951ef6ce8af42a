"""Components that own a page: their files, what a tab's messages decided, and undo.

A component holds list, focus and keys in the browser; each message says where it is and what was
decided since it last heard from here. Decisions are numbered and repeated until they are confirmed,
so that none is lost and none counts twice. Texts from the data go to a component as data only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import streamlit as st

from turnover.dashboard.state import Opened
from turnover.errors import TurnoverError
from turnover.flags import Flags

_SHARED = Path(__file__).parent


class Numbered(Protocol):
    """A decision with its number in the tab."""

    @property
    def number(self) -> int: ...


Undo = Callable[[Flags], object]
"""Takes a step back."""

ActT = TypeVar("ActT", bound=Numbered)


def component(name: str, folder: Path, css: str, *js: str) -> Any:
    """A component of the files in a page's folder, after those that all share."""

    def read(path: Path) -> str:
        return path.read_text(encoding="utf-8")

    return st.components.v2.component(
        name,
        css=read(_SHARED / "component.css") + read(folder / css),
        js="\n".join(map(read, (_SHARED / "page.js", *(folder / file for file in js)))),
    )


def stamp_of(opened: Opened) -> str:
    """What the browser's copies belong to: it forgets them when this changes."""
    return f"{opened.run.name} {opened.number}"


@dataclass
class Tab:
    """A tab on a run. A new `turn` tells the browser to go where Python says.

    Attributes:
        client, done: the browser's tab, and the number of its last decision that was dealt with.
        steps: take back the flags and judgements that this tab made, one each.
        problem: why the last decision was not stored, or "".
    """

    run: str
    turn: str = field(default_factory=lambda: f"{time.time_ns()}")
    client: str = ""
    done: int = 0
    steps: list[Undo] = field(default_factory=list)
    problem: str = ""

    def take(self, client: str, acts: Sequence[ActT], decide: Callable[[ActT], str]) -> None:
        """Deal with the decisions of a message that are new, each once; `decide` says why one was
        not stored, or "".
        """
        if client != self.client:
            self.client, self.done, self.steps = client, 0, []
        if new := [act for act in acts if act.number > self.done]:
            said = [decide(act) for act in new]
            self.problem = next(filter(None, said), "")
            self.done = new[-1].number

    @property
    def confirmed(self) -> dict[str, Any]:
        """What the browser is told of it."""
        names = ("turn", "client", "done", "problem")
        return {name: getattr(self, name) for name in names} | {"undo": len(self.steps)}


def store(
    flags: Flags, verdicts: Mapping[int, tuple[str, str]], note: str, steps: list[Undo]
) -> str:
    """Store decisions (action and new label) as one step, and add to `steps` what takes it back;
    returns why it was not stored, or "".
    """

    def change() -> None:
        flags.put_each(verdicts, note)
        last = flags.overview().last
        steps.extend([partial(Flags.undo, expected=last.number)] if last else [])

    return tried(change)


def undo(flags: Flags, steps: list[Undo]) -> str:
    """Take back the last of a tab's steps; returns why it was not, or ""."""
    if not steps:
        return "There is nothing to undo in this tab; Review, at the top, has the rest."
    return tried(lambda: steps.pop()(flags))


def tried(change: Callable[[], Any]) -> str:
    """Change something; returns why that failed, or ""."""
    try:
        change()
    except TurnoverError as error:
        return str(error)
    return ""
