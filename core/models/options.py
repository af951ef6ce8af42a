"""Options as fields of dataclasses: what `turnover train` and the form of a new run ask for.

    layers: int | None = option(None, "adapters in the last L layers (default: all)", "L", least=1)

is all that an option needs. The command line, the page, the checks and the settings of a run are
loops over `options_of` the settings and of the model families.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, get_args, get_type_hints

from turnover.errors import TurnoverError

KINDS = ("text", "image")
"""The kinds of data."""


@dataclass(frozen=True)
class Option:
    """A field with its help.

    Attributes:
        name: of the field.
        type: int, float, str or bool.
        default: its value where it is not given.
        help: what it does, for `--help` and the page.
        metavar: stands for the value in `--help`.
        label: its name on the page; "" asks for it on the command line alone.
        empty: what an empty field of the page stands for, where that is not the default.
        least: the smallest value.
        below: a value that must not be reached.
        most: the largest value that the page offers.
        even: whether it must be even.
        needs: options of which one must be given with it.
        excludes: an option that must not be given with it.
        form: a regular expression that it matches.
        path: `file`, or `folder` where it may also be another name.
        kinds: the kinds of data that it is for.
        before: its value in runs that were made before the option existed.
    """

    name: str
    type: type
    default: Any
    help: str
    metavar: str = ""
    label: str = ""
    empty: str = ""
    least: float | None = None
    below: float | None = None
    most: float | None = None
    even: bool = False
    needs: tuple[str, ...] = ()
    excludes: str = ""
    form: str = ""
    path: str = ""
    kinds: tuple[str, ...] = KINDS
    before: Any = None

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return flag_of(f"no_{self.name}" if self.default is True else self.name)

    def check(self, chosen: Mapping[str, Any]) -> None:
        """Check the value among all that were chosen.

        Raises:
            TurnoverError: if it is out of bounds, or does not go with the others.
        """
        value = chosen.get(self.name)
        if value is None or value == self.default:
            return
        if self.form and not re.fullmatch(self.form, value):
            raise TurnoverError(
                f"{self.flag} {value!r:.80}: letters, digits and dots, such as layer4; correct it"
            )
        if not (
            (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
        ):
            upwards = (
                f"{self.least:g} or more"
                if self.below is None
                else f"a number from {self.least:g} up to, but not including, {self.below:g}"
            )
            raise TurnoverError(f"{self.flag} {value}: choose {upwards}")
        if self.even and value % 2:
            raise TurnoverError(f"{self.flag} {value}: choose an even number")
        if self.needs and not any(chosen.get(name) for name in self.needs):
            raise TurnoverError(
                f"{self.flag} goes with {' or '.join(map(flag_of, self.needs))}; give one of them, "
                f"or leave {self.flag} out"
            )
        if self.excludes and chosen.get(self.excludes):
            raise TurnoverError(
                f"{self.flag} and {flag_of(self.excludes)} exclude each other; give one of them"
            )


def option(default: Any, help: str, metavar: str = "", **more: Any) -> Any:
    """A field of a dataclass that is an option; `more` are other attributes of `Option`."""
    return field(default=default, metadata={"help": help, "metavar": metavar, **more})


def flag_of(name: str) -> str:
    """The name on the command line of the option of this name."""
    return f"--{name.replace('_', '-')}"


def options_of(settings: type) -> tuple[Option, ...]:
    """The options among the fields of a dataclass."""
    hints = _hints(settings)
    return tuple(
        Option(
            field.name,
            next((part for part in get_args(hints[field.name])), hints[field.name]),
            field.default,
            **field.metadata,
        )
        for field in fields(settings)
        if "help" in field.metadata
    )


@cache
def _hints(settings: type) -> dict[str, Any]:
    """The types of a dataclass's fields, which take a millisecond to look up."""
    return get_type_hints(settings)
