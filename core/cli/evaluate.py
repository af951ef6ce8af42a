"""Commands that measure.

- `evaluate`: how far a run's influences can be trusted, with baselines for comparison.
- `bench`: the measurements behind README's numbers.
- `paper`: the experiments of the paper, its numbers beside the measured ones.
"""

from __future__ import annotations

import platform
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnover.cli.options import (
    Command,
    add_counts,
    add_device,
    add_retraining,
    add_run,
    add_scores,
    add_switches,
    add_values,
    check_scores,
    positive,
    retrained_run,
)
from turnover.errors import TurnoverError

if TYPE_CHECKING:
    import numpy as np

    from turnover.research.bench.random_run import BenchRow
    from turnover.research.evaluate.scores import Options
    from turnover.research.evaluate.task import EvaluationTask
    from turnover.runs.run import Run

_SEEDS = {"removal": 3, "loss-added": 3}


def _add_evaluate(parser: ArgumentParser) -> None:
    from turnover.research.evaluate.results import MEASURES

    add_run(parser)
    parser.add_argument(
        "--measure",
        required=True,
        choices=tuple(MEASURES),
        help="; ".join(f"{name}: {what}" for name, what in MEASURES.items()).replace("%", "%%"),
    )
    add_counts(
        parser,
        halves=(60, "lds: random halves of the training set to train on"),
        instances=(100, "loo: training items to leave out, one at a time"),
        errors=(10, "removal: errors whose proponents are removed; loss-added: targets"),
    )
    parser.add_argument(
        "--seeds",
        type=positive,
        metavar="N",
        help="models for each half or item left out (lds, loo; default 5), or removal "
        "(removal, loss-added; default 3)",
    )
    parser.add_argument(
        "--remove",
        type=positive,
        nargs="+",
        default=(5, 20, 80),
        metavar="K",
        help="proponents to remove (removal; default 5 20 80)",
    )
    add_values(
        parser,
        path="FILE: duplicates: the pairs, a CSV with test_index and train_index, or its folder",
        truth="FILE: injected: the right labels, a CSV with id and label of training items "
        "(default: what was injected, or the column truth of the training file)",
    )
    add_scores(parser, "to be measured beside")
    add_switches(parser, masked="retrain with turn-over dropout on (lds; default off)")
    methods = "methods to compare with, such as influence-cg or bm25 (default: the quick ones)"
    parser.add_argument("--baselines", nargs="*", metavar="NAME", help=methods)
    add_retraining(parser)


def run_evaluate(arguments: Namespace) -> dict[str, Any]:
    """Measure, and return facts and rows; these and expensive intermediate results are kept in the
    run's folder.
    """
    from turnover.research.evaluate.results import keep_result
    from turnover.research.evaluate.scores import USUAL, Options
    from turnover.research.evaluate.task import EvaluationTask
    from turnover.storage.lock import alone

    run = retrained_run(arguments)
    baselines = USUAL if arguments.baselines is None else tuple(arguments.baselines)
    seeds = arguments.seeds or _SEEDS.get(arguments.measure, 5)
    pairs = Path(arguments.path) if arguments.path else None
    if arguments.truth and arguments.measure != "injected":
        raise TurnoverError(f"--truth is for --measure injected, not {arguments.measure}")
    options = Options(
        arguments.halves,
        seeds,
        arguments.masked,
        arguments.instances,
        baselines,
        arguments.errors,
        tuple(arguments.remove),
        pairs,
        Path(arguments.truth) if arguments.truth else None,
        _foreign(arguments, run),
    )
    task = EvaluationTask.of(run, arguments.device, cluster=arguments.cluster)
    with alone(
        run.folder / f".evaluate-{arguments.measure}.lock",
        f"measuring {arguments.measure} of {run.folder}",
    ):
        measured = _measures()[arguments.measure](task, options)
        facts = {
            "run": str(run.folder),
            "measure": arguments.measure,
            "targets": len(task.positions),
        }
        result = facts | measured | {"rows": [asdict(row) for row in measured["rows"]]}
        keep_result(run, result)
    return result


