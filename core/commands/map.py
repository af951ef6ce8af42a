"""`map`: places the items of a run by UMAP, for the dashboard's Map page."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_run
from turnover.maps import BY, FEATURES

HELP = "place items in two dimensions by UMAP for the Map page (needs umap-learn)"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument("--by", choices=BY, default=FEATURES, help="what places go by (default: %(default)s)")


def execute(arguments: Namespace) -> dict[str, Any]:
    """Return the file that holds the places."""
    from turnover.maps import make_places
    from turnover.runs import Run

    return {"file": str(make_places(Run(Path(arguments.run)), arguments.by))}


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    return f"places by UMAP are in {result['file']}; the Map page shows them"
