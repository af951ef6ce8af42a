"""Writes a run folder: items with predictions, features, losses, curves, weights, manifest."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from turnover.attribution.device import device_name
from turnover.attribution.engine.naive import device_of
from turnover.attribution.ensemble import Members, shared_masks
from turnover.attribution.state import trained_state
from turnover.data.base import Dataset, Items
from turnover.data.images import png_bytes
from turnover.errors import TurnoverError
from turnover.models.options import flag_of
from turnover.models.registry import TrainSettings
from turnover.runs.model import item_features, run_settings
from turnover.runs.partial import curves_table
from turnover.runs.run import RUN_FILES, Run
from turnover.storage.artifacts import MANIFEST, write_facts, write_manifest
from turnover.storage.atomic import replace_folder
from turnover.storage.schema import CURVES
from turnover.training.fit import probabilities
from turnover.training.history import History

_SCRATCH = ("settings.json", "*.checkpoint", "inputs.npz")
_PACKAGES = ("torch", "torchvision", "transformers", "numpy", "scikit-learn")


def keep_recipe(run: Run, chosen: Mapping[str, Any]) -> None:
    """Put another recipe of retraining into a run's settings: options of `Own`, and `epochs`.

    Raises:
        TurnoverError: for a run of no module of the user's own, and values out of bounds.
    """
    settings = run_settings(run)
    if not settings.family.code:
        raise TurnoverError(
            f"{run.folder}: {flag_of(min(chosen))} is for runs of a module of your own; built-in "
            "models are trained again as they were, so leave it out"
        )
    changed = replace(
        settings,
        epochs=chosen.get("epochs", settings.epochs),
        options={**settings.options, **{k: v for k, v in chosen.items() if k != "epochs"}},
    ).resolved(run.kind)
    write_facts(run.folder / MANIFEST, {**run.manifest, "settings": changed.saved})


Arrays = tuple[np.ndarray, np.ndarray]
"""Model inputs of the training and of the validation items."""


def results_of(
    data: Dataset,
    model: Members,
    history: History,
    twin: History | None,
    seconds: float,
    device: torch.device,
) -> dict[str, Any]:
    """The results in a run's manifest, losses in nats; without a plain twin its own are None."""
    kept = history.kept
    return {
        "train_size": len(data.train),
        "validation_size": len(data.validation),
        "validation_accuracy": history.accuracy[kept],
        "plain_accuracy": twin.accuracy[twin.kept] if twin else None,
        **{f"{name}_loss": history.curves[name][kept] for name in CURVES},
        "plain_loss": twin.curves["validation"][twin.kept] if twin else None,
        "epochs": history.epochs,
        "kept_epoch": kept + 1,
        "plain_kept_epoch": twin.kept + 1 if twin else None,
        "members": model.members,
        "seconds": round(seconds, 2),
        "device": device_name(device),
    }


def write_run(
    partial: Path,
    folder: Path,
    data: Dataset,
    settings: TrainSettings,
    model: Members,
    history: History,
    inputs: Arrays,
    facts: dict[str, Any],
    twin: Members | None = None,
) -> None:
    """Write all files of a run into `partial`, its manifest last, and rename that to `folder`;
    `facts` are recipe, results etc., `twin` is the model that was trained without masks.
    """
    tensors = [torch.as_tensor(rows).to(device_of(model)) for rows in inputs]
    chances = [
        (_chances(model, rows), None if twin is None else _chances(twin, rows)) for rows in tensors
    ]
    features = np.concatenate([item_features(model, rows) for rows in tensors])
    losses = np.stack((np.stack(history.masked_items), np.stack(history.flipped_items)))
    curves = curves_table(history.curves, history.accuracy)
    weights = {
        name: value.detach().cpu().contiguous() for name, value in trained_state(model).items()
    }
    write_files(partial, data, chances, features, losses, curves, save(weights))
    facts = {
        "leaks": list(model.leaks),
        "masks": shared_masks(model),
        "device": device_name(device_of(model)),
        **facts,
    }
    finish_run(partial, folder, data, settings, facts)


def finish_run(
    partial: Path, folder: Path, data: Dataset, settings: TrainSettings, facts: dict[str, Any]
) -> None:
    """Write the manifest of a run whose files are in `partial`, and rename that to `folder`."""
    write_manifest(partial, _origin(settings, data) | facts, RUN_FILES)
    replace_folder(partial, folder)
    for pattern in _SCRATCH:  # only now: until the rename, a stop must find them
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def write_files(
    partial: Path,
    data: Dataset,
    chances: Sequence[tuple[np.ndarray, np.ndarray | None]],
    features: np.ndarray,
    losses: np.ndarray,
    curves: pd.DataFrame,
    weights: bytes,
) -> None:
    """All files of a run but the manifest; `chances` are the class probabilities `(N, C)` of either
    split by the model and by its plain twin, `losses` `(2, epochs, N)` as in `item_losses.npy`.
    """
    splits = {"train": data.train, "validation": data.validation}
    frames = [
        _item_rows(split, items, *given)
        for (split, items), given in zip(splits.items(), chances, strict=True)
    ]
    pd.concat(frames, ignore_index=True).to_parquet(partial / "items.parquet", index=False)
    np.save(partial / "features.npy", features.astype(np.float32, copy=False))
    np.save(partial / "item_losses.npy", losses)
    curves.to_parquet(partial / "curves.parquet", index=False)
    (partial / "weights.safetensors").write_bytes(weights)


def _chances(model: Members, rows: torch.Tensor) -> np.ndarray:
    """Class probabilities `(N, C)` of some rows."""
    return probabilities(model, rows).cpu().numpy()


def _item_rows(
    split: str, items: Items, chances: np.ndarray, plain: np.ndarray | None
) -> pd.DataFrame:
    blank = [""] * len(items)
    frame = pd.DataFrame(
        {
            "split": split,
            "position": np.arange(len(items)),
            "id": items.ids,
            "label": items.labels,
            "predicted": chances.argmax(1),
            "plain_predicted": -1 if plain is None else plain.argmax(1),
            "planted": items.injected or blank,
            "true_label": items.labels if items.true_labels is None else items.true_labels,
            "row": -1 if items.origin is None else items.origin.rows,
        }
    )
    names = [f"probability_{number}" for number in range(chances.shape[1])]
    images = [b""] * len(items) if items.images is None else map(png_bytes, items.images)
    contents = pd.DataFrame({"text": items.texts or blank, "image": [*images]})
    return pd.concat((frame, pd.DataFrame(chances, columns=names), contents), axis=1)


def _origin(settings: TrainSettings, data: Dataset) -> dict[str, Any]:
    """The manifest's provenance of a run."""
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": {
            "name": data.name,
            "source": data.source,
            "fingerprint": data.fingerprint(),
            **({"origin": data.train.origin.facts} if data.train.origin else {}),
        },
        "kind": data.kind,
        "classes": list(data.classes),
        "settings": settings.saved,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
    }
