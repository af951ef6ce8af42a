"""`paper`: the experiments of the paper, its numbers beside the measured ones."""

from __future__ import annotations

import importlib
import platform
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_device

HELP = "rerun an experiment of Kobayashi et al. (2020)"
EXPERIMENTS = {
    "side-effect": "accuracy without and with turn-over dropout (4.1)",
    "curves": "masked, flipped and validation losses (Figure 2)",
    "errors-text": "the training sentences behind mistakes on SST-2 (Figures 3 and 4)",
    "errors-images": "the training images behind mistakes on CIFAR-10 (Figure 5)",
    "footnote4": "the full network in place of the masked one, by LDS (footnote 4; digits need no --path)",
    "cleansing": "SST-2 cleansed for Elec (Table 2)",
    "complexity": "what every method costs in time and storage, and how that grows (Table 1)",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("name", choices=tuple(EXPERIMENTS), help="; ".join(f"{name}: {what}" for name, what in EXPERIMENTS.items()))
    parser.add_argument("--path", metavar="DIR", help="folder that holds sst2/, elec/ and cifar10/")
    parser.add_argument("--runs", default="runs", metavar="DIR", help="where trained models are kept, used again and opened by the dashboard (default runs)")
    parser.add_argument("--scale", choices=("small", "paper"), default="small", help="small: minutes on 2 cores (default); paper: the full setting, for a GPU")
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="text encoder: a hub name or a folder (default: the packaged all-MiniLM-L6-v2; at the paper's scale bert-base-uncased)",
    )
    add_device(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Run the experiment and return its rows."""
    from turnover.device import choose_device, device_name
    from turnover.paper.setup import Setup

    module = importlib.import_module(f"turnover.paper.{arguments.name.replace('-', '_')}")
    setup = Setup(arguments.scale, Path(arguments.path) if arguments.path else None, Path(arguments.runs), arguments.device, arguments.encoder)
    rows = getattr(module, arguments.name.replace("-", "_"))(setup)
    facts = {"experiment": arguments.name, "scale": arguments.scale, "device": device_name(choose_device(arguments.device)), "machine": platform.machine()}
    return facts | {"rows": [asdict(row) for row in rows]}


def describe(result: dict[str, Any]) -> str:
    """The rows as a table."""
    from turnover.paper.row import PaperRow, paper_table

    return f"{result['experiment']}, {result['scale']} scale, on {result['device']}\n\n{paper_table([PaperRow(**row) for row in result['rows']])}"
