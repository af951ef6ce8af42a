"""`cleanse`: remove the training items that hurt a validation set most, and retrain to see what it does."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from core.commands.arguments import add_device, add_run

HELP = "remove the most harmful training items of a run and retrain: no cleansing, random removal, cleansing"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument("--fraction", type=float, default=0.01, metavar="F", help="share of the training items to remove (default .01)")
    parser.add_argument(
        "--validation",
        default="validation",
        metavar="NAME",
        help="items to cleanse for: validation, half of the run's own, measured on the other half (default); or elec, reviews of electronics in --path",
    )
    parser.add_argument("--path", metavar="DIR", help="folder with the files of elec")
    parser.add_argument("--repeats", type=int, default=4, metavar="R", help="models for each condition, from seeds 0 to R - 1 (default 4)")
    add_device(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Score, remove, retrain and return the conditions with mean and standard deviation."""
    from core.pipeline.cleanse import cleanse, prepare
    from core.runs import Run

    return cleanse(prepare(Run(Path(arguments.run)), arguments.validation, arguments.path, arguments.device), arguments.fraction, arguments.repeats)


def describe(result: dict[str, Any]) -> str:
    """The conditions as a table."""
    classes = ", ".join(f"{count} {name}" for name, count in result["removed_by_class"].items())
    lines = [f"{result['removed']} training items removed ({classes}) for {result['targets']} targets; measured on {result['measured_on']} other items\n"]
    lines += ["| condition | accuracy | loss, nats | accuracy and loss against those above |", "| --- | ---: | ---: | --- |"]
    for one in result["conditions"]:
        accuracy, loss = f"{one['accuracy']:.1%} ± {one['accuracy_sd']:.1%}", f"{one['loss']:.3f} ± {one['loss_sd']:.3f}"
        lines.append(f"| {one['condition']} | {accuracy} | {loss} | {'; '.join(_against(other) for other in one['against'])} |")
    return "\n".join([*lines, "", f"± standard deviation over {result['repeats']} seeds; p of a paired t-test, two-sided"])


def _against(other: dict[str, Any]) -> str:
    """One comparison in a few words."""
    accuracy_p, loss_p = ("" if other[name] is None else f" (p = {other[name]:.2g})" for name in ("accuracy_p", "loss_p"))
    return f"{other['other']}: {other['accuracy']:+.1%}{accuracy_p}, {other['loss']:+.3f}{loss_p}"
