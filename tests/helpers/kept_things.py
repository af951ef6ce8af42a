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
from turnover.attribution.estimators.basis import Basis
from turnover.attribution.estimators.estimator import Estimator
from turnover.attribution.estimators.shrinkage import Shrinkage
from turnover.explain.causes import Causes, keep_causes, kept_causes
from turnover.explain.cues import SharedPart
from turnover.explain.doubt import Doubt, Unseen
from turnover.explain.effects import Effect, Effects, keep_effects, kept_effects
from turnover.explain.reasons import Cause
from turnover.research.evaluate.results import Figure, ResultRow, keep_result, read_results
from turnover.runs import maps
from turnover.runs.maps import FEATURES, INFLUENCES, kept_places, make_places
from turnover.runs.proofs import Proof, keep_proof, read_proofs
from turnover.runs.ranking import estimator_parts
from turnover.storage.artifacts import Parts
from turnover.workflows.cleansing import CONDITIONS, Retrained, summarise
from turnover.workflows.cleansing_results import (
    Scores,
    has_scores,
    keep_cleansing,
    keep_scores,
    read_cleansings,
    run_scores,
)
from turnover.workflows.influence_chunks import load_estimator, save_estimator

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


def store_of(run: Run) -> Parts:
    """As `evaluate` keeps what took long."""
    return Parts(run.folder / "fidelity" / "part", {"run": run.weights_hash, "seeds": 3})


def parts_of(run: Run) -> Parts:
    """As `influence` keeps what is computed so far."""
    return Parts(run.folder / ".influence.partial", {"run": run.manifest["files"]})


def keep_part(parts: Callable[[Run], Parts]) -> Callable[[Run, int], Path]:
    def keep(run: Run, version: int) -> Path:
        store = parts(run)
        with store.filling():
            store.save("part", {"values": np.full(500, version, np.float32)}, seconds=version)
        return store.folder / "part.npz"

    return keep


def read_part(parts: Callable[[Run], Parts]) -> Callable[[Run], int | None]:
    def read(run: Run) -> int | None:
        if "part" not in parts(run):
            return None
        arrays, facts = parts(run).load("part")
        assert list(arrays) == ["values"] and arrays["values"].dtype == np.float32
        assert list(facts) == ["seconds"] and (arrays["values"] == facts["seconds"]).all()
        return int(facts["seconds"])

    return read


def some_estimator(version: int) -> Estimator:
    numbers = np.full(2, version, np.float32)
    shrinkage = Shrinkage(-1.0, 0.5, -2.0, 0.5, 0.25, 0.125, numbers, 0.75, version)
    basis = Basis(np.full((30, 2), version), numbers, np.ones((10, 2)))
    return Estimator("best", {"best": version}, np.full(30, version), basis, shrinkage)


def keep_estimator(run: Run, version: int) -> Path:
    """Beside the parts of an influence."""
    save_estimator(parts_of(run), some_estimator(version), {"path": "mask algebra"})
    return parts_of(run).folder / "estimator.npz"


def read_estimator(run: Run) -> int | None:
    stored = load_estimator(parts_of(run))
    if stored is None:
        return None
    estimator, facts = stored
    version = int(estimator.agreement["best"])
    arrays, expected = (estimator_parts(one) for one in (estimator, some_estimator(version)))
    assert facts == {**expected[1], "path": "mask algebra"} and arrays[1] == expected[1]
    assert arrays[0].keys() == expected[0].keys() and all(
        (arrays[0][name] == array).all() for name, array in expected[0].items()
    )
    return version


def some_effects(run: Run, version: int) -> Effects:
    """Of the first two errors: a pair of words, and nothing."""
    chance = float(np.float32(1 / (1 + version)))
    first, second = run.misclassified_positions[:2]
    part = SharedPart(("silly", "boat"), None, 7, 3, 20, version, 0.25)
    effects = {first: (Effect(part, chance),), second: ()}
    labels = np.arange(len(run.train)) % 2
    chances = np.full(len(run.train), 0.5, np.float32)
    return Effects(effects, Unseen(labels, chances, chances))


def read_effects(run: Run) -> int | None:
    kept = kept_effects(run)
    if kept is None:
        return None
    (only,) = kept.by_error[run.misclassified_positions[0]]
    version = round(1 / only.probability) - 1
    expected = some_effects(run, version)
    assert kept.by_error == expected.by_error
    for name, values in vars(expected.unseen).items():
        assert (getattr(kept.unseen, name) == values).all()
    return version


def some_causes(version: int) -> Causes:
    doubt = Doubt("<b>", 0.5)
    first = Cause(0, "cue", "<b>", "“x”", ("x",), (), 0.25, doubt, (1, 2), True)
    second = Cause(3, "cue", "<b>", "region", (), (version,))
    return Causes((first, second), {7: doubt}, "without")


def read_causes(run: Run) -> int | None:
    kept = kept_causes(run)
    version = kept and kept.causes[1].regions[0]
    assert kept is None or kept == some_causes(kept.causes[1].regions[0])
    return version


def a_proof(gone: int = 3) -> Proof:
    """A proof that is confirmed; of four models that made the mistake, so many no longer do."""
    losses = {"whole": (0.4,) * 5, "without": (2.0,) * 5, "random": (0.5,) * 5}
    interval = {"difference": 1.5, "low": 1.2, "high": 1.8}
    told = {"error": 0, "items": (1, 2), "claim": "the 2 boats", "why": "<b>", "made": 4}
    return Proof(**told, **losses, **interval, gone=gone, predicted=8.0, seconds=2.5)


def read_proof(run: Run) -> int | None:
    found, problems = read_proofs(run)
    if problems:
        raise TurnoverError(problems[0])
    assert found in ([], [a_proof(one.gone) for one in found])
    return found[0].gone if found else None


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
        "; measure again with `turnover evaluate --run .* lds`$",
    ),
    "cleansing": Kept(
        lambda run, version: keep_cleansing(run, a_cleansing(removed=version)),
        read_cleansing,
        "cleansing",
        "; delete it, and retrain again$",
    ),
    "models so far": Kept(
        lambda run, version: keep_cleansing(run, a_cleansing(removed=version), finished=False),
        read_cleansing,
        "cleansing",
        "; delete it, and retrain again$",
    ),
    "scores": Kept(keep_elec, read_elec, "cleansing", "; compute them again$"),
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
    "effects": Kept(
        lambda run, version: keep_effects(run, some_effects(run, version)),
        read_effects,
        "causes",
        "; compute it again with `turnover influence --run .*`$",
        *("made for another run's weights", ABSENT, "no influence yet"),
    ),
    "causes": Kept(
        lambda run, version: keep_causes(run, some_causes(version)),
        read_causes,
        "causes",
        "; delete it, or compute it again with `turnover influence --run .*`$",
        *("made for another run's weights", ABSENT, "no influence yet"),
    ),
    "proof": Kept(
        lambda run, version: keep_proof(run, a_proof(version)),
        read_proof,
        "proofs",
        "; delete it, and prove it again$",
        *(ABSENT, ABSENT, ABSENT),
    ),
    "part of a measure": Kept(
        keep_part(store_of), read_part(store_of), "fidelity", "", *(ABSENT, SAME, SAME)
    ),
    "part of an influence": Kept(
        keep_part(parts_of), read_part(parts_of), "", "", *(ABSENT, SAME, SAME, ABSENT)
    ),
    "estimator": Kept(keep_estimator, read_estimator, "", "", *(ABSENT, SAME, SAME, ABSENT)),
}
