"""The view model of the Training item page: the list of training items, and one item in detail.

The list is searched and sorted by self-influence, mean influence, loss under the flipped mask, or
flags. The detail shows the item's influences on validation items, its loss per epoch under its mask
and under the flipped mask, its nearest neighbours by the cosine of features, and evidence for
another label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from turnover.dashboard.runs.curves_view import Series
from turnover.explain.doubt import LIKE, nearest_items
from turnover.explain.explanation import rounded, units_sentence
from turnover.explain.words import snippet
from turnover.runs.ranking import Column, finite, influence_column, word_on
from turnover.runs.run import PREDICTION, TRUTH, Run

SELF, HARMFUL, LOSS, FLAGGED = (
    "Self-influence",
    "Most harmful on average",
    "Loss under the flipped mask",
    "Flagged",
)
ORDERS = (SELF, HARMFUL, LOSS, FLAGGED)


@dataclass(frozen=True)
class TrainingItem:
    """A training item and the values that rank it, in nats; influences are None if the run has
    none.

    `predicted` and `probability` are those of the full network, which was trained on the item.
    `flipped_loss` is the loss under the item's flipped mask, whose sub-network never learned it, at
    the kept epoch.
    """

    position: int
    id: str
    label: str
    predicted: str
    probability: float
    injected: str
    text: str
    image: bytes
    flipped_loss: float
    self_influence: float | None
    mean_influence: float | None


def training_items(run: Run, with_influence: bool) -> tuple[TrainingItem, ...]:
    """All training items, by position."""
    rows, classes = run.train, run.classes
    blank: list[float | None] = [None] * len(rows)
    self_influences, means = (
        (run.influence.self_influence.tolist(), run.influence.mean_influence[0].tolist())
        if with_influence
        else (blank, blank)
    )
    flipped = run.array("item_losses")[1, int(run.manifest["results"]["kept_epoch"]) - 1].tolist()
    chances = (
        rows[[f"probability_{number}" for number in range(len(classes))]].to_numpy().max(1).tolist()
    )
    contents = rows["text" if run.kind == "text" else "image"].tolist()
    columns = (rows[name].tolist() for name in ("position", "id", "label", "predicted", "planted"))
    return tuple(
        TrainingItem(
            position=int(position),
            id=str(name),
            label=classes[int(label)],
            predicted=classes[int(predicted)],
            probability=float(chance),
            injected=str(injected),
            text=str(content) if run.kind == "text" else "",
            image=bytes(content) if run.kind == "image" else b"",
            flipped_loss=loss,
            self_influence=self_influence,
            mean_influence=mean_influence,
        )
        for (
            position,
            name,
            label,
            predicted,
            injected,
            chance,
            content,
            loss,
            self_influence,
            mean_influence,
        ) in zip(*columns, chances, contents, flipped, self_influences, means, strict=True)
    )


def select_training(
    items: Collection[TrainingItem], search: str, order: str, flagged: Collection[int]
) -> list[TrainingItem]:
    """The training items in which `search` occurs, in an order; `FLAGGED` keeps flagged items only.
    Without influence, orders by influence are by position.
    """
    wanted = search.strip().lower()
    chosen = [
        item
        for item in items
        if (order != FLAGGED or item.position in flagged)
        and (
            not wanted
            or wanted in item.text.lower()
            or wanted in item.id.lower()
            or wanted in item.label.lower()
            or wanted in item.injected.lower()
        )
    ]
    keys = {
        SELF: lambda item: -(item.self_influence or 0),
        HARMFUL: lambda item: item.mean_influence or 0,
        LOSS: lambda item: -item.flipped_loss,
        FLAGGED: lambda item: item.position,
    }
    return sorted(chosen, key=keys.get(order, keys[SELF]))


def rank_of(values: np.ndarray, position: int) -> int:
    """The rank of the value at a position, 1 for the largest."""
    return int((values > values[position]).sum()) + 1


# One training item

EFFECTS = 6


@dataclass(frozen=True)
class Target:
    """A validation item, the model's prediction for it, and the training item's influence on it
    (nats).
    """

    position: int
    id: str
    label: str
    predicted: str
    text: str
    image: bytes
    influence: float
    std_error: float | None
    trust: str

    @property
    def wrong(self) -> bool:
        return self.label != self.predicted


@dataclass(frozen=True)
class Effects:
    """The most positive and the most negative influences of a training item, with the sentences
    that explain them.
    """

    sentence: str
    units: str
    known: str
    headings: tuple[str, str]
    positive: tuple[Target, ...]
    negative: tuple[Target, ...]


@dataclass(frozen=True)
class Neighbour:
    """A training item with similar features, by cosine."""

    item: TrainingItem
    cosine: float


@dataclass(frozen=True)
class Proposal:
    """Another label with the evidence for it, one sentence each; it may be wrong too."""

    label: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class OwnLosses:
    """A training item's loss per epoch, under its mask and under the flipped mask."""

    epochs: tuple[int, ...]
    series: tuple[Series, ...]
    kept: int
    alt: str


_MEANT = {
    TRUTH: (
        "Influence on the truth: the loss of each validation item’s true label. Positive: learning "
        "this training item lowered it, so there it helps. Negative: there it hurts."
    ),
    PREDICTION: (
        "Influence on the prediction: the loss of the label that the model gave each validation "
        "item, be it right or wrong. Positive: learning this training item pushed the model "
        "towards that label. Negative: away from it."
    ),
}
_HEADINGS = {
    TRUTH: ("Helps most", "Hurts most"),
    PREDICTION: ("Pushed towards what was predicted", "Pushed away from what was predicted"),
}


