"""Checks of files, names, columns and texts; errors name file, row and remedy."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from turnover.errors import TurnoverError
from turnover.storage.atomic import looked_at

MAX_CHARACTERS = 20_000
"""A longer text is rejected: encoders read some hundred words, so most of it would be ignored
silently.
"""


def unreadable(path: Path, error: OSError) -> TurnoverError:
    """The error for a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return TurnoverError(f"{path}: no such file; check the path")
    return TurnoverError(
        f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
    )


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        TurnoverError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def utf8(content: bytes, name: object) -> str:
    """A file's text.

    Raises:
        TurnoverError: if it is not UTF-8; the text names the first line that is not.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TurnoverError(
            f"{name}, line {line}: not UTF-8 text; save the file as UTF-8"
        ) from None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without blanks around them. Errors as `read_bytes`, `utf8`."""
    text = utf8(read_bytes(path), path).removeprefix("\ufeff")
    return [line.strip() for line in text.splitlines()]


def not_utf8(path: Path) -> TurnoverError:
    """The error for a file whose text is not UTF-8, with the first such line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return TurnoverError(
                    f"{path}, line {number}: not UTF-8 text (byte {line[error.start]:#04x}); save "
                    "the file as UTF-8"
                )
    return TurnoverError(f"{path}: not UTF-8 text; save the file as UTF-8")


def require_folder(folder: Path, what: str) -> None:
    """Check that `--path` names a folder.

    Raises:
        TurnoverError: if it does not; the text asks for the folder with `what`.
    """
    if not looked_at(folder).is_dir():
        raise TurnoverError(f"{folder}: no such folder; --path names the folder with {what}")


def first_of(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of these files that exists in a folder.

    Raises:
        TurnoverError: if none is.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    missing = f"no {names[0]} is" if len(names) == 1 else f"none of {', '.join(names)} is"
    raise TurnoverError(
        f"{folder}: {missing} there; put {'it' if len(names) == 1 else 'one of them'} into the "
        "folder"
    )


def read_class_names(path: Path, count: int | None = None) -> tuple[str, ...]:
    """Names of `count` classes, or of any number, one per line, in order of their numbers; blank
    lines are skipped.

    Raises:
        TurnoverError: for a file that cannot be read, another number of names, or a name that
            occurs twice.
    """
    names = [(number, line) for number, line in enumerate(read_lines(path), start=1) if line]
    if len(names) != (count or max(2, len(names))):
        raise TurnoverError(
            f"{path}: {len(names)} class names instead of {count or '2 or more'}; write one a line"
        )
    return tuple(check_names(path, "line", names))


def check_names(path: Path, unit: str, names: list[tuple[int, str]]) -> list[str]:
    """Class names, each with the number of its line or row in a file.

    Raises:
        TurnoverError: for a name that is blank or occurs twice.
    """
    seen: set[str] = set()
    for number, name in names:
        if not name.strip():
            raise TurnoverError(f"{path}, {unit} {number}: the class name is empty; write one")
        if name in seen:
            raise TurnoverError(
                f"{path}, {unit} {number}: the class name {name!r} occurs twice; make names unique"
            )
        seen.add(name)
    return [name for _, name in names]


def check_column(
    column: str,
    columns: Collection[object],
    where: object,
    remedy: str = "rename or add it",
    nested: Iterable[object] = (),
) -> None:
    """Check that a table has a column among those that can be used.

    Raises:
        TurnoverError: if it does not; the text lists its columns.
    """
    if column not in columns:
        raise TurnoverError(
            f"{where}: no column {column!r} (there are: {listed(columns, nested)}); {remedy}"
        )


def listed(columns: Iterable[object], nested: Iterable[object] = ()) -> str:
    """The names of a table's columns, of many the first ones, for an error: in quotes where blanks
    are part of a name, and then those that hold lists or objects.
    """
    names = [
        f"{name:.40}" if name == name.strip() else f"{name!r:.40}"
        for name in map(str, list(columns)[:20])
    ]
    return ", ".join([*names, *(f"{name!s:.40} (nested)" for name in nested)]) or "none"


def check_text(text: str, where: str) -> str:
    """The text itself, if it can be used.

    Raises:
        TurnoverError: if it is blank or longer than `MAX_CHARACTERS`.
    """
    if not text.strip():
        raise TurnoverError(f"{where}: the text is empty; write one or remove the row")
    if len(text) > MAX_CHARACTERS:
        raise TurnoverError(
            f"{where}: the text has {len(text):,} characters, the limit is {MAX_CHARACTERS:,}; "
            "shorten it"
        )
    return text
