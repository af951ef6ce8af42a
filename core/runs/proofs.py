"""Proofs: what retraining without some training items did to a mistake, as a run keeps it.

A claim says that some training items taught a mistake. From each of S seeds three plain models are
trained (`turnover.workflows.prove`): on everything, without the items, and without as many random
ones of the same labels, a new draw for each seed. With the losses of the predicted, wrong label

    d_s = (without the items − everything) − (without random ones − everything)

the claim is

- *confirmed* if the 95 % interval of the mean of d lies above 0: without these items the model
  makes the mistake less surely than without random ones;
- *refuted* if it reaches 0 but not `MATTERS`, −ln .9 = .105 nats: the items take less than a tenth
  off the probability of the mistake;
- *cannot tell* otherwise.

Whoever has no part in a mistake is confirmed, and whoever takes a tenth or more off it is refuted,
in less than one of twenty cases. For any items differ a little from others, and that is no luck of
training. So the interval is d̄ ± t √(s²/S + τ²) by Student's t with S − 1 degrees of freedom: s² is
the variance of d over seeds, and τ² that of the draw, how much more the losses without random items
vary over seeds than those without the items, which are the same ones for all seeds.

Proofs are kept in RUN/proofs/ERROR-KEY.json, and belong to weights and influences: those of others
count as absent. Reading them needs no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import model_validator

from turnover.runs.run import Run, made_with, stale_since
from turnover.storage.artifacts import read_each, read_facts, write_facts
from turnover.storage.schema import Facts, Position, require

CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "cannot tell"
MATTERS = -log(0.9)
"""The least rise of a loss that matters, in nats: a tenth of the probability."""

FOLDER, SEEDS = "proofs", 5
_MODELS = 3  # of a seed
_KEY, _STEM = 12, 8
_START = 6.0
"""Seconds until the first model trains, about."""


@dataclass(frozen=True)
class Proof:
    """One claim on an error, tested.

    Attributes:
        error: its position among the validation items.
        items: positions of the training items that were left out, rising.
        claim: what they are, for a person.
        why: the sentence of the cause that it tests (`turnover.explain.reasons.Cause`), "" if it
            tests none.
        whole, without, random: losses of the predicted label in nats, one a seed.
        made: how many of the models trained on everything make the mistake.
        gone: how many of these no longer make it without the items.
        predicted: the sum of the items' influences on that loss, at face value.
        difference, low, high: the mean difference in nats, and its 95 % interval.
        seconds: that it took.
    """

    error: int
    items: tuple[int, ...]
    claim: str
    why: str
    whole: tuple[float, ...]
    without: tuple[float, ...]
    random: tuple[float, ...]
    made: int
    gone: int
    predicted: float
    difference: float
    low: float
    high: float
    seconds: float

    @property
    def verdict(self) -> str:
        """`CONFIRMED`, `REFUTED` or `UNDECIDED`."""
        if self.low > 0:
            return CONFIRMED
        return REFUTED if self.high < MATTERS else UNDECIDED

    def words(self, predicted: str) -> str:
        """The verdict and what it rests on, in a sentence; `predicted` is the wrong label."""
        head = {
            CONFIRMED: "Confirmed by retraining",
            REFUTED: "Refuted by retraining",
            UNDECIDED: "Retraining cannot tell",
        }[self.verdict]
        left, usual = (exp(-float(np.mean(losses))) for losses in (self.without, self.random))
        return (
            f"{head}: without {self.claim} it says “{predicted}” at {left:.0%}, without as many "
            f"random ones at {usual:.0%}."
        )

    @property
    def numbers(self) -> str:
        """The difference with its interval, and how often the mistake was gone."""
        return (
            f"{self.difference:+.2f} nats of loss more, 95 % interval {self.low:+.2f} to "
            f"{self.high:+.2f}; the mistake was gone in {self.gone} of {self.made} trainings"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """All of it with the verdict, for JSON."""
        return {"verdict": self.verdict, **asdict(self)}


def interval(
    whole: np.ndarray, without: np.ndarray, random: np.ndarray
) -> tuple[float, float, float]:
    """The mean of the paired differences of losses `(S,)`, S ≥ 2, and its 95 % interval."""
    from scipy.stats import t  # slow to import; pages only read proofs

    seeds, difference = len(whole), without - random
    draw = max(0.0, float(np.var(random - whole, ddof=1) - np.var(without - whole, ddof=1)))
    error = (float(np.var(difference, ddof=1)) / seeds + draw) ** 0.5
    mean, reach = float(difference.mean()), float(t.ppf(0.975, seeds - 1)) * error
    return mean, mean - reach, mean + reach


class _Proof(Facts):
    error: Position
    items: list[Position]
    claim: str
    why: str
    whole: list[float]
    without: list[float]
    random: list[float]
    made: Position
    gone: Position
    predicted: float
    difference: float
    low: float
    high: float
    seconds: float

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        require(len(self.whole) == len(self.without) == len(self.random) > 1, "losses")
        require(self.gone <= self.made <= len(self.whole), "gone")
        require(self.low <= self.difference <= self.high, "difference")
        require(bool(self.items), "items")
        return self

    @property
    def value(self) -> Proof:
        values: dict[str, Any] = dict(self)
        lists = ("items", "whole", "without", "random")
        return Proof(**values | {name: tuple(values[name]) for name in lists})


class _Stored(Facts):
    made_with: dict[str, str]
    proof: _Proof


def keep_proof(run: Run, proof: Proof) -> Path:
    """Keep a proof with its run, in the place of one of the same error and items; returns the file.

    Raises:
        TurnoverError: if the run has no usable influence, or the file cannot be written.
    """
    key = hashlib.sha256(np.array(proof.items, "<i8").tobytes()).hexdigest()[:_KEY]
    path = run.folder / FOLDER / f"{proof.error:0{_STEM}}-{key}.json"
    return write_facts(path, {"made_with": made_with(run), "proof": asdict(proof)})


def read_proofs(run: Run) -> tuple[list[Proof], list[str]]:
    """The proofs of a run's weights and influences by error, and the problems of unreadable
    files.
    """
    paths = sorted((run.folder / FOLDER).glob("*.json"))
    stored, problems = read_each(paths, lambda path: _read(path))
    return [one.proof.value for one in stored if not stale_since(run, one.made_with)], problems


def _read(path: Path) -> _Stored:
    return read_facts(path, _Stored, "delete it, and prove it again")


def proofs_of(proofs: Iterable[Proof], error: int) -> list[Proof]:
    """Those of an error."""
    return [proof for proof in proofs if proof.error == error]


def verdicts(proofs: Iterable[Proof]) -> dict[int, str]:
    """The verdict on each training item that proofs of one error left out, by position: that of the
    fewest items.
    """
    largest_first = sorted(proofs, key=lambda proof: -len(proof.items))
    return {item: proof.verdict for proof in largest_first for item in proof.items}


def scale_of(proofs: Sequence[Proof]) -> float | None:
    """What share of a sum of influences three of four proofs showed at least, 0 or more, of those
    whose sum is positive; None if there is none.

    Leaving out all that teach a thing does more than as many of the strongest ones, which others
    stand in for; groups that are chosen by their influences are of the latter kind.
    """
    shares = [
        float(np.mean(proof.without) - np.mean(proof.whole)) / proof.predicted
        for proof in proofs
        if proof.predicted > 0
    ]
    return max(0.0, float(np.quantile(shares, 0.25))) if shares else None


def seconds_to_prove(run: Run, proofs: Sequence[Proof]) -> float | None:
    """How long a proof will take, about: as long as an earlier one of the run, or as its own
    training suggests; None if that is unknown.
    """
    if proofs:
        return _START + max(proof.seconds for proof in proofs)
    results, timings = run.manifest["results"], run.manifest.get("timings", {})
    if "twin" not in timings or "plain_kept_epoch" not in results:
        return None
    # a run of scores has a twin alone
    epochs = results["members"] * results["plain_kept_epoch" if run.scored else "epochs"]
    models = SEEDS * _MODELS * results["plain_kept_epoch"]
    return _START + float(timings["twin"]) * models / epochs
