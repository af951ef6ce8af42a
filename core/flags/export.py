"""Flagged training items and judged errors as a CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

from turnover.flags import Flags
from turnover.flags.flag_file import flags_on
from turnover.flags.judgements import judgements
from turnover.runs.proofs import read_proofs
from turnover.runs.ranking import TOP, content_of, finite
from turnover.runs.run import Run

COLUMNS = (
    *("id", "content", "label", "action", "new_label", "note", "by", "at"),
    *("self_influence", "mean_influence", "standard_error", "errors", "proofs"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


_BOM = "\ufeff"
"""At the start of a table: without it spreadsheets take UTF-8 for something else."""


def safe_cell(value: Any) -> Any:
    """A value for a CSV cell: a text that a spreadsheet would run as a formula gets an apostrophe
    before it.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def errors_of(run: Run) -> dict[int, list[str]]:
    """For each training position, the ids of the errors that have it among their `TOP` proponents
    (of the prediction).
    """
    parts: dict[int, list[str]] = {}
    for error in run.influence.misclassified:
        ranked = run.influence.ranked(error, "prediction")
        for index in ranked.ends(TOP)[0]:
            parts.setdefault(int(ranked.instances[index]), []).append(
                str(run.item("validation", error)["id"])
            )
    return parts


def _proofs_of(run: Run) -> dict[int, list[str]]:
    """For each training position, the proofs that left it out: error, verdict, and the difference
    in nats with its interval.
    """
    found: dict[int, list[str]] = {}
    for proof in read_proofs(run)[0]:
        numbers = f"{proof.difference:.2f} [{proof.low:.2f}, {proof.high:.2f}]"
        error = run.item("validation", proof.error)["id"]
        for item in proof.items:
            found.setdefault(item, []).append(f"{error}: {proof.verdict} {numbers}")
    return found


def export_judged_csv(run: Run) -> str:
    """All judged errors of a run: id, text or image, label, predicted, judgement, by and at."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(["id", run.kind, "label", "predicted", "judgement", "by", "at"])
    for position, judgement in judgements(Flags(run.folder)).items():
        item = run.item("validation", position)
        labels = (run.classes[int(item[name])] for name in ("label", "predicted"))
        content = content_of(run, position, "validation").values()
        row = (str(item["id"]), *content, *labels, judgement.verdict, judgement.by, judgement.at)
        writer.writerow([safe_cell(value) for value in row])
    return _BOM + buffer.getvalue()


def export_csv(run: Run) -> str:
    """All flagged training items of a run; influences in nats, empty where the run has none.

    Columns: `COLUMNS`; the second is named `text` or `image` (path of a thumbnail), `errors` lists
    error ids, `proofs` what retraining without the item and others showed of an error.
    """
    flags, has_influence = flags_on(run), run.has_influence
    parts, proofs = ({}, {}) if not (has_influence and flags) else (errors_of(run), _proofs_of(run))
    buffer = io.StringIO()
    # so that a lone carriage return is quoted too, which could start a new cell
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([run.kind if name == "content" else name for name in COLUMNS])
    for instance, flag in flags.items():
        item = run.item("train", instance)
        numbers: tuple[Any, ...] = ("", "", "")
        if has_influence:
            mean, error = run.influence.mean_influence
            found = (run.influence.self_influence[instance], mean[instance], error[instance])
            numbers = tuple("" if finite(value) is None else value for value in found)
        row = (
            str(item["id"]),
            *content_of(run, instance).values(),
            run.classes[int(item["label"])],
            *(flag.action, flag.new_label, flag.note, flag.by, flag.at),
            *numbers,
            " ".join(parts.get(instance, [])),
            "; ".join(proofs.get(instance, [])),
        )
        writer.writerow([safe_cell(value) for value in row])
    return _BOM + buffer.getvalue()
