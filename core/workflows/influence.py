"""Compute a run's influences: every training item on every target, in chunks that survive a stop.

First a pilot of some targets chooses the estimator to show (`turnover.attribution.estimators`).
Then chunks of targets are computed for all members and training items, on the loss of the true
label for all targets and of the predicted label for the errors; both share forward passes. Each
chunk is estimated and kept as a file before the next begins
(`turnover.workflows.influence_chunks`), so a stopped job resumes with the missing chunks.

As long as all member values fit into `FULL_BYTES` they are kept, with the coefficients of each
target, so that groups of training items can be summed later (`turnover.explain.groups`). A larger
run keeps the top of both ends of each target, with standard errors, and the means over targets.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from turnover.attribution.device import choose_device
from turnover.attribution.engine import gains_from_targets
from turnover.attribution.engine.tiling import default_budget, host_budget, pieces
from turnover.attribution.ensemble import Members, member_cohorts, shared_masks
from turnover.attribution.estimators.estimator import Estimator
from turnover.attribution.influence import Influence, influence, influences, self_influence
from turnover.errors import TurnoverError
from turnover.explain.causes import causes
from turnover.jobs.tasks import Task, open_workers
from turnover.runs.model import load_model, run_estimator, run_split
from turnover.runs.run import Run
from turnover.storage.artifacts import Parts, write_manifest
from turnover.storage.atomic import disk_error, replace_folder
from turnover.storage.lock import alone
from turnover.storage.progress import Advance, bar
from turnover.training.fit import Split
from turnover.workflows.effects import compute_effects
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
from turnover.workflows.influence_request import Request, Resources, Targets

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
    run: Run | str | Path,
    targets: str = "validation",
    device_choice: str | None = None,
    full_bytes: int = FULL_BYTES,
    *,
    memory: int | None = None,
    precision: str = "float32",
    most: int | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Compute a run's influences on `validation` (all items, and the errors' predictions) or on the
    `errors` alone.

    Chunks are computed on the Ray `cluster` at an address, or on this machine
    (`turnover.jobs.tasks`); `memory` is that of each process.
    Of more targets than `most`, 1 or more, that many are drawn at random, the same ones every time.
    Returns what `turnover influence --json` prints. The folder `RUN/influence` is replaced at the
    end; until then finished chunks are kept in `RUN/.influence.partial`, for the same computation
    only.

    Raises:
        TurnoverError: if the run or the device cannot be used, the disk is full, or another process
            computes influences of this run.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    device = choose_device(device_choice)
    request = Request(targets, str(device), full_bytes, memory, precision, most)
    with alone(run.folder / ".influence.lock", f"computing influences of {run.folder}"):
        return _replace_influence(run, request, cluster)


def _replace_influence(run: Run, request: Request, cluster: str | None) -> dict[str, Any]:
    begun = time.perf_counter()
    files = request.parts(run, request.chosen(run))
    try:
        with _keep_if_worthwhile(files):
            work = _Work.of(run, request)
            computed = work.compute(cluster)
            facts = work.join(begun)
            compute_effects(Run(run.folder), work.model, work.device)
            causes(Run(run.folder))
    except OSError as error:
        raise disk_error(files.folder, error) from None
    pairs, seconds = facts["pairs"], facts["seconds"]
    sizes = {
        "targets": len(work.chosen),
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
def _keep_if_worthwhile(files: Parts) -> Iterator[None]:
    """Keep the work directory for the next attempt if this one fails, unless it is empty."""
    try:
        yield
    except BaseException:
        if files.names <= {PLAN, ESTIMATOR}:
            files.remove()
        raise


_here: dict[str, _Work] = {}
"""The work that this process has loaded, by its run and request."""


def compute_part(arguments: Mapping[str, Any], advance: Advance) -> None:
    """Compute and keep a chunk of targets, or the self-influences."""
    key = _key(arguments)
    if key not in _here:
        _here.clear()
        work = _Work.of(Run(Path(arguments["run"])), Request(**arguments["request"]))
        work.begun()
        _here[key] = work
    work = _here[key]
    if arguments["part"] == OWN:
        work.own()
    else:
        work.chunk(work.chunks[arguments["part"]], advance)


def _key(arguments: Mapping[str, Any]) -> str:
    return json.dumps([arguments["run"], arguments["request"]])


@dataclass
class _Work:
    """The run and its model, all targets, and the finished chunks; once begun, how they are cut,
    and the estimator.
    """

    run: Run
    request: Request
    model: Members
    device: torch.device
    targets: Targets
    chosen: list[int]
    layout: str
    files: Parts
    chunking: Chunking = field(init=False)
    estimator: Estimator = field(init=False)
    pilot_facts: dict[str, Any] = field(init=False)

    @classmethod
    def of(cls, run: Run, request: Request) -> _Work:
        """The work, with model and targets loaded."""
        device, chosen = torch.device(request.device), request.chosen(run)
        model, targets = load_model(run, device), Targets.of(run, chosen, device)
        labels, count = len(chosen) + int(targets.wrong.sum()), len(run.train)
        shared = shared_masks(model)
        numbers = model.members * (shared or count) + (2 * count if shared else 0)
        whole = 4 * numbers * labels <= request.full_bytes
        layout, files = "full" if whole else "top", request.parts(run, chosen)
        return cls(run, request, model, device, targets, chosen, layout, files)

    def begun(self) -> None:
        """Read how the work is cut, and its estimator.

        Raises:
            TurnoverError: if it has not begun, as far as this machine can see.
        """
        chunking, stored = chunking_of(self.files), load_estimator(self.files)
        if chunking is None or stored is None:
            raise TurnoverError(
                f"{self.files.folder}: not to be seen by all machines, or not of this computation; "
                "a cluster's nodes must share the run's folder"
            )
        self.chunking, (self.estimator, self.pilot_facts) = chunking, stored

    @property
    def resources(self) -> Resources:
        return Resources(self.chunking.memory, self.request.precision)

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

    def compute(self, cluster: str | None) -> int:
        """Compute the missing chunks; returns how many values were missing."""
        most = _most_targets(self.model)
        count = len(chunks_of(self.targets.wrong, most)) + 1
        # without processes for a CPU's cores: one engine keeps them busy (`tiling.spread`)
        with open_workers(count, self.device, cluster, cores=False) as workers:
            self._cut(most, workers.together)
            missing = [chunk for chunk in self.chunks if chunk.name not in self.files]
            self._pilot()
            self.begun()
            tasks = [self._task(chunk.number, chunk.name, self.pairs([chunk])) for chunk in missing]
            tasks += [] if OWN in self.files else [self._task(OWN, OWN, 0)]
            try:
                _here.update({_key(task.arguments): self for task in tasks})
                with bar(self.pairs(missing), f"{self.run.name}: influence", "pairs") as advance:
                    for _ in workers.run(tasks, advance):
                        pass
            finally:
                _here.clear()
        return self.pairs(missing)

    def _cut(self, most: int, together: int) -> None:
        """Decide how the work is cut, once: in chunks of at most so many targets, small enough for
        the memory of a machine where so many processes work together.
        """
        chunking = chunking_of(self.files)
        if chunking is None:
            members, count = self.model.members, len(self.run.train)
            memory = self.request.memory or default_budget(self.device) // together
            held = memory // 2
            if self.device.type == "cuda":  # values are estimated on the host
                held = min(held, host_budget() // together)
            if self.layout == "full":  # a chunk is held in memory as a whole
                most = min(most, _step(members, count, held))
            chunking = Chunking(memory, held, max(1, most))
            self.files.remove()
            self.files.save(PLAN, {}, **asdict(chunking))
        self.chunking = chunking

    def _task(self, part: int | str, name: str, size: int) -> Task:
        arguments = {
            "run": str(self.run.folder.absolute()),
            "request": asdict(self.request),
            "part": part,
        }
        return Task("influence", arguments, self.files.path(name), size)

    def own(self) -> None:
        """Compute and keep the self-influences."""
        train = run_split(self.run, "train", self.device)
        ids = np.arange(len(train.labels))
        values = self_influence(self.model, train.inputs, train.labels, ids)
        self.files.save(OWN, {OWN: values.numpy()})

    def _influences(
        self, rows: np.ndarray, meanings: Sequence[str], ids: np.ndarray, advance: Advance
    ) -> list[Influence]:
        labels, shared = [self.targets.labels[meaning][rows] for meaning in meanings], self.masks
        values = len(ids) / (shared // 2) if shared else 1  # that come from a pair of masks
        return influences(
            self.model,
            self.targets.inputs[rows],
            labels,
            ids,
            progress=lambda done: advance(done * values),
            **self.resources.options,
        )

    @property
    def masks(self) -> int | None:
        """How many masks the training items share."""
        return shared_masks(self.model)

    def _pilot(self) -> None:
        """Let a pilot choose the estimator, once; its result is read back from the file, so that
        all attempts estimate with the same bits.
        """
        if load_estimator(self.files) is None:
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

    def chunk(self, chunk: Chunk, advance: Advance) -> None:
        """Compute, estimate and keep a chunk, in slices that fit into memory."""
        parts: dict[str, list[np.ndarray]] = {}
        members, count = self.model.members, len(self.run.train)
        total = np.zeros((members, count))
        step = _step(members, count, self.chunking.held) // len(chunk.meanings)
        for piece in pieces(slice(0, len(chunk.rows)), max(1, step)):
            rows = chunk.rows[piece]
            influences = self._influences(rows, chunk.meanings, np.arange(count), advance)
            for meaning, raw in zip(chunk.meanings, influences, strict=True):
                values = raw.values.numpy()
                coefficients = self.estimator.coefficients_of(
                    self.targets.described(self.model, rows, meaning)
                )
                estimated = self.estimator.apply(values, coefficients)
                for name, array in kept(
                    self.layout, raw.by_mask.numpy(), coefficients, *estimated, self.masks
                ).items():
                    parts.setdefault(f"{meaning}_{name}", []).append(array)
                if meaning == "truth":
                    total += values.sum(1, dtype=np.float64)
        arrays = {
            name: np.concatenate(slices, int(name.endswith("_members")))
            for name, slices in parts.items()
        }
        self.files.save(chunk.name, {**arrays, TOTAL: total})

    def join(self, begun: float) -> dict[str, Any]:
        """Join all chunks into `RUN/influence`; returns its manifest's facts. `begun` is the start
        time.
        """
        folder, wrong = self.run.folder / ".influence.new", self.targets.wrong
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir()
            shape = self.model.members, len(self.chosen), len(self.run.train)
            made = self.layout, shape, self.estimator, self.masks
            join_chunks(folder, self.files, self.chunks, wrong, *made)
            cohorts = member_cohorts(self.model, torch.arange(shape[2]))
            if cohorts is not None:
                np.save(folder / "cohorts.npy", cohorts.numpy().astype(np.int32))
            facts = {
                "targets": self.chosen,
                "errors": np.asarray(self.chosen)[wrong].tolist(),
                "layout": self.layout,
                **self.pilot_facts,
                "precision": self.resources.precision,
                "pairs": self.pairs(self.chunks),
                "masks": self.masks,
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


def _most_targets(model: Members) -> int:
    """Most targets per chunk, if memory does not matter."""
    return _MANY if gains_from_targets(model) else _FEW


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
