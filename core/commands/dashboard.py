"""`dashboard`: serves the pages on the runs in a folder."""

from __future__ import annotations

import importlib
import os
from argparse import ArgumentParser, Namespace
from typing import Any

from turnover.commands.arguments import DEFAULT_RUNS

HELP = "open the dashboard on the runs in a folder"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options; PORT and TURNOVER_RUNS of the environment are their defaults."""
    runs = os.environ.get("TURNOVER_RUNS") or DEFAULT_RUNS
    parser.add_argument("--runs", default=runs, metavar="DIR", help=f"folder that holds the runs (default TURNOVER_RUNS, else {DEFAULT_RUNS})")
    parser.add_argument("--port", default=os.environ.get("PORT") or "8501", metavar="N", help="port (default PORT, else 8501)")


def execute(arguments: Namespace) -> dict[str, Any]:
    """Serve until stopped. The engine knows nothing of the pages, so they are found by name."""
    importlib.import_module("turnover.dashboard.launch").launch(arguments.port, arguments.runs)
    return {"runs": arguments.runs}


def describe(_: dict[str, Any]) -> str:
    """Nothing: what there is to say, the server has said."""
    return ""
