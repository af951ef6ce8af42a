"""The view model of the Trust page: whether the influences of a run can be read, and why.

One sentence says whether single influences are readable: they are if at least `GOAL` of the
misclassified items have a training item marked strong. Below it stand a few numbers, the meaning of
the words strong, weak and noise in this run, and the checks of these words on independent members.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median, quantiles

from turnover.attribution.estimators.significance import NOISE, RATE, STRONG, WEAK
from turnover.errors import counted
from turnover.explain.facts import Certainty
from turnover.research.evaluate.results import (
    AS_SHOWN,
    COVERAGE_TOP,
    LDS,
    SAME_SIGN,
    SAME_SIGN_CLAIMED,
    SAME_SIGN_TOP,
    SPEARMAN,
    Figure,
    Result,
    Results,
)

GOAL = 0.3
"""Share of misclassified items with a strong training item from which single influences count as
readable.
"""

_RATE = f"{100 * RATE:g} %"
_GROUPS = (
    "read groups of training items, whose noise averages out, or train again with more members"
)


@dataclass(frozen=True)
class Number:
    """One number at the top: name, value and explanation."""

    name: str
    value: str
    help: str


@dataclass(frozen=True)
class Word:
    """A trust word of the cards: its meaning, and how often it applies in this run."""

    word: str
    meaning: str
    here: str


@dataclass(frozen=True)
class Trust:
    """The text of the Trust page; `readable` is whether single influences can be read, `checked`
    holds sentences on the checks with independent members.
    """

    sentence: str
    readable: bool
    numbers: tuple[Number, ...]
    words: tuple[Word, ...]
    checked: tuple[str, ...]


def build_trust(certainty: Certainty, results: Results) -> Trust:
    """Assess the influences of a run from its certainty and its measured results; stale results are
    ignored.
    """
    fresh = {result.name: result for result in results.found if not result.stale}
    readable = certainty.share >= GOAL
    return Trust(
        sentence_of(certainty),
        readable,
        _numbers(certainty, fresh),
        _words(certainty),
        _checked(certainty, fresh),
    )


def sentence_of(certainty: Certainty) -> str:
    """Whether single influences of the run can be read, else what to do."""
    errors, share = certainty.misclassified, certainty.share
    all_of_them = counted(errors, "error")
    if not errors:
        return (
            "No influence on an error is known in this run, so there is nothing to trust or to "
            "doubt."
        )
    if not certainty.known:
        return (
            "Do not read single influences of this run: with one member nothing tells them from "
            f"noise; {_GROUPS}."
        )
    if not share:
        return (
            f"Do not read single influences of this run: behind none of {all_of_them} can a "
            f"training item be told from noise; {_GROUPS}."
        )
    with_strong = sum(count > 0 for count in certainty.strong.values())
    if share < GOAL:
        return (
            f"Mostly do not read single influences of this run: only behind {with_strong:,} of "
            f"{all_of_them} can a training item be told from noise; {_GROUPS}."
        )
    least = "at least " if certainty.partly else ""
    usual = (
        f"{least}{certainty.usual:,.0f} of {certainty.train_size:,} training items "
        f"({certainty.usual_share:.0%}) can usually be told from noise"
    )
    others = (
        ""
        if with_strong == errors
        else f"; behind {errors - with_strong:,} of {all_of_them} none can"
    )
    return (
        f"Read single influences of this run where the word is “{STRONG}”: behind an error, "
        f"{usual}{others}."
    )


def _numbers(certainty: Certainty, fresh: dict[str, Result]) -> tuple[Number, ...]:
    known, unknown = certainty.known, "unknown"
    share = Number(
        "With a strong item",
        f"{certainty.share:.0%}" if known else unknown,
        f"Share of {counted(certainty.misclassified, 'error')}; by influence on the prediction",
    )
    usual = f"{'≥ ' if certainty.partly else ''}{certainty.usual:,.0f}" if known else unknown
    strong = Number(
        "Strong items an error",
        usual,
        f"Median over errors, of {certainty.train_size:,} training items",
    )
    members = Number(
        "Members",
        f"{certainty.members:,}",
        "Models that differ in masks, initialisation and batches; their spread shows the noise",
    )
    return share, strong, _agreement(certainty, fresh), members


def _agreement(certainty: Certainty, fresh: dict[str, Result]) -> Number:
    """Agreement of two halves of the members: measured, else as recorded when the run chose its
    estimator.
    """
    measured = _shown_figure(fresh, "agreement", SPEARMAN)
    if measured is not None:
        return Number(
            "Split-half agreement",
            f"{measured.value:.2f}",
            "Rank correlation of what is shown, estimated from each half of the members",
        )
    if certainty.agreement is None:
        return Number("Split-half agreement", "unknown", "Needs four members or more")
    about = (
        "Correlation of the estimate from half of the members with the raw median of the others, "
        "which is noisy: so it is low even for a good estimate"
    )
    return Number("Agreement, raw", f"{certainty.agreement:.2f}", about)


def _words(certainty: Certainty) -> tuple[Word, ...]:
    strong, weak = _usually(certainty, certainty.strong), _usually(certainty, certainty.weak)
    return (
        Word(
            STRONG.capitalize(),
            "Told from noise. All training items of an error are judged together (Benjamini and "
            f"Hochberg), so that of its strong items at most {_RATE} are expected to have the "
            "wrong sign: to help where they are said to hurt, or the other way round.",
            strong,
        ),
        Word(
            WEAK.capitalize(),
            f"Looked at alone, its sign is wrong with a chance of at most {_RATE}. But among "
            "hundreds of items that are only noise, one in twenty passes.",
            weak,
        ),
        Word(
            NOISE.capitalize(),
            "Other masks could as well have given the other sign. That is not to say that the item "
            "does nothing: only that this run cannot tell.",
            "",
        ),
    )


def _usually(certainty: Certainty, counts: dict[int, int]) -> str:
    if not counts:
        return ""
    first, *_, last = (
        quantiles(counts.values(), n=10, method="inclusive")
        if len(counts) > 1
        else [*counts.values()] * 2
    )
    low, middle, high = (round(number) for number in (first, median(counts.values()), last))
    return (
        f"Here: {middle:,} of {certainty.train_size:,} an error (the middle four fifths of the "
        f"errors have {low:,} to {high:,})."
    )


def _checked(certainty: Certainty, fresh: dict[str, Result]) -> tuple[str, ...]:
    """Sentences on the checks of the trust words, and on their limits."""
    lines = []
    if (signs := _shown_figure(fresh, "agreement", SAME_SIGN)) is not None:
        half, claimed, first = (
            certainty.members // 2,
            *(
                _shown_figure(fresh, "agreement", name)
                for name in (SAME_SIGN_CLAIMED, SAME_SIGN_TOP)
            ),
        )
        lines.append(
            f"Checked on independent members: what {half} members call strong, the other "
            f"{certainty.members - half} give the same sign in {signs.value:.1%} of the "
            f"cases{_bounds(signs)}."
            + (
                ""
                if claimed is None
                else (
                    " By the error bars of both, which are noisy alike, one would expect "
                    f"{claimed.value:.1%}."
                )
            )
            + (
                ""
                if first is None
                else f" Among the ten largest of each target: {first.value:.1%}."
            )
        )
    if (inside := _shown_figure(fresh, "agreement", COVERAGE_TOP)) is not None:
        lines.append(
            f"Of each target’s ten largest influences, {inside.value:.0%} come out within the error"
            " bars (1.96 standard errors) on the other members; true error bars would give 95 %, "
            "so trust the size of the largest numbers less than their sign."
            if inside.value < 1 - RATE
            else (
                f"Of each target’s ten largest influences, {inside.value:.0%} come out within the "
                "error bars (1.96 standard errors) on the other members."
            )
        )
    if (score := _shown_figure(fresh, "lds", LDS)) is not None:
        lines.append(
            "Summed over many items, these influences predict what retraining on half of the data "
            f"does with a rank correlation of {score}."
        )
    lines.append(
        "The words speak of the noise of masks, starts and batches only. Whether leaving an item "
        "out would do the same is what retraining measures."
    )
    return tuple(lines)


def _bounds(figure: Figure) -> str:
    return (
        ""
        if figure.low is None or figure.high is None
        else f" (95 % interval {figure.low:.1%} to {figure.high:.1%})"
    )


def _shown_figure(fresh: dict[str, Result], name: str, figure: str) -> Figure | None:
    """A measured figure of the estimates that pages show; None if not measured."""
    rows = fresh[name].rows if name in fresh else ()
    return next(
        (
            row.figures[figure]
            for row in rows
            if row.method.endswith(AS_SHOWN) and figure in row.figures
        ),
        None,
    )
