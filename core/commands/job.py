"""`job`: the process of a job, which runs its steps; started by `turnover.jobs`, not by hand."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

HELP = "run the steps of a job, one after the other (used by the dashboard)"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("--folder", required=True, metavar="DIR", help="the job's folder")


def execute(arguments: Namespace) -> dict[str, Any]:
    """Run the steps and return what they printed."""
    from turnover.jobs.runner import run_job

    return {"results": run_job(Path(arguments.folder))}


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    return f"{len(result['results'])} steps done"
