"""Every method that is measured, with its cost: estimators of turn-over influence, and baselines.

An estimator turns the members' raw influences into one number per pair. All methods score the same
targets and training items, positive = the item helps. Turn-over influences come from the run's own
files if it keeps them all, else they are computed once. Baselines explain the run's plain twin,
which is trained for them; one that cannot treat a run gives its reason in place of scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from turnover.attribution.ensemble import Members, shared_masks
from turnover.attribution.estimators.estimator import smoothing
from turnover.attribution.estimators.significance import freedom_of
from turnover.attribution.influence import influence
from turnover.errors import TurnoverError
from turnover.research.baselines.base import REFUSALS, Baseline, Problem, Scores
from turnover.research.baselines.catalog import METHODS
from turnover.research.baselines.hessian import InfluenceFunction
from turnover.research.baselines.simple import Similarity, signed_bm25
from turnover.research.evaluate.results import SHOWN, Figure, ResultRow
from turnover.research.evaluate.task import EvaluationTask
from turnover.runs.model import describe_targets, run_estimator
from turnover.runs.ranking import stored_estimator
from turnover.runs.run import PREDICTION, Run
from turnover.storage.artifacts import Parts
from turnover.storage.progress import bar

# Estimators


class Estimated(NamedTuple):
    """Estimates and errors, each `(T, N)` in nats; errors are NaN for one member. `note` is a
    remark for the table.

    `freedom` is that of the errors (`turnover.attribution.estimators.significance.wrong_sign`).
    """

    values: np.ndarray
    std_errors: np.ndarray
    note: str = ""
    freedom: int | None = None


@dataclass(frozen=True)
class Evidence:
    """Raw influences `(K, T, N)` of the task's training items on its targets, and their K
    members.
    """

    task: EvaluationTask
    model: Members
    values: np.ndarray


@dataclass(frozen=True)
class Way:
    """An estimator: the members it needs, and how many it uses (None: all)."""

    least: int
    estimate: Callable[[Evidence], Estimated]
    uses: int | None = None


def _one(evidence: Evidence) -> Estimated:
    return Estimated(evidence.values[0], np.full_like(evidence.values[0], np.nan))


def _error(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over members."""
    error: np.ndarray = values.std(0, ddof=1) / len(values) ** 0.5
    return error


def _mean(evidence: Evidence) -> Estimated:
    return Estimated(
        evidence.values.mean(0), _error(evidence.values), freedom=len(evidence.values) - 1
    )


def _median(evidence: Evidence) -> Estimated:
    return Estimated(
        np.median(evidence.values, 0),
        _error(evidence.values) * (np.pi / 2) ** 0.5,
        freedom=len(evidence.values) - 1,
    )


def _smoothed(evidence: Evidence) -> Estimated:
    run = evidence.task.run
    estimator = smoothing(
        evidence.values, run.features("train"), run.train["label"].to_numpy(), len(run.classes)
    )
    return Estimated(*estimator.apply(evidence.values), freedom=len(evidence.values) - 1)


def _shown(evidence: Evidence) -> Estimated:
    """The shown estimate: by the run's own estimator, or for some of its members by the one chosen
    for them.
    """
    task = evidence.task
    features = np.asarray(task.run.features("validation")[task.positions])
    targets = describe_targets(evidence.model, task.targets, features)
    if len(evidence.values) == task.settings.members and task.run.has_influence:
        estimator = stored_estimator(task.run)
    else:
        estimator = run_estimator(task.run, evidence.model, task.train, evidence.values, targets)
    return Estimated(
        *estimator.apply(evidence.values, estimator.coefficients_of(targets)),
        estimator.name,
        freedom_of(estimator.name, len(evidence.values), shared_masks(evidence.model)),
    )


ESTIMATORS: Mapping[str, Way] = {
    "one member": Way(1, _one, uses=1),
    "mean of members": Way(2, _mean),
    "median of members": Way(2, _median),
    "smoothed": Way(2, _smoothed),
    "as shown": Way(2, _shown),
}
"""By name: `smoothed` is `turnover.attribution.estimators.estimator`'s, `as shown` what pages show
(`turnover.attribution.estimators`).
"""


# Scores of all methods

RANDOM, BM25 = "random", "bm25"
BASELINES: Mapping[str, Baseline] = {
    **METHODS,
    "similarity-centred": Similarity(centred=True),
    "influence-cg-last": InfluenceFunction(layers="last"),
}
"""By name: `METHODS`, centred similarity, and Koh and Liang's influence on the last layer, which is
quick enough for every run.
"""

USUAL = ("similarity", "similarity-centred", "tracin-last", "influence-cg-last", "loss", RANDOM)
"""Baselines that are measured unless others are named."""

_SELF_ROWS = 512


