"""`evaluate`: how far a run's influences can be trusted, and rivals beside them."""

from __future__ import annotations

import importlib
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_device, add_model, add_run, positive

HELP = "measure how far a run's influences can be trusted, beside other methods"
MEASURES = {
    "lds": "do summed influences predict retraining on random halves",
    "loo": "do influences predict leaving single items out",
    "planted": "are planted wrong labels found",
    "real-errors": "are label errors found that people confirmed",
    "duplicates": "do known near duplicates rank high",
    "removal": "is an error gone when its proponents are removed and the model is trained again",
    "agreement": "do two halves of the members agree",
}

_SEEDS = {"removal": 3}


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument("--measure", required=True, choices=tuple(MEASURES), help="; ".join(f"{name}: {what}" for name, what in MEASURES.items()))
    parser.add_argument("--halves", type=positive, default=60, metavar="N", help="random halves of the training set to train on (lds; default 60)")
    parser.add_argument("--seeds", type=positive, metavar="N", help="models for each half or item left out (lds, loo; default 5), or removal (default 3)")
    parser.add_argument("--instances", type=positive, default=100, metavar="N", help="training items to leave out, one at a time (loo; default 100)")
    parser.add_argument("--errors", type=positive, default=10, metavar="N", help="errors whose proponents are removed (removal; default 10)")
    parser.add_argument("--remove", type=positive, nargs="+", default=(5, 20, 80), metavar="K", help="proponents to remove (removal; default 5 20 80)")
    parser.add_argument("--path", metavar="FILE", help="near duplicates, a CSV with test_index and train_index, or its folder (duplicates)")
    parser.add_argument("--masked", action="store_true", help="retrain with turn-over dropout on (lds; default off)")
    parser.add_argument("--rivals", nargs="*", metavar="NAME", help="methods to compare with, such as influence-cg or tracin-all (default: the quick ones)")
    add_device(parser)
    add_model(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Measure, and return the measure's facts and rows; both they and what took long are kept in the run's folder."""
    from turnover.fidelity.methods import USUAL
    from turnover.fidelity.options import Options
    from turnover.fidelity.results import keep_result
    from turnover.fidelity.subject import Subject
    from turnover.lock import alone
    from turnover.runs import Run

    run = Run(Path(arguments.run))
    rivals = USUAL if arguments.rivals is None else tuple(arguments.rivals)
    seeds = arguments.seeds or _SEEDS.get(arguments.measure, 5)
    pairs = Path(arguments.path) if arguments.path else None
    options = Options(arguments.halves, seeds, arguments.masked, arguments.instances, rivals, arguments.errors, tuple(arguments.remove), pairs)
    subject = Subject.of(run, arguments.device)
    with alone(run.folder / f".evaluate-{arguments.measure}.lock", f"measuring {arguments.measure} of {run.folder}"):
        made = importlib.import_module(f"turnover.fidelity.{arguments.measure.replace('-', '_')}").measure(subject, options)
        facts = {"run": str(run.folder), "measure": arguments.measure, "targets": len(subject.positions)}
        result = facts | made | {"rows": [asdict(row) for row in made["rows"]]}
        keep_result(run, result)
    return result


def describe(result: dict[str, Any]) -> str:
    """The facts in a line, the rows as a table."""
    from turnover.fidelity.row import Figure, Row, table

    rows = [Row(**{**row, "figures": {name: Figure(**figure) for name, figure in row["figures"].items()}}) for row in result["rows"]]
    return f"{result['measure']} of {result['run']}: {setting(result)}\n\n{table(rows)}"


def setting(facts: Mapping[str, Any]) -> str:
    """What was measured with, in a line."""
    return ", ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in facts.items() if name not in ("run", "measure", "rows"))


def _shown(value: float | bool | None) -> str:
    if isinstance(value, bool | None):
        return {True: "yes", False: "no", None: "unknown"}[value]
    return f"{value:.3f}" if isinstance(value, float) else str(value)
