"""`bench`: the measurements behind README's numbers."""

from __future__ import annotations

import platform
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnover.errors import TurnoverError

if TYPE_CHECKING:
    from turnover.bench.row import Row

HELP = "measure speed and quality on this machine"
NAMES = {
    "masks": "hashing against storing",
    "influence": "the engine against the published way (20 minutes)",
    "demo": "the demo runs",
    "sst2": "5,000 real sentences",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("name", choices=tuple(NAMES), help="; ".join(f"{name}: {what}" for name, what in NAMES.items()))
    parser.add_argument("--path", metavar="DIR", help="folder with the SST-2 files (for sst2)")


def execute(arguments: Namespace) -> dict[str, Any]:
    """Return the measured rows, with the machine they were measured on."""
    import torch

    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"
    facts: dict[str, Any] = {"name": arguments.name, "machine": machine}
    if arguments.name == "influence":
        from turnover.bench.influence import measure_influence

        return facts | measure_influence()
    return facts | {"rows": [asdict(row) for row in _measure(arguments)]}


def _measure(arguments: Namespace) -> Iterator[Row]:
    from turnover.bench.demo import measure_demo
    from turnover.bench.masks import measure_masks
    from turnover.bench.sst2 import measure_sst2

    if arguments.name == "masks":
        return measure_masks()
    if arguments.name == "demo":
        return measure_demo()
    if not arguments.path:
        raise TurnoverError("bench sst2 needs the SST-2 files; name their folder with --path")
    return measure_sst2(Path(arguments.path))


def describe(result: dict[str, Any]) -> str:
    """The rows as a Markdown table."""
    from turnover.bench.influence import describe_influence
    from turnover.bench.row import Row, table

    rows = describe_influence(result) if result["name"] == "influence" else table([Row(**row) for row in result["rows"]])
    return f"Measured on {result['machine']}\n\n{rows}"
