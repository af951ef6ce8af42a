"""The command line: `turnover COMMAND …`.

Progress and words go to stderr, results to stdout: `--json` prints one JSON object there. Bad input is one line on stderr
and exit code 2; Ctrl-C is exit code 130 and leaves work that the same command resumes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from turnover.errors import TurnoverError, missing_package
from turnover.models.source import allow
from turnover.world import world

# Threads that wait by spinning make everything many times slower as soon as another program wants a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

COMMANDS = (
    *("dashboard", "demo", "train", "adopt", "influence", "errors", "groups", "explain", "report", "cleanse", "evaluate", "map"),
    *("export", "import-flags", "apply", "runs", "paper", "bench", "worker", "job"),
)
TOGETHER = ("train", "influence")
"""Commands that several processes do together under torchrun."""
_DESCRIPTION = "Which training examples taught the model this mistake? Train with turn-over dropout, then ask."


class _Usage(TurnoverError):
    """Options that do not go together."""


class _Parser(argparse.ArgumentParser):
    """Bad usage is one line, like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise _Usage(f"{self.prog}: {message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(prog="turnover", description=_DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name in COMMANDS:
        module = importlib.import_module(f"turnover.commands.{name.replace('-', '_')}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP[0].upper() + module.HELP[1:] + ".")
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print the result as one JSON object")
        command.set_defaults(module=module)
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
        if world().size > 1 and arguments.command not in TOGETHER:
            raise TurnoverError(f"this command is for one process; leave torchrun out (it serves {' and '.join(TOGETHER)})")
        result = _execute(arguments)
    except TurnoverError as error:
        print(f"turnover {arguments.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where this one was", file=sys.stderr)
        return 130
    if world().is_first:
        _say(json.dumps(result, ensure_ascii=False) if arguments.json else arguments.module.describe(result))
    return 0


def call(command: str, **options: Any) -> dict[str, Any]:
    """What a command returns, from a notebook: `call("cleanse", run="runs/mine", fraction=0.05)` is `turnover cleanse --run runs/mine --fraction 0.05`.

    Args:
        options: as on the command line, with `_` for `-`; None and False leave an option out, True gives it alone, a list gives it several values.

    Raises:
        TurnoverError: for what the command refuses.
    """
    words = [command]
    for name, value in options.items():
        if value is not None and value is not False:
            values = [] if value is True else value if isinstance(value, list | tuple) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return _execute(build_parser().parse_args(words))


def _execute(arguments: argparse.Namespace) -> dict[str, Any]:
    """Do what a command line asks for; a package that an extra brings and that is not there is a `TurnoverError` too."""
    allow(getattr(arguments, "model", None))
    try:
        return dict(arguments.module.execute(arguments))
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
