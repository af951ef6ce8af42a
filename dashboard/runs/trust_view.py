"""The view model of the Trust tab: for how many errors the explanations are reliable, what
measurements say of them, and how long a measurement takes.

The explanation of an error is reliable if at least one training item's influence on it can be told
from noise (`turnover.explain.facts.Certainty.strong`).
"""

from __future__ import annotations

from dataclasses import dataclass

from turnover.attribution.estimators.significance import RATE
from turnover.dashboard.shared.jobs_view import time_left
from turnover.errors import counted
from turnover.explain.facts import Certainty
from turnover.research.evaluate.results import (
    COVERAGE_TOP,
    LDS,
    SAME_SIGN,
    SAME_SIGN_CLAIMED,
    SAME_SIGN_TOP,
    SHOWN,
    Figure,
    Results,
)
from turnover.runs.run import Run

GOAL = 0.3
"""Share of errors with a reliable explanation from which single training items may be read."""

_ANY_RUN, _MARKED = ("lds", "agreement", "removal", "loo"), ("injected", "causes")
"""Measures of any run, and of one with injected labels or cues."""
_MODELS, _ELSE = {"lds": 0.7 * 300, "loo": 500.0}, 15.0
"""For how many models of the whole training set a measure trains, and seconds for the rest."""
FOREIGN = (
    "Another engine’s scores come without errors, so only retraining tells how far to trust them."
)
_GROUPS = "read groups of training items, or train again with more models (Members)"


@dataclass(frozen=True)
class Trust:
    """The text of the Trust tab; `readable` is whether single training items can be read, `checked`
    holds sentences on what was measured.
    """

    sentence: str
    readable: bool
    checked: tuple[str, ...]


def build_trust(certainty: Certainty, results: Results) -> Trust:
    """Assess the influences of a run from its certainty and its measured results; stale results are
    ignored.
    """
    return Trust(sentence_of(certainty), certainty.share >= GOAL, _checked(certainty, results))


def sentence_of(certainty: Certainty) -> str:
    """For how many errors the explanations are reliable, and what to do if for few."""
    errors = certainty.misclassified
    if not errors:
        return "No influence on an error is known in this run, so there is nothing to trust yet."
    if not certainty.known:
        return (
            "With one model, nothing tells whether an explanation is reliable; train again with "
            "more models (Members)."
        )
    reliable = sum(count > 0 for count in certainty.strong.values())
    rest, of = errors - reliable, counted(errors, "error")
    if not rest:
        return f"The explanations of all {of} are reliable."
    few = "" if certainty.share >= GOAL else f" So {_GROUPS}."
    if not reliable:
        return f"The tool cannot tell for any of {of} whether its explanation is reliable.{few}"
    return (
        f"Explanations of {reliable:,} of the {of} are reliable; for {rest:,} the tool cannot tell."
        f"{few}"
    )


def open_measures(run: Run, results: Results) -> tuple[str, ...]:
    """What can be measured of a run and is not yet, what says most first."""
    fresh = {result.measure for result in results.found if not result.stale}
    marked = (run.train["planted"] != "").any()
    known = [name for name in _ANY_RUN if not (run.scored and name == "agreement")]
    offered = [name for name in (*known, *(_MARKED if marked else ())) if name not in fresh]
    return tuple(offered or known)


def time_to_measure(run: Run, measure: str) -> str:
    """About how long a measure takes, from the seconds that training took."""
    twin = run.manifest.get("timings", {}).get("twin")
    if measure not in _MODELS or twin is None:
        return "some minutes"
    models = int(run.manifest["results"]["members"])
    return f"about {time_left(_ELSE + _MODELS[measure] * float(twin) / models)}"


def _checked(certainty: Certainty, results: Results) -> tuple[str, ...]:
    """Sentences on what was measured, and on the limits of it."""
    fresh = {result.name: result.rows for result in results.found if not result.stale}

    def shown(name: str, figure: str) -> Figure | None:
        """A measured figure of the estimates that pages show; None if not measured."""
        rows = (row for row in fresh.get(name, ()) if row.method.endswith(SHOWN))
        return next((row.figures[figure] for row in rows if figure in row.figures), None)

    lines = []
    if score := shown("lds", LDS):
        lines.append(
            "Summed over many items, the influences predict what retraining on half of the data "
            f"does with a rank correlation of {score}."
        )
    if signs := shown("agreement", SAME_SIGN):
        claimed, first = (shown("agreement", name) for name in (SAME_SIGN_CLAIMED, SAME_SIGN_TOP))
        half = certainty.members // 2
        lines.append(
            f"What {half} of the models call reliable, the other {certainty.members - half} give "
            f"the same sign in {signs.value:.1%} of the cases"
            + (f" (expected: {claimed.value:.1%})" if claimed else "")
            + (f", among the ten largest of each error in {first.value:.1%}." if first else ".")
        )
    if inside := shown("agreement", COVERAGE_TOP):
        lines.append(
            f"Of each error’s ten largest influences, {inside.value:.0%} come out within ± 1.96 "
            "standard errors on the other models"
            + (
                "; it should be 95 %, so trust their size less than their sign."
                if inside.value < 1 - RATE
                else "."
            )
        )
    return tuple(lines)
