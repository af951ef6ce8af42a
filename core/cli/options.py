"""What a command is, and options that several commands share."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnover.errors import TurnoverError, counted
from turnover.models.options import Option, flag_of, options_of

if TYPE_CHECKING:
    from turnover.explain.groups import Group
    from turnover.runs.run import Run

DEFAULT_RUNS = "runs"


@dataclass(frozen=True)
class Command:
    """A command's options, its execution, and the description of its result, a JSON-ready
    object.
    """

    add_arguments: Callable[[ArgumentParser], None]
    execute: Callable[[Namespace], dict[str, Any]]
    describe: Callable[[dict[str, Any]], str]


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return number


def add_options(parser: Any, options: Iterable[Option]) -> None:
    """Options of settings and model families; those that are not given are None."""
    for option in options:
        form: dict[str, Any] = {"type": option.type, "metavar": option.metavar}
        if option.type is bool:
            form = {"action": "store_const", "const": not option.default}
        parser.add_argument(option.flag, dest=option.name, help=option.help, **form)


def chosen_of(arguments: Namespace, options: Iterable[Option]) -> dict[str, Any]:
    """The options that were given."""
    values = {option.name: getattr(arguments, option.name) for option in options}
    return {name: value for name, value in values.items() if value is not None}


def add_values(parser: Any, **described: str) -> None:
    """Options with a value, each described as `METAVAR: help`."""
    for name, text in described.items():
        metavar, _, help = text.partition(": ")
        parser.add_argument(flag_of(name), metavar=metavar, help=help)


def add_counts(parser: ArgumentParser, **described: tuple[int, str]) -> None:
    """Options with a whole number of 1 or more, each with its default and its help."""
    for name, (default, text) in described.items():
        text = f"{text} (default {default})"
        parser.add_argument(flag_of(name), type=positive, default=default, metavar="N", help=text)


def add_run(parser: ArgumentParser, text: str = "run folder") -> None:
    """`--run DIR`."""
    parser.add_argument("--run", required=True, metavar="DIR", help=text)


def add_switches(parser: ArgumentParser, **described: str) -> None:
    """Options without a value, each with its help."""
    for name, text in described.items():
        parser.add_argument(flag_of(name), action="store_true", help=text)


def add_groups(parser: ArgumentParser) -> None:
    """Ways to choose groups of training items; `groups_of` has the chosen ones."""
    for name, metavar, text in (
        ("containing", "WORDS", "a group: training texts that contain these words"),
        ("class", "NAME", "a group: all training items of a class"),
        ("injected", "MARK", "a group: all training items with an injected mark"),
        ("ids", "FILE", "a group: the training items whose ids are in this file, one a line"),
    ):
        text = f"{text}; may be repeated"
        parser.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=text)
    add_switches(parser, flagged="a group: all training items flagged to be dropped")


def groups_of(run: Run, arguments: Namespace) -> list[Group]:
    """The groups that the options of `add_groups` choose.

    Raises:
        TurnoverError: for one that has no item.
    """
    from turnover.explain import groups

    return [
        *(groups.containing(run, words) for words in arguments.containing),
        *(groups.of_class(run, name) for name in getattr(arguments, "class")),
        *(groups.injected(run, mark) for mark in arguments.injected),
        *(groups.listed(run, Path(name)) for name in arguments.ids),
        *([groups.flagged(run)] if arguments.flagged else []),
    ]


def run_of(arguments: Namespace) -> Run:
    """The run that `--run` names. Errors as `turnover.runs.run.Run`."""
    from turnover.runs.run import Run

    return Run(Path(arguments.run))


def members_of(result: Mapping[str, Any]) -> str:
    """How many members a run has, and how many masks its training items share."""
    shared = f", {result['masks']:,} shared masks" if result["masks"] else ""
    return f"{counted(result['members'], 'member')}{shared}"


def add_runs(parser: ArgumentParser, flag: str, text: str) -> None:
    """A folder of runs; TURNOVER_RUNS of the environment is its default."""
    default = os.environ.get("TURNOVER_RUNS") or DEFAULT_RUNS
    text = f"{text} (default: TURNOVER_RUNS, else {DEFAULT_RUNS})"
    parser.add_argument(flag, default=default, metavar="DIR", help=text)


def add_device(parser: ArgumentParser) -> None:
    """`--device NAME`."""
    add_values(parser, device="NAME: cuda, mps or cpu (default: the best one there is)")


def add_cluster(parser: ArgumentParser) -> None:
    """`--cluster ADDRESS`."""
    add_values(
        parser,
        cluster="ADDRESS: Ray cluster that shares this disk, such as HOST:6379 (default: "
        "RAY_ADDRESS, else processes of this machine)",
    )


def add_model(parser: ArgumentParser) -> None:
    """`--device NAME` and `--model MODULE:FUNCTION`, for commands that load a run's model;
    `turnover.cli` allows the named code to run.
    """
    add_device(parser)
    add_values(
        parser,
        model="M:F: module:function of your own that the run was made with: its code is run only "
        "if you name it again",
    )


def add_retraining(parser: ArgumentParser) -> None:
    """How a module of the user's own is trained again; `retrained_run` keeps it in the run."""
    group = parser.add_argument_group(
        "how a module of your own is trained again",
        "by default as the run was trained; what is given is kept in the run",
    )
    add_options(group, _of_recipe())
    add_cluster(parser)
    add_model(parser)


def _of_recipe() -> list[Option]:
    from turnover.models.families.own import RECIPE, Own
    from turnover.models.registry import TrainSettings

    every = (*options_of(TrainSettings), *Own.options())
    return [option for option in every if option.name in ("epochs", *RECIPE)]


def retrained_run(arguments: Namespace) -> Run:
    """The run that `--run` names, with the recipe of `add_retraining` in its settings.

    Raises:
        TurnoverError: as `run_of`, and as `turnover.runs.write.keep_recipe`.
    """
    run, chosen = run_of(arguments), chosen_of(arguments, _of_recipe())
    if not chosen:
        return run
    from turnover.runs.write import keep_recipe

    keep_recipe(run, chosen)
    return run_of(arguments)


def add_scores(parser: Any, text: str) -> None:
    """`--scores FILE` of another engine, with `--positive`, which `check_scores` checks, and
    `--label`.
    """
    from turnover.data.scores import HELPS, HURTS, PREDICTED, TRUE

    add_values(
        parser,
        scores=f"FILE: another engine's scores {text}, .npy, .npz, .parquet, .safetensors or .csv: "
        "a row for each validation item, a column for each training item; or columns target, item, "
        "score",
    )
    parser.add_argument(
        "--positive",
        choices=(HELPS, HURTS),
        help="what a positive score in --scores means for the target: the training item helps it, "
        "lowers its loss, or hurts it",
    )
    parser.add_argument(
        "--label",
        choices=(TRUE, PREDICTED),
        default=TRUE,
        help="which label of the targets --scores are of (default: the true one)",
    )


def check_scores(arguments: Namespace) -> None:
    """Check that both are given or none.

    Raises:
        TurnoverError: if only one is.
    """
    if bool(arguments.scores) != bool(arguments.positive):
        raise TurnoverError(
            "--scores and --positive helps or hurts go together: no file tells its sign"
        )


def add_top(parser: ArgumentParser) -> None:
    """`--top N`."""
    add_counts(parser, top=(5, "how many proponents and opponents to show"))
