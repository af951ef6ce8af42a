"""Compute a run's influences: every training item on every target, in chunks that survive a stop.

First a pilot of some targets chooses the estimator to show (`turnover.attribution.estimators`).
Then chunks of targets are computed for all members and training items, on the loss of the true
label for all targets and of the predicted label for the errors; both share forward passes. Each
chunk is estimated and kept as a file before the next begins
(`turnover.workflows.influence_chunks`), so a stopped job resumes with the missing chunks. Of
several ranks (`turnover.training.ranks`) each takes every size-th chunk; where chunks are fewer
than ranks, chunks are cut into blocks of training items as well. The first rank joins all of them.

As long as all member values fit into `FULL_BYTES` they are kept, with the coefficients of each
target, so that groups of training items can be summed later (`turnover.explain.groups`). A larger
run keeps the top of both ends of each target, with standard errors, and the means over targets.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from turnover.attribution.device import choose_device
from turnover.attribution.engine import gains_from_targets
from turnover.attribution.engine.naive import device_of
from turnover.attribution.engine.tiling import default_budget, host_budget, pieces
from turnover.attribution.ensemble import Members
from turnover.attribution.estimators.estimator import Described, Estimator
from turnover.attribution.influence import Influence, influence, influences, self_influence
from turnover.errors import TurnoverError
from turnover.runs.model import describe_targets, load_model, run_estimator, run_split
from turnover.runs.run import Run
from turnover.storage.artifacts import FORMAT, Parts, write_manifest
from turnover.storage.atomic import disk_error, replace_folder
from turnover.storage.lock import alone
from turnover.storage.progress import Advance, bar
from turnover.training.fit import Split
from turnover.training.ranks import ALONE, Ranks
from turnover.workflows import influence_chunks
from turnover.workflows.influence_chunks import (
    ESTIMATOR,
    FULL_BYTES,
    OWN,
    PLAN,
    TOTAL,
    Chunk,
    Chunking,
    chunking_of,
    chunks_of,
    join_chunks,
    kept,
    load_estimator,
    save_estimator,
)

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
"""Number types of the large products; None is the model's own."""


