"""Reads the page of a run's mistakes, so that tests can ask what is on it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from turnover import Run
from turnover.explain.report import write_report
from turnover.runs.run import PREDICTION, TRUTH

_VOID = {"meta", "img"}


@dataclass
class Node:
    """An element: its tag, attributes, and what is in it, texts and elements."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    inside: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(part if isinstance(part, str) else part.text for part in self.inside)

    def all(self, tag: str = "", kind: str = "") -> list[Node]:
        """The elements below it with this tag and class, in order."""
        found = []
        for part in self.inside:
            if isinstance(part, Node):
                fits = tag in ("", part.tag) and (
                    not kind or kind in part.attributes.get("class", "").split()
                )
                found += [part] * fits + part.all(tag, kind)
        return found

    def one(self, tag: str = "", kind: str = "") -> Node:
        (found,) = self.all(tag, kind)
        return found


class Reader(HTMLParser):
    """Reads a page into nodes; every element must be closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("page")]
        self.feed(page)
        self.close()
        assert len(self.open) == 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(node)
        if tag not in _VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].inside.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def read_page(path: Path) -> Node:
    """A page that was written."""
    return Reader(path.read_text(encoding="utf-8")).open[0]


def page_of(run: Path, **options: Any) -> Node:
    """The page of a run, written beside it."""
    path = run.parent / "page.html"
    write_report(Run(run), path, **options)
    return read_page(path)


def sides(article: Node, meaning: str) -> list[list[Node]]:
    """The cards of a mistake's proponents and opponents, for one meaning of influence."""
    place = next(
        part
        for part in article.inside
        if isinstance(part, Node) and part.tag == {PREDICTION: "section", TRUTH: "details"}[meaning]
    )
    return [place.one("section", side).all("li") for side in ("for", "against")]


def number(card: Node) -> float:
    """The influence that a card shows."""
    found = re.match(r"([+−])([\d.]+)", card.one("span", "number").text)
    assert found
    return float(found[2]) * (1 if found[1] == "+" else -1)
