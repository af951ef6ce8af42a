"""The linear datamodeling score on a published benchmark, beside other methods at equal budgets.

The benchmark is dattri's MNIST-10 with a perceptron (Deng et al. 2024): the first 5,000 training
images, the first 500 test images as targets, 784-128-64-10 with ordinary dropout of .1, SGD of .01
with momentum .9, batches of 64, 50 epochs; retrained on 50 random halves. `--model mlp` is that
model. The published protocol has one training a half; here are three, so that the score of the mean
loss and the ceiling that its reliability leaves stand beside the score of single trainings.

Every method is given the same number of trainings. Ours are turn-over models with masks on both
hidden layers; the others explain plain models, the mean over as many. `best` takes from turn-over
influences how far its prior is damped; two rows show what that is worth: the same prior with the
damping by generalised cross-validation (Golub, Heath and Wahba 1979) and plain models' residuals,
and `best` from influences permuted over the targets.

Halves, losses and scores are kept as files, `RUNS/lds-mnist/`: `subsets.npy` `(50, 2500)` training
positions, `losses.npy` `(3, 50, T)` in nats, and in `scores/` a file for each row, `scores` `(T,
5000)`, positive = the item lowers the target's loss, `trainings` and `seconds`. A file that someone
else puts there is a row, too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import nn

from turnover.attribution.device import choose_device
from turnover.attribution.ensemble import some_members
from turnover.attribution.estimators.basis import make_basis
from turnover.attribution.estimators.damping import GRID, prior
from turnover.data.tables.spec import FILES, OwnData
from turnover.errors import TurnoverError
from turnover.models.registry import TrainSettings
from turnover.research.evaluate.lds import lds, membership, placebo
from turnover.research.evaluate.results import Figure, markdown_table
from turnover.research.evaluate.scores import (
    ESTIMATORS,
    Evidence,
    Scored,
    baseline_scores,
    evidence_of,
)
from turnover.research.evaluate.statistics import reliability
from turnover.research.evaluate.task import EvaluationTask
from turnover.research.paper.setup import Setup
from turnover.storage.atomic import write_atomic
from turnover.storage.progress import bar
from turnover.training.fit import Split
from turnover.workflows.subsets import draw_halves, retrained_losses

TRAIN, TARGETS = "train_first5000.parquet", "test_first500.parquet"
HALVES, SEEDS, MEMBERS = 50, 3, 16
MASKS = (32, 256, 8, 2, None)
_TRAINED = ("influence-cg-last", "tracin-last")
"""Baselines that explain a trained model, and so gain by several."""
_UNTRAINED = ("similarity-centred", "random")


@dataclass(frozen=True)
class Standing:
    """A method's row: trainings and seconds that it took, LDS of single trainings (`lds`) and of
    the mean loss of several (`lds_mean`), and the score of its values shuffled over the items.
    """

    method: str
    trainings: int
    seconds: float
    lds: Figure
    lds_mean: Figure
    placebo: float


@dataclass(frozen=True)
class Bank:
    """Models trained again on random halves: membership `(H, N)` and losses `(S, H, T)`, and the
    folder that keeps them.
    """

    folder: Path
    inside: np.ndarray
    losses: np.ndarray

    @classmethod
    def of(cls, folder: Path, task: EvaluationTask) -> Bank:
        """The bank, trained now where it is not kept."""
        total = len(task.run.train)
        halves = draw_halves(total, HALVES, 0)
        losses = retrained_losses(task, halves, SEEDS)
        (folder / "scores").mkdir(parents=True, exist_ok=True)
        for name, values in (("subsets", halves), ("losses", losses)):
            _save(folder / f"{name}.npy", partial(np.save, arr=values))
        return cls(folder, membership(halves, total), losses)

    def keep(self, scored: Scored, trainings: int) -> None:
        """Keep a method's scores `(T, N)` after so many trainings."""
        name = re.sub(r"\W+", "-", scored.method.lower()).strip("-")
        kept: dict[str, Any] = {
            "method": scored.method,
            "scores": scored.values.astype(np.float32),
            "trainings": trainings,
            "seconds": scored.train_seconds + scored.estimate_seconds,
        }
        _save(self.folder / "scores" / f"{name}-{trainings}.npz", partial(np.savez, **kept))

    def standings(self) -> list[Standing]:
        """A row for each file of scores, by method and trainings.

        Raises:
            TurnoverError: if a file cannot be read, or its scores are not `(T, N)` finite numbers.
        """
        files = sorted((self.folder / "scores").glob("*.npz"))
        with bar(len(files), "lds-mnist: scores", "files") as advance:
            rows = []
            for file in files:
                rows.append(self._standing(file))
                advance(1)
        return sorted(rows, key=lambda row: (row.method, row.trainings))

    def _standing(self, file: Path) -> Standing:
        try:
            with np.load(file, allow_pickle=False) as kept:
                scores = np.asarray(kept["scores"], np.float32)
                facts = str(kept["method"]), int(kept["trainings"]), float(kept["seconds"])
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise TurnoverError(
                f"{file}: not a file of scores ({error}); write method, scores, trainings and "
                "seconds with numpy.savez, or delete it"
            ) from None
        wanted = self.losses.shape[-1], self.inside.shape[1]
        if scores.shape != wanted or not np.isfinite(scores).all():
            raise TurnoverError(
                f"{file}: scores of shape {scores.shape} are not {wanted} finite numbers, a row for"
                " each target; correct or delete it"
            )
        single, mean = (lds(scores, self.inside, each) for each in (self.losses[:1], self.losses))
        return Standing(*facts, single, mean, placebo(scores, self.inside, self.losses).value)


