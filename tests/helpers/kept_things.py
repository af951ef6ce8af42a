"""What is kept with a run, in a table: how each thing is kept and read, and what becomes of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnover import Run, TurnoverError
from turnover.attribution.estimators.estimator import Estimator
from turnover.research.evaluate.results import Figure, ResultRow, keep_result, read_results
from turnover.runs import maps
from turnover.runs.maps import FEATURES, INFLUENCES, kept_places, make_places
from turnover.storage.artifacts import Artifacts
from turnover.storage.atomic import disk_error
from turnover.storage.lock import alone
from turnover.workflows.cleansing import CONDITIONS, Retrained, summarise
from turnover.workflows.cleansing_results import (
    Scores,
    has_scores,
    keep_cleansing,
    keep_scores,
    read_cleansings,
    run_scores,
)
from turnover.workflows.influence_chunks import ChunkFiles, Chunking

ROWS = (
    ResultRow(
        "turn-over, as shown", 1.5, 0.25, {"LDS": Figure(0.5, 0.4, 0.6), "placebo": Figure(0.01)}
    ),
    ResultRow("another", 0.0, 0.0, note="refused: no"),
)


def a_measure(measure: str = "lds", **facts: Any) -> dict[str, Any]:
    """What `evaluate --json` prints."""
    return {"run": "x", "measure": measure, **facts, "rows": [asdict(row) for row in ROWS]}


def a_cleansing(seeds: int = 2, removed: int = 6) -> dict[str, Any]:
    """What `cleanse --json` prints of so many seeds."""
    models = [
        Retrained(name, seed, 0.5, 0.5 + 0.1 * seed, 0.5)
        for seed in range(seeds)
        for name in CONDITIONS
    ]
    told: dict[str, Any] = {"validation": "validation", "fraction": 0.1, "flags": None}
    told |= {"removed": removed, "repeats": seeds, "targets": 9, "measured_on": 9}
    told |= {"conditions": [asdict(one) for one in summarise(models)], "removed_ids": []}
    return told | {"models": [asdict(one) for one in models]}


# What is kept: each thing in versions 1, 2, …


def the_only(found: list[Any], problems: Any) -> Any:
    """What was found, or None; a damaged or stale one is raised."""
    if problems:
        raise TurnoverError(problems[0])
    if found and found[0].stale:
        raise TurnoverError(found[0].stale)
    return found[0] if found else None


def read_measure(run: Run) -> int | None:
    results = read_results(run)
    one = the_only([one for one in results.found if one.name == "lds"], results.problems)
    assert one is None or one.rows == ROWS
    return one and one.facts["halves"]


def read_cleansing(run: Run) -> int | None:
    found, problems = read_cleansings(run)
    one = the_only([one for one in found if one.facts["fraction"] == 0.1], problems)
    expected = [{**asdict(summary)} for summary in one.conditions] if one else []
    assert json.loads(json.dumps(expected)) == (
        json.loads(json.dumps(a_cleansing()["conditions"])) if one else []
    )
    return one and one.facts["removed"]


def keep_elec(run: Run, version: int) -> Path:
    members = np.full((4, 30), version, np.float32)
    return keep_scores(run, "elec", Scores(members, None, Estimator("raw", {}), version, "<b>"))


def read_elec(run: Run) -> int | None:
    if not has_scores(run, "elec"):
        return None
    scores = run_scores(run, "elec")
    assert scores.path == "<b>" and (scores.members == scores.targets).all()
    return scores.targets


_patching = threading.Lock()
"""Two threads that put back what they found would leave what one of them had put there."""


def keep_map(by: str) -> Callable[[Run, int], Path]:
    def keep(run: Run, version: int) -> Path:
        maps_of = lambda rows: np.full((len(rows), 2), version, np.float32)  # noqa: E731
        with _patching, pytest.MonkeyPatch.context() as patch:
            patch.setattr(maps, "find_spec", lambda _: object())
            patch.setattr(maps, "_places", maps_of)
            return make_places(run, by)

    return keep


def read_map(by: str) -> Callable[[Run], int | None]:
    def read(run: Run) -> int | None:
        places = kept_places(run, by)
        assert places is None or places.shape == (54 if by == FEATURES else 30, 2)
        return None if places is None else int(places[0, 0])

    return read


def keep_array(run: Run, version: int) -> Path:
    """Under a name of its own: what is in a store is never written again."""
    store = Artifacts(run.folder, run.weights_hash, "part", {"seeds": 3})
    with store.filling():
        store.keep(f"v{version}", np.full(9, version, np.float32), seconds=version)
    return store.folder / f"v{version}.npy"


def read_array(run: Run) -> int | None:
    store = Artifacts(run.folder, run.weights_hash, "part", {"seeds": 3})
    newest = max((version for version in range(4) if f"v{version}" in store), default=None)
    if newest is not None:
        array, facts = store.load(f"v{newest}")
        assert array.dtype == np.float32 and (array == newest).all() and facts["seconds"] == newest
    return newest


def parts_of(run: Run) -> ChunkFiles:
    return ChunkFiles(run.folder / ".influence.partial", {"run": run.manifest["files"]})


def keep_part(run: Run, version: int) -> Path:
    """As `compute_influence` does."""
    parts = parts_of(run)
    with alone(run.folder / ".influence.lock", "at work", wait=True):
        try:
            if parts.chunking is None:
                parts.begin(Chunking(1, 1, 1))
        except OSError as error:
            raise disk_error(parts.folder, error) from None
        parts.save("targets-0", {"values": np.full(500, version)})
    return parts.folder / "targets-0.npz"


def read_part(run: Run) -> int | None:
    parts = parts_of(run)
    if not parts.has("targets-0"):
        return None
    assert parts.chunking is not None
    return int(parts.load("targets-0")["values"][0])


AGAIN, ANEW = "The run was trained again since this was", "The influences were computed again since"
GONE, SAME, ABSENT = "cannot be read any more", "same", "absent"


@dataclass(frozen=True)
class Kept:
    """How a thing is kept and read, the folder it lies in, and what becomes of it.

    `damaged` is what is said of damage, "" where the thing goes and is computed again; the others
    say what becomes of it when the run has other weights, other influences, none, other features.
    """

    keep: Callable[[Run, int], Path]
    read: Callable[[Run], int | None]
    folder: str
    damaged: str
    weights: str = AGAIN
    influences: str = ANEW
    none: str = GONE
    features: str = SAME


KEPT = {
    "measure": Kept(
        lambda run, version: keep_result(run, a_measure(halves=version)),
        read_measure,
        "fidelity",
        "not readable as a result; measure again with `turnover evaluate --run .* lds`$",
    ),
    "cleansing": Kept(
        lambda run, version: keep_cleansing(run, a_cleansing(removed=version)),
        read_cleansing,
        "cleansing",
        "not readable as a cleansing; delete it, and retrain again$",
    ),
    "models so far": Kept(
        lambda run, version: keep_cleansing(run, a_cleansing(removed=version), finished=False),
        read_cleansing,
        "cleansing",
        "not readable as a cleansing; delete it, and retrain again$",
    ),
    "scores": Kept(
        keep_elec, read_elec, "cleansing", "not readable as scores; compute them again$"
    ),
    "map of features": Kept(
        keep_map(FEATURES),
        read_map(FEATURES),
        "maps",
        "; make it again with `turnover map --run .* --by features`$",
        *(SAME, SAME, SAME, ABSENT),
    ),
    "map of influences": Kept(
        keep_map(INFLUENCES),
        read_map(INFLUENCES),
        "maps",
        "; make it again with `turnover map --run .* --by influences`$",
        *("made for another run's weights", ABSENT, "no influence yet"),
    ),
    "array": Kept(
        keep_array,
        read_array,
        "fidelity",
        "; delete .*, and it is computed again$",
        *(ABSENT, SAME, SAME),
    ),
    "part": Kept(keep_part, read_part, "", "", *(ABSENT, SAME, SAME, ABSENT)),
}
