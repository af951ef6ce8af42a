"""Rankings of training items as they are shown, and a run's estimator as files; needs no torch.

- `ranking_entries` and its parts: proponents and opponents of one target, with thumbnails and trust
  words (`turnover.attribution.estimators.significance`); `clearest_first` orders the misclassified
  items, those most worth a look first.
- `influence_column`: one training item's influences on all targets, a column of the matrix whose
  rows `RunInfluence.ranked` gives.
- `estimator_parts`, `estimator_of`: the estimator as arrays and facts, kept with a run's influence,
  so that pages can estimate too.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from turnover.attribution.estimators.basis import Basis
from turnover.attribution.estimators.estimator import Estimator
from turnover.attribution.estimators.shrinkage import Shrinkage
from turnover.attribution.estimators.significance import STRONG, WEAK, freedom_of, trust_words
from turnover.errors import TurnoverError
from turnover.runs.run import PREDICTION, TRUTH, Ranked, Run, both_ends
from turnover.storage.atomic import disk_error, write_atomic
from turnover.storage.schema import readable

TOP = 10
"""How many proponents count as an error's explanation in summary numbers."""


def target_entries(run: Run, target: int, meaning: str, top: int) -> dict[str, Any]:
    """`ranking_entries` of a target whose influences the run keeps.

    Raises:
        TurnoverError: if this target was not computed.
    """
    ranked, common = run.influence.ranked(target, meaning), foreseen(run, target, meaning)
    return ranking_entries(run, ranked, top, common)


def ranking_entries(
    run: Run, ranked: Ranked, top: int, common: np.ndarray | None = None
) -> dict[str, Any]:
    """Both ends of a ranking: `proponents` and `opponents` as `training_entries` gives them, and
    `trust`, counts over all of it.
    """
    words = ranking_trust(run, ranked)
    proponents, opponents = (
        training_entries(run, ranked, indices, words, common) for indices in ranked.ends(top)
    )
    return {"trust": trust_counts(words), "proponents": proponents, "opponents": opponents}


def foreseen(run: Run, target: int, meaning: str) -> np.ndarray | None:
    """How much of each training item's influence on a target it has in common with items like it,
    `(N,)` in nats; None where the run did not keep it, or its estimates have no such part.
    """
    with suppress(TurnoverError):
        estimator = stored_estimator(run)
        if estimator.directions:
            common = estimator.foreseen(*run.influence.evidence(target, meaning))
            return None if common is None else common[0]
    return None


def ranking_trust(run: Run, ranked: Ranked) -> np.ndarray:
    """A trust word for each item of a ranking (`turnover.attribution.estimators.significance`),
    `(n,)`; "" where no standard error is known.
    """
    part = run.influence
    members, masks = int(run.manifest["results"]["members"]), part.manifest.get("masks")
    freedom = freedom_of(part.estimator, members, masks)
    words = trust_words(ranked.values, ranked.std_errors, len(run.train), freedom)
    return np.where(np.isfinite(ranked.std_errors), words, "")


def strengths(ranked: Ranked, labels: np.ndarray) -> np.ndarray:
    """How many times a usual item of its label each training item of a ranking is: its |influence|
    over the median |influence| of all training items with that label, `(n,)`.

    NaN where a run keeps only the ends of each ranking, or the usual one is 0.

    Args:
        labels: of all training items, `(N,)`.
    """
    ratios = np.full(len(ranked.values), np.nan)
    if len(ranked.values) == len(labels):
        sizes, carried = np.abs(ranked.values), labels[ranked.instances]
        for label in np.unique(carried):
            usual = np.median(sizes[carried == label])
            if usual > 0:
                ratios[carried == label] = sizes[carried == label] / usual
    return ratios


def trust_counts(words: np.ndarray) -> dict[str, int] | None:
    """How many items of a ranking are strong and weak; None where no standard error is known."""
    return {word: int((words == word).sum()) for word in (STRONG, WEAK)} if words.any() else None


