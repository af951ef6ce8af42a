"""`influence`: the influence of every training item on every target, added to a run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_device, add_model, add_run, positive
from turnover.wording import counted

HELP = "compute the influence of all training items on the validation items of a run"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument("--targets", choices=("validation", "errors"), default="validation", help="all validation items (default) or only the misclassified")
    parser.add_argument("--most", type=positive, metavar="N", help="at most N targets, drawn at random (default: all)")
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        help="memory to work in beside the result, such as 512M or 4G (default: what is free, at most 1G on a CPU); of each rank under torchrun",
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="bfloat16: faster where the hardware has it, less exact")
    add_device(parser)
    add_model(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Compute, store and return targets, train_size, members, pairs, seconds and pairs_per_second."""
    from turnover.engine.memory import parse_memory
    from turnover.pipeline.influence import compute_influence
    from turnover.ranks import open_ranks
    from turnover.runs import Run

    memory = None if arguments.memory is None else parse_memory(arguments.memory)
    options = {"memory": memory, "precision": arguments.precision, "most": arguments.most}
    with open_ranks() as ranks:
        return compute_influence(Run(Path(arguments.run)), arguments.targets, arguments.device, ranks=ranks, **options)


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    error = result["precision_error"]
    note = "" if error is None else f"\nin {result['precision']}: means differ from float32 by up to {error:.2g} nats"
    sizes = f"{counted(result['targets'], 'target')} x {counted(result['train_size'], 'training item')} x {counted(result['members'], 'member')}"
    return (
        f"{sizes}: {result['pairs']:,} values in {result['seconds']:.1f} s ({result['pairs_per_second']:,} a second)\n"
        f"shown as: {result['estimator']}; computed by {result['path']}{note}"
    )
