"""`demo`: the two runs that `make run` opens."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from core.commands.arguments import DEFAULT_RUNS, add_device

HELP = "build the demo runs (digits and reviews) where they are missing"
DATA = ("digits", "reviews")


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("--folder", default=DEFAULT_RUNS, metavar="DIR", help=f"folder to build them in (default {DEFAULT_RUNS})")
    add_device(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Build what is missing; return the runs, those built now, and the seconds it took."""
    begun = time.perf_counter()
    folders = {name: Path(arguments.folder) / f"demo-{name}" for name in DATA}
    built = [name for name in DATA if not (folders[name] / "influence" / "manifest.json").is_file()]
    for name in built:
        build(name, folders[name], arguments.device)
    return {"runs": [str(folder) for folder in folders.values()], "built": built, "seconds": round(time.perf_counter() - begun, 1)}


def build(name: str, folder: Path, device: str | None) -> None:
    """Train one demo run, if it is not there, and compute its influences."""
    from core.pipeline.influence import compute_influence
    from core.pipeline.train import TrainSettings, train_run
    from core.runs import Run

    if not folder.exists():
        train_run(TrainSettings(name), folder, device)
    compute_influence(Run(folder), "validation", device)


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    if not result["built"]:
        return "both demo runs are there"
    return f"built {' and '.join(result['built'])} in {result['seconds']:.0f} s: {', '.join(result['runs'])}"
