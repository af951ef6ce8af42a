"""`groups`: what groups of training items did to the mistakes, and the smallest group that flips each."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_run, positive
from turnover.wording import counted

HELP = "sum influences over groups of training items, and find the smallest group whose removal is predicted to flip an error"
_LISTED = 5


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument("--error", action="append", default=[], metavar="ID", help="a misclassified validation item; may be repeated (default: all)")
    for name, metavar, text in (
        ("containing", "WORDS", "a group: training texts that contain these words"),
        ("class", "NAME", "a group: all training items of a class"),
        ("planted", "MARK", "a group: all training items with a planted mark"),
        ("ids", "FILE", "a group: the training items whose ids are in this file, one a line"),
    ):
        parser.add_argument(f"--{name}", dest=name, action="append", default=[], metavar=metavar, help=f"{text}; may be repeated")
    parser.add_argument("--flagged", action="store_true", help="a group: all training items flagged to be dropped")
    parser.add_argument(
        "--top", type=positive, default=10, metavar="N", help="two groups for each error: its N strongest proponents and opponents (default 10)"
    )


def execute(arguments: Namespace) -> dict[str, Any]:
    """Return the errors, each with its groups' influences and its flip, and how many errors have one."""
    from turnover.groups import choose
    from turnover.pipeline.groups import group_influences
    from turnover.runs import Run

    run = Run(Path(arguments.run))
    groups = [choose.containing(run, words) for words in arguments.containing]
    groups += [choose.of_class(run, name) for name in getattr(arguments, "class")]
    groups += [choose.planted(run, mark) for mark in arguments.planted]
    groups += [choose.listed(run, Path(name)) for name in arguments.ids]
    groups += [choose.flagged(run)] if arguments.flagged else []
    return group_influences(run, groups, arguments.error, arguments.top)


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    lines = ["influence in nats ± standard error; positive: the group pushed the model towards the label"]
    for error in result["errors"]:
        lines += ["", f"{error['id']} [{error['label']}] predicted {error['predicted']}  {error.get('text', error.get('thumbnail'))}"]
        lines += [_group_line(group, error) for group in error["groups"]]
        lines.append(f"  {_flip_line(error, result['train_size'])}")
    flips = result["flips"]
    median = "" if flips["median_removed"] is None else f", by removing {flips['median_removed']:g} training items in the median"
    found = f"{flips['predicted']} of {flips['errors']} errors are predicted to flip at face value{median}"
    return "\n".join([*lines, "", f"{found}; this is no retraining, after which a whole network moves far less"])


def _group_line(group: dict[str, Any], error: dict[str, Any]) -> str:
    """A group's influence on both labels, and what random groups do."""
    told = []
    for meaning, label in (("prediction", error["predicted"]), ("truth", error["label"])):
        one = group[meaning]
        known = "error not known" if one["standard_error"] is None else f"± {one['standard_error']:.3f} {one['trust']}"
        usual = "" if one["random"] is None else f" (random groups like it {one['random'][0]:+.3f} ± {one['random'][1]:.3f})"
        told.append(f"on {label} {one['influence']:+.3f} {known}{usual}")
    return f"  {group['name']}, {counted(group['size'], 'item')}: {'; '.join(told)}"


def _flip_line(error: dict[str, Any], train_size: int) -> str:
    """What flips an error."""
    flip, before = error["flip"], error["flip"]["losses"]
    margin = before["true"] - before["predicted"]
    if not flip["removed"]:
        return f"no group of up to half of the {train_size} training items is predicted to flip it (margin {margin:.3f} nats)"
    after = flip["losses_after"]["true"] - flip["losses_after"]["predicted"]
    noise = "error not known" if flip["margin_error"] is None else f"± {flip['margin_error']:.3f}"
    more = ", …" if flip["removed"] > _LISTED else ""
    return (
        f"at face value predicted to flip to {error['label']} without {counted(flip['removed'], 'training item')}: "
        f"margin {margin:.3f} to {after:.3f} {noise} nats; {', '.join(flip['ids'][:_LISTED])}{more}"
    )
