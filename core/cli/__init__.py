"""The command line: `turnover COMMAND …`.

Progress and messages go to stderr, results to stdout: `--json` prints one JSON object there. Bad
input is one line on stderr and exit code 2; Ctrl-C is exit code 130 and leaves work that the same
command resumes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from numbers import Number
from typing import Any, NoReturn

from turnover.cli.options import Command
from turnover.errors import TurnoverError, missing_package
from turnover.models.names import allow

# Spinning threads make everything many times slower as soon as another program needs a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

COMMANDS = {
    "dashboard": ("serve", "open the dashboard on the runs in a folder"),
    "demo": ("train", "build the demo runs (digits and reviews) where they are missing"),
    "train": ("train", "train a classifier with turn-over dropout and write a run folder"),
    "register": (
        "train",
        "write a run folder of your own model that was trained with turn-over dropout elsewhere",
    ),
    "influence": (
        "explain",
        "compute the influence of all training items on the validation items of a run",
    ),
    "errors": (
        "explain",
        "list the misclassified validation items with the training items behind them",
    ),
    "groups": (
        "explain",
        "sum influences over groups of training items, and find the smallest group whose "
        "removal is predicted to flip an error",
    ),
    "prove": (
        "prove",
        "train again without the training items that taught a mistake, and without random ones: "
        "is it so",
    ),
    "explain": ("explain", "explain the prediction for your own text or image by training items"),
    "report": (
        "runs",
        "write the mistakes of a run, with the training items behind them, to one HTML file",
    ),
    "cleanse": (
        "cleanse",
        "remove the most harmful training items of a run and retrain: no cleansing, random "
        "removal, cleansing",
    ),
    "evaluate": (
        "evaluate",
        "measure how far a run's influences can be trusted, beside other methods",
    ),
    "label-errors": ("labels", "list the training items whose label is in doubt"),
    "flag": ("labels", "drop, relabel or keep training items"),
    "map": ("runs", "place items in two dimensions by UMAP for the Map page (needs umap-learn)"),
    "export": ("cleanse", "write the flagged training items of a run to a file"),
    "import-flags": (
        "cleanse",
        "add a colleague's flags, from another copy of the run, to those of this one",
    ),
    "apply": (
        "cleanse",
        "write a data set without what was flagged to drop and with the new labels, and an undo"
        " file beside it; or undo that",
    ),
    "runs": ("runs", "list the runs in a folder"),
    "paper": ("evaluate", "rerun an experiment of Kobayashi et al. (2020)"),
    "bench": ("evaluate", "measure speed and quality on this machine"),
    "worker": (
        "serve",
        "answer explain requests on standard input, one JSON line each (used by the dashboard)",
    ),
    "job": ("serve", "run the steps of a job, one after the other (used by the dashboard)"),
}
"""The module of each command, imported when it is called, and its help text."""
_DESCRIPTION = (
    "Which training examples taught the model this mistake? Train with turn-over dropout, then ask."
)


class _Usage(TurnoverError):
    """Options that do not go together."""


class _Parser(argparse.ArgumentParser):
    """Bad usage is one line, like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise _Usage(f"{self.prog}: {message} (see {self.prog} --help)")


class _CommandParser(_Parser):
    """A command's parser: its options are imported when it is called."""

    def fill(self) -> None:
        """Add the command's options, once."""
        if self.get_default("call") is None:
            name = self.prog.split()[-1]
            command: Command = importlib.import_module(
                f"turnover.cli.{COMMANDS[name][0]}"
            ).COMMANDS[name]
            command.add_arguments(self)
            self.add_argument(
                "--json", action="store_true", help="print the result as one JSON object"
            )
            self.set_defaults(call=command)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.fill()
        return super().parse_known_args(args, namespace)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(prog="turnover", description=_DESCRIPTION)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser
    )
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        arguments = build_parser().parse_args(argv)
    except _Usage as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    warnings.filterwarnings("ignore", module="torch")
    try:
        if int(os.environ.get("WORLD_SIZE") or 1) > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
            raise TurnoverError(
                "leave torchrun out: the command uses all of this machine by itself, and other "
                "machines with --cluster"
            )
        result = _execute(arguments)
    except TurnoverError as error:
        print(f"turnover {arguments.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where this one was", file=sys.stderr)
        return 130
    _say(
        json.dumps(result, ensure_ascii=False)
        if arguments.json
        else arguments.call.describe(result)
    )
    return 0


def call(command: str, **options: Any) -> dict[str, Any]:
    """What a command returns, from a notebook: `call("cleanse", run="runs/mine", fraction=0.05)` is
    `turnover cleanse --run runs/mine --fraction 0.05`.

    Args:
        options: as on the command line, with `_` for `-`; None and False leave an option out, True
            gives it alone, a list gives it several values.

    Raises:
        TurnoverError: for input that the command rejects.
    """
    words = [command]
    for name, value in options.items():
        if value is not None and value is not False:
            values = [] if value is True else value if isinstance(value, list | tuple) else [value]
            for each in values:
                if not isinstance(each, str | os.PathLike | Number):
                    raise TurnoverError(
                        f"{name}: a {type(each).__name__}; give a name, number or path, as on the "
                        "command line (a table: of the file that df.to_csv wrote)"
                    )
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return _execute(build_parser().parse_args(words))


def _execute(arguments: argparse.Namespace) -> dict[str, Any]:
    """Execute a parsed command line; a missing optional package is a `TurnoverError` too."""
    allow(getattr(arguments, "model", None))
    try:
        return dict(arguments.call.execute(arguments))
    except ModuleNotFoundError as error:
        if missing := missing_package(error):
            raise missing from None
        raise


def _say(text: str) -> None:
    """Print a result, if there is one; a reader that stops early (`| head`) is no error."""
    try:
        print(text, flush=True, end="\n" if text else "")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
