"""`import-flags`: a colleague's patch into the flags of a run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_run

HELP = "add a colleague's flags, a patch of another copy of the run, to those of this one"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument("--patch", required=True, metavar="FILE.jsonl", help="what `export --format jsonl` wrote")


def execute(arguments: Namespace) -> dict[str, Any]:
    """Merge the patch and return how many flags are new, conflicting and known, and which lines were refused."""
    from turnover.flags import Flags
    from turnover.patch.merge import merge_patch, patch_file
    from turnover.runs import Run

    run = Run(Path(arguments.run))
    return {"run": arguments.run, **merge_patch(run, Flags(run.folder), patch_file(Path(arguments.patch)))}


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    words = f"{result['new']} flags are new to {result['run']}, {result['conflicting']} of them differ from what others decided; {result['known']} were known"
    return "\n".join([words, *(f"line {refused['line']} refused: {refused['why']}" for refused in result["refused"])])
