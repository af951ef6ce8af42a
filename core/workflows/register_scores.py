"""Make a run of another engine's scores and the predictions of the model that they explain.

It has no weights, no curves and no standard errors; pages show what the scores allow. A score is of
the loss of one label, the true or the predicted one. Of a misclassified item, what raises the loss
of the one speaks for the other, so its influence on that is minus the score.

Where a model family is named, its plain network is trained once: its accuracy is shown beside the
other model's, and cleansing, proofs and measures train it again.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from turnover.attribution.device import choose_device, device_name
from turnover.attribution.estimators import SCORES
from turnover.data.base import Dataset
from turnover.data.scores import of_true_label, read_predictions, read_scores
from turnover.errors import TurnoverError
from turnover.models.names import allow
from turnover.models.registry import TrainSettings
from turnover.runs.model import item_features
from turnover.runs.partial import curves_table
from turnover.runs.plan import TrainingPlan, plan_run
from turnover.runs.run import PREDICTION, TRUTH
from turnover.runs.write import finish_run, write_files
from turnover.storage.artifacts import sha256, write_manifest
from turnover.storage.schema import CURVES
from turnover.training.fit import probabilities
from turnover.workflows.register import making
from turnover.workflows.train import fitted, model_inputs, splits_of

_SIDE = 16
"""Pixels of an image to which it is made smaller to be compared with others."""


def register_scores(
    settings: TrainSettings,
    file: Path,
    positive: str,
    label: str,
    predictions: Path | None,
    folder: Path,
    device_choice: str | None = None,
) -> dict[str, Any]:
    """Make a run of a file of scores; returns what `turnover register --json` prints.

    Args:
        settings: the data, and the model to train again, None for none.
        file: of the scores (`turnover.data.scores`).
        positive: what a positive score means, `helps` or `hurts`.
        label: whose loss the scores are of, `true` or `predicted`.
        predictions: a file of predictions; those of the named model by default.
        folder: of the new run.
        device_choice: to train on; the best one by default.

    Raises:
        TurnoverError: for bad settings, data, scores or predictions, a folder that exists, or where
            neither predictions nor a model are named.
    """
    device = choose_device(device_choice)
    if not predictions and settings.model is None:
        raise TurnoverError(
            "--predictions: name the file with the predictions of the model that the scores "
            "explain (columns id and predicted), or with --model NAME one to train"
        )
    allow(settings.model)
    plan = plan_run(replace(settings, members=1, label_noise=0.0), folder)
    items = plan.data.validation
    scores = read_scores(file, items.ids, plan.data.train.ids, positive)
    chances = read_predictions(predictions, items.ids, plan.data.classes) if predictions else None
    begun = time.perf_counter()
    with making(plan) as partial:
        features, own, plain = _seen(plan, settings.model, partial, device)
        seconds = round(time.perf_counter() - begun, 2)
        if chances is None:
            chances, own = own, None
        assert chances is not None
        weights = save({}, {SCORES: sha256(file)})
        _write_items(partial, plan.data, (chances, own), features, weights)
        right = chances.argmax(1) == items.labels
        _write_influence(partial, of_true_label(scores, label, ~right), ~right)
        results = {
            "train_size": len(plan.data.train),
            "validation_size": len(items),
            "validation_accuracy": float(right.mean()),
            **plain,
            **dict.fromkeys(("epochs", "kept_epoch", "members"), 1),
            "seconds": seconds,
        }
        facts = {
            "recipe": asdict(plan.settings.recipe) if settings.model else {},
            "results": results,
            "adopted": {SCORES: file.name, "positive": positive, "label": label},
            "device": device_name(device),
            "timings": {"training": 0.0, **({"twin": seconds} if settings.model else {})},
            "data_report": plan.data_report,
        }
        named = plan.settings if settings.model else replace(plan.settings, model=None)
        finish_run(partial, folder, plan.data, named, facts)
    return {"run": str(folder), "model": settings.model, "scores": str(file), **results}


_PLAIN = ("plain_accuracy", "plain_loss", "plain_kept_epoch")


def _seen(
    plan: TrainingPlan, model: str | None, partial: Path, device: torch.device
) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
    """Features of all items `(N + V, D)`; of the plain network of the model that is named its
    predictions, and its results.
    """
    inputs = model_inputs(plan.data, plan.settings, partial, device)
    splits = splits_of(plan.data, inputs, device)
    if model is None:
        return (
            np.concatenate([_small(split.inputs) for split in splits]),
            None,
            dict.fromkeys(_PLAIN),
        )
    recipe = replace(plan.settings.recipe, masked=False)
    twin, history = fitted(plan.data, plan.settings, splits, recipe, partial)
    kept = history.kept
    facts = history.accuracy[kept], history.curves["validation"][kept], kept + 1
    features = np.concatenate([item_features(twin, split.inputs) for split in splits])
    own = probabilities(twin, splits[1].inputs).cpu().numpy()
    return features, own, dict(zip(_PLAIN, facts, strict=True))


def _small(inputs: torch.Tensor) -> np.ndarray:
    """Features as they are, or the pixels of images `(N, C, H, W)` as rows."""
    if inputs.dim() == 4 and max(inputs.shape[2:]) > _SIDE:
        inputs = torch.nn.functional.adaptive_avg_pool2d(inputs, _SIDE)
    return inputs.flatten(1).cpu().numpy()


def _write_items(
    partial: Path,
    data: Dataset,
    chances: tuple[np.ndarray, np.ndarray | None],
    features: np.ndarray,
    weights: bytes,
) -> None:
    """The run's files; nobody measured a loss, and training items count as answered right, since
    nobody asked about them.
    """
    losses = np.full((2, 1, len(data.train)), np.nan, np.float32)
    learned = np.eye(len(data.classes), dtype=np.float32)[data.train.labels]
    curves = curves_table({name: [np.nan] for name in CURVES}, [np.nan])
    write_files(partial, data, [(learned, None), chances], features, losses, curves, weights)


def _write_influence(partial: Path, scores: np.ndarray, wrong: np.ndarray) -> None:
    """The run's influence: scores `(T, N)` as those of one member, with errors that are not known;
    `wrong` says which targets are misclassified.
    """
    folder = partial / "influence"
    folder.mkdir()
    for meaning, values in ((TRUTH, scores), (PREDICTION, -scores[wrong])):
        arrays = {
            "members": values[None],
            "estimate": values,
            "error": np.full_like(values, np.nan),
            "shape": np.zeros((len(values), 0), np.float32),
        }
        for name, array in arrays.items():
            np.save(folder / f"{meaning}_{name}.npy", array)
    np.save(folder / "mean_members.npy", scores.mean(0, keepdims=True))
    facts = {
        "run": sha256(partial / "weights.safetensors"),
        "targets": list(range(len(scores))),
        "errors": np.flatnonzero(wrong).tolist(),
        "layout": "full",
        "estimator": SCORES,
        "agreement": {},
        "pairs": scores.size,
        "seconds": 0.0,
    }
    write_manifest(folder, facts, sorted(path.name for path in folder.glob("*.npy")))
