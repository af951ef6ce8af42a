"""Commands on finished runs.

- `report`: write the mistakes of a run and the training items behind them to one HTML file.
- `map`: place the items of a run by UMAP, for the dashboard's Map page.
- `runs`: list the runs in a folder.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.cli.options import (
    DEFAULT_RUNS,
    Command,
    add_counts,
    add_run,
    add_top,
    add_values,
    members_of,
    run_of,
)
from turnover.errors import counted


def _add_report(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder")
    add_values(parser, output="FILE: file to write (replaced if it exists; default: RUN.html)")
    add_counts(parser, errors=(50, "at most so many errors, clearest explanation first"))
    add_top(parser)


def run_report(arguments: Namespace) -> dict[str, Any]:
    """Write the page and return report (its path), misclassified, explained, shown and bytes."""
    from turnover.explain.report import write_report
    from turnover.runs.run import Run

    folder = Path(arguments.run)
    beside = folder.resolve()
    path = Path(arguments.output) if arguments.output else beside.with_name(f"{beside.name}.html")
    return write_report(Run(folder), path, arguments.errors, arguments.top)


def _describe_report(result: dict[str, Any]) -> str:
    return (
        f"{result['report']}: {result['shown']} of {result['misclassified']} errors, "
        f"{result['bytes'] / 2**20:.1f} MB; open it in any browser"
    )


def _add_map(parser: ArgumentParser) -> None:
    from turnover.runs.maps import BY, FEATURES

    add_run(parser)
    parser.add_argument(
        "--by", choices=BY, default=FEATURES, help="what places go by (default: %(default)s)"
    )


def run_map(arguments: Namespace) -> dict[str, Any]:
    """Return the file that holds the places."""
    from turnover.runs.maps import make_places

    return {"file": str(make_places(run_of(arguments), arguments.by))}


def _add_runs(parser: ArgumentParser) -> None:
    text = f"folder that holds the runs (default {DEFAULT_RUNS})"
    parser.add_argument("--folder", default=DEFAULT_RUNS, metavar="DIR", help=text)


def run_runs(arguments: Namespace) -> dict[str, Any]:
    """Return each run with its data, members, accuracy and number of errors, or why it cannot be
    opened.
    """
    from turnover.errors import TurnoverError
    from turnover.runs.run import Run, find_runs

    rows: list[dict[str, Any]] = []
    for folder in find_runs(Path(arguments.folder)):
        try:
            run = Run(folder)
        except TurnoverError as error:
            rows.append({"run": str(folder), "error": str(error)})
            continue
        results = run.manifest["results"]
        facts = {name: results[name] for name in ("members", "train_size", "validation_accuracy")}
        rows.append(
            {
                "run": str(folder),
                "data": run.manifest["data"]["name"],
                **facts,
                "masks": run.manifest.get("masks"),
                "errors": len(run.misclassified_positions),
                "influence": run.has_influence,
            }
        )
    return {"folder": arguments.folder, "runs": rows}


def _describe_runs(result: dict[str, Any]) -> str:
    if not result["runs"]:
        return f"no runs in {result['folder']}; build the demo runs with `turnover demo`"
    return "\n".join(
        f"{row['run']}: cannot be opened: {row['error']}"
        if "error" in row
        else f"{row['run']}: {row['data']}, {members_of(row)}, "
        f"{counted(row['train_size'], 'training item')}, accuracy "
        f"{row['validation_accuracy']:.1%}, {counted(row['errors'], 'error')}, "
        f"{'with' if row['influence'] else 'without'} influence"
        for row in result["runs"]
    )


COMMANDS = {
    "report": Command(_add_report, run_report, _describe_report),
    "map": Command(
        _add_map,
        run_map,
        lambda result: f"places by UMAP are in {result['file']}; the Map page shows them",
    ),
    "runs": Command(_add_runs, run_runs, _describe_runs),
}
