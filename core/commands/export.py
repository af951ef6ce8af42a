"""`export`: flagged training items as a table, as a patch, or with the mistakes as one HTML file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_run

HELP = "write the flagged training items of a run to a file"
FORMATS = ("csv", "jsonl", "html")


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write (replaced if it exists)")
    text = "csv, for spreadsheets (default); jsonl, a patch for `apply` and `import-flags`; html, a page with the mistakes"
    parser.add_argument("--format", choices=FORMATS, default="csv", help=text)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Write the file and return its name and number of flags."""
    from turnover.atomic import write_atomic
    from turnover.flags import Flags
    from turnover.patch.form import export_patch
    from turnover.pipeline.export import export_csv
    from turnover.report.page import write_report
    from turnover.runs import Run

    run, out = Run(Path(arguments.run)), Path(arguments.out)
    if arguments.format == "html":
        write_report(run, out)
    else:
        text = export_csv(run) if arguments.format == "csv" else export_patch(run)
        write_atomic(out, lambda beside: beside.write_text(text, encoding="utf-8"))
    return {"out": str(out), "flags": len(Flags(run.folder).current())}


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    return f"{result['flags']} flagged training items written to {result['out']}"
