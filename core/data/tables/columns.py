"""Which columns are used: as the user names them, or inferred from names and contents.

Texts are never inferred from links, paths, numbers or ids: of the columns that read like texts, one
with a usual name comes first, then one with such a word in its name, then the longest.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from turnover.data.images import IMAGE_ENDINGS
from turnover.data.tables.cells import (
    filled,
    holds_images,
    image_paths,
    is_link,
    is_path,
    mean_length,
    reads_like_text,
    share,
)
from turnover.data.tables.checks import check_column, listed
from turnover.data.tables.labels import label_name
from turnover.data.tables.records import CSV, TSV
from turnover.data.tables.spec import OwnData
from turnover.data.tables.table import Table
from turnover.errors import TurnoverError

TEXTS = (
    "text",
    "sentence",
    "review",
    "content",
    "comment",
    "message",
    "body",
    "document",
    "question",
    "headline",
    "title",
)
LABELS = ("label", "labels", "class", "target", "sentiment", "category", "topic", "intent", "y")
IMAGES = ("image", "img", "picture", "bytes", "path", "file_name", "filename", "file")
IDS = ("id", "index", "idx", "uid", "guid", "item_id", "", "unnamed: 0", "__index_level_0__")
_TEXT_WORD = re.compile(rf"({'|'.join(TEXTS)})(?!er)")
"""A word of `TEXTS` in a name; `reviewer` and `commenter` are none."""
_ABOUT_TEXT = re.compile(
    r"(?<![a-z])(author|by|category|date|label|language|name|source|type|user)"
)
"""A word in a name that says what is known of a text, such as `review_author`."""


@dataclass(frozen=True)
class Columns:
    """The columns that are used, with notes on how they were chosen; `id` is None where rows are
    numbered.
    """

    kind: str
    content: str
    label: str
    id: str | None
    notes: tuple[str, ...]


def named_like(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """The column with the first of these names, ignoring case."""
    by_name = {column.strip().lower(): column for column in reversed(list(columns))}
    return next((by_name[name] for name in names if name in by_name), None)


def find_columns(table: Table, spec: OwnData) -> Columns:
    """The columns of a table.

    Raises:
        TurnoverError: if a named column does not exist, or a needed one cannot be inferred.
    """
    _check_named(table, spec)
    if table.places:
        return Columns("image", "image", "label", "id", ())
    label = spec.label_column or named_like(
        (name for name in table.columns if name not in table.binary), LABELS
    )
    if not table.columns and table.nested:
        raise _nested(table, table.nested)
    if label is None and (nested := named_like(table.nested, LABELS)):
        raise _nested(table, [nested])
    kind, content = _content(table, spec, label)
    if label is None:
        label = _only_candidate(table, content, spec.id_column)
        _check_header(table, [label] if label else [*table.columns])
    if label is None:
        raise TurnoverError(
            f"{table.name}: which column holds the labels? (there are: "
            f"{listed(table.columns, table.nested)}); name it with --label-column"
        )
    if kind == "text" and not spec.text_column:
        _check_alone(table, content, label)
    if label == content:
        raise TurnoverError(
            f"{table.name}: the column {label!r} cannot hold both the labels and the {kind}s; name "
            f"them with --label-column, --{kind}-column"
        )
    name = spec.id_column or _infer_id(table, {label, content})
    notes = [_note("id", name, spec.id_column)] if name else []
    if name is None and (seen := named_like(table.columns, IDS)) and seen not in (label, content):
        notes = [f"rows are numbered, since column {seen} has no id of its own for each"]
    named = spec.text_column or spec.image_column
    notes = [_note(kind, content, named), _note("label", label, spec.label_column), *notes]
    guessed = any("(inferred)" in note for note in notes)
    remedy = "; where that is wrong, name the column" if guessed else ""
    return Columns(kind, content, label, name, (f"{table.name}: {', '.join(notes)}{remedy}",))


def infer_text_column(table: Table) -> str:
    """The column of a table, with or without labels, that holds texts; of one column, that.

    Raises:
        TurnoverError: if none can be inferred.
    """
    label = named_like(table.columns, LABELS) if len(table.columns) > 1 else None
    others = [name for name in table.columns if name != label]
    texts = [name for name in others if len(others) == 1 or _is_text(table, name)]
    column = _named_text(table, others) or max(
        texts, key=lambda name: mean_length(table.columns[name]), default=None
    )
    if column is None:
        raise TurnoverError(
            f"{table.name}: no column reads like texts (there are: "
            f"{listed(table.columns, table.nested)}); name one of them text"
        )
    return column


def _check_named(table: Table, spec: OwnData) -> None:
    """Check that the columns that the user names exist and have cells that can be used.

    Raises:
        TurnoverError: if one does not.
    """
    named = (spec.text_column, spec.image_column, spec.label_column, spec.id_column)
    for column in filter(None, named):
        if column in table.nested:
            raise _nested(table, [column])
        check_column(column, table.columns, table.name, "name one of these", table.nested)


_PAIRS = [
    {*words.split()}
    for words in (
        *("1 2", "a b", "one two", "first second", "left right", "premise hypothesis"),
        *("question answer", "question sentence", "question passage", "question context"),
        *("query passage", "query document", "query doc", "query answer", "query context"),
        *("query title", "query text", "question text", "claim evidence", "prompt response"),
        *("context response", "prompt completion", "source candidate", "reference candidate"),
    )
]
"""Words that tell the two columns of a pair apart, in names that are the same otherwise."""
_PART = re.compile(r"[^\W\d_]+|\d+")


def _check_alone(table: Table, content: str, label: str) -> None:
    """Check that the inferred texts are not one half of pairs, such as sentence1 and sentence2.

    Raises:
        TurnoverError: if they are.
    """
    mine = _PART.findall(content.lower())
    for other in table.columns:
        theirs = _PART.findall(other.lower())
        if other in (content, label) or not _has_phrases(table, other):
            continue
        apart = [{*words} for words in zip(mine, theirs, strict=False) if len({*words}) > 1]
        numbered = not apart and abs(len(mine) - len(theirs)) == 1 and "2" in (mine + theirs)
        if numbered or (len(mine) == len(theirs) and len(apart) == 1 and apart[0] in _PAIRS):
            raise TurnoverError(
                f"{table.name}: {content} and {other} look like pairs of texts, where a model "
                "reads one; write both into one column, or name one with --text-column"
            )


def _has_phrases(table: Table, column: str) -> bool:
    """Whether most cells of a column are of several words."""
    return share(table.columns[column], lambda cell: isinstance(cell, str) and " " in cell) > 0.5


def _nested(table: Table, columns: Iterable[str]) -> TurnoverError:
    kinds = ", ".join(f"column {name} ({table.nested[name]:.60})" for name in columns)
    return TurnoverError(
        f"{table.name}: nested, where a cell holds one text, label or image: {kinds}; write the "
        "parts you need into columns of their own, such as text and label"
    )


def _check_header(table: Table, columns: Sequence[str]) -> None:
    """Check that no column of a table with a header is called like one of its cells.

    Raises:
        TurnoverError: if one is, so that the first line seems to hold data.
    """
    for column in columns if Path(table.name).suffix.lower() in (CSV, TSV) else ():
        cells = table.columns[column] if column.strip() and column not in table.binary else ()
        row = next(
            (row for row, cell in enumerate(cells) if label_name(cell) == label_name(column)), None
        )
        if row is not None:
            raise TurnoverError(
                f"{table.name}: the name of a column, {column!r:.40}, is also in row {row + 1} "
                "below it, so the header seems to be missing; add a first line such as text,label, "
                "or name the column with --label-column"
            )


def _note(what: str, column: str, named: str | None) -> str:
    where = f"column {column}" if column.strip() else "the column without a name"
    return f"{what} from {where}{'' if named else ' (inferred)'}"


def _content(table: Table, spec: OwnData, label: str | None) -> tuple[str, str]:
    """`text` or `image`, and the column that holds them."""
    if spec.text_column:
        return "text", spec.text_column
    if spec.image_column:
        if spec.image_column not in table.binary:
            _check_paths(table, spec.image_column)
        return "image", spec.image_column
    pictures = [name for name in sorted(table.binary) if holds_images(table.columns[name])]
    if pictures:
        return "image", named_like(pictures, IMAGES) or pictures[0]
    others = [name for name in table.columns if name not in table.binary | {label, spec.id_column}]
    paths = [name for name in others if image_paths(table.columns[name])]
    leading = [name for name in paths if _lead_to_images(table, name)]
    usual = [name for name in leading if name.strip().lower() in IMAGES]
    text = _named_text(table, others)
    if usual or (leading and not text):
        return "image", (usual or leading)[0]
    if not text and paths:
        raise _leads_nowhere(table, paths[0])
    texts = {name: mean_length(table.columns[name]) for name in others if _is_text(table, name)}
    if text or texts:
        return "text", text or max(texts, key=texts.__getitem__)
    if table.binary:
        named = named_like(sorted(table.binary), IMAGES) or min(table.binary)
        raise TurnoverError(
            f"{table.name}, column {named}: bytes that are no image files; write texts as strings, "
            "or name another column with --text-column or --image-column"
        )
    for name in others:
        if share(table.columns[name], is_path) > 0.5 or name.strip().lower() in IMAGES:
            raise _leads_nowhere(table, name)
    raise TurnoverError(
        f"{table.name}: no column holds texts or images (there are: "
        f"{listed(table.columns, table.nested)}), and links, numbers and ids are not taken for "
        "them; name it with --text-column or --image-column"
    )


def _check_paths(table: Table, column: str) -> None:
    """Check that a column that the user names holds paths of images in the table's folder.

    Raises:
        TurnoverError: if it does not.
    """
    if share(table.columns[column], is_path) <= 0.5:
        raise TurnoverError(
            f"{table.name}, column {column}: neither image files nor paths of "
            f"{', '.join(IMAGE_ENDINGS)} files; name another"
        )
    if not _lead_to_images(table, column):
        raise _leads_nowhere(table, column)


def _leads_nowhere(table: Table, column: str) -> TurnoverError:
    first = next(filled(table.columns[column]), "")
    tried = (
        f"there is no such image file in {table.folder}; write paths from there, with / between "
        "folders and the end of the file's name"
        if table.folder
        else "paths in such a table are not followed; write the table as CSV beside the images"
    )
    return TurnoverError(
        f"{table.name}, column {column}: {first!r:.80} seems to name a file, and {tried}, or name "
        "another column with --text-column or --image-column"
    )


def _named_text(table: Table, columns: Sequence[str]) -> str | None:
    """The column whose name says that it holds texts, if there is one."""
    texts = [name for name in columns if _is_text(table, name)]
    like = [
        name
        for name in texts
        if _TEXT_WORD.search(name.lower()) and not _ABOUT_TEXT.search(name.lower())
    ]
    others = [name for name in columns if share(table.columns[name], is_link) <= 0.5]
    named = (
        named_like(texts, TEXTS)
        or max(like, key=lambda name: mean_length(table.columns[name]), default=None)
        or named_like(others, TEXTS)
    )
    if named is None and (nested := named_like(table.nested, TEXTS)):
        raise _nested(table, [nested])
    return named


def _is_text(table: Table, column: str) -> bool:
    """Whether a column may hold texts: most of its cells read like one, and its name is not one of
    ids or images.
    """
    return (
        column.strip().lower() not in (*IDS, *IMAGES)
        and share(table.columns[column], reads_like_text) > 0.5
    )


def _lead_to_images(table: Table, column: str) -> bool:
    """Whether a column holds paths of image files, one of which exists."""
    if table.folder is None:
        return False
    for cell in filled(table.columns[column]):
        with contextlib.suppress(OSError, ValueError):  # such as a name that is too long
            if isinstance(cell, str) and Path(table.folder, cell).is_file():
                return True
    return False


def _only_candidate(table: Table, content: str, id: str | None) -> str | None:
    """The column of the labels where only one column can be."""
    taken = table.binary | {content, id}
    others = [
        name for name in table.columns if name not in taken and name.strip().lower() not in IDS
    ]
    return others[0] if len(others) == 1 else None


def has_ids(table: Table, column: str) -> bool:
    """Whether a column exists and has a different id for each row."""
    cells = table.columns.get(column, ())
    ids = {str(cell) for cell in cells if isinstance(cell, str | int) and str(cell).strip()}
    return len(ids) == len(table)


def _infer_id(table: Table, taken: set[str]) -> str | None:
    """A column with an id for each row, inferred from its name and its cells."""
    column = named_like((name for name in table.columns if name not in table.binary), IDS)
    return column if column is not None and column not in taken and has_ids(table, column) else None
