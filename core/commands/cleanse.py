"""`cleanse`: remove the training items that hurt a validation set most, and retrain to see what it does."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_device, add_model, add_run

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
    parser.add_argument("--flags", action="store_true", help="also train on what you flagged: without what you drop, under the labels that you relabel to")
    parser.add_argument("--score-only", action="store_true", help="only compute the mean influences, and keep them with the run; retrain nothing")
    add_device(parser)
    add_model(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Score, remove, retrain and return the conditions with mean and standard deviation; the result is kept in the run's folder."""
    from turnover.cleansing.choose import CONDITIONS, WITH_FLAGS, Decisions
    from turnover.cleansing.results import keep_cleansing
    from turnover.cleansing.scores import OWN, keep_scores
    from turnover.flags import Flags
    from turnover.lock import alone
    from turnover.pipeline.cleanse import cleanse, prepare
    from turnover.runs import Run

    run = Run(Path(arguments.run))
    decisions = Decisions.of(Flags(run.folder).current(), run.classes, len(run.train)) if arguments.flags else None
    with alone(run.folder / ".cleanse.lock", f"cleansing {run.folder}"):
        prepared = prepare(run, arguments.validation, arguments.path, arguments.device)
        if arguments.validation != OWN:
            keep_scores(run, arguments.validation, prepared.scored)
        if arguments.score_only:
            return {"run": str(run.folder), "validation": arguments.validation, "targets": prepared.scored.targets, "scored": len(prepared.scores)}
        conditions = WITH_FLAGS if decisions else CONDITIONS
        result = cleanse(prepared, arguments.fraction, arguments.repeats, conditions, decisions, lambda known: keep_cleansing(run, known, finished=False))
        keep_cleansing(run, result)
    return result


def describe(result: dict[str, Any]) -> str:
    """The conditions as a table."""
    if "scored" in result:
        return f"{result['run']}: mean influence of {result['scored']} training items on {result['targets']} items of {result['validation']}"
    classes = ", ".join(f"{count} {name}" for name, count in result["removed_by_class"].items())
    lines = [f"{result['removed']} training items removed ({classes}) for {result['targets']} targets; measured on {result['measured_on']} other items\n"]
    lines += ["| condition | accuracy | loss, nats | accuracy and loss against those above |", "| --- | ---: | ---: | --- |"]
    for one in result["conditions"]:
        accuracy, loss = f"{one['accuracy']:.1%} ± {one['accuracy_sd']:.1%}", f"{one['loss']:.3f} ± {one['loss_sd']:.3f}"
        lines.append(f"| {one['condition']} | {accuracy} | {loss} | {'; '.join(_against(other) for other in one['against'])} |")
    return "\n".join([*lines, "", f"± standard deviation over {result['repeats']} seeds; p of a paired t-test, two-sided; 95 % intervals in brackets"])


def _against(other: dict[str, Any]) -> str:
    """One comparison in a few words."""
    accuracy, loss = _known(other, "accuracy", "+.1%"), _known(other, "loss", "+.3f")
    return f"{other['other']}: {other['accuracy']:+.1%}{accuracy}, {other['loss']:+.3f}{loss}"


def _known(other: dict[str, Any], what: str, form: str) -> str:
    """p and interval of a difference, where they have a meaning."""
    if other[f"{what}_p"] is None:
        return ""
    low, high = other[f"{what}_interval"]
    return f" (p = {other[f'{what}_p']:.2g}, [{low:{form}}, {high:{form}}])"
