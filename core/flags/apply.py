"""`turnover apply`: applies a flag file to a data set, or undoes that.

The data set itself is never changed. A cleansed copy is written, and beside it an undo file that
turns the copy back into the original, byte for byte. The undo file is JSONL: a header with the
checksums of copy and original, then one line per changed row or file; for parquet, whose bytes do
not follow from its rows, the original itself.

A packaged data set, such as the digits, has no file of its own: its training items are first
written as a table.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from turnover.data.base import Items
from turnover.data.images import png_bytes
from turnover.data.sources import NAMES, load_data
from turnover.data.tables.checks import unreadable
from turnover.data.tables.formats import ENDINGS
from turnover.data.tables.records import FORMS
from turnover.errors import TurnoverError
from turnover.flags.flag_file import FlagFile, load_flag_file
from turnover.flags.plan import Changes, label_column, make_plan
from turnover.flags.rewrite import (
    LABEL,
    ImageFolder,
    ParquetFile,
    TextFile,
    changes_of,
    copy_cleansed,
    copy_restored,
    folder_hash,
    restored,
)
from turnover.storage.atomic import write_atomic

# Packaged data sets as tables

_NUMBERED = ("sst2",)
"""Sources whose own files number the classes."""


def packaged_table(name: str) -> tuple[bytes, str, str]:
    """A packaged data set's training items as contents, name and form of a table: CSV with id, text
    and label, or parquet with id, image (PNG) and label (a class number).

    Raises:
        TurnoverError: if the data set cannot be loaded.
    """
    data = load_data(name)
    if data.kind == "image":
        written = io.BytesIO()
        _image_frame(data.train).to_parquet(written, index=False)
        return written.getvalue(), name, ".parquet"
    labels = (
        data.train.labels
        if name in _NUMBERED
        else [data.classes[number] for number in data.train.labels]
    )
    frame = pd.DataFrame({"id": data.train.ids, "text": data.train.texts, "label": labels})
    return frame.to_csv(index=False, lineterminator="\n").encode(), name, ".csv"


def _image_frame(items: Items) -> pd.DataFrame:
    assert items.images is not None
    frame = pd.DataFrame(
        {
            "id": items.ids,
            "image": [png_bytes(pixels) for pixels in items.images],
            "label": items.labels,
        }
    )
    numbers = frame["id"].str.extract(r"^train-(\d+)$")[0]  # as in CIFAR-10's files
    return frame if numbers.isna().any() else frame.assign(index=numbers.astype(int))


# Apply and undo

FORMAT = 1
UNDO = ".undo"
"""Suffix of an undo file, after the name of the cleansed copy."""

_KEY, _PARQUET, _FOLDER = "turnover_undo", ".parquet", "folder"


def apply_flag_file(
    flag_path: Path, data: Path, out: Path, text: str | None = None, label: str | None = None
) -> dict[str, Any]:
    """Write a cleansed copy of a data set to `out`, and the undo file beside it.

    Args:
        flag_path: what `export --format jsonl` wrote.
        data: a CSV, TSV, JSONL or parquet file, a folder with one folder of images a class, or the
            name of a packaged data set.
        out: the copy; nothing may be there yet.
        text: the column that holds the texts or images, inferred if None.
        label: the column that holds the labels, inferred if None.

    Returns:
        What `turnover apply --json` prints: out, undo, dropped, relabelled, kept, and refused: id,
        place and why.

    Raises:
        TurnoverError: if something cannot be read or written, or no line of the flag file fits the
            data.
    """
    flag_file = load_flag_file(flag_path)
    undo = _new(out, data)
    plan = (
        _onto_folder(flag_file, data, out, undo)
        if data.is_dir()
        else _onto_file(flag_file, *_content(data), out, undo, text, label)
    )
    refused = [
        {"id": misfit.id, "place": misfit.place, "why": misfit.why} for misfit in plan.misfits
    ]
    return {
        "out": str(out),
        "undo": str(undo),
        "dropped": len(plan.dropped),
        "relabelled": len(plan.relabelled),
        "kept": plan.kept,
        "refused": refused,
    }


def undo_flag_file(undo: Path, data: Path, out: Path) -> dict[str, Any]:
    """Write the original of a cleansed copy to `out`.

    Args:
        undo: the undo file that was written beside the copy.
        data: the copy.
        out: the original; nothing may be there yet.

    Returns:
        What `turnover apply --undo --json` prints: out and sha256.

    Raises:
        TurnoverError: if something cannot be read or written, or the copy is not the one that the
            undo file is about.
    """
    _new(out, data)
    try:
        with undo.open("rb") as file:
            header = _undo_header(file.readline(), undo)
            if header["form"] == _FOLDER:
                _same(folder_hash(data), header["cleansed"], data)
                copy_restored(data, out, file, header["original"])
            else:
                content = data.read_bytes()
                _same(hashlib.sha256(content).hexdigest(), header["cleansed"], data)
                original = (
                    file.read()
                    if header["form"] == _PARQUET
                    else restored(content, str(data), header["form"], file)
                )
                if hashlib.sha256(original).hexdigest() != header["original"]:
                    raise TurnoverError(f"{undo}: damaged; without it the original cannot be made")
                write_atomic(out, lambda beside: beside.write_bytes(original))
    except OSError as error:
        raise unreadable(Path(error.filename or undo), error) from None
    return {"out": str(out), "sha256": header["original"]}


def _onto_file(
    flag_file: FlagFile,
    content: bytes,
    name: str,
    form: str,
    out: Path,
    undo: Path,
    text: str | None,
    label: str | None,
) -> Changes:
    hashes = {line.sha256 for line in flag_file.lines}
    if form == _PARQUET:
        table = ParquetFile(content, name, hashes, flag_file.shape, text)
        plan = make_plan(flag_file, table, label)
        cleansed, rest = (
            table.cleansed(plan, label_column(table, flag_file.classes, label)),
            content,
        )
    else:
        file = TextFile(content, name, form, hashes, text, flag_file.shape)
        plan = make_plan(flag_file, file, label)
        cleansed, changes = file.cleansed(plan, label_column(file, flag_file.classes, label))
        form, rest = file.form, _lines(changes)
    digests = {
        "original": hashlib.sha256(content).hexdigest(),
        "cleansed": hashlib.sha256(cleansed).hexdigest(),
    }
    _write_undo(undo, {"form": form, **digests}, rest)
    write_atomic(out, lambda beside: beside.write_bytes(cleansed))
    return plan


def _onto_folder(flag_file: FlagFile, data: Path, out: Path, undo: Path) -> Changes:
    if not flag_file.shape:
        raise TurnoverError(
            f"{data}: a folder, and the flag file is about texts; give the file that holds them"
        )
    images = ImageFolder(data, flag_file.shape)
    plan = make_plan(flag_file, images, LABEL)
    moves = images.moves(plan)
    facts, rest = {"form": _FOLDER, "original": folder_hash(data)}, _lines(changes_of(data, moves))
    copy_cleansed(
        data,
        out,
        moves,
        lambda beside: _write_undo(undo, {**facts, "cleansed": folder_hash(beside)}, rest),
    )
    return plan


def _content(data: Path) -> tuple[bytes, str, str]:
    """Contents, name and form of a file, or of a packaged data set's table."""
    if not data.exists() and str(data) in NAMES:
        return packaged_table(str(data))
    if data.suffix.lower() not in ENDINGS:
        raise TurnoverError(
            f"{data}: neither a folder, nor a data set's name, nor a file that ends with "
            f"{', '.join(ENDINGS)}; convert it"
        )
    try:
        return data.read_bytes(), str(data), data.suffix.lower()
    except OSError as error:
        raise unreadable(data, error) from None


