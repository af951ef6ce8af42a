"""What a command is, and options that several commands share."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnover.models.options import Option

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
        if option.type is bool:
            parser.add_argument(
                option.flag,
                dest=option.name,
                action="store_const",
                const=not option.default,
                help=option.help,
            )
        else:
            parser.add_argument(
                option.flag, type=option.type, metavar=option.metavar, help=option.help
            )


def chosen_of(arguments: Namespace, options: Iterable[Option]) -> dict[str, Any]:
    """The options that were given."""
    values = {option.name: getattr(arguments, option.name) for option in options}
    return {name: value for name, value in values.items() if value is not None}


def add_run(parser: ArgumentParser, text: str = "run folder") -> None:
    """`--run DIR`."""
    parser.add_argument("--run", required=True, metavar="DIR", help=text)


def add_device(parser: ArgumentParser) -> None:
    """`--device NAME`."""
    parser.add_argument(
        "--device", metavar="NAME", help="cuda, mps or cpu (default: the best one there is)"
    )


def add_cluster(parser: ArgumentParser) -> None:
    """`--cluster ADDRESS`."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help=(
            "Ray cluster that shares this disk, such as HOST:6379 (default: RAY_ADDRESS, else "
            "processes of this machine)"
        ),
    )


def add_model(parser: ArgumentParser) -> None:
    """`--model MODULE:FUNCTION`, for commands that load a run's model; `turnover.cli` allows the
    named code to run.
    """
    parser.add_argument(
        "--model",
        metavar="M:F",
        help=(
            "module:function of your own that the run was made with: its code is run only if you "
            "name it again"
        ),
    )


def add_top(parser: ArgumentParser) -> None:
    """`--top N`."""
    parser.add_argument(
        "--top",
        type=positive,
        default=5,
        metavar="N",
        help="how many proponents and opponents to show (default 5)",
    )
