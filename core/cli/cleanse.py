"""Commands that clean a training set, by influence or by flags.

- `cleanse`: remove the most harmful training items for a validation set, and retrain to compare.
- `apply`: write a cleansed copy of a data set, by a run's flags or a flag file.
- `export`: write the flagged training items as CSV, as a flag file, or as one HTML file.
- `import-flags`: merge a colleague's flag file into the flags of a run.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.cli.options import Command, add_cluster, add_device, add_model, add_run


def add_cleanse(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument(
        "--fraction",
        type=float,
        default=0.01,
        metavar="F",
        help="share of the training items to remove (default .01)",
    )
    parser.add_argument(
        "--validation",
        default="validation",
        metavar="NAME",
        help=(
            "items to cleanse for: validation, half of the run's own, measured on the other half "
            "(default); or elec, reviews of electronics in --path"
        ),
    )
    parser.add_argument("--path", metavar="DIR", help="folder with the files of elec")
    parser.add_argument(
        "--repeats",
        type=int,
        default=4,
        metavar="R",
        help="models for each condition, from seeds 0 to R - 1 (default 4)",
    )
    parser.add_argument(
        "--flags",
        action="store_true",
        help=(
            "also train on what you flagged: without what you drop, under the labels that you "
            "relabel to"
        ),
    )
    parser.add_argument(
        "--score-only",
        action="store_true",
        help="only compute the mean influences, and keep them with the run; retrain nothing",
    )
    add_device(parser)
    add_cluster(parser)
    add_model(parser)


def run_cleanse(arguments: Namespace) -> dict[str, Any]:
    """Score, remove, retrain and return the conditions with mean and standard deviation; the result
    is kept in the run's folder.
    """
    from turnover.flags import Flags
    from turnover.runs.run import Run
    from turnover.storage.lock import alone
    from turnover.workflows.cleanse import cleanse, prepare
    from turnover.workflows.cleansing import CONDITIONS, WITH_FLAGS, Decisions
    from turnover.workflows.cleansing_results import OWN, keep_cleansing, keep_scores

    run = Run(Path(arguments.run))
    decisions = (
        Decisions.of(Flags(run.folder).current(), run.classes, len(run.train))
        if arguments.flags
        else None
    )
    with alone(run.folder / ".cleanse.lock", f"cleansing {run.folder}"):
        prepared = prepare(run, arguments.validation, arguments.path, arguments.device)
        if arguments.validation != OWN:
            keep_scores(run, arguments.validation, prepared.scored)
        if arguments.score_only:
            return {
                "run": str(run.folder),
                "validation": arguments.validation,
                "targets": prepared.scored.targets,
                "scored": len(prepared.scores),
            }
        conditions = WITH_FLAGS if decisions else CONDITIONS
        result = cleanse(
            prepared,
            arguments.fraction,
            arguments.repeats,
            conditions,
            decisions,
            lambda partial_result: keep_cleansing(run, partial_result, finished=False),
            arguments.cluster,
        )
        keep_cleansing(run, result)
    return result


def describe_cleanse(result: dict[str, Any]) -> str:
    """The conditions as a table."""
    from turnover.research.evaluate.results import markdown_table

    if "scored" in result:
        return (
            f"{result['run']}: mean influence of {result['scored']} training items on "
            f"{result['targets']} items of {result['validation']}"
        )
    classes = ", ".join(f"{count} {name}" for name, count in result["removed_by_class"].items())
    rows = (
        (
            condition["condition"],
            f"{condition['accuracy']:.1%} ± {condition['accuracy_sd']:.1%}",
            f"{condition['loss']:.3f} ± {condition['loss_sd']:.3f}",
            "; ".join(map(_against, condition["against"])),
        )
        for condition in result["conditions"]
    )
    head = ("condition", "accuracy", "loss, nats", "accuracy and loss against those above")
    return (
        f"{result['removed']} training items removed ({classes}) for {result['targets']} targets; "
        f"measured on {result['measured_on']} other items\n\n"
        f"{markdown_table(head, rows, right=[1, 2])}\n\n"
        f"± standard deviation over {result['repeats']} seeds; p of a paired t-test, two-sided; "
        "95 % intervals in brackets"
    )


def _against(comparison: dict[str, Any]) -> str:
    """One comparison in a few words."""
    accuracy, loss = _known(comparison, "accuracy", "+.1%"), _known(comparison, "loss", "+.3f")
    return (
        f"{comparison['other']}: {comparison['accuracy']:+.1%}{accuracy}, "
        f"{comparison['loss']:+.3f}{loss}"
    )


def _known(comparison: dict[str, Any], what: str, form: str) -> str:
    """p and interval of a difference, where defined."""
    if comparison[f"{what}_p"] is None:
        return ""
    low, high = comparison[f"{what}_interval"]
    return f" (p = {comparison[f'{what}_p']:.2g}, [{low:{form}}, {high:{form}}])"


def add_apply(parser: ArgumentParser) -> None:
    """Describe the options."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--run", metavar="RUN", help="apply this run's flags to the data that it was trained on"
    )
    which.add_argument(
        "--flags", metavar="FILE.jsonl", help="apply what `export --format jsonl` wrote to --data"
    )
    data = (
        "CSV, TSV, JSONL or parquet file, folder with one folder of images a class, or name of a "
        "data set (default: what the run was trained on)"
    )
    parser.add_argument("--data", metavar="DATA", help=data)
    parser.add_argument(
        "--out", required=True, metavar="OUT", help="file or folder to write; it must not exist"
    )
    for what, content in (("text", "texts or images"), ("label", "labels")):
        parser.add_argument(
            f"--{what}-column",
            metavar="NAME",
            help=f"column of the {content} (default: as in the run, or inferred)",
        )


