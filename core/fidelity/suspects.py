"""Every way to suspect a training item of a wrong label, with what it costs; high = suspicious.

- *self-influence*: what the item's own half knows of it that the other does not;
- *flipped loss*: the loss of the half that never saw the item, at the epoch that the run kept;
- *mean influence*, turned round: what the item does to the targets, by every estimator and rival;
- *cross-validated doubt*: one minus the probability of the item's label by logistic regression on features, fitted without
  the item's fold; the score by which confident learning (Northcutt, Jiang and Chuang 2021) ranks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from turnover.fidelity.methods import REFUSALS, Scored, evidence_of, rival_scores, self_scores, turnover_scores
from turnover.fidelity.options import Options
from turnover.fidelity.subject import Subject

_FOLDS = 5
_STEPS = 2000
_ON_ITSELF = ("tracin-last",)


def suspicions(subject: Subject, options: Options) -> Iterator[Scored]:
    """All ways, each with values `(1, N)`."""
    yield from _own(subject)
    evidence, seconds = evidence_of(subject)
    for scored in [*turnover_scores(evidence, seconds), *rival_scores(subject, options.rivals)]:
        yield scored if scored.refused else replace(scored, method=f"mean influence: {scored.method}", values=-scored.values.mean(0, keepdims=True))
    asked = [name for name in options.rivals if name in _ON_ITSELF]
    for scored in self_scores(subject, asked, np.arange(len(subject.run.train))):
        yield replace(scored, method=f"self-influence: {scored.method}")
    yield doubt(subject)


def _own(subject: Subject) -> Iterator[Scored]:
    """Self-influence and flipped loss, as the run keeps them."""
    run = subject.run
    members, training, results = run.influence.array("self"), run.manifest["timings"]["training"], run.manifest["results"]
    ways = {"one member": (members[0], training / len(members))}
    if len(members) > 1:
        ways |= {"mean of members": (members.mean(0), training), "median of members": (np.median(members, 0), training)}
    for name, (values, seconds) in ways.items():
        yield Scored(f"self-influence: turn-over, {name}", np.asarray(values)[None], seconds, 0.0)
    flipped = run.array("item_losses")[1, results["kept_epoch"] - 1]
    yield Scored("flipped loss: turn-over, mean of members", np.asarray(flipped)[None], training, 0.0)


def doubt(subject: Subject) -> Scored:
    """Cross-validated doubt; on the frozen features or the pixels that the model reads, since features that were trained with the labels know them."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    name, begun = "cross-validated doubt (Northcutt et al. 2021)", time.perf_counter()
    if not subject.train.inputs.is_floating_point():
        return Scored(name, np.empty(0), 0.0, 0.0, "refused: the model reads words, not features, and its own features were trained with the labels")
    features, labels = subject.train.inputs.flatten(1).cpu().numpy(), subject.train.labels.cpu().numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_STEPS))
    try:
        chances = cross_val_predict(model, features, labels, cv=StratifiedKFold(_FOLDS, shuffle=True, random_state=0), method="predict_proba")
    except (*REFUSALS, ValueError) as error:
        return Scored(name, np.empty(0), 0.0, 0.0, f"refused: {str(error).splitlines()[0]}")
    places = np.searchsorted(np.unique(labels), labels)
    return Scored(name, 1 - chances[np.arange(len(labels)), places][None], time.perf_counter() - begun, 0.0)
