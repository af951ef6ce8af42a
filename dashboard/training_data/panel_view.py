"""One training item in detail: what it did, its curve, its neighbours, and the evidence on its
label, as data for the browser.

On the panel stand plain words; nats, errors and ranks are in the hover texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from turnover.dashboard.shared.content_view import content_data, data_url, doubt_data
from turnover.dashboard.shared.tray_view import who_words
from turnover.dashboard.training_data.browse_view import Training, row
from turnover.explain.doubt import LIKE, nearest_items
from turnover.explain.explanation import ErrorItem, rounded
from turnover.explain.report import verdict_words
from turnover.explain.words import mark, run_pieces, snippet, visible
from turnover.flags import Decision
from turnover.runs.proofs import Proof
from turnover.runs.ranking import Column, finite, influence_column, word_on
from turnover.runs.run import TRUTH, Run

EFFECTS, ERRORS = 4, 6
"""Validation items that are shown of each kind, and errors."""

_LIMIT, _TEXT = 3000, 140


def panel(
    training: Training, position: int, taught: Sequence[ErrorItem], with_influence: bool
) -> dict[str, Any]:
    """A training item; `taught` are the errors among whose strongest proponents it is."""
    run = training.run
    item = run.item("train", position)
    doubt = training.suspects.get(position)
    text = run.kind == "text" and mark(str(item["text"]), (), limit=_LIMIT, pieces=run_pieces(run))
    near, cosines = nearest_items(run, "train", np.array([position]), LIKE)
    neighbours = [
        row(run, int(at)) | {"hover": f"cosine of features {cosine:.3f}"}
        for at, cosine in zip(near[0], cosines[0], strict=True)
    ]
    effects: dict[str, Any] = {"helps": [], "hurts": [], "known": ""}
    if with_influence:
        effects = build_effects(run, position)
    return {
        **row(run, position, doubt),
        "content": content_data(text or None, bytes(item["image"])),
        "facts": standing(training, position),
        "evidence": evidence(run, position, doubt_data(run, doubt), neighbours),
        **effects,
        "taught": [_error(error) for error in taught[:ERRORS]],
        "more": max(0, len(taught) - ERRORS),
        "curve": curve(run, position),
        "neighbours": neighbours,
    }


def standing(training: Training, position: int) -> list[list[str]]:
    """Where the item stands among all, each a sentence and its hover text."""
    run, total = training.run, len(training.unusual)
    rank = rank_of(training.unusual, position)
    unusual = f"{_most(rank, 'unusual')} of {total:,}."
    if training.mean is None:
        return [[unusual, f"Loss where it was not learned: {training.unusual[position]:.2f} nats"]]
    mean, error = (float(values[position]) for values in run.influence.mean_influence)
    noise = "" if finite(error) is None else f" ± {rounded(error)}"
    number = f"Mean influence on the truth: {mean:+.4f}{noise} {run.unit}, over all targets"
    harm = rank_of(-training.mean, position)
    whole = (
        f"On the whole it hurts: {_most(harm, 'harmful').lower()}."
        if mean < 0
        else f"On the whole it helps: {_most(total + 1 - harm, 'helpful').lower()}."
    )
    if run.scored:
        return [[whole, number]]
    self_influence = f"Self-influence: {rounded(float(training.unusual[position]))} nats"
    return [
        [unusual, f"{self_influence}; a large one marks an odd item or a wrong label"],
        [whole, number],
    ]


def rank_of(values: np.ndarray, position: int) -> int:
    """The rank of the value at a position, 1 for the largest."""
    return int((values > values[position]).sum()) + 1


def _most(number: int, what: str) -> str:
    """A rank in words, such as “2nd most unusual”."""
    if number == 1:
        return f"Most {what}"
    ends = {} if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}
    return f"{number:,}{ends.get(number % 10, 'th')} most {what}"


def evidence(
    run: Run, position: int, doubt: dict[str, Any] | None, neighbours: Sequence[dict[str, Any]]
) -> str:
    """What speaks for the proposed label, in a sentence; "" without one."""
    if doubt is None:
        return ""
    item = run.item("train", position)
    predicted = visible(run.classes[int(item["predicted"])])
    chance = float(item[f"probability_{int(item['predicted'])}"])
    votes = sum(one["label"] == doubt["label"] for one in neighbours)
    return (
        f"Proposed: “{doubt['label']}”. The model says “{predicted}” ({chance:.0%}), and {votes} "
        f"of the {len(neighbours)} items most like it are “{doubt['label']}”."
    )


# What it did


def build_effects(run: Run, position: int) -> dict[str, Any]:
    """The validation items whose right answer it helped and hurt most.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    column = influence_column(run, position, TRUTH)
    helps, hurts = (
        [_target(run, position, column, int(index)) for index in indices]
        for indices in column.ends(EFFECTS)
    )
    known = (
        ""
        if len(column.targets) == column.computed
        else f"Known for {len(column.targets):,} of {column.computed:,} validation items."
    )
    return {"helps": helps, "hurts": hurts, "known": known}