@dataclass(frozen=True)
class Scored:
    """A method's scores `(T, N)`, positive = the item helps; empty if it rejected the model; `note`
    gives the reason.
    """

    method: str
    values: np.ndarray
    train_seconds: float
    estimate_seconds: float
    note: str = ""

    @property
    def refused(self) -> bool:
        """Whether there are no scores."""
        return not self.values.size

    def row(self, figures: dict[str, Figure], note: str | None = None) -> ResultRow:
        """The method's row of a table."""
        return ResultRow(
            self.method,
            self.train_seconds,
            self.estimate_seconds,
            figures,
            self.note if note is None else note,
        )


def all_scores(task: EvaluationTask, options: Options) -> Iterator[Scored]:
    """Scores of all estimators, of the chosen baselines, and of a file."""
    yield from scores_of_run(task)
    yield from baseline_scores(task, options.baselines)
    yield from foreign_scores(task, options)


def scores_of_run(task: EvaluationTask) -> Iterator[Scored]:
    """What the run itself says: all estimators, or another engine's scores that it was made of."""
    if not task.run.scored:
        yield from turnover_scores(*evidence_of(task))
        return
    ranked = [task.run.influence.ranked(target, task.meaning) for target in task.positions]
    values = np.stack([target.values for target in ranked])
    yield Scored(f"{task.run.scored}{SHOWN}", values, 0.0, 0.0, _ELSEWHERE)


_ELSEWHERE = "made elsewhere"


def foreign_scores(task: EvaluationTask, options: Options) -> Iterator[Scored]:
    """Another engine's scores, if there are any. They are of the loss of the true label: what
    raises that speaks for the answer to an item that is misclassified.
    """
    wrong = np.isin(task.positions, task.run.misclassified_positions)[:, None]
    for name, scores in options.foreign.items():
        values = scores[task.positions]
        turned = np.where(wrong, -values, values) if task.meaning == PREDICTION else values
        yield Scored(name, turned, 0.0, 0.0, _ELSEWHERE)


def self_influences(run: Run) -> dict[str, np.ndarray]:
    """Self-influence `(N,)` of the training items as the run keeps it, by the estimators that have
    one.
    """
    if run.scored:
        return {}
    members = run.influence.array("self")
    values = {"turn-over, one member": np.asarray(members[0])}
    if len(members) > 1:
        values["turn-over, mean of members"] = members.mean(0)
        values["turn-over, median of members"] = np.median(members, 0)
    return values


def evidence_of(task: EvaluationTask) -> tuple[Evidence, float]:
    """The run's raw influences on the targets, and their seconds."""
    if task.run.has_influence and (part := task.run.influence).manifest["layout"] == "full":
        computed = part.targets if task.meaning == "truth" else part.misclassified
        rows = [computed.index(position) for position in task.positions]
        values = part.members(task.meaning, rows)
        return (
            Evidence(task, task.model, values),
            part.manifest["seconds"] * values.size / part.manifest["pairs"],
        )
    store = task.store("influences", task.asked)
    with store.filling():
        if "members" not in store:
            begun, targets, count = time.perf_counter(), task.targets, len(task.run.train)
            with bar(
                task.model.members * len(targets.labels) * count,
                f"{task.run.name}: influence",
                "pairs",
            ) as advance:
                values = influence(
                    task.model,
                    targets.inputs,
                    targets.labels,
                    np.arange(count),
                    progress=advance,
                ).values.numpy()
            store.save("members", {"values": values}, seconds=time.perf_counter() - begun)
    arrays, facts = store.load("members")
    return Evidence(task, task.model, arrays["values"]), facts["seconds"]


def turnover_scores(evidence: Evidence, seconds: float) -> Iterator[Scored]:
    """All estimators on these raw influences, computed in so many seconds."""
    members, training = len(evidence.values), evidence.task.training_seconds
    for name, way in ESTIMATORS.items():
        if members < way.least:
            continue
        begun, share = time.perf_counter(), (way.uses or members) / members
        estimated = way.estimate(evidence)
        spent = seconds * share + time.perf_counter() - begun
        yield Scored(
            f"turn-over, {name}", estimated.values, training * share, spent, estimated.note
        )


def baseline_scores(
    task: EvaluationTask, names: Sequence[str], member: int = 0
) -> Iterator[Scored]:
    """The baselines of these names on one member of the plain twin, for the task's targets; kept
    in the run's folder.
    """
    store = task.store("rivals", {**task.asked, "epochs": task.twin_epochs, "member": member})
    trained = [name for name in names if name != BM25]
    yield from _kept(store, task, trained, member, lambda method, problem: method.scores(problem))
    if BM25 in names:
        yield by_words(task)


def by_words(task: EvaluationTask) -> Scored:
    """`signed_bm25` of the run's texts."""
    name, begun, run = "signed BM25", time.perf_counter(), task.run
    if run.kind != "text":
        return refused(name, "images have no words")
    texts, labels = run.validation["text"].loc[task.positions], task.targets.labels.cpu().numpy()
    values = signed_bm25(texts, labels, run.train["text"], run.train["label"].to_numpy())
    return Scored(name, values, 0.0, time.perf_counter() - begun)


