"""What a run is, in words, and what the explanations of its errors have in common, in numbers.

`run_certainty` counts over all errors the training items that stand out of the noise, by the words
of `turnover.attribution.estimators.significance`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from turnover.attribution.estimators.significance import RATE, freedom_of, strong, wrong_sign
from turnover.errors import TurnoverError
from turnover.explain.explanation import estimate_words
from turnover.explain.words import snippet
from turnover.models.family import Family
from turnover.models.registry import TrainSettings
from turnover.runs.ranking import TOP
from turnover.runs.run import PREDICTION, Run

_MOST_CLASSES, _NAME = 20, 60


@dataclass(frozen=True)
class Pattern:
    """Statistics of the explanations by influence on the prediction, over the errors that have
    them; influences in nats.

    Attributes:
        misclassified: how many errors there are influences for.
        proponents: share of the `TOP` proponents that carry the predicted label, mean over errors;
            0 for an error that has none.
        proponents_error: its standard error over errors; None for one error.
        opponents: the same share of the `TOP` opponents.
        chance: the share of all training items that carry the predicted label, mean over errors.
        strongest: influence of the strongest proponent, median over errors.
        spread: standard deviation over all training items, median over errors; None where a run
            keeps the ends only.
    """

    misclassified: int
    proponents: float
    proponents_error: float | None
    opponents: float
    chance: float
    strongest: float
    spread: float | None


def explained_pattern(run: Run) -> Pattern | None:
    """The pattern of a run with influence; None if no error has any.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    part, labels = run.influence, run.train["label"].to_numpy()
    if not part.misclassified:
        return None
    shares: list[list[float]] = []
    strongest, spreads = [], []
    for position in part.misclassified:
        ranked = part.ranked(position, PREDICTION)
        same = labels == int(run.item("validation", position)["predicted"])
        sides = [same[ranked.instances[indices]] for indices in ranked.ends(TOP)]
        shares.append([float(side.mean()) if len(side) else 0.0 for side in (*sides, same)])
        strongest.append(float(ranked.values.max()))
        spreads.append(float(ranked.values.std()))
    proponents, opponents, chance = np.mean(shares, axis=0)
    deviation = float(np.std(shares, axis=0, ddof=1)[0]) if len(shares) > 1 else None
    return Pattern(
        misclassified=len(shares),
        proponents=float(proponents),
        proponents_error=None if deviation is None else deviation / len(shares) ** 0.5,
        opponents=float(opponents),
        chance=float(chance),
        strongest=float(np.median(strongest)),
        spread=float(np.median(spreads)) if part.manifest["layout"] == "full" else None,
    )


def run_facts(run: Run, with_influence: bool = True) -> dict[str, str]:
    """Data, model, members and seed, accuracy, estimator, device etc. of a run, as far as its
    manifests give them.

    Raises:
        TurnoverError: `with_influence`, if the run has none that can be used.
    """
    return {name: value for name, value in _facts(run, with_influence) if value}


def missing_words(run: Run) -> str:
    """What a run of another engine's scores does not have, in a line; "" for any other run."""
    if not run.scored:
        return ""
    lacks = "no learning curves, no error bars, no doubts of training labels, no items of your own"
    more = "; no retraining, since --model named none" if run.untrainable else ""
    if run.manifest["adopted"].get("label") == "true" and len(run.classes) > 2:
        more += "; who taught an error is read from what speaks against its true label"
    return f"Scores of another engine, {run.scored}: {lacks}{more}."


