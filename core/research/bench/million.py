"""`bench million`: a run of a million training items, from random features to an open page.

Features and texts are random; labels come from a teacher network, a tenth of them drawn anew, so
that there is something to learn and something to get wrong. Sixteen heads share 64 masks. They are
trained for an epoch, written as a run, and their raw mean influences on ten thousand validation
items are computed: the run keeps every member's value of every mask, `(members, targets, 64)`, and
the two ends of each target's ranking. `best` is fitted to some targets and estimates others anew.
Then the run is opened as pages open it, and errors are explained.

Seconds are of this machine and this moment; the peak is that of the whole process so far.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from turnover.attribution.device import choose_device
from turnover.attribution.engine.tiling import pieces
from turnover.attribution.ensemble import MemberModel, member_cohorts
from turnover.attribution.estimators import RAW
from turnover.attribution.estimators.estimator import Described
from turnover.attribution.influence import Influence, TopInfluences, influences, self_influence
from turnover.data.base import Dataset, Items
from turnover.data.recipe import Recipe
from turnover.explain.explanation import error_items
from turnover.models.heads import turnover_heads
from turnover.models.registry import TrainSettings
from turnover.research.bench.random_run import MEMBERS, BenchRow, random_texts
from turnover.runs.model import describe_targets, run_estimator
from turnover.runs.ranking import estimator_of, estimator_parts, ranking_entries
from turnover.runs.run import TRUTH, Ranked, Run
from turnover.runs.write import results_of, write_run
from turnover.storage.artifacts import write_manifest
from turnover.storage.progress import bar
from turnover.training.fit import Split, fit
from turnover.workflows.influence_chunks import TOP, InfluenceFiles

_WIDTH, _HIDDEN, _NOISE, _MASKS, _GROUPS = 64, 32, 0.1, 64, 32
_RECIPE = Recipe(epochs=1, batch=256, keep="last")
_TARGETS, _PILOT, _CLICKS, _SHOWN = 250, 8, 20, 10
_CLASSES = ("negative", "positive")


@dataclass
class _Clock:
    """Rows of what one size of run took."""

    case: str
    rows: list[BenchRow] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    def lap(self, what: str) -> BenchRow:
        """The seconds since the last lap."""
        now = time.perf_counter()
        row, self.begun = BenchRow(self.case, what, now - self.begun, "s"), now
        return row

    def memory(self, what: str) -> BenchRow:
        """The most memory that this process has held so far."""
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return BenchRow(self.case, f"peak memory, {what}", peak / 2**20, "MB")


def measure_million(
    folder: Path, train: int = 1_000_000, targets: int = 10_000
) -> Iterator[BenchRow]:
    """Build the run `folder`, which must not exist, and measure each step."""
    clock, device = _Clock(f"{train:,} x {targets:,}"), choose_device()
    splits = [_drawn(count, number, device) for number, count in enumerate((train, targets))]
    data = Dataset(
        "random",
        "random features, labels of a teacher network",
        _CLASSES,
        *(
            Items(
                [f"{letter}{row}" for row in range(len(split.labels))],
                split.labels.numpy(),
                random_texts(len(split.labels), np.random.default_rng(number)),
            )
            for number, (letter, split) in enumerate(zip("tv", splits, strict=True))
        ),
    )
    yield clock.lap("features, labels and texts drawn")
    shape = {"members": MEMBERS, "groups": _GROUPS, "masks": _MASKS}
    model = turnover_heads((_WIDTH,), 2, seed=0, **shape).to(device)
    history = fit(model, splits[0], splits[1], _RECIPE)
    yield clock.lap(f"{MEMBERS} members trained for {_RECIPE.epochs} epoch, with the curves")
    partial = folder.parent / f"{folder.name}.partial"
    partial.mkdir(parents=True)
    facts = {
        "recipe": asdict(_RECIPE),
        "results": results_of(data, model, history, None, 0.0, device),
        "adopted": "bench million",  # there is no plain twin
    }
    settings = TrainSettings("random", members=MEMBERS)
    inputs = splits[0].inputs.cpu().numpy(), splits[1].inputs.cpu().numpy()
    write_run(partial, folder, data, settings, model, history, inputs, facts)
    yield clock.lap("run written")
    yield clock.memory("training")
    yield from _influence(model, splits, Run(folder), clock)
    yield clock.memory("influence")
    yield from _disk(folder, clock.case)
    yield from _best(model, splits, Run(folder), clock)
    del data, splits, inputs
    yield from _opened(folder, clock)


def _drawn(count: int, number: int, device: torch.device) -> Split:
    """Random features `(count, width)` and the teacher's labels."""
    teacher = torch.Generator().manual_seed(0)
    first = torch.randn(_WIDTH, _HIDDEN, generator=teacher)
    second = torch.randn(_HIDDEN, len(_CLASSES), generator=teacher)
    random = torch.Generator().manual_seed(1 + number)
    features = torch.randn(count, _WIDTH, generator=random)
    labels = ((features @ first).relu() @ second).argmax(1)
    anew = torch.rand(count, generator=random) < _NOISE
    labels[anew] = torch.randint(len(_CLASSES), (int(anew.sum()),), generator=random)
    return Split(features.to(device), labels.to(device))


