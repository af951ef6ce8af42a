"""What is shown of a ranking of training items: entries, thumbnails, and which errors are worth a look first.

Needs no torch, so pages and commands share it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from turnover.atomic import disk_error, write_atomic
from turnover.estimators.trust import STRONG, WEAK, freedom_of, trust_words
from turnover.runs import Ranked, Run

TOP = 10
"""How many proponents count as an error's explanation where a number is made of them."""


def ranking_entries(run: Run, ranked: Ranked, top: int) -> dict[str, Any]:
    """Both ends of a ranking: `proponents` and `opponents` as `training_entries` gives them, and `trust`, counts over all of it."""
    words = ranking_trust(run, ranked)
    proponents, opponents = (training_entries(run, ranked, places, words) for places in ranked.ends(top))
    return {"trust": trust_counts(words), "proponents": proponents, "opponents": opponents}


def ranking_trust(run: Run, ranked: Ranked) -> np.ndarray:
    """A plain word for each item of a ranking (`turnover.estimators.trust`), `(n,)`; "" where no error is known."""
    freedom = freedom_of(run.influence.estimator, int(run.manifest["results"]["members"]))
    words = trust_words(ranked.values, ranked.errors, len(run.train), freedom)
    return np.where(np.isfinite(ranked.errors), words, "")


def trust_counts(words: np.ndarray) -> dict[str, int] | None:
    """How many items of a ranking are strong and weak; None where no error is known."""
    return {word: int((words == word).sum()) for word in (STRONG, WEAK)} if words.any() else None


def training_entries(run: Run, ranked: Ranked, places: np.ndarray, words: np.ndarray) -> list[dict[str, Any]]:
    """What is shown of some training items of a ranking.

    Args:
        places: of these items in the ranking.
        words: `ranking_trust` of the whole ranking.

    Returns:
        For each: position, id, label, influence and standard_error in nats, trust (its word), text or thumbnail path; the error
        and the word are None for one member.
    """
    entries = []
    for place in places:
        position = int(ranked.instances[place])
        item = run.item("train", position)
        entry = {
            "position": position,
            "id": str(item["id"]),
            "label": run.classes[int(item["label"])],
            "influence": float(ranked.values[place]),
            "standard_error": finite(ranked.errors[place]),
            "trust": str(words[place]) or None,
        }
        entries.append(entry | content_of(run, position))
    return entries


def finite(number: float) -> float | None:
    """A number for JSON, which knows no NaN."""
    return float(number) if np.isfinite(number) else None


def content_of(run: Run, position: int, split: str = "train") -> dict[str, str]:
    """An item's `text`, or the path of its `thumbnail`, a PNG that is made in RUN/thumbnails when first asked for."""
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
    """How far an error's proponents stand out of their noise: mean of the `TOP` largest influence / standard error.

    Without standard errors (one member) the error's own spread of influences takes their place.
    """
    ranked = run.influence.ranked(position, "prediction")
    errors = np.where(np.isfinite(ranked.errors), ranked.errors, ranked.values.std())
    ratios = np.divide(ranked.values, errors, out=np.zeros_like(ranked.values), where=errors > 0)
    return float(np.sort(ratios)[-TOP:].mean())


def known_answers(run: Run, position: int) -> int:
    """How many of an error's `TOP` proponents carry the same planted mark as the error: the answer known to be right."""
    mark = run.item("validation", position)["planted"]
    if not mark:
        return 0
    ranked = run.influence.ranked(position, "prediction")
    proponents = ranked.instances[ranked.ends(TOP)[0]]
    return int((run.train["planted"].loc[proponents] == mark).sum())


def clearest_first(run: Run) -> list[int]:
    """Positions of the errors that have influences: those whose planted cause is found first, then the clearest."""
    return sorted(run.influence.errors, key=lambda position: (-known_answers(run, position), -clearness(run, position)))
