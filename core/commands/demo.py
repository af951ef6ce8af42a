"""`demo`: the two runs that `make run` opens."""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import DEFAULT_RUNS, add_device
from turnover.pipeline.demo import DATA, build_demo, demo_folder

HELP = "build the demo runs (digits and reviews) where they are missing"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument(
        "--folder",
        default=os.environ.get("TURNOVER_RUNS", DEFAULT_RUNS),
        metavar="DIR",
        help=f"folder to build them in (default: TURNOVER_RUNS, else {DEFAULT_RUNS})",
    )
    add_device(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Build what is missing; return the runs, those built now, and the seconds it took."""
    begun = time.perf_counter()
    folder = Path(arguments.folder)
    built = [name for name in DATA if not (demo_folder(folder, name) / "influence" / "manifest.json").is_file()]
    for name in built:
        build_demo(folder, name, arguments.device)
    return {"runs": [str(demo_folder(folder, name)) for name in DATA], "built": built, "seconds": round(time.perf_counter() - begun, 1)}


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    if not result["built"]:
        return "both demo runs are there"
    return f"built {' and '.join(result['built'])} in {result['seconds']:.0f} s: {', '.join(result['runs'])}"
