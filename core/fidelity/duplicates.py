"""Near duplicates: where does a training image that nearly repeats a test image rank among that image's proponents?

If anything taught the model what to say of a test image, it was its near duplicate in the training set; so a method should
rank it high by influence on the true label. Measured for pairs that people have found (Barz and Denzler 2020):

- *rank*: the duplicate's place among all training items, highest score first and equals at their middle place, as a share of
  their number; the median over pairs. By chance .5;
- *top 1 %*: the share of pairs whose duplicate is among the highest hundredth. By chance .01.

Similarity needs no model for it, and is what a duplicate is found by: it says how alike the pairs are, not what a model learned.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from turnover.data.pairs import pairs_between
from turnover.errors import TurnoverError
from turnover.fidelity.correlation import mean_over_rows, median_over_rows
from turnover.fidelity.methods import Scored, evidence_of, rival_scores, turnover_scores
from turnover.fidelity.options import Options
from turnover.fidelity.row import Figure, Row
from turnover.fidelity.subject import Subject
from turnover.rivals.similarity import signed_similarity

RANK, TOP = "rank, median", "top 1 %"
_TOP = 0.01


def rank_shares(scores: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """For pairs of a row and a column of scores `(T, N)`: the column's rank in the row, from 1, over N; `(pairs,)`."""
    own = scores[rows, columns][:, None]
    ranks: np.ndarray = (scores[rows] > own).sum(1) + ((scores[rows] == own).sum(1) + 1) / 2
    return ranks / scores.shape[1]


def figures_of(shares: np.ndarray) -> dict[str, Figure]:
    """Figures of ranks that are shares `(pairs,)`."""
    return {RANK: median_over_rows(shares), TOP: mean_over_rows((shares <= _TOP).astype(float))}


def by_features(subject: Subject) -> Scored:
    """Signed cosine similarity of what the run's heads see, before the first mask: its features, where rivals compare inputs."""
    run, begun = subject.run, time.perf_counter()
    features, labels = run.features("train"), run.train["label"].to_numpy()
    targets, wanted = run.features("validation")[subject.positions], subject.targets.labels.tolist()
    values = [signed_similarity(target, features, labels, label) for target, label in zip(targets, wanted, strict=True)]
    return Scored("signed cosine similarity, features of the run", np.stack(values), run.manifest["timings"]["training"], time.perf_counter() - begun)


def measure(subject: Subject, options: Options) -> dict[str, Any]:
    """Where all methods rank the known near duplicates.

    Raises:
        TurnoverError: if no pairs are named, or none is in the run and has influences.
    """
    if options.pairs is None:
        raise TurnoverError("which items are near duplicates? name the CSV with columns test_index and train_index by --path")
    run = subject.run
    found = pairs_between(options.pairs, run.validation["id"].tolist(), run.train["id"].tolist())
    pairs = [pair for pair in found if pair[0] in set(run.influence.targets)]
    if not pairs:
        raise TurnoverError(f"{run.folder}: no validation item with a near duplicate has influences; compute them with --targets validation")
    asked = Subject(run, subject.device, sorted({target for target, _ in pairs}))
    rows, columns = np.searchsorted(asked.positions, [target for target, _ in pairs]), np.array([own for _, own in pairs])
    scored = [*turnover_scores(*evidence_of(asked)), *rival_scores(asked, options.rivals), by_features(asked)]
    return {"targets": len(asked.positions), "pairs": len(pairs), "instances": len(run.train), "rows": [_row(one, rows, columns) for one in scored]}


def _row(scored: Scored, rows: np.ndarray, columns: np.ndarray) -> Row:
    figures = {} if scored.refused else figures_of(rank_shares(scored.values, rows, columns))
    return Row(scored.method, scored.train_seconds, scored.estimate_seconds, figures, scored.note)
