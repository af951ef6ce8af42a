"""Flag files: a run's flags as JSONL, to change a data set or to merge into a copy of the run.

The first line is a header, then one decision per line:

    {"turnover_patch": 1, "fingerprint": …, "run": …, "kind": "text", "classes": […],
     "shape": [], "created": …, "count": 2}
    {"id": "train-12", "sha256": …, "label": "negative", "action": "relabel",
     "new_label": "positive", "note": …, "by": …, "at": …}

`label` is the label that was decided on; `sha256` identifies the item wherever it is stored: the
hash of its text, or of its shape and pixels. `fingerprint` identifies the run's data. The file is
plain ASCII. Flag files come from anyone: every line is checked, and a line that cannot be used is
rejected by number while the rest of the file is used.

Merging adds a colleague's decisions with their names and times; nothing is overwritten.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from turnover.data.images import fit_image, open_image, png_pixels
from turnover.data.tables.checks import unreadable
from turnover.errors import TurnoverError
from turnover.flags import Flag, Flags
from turnover.flags.store import check_verdict, clean_name, clean_note
from turnover.runs.run import Run

# Identity of items and data


def text_hash(text: str) -> str:
    """SHA-256 of a text in UTF-8, hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def pixel_hash(pixels: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels, hexadecimal."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def file_hash(name: str, content: bytes, shape: tuple[int, ...]) -> str:
    """`pixel_hash` of an image file as seen by a model whose images have this shape; "" for a file
    that is no image.
    """
    try:
        image = open_image(content, name, colour=len(shape) == 3)
    except TurnoverError:
        return ""
    fits = (image.height, image.width) == shape[:2]
    return pixel_hash(np.asarray(image) if fits else fit_image(image, *shape[:2]))


def item_hash(run: Run, position: int) -> str:
    """The hash of a training item of a run."""
    item = run.item("train", position)
    if run.kind == "text":
        return text_hash(str(item["text"]))
    return pixel_hash(png_pixels(item["image"]))


def data_fingerprint(run: Run) -> str:
    """Fingerprint of the data a run was trained on: runs with the same have the same items and
    labels.

    Runs without one are identified by the checksum of their items.
    """
    files, data = run.manifest["files"], run.manifest["data"]
    return str(data.get("fingerprint") or files["items.parquet"]["sha256"])


# The file

FORMAT = 1
MAX_BYTES = 20 * 2**20
"""A longer file is not read."""

_KEY = "turnover_patch"
_HASH = re.compile("[0-9a-f]{64}")
_AHEAD = timedelta(days=1)


@dataclass(frozen=True)
class Line:
    """One decision of a flag file, and the number of its line, from 1."""

    number: int
    id: str
    sha256: str
    label: str
    flag: Flag
    """Its `instance` is -1 in a file, which knows no positions."""


def flags_on(run: Run) -> dict[int, Flag]:
    """The flags in force on training items that the run has, by position."""
    flags = Flags(run.folder).current()
    return {instance: flag for instance, flag in flags.items() if instance < len(run.train)}


@dataclass(frozen=True)
class Refused:
    """A rejected line, and why."""

    number: int
    why: str


@dataclass(frozen=True)
class FlagFile:
    """A flag file that was read; `shape` is that of the images decided on, () for texts."""

    fingerprint: str
    run: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    lines: tuple[Line, ...]
    refused: tuple[Refused, ...]


def flag_file_of(run: Run) -> FlagFile:
    """The flags of a run as a flag file."""
    lines = [
        _line(run, number, flag) for number, flag in enumerate(flags_on(run).values(), start=2)
    ]
    return FlagFile(
        data_fingerprint(run), run.name, tuple(run.classes), run.image_shape, tuple(lines), ()
    )


def _line(run: Run, number: int, flag: Flag) -> Line:
    item = run.item("train", flag.instance)
    label = run.classes[int(item["label"])]
    return Line(number, str(item["id"]), item_hash(run, flag.instance), label, flag)


def export_flag_file(run: Run) -> str:
    """The flags of a run as the text of a flag file."""
    flag_file = flag_file_of(run)
    header = {
        _KEY: FORMAT,
        "fingerprint": flag_file.fingerprint,
        "run": flag_file.run,
        "kind": run.kind,
        "classes": flag_file.classes,
        "shape": flag_file.shape,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "count": len(flag_file.lines),
    }
    decisions = [
        {"id": line.id, "sha256": line.sha256, "label": line.label}
        | {name: getattr(line.flag, name) for name in ("action", "new_label", "note", "by", "at")}
        for line in flag_file.lines
    ]
    return "".join(f"{json.dumps(line)}\n" for line in (header, *decisions))


def read_flag_file(content: bytes, name: str) -> FlagFile:
    """A flag file from its bytes.

    Raises:
        TurnoverError: if it is too large, no flag file, of another format, or cut off.
    """
    if len(content) > MAX_BYTES:
        raise TurnoverError(
            f"{name}: {len(content) / 2**20:.0f} MB, a flag file has at most {MAX_BYTES // 2**20} "
            "MB; split it"
        )
    texts = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    numbered = [(number, text) for number, text in enumerate(texts, start=1) if text.strip()]
    header = _header(numbered[0][1] if numbered else b"", len(numbered) - 1, name)
    lines, refused = [], []
    for number, text in numbered[1:]:
        try:
            lines.append(_checked(number, _object(text), header["classes"]))
        except TurnoverError as error:
            refused.append(Refused(number, str(error)))
    return FlagFile(
        str(header.get("fingerprint", "")),
        str(header.get("run", ""))[:200],
        tuple(header["classes"]),
        tuple(header["shape"]),
        tuple(lines),
        tuple(refused),
    )


def _header(text: bytes, decisions: int, name: str) -> dict[str, Any]:
    """The first line of a flag file with so many decisions. Errors as `read_flag_file`."""
    header = _object(text)
    if header is None or _KEY not in header:
        raise TurnoverError(
            f"{name}: not a flag file; make one with `turnover export --format jsonl`"
        )
    if header[_KEY] != FORMAT:
        raise TurnoverError(
            f"{name}: a flag file of format {header[_KEY]!r:.20}, this version reads format "
            f"{FORMAT}; export it again"
        )
    shape, count = header.get("shape"), header.get("count", decisions)
    sized = _are(shape, int) and len(shape) in (0, 2, 3) and all(0 < n < 2**15 for n in shape)
    if not (sized and _are(header.get("classes"), str)):
        raise TurnoverError(
            f"{name}: the first line does not say which classes there are and what images look "
            "like; export it again"
        )
    if count != decisions:
        raise TurnoverError(
            f"{name}: {decisions:,} decisions where the first line promises {count!r:.20}; "
            "the file was cut off or edited, get it again"
        )
    return header


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _are(values: Any, kind: type) -> TypeGuard[list[Any]]:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _checked(number: int, decision: Mapping[str, Any] | None, classes: list[str]) -> Line:
    """A line of a flag file.

    Raises:
        TurnoverError: if it cannot be used.
    """
    names = ("id", "sha256", "label", "action", "new_label", "note", "by", "at")
    if decision is None or not all(isinstance(decision.get(name), str) for name in names):
        raise TurnoverError(f"not a decision; it needs {', '.join(names)} as strings")
    if not _HASH.fullmatch(decision["sha256"]):
        raise TurnoverError("sha256 is not 64 hexadecimal digits")
    check_verdict(decision["action"][:20], decision["new_label"])
    for name in filter(None, (decision["label"], decision["new_label"])):
        if name not in classes:
            raise TurnoverError(f"the label {name!r:.80} is not one of the classes")
    if decision["label"] == decision["new_label"]:
        raise TurnoverError(f"the new label {decision['new_label']!r:.80} is the one it has")
    by = clean_name(decision["by"])
    if not by:
        raise TurnoverError("nobody is named as the one who decided")
    note, at = clean_note(decision["note"]), _time(decision["at"])
    flag = Flag(-1, decision["action"], decision["new_label"], note, by, at)
    return Line(number, decision["id"], decision["sha256"], decision["label"], flag)


def _time(text: str) -> str:
    """A time in UTC as flags have it."""
    try:
        time = datetime.fromisoformat(text[:40]).astimezone(UTC)
    except (ValueError, OverflowError):
        raise TurnoverError(f"{text!r:.50} is no time") from None
    if time > datetime.now(UTC) + _AHEAD:
        raise TurnoverError(
            f"it was made in the future ({text:.40}); check the clock of the one who decided"
        )
    return time.isoformat()


def load_flag_file(path: Path) -> FlagFile:
    """The flag file at a path.

    Raises:
        TurnoverError: if the file cannot be read, or is no flag file.
    """
    try:
        with path.open("rb") as file:
            return read_flag_file(file.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        raise unreadable(path, error) from None


# Merging


def merge_flag_file(run: Run, flags: Flags, flag_file: FlagFile) -> dict[str, Any]:
    """Add the decisions of a flag file to `flags` of the run.

    Returns:
        What `turnover import-flags --json` prints: new, conflicting (of the new ones), known, and
        refused (rejected lines): line and why.

    Raises:
        TurnoverError: if the flag file was made on other data, or the flags cannot be written.
    """
    if flag_file.fingerprint != data_fingerprint(run) or list(flag_file.classes) != run.classes:
        raise TurnoverError(
            f"the flag file was made on other data than {run.name} was trained on, by the run "
            f"{flag_file.run!r:.80}; import it into a run on its data"
        )
    positions = {str(name): position for position, name in enumerate(run.train["id"])}
    fitting, refused = [], list(flag_file.refused)
    for line in flag_file.lines:
        try:
            fitting.append(_placed(run, positions, line))
        except TurnoverError as error:
            refused.append(Refused(line.number, str(error)))
    refused.sort(key=lambda line: line.number)
    rejected = [{"line": line.number, "why": line.why} for line in refused]
    return {**asdict(flags.merge(fitting)), "refused": rejected}


def _placed(run: Run, positions: dict[str, int], line: Line) -> Flag:
    """The flag of a line, with the position of its item.

    Raises:
        TurnoverError: if the run has no such item, or one with other contents or label.
    """
    position = positions.get(line.id)
    if position is None:
        raise TurnoverError(f"no training item has the id {line.id!r:.80}")
    if item_hash(run, position) != line.sha256:
        raise TurnoverError(f"{line.id!r:.80} has another {run.kind} here")
    label = run.classes[int(run.train["label"].loc[position])]
    if label != line.label:
        raise TurnoverError(
            f"{line.id!r:.80} has the label {label!r:.80} here, not {line.label!r:.80}"
        )
    return replace(line.flag, instance=position)
