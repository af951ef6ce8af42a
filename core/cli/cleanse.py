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

from turnover.cli.options import (
    Command,
    add_retraining,
    add_run,
    add_switches,
    add_values,
    retrained_run,
    run_of,
)


def _add_cleanse(parser: ArgumentParser) -> None:
    add_run(parser)
    share = "shares of the training items to remove (default: .01 .02 .05 .1 .2)"
    parser.add_argument("--fraction", type=float, nargs="+", metavar="F", help=share)
    parser.set_defaults(validation="validation")
    add_values(
        parser,
        validation="NAME: items to cleanse for: validation, half of the run's own, reported on the "
        "other half (default); or elec, reviews of electronics in --path",
    )
    add_values(parser, path="DIR: folder with the files of elec")
    seeds = "models for each condition, from seeds 0 to R - 1 (default 4)"
    parser.add_argument("--repeats", type=int, default=4, metavar="R", help=seeds)
    add_switches(
        parser,
        flags="also train on what you flagged: without what you drop, under the labels that you "
        "relabel to",
        score_only="only compute the mean influences, and keep them with the run; retrain nothing",
    )
    add_retraining(parser)


def run_cleanse(arguments: Namespace) -> dict[str, Any]:
    """Score, remove, retrain and return the conditions with mean and standard deviation, by share;
    the result is kept in the run's folder.
    """
    from turnover.flags import Flags
    from turnover.storage.lock import alone
    from turnover.workflows.cleanse import cleanse, prepare
    from turnover.workflows.cleansing import Decisions
    from turnover.workflows.cleansing_results import OWN, keep_cleansing, keep_scores

    run = retrained_run(arguments)
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
        result = cleanse(
            prepared,
            arguments.fraction,
            arguments.repeats,
            decisions,
            lambda partial_result: keep_cleansing(run, partial_result, finished=False),
            arguments.cluster,
        )
        keep_cleansing(run, result)
    return result


def describe_cleanse(result: dict[str, Any]) -> str:
    """Whether it helps, and the conditions as a table."""
    from turnover.research.evaluate.results import markdown_table
    from turnover.workflows.cleansing import Retrained, summarise
    from turnover.workflows.cleansing_words import points, shortfall, verdict

    if "scored" in result:
        return (
            f"{result['run']}: mean influence of {result['scored']} training items on "
            f"{result['targets']} items of {result['validation']}"
        )
    conditions = summarise([Retrained(**model) for model in result["models"]])
    counts = dict(zip(result["shares"], result["removed"], strict=True))
    rows = (
        (
            row.condition,
            f"{counts[row.share]:,} ({row.share:.0%})" if row.share else "",
            f"{row.accuracy:.1%} ± {row.accuracy_sd:.1%}",
            f"{row.loss:.3f} ± {row.loss_sd:.3f}",
            "; ".join(f"{one.other}: {points(one)}" for one in row.against),
        )
        for row in conditions
    )
    head = ("condition", "removed", "accuracy", "loss, nats", "accuracy against")
    found = verdict(conditions, result["shares"], result["removed"], result["total"])
    caution = shortfall(conditions, result)
    return (f"{caution}\n" if caution else "") + (
        f"Does it help? {found.text if found else ''}\n\n"
        f"{markdown_table(head, rows, right=[1, 2, 3])}\n\n"
        f"{result['targets']} validation items chose what goes and how much, "
        f"{result['measured_on']} others are reported; ± standard deviation over "
        f"{result['repeats']} seeds"
    )


def _add_apply(parser: ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    add_values(
        which,
        run="RUN: apply this run's flags to the data that it was trained on",
        flags="FILE.jsonl: apply what `export --format jsonl` wrote to --data",
    )
    parser.add_argument(
        "--out", required=True, metavar="OUT", help="file or folder to write; it must not exist"
    )
    add_values(
        parser,
        data="DATA: CSV, TSV, JSONL or parquet file, folder with one folder of images a class, or "
        "name of a data set (default: what the run was trained on)",
        text_column="NAME: column of the texts or images (default: as in the run, or inferred)",
        label_column="NAME: column of the labels (default: as in the run, or inferred)",
    )


def run_apply(arguments: Namespace) -> dict[str, Any]:
    """Write the copy and return what was done."""
    from turnover.errors import TurnoverError
    from turnover.flags.apply import apply_flag_file, apply_run

    out, columns = Path(arguments.out), (arguments.text_column, arguments.label_column)
    if arguments.run:
        return apply_run(run_of(arguments), out, arguments.data, *columns)
    if not arguments.data:
        raise TurnoverError("--flags: name the file or folder to cleanse with --data")
    return apply_flag_file(Path(arguments.flags), arguments.data, out, *columns)


def _describe_apply(result: dict[str, Any]) -> str:
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


def _add_export(parser: ArgumentParser) -> None:
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
    from turnover.storage.atomic import write_atomic

    run, out = run_of(arguments), Path(arguments.out)
    if arguments.format == "html":
        write_report(run, out)
    else:
        text = export_csv(run) if arguments.format == "csv" else export_flag_file(run)
        write_atomic(out, lambda beside: beside.write_text(text, encoding="utf-8"))
    return {"out": str(out), "flags": len(Flags(run.folder).current())}


def _add_import_flags(parser: ArgumentParser) -> None:
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

    run = run_of(arguments)
    return {
        "run": arguments.run,
        **merge_flag_file(run, Flags(run.folder), load_flag_file(Path(arguments.flags))),
    }


def _describe_import_flags(result: dict[str, Any]) -> str:
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
    "cleanse": Command(_add_cleanse, run_cleanse, describe_cleanse),
    "apply": Command(_add_apply, run_apply, _describe_apply),
    "export": Command(
        _add_export,
        run_export,
        lambda result: f"{result['flags']} flagged training items written to {result['out']}",
    ),
    "import-flags": Command(_add_import_flags, run_import_flags, _describe_import_flags),
}
