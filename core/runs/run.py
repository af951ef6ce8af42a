"""A run folder, opened with checks: one trained model, its data, curves, weights and influences.

    RUN/manifest.json         settings, data fingerprint, versions, seeds, timings, device, results,
                              a checksum per file
        items.parquet         every item of both splits: split, id, label, text or image, planted
                              (the injected mark), predicted probabilities, and what the twin
                              without masks predicts (-1 where there is none)
        features.npy          what the heads see of every item, training items first, (items, D)
        curves.parquet        one row per epoch (Figure 2)
        item_losses.npy       (masked | flipped, epochs, training items), nats, mean over members
        weights.safetensors   the members
        influence/            manifest.json and arrays, see `INFLUENCE_FILES`; computed later,
                              replaced as a whole
        flags.sqlite          people's decisions (`turnover.flags`); not covered by the checksums

A part is a folder with a manifest, which lists every file with size and SHA-256. It is written to a
work directory and renamed into place, so it is complete or absent; an edited or truncated file is
rejected by name. Arrays are memory-mapped. Nothing here needs torch: pages open runs without it.

`made_with` and `stale_since` tell whether a measurement still applies to a run, by checksums of
the weights and influences that it was made with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from turnover.attribution.estimators import SCORES, SHOWN
from turnover.data.images import png_pixels
from turnover.errors import TurnoverError
from turnover.storage.artifacts import MANIFEST, fingerprint, read_manifest
from turnover.storage.atomic import looked_at
from turnover.storage.schema import (
    InfluenceManifest,
    RunManifest,
    check_array,
    check_curves,
    check_influence,
    check_items,
    first_link,
    readable,
)

PREDICTION, TRUTH = "prediction", "truth"
RUN_FILES = (
    "items.parquet",
    "features.npy",
    "curves.parquet",
    "item_losses.npy",
    "weights.safetensors",
)
INFLUENCE_FILES = ("self.npy", "mean_members.npy")


@dataclass(frozen=True)
class Ranked:
    """One target's influences, in nats: training positions, estimates and standard errors, each
    `(n,)`.

    A run too large for the full matrix keeps only the two ends of the ranking.
    """

    instances: np.ndarray
    values: np.ndarray
    std_errors: np.ndarray

    def ends(self, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices (in these arrays) of the `top` proponents, strongest first, and opponents; only
        of that sign.
        """
        return both_ends(self.values, top)

    def to_pandas(self) -> pd.DataFrame:
        """One row a training item: instance, influence and std_error, strongest proponent
        first.
        """
        rows = pd.DataFrame(
            {"instance": self.instances, "influence": self.values, "std_error": self.std_errors}
        )
        return rows.sort_values("influence", ascending=False, kind="stable", ignore_index=True)


