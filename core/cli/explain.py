"""Commands on the influences of a run.

- `influence`: compute the influence of every training item on every target.
- `explain`: the training items behind the prediction for a text or an image of your own.
- `errors`: the misclassified validation items and the training items behind them.
- `groups`: influence of groups of training items on the mistakes, and the smallest group that flips
  each.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.cli.options import (
    Command,
    add_cluster,
    add_device,
    add_model,
    add_run,
    add_top,
    positive,
)
from turnover.errors import counted


def add_influence(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument(
        "--targets",
        choices=("validation", "errors"),
        default="validation",
        help="all validation items (default) or only the misclassified",
    )
    parser.add_argument(
        "--most",
        type=positive,
        metavar="N",
        help="at most N targets, drawn at random (default: all)",
    )
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        help=(
            "memory to work in beside the result, such as 512M or 4G (default: what is free, at "
            "most 1G on a CPU); of each process"
        ),
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="bfloat16: faster where the hardware has it, less exact",
    )
    add_device(parser)
    add_cluster(parser)
    add_model(parser)


def run_influence(arguments: Namespace) -> dict[str, Any]:
    """Compute, store and return targets, train_size, members, pairs, seconds and
    pairs_per_second.
    """
    from turnover.attribution.engine.tiling import parse_memory
    from turnover.runs.run import Run
    from turnover.workflows.influence import compute_influence

    memory = None if arguments.memory is None else parse_memory(arguments.memory)
    options = {"memory": memory, "precision": arguments.precision, "most": arguments.most}
    return compute_influence(
        Run(Path(arguments.run)),
        arguments.targets,
        arguments.device,
        cluster=arguments.cluster,
        **options,
    )


def describe_influence(result: dict[str, Any]) -> str:
    """The result in words."""
    error = result["precision_error"]
    note = (
        ""
        if error is None
        else f"\nin {result['precision']}: means differ from float32 by up to {error:.2g} nats"
    )
    sizes = (
        f"{counted(result['targets'], 'target')} x {counted(result['train_size'], 'training item')}"
        f" x {counted(result['members'], 'member')}"
    )
    return (
        f"{sizes}: {result['pairs']:,} values in {result['seconds']:.1f} s "
        f"({result['pairs_per_second']:,} a second)\nshown as: {result['estimator']}; computed by "
        f"{result['path']}{note}"
    )


ESTIMATORS = {
    "best": "estimate from all members",
    "median": "median over members",
    "raw": "one member",
}


def add_explain(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", metavar="T", help="the text to explain")
    given.add_argument(
        "--image", metavar="FILE", help="the image to explain (PNG, JPEG, WebP, BMP or GIF)"
    )
    parser.add_argument(
        "--label",
        metavar="L",
        help="influence on the loss of this class (default: the predicted one)",
    )
    add_top(parser)
    add_device(parser)
    add_model(parser)


def run_explain(arguments: Namespace) -> dict[str, Any]:
    """Return predicted, probabilities, trust, proponents, opponents (influence in nats) and
    seconds.
    """
    from turnover.data.tables.checks import read_bytes
    from turnover.runs.run import Run
    from turnover.workflows.explain import Explainer

    content = read_bytes(Path(arguments.image)) if arguments.image else b""
    explainer = Explainer(Run(Path(arguments.run)), arguments.device)
    if arguments.image:
        return explainer.explain_image(content, arguments.image, arguments.label, arguments.top)
    return explainer.explain_text(arguments.text, arguments.label, arguments.top)


def describe_explain(result: dict[str, Any]) -> str:
    """The result in words."""
    lines = [
        f"predicted: {result['predicted']} ({result['probabilities'][result['predicted']]:.1%})"
    ]
    return "\n".join(lines + entry_lines(result, result["label"], result["estimator"]))


def entry_lines(result: dict[str, Any], label: str, estimator: str) -> list[str]:
    """Proponents and opponents, one line each."""
    lines = []
    for name, does in (("proponents", "helped"), ("opponents", "hurt")):
        estimate = ESTIMATORS.get(estimator, estimator)
        lines.append(
            f"{name}: training items that {does} the label {label} ({estimate}, nats ± standard "
            "error)"
        )
        for entry in result[name]:
            error = (
                "error not known"
                if entry["std_error"] is None
                else f"± {entry['std_error']:.4f} {entry['trust']}"
            )
            lines.append(
                f"  {entry['influence']:+.4f} {error}  {entry['id']} [{entry['label']}] "
                f" {entry.get('text', entry.get('thumbnail'))}"
            )
    return lines


def add_errors(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    add_top(parser)


def run_errors(arguments: Namespace) -> dict[str, Any]:
    """Return the errors, clearest first, each with proponents and opponents of the prediction."""
    from turnover.explain.explanation import list_errors
    from turnover.runs.run import Run

    return list_errors(Run(Path(arguments.run)), arguments.top)


def describe_errors(result: dict[str, Any]) -> str:
    """The result in words."""
    lines = [f"{len(result['errors'])} misclassified validation items"]
    for error in result["errors"]:
        content = error.get("text", error.get("thumbnail"))
        lines += [
            "",
            (
                f"{error['id']} [{error['label']}] predicted {error['predicted']} "
                f"({error['probability']:.1%})  {content}"
            ),
        ]
        lines += entry_lines(error, error["predicted"], result["estimator"])
    return "\n".join(lines)


_LISTED = 5


def add_groups(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument(
        "--error",
        action="append",
        default=[],
        metavar="ID",
        help="a misclassified validation item; may be repeated (default: all)",
    )
    for name, metavar, text in (
        ("containing", "WORDS", "a group: training texts that contain these words"),
        ("class", "NAME", "a group: all training items of a class"),
        ("injected", "MARK", "a group: all training items with an injected mark"),
        ("ids", "FILE", "a group: the training items whose ids are in this file, one a line"),
    ):
        parser.add_argument(
            f"--{name}",
            dest=name,
            action="append",
            default=[],
            metavar=metavar,
            help=f"{text}; may be repeated",
        )
    parser.add_argument(
        "--flagged", action="store_true", help="a group: all training items flagged to be dropped"
    )
    parser.add_argument(
        "--top",
        type=positive,
        default=10,
        metavar="N",
        help="two groups for each error: its N strongest proponents and opponents (default 10)",
    )


def run_groups(arguments: Namespace) -> dict[str, Any]:
    """Return the errors, each with its groups' influences and its flip, and how many errors have
    one.
    """
    from turnover.explain import groups as explain_groups
    from turnover.explain.flips import group_influences
    from turnover.runs.run import Run

    run = Run(Path(arguments.run))
    groups = [explain_groups.containing(run, words) for words in arguments.containing]
    groups += [explain_groups.of_class(run, name) for name in getattr(arguments, "class")]
    groups += [explain_groups.injected(run, mark) for mark in arguments.injected]
    groups += [explain_groups.listed(run, Path(name)) for name in arguments.ids]
    groups += [explain_groups.flagged(run)] if arguments.flagged else []
    return group_influences(run, groups, arguments.error, arguments.top)


def describe_groups(result: dict[str, Any]) -> str:
    """The result in words."""
    lines = [
        "influence in nats ± standard error; positive: the group pushed the model towards the label"
    ]
    for error in result["errors"]:
        lines += [
            "",
            (
                f"{error['id']} [{error['label']}] predicted {error['predicted']} "
                f" {error.get('text', error.get('thumbnail'))}"
            ),
        ]
        lines += [_group_line(group, error) for group in error["groups"]]
        lines.append(f"  {_flip_line(error, result['train_size'])}")
    flips = result["flips"]
    median = (
        ""
        if flips["median_removed"] is None
        else f", by removing {flips['median_removed']:g} training items in the median"
    )
    summary = (
        f"{flips['predicted']} of {flips['errors']} errors are predicted to flip at face "
        f"value{median}"
    )
    return "\n".join(
        [
            *lines,
            "",
            f"{summary}; this is no retraining, after which a whole network moves far less",
        ]
    )


def _group_line(group: dict[str, Any], error: dict[str, Any]) -> str:
    """A group's influence on both labels, and what random groups do."""
    parts = []
    for meaning, label in (("prediction", error["predicted"]), ("truth", error["label"])):
        total = group[meaning]
        certainty = (
            "error not known"
            if total["std_error"] is None
            else f"± {total['std_error']:.3f} {total['trust']}"
        )
        usual = (
            ""
            if total["random"] is None
            else f" (random groups like it {total['random'][0]:+.3f} ± {total['random'][1]:.3f})"
        )
        parts.append(f"on {label} {total['influence']:+.3f} {certainty}{usual}")
    return f"  {group['name']}, {counted(group['size'], 'item')}: {'; '.join(parts)}"


def _flip_line(error: dict[str, Any], train_size: int) -> str:
    """What flips an error."""
    flip, before = error["flip"], error["flip"]["losses"]
    margin = before["true"] - before["predicted"]
    if not flip["removed"]:
        return (
            f"no group of up to half of the {train_size} training items is predicted to flip it "
            f"(margin {margin:.3f} nats)"
        )
    after = flip["losses_after"]["true"] - flip["losses_after"]["predicted"]
    noise = "error not known" if flip["margin_error"] is None else f"± {flip['margin_error']:.3f}"
    more = ", …" if flip["removed"] > _LISTED else ""
    return (
        f"at face value predicted to flip to {error['label']} without "
        f"{counted(flip['removed'], 'training item')}: margin {margin:.3f} to {after:.3f} {noise} "
        f"nats; {', '.join(flip['ids'][:_LISTED])}{more}"
    )


COMMANDS = {
    "influence": Command(add_influence, run_influence, describe_influence),
    "explain": Command(add_explain, run_explain, describe_explain),
    "errors": Command(add_errors, run_errors, describe_errors),
    "groups": Command(add_groups, run_groups, describe_groups),
}