def _new(out: Path, data: Path) -> Path:
    """The path of a copy's undo file; the copy must not exist yet, or be inside the data."""
    if out.exists():
        raise _taken(out)
    if data.is_dir() and data.resolve() in out.resolve().parents:
        raise TurnoverError(f"{out} is in {data}, which is not changed; choose another --out")
    return out.with_name(out.name + UNDO)


def _taken(path: Path) -> TurnoverError:
    return TurnoverError(f"{path} exists; choose another --out, or delete it first")


def _lines(objects: Sequence[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(line)}\n" for line in objects).encode("ascii")


def _write_undo(path: Path, facts: dict[str, Any], rest: bytes) -> None:
    """Write an undo file, or check that it exists unchanged: the same command may have been stopped
    between this file and the copy.
    """
    content = _lines([{_KEY: FORMAT, **facts}]) + rest
    if path.exists():
        if not path.is_file() or path.read_bytes() != content:
            raise _taken(path)
        return
    write_atomic(path, lambda beside: beside.write_bytes(content))


def _undo_header(line: bytes, path: Path) -> dict[str, Any]:
    try:
        header = dict(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        header = {}
    if (
        header.get(_KEY) != FORMAT
        or header.get("form") not in (*FORMS, _PARQUET, _FOLDER)
        or not {"original", "cleansed"} <= set(header)
    ):
        raise TurnoverError(
            f"{path}: not an undo file of this version; it lies beside what `turnover apply` wrote "
            f"and ends with {UNDO}"
        )
    return header


def _same(digest: str, expected: str, data: Path) -> None:
    if digest != expected:
        raise TurnoverError(
            f"{data}: not what the undo file was written with, or changed since; give the cleansed "
            "copy as it was"
        )