def _save(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    def opened(beside: Path) -> None:
        with beside.open("wb") as file:
            write(file)

    write_atomic(path, opened)


# The benchmark


def lds_mnist(setup: Setup, members: int = MEMBERS, targets: Path | None = None) -> dict[str, Any]:
    """The rows of all methods, and how far the losses that they predict can be predicted.

    Raises:
        TurnoverError: if the files are not there or not such images, or there are fewer than two
            members.
    """
    if members < 2:
        raise TurnoverError(f"--members {members}: one has no spread; choose 2 or more")
    tasks = {masks: _task(setup, members, masks, targets) for masks in MASKS}
    first, ks = tasks[MASKS[0]], _budgets(members)
    named = "" if targets is None else f"-{targets.stem}"
    bank = Bank.of(setup.runs / f"lds-mnist{named}", first)
    for masks, task in tasks.items():
        evidence, seconds = evidence_of(task)
        for k in ks:
            for scored in _ours(_first(evidence, k), seconds, masks):
                bank.keep(scored, k)
        if masks == MASKS[0]:
            bank.keep(_permuted(evidence, seconds), members)
    for scored, k in _others(first, ks):
        bank.keep(scored, k)
    sure = reliability(bank.losses.transpose(0, 2, 1))
    return {
        "halves": HALVES,
        "seeds": SEEDS,
        "bank": str(bank.folder),
        "reliability": sure,
        "ceiling": None if sure is None else max(0.0, sure) ** 0.5,
        "rows": bank.standings(),
    }


def _task(setup: Setup, members: int, masks: int | None, targets: Path | None) -> EvaluationTask:
    """All targets of a run with so many members, trained now where it is not kept."""
    if setup.data is None:
        raise TurnoverError(f"name the folder that holds {TRAIN} and {TARGETS} with --path")
    train, held = setup.data / TRAIN, targets or setup.data / TARGETS
    for file in (train, held):
        if not file.is_file():
            raise TurnoverError(f"{file}: no such file; put it there, or name another --path")
    settings = TrainSettings(
        FILES,
        own=OwnData(
            train=str(train), validation=str(held), image_column="image", label_column="label"
        ),
        model="mlp",
        members=members,
        options={"groups": 0, "masks": masks},
    )
    run = setup.run(f"lds-mnist-{held.stem}-{masks or 'own'}-{members}", settings)
    return EvaluationTask(
        run, choose_device(setup.device), [int(row) for row in run.validation.index]
    )


def _budgets(members: int) -> list[int]:
    """Numbers of trainings up to so many."""
    powers = {2**power for power in range(members.bit_length())}
    return sorted({one for one in (*powers, 10, members) if one <= members})


def _ours(some: Evidence, seconds: float, masks: int | None) -> Iterator[Scored]:
    """The mean of the members' raw influences, and what pages show of them."""
    whole, named = some.task.settings.members or 1, f"{masks} masks" if masks else "own masks"
    share = len(some.values) / whole
    training, spent = some.task.run.manifest["timings"]["training"] * share, seconds * share
    yield Scored(f"turn-over, raw mean, {named}", some.values.mean(0), training, spent)
    if len(some.values) > 1:
        yield _shown(some, named, training, spent)


def _first(evidence: Evidence, members: int) -> Evidence:
    """The evidence of the first members alone."""
    model = some_members(evidence.model, range(members))
    return Evidence(evidence.task, model, evidence.values[:members])


def _shown(evidence: Evidence, named: str, training: float, spent: float) -> Scored:
    begun = time.perf_counter()
    estimated = ESTIMATORS["as shown"].estimate(evidence)
    spent += time.perf_counter() - begun
    return Scored(f"turn-over, {estimated.note}, {named}", estimated.values, training, spent)


def _permuted(evidence: Evidence, seconds: float) -> Scored:
    """`best` with each target's influences taken from another target: what features and residuals
    alone give.
    """
    order = np.random.default_rng(0).permutation(evidence.values.shape[1])
    mixed = replace(evidence, values=evidence.values[:, order])
    training = evidence.task.run.manifest["timings"]["training"]
    return _shown(mixed, f"{MASKS[0]} masks, permuted over targets", training, seconds)


# Plain models


def _others(task: EvaluationTask, ks: Sequence[int]) -> Iterator[tuple[Scored, int]]:
    """Baselines, means over the first k plain models, and k."""
    for scored in baseline_scores(task, _UNTRAINED):
        yield scored, 0
    sums: dict[str, Scored] = {}
    for k in range(1, ks[-1] + 1):
        for scored in baseline_scores(task, _TRAINED, k - 1):
            name = scored.method
            if not scored.values.size:
                raise TurnoverError(f"{name}, plain model {k}: {scored.note}; give it again")
            sums[name] = _added(sums[name], scored) if name in sums else scored
            if k in ks:
                yield replace(sums[name], values=sums[name].values / k), k
    for k in sorted({1, ks[-1]}):
        yield _cross_validated(task, k), k


def _added(first: Scored, second: Scored) -> Scored:
    return replace(
        first,
        values=first.values + second.values,
        train_seconds=first.train_seconds + second.train_seconds,
        estimate_seconds=first.estimate_seconds + second.estimate_seconds,
    )


def _cross_validated(task: EvaluationTask, models: int) -> Scored:
    """The prior of `best` from so many plain models: their residuals, and the damping that
    generalised cross-validation favours for ridge regression of the labels on the features.
    """
    begun = time.perf_counter()
    problems = [task.problem(member) for member in range(models)]
    trained = time.perf_counter() - begun
    residuals = [
        np.mean([_residuals(problem.model, split) for problem in problems], 0)
        for split in (task.train, task.targets)
    ]
    features = [np.asarray(task.run.features(name), np.float64) for name in ("train", "validation")]
    basis = make_basis(features[0], residuals[0])
    coefficients = basis.coefficients_of(features[1][task.positions], residuals[1])
    damping = cross_validated_damping(features[0], np.eye(residuals[0].shape[1])[task.train.labels])
    scores = prior(coefficients, basis.eigenvalues, damping) @ basis.vectors.T
    method = "best's prior, cross-validated damping, plain models"
    return Scored(method, scores, trained, time.perf_counter() - begun - trained)


@torch.inference_mode()
def _residuals(model: nn.Module, split: Split) -> np.ndarray:
    """One-hot labels minus probabilities, `(n, C)`."""
    chances = model(split.inputs).softmax(-1)
    residuals: np.ndarray = nn.functional.one_hot(split.labels, chances.shape[1]) - chances
    return np.asarray(residuals)


def cross_validated_damping(features: np.ndarray, outputs: np.ndarray) -> float:
    """The decimal logarithm of the ridge penalty, as a share of the largest eigenvalue of
    `features` `(N, D)`, with the least generalised cross-validation error for `outputs` `(N, C)`.
    """
    vectors, sizes, _ = np.linalg.svd(features, full_matrices=False)
    along, total, squares = vectors.T @ outputs, np.square(outputs).sum(), sizes**2

    def error(damping: float) -> float:
        kept = squares / (squares + 10.0**damping * squares[0])
        missed = total - ((2 * kept - kept**2)[:, None] * along**2).sum()
        return float(missed / (len(features) - kept.sum()) ** 2)

    return float(min(GRID, key=error))


def describe(result: dict[str, Any]) -> str:
    """The result of `lds_mnist` as a Markdown table, the best row first."""
    rows = sorted(result["rows"], key=lambda row: -row["lds"]["value"])
    head = (
        "method",
        "trainings",
        "seconds",
        "LDS, 1 seed",
        f"LDS, {result['seeds']} seeds",
        "placebo",
    )
    lines = (
        (
            row["method"],
            row["trainings"],
            f"{row['seconds']:.0f}",
            Figure(**row["lds"]),
            Figure(**row["lds_mean"]),
            f"{row['placebo']:.3f}",
        )
        for row in rows
    )
    sure = f"{result['seeds']} seeds: reliability {result['reliability']:.3f}, ceiling "
    return (
        f"{result['halves']} halves; {sure}{result['ceiling']:.3f}; kept in {result['bank']}\n\n"
        f"{markdown_table(head, lines, right=range(1, len(head)))}"
    )