def _target(run: Run, instance: int, column: Column, index: int) -> dict[str, Any]:
    position = int(column.targets[index])
    item, trust = run.item("validation", position), word_on(run, instance, position, TRUTH)
    error = finite(column.std_errors[index])
    noise = "" if error is None else f" ± {rounded(error)}"
    predicted = run.classes[int(item["predicted"])]
    wrong = int(item["label"]) != int(item["predicted"])
    return {
        "id": str(item["id"]),
        "text": snippet(str(item["text"]), _TEXT) if run.kind == "text" else "",
        "image": data_url(bytes(item["image"])) if run.kind == "image" else "",
        "label": visible(run.classes[int(item["label"])]),
        "predicted": visible(predicted) if wrong else "",
        "hover": f"{float(column.values[index]):+.4f}{noise} {run.unit}, {trust}".rstrip(", "),
    }


def _error(error: ErrorItem) -> dict[str, Any]:
    return {
        "id": error.id,
        "position": error.position,
        "text": snippet(error.text, _TEXT),
        "image": data_url(error.image),
        "label": visible(error.label),
        "predicted": visible(error.predicted),
        "hover": "Among the ten training items that taught this error most",
    }


def told(
    run: Run, position: int, decided: Sequence[Decision], proofs: Iterable[Proof]
) -> dict[str, Any]:
    """What changes of an item: all decisions on it, the newest first; and what retraining without
    it alone showed of errors, by their ids.
    """
    alone = [proof for proof in proofs if proof.items == (position,)]
    ids, classes = run.validation["id"].astype(str), run.classes
    return {
        "id": str(run.item("train", position)["id"]),
        "history": [
            f"{visible(verdict_words(one.flag))}: {visible(who_words(one))}"
            f"{', undone' * bool(one.undone)}{visible(f' · {one.flag.note}' * bool(one.flag.note))}"
            for one in reversed(decided)
        ],
        "proofs": {
            ids[proof.error]: {
                "verdict": proof.verdict,
                "hover": visible(
                    proof.words(classes[int(run.item("validation", proof.error)["predicted"])])
                )
                + f"\n{proof.numbers}",
            }
            for proof in alone
        },
    }


def curve(run: Run, position: int) -> dict[str, Any]:
    """The item's error per epoch where it was learned and where it was not, and the kept epoch;
    nothing where nobody measured it.
    """
    if run.scored:
        return {}
    learned, unlearned = (
        [round(float(value), 4) for value in losses]
        for losses in run.array("item_losses")[:, :, position]
    )
    kept = int(run.manifest["results"]["kept_epoch"])
    return {
        "learned": learned,
        "not": unlearned,
        "kept": kept,
        "alt": f"This item’s loss over {len(learned)} epochs: at the kept epoch {kept}, "
        f"{learned[kept - 1]:.2f} where it was learned and {unlearned[kept - 1]:.2f} where not",
    }
