"""`apply`: a patch of flags onto a data set, or a cleansed data set back to what it was."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

HELP = "write a data set without what was flagged to drop and with the new labels, and an undo file beside it; or undo that"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--patch", metavar="FILE.jsonl", help="what `export --format jsonl` wrote")
    which.add_argument("--undo", metavar="FILE.undo", help="what an earlier `apply` wrote beside its result")
    data = "CSV, TSV, JSONL or parquet file, folder with one folder of images a class, or name of a data set; with --undo, what `apply` wrote"
    parser.add_argument("--data", required=True, metavar="DATA", help=data)
    parser.add_argument("--out", required=True, metavar="OUT", help="file or folder to write; it must not exist")
    parser.add_argument("--text-column", metavar="NAME", help="column of the texts or images (default: found by what is in it)")
    parser.add_argument("--label-column", metavar="NAME", help="column of the labels (default: label)")


def execute(arguments: Namespace) -> dict[str, Any]:
    """Write the copy and return what was done, or write what a copy was made of."""
    from turnover.patch.apply import apply_patch, undo_patch

    data, out = Path(arguments.data), Path(arguments.out)
    if arguments.undo:
        return undo_patch(Path(arguments.undo), data, out)
    return apply_patch(Path(arguments.patch), data, out, arguments.text_column, arguments.label_column)


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    if "undo" not in result:
        return f"{result['out']} is what it was, SHA-256 {result['sha256']}"
    done = f"{result['dropped']} dropped, {result['relabelled']} relabelled, {result['kept']} left as they are"
    refused = [f"not applied: {' '.join(filter(None, (one['id'], one['place'])))}: {one['why']}" for one in result["refused"]]
    return "\n".join([f"{result['out']}: {done}; undo it with {result['undo']}", *refused])