def build_effects(run: Run, instance: int, meaning: str) -> Effects:
    """The validation items that a training item helps and hurts most.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    column = influence_column(run, instance, meaning)
    members = int(run.manifest["results"]["members"])
    positive, negative = (
        tuple(_target(run, instance, column, int(index), meaning) for index in indices)
        for indices in column.ends(EFFECTS)
    )
    words = (
        " A word is for the item among all training items of that validation item."
        if members > 1
        else ""
    )
    units = units_sentence(run.influence.estimator, members) + words
    return Effects(
        _MEANT[meaning], units, known_sentence(column), _HEADINGS[meaning], positive, negative
    )


def known_sentence(column: Column) -> str:
    """The number of targets on which an item's influence is known, in a sentence."""
    if len(column.targets) == column.computed:
        return f"Out of all {column.computed:,} validation items with influences."
    return (
        f"This run keeps the ends of each ranking only: of {column.computed:,} validation items "
        f"with influences, this training item is among the ends of {len(column.targets):,}; on the "
        "others its influence is smaller than what is kept of them."
    )


def standing(run: Run, item: TrainingItem, with_influence: bool) -> tuple[str, ...]:
    """The item's values and their ranks among all training items, one sentence each."""
    total = len(run.train)
    flipped = np.asarray(
        run.array("item_losses")[1, int(run.manifest["results"]["kept_epoch"]) - 1]
    )
    loss = (
        f"Loss under the flipped mask: {rounded(item.flipped_loss)} nats, rank "
        f"{rank_of(flipped, item.position):,} of {total:,}, the largest first."
    )
    if not with_influence:
        return (loss,)
    self_influences = run.influence.self_influence
    mean, std_errors = run.influence.mean_influence
    error = finite(std_errors[item.position])
    noise = "error not known" if error is None else f"± {rounded(error)}"
    value = float(mean[item.position])
    return (
        (
            f"Self-influence: {rounded(float(self_influences[item.position]))} nats, rank "
            f"{rank_of(self_influences, item.position):,} of {total:,}. A large one marks an odd "
            "item or a wrong label."
        ),
        (
            "On the truth of a validation item, on average over members and all targets: "
            f"{'−' if value < 0 else '+'}{rounded(abs(value))} ({noise}), rank "
            f"{rank_of(-mean, item.position):,} of {total:,} from the most harmful."
        ),
        loss,
    )


def own_losses(run: Run, instance: int) -> OwnLosses:
    """The item's losses per epoch of training, mean over members."""
    masked, flipped = (
        tuple(float(value) for value in losses)
        for losses in run.array("item_losses")[:, :, instance]
    )
    kept, epochs = int(run.manifest["results"]["kept_epoch"]), tuple(range(1, len(masked) + 1))
    series = (
        Series("masked", "Masked", "under its own mask", masked),
        Series("flipped", "Flipped", "under the flipped mask", flipped),
    )
    last = (
        f"at the kept epoch {kept}, {masked[kept - 1]:.2f} nats under its own mask and "
        f"{flipped[kept - 1]:.2f} under the flipped one"
    )
    return OwnLosses(epochs, series, kept, f"This item’s loss over {len(epochs)} epochs: {last}")


def nearest(run: Run, items: Sequence[TrainingItem], instance: int) -> tuple[Neighbour, ...]:
    """The training items whose stored features have the largest cosine with the item's."""
    (near,), (cosines,) = nearest_items(run, "train", np.array([instance]), LIKE)
    return tuple(
        Neighbour(items[int(position)], float(cosine))
        for position, cosine in zip(near, cosines, strict=True)
    )


def proposals(item: TrainingItem, near: Sequence[Neighbour]) -> tuple[Proposal, ...]:
    """Other labels that the run gives evidence for, most evidence first.

    The evidence: the full network predicts the label, or more than half of the neighbours have it.
    """
    evidence: dict[str, list[str]] = {}
    if item.predicted != item.label:
        text = (
            f"The full network, although trained on this item as “{item.label}”, gives "
            f"“{item.predicted}” a probability of {item.probability:.0%}."
        )
        evidence.setdefault(item.predicted, []).append(text)
    labels = Counter(neighbour.item.label for neighbour in near)
    (label, count), *_ = labels.most_common(1) or [("", 0)]
    if label != item.label and 2 * count > len(near):
        cosines = [neighbour.cosine for neighbour in near if neighbour.item.label == label]
        text = (
            f"{count} of its {len(near)} nearest training items are labelled “{label}” (cosine of "
            f"features {min(cosines):.2f} to {max(cosines):.2f})."
        )
        evidence.setdefault(label, []).append(text)
    return tuple(
        Proposal(name, tuple(texts))
        for name, texts in sorted(evidence.items(), key=lambda pair: -len(pair[1]))
    )


def _target(run: Run, instance: int, column: Column, index: int, meaning: str) -> Target:
    position = int(column.targets[index])
    row, classes = run.item("validation", position), run.classes
    return Target(
        position=position,
        id=str(row["id"]),
        label=classes[int(row["label"])],
        predicted=classes[int(row["predicted"])],
        text=snippet(str(row["text"])) if run.kind == "text" else "",
        image=bytes(row["image"]) if run.kind == "image" else b"",
        influence=float(column.values[index]),
        std_error=finite(column.std_errors[index]),
        trust=word_on(run, instance, position, meaning),
    )
