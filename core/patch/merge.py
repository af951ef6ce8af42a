"""A colleague's patch into the flags of a run: added with their names and times, nothing overwritten."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from turnover.data.tables import unreadable
from turnover.errors import TurnoverError
from turnover.flags import Flag, Flags
from turnover.patch.content import data_fingerprint, item_hash
from turnover.patch.form import MAX_BYTES, Line, Patch, Refused, read_patch
from turnover.runs import Run


def patch_file(path: Path) -> Patch:
    """The patch in a file.

    Raises:
        TurnoverError: if the file cannot be read, or is no patch.
    """
    try:
        with path.open("rb") as file:
            return read_patch(file.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        raise unreadable(path, error) from None


def merge_patch(run: Run, flags: Flags, patch: Patch) -> dict[str, Any]:
    """Add the decisions of a patch to `flags` of the run.

    Returns:
        What `turnover import-flags --json` prints: new, conflicting (of the new ones), known, and refused: line and why.

    Raises:
        TurnoverError: if the patch was made on other data, or the flags cannot be written.
    """
    if patch.fingerprint != data_fingerprint(run) or list(patch.classes) != run.classes:
        raise TurnoverError(f"the patch was made on other data than {run.name} was trained on, by the run {patch.run!r:.80}; import it into a run on its data")
    places = {str(name): position for position, name in enumerate(run.train["id"])}
    fitting, refused = [], list(patch.refused)
    for line in patch.lines:
        try:
            fitting.append(_placed(run, places, line))
        except TurnoverError as error:
            refused.append(Refused(line.number, str(error)))
    merged = flags.merge(fitting)
    return {**asdict(merged), "refused": [{"line": one.number, "why": one.why} for one in sorted(refused, key=lambda one: one.number)]}


def _placed(run: Run, places: dict[str, int], line: Line) -> Flag:
    """The flag of a line on the item that it means.

    Raises:
        TurnoverError: if the run has no such item, or it is another one here.
    """
    position = places.get(line.id)
    if position is None:
        raise TurnoverError(f"no training item has the id {line.id!r:.80}")
    if item_hash(run, position) != line.sha256:
        raise TurnoverError(f"{line.id!r:.80} has another {run.kind} here")
    label = run.classes[int(run.train["label"].loc[position])]
    if label != line.label:
        raise TurnoverError(f"{line.id!r:.80} has the label {label!r:.80} here, not {line.label!r:.80}")
    return replace(line.flag, instance=position)
