"""Files that a browser sends for a training: kept in the folder of runs, since the training, and
later the flags on its items, read them where they are.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import zipfile
from io import BytesIO
from pathlib import Path

from turnover.data.tables.formats import ENDINGS
from turnover.errors import TurnoverError
from turnover.storage.atomic import disk_error, replace_folder, write_atomic

FOLDER, ZIP = ".uploads", ".zip"
MOST_MEGABYTES = 200
TYPES = [ending.removeprefix(".") for ending in (*ENDINGS, ZIP)]
_UNPACKED = 4 * MOST_MEGABYTES * 2**20
_FILES = 200_000


def keep_upload(runs: Path, name: str, content: bytes) -> Path:
    """Keep a file, or the folder that a zip file holds; the same content is kept once.

    Raises:
        TurnoverError: if it has another ending, is no zip file, too large, or the disk is full.
    """
    path = Path(re.sub(r"[^\w.-]+", "-", Path(name).name).lstrip(".-")[-80:] or "data")
    ending = path.suffix.lower()
    if ending not in (*ENDINGS, ZIP):
        raise TurnoverError(
            f"{path}: upload a file that ends with {', '.join((*ENDINGS, ZIP))} (a zip holds one "
            "folder of images a class)"
        )
    folder = runs / FOLDER / hashlib.sha256(content).hexdigest()[:12]
    kept = folder / (path.stem if ending == ZIP else path.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if kept.exists():
            return kept
        if ending == ZIP:
            _unpack(content, kept)
        else:
            write_atomic(kept, lambda beside: beside.write_bytes(content))
    except OSError as error:
        raise disk_error(kept, error) from None
    return kept


def find_uploads(runs: Path) -> list[Path]:
    """What was uploaded, the latest first."""
    found = [path for path in (runs / FOLDER).glob("*/[!.]*") if not path.is_symlink()]
    return sorted(found, key=lambda path: -path.stat().st_mtime)


def _unpack(content: bytes, folder: Path) -> None:
    """The files of a zip file, into a folder that is whole or absent; of one folder that holds all
    others, what is in it.
    """
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with zipfile.ZipFile(BytesIO(content)) as packed:
            entries = [entry for entry in packed.infolist() if not _is_odd(entry)]
            size = sum(entry.file_size for entry in entries)
            if size > _UNPACKED or len(entries) > _FILES:
                raise TurnoverError(
                    f"{folder.name}.zip: {len(entries):,} files of {size / 2**20:,.0f} MB are too "
                    "many; put the folder on this machine and name its path"
                )
            packed.extractall(beside, entries)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise TurnoverError(
            f"{folder.name}.zip: cannot be unpacked ({error}); pack it again"
        ) from None
    inner = [path for path in beside.iterdir() if path.is_dir()] if beside.is_dir() else []
    only = len(inner) == 1 and any(path.is_dir() for path in inner[0].iterdir())
    replace_folder(inner[0] if only else beside, folder)
    shutil.rmtree(beside, ignore_errors=True)


def _is_odd(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is a link, or what a Mac adds to a zip file."""
    return stat.S_ISLNK(entry.external_attr >> 16) or entry.filename.startswith("__MACOSX")
