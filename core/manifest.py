"""The manifest of a part of a run: facts, a format number, and size and checksum of each file; written last, checked first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from turnover.atomic import disk_error, write_atomic
from turnover.errors import TurnoverError

FORMAT = 1
MANIFEST = "manifest.json"
_READ = 2**20


def sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ):
            digest.update(piece)
    return digest.hexdigest()


def write_manifest(folder: Path, facts: dict[str, Any], files: Sequence[str]) -> None:
    """Write a part's manifest: the facts, the format number, and size and checksum of each file."""
    listed = {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in files}
    text = json.dumps({"format": FORMAT, **facts, "files": listed}, indent=1, ensure_ascii=False)
    write_atomic(folder / MANIFEST, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_manifest(folder: Path, remedy: str, needed: Sequence[str] = ()) -> dict[str, Any]:
    """A part's manifest, if it has the `needed` facts and all its files are as it says.

    Raises:
        TurnoverError: for a manifest that is missing, foreign or of another format, and for a file that is missing,
            truncated or edited; the text names the file and ends with `remedy`.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format"]
        listed = dict(manifest["files"]) if version == FORMAT else {}
        files = {str(name): (int(facts["bytes"]), str(facts["sha256"])) for name, facts in listed.items()}
    except FileNotFoundError:
        raise TurnoverError(f"{folder}: no {MANIFEST}, so this is not a run; {remedy}") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise TurnoverError(f"{path}: not a Turnover manifest; {remedy}") from None
    except OSError as error:
        raise disk_error(path, error) from None
    if version != FORMAT:
        newer = "update Turnover, or " if isinstance(version, int) and version > FORMAT else ""
        raise TurnoverError(f"{path}: format {version!s:.20}, this version reads format {FORMAT}; {newer}{remedy}")
    missing = [name for name in needed if name not in manifest]
    if missing:
        raise TurnoverError(f"{path}: says nothing of {missing[0]!r}, so it is not whole; {remedy}")
    for name, (length, checksum) in files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise TurnoverError(f"{file}: missing; {remedy}")
        size = file.stat().st_size
        if size != length:
            raise TurnoverError(f"{file}: truncated or edited ({size:,} bytes instead of {length:,}); {remedy}")
        if sha256(file) != checksum:
            raise TurnoverError(f"{file}: its contents were changed after it was written; {remedy}")
    return dict(manifest)
