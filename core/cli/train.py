"""Commands that make runs.

- `train`: train a model with turn-over dropout and write a run folder; its options for your own
  data (files, splits of the hub, columns) are shared with `register`.
- `demo`: build the two runs that `make run` opens.
- `register`: register a model with turn-over dropout that was trained elsewhere as a run.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any

from turnover.cli.options import DEFAULT_RUNS, Command, add_cluster, add_device, add_run
from turnover.data.tables.spec import FILES, HUB, OwnData
from turnover.errors import TurnoverError, counted
from turnover.models.names import is_module


def add_demo(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument(
        "--folder",
        default=os.environ.get("TURNOVER_RUNS", DEFAULT_RUNS),
        metavar="DIR",
        help=f"folder to build them in (default: TURNOVER_RUNS, else {DEFAULT_RUNS})",
    )
    add_device(parser)


def run_demo(arguments: Namespace) -> dict[str, Any]:
    """Build what is missing; return the runs, those built now, and the seconds it took."""
    from turnover.workflows.demo import DATA, build_demo, demo_folder

    begun = time.perf_counter()
    folder = Path(arguments.folder)
    built = [
        name
        for name in DATA
        if not (demo_folder(folder, name) / "influence" / "manifest.json").is_file()
    ]
    for name in built:
        build_demo(folder, name, arguments.device)
    return {
        "runs": [str(demo_folder(folder, name)) for name in DATA],
        "built": built,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def describe_demo(result: dict[str, Any]) -> str:
    """The result in words."""
    if not result["built"]:
        return "both demo runs are there"
    return (
        f"built {' and '.join(result['built'])} in {result['seconds']:.0f} s: "
        f"{', '.join(result['runs'])}"
    )


_NAMES = (
    *("train", "validation", "test", "text_column", "image_column", "label_column", "id_column"),
    *("train_split", "validation_split", "classes", "size"),
)


def add_own_data(parser: ArgumentParser) -> None:
    """Describe the options."""
    group = parser.add_argument_group(
        "your own data",
        "columns are inferred where they are not named, and printed; look first with --check",
    )
    group.add_argument(
        "--train",
        metavar="FILE",
        help=(
            "CSV, TSV, JSONL or parquet file with texts or images, or a folder with one folder of "
            "images a class"
        ),
    )
    group.add_argument(
        "--validation",
        metavar="FILE",
        help="the same with validation items (default: a fifth of each class, drawn by the seed)",
    )
    group.add_argument(
        "--test",
        metavar="FILE",
        help="the same with items on which the finished model is measured once",
    )
    group.add_argument("--text-column", metavar="NAME", help="column of the texts")
    group.add_argument(
        "--image-column",
        metavar="NAME",
        help="column of the images, or of their paths beside the file",
    )
    group.add_argument(
        "--label-column", metavar="NAME", help="column of the labels, names or numbers"
    )
    group.add_argument(
        "--id-column",
        metavar="NAME",
        help="column of the ids (default: found by its name, else rows are numbered)",
    )
    group.add_argument(
        "--train-split",
        metavar="NAME",
        help="with --data hub:NAME: the split to train on (default train)",
    )
    group.add_argument(
        "--validation-split",
        metavar="NAME",
        help="with --data hub:NAME: the split to validate on (default validation, else test)",
    )
    group.add_argument(
        "--classes",
        metavar="FILE",
        help="names of the classes that labels number from 0, one a line",
    )
    group.add_argument(
        "--size",
        type=int,
        metavar="N",
        help="scale images to N x N pixels (default: their usual size up to 64, else 32)",
    )


def own_data(arguments: Namespace) -> tuple[str, OwnData | None]:
    """The settings' `data`, and the options for your own data, None if there are none.

    Raises:
        TurnoverError: if the options do not go together, or name no data.
    """
    options = {
        name: getattr(arguments, name) for name in _NAMES if getattr(arguments, name) is not None
    }
    data = arguments.data or (FILES if options.get("train") else "")
    if not data:
        raise TurnoverError("name the data: --train FILE for your own, or --data NAME")
    if not options and data != FILES and not data.startswith(HUB):
        return data, None
    return data, OwnData(**options).check(data)


_MODELS = (
    "texts: heads (default), adapters, masked-encoder; images: small-vgg (default), vgg19, heads, "
    "torchvision:NAME; or module:function, code of your own that builds one"
)


def add_train(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser, "folder to write the run to (it must not exist; an interrupted run is resumed)")
    data_help = (
        "digits, reviews (both built in), sst2, sst2-phrases, imdb-checks, yahoo or cifar10; "
        "hub:NAME for one of the hub; your own files: --train"
    )
    parser.add_argument("--data", metavar="NAME", help=data_help)
    parser.add_argument(
        "--path",
        metavar="DIR",
        help=(
            "folder with the files of data that are not built in; without it: the hub (not "
            "imdb-checks)"
        ),
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="train on N training items, drawn at random by the seed",
    )
    parser.add_argument(
        "--validation-limit",
        type=int,
        metavar="N",
        help="validate on N validation items, drawn at random by the seed",
    )
    parser.add_argument(
        "--keep",
        metavar="FILE",
        help=(
            "near duplicates that the limits must not drop: a CSV with test_index and train_index, "
            "or its folder"
        ),
    )
    parser.add_argument(
        "--label-noise",
        type=float,
        metavar="F",
        help="make this share of training labels wrong on purpose (default: digits .05, else 0)",
    )
    parser.add_argument(
        "--members",
        type=int,
        metavar="K",
        help=(
            "models with masks of their own, trained together (default: digits and cifar10 8, "
            "else 16)"
        ),
    )
    parser.add_argument(
        "--groups",
        type=int,
        metavar="G",
        help="mask G groups of units; 0 masks single units (default 16)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="seed of masks, initialisation, batches and label noise (default 0)",
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help=(
            "frozen encoder, a hub name or a folder; images: for heads (default: texts "
            "all-MiniLM-L6-v2, packaged; images none)"
        ),
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="weights of torchvision:NAME, a safetensors file (default: random)",
    )
    parser.add_argument(
        "--pretrained",
        action="store_true",
        help="download torchvision's own weights of torchvision:NAME",
    )
    parser.add_argument("--model", metavar="NAME", help=_MODELS)
    parser.add_argument(
        "--from-layer",
        metavar="L",
        help=(
            "train torchvision:NAME from this layer on, with masks from there (default: frozen, "
            "heads on it)"
        ),
    )
    parser.add_argument(
        "--layers",
        type=int,
        metavar="L",
        help="adapters in the last L layers of the encoder (default: all)",
    )
    parser.add_argument(
        "--dropout",
        type=float,
        default=0.0,
        metavar="P",
        help="ordinary dropout beside the masks, for vgg19 (default 0)",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="train for at most N epochs (default: the model's or the data set's own)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help=(
            "only see whether settings and data go together, and say sizes and classes; train "
            "nothing"
        ),
    )
    add_device(parser)
    add_cluster(parser)
    add_own_data(parser)


def run_train(arguments: Namespace) -> dict[str, Any]:
    """Train and return sizes, accuracies, losses, epochs, seconds and device; or check, and return
    sizes and classes.
    """
    from turnover.models.names import DEFAULT_ENCODER
    from turnover.models.registry import TrainSettings

    data, custom = own_data(arguments)
    chosen = {
        field.name: getattr(arguments, field.name)
        for field in fields(TrainSettings)
        if hasattr(arguments, field.name)
    }
    settings = TrainSettings(
        **{**chosen, "data": data, "own": custom, "encoder": arguments.encoder or DEFAULT_ENCODER}
    )
    if arguments.check:
        from turnover.runs.plan import plan_run, report

        plan = plan_run(settings, Path(arguments.run))
        if plan.settings.named_model:
            from turnover.workflows.train import try_model

            try_model(plan)
        return report(plan)
    from turnover.workflows.train import train_run

    return train_run(settings, Path(arguments.run), arguments.device, arguments.cluster)


def describe_train(result: dict[str, Any]) -> str:
    """The result in words."""
    if "classes" in result:
        return _describe_check(result)
    tested = (
        f"test accuracy {result['test_accuracy']:.1%} on {result['test_size']} items, measured "
        "once\n"
        if "test_accuracy" in result
        else ""
    )
    return (
        f"{result['run']}: {counted(result['members'], 'member')}, {result['train_size']} training "
        f"and {result['validation_size']} validation items, {counted(result['epochs'], 'epoch')} "
        f"in {result['seconds']:.0f} s on {result['device']}\nvalidation accuracy "
        f"{result['validation_accuracy']:.1%} with turn-over dropout, "
        f"{result['plain_accuracy']:.1%} without\n{tested}losses in nats: masked "
        f"{result['masked_loss']:.3f}, flipped {result['flipped_loss']:.3f}, validation "
        f"{result['validation_loss']:.3f}, under masks nobody owns "
        f"{result['unowned_loss']:.3f}\nnext: turnover influence --run "
        f"{result['run']}{' --model ' + result['model'] if is_module(result['model']) else ''}"
    )


def _describe_check(result: dict[str, Any]) -> str:
    """The model and data to be trained, in words."""
    report = "".join(f"{line}\n" for line in result["data_report"])
    classes = ", ".join(
        f"{counts['name']} {counts['train']} and {counts['validation']}"
        for counts in result["classes"]
    )
    return (
        f"{result['data']}: {result['train_size']} training and {result['validation_size']} "
        f"validation {result['kind']}s\n"
        f"classes: {classes}\n{report}{result['injected_labels']} training labels made wrong on "
        "purpose\n"
        f"{result['model']} with {counted(result['members'], 'member')}, at most "
        f"{counted(result['epochs'], 'epoch')}, into {result['run']}"
        f"{'; goes on with a training that was stopped' if result['resumes'] else ''}"
    )


def add_register(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser, "folder to write the run to (it must not exist)")
    parser.add_argument(
        "--model",
        required=True,
        metavar="M:F",
        help="module:function that builds the model, called with (classes, shape, seed)",
    )
    parser.add_argument(
        "--weights", required=True, metavar="FILE", help="its trained weights, a safetensors file"
    )
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="what it was trained on, the position of a training item being its instance id",
    )
    parser.add_argument(
        "--path", metavar="DIR", help="folder with the files of data that are not built in"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="seed that the function was called with (default 0)",
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help=(
            "text encoder whose features or tokens it reads (default: the packaged "
            "all-MiniLM-L6-v2)"
        ),
    )
    add_own_data(parser)
    add_device(parser)


def run_register(arguments: Namespace) -> dict[str, Any]:
    """Measure and write; return sizes, accuracy and losses, and whether the model `learned` its
    items under these masks.
    """
    from turnover.models.names import DEFAULT_ENCODER
    from turnover.models.registry import TrainSettings
    from turnover.workflows.register import register_run

    data, custom = own_data(arguments)
    if custom is not None and custom.train and not custom.validation:
        raise TurnoverError(
            "--validation: name the validation items; drawing them from --train would change the "
            "positions that are instance ids"
        )
    chosen = {name: getattr(arguments, name) for name in ("path", "seed", "model")}
    settings = TrainSettings(
        data, **chosen, own=custom, encoder=arguments.encoder or DEFAULT_ENCODER
    )
    return register_run(settings, Path(arguments.weights), Path(arguments.run), arguments.device)


def describe_register(result: dict[str, Any]) -> str:
    """The result in words."""
    from turnover.workflows.register import UNLEARNED

    return (
        f"{result['run']}: {result['train_size']} training and {result['validation_size']} "
        f"validation items\nvalidation accuracy {result['validation_accuracy']:.1%}; losses in "
        f"nats: masked {result['masked_loss']:.3f}, flipped {result['flipped_loss']:.3f}, "
        f"validation {result['validation_loss']:.3f}, under masks nobody owns "
        f"{result['unowned_loss']:.3f}\n"
        f"{'' if result['learned'] else f'warning: {UNLEARNED}{chr(10)}'}"
        f"next: turnover influence --run {result['run']} --model {result['model']}"
    )


COMMANDS = {
    "demo": Command(add_demo, run_demo, describe_demo),
    "train": Command(add_train, run_train, describe_train),
    "register": Command(add_register, run_register, describe_register),
}
