"""One number of the paper beside the measured one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """What is measured, in which setting, the paper's number ('' for none) and ours."""

    what: str
    setting: str
    paper: str
    measured: str


def paper_table(rows: Sequence[PaperRow]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | setting | paper | measured |", "| --- | --- | ---: | ---: |"]
    return "\n".join(lines + [f"| {row.what} | {row.setting} | {row.paper} | {row.measured} |" for row in rows])
