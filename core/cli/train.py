"""Commands that make runs.

- `train`: train a model with turn-over dropout and write a run folder; its options for your own
  data (files, splits of the hub, columns) are shared with `register`.
- `demo`: build the two runs that `make run` opens.
- `register`: make a run of a model with turn-over dropout that was trained elsewhere, or of another
  engine's scores.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from turnover.cli.options import (
    Command,
    add_cluster,
    add_device,
    add_options,
    add_run,
    add_runs,
    add_scores,
    add_switches,
    add_values,
    check_scores,
    chosen_of,
    members_of,
)
from turnover.data.sources import NAMES
from turnover.data.tables.spec import FILES, HUB, OwnData
from turnover.errors import TurnoverError, counted
from turnover.models.families.own import Own
from turnover.models.options import KINDS, Option, options_of
from turnover.models.registry import (
    TrainSettings,
    families,
    families_with,
    family_options,
    find_family,
)


def _add_demo(parser: ArgumentParser) -> None:
    add_runs(parser, "--folder", "folder to build them in")
    add_device(parser)


def run_demo(arguments: Namespace) -> dict[str, Any]:
    """Build what is missing; return the runs, those built now, and the seconds it took."""
    from turnover.workflows.demo import DATA, build_demo, demo_folder, is_built

    begun = time.perf_counter()
    folder = Path(arguments.folder)
    built = [name for name in DATA if not is_built(folder, name)]
    for name in built:
        build_demo(folder, name, arguments.device)
    return {
        "runs": [str(demo_folder(folder, name)) for name in DATA],
        "built": built,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def _describe_demo(result: dict[str, Any]) -> str:
    if not result["built"]:
        return "both demo runs are there"
    return (
        f"built {' and '.join(result['built'])} in {result['seconds']:.0f} s: "
        f"{', '.join(result['runs'])}"
    )


_OWN_DATA = {
    "train": "FILE: CSV, TSV, JSONL or parquet file with texts or images, or a folder with one "
    "folder of images a class",
    "validation": "FILE: the same with validation items (default: a fifth of each class, drawn by "
    "the seed)",
    "test": "FILE: the same with items on which the finished model is measured once",
    "text_column": "NAME: column of the texts",
    "image_column": "NAME: column of the images, or of their paths beside the file",
    "label_column": "NAME: column of the labels, names or numbers",
    "id_column": "NAME: column of the ids (default: found by its name, else rows are numbered)",
    "train_split": "NAME: with --data hub:NAME: the split to train on (default train)",
    "validation_split": "NAME: with --data hub:NAME: the split to validate on (default validation, "
    "else test)",
    "classes": "FILE: names of the classes that labels number from 0, one a line",
}
_SIZE = "scale images to N x N pixels (default: their usual size up to 64, else 32)"


def _add_own_data(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(
        "your own data",
        "columns are inferred where they are not named, and printed; look first with --check",
    )
    add_values(group, **_OWN_DATA)
    group.add_argument("--size", type=int, metavar="N", help=_SIZE)


def own_data(arguments: Namespace) -> tuple[str, OwnData | None]:
    """The settings' `data`, and the options for your own data, None if there are none.

    Raises:
        TurnoverError: if the options do not go together, or name no data.
    """
    given = {name: getattr(arguments, name) for name in (*_OWN_DATA, "size")}
    options = {name: value for name, value in given.items() if value is not None}
    data = arguments.data or (FILES if options.get("train") else "")
    if not data:
        raise TurnoverError("name the data: --train FILE for your own, or --data NAME")
    if not options and data != FILES and not data.startswith(HUB):
        return data, None
    return data, OwnData(**options).check(data)


_NAMED = 2


def _add_train(parser: ArgumentParser) -> None:
    add_run(parser, "folder to write the run to (it must not exist; an interrupted run is resumed)")
    models = "; ".join(
        f"{kind}s: {', '.join(family.name for family in families(kind))}" for kind in KINDS
    )
    add_values(
        parser,
        data=f"NAME: {', '.join(NAMES)}; hub:NAME for one of the hub; your own files: --train",
        model=f"NAME: {models} (code of your own); the first is the default",
    )
    add_options(parser, options_of(TrainSettings))
    add_switches(
        parser,
        check="only see whether settings and data go together, and say sizes and classes; train "
        "nothing",
    )
    add_device(parser)
    add_cluster(parser)
    group = parser.add_argument_group("options of models", "each for the models that have it")
    add_options(group, map(_with_models, family_options().values()))
    _add_own_data(parser)


def _with_models(option: Option) -> Option:
    """The option with the models that it is for in its help, where they are few."""
    names = families_with(option.name)
    return (
        replace(option, help=f"{', '.join(names)}: {option.help}")
        if len(names) <= _NAMED
        else option
    )


def run_train(arguments: Namespace) -> dict[str, Any]:
    """Train and return sizes, accuracies, losses, epochs, seconds and device; or check, and return
    sizes and classes.
    """
    data, custom = own_data(arguments)
    options = (*options_of(TrainSettings), *family_options().values())
    settings = TrainSettings.of(
        data, own=custom, model=arguments.model, **chosen_of(arguments, options)
    )
    if arguments.check:
        from turnover.runs.plan import plan_run, report

        plan = plan_run(settings, Path(arguments.run))
        if plan.settings.family.needs_trial:
            from turnover.workflows.train import try_model

            try_model(plan)
        return report(plan)
    from turnover.workflows.train import train_run

    return train_run(settings, Path(arguments.run), arguments.device, arguments.cluster)


def _describe_train(result: dict[str, Any]) -> str:
    if "classes" in result:
        return _describe_check(result)
    code = (family := find_family(result["model"])) is not None and family.code
    tested = (
        f"test accuracy {result['test_accuracy']:.1%} on {result['test_size']} items, measured "
        "once\n"
        if "test_accuracy" in result
        else ""
    )
    before = f"{result['accuracy_before']:.1%} before, " if "accuracy_before" in result else ""
    return _caution(result) + (
        f"{result['run']}: {members_of(result)}, {result['train_size']} training "
        f"and {result['validation_size']} validation items, {counted(result['epochs'], 'epoch')} "
        f"in {result['seconds']:.0f} s on {result['device']}\nvalidation accuracy {before}"
        f"{result['validation_accuracy']:.1%} with turn-over dropout, "
        f"{result['plain_accuracy']:.1%} without\n{tested}{_losses(result)}\n"
        f"next: turnover influence --run {result['run']}"
        f"{' --model ' + result['model'] if code else ''}"
    )


def _caution(result: dict[str, Any]) -> str:
    return f"caution: {result['caution']}\n" if result["caution"] else ""


def _losses(result: dict[str, Any]) -> str:
    return (
        f"losses in nats: masked {result['masked_loss']:.3f}, flipped "
        f"{result['flipped_loss']:.3f}, validation {result['validation_loss']:.3f}, validation "
        f"under masks {result['unowned_loss']:.3f}"
    )


def _describe_check(result: dict[str, Any]) -> str:
    report = "".join(f"{line}\n" for line in result["data_report"])
    classes = ", ".join(
        f"{counts['name']} {counts['train']} and {counts['validation']}"
        for counts in result["classes"]
    )
    return _caution(result) + (
        f"{result['data']}: {result['train_size']} training and {result['validation_size']} "
        f"validation {result['kind']}s\n"
        f"classes: {classes}\n{report}{result['injected_labels']} training labels made wrong on "
        "purpose\n"
        f"{result['model']} with {members_of(result)}, at most "
        f"{counted(result['epochs'], 'epoch')}, into {result['run']}"
        f"{'; goes on with a training that was stopped' if result['resumes'] else ''}"
    )


def _add_register(parser: ArgumentParser) -> None:
    add_run(parser, "folder to write the run to (it must not exist)")
    parser.add_argument(
        "--weights",
        nargs="+",
        metavar="FILE",
        help="the model's trained weights, a safetensors file; several are members, the function "
        "called with seed, seed + 1, …",
    )
    add_values(
        parser,
        model="M:F: module:function that builds the model, called with (classes, shape, seed); "
        "with --scores any model, to be trained again by cleansing, proofs and measures",
    )
    add_scores(parser, "to make the run of")
    add_values(
        parser,
        predictions="FILE: with --scores: what the model that they explain predicts, .csv, "
        ".parquet or .npy: columns id and predicted, or id and a probability for each class",
        data="NAME: what it was trained on, the position of a training item being its instance id",
    )
    add_options(parser, _of_register())
    _add_own_data(parser)
    add_device(parser)


def _of_register() -> list[Option]:
    """The options of `train` that `register` has: for the data, and for what the model reads."""
    shared = [
        option for option in options_of(TrainSettings) if option.name in ("path", "seed", "epochs")
    ]
    return [*shared, *Own.options()]


def run_register(arguments: Namespace) -> dict[str, Any]:
    """Measure and write; return sizes, accuracy and losses, and whether the model `learned` its
    items under these masks; of scores, sizes and accuracy.
    """
    check_scores(arguments)
    for name in ("model", "weights"):
        if not arguments.scores and not getattr(arguments, name):
            raise TurnoverError(
                f"--{name} is missing: a model is named by --model and --weights, another engine's "
                "scores by --scores and --positive"
            )
    for name, needed in (("weights", not arguments.scores), ("predictions", arguments.scores)):
        if getattr(arguments, name) and not needed:
            raise TurnoverError(f"--{name}: not with{'out' * needed} --scores; leave it out")
    data, custom = own_data(arguments)
    if custom is not None and custom.train and not custom.validation:
        raise TurnoverError(
            "--validation: name the validation items; drawing them from --train would change the "
            "positions that are instance ids"
        )
    settings = TrainSettings.of(
        data, own=custom, model=arguments.model, **chosen_of(arguments, _of_register())
    )
    folder = Path(arguments.run)
    if not arguments.scores:
        from turnover.workflows.register import register_run

        files = [Path(name) for name in arguments.weights]
        return register_run(settings, files, folder, arguments.device)
    from turnover.workflows.register_scores import register_scores

    predictions = Path(arguments.predictions) if arguments.predictions else None
    given = Path(arguments.scores), arguments.positive, arguments.label, predictions
    return register_scores(settings, *given, folder, arguments.device)


def _describe_register(result: dict[str, Any]) -> str:
    from turnover.workflows.register import UNLEARNED

    sizes = (
        f"{result['train_size']} training and {result['validation_size']} validation items\n"
        f"validation accuracy {result['validation_accuracy']:.1%}"
    )
    if "scores" in result:
        plain = result["plain_accuracy"]
        again = "" if plain is None else f"; {result['model']} trained here: {plain:.1%}"
        return f"{result['run']}: {sizes}{again}\nnext: turnover errors --run {result['run']}"
    return (
        f"{result['run']}: {members_of(result)}, {sizes}; {_losses(result)}\n"
        f"{'' if result['learned'] else f'warning: {UNLEARNED}{chr(10)}'}"
        f"next: turnover influence --run {result['run']} --model {result['model']}"
    )


COMMANDS = {
    "demo": Command(_add_demo, run_demo, _describe_demo),
    "train": Command(_add_train, run_train, _describe_train),
    "register": Command(_add_register, run_register, _describe_register),
}