def self_scores(
    task: EvaluationTask, names: Sequence[str], instances: np.ndarray
) -> Iterator[Scored]:
    """Self-influence `(1, n)` of some training items by the baselines of these names; kept in the
    run's folder.
    """

    def each_on_itself(method: Baseline, problem: Problem) -> Scores:
        blocks = [
            method.scores(replace(problem, targets=problem.train.take(rows)), rows)
            for rows in torch.from_numpy(instances).split(_SELF_ROWS)
        ]
        values = torch.cat([block.values.diagonal() for block in blocks])[None]
        return replace(
            blocks[0],
            values=values,
            estimate_seconds=sum(block.estimate_seconds for block in blocks),
        )

    store = task.store("self", {"instances": instances.tolist(), "epochs": task.twin_epochs})
    yield from _kept(store, task, names, 0, each_on_itself)


def _kept(
    store: Parts,
    task: EvaluationTask,
    names: Sequence[str],
    member: int,
    score: Callable[[Baseline, Problem], Scores],
) -> Iterator[Scored]:
    """The stored scores, computed first where missing. What failed for another reason than a
    `TurnoverError`, such as too little memory, is not kept.
    """
    failed: dict[str, Scored] = {}
    with store.filling():
        if missing := [name for name in names if name not in store]:
            with bar(len(missing), f"{task.run.name}: baselines", "methods") as advance:
                begun = time.perf_counter()
                problem = _problem(task, member)
                trained = time.perf_counter() - begun
                for name in missing:
                    try:
                        scored = _scored(BASELINES[name], problem, trained, score)
                    except REFUSALS as error:
                        failed[name] = refused(BASELINES[name].name, error)
                    else:
                        store.save(
                            name,
                            {"values": scored.values},
                            train_seconds=scored.train_seconds,
                            estimate_seconds=scored.estimate_seconds,
                            note=scored.note,
                        )
                    advance(1)
    for name in names:
        if name in failed:
            yield failed[name]
            continue
        arrays, facts = store.load(name)
        yield Scored(BASELINES[name].name, arrays["values"], **facts)


def _problem(task: EvaluationTask, member: int) -> Problem | BaseException:
    """The plain twin for baselines, or why there is none."""
    try:
        return task.problem(member)
    except REFUSALS as error:
        return error


def _scored(
    method: Baseline,
    problem: Problem | BaseException,
    trained: float,
    score: Callable[[Baseline, Problem], Scores],
) -> Scored:
    """A baseline's scores with its seconds, or none if it cannot treat the problem."""
    try:
        if isinstance(problem, BaseException):
            raise problem
        scores = score(method, problem)
    except TurnoverError as error:
        return refused(method.name, error)
    return Scored(
        method.name,
        scores.values.cpu().numpy(),
        scores.train_seconds + (trained if method.asks else 0),
        scores.estimate_seconds,
    )


def refused(name: str, reason: object) -> Scored:
    """A method without scores, and why: a sentence, or the first line of an error."""
    line = (str(reason) or type(reason).__name__).splitlines()[0]
    return Scored(name, np.empty(0), 0.0, 0.0, f"refused: {line}")


# Options

_LEAST_RANKED = 4


@dataclass(frozen=True)
class Options:
    """A user's options: how much is trained again, and which baselines are measured.

    Attributes:
        halves: random halves of the training set (lds).
        seeds: models for every half, for every item that is left out, or for every removal (lds,
            loo, removal, loss-added).
        masked: whether turn-over dropout stays on in retraining (lds).
        instances: training items that are left out (loo).
        baselines: their names.
        errors: errors or targets whose proponents are removed (removal, loss-added).
        removed: how many proponents are removed at once, each of these numbers in turn (removal).
        pairs: file or folder with near duplicates (duplicates).
        truth: table with the right labels of training items (injected).
        foreign: other engines' scores `(V, N)` of all validation items by name, positive = the item
            helps.

    Raises:
        TurnoverError: for too few halves or items to rank, or an unknown baseline.
    """

    halves: int = 60
    seeds: int = 5
    masked: bool = False
    instances: int = 100
    baselines: tuple[str, ...] = USUAL
    errors: int = 10
    removed: tuple[int, ...] = (5, 20, 80)
    pairs: Path | None = None
    truth: Path | None = None
    foreign: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, count in (("--halves", self.halves), ("--instances", self.instances)):
            if count < _LEAST_RANKED:
                raise TurnoverError(f"{name} {count}: a ranking wants {_LEAST_RANKED} or more")
        known = (*BASELINES, BM25)
        if unknown := set(self.baselines) - set(known):
            raise TurnoverError(
                f"--baselines {min(unknown)}: nobody knows it; choose from {', '.join(known)}"
            )
