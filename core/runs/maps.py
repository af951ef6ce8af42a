"""Positions of a run's items on the Map page, by UMAP (McInnes et al. 2018).

`turnover map` computes them and keeps them as RUN/maps/BY-SUM.npz. SUM is a checksum of the numbers
that they were computed from, so positions of other features or influences are never mistaken for
these. `umap-learn` is an optional package, imported by `make_places` only.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from turnover.errors import TurnoverError
from turnover.runs.run import Run, RunInfluence
from turnover.storage.artifacts import read_arrays, write_arrays
from turnover.storage.progress import bar
from turnover.storage.schema import Facts, check_array, readable, require

FEATURES, INFLUENCES = "features", "influences"
BY = (FEATURES, INFLUENCES)
INSTALL = "pip install umap-learn"
NEIGHBOURS = 15
_TARGETS, _LEAST, _DIGITS = 200, 4, 16


def map_rows(run: Run, by: str) -> np.ndarray:
    """The rows that a map is made from: all items' features, or the training items' influences on
    the truth of validation items, a sample where there are many.

    Raises:
        TurnoverError: if the run has no influences, or keeps only the ends of each ranking.
    """
    if by == FEATURES:
        return run.array("features")
    estimates = _influence(run).array("truth_estimate")
    chosen = np.sort(np.random.default_rng(0).permutation(len(estimates))[:_TARGETS])
    return np.ascontiguousarray(estimates[chosen].T)


def has_umap() -> bool:
    """Whether UMAP is installed; looks without importing it."""
    return find_spec("umap") is not None


def kept_places(run: Run, by: str) -> np.ndarray | None:
    """The places `(n, 2)` that UMAP gave the rows of `map_rows`; None if not computed yet.

    Raises:
        TurnoverError: as `map_rows`, or if the file is damaged.
    """
    path, count = _path(run, by), len(run.items if by == FEATURES else run.train)
    if not path.is_file():
        return None
    remedy = f"make it again with `turnover map --run {run.folder} --by {by}`"
    with readable(path, remedy):
        return _checked(read_arrays(path, Facts, remedy)[0]["places"], count)


def make_places(run: Run, by: str) -> Path:
    """Compute places by UMAP, deterministically, and keep them; returns the file.

    Raises:
        TurnoverError: as `map_rows`; if UMAP is not installed, fails, or has too few items; if the
            disk is full.
    """
    rows, path = map_rows(run, by), _path(run, by)
    if len(rows) < _LEAST:
        raise TurnoverError(
            f"{run.folder}: {len(rows)} items are too few for UMAP, which needs {_LEAST}"
        )
    if not has_umap():
        raise TurnoverError(f"UMAP is not installed; get it with `{INSTALL}`")
    with bar(1, "UMAP", "map") as advance:
        places = _places(np.asarray(rows, np.float32))
        advance(1)
    with readable(path, "update umap-learn"):
        places = _checked(places, len(rows))
    return write_arrays(path, {"places": places}, {})


def _places(rows: np.ndarray) -> np.ndarray:
    try:
        from umap import UMAP

        umap = UMAP(n_neighbors=min(NEIGHBOURS, len(rows) - 1), random_state=0, n_jobs=1)
        return np.asarray(umap.fit_transform(rows), np.float32)
    except (ImportError, AttributeError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise TurnoverError(
            f"UMAP failed ({' '.join(str(error).split())[:200]}); choose principal components"
        ) from None


def _checked(places: np.ndarray, count: int) -> np.ndarray:
    check_array(places, count, 2)
    require(np.isfinite(places).all(), "places")
    return places


def _influence(run: Run) -> RunInfluence:
    """The run's influence, if it holds all pairs."""
    part = run.influence
    if part.manifest["layout"] != "full":
        raise TurnoverError(
            f"{part.folder}: keeps only the ends of each ranking, so training items cannot be "
            "compared by all their influences; choose features"
        )
    return part


def _path(run: Run, by: str) -> Path:
    """Where places are kept; the name holds a checksum of their source."""
    if by == FEATURES:
        source = run.manifest["files"]["features.npy"]
    else:
        source = _influence(run).manifest["files"]["truth_estimate.npy"]
    return run.folder / "maps" / f"{by}-{source['sha256'][:_DIGITS]}.npz"