def both_ends(values: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the `top` largest positive values, largest first, and of the most negative."""
    order = np.argsort(-values, kind="stable")
    first, last = order[:top], order[::-1][:top]
    return first[values[first] > 0], last[values[last] < 0]


def spread(members: np.ndarray) -> np.ndarray:
    """Standard error of the mean over members `(K, …)`; NaN for one member."""
    if len(members) < 2:
        return np.full(members.shape[1:], np.nan)
    return np.asarray(members.std(0, ddof=1) / len(members) ** 0.5)


class RunInfluence:
    """The influence part of a run; arrays are memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.again = f"compute it again with `turnover influence --run {folder.parent}`"
        self.manifest = read_manifest(folder, self.again, InfluenceManifest)
        if self.estimator not in SHOWN:
            raise TurnoverError(
                f"{folder}: its estimator is {self.estimator!r}, from an earlier version; "
                f"{self.again}"
            )
        self.targets: list[int] = self.manifest["targets"]
        self.misclassified: list[int] = self.manifest["errors"]
        self._row_of = {
            "truth": {t: i for i, t in enumerate(self.targets)},
            "prediction": {t: i for i, t in enumerate(self.misclassified)},
        }

    def array(self, name: str) -> np.ndarray:
        """One array of the part, read-only.

        Raises:
            TurnoverError: if the part has none of this name, or it cannot be read.
        """
        if f"{name}.npy" not in self.manifest["files"]:
            raise TurnoverError(f"{self.folder}: the manifest lists no {name}.npy; {self.again}")
        return _mapped(self.folder / f"{name}.npy", self.again)

    @property
    def estimator(self) -> str:
        """`best`, `median` or `raw`: what the estimates are (`turnover.attribution.estimators`)."""
        return str(self.manifest["estimator"])

    def ranked(self, target: int, meaning: str) -> Ranked:
        """Influences on the loss of a validation item's true label (`truth`) or its predicted one
        (`prediction`).

        Raises:
            TurnoverError: if this target was not computed.
        """
        meaning, row = self._locate(target, meaning)
        values, std_errors = (
            np.asarray(self.array(f"{meaning}_{part}")[row]) for part in ("estimate", "error")
        )
        if self.manifest["layout"] == "full":
            return Ranked(np.arange(len(values)), values, std_errors)
        return Ranked(np.asarray(self.array(f"{meaning}_instances")[row]), values, std_errors)

    def evidence(self, targets: int | Sequence[int], meaning: str) -> tuple[np.ndarray, np.ndarray]:
        """Input of the estimates of a target, or of the mean of several: the members' raw
        influences `(K, 1, N)` and the coefficients `(1, r)`, as for `Estimator.apply`.

        Raises:
            TurnoverError: if a target was not computed, or the run did not keep these.
        """
        places = [self._locate(int(target), meaning) for target in np.atleast_1d(targets)]
        if f"{meaning}_members.npy" not in self.manifest["files"]:
            raise TurnoverError(
                f"{self.folder}: keeps only the ends of each ranking, so sums over groups are not "
                f"known; compute fewer targets with `turnover influence --run {self.folder.parent} "
                "--targets errors --most 50`"
            )
        if f"{meaning}_shape.npy" not in self.manifest["files"]:
            raise TurnoverError(
                f"{self.folder}: from an earlier version that knew no groups; {self.again}"
            )
        members = _mean(self.array(f"{name}_members")[:, [row]] for name, row in places)
        return self._by_item(members), _mean(
            self.array(f"{name}_shape")[[row]] for name, row in places
        )

    def members(self, meaning: str, rows: list[int]) -> np.ndarray:
        """The members' raw influences `(K, rows, N)` on some targets, by row."""
        return self._by_item(np.asarray(self.array(f"{meaning}_members")[:, rows]))

    def _by_item(self, members: np.ndarray) -> np.ndarray:
        """Values `(K, t, N)` of values as they are kept: by mask, where items share masks."""
        if self.manifest.get("masks") is None:
            return members
        cohorts = self.array("cohorts")
        return np.stack([values.take(own, 1) for values, own in zip(members, cohorts, strict=True)])

    @cached_property
    def mates(self) -> np.ndarray:
        """How many other training items share a training item's mask, mean over members, `(N,)`."""
        if self.manifest.get("masks") is None:
            return np.zeros(self.array("mean_members").shape[1])
        sizes = [np.bincount(row)[row] for row in self.array("cohorts")]
        return np.mean(sizes, axis=0) - 1

    def _locate(self, target: int, meaning: str) -> tuple[str, int]:
        """Which arrays hold a target, and in which row: a target predicted correctly has its
        prediction under `truth`.
        """
        row = self._row_of[meaning].get(target)
        if row is None and meaning == "prediction" and target in self._row_of["truth"]:
            meaning, row = "truth", self._row_of["truth"][target]
        if row is None:
            raise TurnoverError(
                f"validation item {target} has no influences in this run; compute them with "
                "--targets validation"
            )
        return meaning, row

    @cached_property
    def self_influence(self) -> np.ndarray:
        """Self-influence of every training item, mean over members, `(N,)` in nats; NaN where it is
        not known, as of another engine's scores.
        """
        if self.estimator == SCORES:
            return np.full(self.array("mean_members").shape[1], np.nan)
        return np.asarray(self.array("self").mean(0))

    @cached_property
    def mean_influence(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean influence on the true labels of all targets, and its standard error over members,
        each `(N,)` in nats.
        """
        members = self.array("mean_members")
        return np.asarray(members.mean(0)), spread(members)


def _mean(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """The mean of some arrays, in float64 if there are several; one at a time, to save memory."""
    count, total = 0, np.empty(0)
    for count, array in enumerate(arrays, 1):
        total = np.array(array) if count == 1 else total + array.astype(np.float64)
    return total if count == 1 else total / count


class Run:
    """A run folder, opened and checked.

    Raises:
        TurnoverError: if the folder is not a complete run of this format; the message names the
            file and the remedy.
    """

    def __init__(self, folder: Path) -> None:
        if not looked_at(folder).is_dir():
            raise TurnoverError(
                f"{folder}: no such run; train one with `turnover train --run {folder}`"
            )
        if link := first_link(folder):
            raise TurnoverError(
                f"{link}: a link, which could lead out of the run; put the file itself there"
            )
        self.folder, self.again = folder, f"delete {folder} and train it again"
        self.manifest = read_manifest(folder, self.again, RunManifest)
        missing = [name for name in RUN_FILES if name not in self.manifest["files"]]
        if missing:
            raise TurnoverError(f"{folder}: the manifest lists no {missing[0]}; {self.again}")

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights: anything computed with others is stale."""
        return str(self.manifest["files"]["weights.safetensors"]["sha256"])

    @property
    def classes(self) -> list[str]:
        return list(self.manifest["classes"])

    @property
    def kind(self) -> str:
        """`text` or `image`."""
        return str(self.manifest["kind"])

    @cached_property
    def items(self) -> pd.DataFrame:
        """All items: split, position, id, label, predicted, plain_predicted (not in runs of earlier
        versions), probability_0 …, text or image (PNG bytes), planted.
        """
        with readable(self.folder / "items.parquet", self.again):
            read = pd.read_parquet(self.folder / "items.parquet")
            check_items(read, self.manifest)
        return read

    @cached_property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of the images, `(H, W)` grey or `(H, W, 3)` RGB; () for texts."""
        return () if self.kind == "text" else png_pixels(self.item("train", 0)["image"]).shape

    def split(self, name: str) -> pd.DataFrame:
        """The items of `train` or `validation`, in order of position."""
        return {"train": self.train, "validation": self.validation}[name]

    def item(self, split: str, position: int) -> dict[str, Any]:
        """One item's columns by name."""
        return {str(name): value for name, value in self.split(split).loc[position].items()}

    def _split(self, rows: slice) -> pd.DataFrame:
        """Neighbouring rows, not copied, since there may be a million."""
        return self.items.iloc[rows].set_index("position", drop=False)

    @cached_property
    def train(self) -> pd.DataFrame:
        """The training items, by position: their instance ids."""
        return self._split(slice(int(self.manifest["results"]["train_size"])))

    @cached_property
    def validation(self) -> pd.DataFrame:
        """The validation items, by position."""
        return self._split(slice(int(self.manifest["results"]["train_size"]), None))

    @property
    def misclassified_positions(self) -> list[int]:
        """Positions of the misclassified validation items."""
        wrong = self.validation["predicted"] != self.validation["label"]
        return [int(position) for position in self.validation.index[wrong]]

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row an epoch: masked, flipped, validation, unowned (nats) and accuracy."""
        with readable(self.folder / "curves.parquet", self.again):
            read = pd.read_parquet(self.folder / "curves.parquet")
            check_curves(read, self.manifest)
        return read

    def features(self, split: str) -> np.ndarray:
        """What the heads see of a split's items, `(n, D)`, memory-mapped and read-only."""
        loaded, first = self.array("features"), len(self.train)
        return loaded[:first] if split == "train" else loaded[first:]

    def array(self, name: str) -> np.ndarray:
        """`features` or `item_losses`, memory-mapped and read-only."""
        path, results = self.folder / f"{name}.npy", self.manifest["results"]
        loaded = _mapped(path, self.again)
        losses = (2, results["epochs"], len(self.train))
        with readable(path, self.again):
            check_array(loaded, *((len(self.items), None) if name == "features" else losses))
        return loaded

    @property
    def scored(self) -> str:
        """The file of another engine's scores that the run was made of, without a model of its own;
        "" for any other run.
        """
        adopted = self.manifest.get("adopted")
        return str(adopted.get(SCORES, "")) if isinstance(adopted, dict) else ""

    @property
    def untrainable(self) -> str:
        """Why nothing can be trained again of such a run, with the remedy; "" if it can."""
        if not self.scored or self.manifest["settings"].get("model"):
            return ""
        return (
            f"{self.folder}: made of {self.scored}, and no model is named to train again; make it "
            "again with `turnover register --model NAME`"
        )

    @property
    def unit(self) -> str:
        """What its influences are in, after a number."""
        return "in score" if self.scored else "nats"

    @property
    def has_influence(self) -> bool:
        return (self.folder / "influence").is_dir()

    @cached_property
    def influence(self) -> RunInfluence:
        """The influence part.

        Raises:
            TurnoverError: if it was not computed yet, or is damaged.
        """
        if not self.has_influence:
            raise TurnoverError(
                f"{self.folder}: no influence yet; compute it with `turnover influence --run "
                f"{self.folder}`"
            )
        part = RunInfluence(self.folder / "influence")
        if part.manifest["run"] != self.weights_hash:
            raise TurnoverError(f"{part.folder}: made for another run's weights; {part.again}")
        sizes = (self.manifest["results"]["members"], len(self.train), len(self.validation))
        with readable(part.folder, part.again):
            check_influence(part.manifest, part.array, sizes, self.misclassified_positions)
        return part


def _mapped(path: Path, remedy: str) -> np.ndarray:
    """An array in a file, memory-mapped and read-only."""
    with readable(path, remedy):
        loaded: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return loaded


def find_runs(folder: Path) -> list[Path]:
    """The run folders in a folder, by name; without unfinished ones."""
    if not folder.is_dir():
        return []
    return sorted(
        path.parent
        for path in folder.glob(f"*/{MANIFEST}")
        if not path.parent.name.endswith(".partial")
    )


# Whether measurements still apply


def made_with(run: Run) -> dict[str, str]:
    """Checksums of the weights, and of all influence files together; recomputing the same numbers
    gives the same checksums.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    sums = {name: facts["sha256"] for name, facts in run.influence.manifest["files"].items()}
    return {"run": run.weights_hash, "influence": fingerprint(sums)}


def stale_since(run: Run, made: Mapping[str, Any]) -> str:
    """What has changed in a run since `made` was recorded, in a sentence; "" if nothing has."""
    if made.get("run") != run.weights_hash:
        return "The run was trained again since this was measured."
    try:
        now = made_with(run)
    except TurnoverError:
        return "The influences that this was measured of cannot be read any more."
    same = made.get("influence") == now["influence"]
    return "" if same else "The influences were computed again since this was measured."