def _influence(
    model: MemberModel, splits: list[Split], run: Run, clock: _Clock
) -> Iterator[BenchRow]:
    """Compute and keep the run's influence."""
    train, validation = splits
    ids, folder = torch.arange(len(train.labels)), run.folder / "influence"
    folder.mkdir()
    cohorts = member_cohorts(model, ids)
    assert cohorts is not None
    wrong = np.asarray(run.misclassified_positions)
    predicted = torch.from_numpy(np.array(run.validation["predicted"]))
    clock.lap("")
    labels = (validation.labels.cpu(), predicted)
    values = influences(model, validation.inputs, labels, ids[:1])
    yield clock.lap(f"passes under {_MASKS} masks for all targets")
    counts = {"truth": np.arange(len(predicted)), "prediction": wrong}
    for (meaning, positions), computed in zip(counts.items(), values, strict=True):
        shape = MEMBERS, len(positions), len(ids)
        files = InfluenceFiles(folder, meaning, "top", shape, 0, _MASKS)
        with bar(len(positions), f"ends, {meaning}", "targets") as advance:
            for piece in pieces(slice(0, len(positions)), _TARGETS):
                by_mask = computed.by_mask[:, positions[piece]]
                top = Influence(by_mask, ids, computed.backend, cohorts).top(TOP)
                files.put(np.arange(piece.start, piece.stop), _kept(by_mask, top))
                advance(piece.stop - piece.start)
    yield clock.lap(f"ends of {sum(map(len, counts.values())):,} rankings of {len(ids):,}")
    own = self_influence(model, train.inputs, train.labels, ids)
    yield clock.lap("self-influence of the training items")
    mean = values[0].by_mask.mean(1).gather(1, cohorts)
    for name, array in (("self", own), ("mean_members", mean), ("cohorts", cohorts.int())):
        np.save(folder / f"{name}.npy", array.numpy())
    facts = {
        "targets": list(range(len(predicted))),
        "errors": wrong.tolist(),
        "layout": "top",
        "estimator": RAW,
        "agreement": {},
        "masks": _MASKS,
        "run": run.weights_hash,
    }
    write_manifest(folder, facts, sorted(path.name for path in folder.glob("*.npy")))
    yield clock.lap("influence written")


