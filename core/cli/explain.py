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

from turnover.attribution.estimators import SCORES
from turnover.cli.options import (
    Command,
    add_cluster,
    add_counts,
    add_groups,
    add_model,
    add_run,
    add_top,
    add_values,
    groups_of,
    positive,
    run_of,
)
from turnover.errors import counted
from turnover.explain.doubt import Doubt


def _add_influence(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--targets",
        choices=("validation", "errors"),
        default="validation",
        help="all validation items (default) or only the misclassified",
    )
    most = "at most N targets, drawn at random (default: all)"
    parser.add_argument("--most", type=positive, metavar="N", help=most)
    add_values(
        parser,
        memory="SIZE: memory to work in beside the result, such as 512M or 4G (default: what is "
        "free, at most 1G on a CPU); of each process",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="bfloat16: faster where the hardware has it, less exact",
    )
    add_cluster(parser)
    add_model(parser)


def run_influence(arguments: Namespace) -> dict[str, Any]:
    """Compute, store and return targets, train_size, members, pairs, seconds and
    pairs_per_second.
    """
    from turnover.attribution.engine.tiling import parse_memory
    from turnover.workflows.influence import compute_influence

    memory = None if arguments.memory is None else parse_memory(arguments.memory)
    options = {"memory": memory, "precision": arguments.precision, "most": arguments.most}
    return compute_influence(
        run_of(arguments),
        arguments.targets,
        arguments.device,
        cluster=arguments.cluster,
        **options,
    )


def _describe_influence(result: dict[str, Any]) -> str:
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


def _add_explain(parser: ArgumentParser) -> None:
    add_run(parser)
    given = parser.add_mutually_exclusive_group(required=True)
    add_values(
        given,
        text="T: the text to explain",
        image="FILE: the image to explain (PNG, JPEG, WebP, BMP or GIF)",
    )
    add_values(parser, label="L: influence on the loss of this class (default: the predicted one)")
    add_top(parser)
    add_model(parser)


def run_explain(arguments: Namespace) -> dict[str, Any]:
    """Return cause, predicted, probabilities, trust, proponents, opponents (influence in nats),
    seconds and a warning where the answer means little.
    """
    from turnover.data.tables.checks import read_bytes
    from turnover.workflows.explain import Explainer

    content = read_bytes(Path(arguments.image)) if arguments.image else b""
    explainer = Explainer(run_of(arguments), arguments.device)
    if arguments.image:
        asked = content, arguments.image, arguments.label, arguments.top
        return explainer.explain_image(*asked, why=True)
    return explainer.explain_text(arguments.text, arguments.label, arguments.top, why=True)


def _describe_explain(result: dict[str, Any]) -> str:
    lines = [
        f"predicted: {result['predicted']} ({result['probabilities'][result['predicted']]:.1%})"
    ]
    lines = [f"note: {result['warning']}", *lines] if result["warning"] else lines
    lines += [f"why: {result['cause']['sentence']}"] if result["cause"] else []
    return "\n".join(lines + entry_lines(result, result["label"]))


def entry_lines(result: dict[str, Any], label: str, unit: str = "nats") -> list[str]:
    """Proponents and opponents, one line each."""
    lines = []
    for name, does in (("proponents", "helped"), ("opponents", "hurt")):
        lines.append(f"{name}: training items that {does} the label {label}")
        for entry in result[name]:
            doubt = entry.get("doubt")
            remark = f" label? {Doubt(**doubt)}" if doubt else ""
            lines.append(
                f"  {_size(entry, unit)}  {entry['id']} [{entry['label']}]{remark}  "
                f"{entry.get('text', entry.get('thumbnail'))}"
            )
    return lines


def _size(entry: dict[str, Any], unit: str) -> str:
    """How much a training item counts; in the unit where no other of its class is known."""
    from turnover.explain.explanation import strength_words

    known = entry["strength"] is not None
    size = f"{entry['influence']:+.4f} {unit}"
    size = strength_words(entry["strength"], entry["label"]) if known else size
    return f"{size}{_uncertain(entry['trust'])}"


def _noise(error: float | None, trust: str | None = None) -> str:
    """A standard error, if it is known, and a mark where it leaves the sign open."""
    return "error not known" if error is None else f"± {error:.3f}{_uncertain(trust)}"


def _uncertain(trust: str | None) -> str:
    """A mark on what cannot be told from noise."""
    from turnover.attribution.estimators.significance import NOISE

    return ", uncertain" * (trust == NOISE)


def _add_errors(parser: ArgumentParser) -> None:
    add_run(parser)
    add_top(parser)