@dataclass(frozen=True)
class Resources:
    """Limits of a computation: bytes for tiles and slices beside the result, and the number type of
    its large products.
    """

    memory: int
    precision: str = "float32"

    @property
    def lowered(self) -> bool:
        """Whether the products are less exact than the model."""
        return PRECISIONS[self.precision] is not None

    @property
    def options(self) -> dict[str, Any]:
        """As keyword arguments of `influence`; half of the memory is for the engine, half for the
        slices that are estimated.
        """
        return {"memory": self.memory // 2, "dtype": PRECISIONS[self.precision]}


@dataclass(frozen=True)
class Targets:
    """Targets of influences: inputs, features `(T, D)`, and labels by meaning, `truth` and
    `prediction`.
    """

    inputs: torch.Tensor
    features: np.ndarray
    labels: dict[str, torch.Tensor]

    @classmethod
    def of(cls, run: Run, chosen: list[int], device: torch.device) -> Targets:
        items = run_split(run, "validation", device, chosen)
        predicted = torch.tensor(run.validation["predicted"].loc[chosen].tolist(), device=device)
        return cls(
            items.inputs,
            np.asarray(run.features("validation")[chosen]),
            {"truth": items.labels, "prediction": predicted},
        )

    @property
    def wrong(self) -> np.ndarray:
        """Which are misclassified, `(T,)`."""
        wrong: np.ndarray = (self.labels["truth"] != self.labels["prediction"]).cpu().numpy()
        return wrong

    def split(self, rows: np.ndarray, meaning: str = "truth") -> Split:
        return Split(self.inputs[rows], self.labels[meaning][rows])

    def described(self, model: Members, rows: np.ndarray, meaning: str = "truth") -> Described:
        return describe_targets(model, self.split(rows, meaning), self.features[rows])


_PILOT, _PILOT_BYTES = 96, 512 * 2**20
_COMPARED = 4
_BYTES_A_VALUE = 28
"""Memory of a member's value during estimation: itself, divided by its noise, sorted, and a share
of the estimates.
"""
_MANY, _FEW = 256, 16
"""Most targets per chunk: many where they are cheaper together, else few, so that a stop loses
little.
"""


def compute_influence(
    run: Run,
    targets: str = "validation",
    device_choice: str | None = None,
    full_bytes: int = FULL_BYTES,
    *,
    memory: int | None = None,
    precision: str = "float32",
    most: int | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Compute a run's influences on `validation` (all items, and the errors' predictions) or on the
    `errors` alone.

    Of more targets than `most`, 1 or more, that many are drawn at random, the same ones every time.
    `memory` is that of each rank. Returns what `turnover influence --json` prints, nothing on ranks
    but the first. The folder `RUN/influence` is replaced at the end; until then finished chunks are
    kept in `RUN/.influence.partial`, for the same computation only.

    Raises:
        TurnoverError: if the run or the device cannot be used, the disk is full, or another process
            computes influences of this run.
    """
    with (
        alone(run.folder / ".influence.lock", f"computing influences of {run.folder}")
        if ranks.is_first
        else nullcontext()
    ):
        return _replace_influence(
            run, targets, device_choice, full_bytes, memory, precision, most, ranks
        )


def _replace_influence(
    run: Run,
    targets: str,
    device_choice: str | None,
    full_bytes: int,
    memory: int | None,
    precision: str,
    most: int | None,
    ranks: Ranks,
) -> dict[str, Any]:
    begun = time.perf_counter()
    device = choose_device(device_choice)
    chosen = (
        run.misclassified_positions
        if targets == "errors"
        else [int(position) for position in run.validation.index]
    )
    if not chosen:
        raise TurnoverError(
            f"{run.folder}: no validation item is misclassified, so there are no errors to explain;"
            " use --targets validation"
        )
    if most is not None and most < len(chosen):
        chosen = sorted(np.random.default_rng(0).choice(chosen, most, replace=False).tolist())
    identity = {
        "run": run.manifest["files"],
        "targets": chosen,
        "full_bytes": full_bytes,
        "top": influence_chunks.TOP,
        "memory": memory,
    }
    identity |= {
        "precision": precision,
        "device": device.type,
        "torch": torch.__version__,
        "format": FORMAT,
    }
    files = Parts(run.folder / ".influence.partial", identity)
    try:
        with _keep_if_worthwhile(files, ranks):
            work = _Work.begun(
                run,
                chosen,
                files,
                device,
                full_bytes,
                Resources(memory or default_budget(device), precision),
                ranks,
            )
            computed = work.compute()
            if not ranks.is_first:
                return {}
            facts = work.join(begun)
    except OSError as error:
        raise disk_error(files.folder, error) from None
    pairs, seconds = facts["pairs"], facts["seconds"]
    sizes = {
        "targets": len(chosen),
        "train_size": len(run.train),
        "members": work.model.members,
        "pairs": pairs,
    }
    shown = {key: facts[key] for key in ("estimator", "path", "precision", "precision_error")}
    return {
        **sizes,
        "seconds": seconds,
        "pairs_per_second": round(computed / max(seconds, 0.01)),
        "kept_pairs": pairs - computed,
        **shown,
    }


@contextmanager
def _keep_if_worthwhile(files: Parts, ranks: Ranks) -> Iterator[None]:
    """Keep the work directory for the next attempt if this one fails, unless it is empty."""
    try:
        yield
    except BaseException:
        if ranks.size == 1 and files.names <= {PLAN, ESTIMATOR}:
            files.remove()
        raise


@dataclass
class _Work:
    """State of one rank: the run and its model, all targets, how they are cut, and the finished
    chunks.
    """

    run: Run
    model: Members
    device: torch.device
    targets: Targets
    chosen: list[int]
    layout: str
    resources: Resources
    chunking: Chunking
    files: Parts
    ranks: Ranks
    estimator: Estimator = field(init=False)
    pilot_facts: dict[str, Any] = field(init=False)

    @classmethod
    def begun(
        cls,
        run: Run,
        chosen: list[int],
        files: Parts,
        device: torch.device,
        full_bytes: int,
        resources: Resources,
        ranks: Ranks,
    ) -> _Work:
        """The work, cut as when it began, which may be now."""
        model, targets = load_model(run, device), Targets.of(run, chosen, device)
        layout = (
            "full"
            if 4 * model.members * len(run.train) * (len(chosen) + int(targets.wrong.sum()))
            <= full_bytes
            else "top"
        )
        if ranks.is_first and PLAN not in files:
            files.remove()
            plan = _chunking(model, len(run.train), targets, layout, resources, ranks)
            files.save(PLAN, {}, **asdict(plan))
        ranks.barrier()
        chunking = chunking_of(files)
        if chunking is None:
            raise TurnoverError(
                f"{files.folder}: not of this computation; give all ranks the same command, and a "
                "folder that they share"
            )
        return cls(
            run,
            model,
            device,
            targets,
            chosen,
            layout,
            Resources(chunking.memory, resources.precision),
            chunking,
            files,
            ranks,
        )

    @property
    def chunks(self) -> list[Chunk]:
        return chunks_of(self.targets.wrong, self.chunking.targets)

    def pairs(self, chunks: Sequence[Chunk]) -> int:
        """How many values some chunks have."""
        return (
            sum(len(chunk.rows) * len(chunk.meanings) for chunk in chunks)
            * self.model.members
            * len(self.run.train)
        )

    def compute(self) -> int:
        """Compute this rank's missing chunks and wait for the other ranks; returns how many values
        were missing over all ranks.
        """
        missing = [chunk for chunk in self.chunks if chunk.name() not in self.files]
        self._pilot()
        if self.chunking.blocks > 1:
            self._blocks(missing)
        numbers = {chunk.number for chunk in missing}
        mine = [chunk for chunk in self.ranks.own(self.chunks) if chunk.number in numbers]
        with bar(self.pairs(mine), f"{self.run.name}: influence", "pairs") as advance:
            for chunk in mine:
                self.ranks.at(
                    f"part {chunk.number + 1} of {len(self.chunks)}, {len(chunk.rows)} targets from"
                    f" number {chunk.rows[0]} on"
                )
                self._compute(chunk, advance)
        if self.ranks.rank == self.ranks.size - 1 and OWN not in self.files:
            self.ranks.at("self-influence")
            train = run_split(self.run, "train", self.device)
            self.files.save(
                OWN,
                {
                    OWN: (
                        self_influence(
                            self.model, train.inputs, train.labels, np.arange(len(train.labels))
                        ).numpy()
                    )
                },
            )
        self.ranks.at("finished its parts")
        self.ranks.barrier()
        return self.pairs(missing)

    def _influences(
        self, rows: np.ndarray, meanings: Sequence[str], ids: np.ndarray, advance: Advance
    ) -> list[Influence]:
        labels = [self.targets.labels[meaning][rows] for meaning in meanings]
        return influences(
            self.model,
            self.targets.inputs[rows],
            labels,
            ids,
            progress=advance,
            **self.resources.options,
        )

    def _pilot(self) -> None:
        """Let a pilot choose the estimator, once; its result is read back from the file, so that
        all ranks and attempts estimate with the same bits.
        """
        if self.ranks.is_first and load_estimator(self.files) is None:
            self.ranks.at("the pilot")
            members, count = self.model.members, len(self.run.train)
            rows = np.random.default_rng(0).permutation(len(self.chosen))[
                : _pilot_size(members, count, self.resources)
            ]
            with bar(
                len(rows) * members * count, f"{self.run.name}: which estimator", "pairs"
            ) as advance:
                (pilot,) = self._influences(rows, ("truth",), np.arange(count), advance)
            difference = _precision_error(
                self.model, self.targets.split(rows), pilot, self.resources
            )
            described, train = (
                self.targets.described(self.model, rows),
                run_split(self.run, "train", self.device),
            )
            estimator = run_estimator(self.run, self.model, train, pilot.values.numpy(), described)
            save_estimator(
                self.files, estimator, {"path": pilot.backend, "precision_error": difference}
            )
        self.ranks.barrier()
        stored = load_estimator(self.files)
        assert stored is not None
        self.estimator, self.pilot_facts = stored

    def _blocks(self, missing: Sequence[Chunk]) -> None:
        """Compute raw values of the missing chunks, in blocks of training items; each rank its own
        blocks.
        """
        for chunk, block in self.ranks.own(
            [(chunk, block) for chunk in missing for block in range(self.chunking.blocks)]
        ):
            if chunk.name(block) not in self.files:
                self.ranks.at(
                    f"block {block + 1} of {self.chunking.blocks} of part {chunk.number + 1}"
                )
                influences = self._influences(
                    chunk.rows, chunk.meanings, self._ids(block), lambda _: None
                )
                self.files.save(
                    chunk.name(block),
                    {
                        meaning: raw.values.numpy()
                        for meaning, raw in zip(chunk.meanings, influences, strict=True)
                    },
                )
        self.ranks.at("finished its blocks")
        self.ranks.barrier()

    def _ids(self, block: int) -> np.ndarray:
        """The training items of a block."""
        return np.array_split(np.arange(len(self.run.train)), self.chunking.blocks)[block]

    def _values(self, chunk: Chunk, rows: np.ndarray, advance: Advance) -> dict[str, np.ndarray]:
        """The members' values `(K, t, N)` of some of a chunk's targets, computed now or joined from
        blocks.
        """
        if self.chunking.blocks > 1:
            blocks = [
                self.files.load(chunk.name(block))[0] for block in range(self.chunking.blocks)
            ]
            inside = np.isin(chunk.rows, rows)
            return {
                meaning: np.concatenate([block[meaning] for block in blocks], 2)[:, inside]
                for meaning in chunk.meanings
            }
        influences = self._influences(rows, chunk.meanings, np.arange(len(self.run.train)), advance)
        return {
            meaning: raw.values.numpy()
            for meaning, raw in zip(chunk.meanings, influences, strict=True)
        }

    def _compute(self, chunk: Chunk, advance: Advance) -> None:
        """Compute, estimate and keep a chunk, in slices that fit into memory."""
        parts: dict[str, list[np.ndarray]] = {}
        total = np.zeros((self.model.members, len(self.run.train)))
        step = _step(self.model.members, len(self.run.train), self.chunking.held) // len(
            chunk.meanings
        )
        for piece in pieces(slice(0, len(chunk.rows)), max(1, step)):
            rows = chunk.rows[piece]
            by_meaning = self._values(chunk, rows, advance)
            for meaning, values in by_meaning.items():
                coefficients = self.estimator.coefficients_of(
                    self.targets.described(self.model, rows, meaning)
                )
                for name, array in kept(
                    self.layout, values, coefficients, *self.estimator.apply(values, coefficients)
                ).items():
                    parts.setdefault(f"{meaning}_{name}", []).append(array)
            total += by_meaning["truth"].sum(1, dtype=np.float64)
        arrays = {
            name: np.concatenate(slices, int(name.endswith("_members")))
            for name, slices in parts.items()
        }
        self.files.save(chunk.name(), {**arrays, TOTAL: total})

    def join(self, begun: float) -> dict[str, Any]:
        """Join all chunks into `RUN/influence`; returns its manifest's facts. `begun` is the start
        time.
        """
        folder, wrong = self.run.folder / ".influence.new", self.targets.wrong
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir()
            shape = self.model.members, len(self.chosen), len(self.run.train)
            join_chunks(folder, self.files, self.chunks, wrong, self.layout, shape, self.estimator)
            facts = {
                "targets": self.chosen,
                "errors": np.asarray(self.chosen)[wrong].tolist(),
                "layout": self.layout,
                **self.pilot_facts,
                "precision": self.resources.precision,
                "pairs": self.pairs(self.chunks),
                "run": self.run.weights_hash,
                "seconds": round(time.perf_counter() - begun, 2),
            }
            write_manifest(folder, facts, sorted(path.name for path in folder.glob("*.npy")))
            replace_folder(folder, self.run.folder / "influence")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.files.remove()
        return facts


def _step(members: int, count: int, held: int) -> int:
    """Targets whose values are estimated at a time in so many bytes."""
    return held // (_BYTES_A_VALUE * members * count)


def _chunking(
    model: Members, count: int, targets: Targets, layout: str, resources: Resources, ranks: Ranks
) -> Chunking:
    """How the work is cut: in chunks of many targets where these are cheaper together, small enough
    for memory, and enough for all ranks.
    """
    many, held = gains_from_targets(model), resources.memory // 2
    if device_of(model).type == "cuda":  # values are estimated on the host
        held = min(held, host_budget())
    most = _MANY if many else _FEW
    if layout == "full":  # a chunk is held in memory as a whole
        most = min(most, _step(model.members, count, held))
    if ranks.size > 1:
        most = min(most, -(-len(targets.wrong) // (ranks.size if many else 4 * ranks.size)))
    most = max(1, most)
    chunks = len(chunks_of(targets.wrong, most))
    return Chunking(resources.memory, held, most, min(count, -(-ranks.size // chunks)))


def _pilot_size(members: int, count: int, resources: Resources) -> int:
    """Number of pilot targets: one member leaves no choice of estimator, and only a lower precision
    needs some to compare.
    """
    if members == 1:
        return _COMPARED if resources.lowered else 1
    return max(_COMPARED, min(_PILOT, _PILOT_BYTES // (4 * members * count)))


def _precision_error(
    model: Members, targets: Split, pilot: Influence, resources: Resources
) -> float | None:
    """Largest difference in nats that the lower precision makes to the mean influences of a few
    targets; None at the model's own.
    """
    if not resources.lowered:
        return None
    exact = influence(
        model,
        targets.inputs[:_COMPARED],
        targets.labels[:_COMPARED],
        pilot.train_ids,
        memory=resources.memory // 2,
    )
    return float((exact.mean - pilot.mean[:_COMPARED]).abs().max())
