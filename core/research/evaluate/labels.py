"""Known answers in the data: wrong labels, spurious cues, and near duplicates.

*Injected wrong labels*: the area under the ROC curve for finding them, and the precision of the
first k. *Confirmed label errors*: the same for errors that nobody injected and five raters
confirmed (`turnover.data.sources.text`). A real error is made by a person on a text that invites
it, and is harder to find. Raters saw only labels that cross-validated doubt had suspected, so that
baseline helped to define the answer, and errors it missed count as right labels: read its area, and
how far others fall short of it, with that in mind. Ways to suspect an item; high = suspicious:

- *self-influence* and *flipped loss*: an item with a wrong label has to be memorised, so the
  sub-network that never saw it loses most on it (flipped loss at the epoch that the run kept);
- *label doubt*: the probability of another label where the dashboard's queue has one
  (`turnover.explain.doubt`), else less than any;
- *mean influence*, negated: its effect on the targets, by every estimator and baseline;
- *cross-validated doubt*: one minus the probability of the item's label by logistic regression on
  features, fitted without the item's fold; the score of confident learning (Northcutt, Jiang and
  Chuang 2021).

*Spurious cues*: an error of the demo corpus with an injected cue was taught by the training texts
with the same cue. *Lift*: their share among an error's ten strongest proponents over their share in
the training set; its interval comes from a bootstrap over errors.

*Near duplicates*: pairs that people found (Barz and Denzler 2020). The near duplicate of a test
image should rank high by influence on the true label. *Rank*: its rank among all training items,
ties at their middle, as a share of their number, median over pairs, .5 by chance; *top 1 %*: the
share of pairs among the highest hundredth, .01 by chance. Similarity needs no model for this: it
shows how alike the pairs are, not what a model learned.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from turnover.data.base import CONFIRMED_ERROR, WRONG_LABEL
from turnover.data.forms import numbered
from turnover.data.sources.images import pairs_between
from turnover.data.tables.known import read_table
from turnover.data.tables.labels import label_name
from turnover.errors import TurnoverError
from turnover.explain.causes import suspected_training_items
from turnover.explain.effects import kept_effects
from turnover.research.baselines.base import REFUSALS
from turnover.research.baselines.simple import signed_similarity
from turnover.research.evaluate.results import AUC, Figure, ResultRow
from turnover.research.evaluate.scores import (
    Options,
    Scored,
    all_scores,
    refused,
    self_influences,
    self_scores,
)
from turnover.research.evaluate.statistics import mean_over_rows, median_over_rows
from turnover.research.evaluate.task import EvaluationTask
from turnover.runs.ranking import TOP
from turnover.runs.run import Run

# Near duplicates

RANK, TOP_SHARE = "rank, median", "top 1 %"
_TOP = 0.01


def rank_shares(scores: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """For pairs of a row and a column of scores `(T, N)`: the column's rank in the row, from 1,
    divided by N; `(pairs,)`.
    """
    values = scores[rows, columns][:, None]
    ranks: np.ndarray = (scores[rows] > values).sum(1) + ((scores[rows] == values).sum(1) + 1) / 2
    return ranks / scores.shape[1]


def figures_of(shares: np.ndarray) -> dict[str, Figure]:
    """Figures of ranks that are shares `(pairs,)`."""
    return {
        RANK: median_over_rows(shares),
        TOP_SHARE: mean_over_rows((shares <= _TOP).astype(float)),
    }


def by_features(task: EvaluationTask) -> Scored:
    """Signed cosine similarity of the run's features, before the first mask, where baselines
    compare inputs.
    """
    run, begun = task.run, time.perf_counter()
    values = signed_similarity(
        run.features("validation")[task.positions],
        task.targets.labels.cpu().numpy(),
        run.features("train"),
        run.train["label"].to_numpy(),
    )
    return Scored(
        "signed cosine similarity, features of the run",
        values,
        task.training_seconds,
        time.perf_counter() - begun,
    )


def measure_duplicates(task: EvaluationTask, options: Options) -> dict[str, Any]:
    """Where all methods rank the known near duplicates.

    Raises:
        TurnoverError: if no pairs are named, or none is in the run and has influences.
    """
    if options.pairs is None:
        raise TurnoverError(
            "which items are near duplicates? name the CSV with columns test_index and train_index "
            "by --path"
        )
    run = task.run
    listed = pairs_between(options.pairs, run.validation["id"].tolist(), run.train["id"].tolist())
    pairs = [pair for pair in listed if pair[0] in set(run.influence.targets)]
    if not pairs:
        raise TurnoverError(
            f"{run.folder}: no validation item with a near duplicate has influences; compute them "
            "with --targets validation"
        )
    with_duplicates = EvaluationTask(run, task.device, sorted({target for target, _ in pairs}))
    rows, columns = (
        np.searchsorted(with_duplicates.positions, [target for target, _ in pairs]),
        np.array([duplicate for _, duplicate in pairs]),
    )
    scored = [
        *all_scores(with_duplicates, options),
        by_features(with_duplicates),
    ]
    return {
        "targets": len(with_duplicates.positions),
        "pairs": len(pairs),
        "instances": len(run.train),
        "rows": [
            method.row(
                {} if method.refused else figures_of(rank_shares(method.values, rows, columns))
            )
            for method in scored
        ],
    }


# Ways to suspect a label

_FOLDS = 5
_STEPS = 2000
_ON_ITSELF = "tracin-last"


def suspicions(task: EvaluationTask, options: Options) -> Iterator[Scored]:
    """All ways to suspect a label, each with values `(1, N)`."""
    yield from _own(task)
    if not task.run.scored:
        yield _queue(task.run)
    for scored in all_scores(task, options):
        if scored.refused:
            yield scored
        else:
            suspicion = -scored.values.mean(0, keepdims=True)
            yield replace(scored, method=f"mean influence: {scored.method}", values=suspicion)
    on_itself = [name for name in options.baselines if name == _ON_ITSELF]
    for scored in self_scores(task, on_itself, np.arange(len(task.run.train))):
        yield replace(scored, method=f"self-influence: {scored.method}")
    yield doubt(task)


def _own(task: EvaluationTask) -> Iterator[Scored]:
    """Self-influence and flipped loss, as the run keeps them."""
    run, training = task.run, task.training_seconds
    results = run.manifest["results"]
    for name, values in self_influences(run).items():
        seconds = training / results["members"] if name.endswith("one member") else training
        yield Scored(f"self-influence: {name}", values[None], seconds, 0.0)
    if run.scored:
        return
    flipped = run.array("item_losses")[1, results["kept_epoch"] - 1]
    yield Scored(
        "flipped loss: turn-over, mean of members", np.asarray(flipped)[None], training, 0.0
    )


def _queue(run: Run) -> Scored:
    """The order of the queue of doubts; items that nothing speaks against are by flipped loss."""
    begun = time.perf_counter()
    flipped = np.asarray(run.array("item_losses")[1, run.manifest["results"]["kept_epoch"] - 1])
    values = rankdata(flipped) / (len(flipped) + 1) - 1
    suspects = suspected_training_items(run, kept_effects(run))
    values[[*suspects]] = [found.probability for found in suspects.values()]
    return Scored("label doubt: turn-over", values[None], 0.0, time.perf_counter() - begun)


def doubt(task: EvaluationTask) -> Scored:
    """Cross-validated doubt; on the frozen features or pixels that the model reads, since features
    trained on the labels have memorised them.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    name, begun = "cross-validated doubt (Northcutt et al. 2021)", time.perf_counter()
    if not task.train.inputs.is_floating_point():
        reason = "the model reads words, not features, and its own features were trained with the"
        return refused(name, f"{reason} labels")
    features, labels = task.train.inputs.flatten(1).cpu().numpy(), task.train.labels.cpu().numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_STEPS))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    try:
        chances = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
    except (*REFUSALS, ValueError) as error:
        return refused(name, error)
    columns = np.searchsorted(np.unique(labels), labels)
    return Scored(
        name, 1 - chances[np.arange(len(labels)), columns][None], time.perf_counter() - begun, 0.0
    )