def _facts(run: Run, with_influence: bool) -> Iterator[tuple[str, str]]:
    manifest, results, settings = run.manifest, run.manifest["results"], run.manifest["settings"]
    data, versions = manifest["data"], manifest.get("versions", {})
    family = _family(run)
    yield "Caution", family.caution if family else ""
    yield "Data", f"{data.get('name', '')}: {data.get('source', '')}"
    sizes = f"{results['train_size']:,} training and {results['validation_size']:,} validation"
    yield "Items", f"{sizes} {run.kind}s"
    names = [snippet(name, _NAME) for name in run.classes[:_MOST_CLASSES]]
    more = len(run.classes) - _MOST_CLASSES
    yield "Classes", ", ".join(names) + (f" and {more} more" if more > 0 else "")
    yield "Model", _model(run)
    seed = f", from seed {settings['seed']}" if "seed" in settings else ""
    yield "Members", "" if run.scored else f"{results['members']}{seed}"
    without = "unknown" if results["plain_accuracy"] is None else f"{results['plain_accuracy']:.1%}"
    masked = f"{results['validation_accuracy']:.1%} with turn-over dropout"
    where = f"{masked}, {without} without"
    if run.scored:
        where = f"{results['validation_accuracy']:.1%}, of the model trained here {without}"
    yield "Accuracy", where
    if "test_accuracy" in results:
        tested = f"{results['test_accuracy']:.1%} of {results['test_size']:,} test items"
        yield "Test", tested
    yield "Estimator", _estimator(run) if with_influence else ""
    yield "Device", str(manifest.get("device", ""))
    where = "elsewhere, made a run on " if "adopted" in manifest else ""
    version = f", torch {versions['torch']}" if "torch" in versions else ""
    yield "Trained", f"{where}{str(manifest.get('created', ''))[:10]}{version}"
    yield "Leaks", ", ".join(map(str, manifest.get("leaks", [])))


def _family(run: Run) -> Family | None:
    """The family of a run's model; None where its settings are of another version."""
    try:
        return TrainSettings.read(run.manifest["settings"], run.kind).family
    except TurnoverError:
        return None


def _model(run: Run) -> str:
    saved = run.manifest["settings"]
    if not saved.get("model"):
        return ""
    family = _family(run)
    if family is None:
        return str(saved["model"])
    shared = f", {masks:,} that items share" if (masks := run.manifest.get("masks")) else ""
    return f"{saved['model']}{family.where(run.kind)}, {family.masking}{shared}"


def _estimator(run: Run) -> str:
    part = run.influence.manifest
    words = estimate_words(str(part["estimator"]), int(run.manifest["results"]["members"]))
    return words + (f", computed in {part['precision']}" if "precision" in part else "")


# Certainty

_VALUES = 2**20
"""How many influences are processed at once."""


@dataclass(frozen=True)
class Certainty:
    """Strong and weak training items of a run's errors, by influence on the prediction.

    Attributes:
        strong: for each error that has influences, by position, how many training items are strong;
            empty where no standard error is known (one member).
        weak: the same of weak ones.
        misclassified: how many errors have influences.
        train_size: number of training items ranked for each.
        members: models in the run.
        agreement: mean row correlation of the estimate from one half of the members with the other
            half's raw median, measured when the run's estimator was chosen; None for fewer than
            four members.
        partly: whether the run keeps only the ends of each ranking, so that counts are lower
            bounds.
    """

    strong: dict[int, int]
    weak: dict[int, int]
    misclassified: int
    train_size: int
    members: int
    agreement: float | None
    partly: bool

    @property
    def known(self) -> bool:
        """Whether standard errors are known."""
        return bool(self.strong)

    @property
    def share(self) -> float:
        """Share of the errors with at least one strong training item; 0 where nothing is known."""
        return float(np.mean([count > 0 for count in self.strong.values()])) if self.known else 0.0


def run_certainty(run: Run) -> Certainty:
    """Count the strong and weak training items of all errors of a run.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    part, members, total = run.influence, int(run.manifest["results"]["members"]), len(run.train)
    chunks: list[tuple[np.ndarray, np.ndarray]] = []
    if members > 1 and part.misclassified:
        estimates, errors = (part.array(f"{PREDICTION}_{name}") for name in ("estimate", "error"))
        freedom = freedom_of(part.estimator, members, part.manifest.get("masks"))
        step = max(1, _VALUES // estimates.shape[1])
        for first in range(0, len(estimates), step):
            rows = slice(first, first + step)
            chances = wrong_sign(np.asarray(estimates[rows]), np.asarray(errors[rows]), freedom)
            chunks.append((strong(chances, total).sum(1), (chances <= RATE).sum(1)))
    counts = [np.concatenate(parts) for parts in zip(*chunks, strict=True)] or [
        np.empty(0, int)
    ] * 2
    certain, passing = (
        dict(zip(part.misclassified, column.tolist(), strict=False)) for column in counts
    )
    agreement = part.manifest["agreement"].get(part.estimator)
    return Certainty(
        strong=certain,
        weak={error: passing[error] - count for error, count in certain.items()},
        misclassified=len(part.misclassified),
        train_size=total,
        members=members,
        agreement=None if agreement is None else float(agreement),
        partly=part.manifest["layout"] == "top",
    )