def training_entries(
    run: Run,
    ranked: Ranked,
    indices: np.ndarray,
    words: np.ndarray,
    common: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """What is shown of some training items of a ranking.

    Args:
        indices: of these items in the ranking's arrays.
        words: `ranking_trust` of the whole ranking.
        common: what `foreseen` gives.

    Returns:
        For each: position, id, label, influence and std_error in nats, `common`, the part of the
        influence that items like it have as well, the rest being its own, trust word, strength as
        `strengths` gives it, `mates`, how many training items share a mask with it on average over
        members, text or thumbnail path; std_error and trust are None for one member, common and
        strength where they are unknown.
    """
    entries, times = [], strengths(ranked, run.train["label"].to_numpy())
    for index in indices:
        position = int(ranked.instances[index])
        item = run.item("train", position)
        entry = {
            "position": position,
            "id": str(item["id"]),
            "label": run.classes[int(item["label"])],
            "influence": float(ranked.values[index]),
            "std_error": finite(ranked.std_errors[index]),
            "common": None if common is None else float(common[position]),
            "trust": str(words[index]) or None,
            "strength": finite(times[index]),
            "mates": float(run.influence.mates[position]),
        }
        entries.append(entry | content_of(run, position))
    return entries


def finite(number: float) -> float | None:
    """A number for JSON, which knows no NaN."""
    return float(number) if np.isfinite(number) else None


def content_of(run: Run, position: int, split: str = "train") -> dict[str, str]:
    """An item's `text`, or the path of its `thumbnail`, a PNG that is made in RUN/thumbnails when
    first asked for.
    """
    item = run.item(split, position)
    if run.kind == "text":
        return {"text": str(item["text"])}
    path = run.folder / "thumbnails" / f"{split}-{position}.png"
    if not path.exists():
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise disk_error(path.parent, error) from None
        write_atomic(path, lambda beside: beside.write_bytes(item["image"]))
    return {"thumbnail": str(path)}


def clearness(run: Run, position: int) -> float:
    """How clearly an error's proponents stand out of their noise: mean of its `TOP` largest ratios
    of influence to standard error.

    Without standard errors (one member) the error's own spread of influences takes their place.
    """
    ranked = run.influence.ranked(position, "prediction")
    errors = np.where(np.isfinite(ranked.std_errors), ranked.std_errors, ranked.values.std())
    ratios = np.divide(ranked.values, errors, out=np.zeros_like(ranked.values), where=errors > 0)
    return float(np.sort(ratios)[-TOP:].mean())


def known_answers(run: Run, position: int) -> int:
    """How many of an error's `TOP` proponents carry the error's injected mark, the known right
    answer.
    """
    mark = run.item("validation", position)["planted"]
    if not mark:
        return 0
    ranked = run.influence.ranked(position, "prediction")
    proponents = ranked.instances[ranked.ends(TOP)[0]]
    return int((run.train["planted"].loc[proponents] == mark).sum())


def clearest_first(run: Run) -> list[int]:
    """Positions of the errors with influences: first those whose injected cause is found, then the
    clearest.
    """
    return sorted(
        run.influence.misclassified,
        key=lambda position: (-known_answers(run, position), -clearness(run, position)),
    )


# One training item on all targets


@dataclass(frozen=True)
class Column:
    """One training item's influences: validation positions, estimates and standard errors in nats,
    each `(t,)`, and how many targets were computed.

    Where a run keeps the ends of each ranking, these are the targets among whose ends the item is.
    """

    targets: np.ndarray
    values: np.ndarray
    std_errors: np.ndarray
    computed: int

    def ends(self, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices (in these arrays) of the `top` most positive influences, largest first, and of
        the most negative; only of that sign.
        """
        return both_ends(self.values, top)


def influence_column(run: Run, instance: int, meaning: str) -> Column:
    """A training item's influences on the losses of the targets' true labels (`truth`), or of their
    predicted labels (`prediction`).

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    targets, values, std_errors = _column(run, instance, TRUTH)
    if meaning == PREDICTION:  # of all targets but the errors, both are the same
        right = ~np.isin(targets, run.influence.misclassified)
        parts = zip(
            (targets[right], values[right], std_errors[right]),
            _column(run, instance, PREDICTION),
            strict=True,
        )
        targets, values, std_errors = (np.concatenate(pair) for pair in parts)
    return Column(targets, values, std_errors, len(run.influence.targets))


def word_on(run: Run, instance: int, target: int, meaning: str) -> str:
    """Trust word of the influence of a training item on a target, among all training items of that
    target; "" where no standard error is known.

    Raises:
        TurnoverError: if this target was not computed.
    """
    ranked = run.influence.ranked(target, meaning)
    return str(ranking_trust(run, ranked)[np.flatnonzero(ranked.instances == instance)[0]])


def _column(run: Run, instance: int, meaning: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    part = run.influence
    targets = np.array(part.targets if meaning == TRUTH else part.misclassified, np.int64)
    if not len(targets):
        return targets, np.empty(0, np.float32), np.empty(0, np.float32)
    estimates, std_errors = part.array(f"{meaning}_estimate"), part.array(f"{meaning}_error")
    if part.manifest["layout"] == "full":
        return targets, np.array(estimates[:, instance]), np.array(std_errors[:, instance])
    rows, columns = np.nonzero(part.array(f"{meaning}_instances") == instance)
    return targets[rows], np.array(estimates[rows, columns]), np.array(std_errors[rows, columns])


# The estimator as arrays and facts

_ARRAYS = ("noise", "vectors", "eigenvalues", "projector", "random", "deviation")
_SCALARS = tuple(part.name for part in fields(Shrinkage) if part.name != "deviation")


def estimator_parts(estimator: Estimator) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """An estimator's arrays by name, and its facts for a manifest."""
    facts: dict[str, Any] = {"estimator": estimator.name, "agreement": estimator.agreement}
    if estimator.noise is None or estimator.basis is None or estimator.shrinkage is None:
        return {}, facts
    basis, shrinkage = estimator.basis, estimator.shrinkage
    arrays = {
        "noise": estimator.noise,
        "vectors": basis.vectors,
        "eigenvalues": basis.eigenvalues,
        "projector": basis.projector,
        **({} if basis.random is None else {"random": basis.random}),
        "deviation": shrinkage.deviation,
    }
    return arrays, facts | {"shrinkage": {name: getattr(shrinkage, name) for name in _SCALARS}}


def estimator_of(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Estimator:
    """The estimator of which these are the parts."""
    name, agreement = str(facts["estimator"]), facts["agreement"]
    if "shrinkage" not in facts:
        return Estimator(name, agreement)
    vectors, eigenvalues, projector = (arrays[name] for name in _ARRAYS[1:4])
    basis = Basis(vectors, eigenvalues, projector, arrays.get("random"))
    shrinkage = Shrinkage(deviation=arrays["deviation"], **facts["shrinkage"])
    return Estimator(name, agreement, arrays["noise"], basis, shrinkage)


def stored_estimator(run: Run) -> Estimator:
    """The estimator that the run's influences were estimated by.

    Raises:
        TurnoverError: if the run has no influence, or it lacks a part of its estimator, as those of
            earlier versions do.
    """
    part = run.influence
    if "shrinkage.npy" in part.manifest["files"]:
        raise TurnoverError(
            f"{part.folder}: estimated by an earlier version, whose estimator this one does not "
            f"have; {part.again}"
        )
    listed = [name for name in _ARRAYS if f"{name}.npy" in part.manifest["files"]]
    with readable(part.folder, part.again):
        return estimator_of({name: part.array(name) for name in listed}, part.manifest)
