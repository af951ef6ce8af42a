"""`runs`: what lies in the runs folder."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import DEFAULT_RUNS
from turnover.wording import counted

HELP = "list the runs in a folder"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("--folder", default=DEFAULT_RUNS, metavar="DIR", help=f"folder that holds the runs (default {DEFAULT_RUNS})")


def execute(arguments: Namespace) -> dict[str, Any]:
    """Return each run with its data, members, accuracy and number of errors, or why it cannot be opened."""
    from turnover.errors import TurnoverError
    from turnover.runs import Run, find_runs

    rows: list[dict[str, Any]] = []
    for folder in find_runs(Path(arguments.folder)):
        try:
            run = Run(folder)
        except TurnoverError as error:
            rows.append({"run": str(folder), "error": str(error)})
            continue
        results = run.manifest["results"]
        facts = {name: results[name] for name in ("members", "train_size", "validation_accuracy")}
        rows.append({"run": str(folder), "data": run.manifest["data"]["name"], **facts, "errors": len(run.errors), "influence": run.has_influence})
    return {"folder": arguments.folder, "runs": rows}


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    if not result["runs"]:
        return f"no runs in {result['folder']}; build the demo runs with `turnover demo`"
    return "\n".join(
        f"{row['run']}: cannot be opened: {row['error']}"
        if "error" in row
        else f"{row['run']}: {row['data']}, {counted(row['members'], 'member')}, {counted(row['train_size'], 'training item')}, "
        f"accuracy {row['validation_accuracy']:.1%}, {counted(row['errors'], 'error')}, {'with' if row['influence'] else 'without'} influence"
        for row in result["runs"]
    )
