"""Are the causes of errors confirmed by retraining, and is chance not?

- A row for each kind of cause: of the errors with it, the shares whose claim
  (`turnover.explain.claims.why_claim`) is confirmed, refuted or neither, and of the models that
  made the mistake the share that no longer does. These proofs are kept in the run, so that they
  stand wherever the causes do.
- *random items*: the same for `PLACEBOS` random sets, each as large and with the same labels as a
  claim that is drawn at random, on a random error. At most 6 of 100 may be confirmed.
- *injected cue*: claims that name all training items with the injected cue of an error.
- *groups that flip*: the smallest group that is predicted to flip each error, with sums scaled by
  what the proofs above showed (`turnover.explain.flips`); *errors* is the share that has one.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from turnover.attribution.masks import derive_seed
from turnover.errors import TurnoverError
from turnover.explain.causes import causes
from turnover.explain.claims import Claim, group_claim, why_claim
from turnover.explain.flips import smallest_flip
from turnover.explain.groups import Mistake, injected
from turnover.research.evaluate.results import Figure, ResultRow
from turnover.research.evaluate.scores import Options
from turnover.research.evaluate.statistics import mean_over_rows
from turnover.research.evaluate.task import EvaluationTask
from turnover.runs.proofs import CONFIRMED, REFUTED, UNDECIDED, Proof, keep_proof, scale_of
from turnover.runs.run import Run
from turnover.workflows.prove import prove

PLACEBOS = 100
WHY, RANDOM, INJECTED, FLIPS = "all causes", "random items", "injected cue", "groups that flip"
_RANDOM, _CUE = 18, "cue-"


def measure(task: EvaluationTask, options: Options) -> dict[str, Any]:
    """Shares of verdicts on causes, on chance, on injected cues and on groups that flip.

    Raises:
        TurnoverError: if the run has no influence, no error, or cannot be trained again.
    """
    run, begun = task.run, time.perf_counter()
    found, errors = causes(run), run.influence.misclassified
    if not errors:
        raise TurnoverError(f"{run.folder}: no error has influences, so there is nothing to prove")
    whys = [why_claim(run, found, error) for error in errors]
    claims = {WHY: whys, INJECTED: _injected(run, errors), RANDOM: random_claims(run, whys)}
    proofs = _proved(task, claims)
    for proof in proofs[WHY]:
        keep_proof(run, proof)
    scale = scale_of(proofs[WHY]) or 0.0
    flips = [_flip(run, error, scale) for error in errors]
    flipping = _proved(task, {FLIPS: [claim for claim in flips if claim]})[FLIPS]
    by_kind = defaultdict(list)
    for proof in proofs[WHY]:
        by_kind[f"cause: {found.by_error[proof.error].kind}"].append(proof)
    kinds = {**proofs, **dict(sorted(by_kind.items()))}
    seconds = time.perf_counter() - begun
    rows = [ResultRow(name, seconds, 0.0, figures(kind)) for name, kind in kinds.items()]
    share = {"errors": Figure(len(flipping) / len(errors))}
    rows.append(ResultRow(FLIPS, seconds, 0.0, share | figures(flipping)))
    return {"errors": len(errors), "scale": scale, "rows": rows}


def figures(proofs: Sequence[Proof]) -> dict[str, Figure]:
    """Shares of the verdicts, and of the mistakes that are gone."""
    if not proofs:
        return {}
    shares = {
        verdict: mean_over_rows(np.array([proof.verdict == verdict for proof in proofs], float))
        for verdict in (CONFIRMED, REFUTED, UNDECIDED)
    }
    gone = np.array([proof.gone / proof.made for proof in proofs if proof.made])
    counts = {"claims": Figure(len(proofs))}
    return counts | shares | ({"gone": mean_over_rows(gone)} if len(gone) else {})


def random_claims(run: Run, claims: Sequence[Claim], count: int = PLACEBOS) -> list[Claim]:
    """Claims on random items, each like a random one of some claims in size and labels, and on a
    random one of their errors.
    """
    labels, drawn = run.train["label"].to_numpy(), []
    rng = np.random.default_rng(derive_seed(0, _RANDOM))
    for _ in range(count):
        claim, other = (claims[number] for number in rng.integers(len(claims), size=2))
        wanted = np.bincount(labels[claim.items])
        items = [
            rng.permutation(np.flatnonzero(labels == label))[:size]
            for label, size in enumerate(wanted)
        ]
        drawn.append(Claim(other.error, np.sort(np.concatenate(items)), "random items"))
    return drawn


def _proved(task: EvaluationTask, claims: dict[str, list[Claim]]) -> dict[str, list[Proof]]:
    """The proofs of some lists of claims, trained together."""
    every = [claim for some in claims.values() for claim in some]
    proofs = iter(prove(task.run, every, str(task.device), task.cluster) if every else [])
    return {name: [next(proofs) for _ in some] for name, some in claims.items()}


def _injected(run: Run, errors: Sequence[int]) -> list[Claim]:
    """For each error with an injected cue, all training items with it."""
    marks = {error: str(run.item("validation", error)["planted"]) for error in errors}
    there = set(run.train["planted"].astype(str))
    return [
        group_claim(error, injected(run, mark))
        for error, mark in marks.items()
        if mark.startswith(_CUE) and mark in there
    ]


def _flip(run: Run, error: int, scale: float) -> Claim | None:
    """The smallest group that is predicted to flip an error, if there is one."""
    chosen = smallest_flip(Mistake(run, error), scale).instances
    return Claim(error, np.sort(chosen), "a group that flips it") if len(chosen) else None