def run_apply(arguments: Namespace) -> dict[str, Any]:
    """Write the copy and return what was done."""
    from turnover.errors import TurnoverError
    from turnover.flags.apply import apply_flag_file, apply_run
    from turnover.runs.run import Run

    out, columns = Path(arguments.out), (arguments.text_column, arguments.label_column)
    if arguments.run:
        return apply_run(Run(Path(arguments.run)), out, arguments.data, *columns)
    if not arguments.data:
        raise TurnoverError("--flags: name the file or folder to cleanse with --data")
    return apply_flag_file(Path(arguments.flags), arguments.data, out, *columns)


def describe_apply(result: dict[str, Any]) -> str:
    """The result in words."""
    done = (
        f"{result['dropped']} dropped, {result['relabelled']} relabelled, {result['kept']} left as "
        "they are"
    )
    refused = [
        f"not applied: {' '.join(filter(None, (misfit['id'], misfit['place'])))}: {misfit['why']}"
        for misfit in result["refused"]
    ]
    changed = (
        [f"{result['changed']}; rows are found by id and content"] if result.get("changed") else []
    )
    return "\n".join([f"{result['out']}: {done}", *changed, *refused])


FORMATS = ("csv", "jsonl", "html")


def add_export(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="file to write (replaced if it exists)"
    )
    text = (
        "csv, for spreadsheets (default); jsonl, a flag file for `apply` and `import-flags`; html, "
        "a page with the mistakes"
    )
    parser.add_argument("--format", choices=FORMATS, default="csv", help=text)


def run_export(arguments: Namespace) -> dict[str, Any]:
    """Write the file and return its name and number of flags."""
    from turnover.explain.report import write_report
    from turnover.flags import Flags
    from turnover.flags.export import export_csv
    from turnover.flags.flag_file import export_flag_file
    from turnover.runs.run import Run
    from turnover.storage.atomic import write_atomic

    run, out = Run(Path(arguments.run)), Path(arguments.out)
    if arguments.format == "html":
        write_report(run, out)
    else:
        text = export_csv(run) if arguments.format == "csv" else export_flag_file(run)
        write_atomic(out, lambda beside: beside.write_text(text, encoding="utf-8"))
    return {"out": str(out), "flags": len(Flags(run.folder).current())}


def describe_export(result: dict[str, Any]) -> str:
    """The result in words."""
    return f"{result['flags']} flagged training items written to {result['out']}"


def add_import_flags(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    parser.add_argument(
        "--flags", required=True, metavar="FILE.jsonl", help="what `export --format jsonl` wrote"
    )


def run_import_flags(arguments: Namespace) -> dict[str, Any]:
    """Merge the flag file and return how many flags are new, conflicting and known, and which lines
    were rejected.
    """
    from turnover.flags import Flags
    from turnover.flags.flag_file import load_flag_file, merge_flag_file
    from turnover.runs.run import Run

    run = Run(Path(arguments.run))
    return {
        "run": arguments.run,
        **merge_flag_file(run, Flags(run.folder), load_flag_file(Path(arguments.flags))),
    }


def describe_import_flags(result: dict[str, Any]) -> str:
    """The result in words."""
    words = (
        f"{result['new']} flags are new to {result['run']}, {result['conflicting']} of them differ "
        f"from what others decided; {result['known']} were known"
    )
    return "\n".join(
        [
            words,
            *(f"line {refused['line']} refused: {refused['why']}" for refused in result["refused"]),
        ]
    )


COMMANDS = {
    "cleanse": Command(add_cleanse, run_cleanse, describe_cleanse),
    "apply": Command(add_apply, run_apply, describe_apply),
    "export": Command(add_export, run_export, describe_export),
    "import-flags": Command(add_import_flags, run_import_flags, describe_import_flags),
}
