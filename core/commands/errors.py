"""`errors`: the misclassified validation items and the training items behind them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_run, add_top
from turnover.commands.explain import entry_lines

HELP = "list the misclassified validation items with the training items behind them"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    add_top(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Return the errors, clearest first, each with proponents and opponents of the prediction."""
    from turnover.pipeline.errors import list_errors
    from turnover.runs import Run

    return list_errors(Run(Path(arguments.run)), arguments.top)


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    lines = [f"{len(result['errors'])} misclassified validation items"]
    for error in result["errors"]:
        content = error.get("text", error.get("thumbnail"))
        lines += ["", f"{error['id']} [{error['label']}] predicted {error['predicted']} ({error['probability']:.1%})  {content}"]
        lines += entry_lines(error, error["predicted"], result["estimator"])
    return "\n".join(lines)