def _foreign(arguments: Namespace, run: Run) -> dict[str, np.ndarray]:
    """Another engine's scores, read before anything is measured."""
    from turnover.data.scores import of_true_label, read_scores

    check_scores(arguments)
    if not arguments.scores:
        return {}
    file = Path(arguments.scores)
    targets, items = (
        run.split(name)["id"].astype(str).tolist() for name in ("validation", "train")
    )
    scores = read_scores(file, targets, items, arguments.positive)
    wrong = (run.validation["label"] != run.validation["predicted"]).to_numpy()
    return {file.name: of_true_label(scores, arguments.label, wrong)}


def _measures() -> dict[str, Callable[[EvaluationTask, Options], dict[str, Any]]]:
    from turnover.research.evaluate import agreement, causes, labels, lds, loo, proofs, removal

    return {
        "lds": lds.measure,
        "loo": loo.measure,
        "injected": labels.measure_injected,
        "real-errors": labels.measure_real_errors,
        "duplicates": labels.measure_duplicates,
        "removal": removal.measure,
        "loss-added": removal.measure_added,
        "agreement": agreement.measure,
        "causes": causes.measure,
        "proofs": proofs.measure,
    }


def describe_evaluate(result: dict[str, Any]) -> str:
    """The facts in a line, the rows as a table."""
    from turnover.research.evaluate.results import Figure, ResultRow, setting, table

    rows = [
        ResultRow(
            **{
                **row,
                "figures": {name: Figure(**figure) for name, figure in row["figures"].items()},
            }
        )
        for row in result["rows"]
    ]
    return f"{result['measure']} of {result['run']}: {setting(result)}\n\n{table(rows)}"


NAMES = {
    "masks": "hashing against storing",
    "influence": "the engine against the published way (an hour)",
    "bert": "the same for BERT-base with shared masks (15 minutes)",
    "million": "a run of a million training items and ten thousand targets (half an hour)",
    "demo": "the demo runs",
    "sst2": "5,000 real sentences",
}


def _add_bench(parser: ArgumentParser) -> None:
    parser.add_argument(
        "name",
        choices=tuple(NAMES),
        help="; ".join(f"{name}: {what}" for name, what in NAMES.items()),
    )
    add_values(
        parser,
        path="DIR: folder with the SST-2 files (for sst2), or of the new run (for million)",
        only="TEXT: only cases that contain this text, or `growth` (for influence)",
    )


def run_bench(arguments: Namespace) -> dict[str, Any]:
    """Return the measured rows, with the machine they were measured on."""
    import torch

    machine = (
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )
    facts: dict[str, Any] = {"name": arguments.name, "machine": machine}
    if arguments.name in ("influence", "bert"):
        from turnover.research.bench.influence import measure_bert, measure_influence

        measured = (
            measure_bert() if arguments.name == "bert" else measure_influence(arguments.only or "")
        )
        return facts | measured
    return facts | {"rows": [asdict(row) for row in _measure(arguments)]}


def _measure(arguments: Namespace) -> Iterator[BenchRow]:
    from turnover.research.bench.million import measure_million
    from turnover.research.bench.runs import measure_demo, measure_masks, measure_sst2
    from turnover.storage.atomic import check_free

    if arguments.name == "masks":
        return measure_masks()
    if arguments.name == "demo":
        return measure_demo()
    if arguments.name == "million":
        if not arguments.path:
            raise TurnoverError("bench million builds a run; name its folder with --path")
        check_free(Path(arguments.path), "another folder")
        return measure_million(Path(arguments.path))
    if not arguments.path:
        raise TurnoverError("bench sst2 needs the SST-2 files; name their folder with --path")
    return measure_sst2(Path(arguments.path))


def describe_bench(result: dict[str, Any]) -> str:
    """The rows as a Markdown table."""
    from turnover.research.bench.influence import describe_influence
    from turnover.research.bench.random_run import BenchRow, table

    rows = (
        describe_influence(result)
        if result["name"] in ("influence", "bert")
        else table([BenchRow(**row) for row in result["rows"]])
    )
    return f"Measured on {result['machine']}\n\n{rows}"