def run_errors(arguments: Namespace) -> dict[str, Any]:
    """Return the errors, clearest first, each with its cause and proponents and opponents of the
    prediction; and the groups of errors by cause.
    """
    from turnover.explain.listing import list_errors

    return list_errors(run_of(arguments), arguments.top)


def _describe_errors(result: dict[str, Any]) -> str:
    lines = [f"{len(result['errors'])} misclassified validation items"]
    lines += [f"  {len(group['errors'])} {group['name']}" for group in result["groups"]]
    lines += [result["note"]] if result["note"] else []
    unit = "in score" if result["estimator"] == SCORES else "nats"
    for error in result["errors"]:
        lines += ["", _heading(error, f" ({error['probability']:.1%})")]
        lines.append(f"why: {error['cause']['sentence']}")
        lines += [f"{proof['sentence']} {proof['numbers']}" for proof in error["proofs"]]
        lines += entry_lines(error, error["predicted"], unit)
    return "\n".join(lines)


def _heading(error: dict[str, Any], chance: str = "") -> str:
    content = error.get("text", error.get("thumbnail"))
    return f"{error['id']} [{error['label']}] predicted {error['predicted']}{chance}  {content}"


_LISTED = 5


def _add_groups(parser: ArgumentParser) -> None:
    add_run(parser)
    text = "a misclassified validation item (default: all); may be repeated"
    parser.add_argument("--error", action="append", default=[], metavar="ID", help=text)
    add_groups(parser)
    add_counts(
        parser, top=(10, "two groups for each error: its N strongest proponents and opponents")
    )


def run_groups(arguments: Namespace) -> dict[str, Any]:
    """Return the errors, each with its groups' influences and its flip, and how many errors have
    one.
    """
    from turnover.explain.flips import group_influences

    run = run_of(arguments)
    return group_influences(run, groups_of(run, arguments), arguments.error, arguments.top)


def _describe_groups(result: dict[str, Any]) -> str:
    unit = "in the units of the scores" if result["estimator"] == SCORES else "in nats"
    lines = [
        f"influence {unit} ± standard error; positive: the group pushed the model towards the label"
    ]
    for error in result["errors"]:
        lines += ["", _heading(error)]
        lines += [_group_line(group, error) for group in error["groups"]]
        lines += [f"  {_flip_line(error, result['train_size'])}"] if error["flip"] else []
    return "\n".join([*lines, "", _flips_line(result)])


def _flips_line(result: dict[str, Any]) -> str:
    """How many errors are predicted to flip."""
    flips = result["flips"]
    if flips["scale"] is None:
        return (
            "which group flips an error is not tested; try it with `turnover prove --run "
            f"{result['run']} --error ID`, and sums are scaled by what that shows"
        )
    median = (
        ""
        if flips["median_removed"] is None
        else f", by removing {flips['median_removed']:g} training items in the median"
    )
    return (
        f"{flips['predicted']} of {flips['errors']} errors are predicted to flip{median}; sums are "
        f"scaled by {flips['scale']:.3g}, what retraining showed of them in this run"
    )


def _group_line(group: dict[str, Any], error: dict[str, Any]) -> str:
    """A group's influence on both labels, and what random groups do."""
    parts = []
    for meaning, label in (("prediction", error["predicted"]), ("truth", error["label"])):
        total = group[meaning]
        noise = _noise(total["std_error"], total["trust"])
        usual = (
            ""
            if total["random"] is None
            else f" (random groups like it {total['random'][0]:+.3f} ± {total['random'][1]:.3f})"
        )
        parts.append(f"on {label} {total['influence']:+.3f} {noise}{usual}")
    return f"  {group['name']}, {counted(group['size'], 'item')}: {'; '.join(parts)}"


def _flip_line(error: dict[str, Any], train_size: int) -> str:
    """What flips an error."""
    flip = error["flip"]
    if not flip["removed"]:
        return (
            f"no group of up to half of the {train_size} training items is predicted to flip it "
            f"({error['predicted']} {flip['probability']:.1%})"
        )
    more = ", …" if flip["removed"] > _LISTED else ""
    return (
        f"predicted to flip to {error['label']} without "
        f"{counted(flip['removed'], 'training item')}: {error['predicted']} from "
        f"{flip['probability']:.1%} to {flip['probability_after']:.1%}, below "
        f"{flip['level']:.1%}; {', '.join(flip['ids'][:_LISTED])}{more}"
    )


COMMANDS = {
    "influence": Command(_add_influence, run_influence, _describe_influence),
    "explain": Command(_add_explain, run_explain, _describe_explain),
    "errors": Command(_add_errors, run_errors, _describe_errors),
    "groups": Command(_add_groups, run_groups, _describe_groups),
}
