"""All methods that are compared, under one name each: `METHODS[name](problem, schedule, targets)` gives `Scores`.

What the methods' own modules leave open is settled here once, the same for every comparison. A method that knows plain SGD
only (Hara et al.) trains by the `schedule` that the caller names, or by the problem's own if that is plain SGD; all others
explain the problem's own model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from turnover.rivals.base import Problem, Rival, Schedule, Scores, Told, silent
from turnover.rivals.hessian import CaptumInfluence, InfluenceFunction
from turnover.rivals.loss import TrainingLoss
from turnover.rivals.random import RandomScores
from turnover.rivals.retraining import Retraining
from turnover.rivals.sgd_influence import SgdInfluence
from turnover.rivals.similarity import Similarity
from turnover.rivals.solvers import ConjugateGradient, Lissa
from turnover.rivals.tracin import TracIn
from turnover.rivals.turnover import TurnoverInfluence
from turnover.training import Split


@dataclass(frozen=True)
class Method:
    """One method, to be called with a problem.

    Attributes:
        name: the method in a few words, with its source.
        make: the rival, given the schedule of plain SGD for those that know nothing else (None: the problem's own).
        asks: whether it starts from the problem's trained model, which somebody must have trained.
        keeps: whether it needs that model again, to answer for another target.
        each: whether its cost is so much for each training item, so that a few of them tell the cost of all.
    """

    name: str
    make: Callable[[Schedule | None], Rival]
    asks: bool = False
    keeps: bool = False
    each: bool = False

    def __call__(
        self, problem: Problem, schedule: Schedule | None = None, targets: Split | None = None, instances: Tensor | None = None, progress: Told = silent
    ) -> Scores:
        """Scores `(targets, instances)`, positive = the training item lowers the target's loss.

        Args:
            problem: one plain trained model and its data.
            schedule: plain SGD, for a method that knows nothing else; by default the problem's own.
            targets: what is explained in place of the problem's own targets.
            instances: numbers of the training items asked for; all by default.
            progress: told the share of the work just done.

        Raises:
            TurnoverError: if the method cannot treat this problem; the message says why.
        """
        asked = problem if targets is None else replace(problem, targets=targets)
        return self.make(schedule).scores(asked, instances, progress)


def _method(rival: Rival, **facts: bool) -> Method:
    """A method without a schedule of its own."""
    return Method(rival.name, lambda schedule: rival, **facts)


def methods(members: int = 1, groups: int | None = None) -> dict[str, Method]:
    """Every method by its short name; turn-over dropout with so many members and groups of units (None: single units)."""
    return {
        "turnover": _method(TurnoverInfluence(members=members, groups=groups)),
        "turnover-plain": _method(TurnoverInfluence(plain=True, members=members, groups=groups)),
        "retraining": _method(Retraining(), keeps=True, each=True),
        "sgd-influence": Method(SgdInfluence().name, SgdInfluence, keeps=True),
        "influence-cg": _method(InfluenceFunction(ConjugateGradient()), asks=True, keeps=True),
        "influence-lissa": _method(InfluenceFunction(Lissa()), asks=True, keeps=True),
        "influence-captum": _method(CaptumInfluence("arnoldi"), asks=True, keeps=True),
        "tracin-last": _method(TracIn("last")),
        "tracin-all": _method(TracIn("all")),
        "similarity": _method(Similarity()),
        "loss": _method(TrainingLoss(), asks=True),
        "random": _method(RandomScores()),
    }


METHODS: Mapping[str, Method] = methods()
"""Every method by its short name, turn-over dropout as in the paper: one member, masks of single units."""
