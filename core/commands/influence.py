"""`influence`: the influence of every training item on every target, added to a run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from core.commands.arguments import add_device, add_run

HELP = "compute the influence of all training items on the validation items of a run"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument("--targets", choices=("validation", "errors"), default="validation", help="all validation items (default) or only the misclassified")
    add_device(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Compute, store and return targets, train_size, members, pairs, seconds and pairs_per_second."""
    from core.pipeline.influence import compute_influence
    from core.runs import Run

    return compute_influence(Run(Path(arguments.run)), arguments.targets, arguments.device)


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    return (
        f"{result['targets']} targets x {result['train_size']} training items x {result['members']} members: {result['pairs']:,} values "
        f"in {result['seconds']:.1f} s ({result['pairs_per_second']:,} a second)\nshown as: {result['estimator']}; computed by {result['path']}"
    )
