"""Every method that is measured, with what it costs: estimators of turn-over influence, and rivals.

All give scores for the same targets and training items, positive = the item helps. Turn-over influences come from the run's
own files if it keeps them all, else they are computed once. Rivals explain the run's plain twin, which is trained for them;
one that cannot treat a run says why in place of scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from turnover.errors import TurnoverError
from turnover.fidelity.estimators import ESTIMATORS, Evidence
from turnover.fidelity.store import Store
from turnover.fidelity.subject import Subject
from turnover.influences import influence
from turnover.progress import bar
from turnover.rivals.base import Problem, Scores, take
from turnover.rivals.catalog import METHODS, Method
from turnover.rivals.hessian import InfluenceFunction
from turnover.rivals.similarity import Similarity
from turnover.rivals.solvers import ConjugateGradient

RANDOM = "random"
_CENTRED, _LAST = Similarity(centred=True), InfluenceFunction(ConjugateGradient(), "last")
RIVALS: Mapping[str, Method] = {
    **METHODS,
    "similarity-centred": Method(_CENTRED.name, lambda schedule: _CENTRED),
    "influence-cg-last": Method(_LAST.name, lambda schedule: _LAST, asks=True, keeps=True),
}
"""By name: all that are compared anywhere, similarity at its best, and Koh and Liang's influence where it is quick enough for every run."""

USUAL = ("similarity", "similarity-centred", "tracin-last", "influence-cg-last", "loss", RANDOM)
"""Rivals that are measured unless others are named."""

_SELF_ROWS = 512

REFUSALS = (TurnoverError, RuntimeError, MemoryError)
"""How a method says that it cannot treat a model: ours in words, torch and captum by their own errors."""


@dataclass(frozen=True)
class Scored:
    """A method's scores `(T, N)`, positive = the item helps; empty for one that refused, and `note` says why."""

    method: str
    values: np.ndarray
    train_seconds: float
    estimate_seconds: float
    note: str = ""

    @property
    def refused(self) -> bool:
        """Whether there are no scores."""
        return not self.values.size


def evidence_of(subject: Subject) -> tuple[Evidence, float]:
    """The run's raw influences on the targets, and the seconds that they took."""
    part = subject.run.influence
    if part.manifest["layout"] == "full":
        known = part.targets if subject.meaning == "truth" else part.errors
        places = [known.index(position) for position in subject.positions]
        values = np.asarray(part.array(f"{subject.meaning}_members")[:, places])
        return Evidence(subject, subject.model, values), part.manifest["seconds"] * values.size / part.manifest["pairs"]
    store = Store(subject.run, "influences", subject.asked)
    with store.filling():
        if "members" not in store:
            begun, targets, count = time.perf_counter(), subject.targets, len(subject.run.train)
            with bar(subject.model.members * len(targets.labels) * count, f"{subject.run.name}: influence", "pairs") as advance:
                values = influence(subject.model, targets.inputs, targets.labels, np.arange(count), progress=advance).values.numpy()
            store.keep("members", values, seconds=time.perf_counter() - begun)
    values, facts = store.load("members")
    return Evidence(subject, subject.model, values), facts["seconds"]


def turnover_scores(evidence: Evidence, seconds: float) -> Iterator[Scored]:
    """All estimators of these raw influences, which took so many seconds."""
    members, training = len(evidence.values), evidence.subject.run.manifest["timings"]["training"]
    for name, way in ESTIMATORS.items():
        if members < way.least:
            continue
        begun, share = time.perf_counter(), (way.uses or members) / members
        made = way.estimate(evidence)
        spent = seconds * share + time.perf_counter() - begun
        yield Scored(f"turn-over, {name}", made.values, training * share, spent, made.note)


def rival_scores(subject: Subject, names: Sequence[str], member: int = 0) -> Iterator[Scored]:
    """The rivals of these names on one member of the plain twin, for the subject's targets; kept in the run's folder."""
    store = Store(subject.run, "rivals", {**subject.asked, "epochs": subject.epochs(), "member": member})
    yield from _kept(store, subject, names, member, lambda method, problem: method(problem))


def self_scores(subject: Subject, names: Sequence[str], instances: np.ndarray) -> Iterator[Scored]:
    """Self-influence `(1, n)` of some training items by the rivals of these names; kept in the run's folder."""

    def each_on_itself(method: Method, problem: Problem) -> Scores:
        made = [method(problem, targets=take(problem.train, rows), instances=rows) for rows in torch.from_numpy(instances).split(_SELF_ROWS)]
        values = torch.cat([one.values.diagonal() for one in made])[None]
        return replace(made[0], values=values, estimate_seconds=sum(one.estimate_seconds for one in made))

    store = Store(subject.run, "self", {"instances": instances.tolist(), "epochs": subject.epochs()})
    yield from _kept(store, subject, names, 0, each_on_itself)


def _kept(store: Store, subject: Subject, names: Sequence[str], member: int, score: Callable[[Method, Problem], Scores]) -> Iterator[Scored]:
    """What the store holds, computed first where it is missing."""
    with store.filling():
        if missing := [name for name in names if name not in store]:
            with bar(len(missing), f"{subject.run.name}: rivals", "methods") as advance:
                begun = time.perf_counter()
                problem = _problem(subject, member)
                trained = time.perf_counter() - begun
                for name in missing:
                    made = _scored(RIVALS[name], problem, trained, score)
                    store.keep(name, made.values, train_seconds=made.train_seconds, estimate_seconds=made.estimate_seconds, note=made.note)
                    advance(1)
    for name in names:
        values, facts = store.load(name)
        yield Scored(RIVALS[name].name, values, **facts)


def _problem(subject: Subject, member: int) -> Problem | str:
    """The plain twin for rivals, or why there is none."""
    try:
        return subject.problem(member)
    except REFUSALS as error:
        return _first_line(error)


def _scored(method: Method, problem: Problem | str, trained: float, score: Callable[[Method, Problem], Scores]) -> Scored:
    """A rival's scores with its seconds, or none with its reason."""
    try:
        if isinstance(problem, str):
            raise TurnoverError(problem)
        made = score(method, problem)
    except REFUSALS as error:
        return Scored(method.name, np.empty(0), 0.0, 0.0, f"refused: {_first_line(error)}")
    return Scored(method.name, made.values.cpu().numpy(), made.train_seconds + (trained if method.asks else 0), made.estimate_seconds)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
