"""`report`: the mistakes of a run and the training items behind them, as one HTML file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_top, positive

HELP = "write the mistakes of a run, with the training items behind them, to one HTML file"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--output", metavar="FILE", help="file to write (replaced if it exists; default: RUN.html)")
    parser.add_argument("--errors", type=positive, default=50, metavar="N", help="at most so many errors, clearest explanation first (default 50)")
    add_top(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Write the page and return report (its path), misclassified, explained, shown and bytes."""
    from turnover.report.page import write_report
    from turnover.runs import Run

    folder = Path(arguments.run)
    beside = folder.resolve()
    path = Path(arguments.output) if arguments.output else beside.with_name(f"{beside.name}.html")
    return write_report(Run(folder), path, arguments.errors, arguments.top)


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    return f"{result['report']}: {result['shown']} of {result['misclassified']} errors, {result['bytes'] / 2**20:.1f} MB; open it in any browser"
