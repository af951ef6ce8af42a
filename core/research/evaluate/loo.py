"""Exact leave-one-out for some training items, against each method's influences.

The plain twin is trained without each of the chosen items in turn, from several seeds, all else
unchanged (`turnover.research.baselines.retraining`). Its losses on the targets and on the left-out
item itself are the truth, mean over seeds:

- *self*: over items, rank correlation of the item's self-influence with the loss that leaving it
  out costs it;
- *targets*: the same for each target, over items; mean over targets.

One item among thousands moves a loss by less than a seed does, so read the reliability of the truth
first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from turnover.attribution.estimators.estimator import row_pearson
from turnover.attribution.masks import derive_seed
from turnover.research.baselines.retraining import Retraining
from turnover.research.evaluate.results import Figure, ResultRow
from turnover.research.evaluate.scores import (
    Options,
    Scored,
    all_scores,
    self_influences,
    self_scores,
)
from turnover.research.evaluate.statistics import (
    mean_spearman,
    reliability,
    row_spearman,
)
from turnover.research.evaluate.task import EvaluationTask
from turnover.storage.progress import bar
from turnover.training.fit import Split

SELF, SELF_PEARSON, TARGETS, PLACEBO = "self", "self (Pearson)", "targets", "placebo"
_INSTANCES = 12


def draw_instances(total: int, count: int, seed: int) -> np.ndarray:
    """Positions of `count` training items, rising; all if there are no more."""
    drawn: np.ndarray = np.sort(
        np.random.default_rng(derive_seed(seed, _INSTANCES)).permutation(total)[:count]
    )
    return drawn


def left_out_losses(task: EvaluationTask, instances: np.ndarray, seeds: int) -> np.ndarray:
    """The increase of the losses of the targets and of the items themselves when each item is left
    out, `(seeds, T + n, n)` in nats.

    Each seed is kept in the run's folder as soon as it is done.

    Raises:
        TurnoverError: if the run's model cannot be trained again step by step.
    """
    store = task.store(
        "left-out", {**task.asked, "instances": instances.tolist(), "epochs": task.epochs()}
    )
    names = [f"member-{member:03d}" for member in range(seeds)]
    chosen = torch.from_numpy(instances)
    with store.filling():
        missing = [member for member, name in enumerate(names) if name not in store]
        if missing:
            with bar(
                len(missing) * len(instances), f"{task.run.name}: leave-one-out", "models"
            ) as advance:
                for member in missing:
                    problem, items = task.problem(member), task.train.take(chosen)
                    both = (
                        torch.cat(parts)
                        for parts in zip(
                            (problem.targets.inputs, problem.targets.labels),
                            (items.inputs, items.labels),
                            strict=True,
                        )
                    )
                    left_out = Retraining().scores(
                        replace(problem, targets=Split(*both)),
                        chosen,
                        lambda share: advance(round(share * len(instances))),
                    )
                    store.save(names[member], {"losses": left_out.values.cpu().numpy()})
    return np.stack([store.load(name)[0]["losses"] for name in names])


def self_figures(scores: np.ndarray, truth: np.ndarray) -> dict[str, Figure]:
    """How self-influences `(n,)` agree with the truth `(n,)`."""
    return {
        SELF: mean_spearman(scores[None], truth[None]),
        SELF_PEARSON: Figure(float(row_pearson(scores[None], truth[None])[0])),
    }


def target_figures(scores: np.ndarray, truth: np.ndarray) -> dict[str, Figure]:
    """How influences `(T, n)` agree with the truth `(T, n)`, and how they do when shuffled."""
    dealt = np.random.default_rng(0).permuted(scores, axis=1)
    return {
        TARGETS: mean_spearman(scores, truth),
        PLACEBO: Figure(float(row_spearman(dealt, truth).mean())),
    }


def measure(task: EvaluationTask, options: Options) -> dict[str, Any]:
    """Agreement of all methods with leave-one-out, and the reliability of the latter."""
    instances = draw_instances(len(task.run.train), options.instances, task.settings.seed)
    losses = left_out_losses(task, instances, options.seeds)
    count = len(task.positions)
    on_targets, on_itself = losses[:, :count], np.diagonal(losses[:, count:], axis1=1, axis2=2)
    on_own = own_scores(task, options, instances)
    return {
        "instances": len(instances),
        "seeds": options.seeds,
        "epochs": task.epochs(),
        "reliability_self": reliability(on_itself[:, None]),
        "reliability_targets": reliability(on_targets),
        "rows": [
            _row(method, on_own, instances, on_targets.mean(0), on_itself.mean(0))
            for method in all_scores(task, options)
        ],
    }


def own_scores(
    task: EvaluationTask, options: Options, instances: np.ndarray
) -> dict[str, np.ndarray]:
    """Self-influence of the items, by the name of each method that has one."""
    kept = {name: values[instances] for name, values in self_influences(task.run).items()}
    baselines = self_scores(task, options.baselines, instances)
    return kept | {scored.method: scored.values[0] for scored in baselines if not scored.refused}


def _row(
    scored: Scored,
    on_own: dict[str, np.ndarray],
    instances: np.ndarray,
    on_targets: np.ndarray,
    on_itself: np.ndarray,
) -> ResultRow:
    figures = self_figures(on_own[scored.method], on_itself) if scored.method in on_own else {}
    if not scored.refused:
        figures |= target_figures(scored.values[:, instances], on_targets)
    return scored.row(figures)
