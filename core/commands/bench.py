"""`bench`: the measurements behind README's numbers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

HELP = "measure speed, memory and quality on this machine"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""


def execute(arguments: Namespace) -> dict[str, Any]:
    """Nothing yet."""
    return {}


def describe(result: dict[str, Any]) -> str:
    """Nothing yet."""
    return ""