EXPERIMENTS = {
    "side-effect": "accuracy without and with turn-over dropout (4.1)",
    "curves": "masked, flipped and validation losses (Figure 2)",
    "errors-text": "the training sentences behind mistakes on SST-2 (Figures 3 and 4)",
    "errors-images": "the training images behind mistakes on CIFAR-10 (Figure 5)",
    "footnote4": (
        "the full network in place of the masked one, by LDS (footnote 4; digits need no --path)"
    ),
    "cleansing": "SST-2 cleansed for Elec (Table 2)",
    "complexity": "what every method costs in time and storage, and how that grows (Table 1)",
    "lds-mnist": (
        "the linear datamodeling score on a published benchmark, beside other methods at equal "
        "numbers of trainings (--path: the folder of its two files)"
    ),
}
_MOST_MEMBERS = 64


def _add_paper(parser: ArgumentParser) -> None:
    parser.add_argument(
        "name",
        choices=tuple(EXPERIMENTS),
        help="; ".join(f"{name}: {what}" for name, what in EXPERIMENTS.items()),
    )
    add_values(
        parser,
        path="DIR: folder that holds sst2/, elec/ and cifar10/",
        encoder="NAME: text encoder: a hub name or a folder (default: the packaged "
        "all-MiniLM-L6-v2; at the paper's scale bert-base-uncased)",
    )
    parser.add_argument(
        "--runs",
        default="runs",
        metavar="DIR",
        help="where trained models are kept, used again and opened by the dashboard (default runs)",
    )
    parser.add_argument(
        "--scale",
        choices=("small", "paper"),
        default="small",
        help="small: minutes on 2 cores (default); paper: the full setting, for a GPU",
    )
    only = parser.add_argument_group("lds-mnist")
    only.add_argument(
        "--members", type=int, metavar="K", help="trainings of each method (default 16)"
    )
    only.add_argument(
        "--targets", metavar="FILE", help="other targets than test_first500.parquet, as there"
    )
    only.add_argument("--full", action="store_true", help=f"go on to {_MOST_MEMBERS} trainings")
    add_device(parser)


def run_paper(arguments: Namespace) -> dict[str, Any]:
    """Run the experiment and return its rows."""
    from turnover.attribution.device import choose_device, device_name
    from turnover.research.paper import experiments, lds_mnist, table1
    from turnover.research.paper.setup import Setup

    setup = Setup(
        arguments.scale,
        Path(arguments.path) if arguments.path else None,
        Path(arguments.runs),
        arguments.device,
        arguments.encoder,
    )
    facts = {
        "experiment": arguments.name,
        "scale": arguments.scale,
        "device": device_name(choose_device(arguments.device)),
        "machine": platform.machine(),
    }
    if arguments.name == "lds-mnist":
        members = _MOST_MEMBERS if arguments.full else arguments.members or lds_mnist.MEMBERS
        targets = Path(arguments.targets) if arguments.targets else None
        facts |= lds_mnist.lds_mnist(setup, members, targets)
    else:
        module = table1 if arguments.name == "complexity" else experiments
        facts["rows"] = getattr(module, arguments.name.replace("-", "_"))(setup)
    return facts | {"rows": [asdict(row) for row in facts["rows"]]}


def _describe_paper(result: dict[str, Any]) -> str:
    if result["experiment"] == "lds-mnist":
        from turnover.research.paper.lds_mnist import describe

        return describe(result)
    from turnover.research.paper.setup import PaperRow, paper_table

    return (
        f"{result['experiment']}, {result['scale']} scale, on "
        f"{result['device']}\n\n{paper_table([PaperRow(**row) for row in result['rows']])}"
    )


COMMANDS = {
    "evaluate": Command(_add_evaluate, run_evaluate, describe_evaluate),
    "bench": Command(_add_bench, run_bench, describe_bench),
    "paper": Command(_add_paper, run_paper, _describe_paper),
}
