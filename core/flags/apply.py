"""`turnover apply`: a copy of a data set without what was flagged, or under new labels.

The data set itself is never changed: it is what undoes a copy. A run remembers the file, folder or
hub data set that it was trained on, its columns, and the row of each training item. A flag file is
matched by ids and contents (`turnover.flags.plan`).

A packaged data set, such as the digits, has no file of its own: its training items are first
written as a table.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from turnover.data.base import Items
from turnover.data.images import png_bytes
from turnover.data.sources import SOURCES, load_data
from turnover.data.tables.arrow import PARQUET
from turnover.data.tables.columns import find_columns
from turnover.data.tables.formats import ENDINGS, read_own, table_in
from turnover.data.tables.hub import read_hub
from turnover.data.tables.records import CSV
from turnover.data.tables.spec import HUB, OwnData
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError
from turnover.flags.flag_file import FlagFile, flag_file_of, load_flag_file
from turnover.flags.plan import make_plan
from turnover.runs.run import Run
from turnover.storage.atomic import check_free, user_path

# Packaged data sets as tables

_NUMBERED = ("sst2",)
"""Sources whose own files number the classes."""


def packaged_table(name: str) -> Table:
    """A packaged data set's training items as a table: CSV with id, text and label, or parquet with
    id, image (PNG) and label (a class number).

    Raises:
        TurnoverError: if the data set cannot be loaded.
    """
    data = load_data(name)
    if data.kind == "image":
        written = io.BytesIO()
        _image_frame(data.train).to_parquet(written, index=False)
        return table_in(written.getvalue(), Path(f"{name}{PARQUET}"))
    labels = data.train.labels
    named = labels if name in _NUMBERED else np.array(data.classes)[labels]
    frame = pd.DataFrame({"id": data.train.ids, "text": data.train.texts, "label": named})
    content = frame.to_csv(index=False, lineterminator="\n").encode()
    return table_in(content, Path(f"{name}{CSV}"))


def _image_frame(items: Items) -> pd.DataFrame:
    assert items.images is not None
    images = [png_bytes(pixels) for pixels in items.images]
    frame = pd.DataFrame({"id": items.ids, "image": images, "label": items.labels})
    numbers = frame["id"].str.extract(r"^train-(\d+)$")[0]  # as in CIFAR-10's files
    return frame if numbers.isna().any() else frame.assign(index=numbers.astype(int))


# Apply


def apply_run(
    run: Run,
    out: Path,
    data: str | None = None,
    content: str | None = None,
    label: str | None = None,
) -> dict[str, Any]:
    """Write a copy of the data that a run was trained on to `out`, cleansed by the run's flags.

    Args:
        run: the run.
        out: the copy; nothing may be there yet.
        data: as for `apply_flag_file`; what the run was trained on if None.
        content: the column that holds the texts or images; that of the run if None.
        label: the column that holds the labels; that of the run if None.

    Returns:
        As `apply_flag_file`, and `changed`: how the data differ from those that the run was trained
        on, or "".

    Raises:
        TurnoverError: if nothing is flagged, the run does not know what it was trained on, or as
            `apply_flag_file`.
    """
    check_free(out, "another --out")
    flag_file, origin = flag_file_of(run), run.manifest["data"].get("origin") or {}
    if not flag_file.lines:
        raise TurnoverError(f"{run.folder}: no training item is flagged; flag what is wrong first")
    table, known = _table(data) if data else _trained_on(run, origin), None
    unchanged = table.origin.sha256 and table.origin.sha256 == origin.get("sha256")
    if unchanged and "row" in run.train:
        known = dict(zip(run.train["id"], map(int, run.train["row"]), strict=True))
    columns = content or origin.get("content"), label or origin.get("label")
    result = _apply(flag_file, table, out, *columns, known)
    return {**result, "changed": _changed(table, origin)}


def apply_flag_file(
    flag_path: Path, data: str, out: Path, content: str | None = None, label: str | None = None
) -> dict[str, Any]:
    """Write a copy of a data set to `out`, cleansed by a flag file.

    Args:
        flag_path: what `export --format jsonl` wrote.
        data: a CSV, TSV, JSONL or parquet file, a folder with one folder of images a class, or the
            name of a packaged data set.
        out: the copy; nothing may be there yet.
        content: the column that holds the texts or images, inferred if None.
        label: the column that holds the labels, inferred if None.

    Returns:
        What `turnover apply --json` prints: out, dropped, relabelled, kept, and refused: id, place
        and why.

    Raises:
        TurnoverError: if `out` exists, something cannot be read or written, or no line of the flag
            file fits the data.
    """
    check_free(out, "another --out")
    return _apply(load_flag_file(flag_path), _table(data), out, content, label)


def _apply(
    flag_file: FlagFile,
    table: Table,
    out: Path,
    content: str | None,
    label: str | None,
    known: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    kind = "image" if flag_file.shape else "text"
    text, image = (content if kind == name else None for name in ("text", "image"))
    spec = OwnData(text_column=text, image_column=image, label_column=label)
    columns = find_columns(table, OwnData() if table.places else spec)
    if columns.kind != kind:
        raise TurnoverError(
            f"{table.name}: {columns.kind}s in column {columns.content}, and the flags are about "
            f"{kind}s; give the file or folder that holds these, or name their column"
        )
    if table.ending != out.suffix.lower() in ENDINGS:
        raise TurnoverError(
            f"{out}: the copy is written as {table.name} is; let --out end with {table.ending}"
        )
    plan = make_plan(flag_file, table, columns, known)
    table.form.write(out, plan.dropped, plan.relabelled, columns.label)
    return {
        "out": str(out),
        "dropped": len(plan.dropped),
        "relabelled": len(plan.relabelled),
        "kept": plan.kept,
        "refused": [vars(misfit) for misfit in plan.misfits],
    }


def _trained_on(run: Run, origin: Mapping[str, Any]) -> Table:
    """The table that a run was trained on."""
    settings = run.manifest["settings"]
    source = str(settings.get("data", ""))
    if not (origin or (source in SOURCES and SOURCES[source].packaged)):
        raise TurnoverError(
            f"{run.folder}: it does not say which file or folder it was trained on; name that with "
            "--data, and its columns with --text-column and --label-column where they are not found"
        )
    return _table(str(origin.get("path", source)), settings)


def _table(data: str, settings: Mapping[str, Any] = {}) -> Table:
    """The table in a file or folder, of a packaged data set, or of the hub by a run's settings."""
    if data.startswith(HUB):
        split = (settings.get("own") or {}).get("train_split")
        return read_hub(data, OwnData(train_split=split))[0]
    path = user_path(data)
    return packaged_table(data) if not path.exists() and data in SOURCES else read_own(path)


def _changed(table: Table, origin: Mapping[str, Any]) -> str:
    """How a file differs from the one that a run was trained on; "" if it does not."""
    here = table.origin
    if not origin.get("sha256") or here.sha256 == origin["sha256"]:
        return ""
    sizes = f"{here.size:,} bytes instead of {origin['size']:,}"
    why = "another checksum" if here.size == origin["size"] else sizes
    return f"{table.name} is not as it was when the run was trained ({why})"
