"""The patch file. JSONL: a header, then one decision a line.

    {"turnover_patch": 1, "fingerprint": …, "run": …, "kind": "text", "classes": […], "shape": [], "created": …, "count": 2}
    {"id": "train-12", "sha256": …, "label": "negative", "action": "relabel", "new_label": "positive", "note": …, "by": …, "at": …}

`label` is the label that the decision was made on; `sha256` is that of the text, or of shape and pixels. The file is plain ASCII.
Patches come from anybody: what a line says is checked, and a line that cannot be used is refused by its number, not the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard

from turnover.errors import TurnoverError
from turnover.flags import Flag, Flags
from turnover.flags.decision import check_verdict, clean_name, clean_note
from turnover.patch.content import data_fingerprint, image_shape, item_hash
from turnover.runs import Run

FORMAT = 1
MAX_BYTES = 20 * 2**20
"""A longer file is not read."""

_KEY = "turnover_patch"
_HASH = re.compile("[0-9a-f]{64}")
_AHEAD = timedelta(days=1)


@dataclass(frozen=True)
class Line:
    """One decision of a patch, and the number of its line, from 1."""

    number: int
    id: str
    sha256: str
    label: str
    flag: Flag
    """Its `instance` is not known from a file and -1."""


@dataclass(frozen=True)
class Refused:
    """A line that was not used, and why."""

    number: int
    why: str


@dataclass(frozen=True)
class Patch:
    """A patch that was read; `shape` is that of the images the decisions were made on, () for texts."""

    fingerprint: str
    run: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    lines: tuple[Line, ...]
    refused: tuple[Refused, ...]


def export_patch(run: Run) -> str:
    """The flags of a run as a patch; those on items that the run does not have are left out."""
    flags = [flag for instance, flag in Flags(run.folder).current().items() if instance < len(run.train)]
    header = {
        _KEY: FORMAT,
        "fingerprint": data_fingerprint(run),
        "run": run.name,
        "kind": run.kind,
        "classes": run.classes,
        "shape": image_shape(run),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "count": len(flags),
    }
    return "".join(f"{json.dumps(line)}\n" for line in (header, *(_line(run, flag) for flag in flags)))


def _line(run: Run, flag: Flag) -> dict[str, Any]:
    item = run.item("train", flag.instance)
    known = {"id": str(item["id"]), "sha256": item_hash(run, flag.instance), "label": run.classes[int(item["label"])]}
    return known | {name: getattr(flag, name) for name in ("action", "new_label", "note", "by", "at")}


def read_patch(content: bytes, name: str) -> Patch:
    """A patch from the contents of a file.

    Raises:
        TurnoverError: if it is too large, no patch, of another format, or cut off.
    """
    if len(content) > MAX_BYTES:
        raise TurnoverError(f"{name}: {len(content) / 2**20:.0f} MB, a patch has at most {MAX_BYTES // 2**20} MB; split it")
    numbered = [(number, line) for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1) if line.strip()]
    header = _object(numbered[0][1]) if numbered else None
    if header is None or _KEY not in header:
        raise TurnoverError(f"{name}: not a patch of flags; make one with `turnover export --format jsonl`")
    if header[_KEY] != FORMAT:
        raise TurnoverError(f"{name}: a patch of format {header[_KEY]!r:.20}, this version reads format {FORMAT}; export it again")
    classes, shape, count = header.get("classes"), header.get("shape"), header.get("count", len(numbered) - 1)
    if not (_are(classes, str) and _are(shape, int) and len(shape) in (0, 2, 3) and all(0 < side < 2**15 for side in shape)):
        raise TurnoverError(f"{name}: the first line does not say which classes there are and what images look like; export it again")
    if count != len(numbered) - 1:
        raise TurnoverError(
            f"{name}: {len(numbered) - 1:,} decisions where the first line promises {count!r:.20}; the file was cut off or edited, get it again"
        )
    lines, refused = [], []
    for number, line in numbered[1:]:
        try:
            lines.append(_checked(number, _object(line), classes))
        except TurnoverError as error:
            refused.append(Refused(number, str(error)))
    return Patch(str(header.get("fingerprint", "")), str(header.get("run", ""))[:200], tuple(classes), tuple(shape), tuple(lines), tuple(refused))


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _are(values: Any, kind: type) -> TypeGuard[list[Any]]:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _checked(number: int, said: Mapping[str, Any] | None, classes: list[str]) -> Line:
    """A line of a patch.

    Raises:
        TurnoverError: if it cannot be used.
    """
    names = ("id", "sha256", "label", "action", "new_label", "note", "by", "at")
    if said is None or not all(isinstance(said.get(name), str) for name in names):
        raise TurnoverError(f"not a decision; it needs {', '.join(names)} as strings")
    if not _HASH.fullmatch(said["sha256"]):
        raise TurnoverError("sha256 is not 64 hexadecimal digits")
    check_verdict(said["action"][:20], said["new_label"])
    for name in filter(None, (said["label"], said["new_label"])):
        if name not in classes:
            raise TurnoverError(f"the label {name!r:.80} is not one of the classes")
    if said["label"] == said["new_label"]:
        raise TurnoverError(f"the new label {said['new_label']!r:.80} is the one it has")
    by = clean_name(said["by"])
    if not by:
        raise TurnoverError("nobody is named as the one who decided")
    flag = Flag(-1, said["action"], said["new_label"], clean_note(said["note"]), by, _time(said["at"]))
    return Line(number, said["id"], said["sha256"], said["label"], flag)


def _time(text: str) -> str:
    """A time in UTC as flags have it."""
    try:
        time = datetime.fromisoformat(text[:40]).astimezone(UTC)
    except (ValueError, OverflowError):
        raise TurnoverError(f"{text!r:.50} is no time") from None
    if time > datetime.now(UTC) + _AHEAD:
        raise TurnoverError(f"it was made in the future ({text:.40}); check the clock of the one who decided")
    return time.isoformat()