# Wrong labels

RECALLS = (0.25, 0.5, 0.75, 0.85, 0.95)
"""Shares of the wrong labels at which precision is measured: the curve of false alarms."""

_RESAMPLES = 10_000
_WIDTH = 1.96


def wrong_label_auc(run: Run) -> float:
    """Area under the ROC curve of self-influence for the injected wrong labels of a run.

    Raises:
        TurnoverError: if no wrong labels were injected, or the run has no influence.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(wrong_labels(run), run.influence.self_influence))


def wrong_labels(run: Run) -> np.ndarray:
    """Which training items were given a wrong label, or have another than the right one that was
    known when the run was made, `(N,)`.

    Raises:
        TurnoverError: if none have.
    """
    frame = run.train
    wrong: np.ndarray = (frame["planted"] == WRONG_LABEL).to_numpy()
    if "true_label" in frame:
        wrong = wrong | (frame["label"] != frame["true_label"]).to_numpy()
    if not wrong.any():
        raise TurnoverError(
            f"{run.folder}: no injected wrong labels; train with --label-noise, or name the right "
            "labels with --truth FILE"
        )
    return wrong


def known_errors(run: Run, file: Path) -> np.ndarray:
    """Which training items have another label than a table with columns `id` and `label` gives
    them, `(N,)`; of items that it does not list the labels are right.

    Raises:
        TurnoverError: for a table, an id or a label that is none, or if no label differs.
    """
    table = read_table(file, ("id", "label"))
    rows = {str(name): row for row, name in enumerate(run.train["id"])}
    right: dict[int, int] = {}
    names = np.array([label_name(cell) for cell in table.columns["label"]], object)
    labels = numbered(names, tuple(run.classes), f"{file}, column label")
    for row, name in enumerate(map(label_name, table.columns["id"])):
        if name not in rows or rows[name] in right:
            what = "is there twice" if name in rows else "is of no training item of the run"
            raise TurnoverError(f"{table.where(row, 'id')}: the id {name!r:.80} {what}; correct it")
        right[rows[name]] = int(labels[row])
    own = run.train["label"].to_numpy()
    wrong = np.array([right.get(row, label) != label for row, label in enumerate(own)])
    if not wrong.any():
        raise TurnoverError(f"{file}: no label differs from the run's; list the right ones")
    return wrong


def marked_items(run: Run, mark: str, missing: str) -> np.ndarray:
    """Which training items carry a mark, `(N,)`.

    Raises:
        TurnoverError: if none does, with the message `missing`.
    """
    marked: np.ndarray = (run.train["planted"] == mark).to_numpy()
    if not marked.any():
        raise TurnoverError(f"{run.folder}: {missing}")
    return marked


def auc(injected: np.ndarray, suspicion: np.ndarray) -> Figure:
    """Area under the ROC curve of a suspicion `(N,)`; its interval is DeLong's (1988), from how
    each injected and each other item ranks.

    The area is the mean over injected items of the share of other items that rank below, ties
    counting half.
    """
    ranks = rankdata(suspicion)
    beaten, beating = (ranks[group] - rankdata(suspicion[group]) for group in (injected, ~injected))
    first, second = beaten / (~injected).sum(), 1 - beating / injected.sum()
    area = float(first.mean())
    variances = [won.var(ddof=1) / len(won) for won in (first, second) if len(won) > 1]
    error = float(np.sqrt(sum(variances)))
    return Figure(area, max(0.0, area - _WIDTH * error), min(1.0, area + _WIDTH * error))


def precision(injected: np.ndarray, suspicion: np.ndarray, count: int) -> Figure:
    """Share of injected items among the `count` most suspicious ones, ties by position."""
    return Figure(float(injected[np.argsort(-suspicion, kind="stable")[:count]].mean()))


def precision_at(injected: np.ndarray, suspicion: np.ndarray, recall: float) -> Figure:
    """Share of injected items among those at least as suspicious as the one that completes a
    recall.
    """
    wanted = int(np.ceil(recall * injected.sum()))
    return Figure(float(injected[suspicion >= np.sort(suspicion[injected])[-wanted]].mean()))


def measure_injected(task: EvaluationTask, options: Options) -> dict[str, Any]:
    """How well every way to suspect finds the injected wrong labels, or those that the user knows.

    Raises:
        TurnoverError: if there are none.
    """
    run, file = task.run, options.truth
    return _found(task, options, "injected", known_errors(run, file) if file else wrong_labels(run))


def measure_real_errors(task: EvaluationTask, options: Options) -> dict[str, Any]:
    """How well every way to suspect finds the confirmed label errors.

    Raises:
        TurnoverError: if the run has none.
    """
    missing = "no confirmed label errors; train with --data imdb-checks"
    return _found(
        task, options, "confirmed_errors", marked_items(task.run, CONFIRMED_ERROR, missing)
    )


def _found(task: EvaluationTask, options: Options, name: str, wrong: np.ndarray) -> dict[str, Any]:
    """How well every way to suspect finds the training items that are `wrong` `(N,)`."""
    return {
        name: int(wrong.sum()),
        "instances": len(wrong),
        "rows": [_injected_row(way, wrong) for way in suspicions(task, options)],
    }


def _injected_row(scored: Scored, injected: np.ndarray) -> ResultRow:
    figures, count = {}, int(injected.sum())
    if not scored.refused:
        suspicion = scored.values[0]
        figures = {AUC: auc(injected, suspicion)}
        figures |= {
            f"precision@{most}": precision(injected, suspicion, most)
            for most in sorted({min(TOP, count), count})
        } | {
            f"precision at recall {recall:g}": precision_at(injected, suspicion, recall)
            for recall in RECALLS
        }
    return scored.row(figures)


# Spurious cues


def cue_lift(run: Run, mark: str, scores: dict[int, np.ndarray]) -> tuple[int, Figure]:
    """How many errors carry `mark`, and the lift of the training texts with it among the `TOP`
    highest `scores` `(N,)` of these errors.

    Raises:
        TurnoverError: if the run has no error with that mark.
    """
    marked = (run.train["planted"] == mark).to_numpy()
    errors = [
        position for position in scores if run.item("validation", position)["planted"] == mark
    ]
    if not errors:
        raise TurnoverError(f"{run.folder}: no error carries the mark {mark!r}")
    top = [np.argsort(-scores[error], kind="stable")[:TOP] for error in errors]
    shares = np.array([marked[instances].mean() for instances in top]) / marked.mean()
    means = np.random.default_rng(0).choice(shares, (_RESAMPLES, len(shares))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return len(errors), Figure(float(shares.mean()), float(low), float(high))


def influence_scores(run: Run) -> dict[int, np.ndarray]:
    """Each error's influences on its prediction, as shown, by position: `(N,)`."""
    return {
        error: run.influence.ranked(error, "prediction").values
        for error in run.influence.misclassified
    }