def _kept(by_mask: Tensor, top: TopInfluences) -> dict[str, np.ndarray]:
    """What the run keeps of some targets, strongest proponents first and opponents last."""

    def ends(proponents: Tensor, opponents: Tensor) -> np.ndarray:
        return torch.cat((proponents, opponents.flip(1)), 1).numpy()

    return {
        "members": by_mask.numpy(),
        "shape": np.zeros((by_mask.shape[1], 0), np.float32),
        "instances": ends(top.proponent_ids, top.opponent_ids),
        "estimate": ends(top.proponents, top.opponents),
        "error": ends(top.proponent_std_errors, top.opponent_std_errors),
    }


def _best(model: MemberModel, splits: list[Split], run: Run, clock: _Clock) -> Iterator[BenchRow]:
    """Fit `best` to some targets and estimate others anew from what the run keeps, with the
    estimator read from disk as pages read it.
    """
    train, validation = splits
    part, inputs = run.influence, validation.inputs

    def described(rows: list[int]) -> Described:
        targets = Split(inputs[rows], validation.labels[rows])
        return describe_targets(model, targets, inputs[rows].cpu().numpy())

    chosen = np.random.default_rng(0).permutation(len(part.targets))[: _PILOT + _CLICKS].tolist()
    pilot = chosen[:_PILOT]
    clock.lap("")
    estimator = run_estimator(run, model, train, part.members(TRUTH, pilot), described(pilot))
    yield clock.lap(f"`{estimator.name}` fitted to {len(pilot)} targets")
    yield BenchRow(clock.case, "directions kept", estimator.directions, "")
    arrays, facts = estimator_parts(estimator)
    folder, mapped = run.folder.with_suffix(".estimator"), {}
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        mapped[name] = np.load(folder / f"{name}.npy", "r", allow_pickle=False)
    del estimator, arrays
    stored, seconds = estimator_of(mapped, facts), []
    for row in chosen[_PILOT:]:
        coefficients = stored.coefficients_of(described([row]))
        begun = time.perf_counter()
        members, _ = part.evidence(part.targets[row], TRUTH)
        values, errors = stored.apply(members, coefficients)
        Ranked(np.arange(values.shape[1]), values[0], errors[0]).ends(TOP)
        seconds.append(time.perf_counter() - begun)
    what = f"`{stored.name}` of all items for a target, ranked anew"
    yield BenchRow(clock.case, what, float(np.median(seconds)), "s", "<= 1")
    yield clock.memory("`best`")
    shutil.rmtree(folder)


def _disk(folder: Path, case: str) -> Iterator[BenchRow]:
    for name, where in (("run", folder), ("of it influence", folder / "influence")):
        size = sum(path.stat().st_size for path in where.rglob("*") if path.is_file())
        yield BenchRow(case, f"disk, {name}", size / 2**20, "MB")


def _opened(folder: Path, clock: _Clock) -> Iterator[BenchRow]:
    """Open the run, list its errors, and explain some of them from all values of their masks."""
    clock.lap("")
    run = Run(folder)
    run.influence  # noqa: B018
    yield clock.lap("run opened and checked")
    error_items(run, with_influence=True)
    yield clock.lap("errors listed")
    seconds, cohorts = [], torch.from_numpy(np.array(run.influence.array("cohorts"))).long()
    ids = torch.arange(len(run.train))
    for position in run.influence.misclassified[:_CLICKS]:
        begun = time.perf_counter()
        ranking_entries(run, run.influence.ranked(position, "prediction"), _SHOWN)
        seconds.append(time.perf_counter() - begun)
    yield BenchRow(clock.case, "an error explained, from its ends", float(np.median(seconds)), "s")
    seconds = []
    for row in range(min(_CLICKS, len(run.influence.misclassified))):
        begun = time.perf_counter()
        by_mask = torch.from_numpy(run.influence.array("prediction_members")[:, [row]].copy())
        Influence(by_mask, ids, "", cohorts).top(TOP)
        seconds.append(time.perf_counter() - begun)
    yield BenchRow(
        clock.case,
        "the raw mean of all items, ranked anew",
        float(np.median(seconds)),
        "s",
        "<= .3",
    )
