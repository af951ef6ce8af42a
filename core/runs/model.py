"""A run's model and the inputs it was trained on, rebuilt from its folder.

Also describes targets and training items for the run's estimator
(`turnover.attribution.estimators`), whose files `turnover.runs.ranking` reads and writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from turnover.attribution.device import at_least_float32, placed
from turnover.attribution.dropout import turnover_layers
from turnover.attribution.ensemble import Members, shared_masks
from turnover.attribution.estimators.damping import Overlap
from turnover.attribution.estimators.estimator import Described, Estimator, choose_estimator
from turnover.attribution.masks import UNOWNED
from turnover.attribution.state import load_trained
from turnover.data.images import png_pixels
from turnover.errors import TurnoverError
from turnover.models.families.own import RECIPE
from turnover.models.family import FEATURES, PIXELS
from turnover.models.registry import TrainSettings
from turnover.runs.run import Run
from turnover.training.fit import Split, probabilities

_ROWS = 128


def run_settings(run: Run) -> TrainSettings:
    """The settings that the run was trained with."""
    return TrainSettings.read(run.manifest["settings"], run.kind)


def recipe_key(run: Run) -> dict[str, Any]:
    """What tells models trained again by a recipe of the user's own from others of the run."""
    settings = run_settings(run)
    own = {name: settings.options.get(name) for name in RECIPE} | {"epochs": settings.epochs}
    return {"recipe": own} if settings.family.code and any(own.values()) else {}


def input_shape(run: Run) -> tuple[int, ...]:
    """Shape of one model input: `(D,)` features or `(T,)` tokens of a text, or an image `(C, H,
    W)`.
    """
    settings = run_settings(run)
    if settings.reads == FEATURES:
        return run.array("features").shape[1:]
    if settings.reads != PIXELS:
        return settings.reader(torch.device("cpu"))([""]).shape[1:]
    height, width, *channels = run.image_shape
    return (*(channels or [1]), height, width)


def load_model(run: Run, device: torch.device) -> Members:
    """The trained members, in evaluation mode.

    Raises:
        TurnoverError: if the code that builds them now makes other shared masks than the run has,
            or the run was made of another engine's scores.
    """
    if run.scored:
        raise TurnoverError(
            f"{run.folder}: made of {run.scored}, so there is no model to ask; train one with "
            "`turnover train`"
        )
    settings = run_settings(run)
    settings = settings.with_family(settings.family.blank())
    model = settings.build(len(run.classes), input_shape(run))
    masks, trained_with = shared_masks(model), run.manifest.get("masks")
    if "masks" in run.manifest and masks != trained_with:
        raise TurnoverError(
            f"{run.folder}: trained with masks={trained_with}, but {settings.model} now builds its "
            f"layers with masks={masks}; give the layers the number of the run, or train again"
        )
    load_trained(model, load_file(run.folder / "weights.safetensors"))
    return placed(model, device).eval()


def item_features(model: Members, inputs: Tensor) -> np.ndarray:
    """Features of some items `(n, D)`: the frozen encoder's where the model reads those, or the
    inputs of the members' output layers, side by side.
    """
    if inputs.dim() == 2 and inputs.is_floating_point():
        return inputs.cpu().numpy()
    with torch.inference_mode():
        parts = [
            at_least_float32(model.features(rows)).transpose(0, 1).flatten(1).cpu()
            for rows in inputs.split(_ROWS)
        ]
    return torch.cat(parts).numpy()


def split_inputs(run: Run, split: str, rows: list[int], device: torch.device) -> Tensor:
    """Model inputs `(n, …)` of some items of `train` or `validation`."""
    settings = run_settings(run)
    if settings.reads == FEATURES:
        return torch.from_numpy(np.asarray(run.features(split)[rows])).to(device)
    items = run.split(split)[run.kind].loc[rows]
    readable = (
        items.tolist() if run.kind == "text" else np.stack([png_pixels(png) for png in items])
    )
    return torch.from_numpy(settings.reader(device)(readable)).to(device)


def run_split(run: Run, name: str, device: torch.device, rows: list[int] | None = None) -> Split:
    """Some items of `train` or `validation`, all by default, with their labels."""
    labels = run.split(name)["label"]
    chosen = list(labels.index) if rows is None else rows
    return Split(
        split_inputs(run, name, chosen, device),
        torch.tensor(labels.loc[chosen].tolist()).to(device),
    )


# What the estimator needs

_DRAWS = 4


def describe_targets(model: Members, targets: Split, features: np.ndarray) -> Described:
    """Targets with their features `(T, D)` and their residuals under unowned masks; a target's do
    not depend on the other targets.
    """
    chances = [
        probabilities(model, targets.inputs, torch.full_like(targets.labels, UNOWNED + draw))
        for draw in range(_DRAWS)
    ]
    return Described(features, _residuals(torch.stack(chances).mean(0), targets.labels))


def run_estimator(
    run: Run, model: Members, train: Split, pilot: np.ndarray, targets: Described
) -> Estimator:
    """The estimator that a pilot `(K, T, N)` of some targets favours; training items are predicted
    by the sub-network that never saw them.
    """
    unseen = probabilities(
        model,
        train.inputs,
        torch.arange(len(train.labels), device=train.labels.device),
        flipped=True,
    )
    units = min(layer.units for layer in turnover_layers(model))
    return choose_estimator(
        pilot,
        Described(run.features("train"), _residuals(unseen, train.labels)),
        targets,
        Overlap(units, shared_masks(model)),
    )


def _residuals(chances: Tensor, labels: Tensor) -> np.ndarray:
    """One-hot labels minus probabilities, `(n, C)`."""
    right: np.ndarray = (
        (torch.nn.functional.one_hot(labels, chances.shape[1]) - chances).cpu().numpy()
    )
    return right
