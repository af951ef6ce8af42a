"""Train a run: data → features → K turn-over members and their plain twin → a run folder.

The twin has the same architecture, seeds and batches but no masks; it says what turn-over dropout costs in accuracy.
Work goes on in `RUN.partial`: the features and a checkpoint after every epoch lie there, so the same command, given
again after Ctrl-C or a crash, goes on where it stopped. When all is there the folder is renamed to RUN.
"""

from __future__ import annotations

import platform
import shutil
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from core.atomic import disk_error, replace_folder, write_atomic
from core.data.base import Dataset, Items
from core.data.images import png_bytes
from core.device import choose_device, device_name, placed
from core.errors import TurnoverError
from core.lock import alone
from core.models.members import Members
from core.models.state import trained_state
from core.pipeline.architecture import TextInputs, build_model, image_inputs
from core.pipeline.model import item_features
from core.pipeline.plan import Plan, has_checkpoint, open_partial, plan_run
from core.pipeline.settings import TrainSettings
from core.progress import bar
from core.recipe import Recipe
from core.runs import RUN_FILES, write_manifest
from core.training import History, Split, fit, probabilities

_SCRATCH = ("settings.json", "masked.checkpoint", "plain.checkpoint", "inputs.npz")
_PACKAGES = ("torch", "torchvision", "transformers", "numpy", "scikit-learn")


def train_run(settings: TrainSettings, folder: Path, device_choice: str | None = None) -> dict[str, Any]:
    """Train a run and write it to `folder`; returns what `python -m core train --json` prints.

    Raises:
        TurnoverError: for bad settings or data, a folder that exists, or a partial run that was begun with other settings
            or is worked on by another process.
    """
    device = choose_device(device_choice)
    plan = plan_run(settings, folder)
    with alone(plan.lock, f"training {folder}"):
        partial = open_partial(plan)
        begun = time.perf_counter()
        try:
            return _train(plan, partial, device, begun)
        except (TurnoverError, OSError) as error:
            if not has_checkpoint(partial):
                shutil.rmtree(partial, ignore_errors=True)
            raise disk_error(partial, error) if isinstance(error, OSError) else error from None


def _train(plan: Plan, partial: Path, device: torch.device, begun: float) -> dict[str, Any]:
    settings, data, folder = plan.settings, plan.data, plan.folder
    inputs = _inputs(data, settings, partial, device)
    featured = time.perf_counter()
    train, validation = (
        Split(torch.as_tensor(rows).to(device), torch.from_numpy(items.labels).to(device))
        for rows, items in zip(inputs, (data.train, data.validation), strict=True)
    )
    recipe = settings.recipe
    model, history = _fit(data, settings, train, validation, recipe, partial)
    trained = time.perf_counter()
    _, twin = _fit(data, settings, train, validation, replace(recipe, masked=False), partial)
    timings = {"features": featured - begun, "training": trained - featured, "twin": time.perf_counter() - trained}
    kept = history.kept
    results = {
        "train_size": len(data.train),
        "validation_size": len(data.validation),
        "validation_accuracy": history.accuracy[kept],
        "plain_accuracy": twin.accuracy[twin.kept],
        **{f"{name}_loss": history.curves[name][kept] for name in ("validation", "masked", "flipped", "unowned")},
        "plain_loss": twin.curves["validation"][twin.kept],
        "epochs": history.epochs,
        "kept_epoch": kept + 1,
        "plain_kept_epoch": twin.kept + 1,
        "members": model.members,
        "seconds": round(time.perf_counter() - begun, 2),
        "device": device_name(device),
    }
    _write_run(partial, data, settings, model, history, inputs, device)
    facts = _facts(settings, data, recipe, model, results, timings, device)
    write_manifest(partial, facts, RUN_FILES)
    replace_folder(partial, folder)
    for name in _SCRATCH:  # only now: until the rename, a stop must find them
        (folder / name).unlink(missing_ok=True)
    return {"run": str(folder), **results}


def _inputs(data: Dataset, settings: TrainSettings, partial: Path, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Model inputs of both splits; a text encoder runs once, and its features are kept for a resumed run."""
    if data.kind == "image":
        train, validation = (image_inputs(items.images).numpy() for items in (data.train, data.validation) if items.images is not None)
        return train, validation
    kept = partial / "inputs.npz"
    if not kept.exists():
        inputs = TextInputs(settings, device)
        texts = [data.train.texts or [], data.validation.texts or []]
        with bar(sum(map(len, texts)), f"{data.name}: features", "texts") as advance:
            train, validation = (inputs(part, advance) for part in texts)

        def write(beside: Path) -> None:
            with beside.open("wb") as file:
                np.savez(file, train=train, validation=validation)

        write_atomic(kept, write)
    with np.load(kept, allow_pickle=False) as arrays:
        return arrays["train"], arrays["validation"]


def _fit(data: Dataset, settings: TrainSettings, train: Split, validation: Split, recipe: Recipe, partial: Path) -> tuple[Members, History]:
    name = "masked" if recipe.masked else "plain"
    label = f"{data.name}: training" if recipe.masked else f"{data.name}: plain twin"
    model = placed(build_model(settings, len(data.classes), tuple(train.inputs.shape[1:])), train.inputs.device)
    with bar(recipe.epochs, label, "epochs") as advance:
        history = fit(model, train, validation, recipe, partial / f"{name}.checkpoint", lambda _: advance(1))
        advance(recipe.epochs - history.epochs)
    return model, history


def _item_rows(split: str, items: Items, chances: np.ndarray) -> pd.DataFrame:
    blank = [""] * len(items)
    frame = pd.DataFrame(
        {
            "split": split,
            "position": np.arange(len(items)),
            "id": items.ids,
            "label": items.labels,
            "predicted": chances.argmax(1),
            "planted": items.planted or blank,
            "true_label": items.labels if items.true_labels is None else items.true_labels,
        }
    )
    frame[[f"probability_{number}" for number in range(chances.shape[1])]] = chances
    frame["text"] = items.texts or blank
    frame["image"] = [b""] * len(items) if items.images is None else [png_bytes(pixels) for pixels in items.images]
    return frame


def _write_run(
    partial: Path, data: Dataset, settings: TrainSettings, model: Members, history: History, inputs: tuple[np.ndarray, np.ndarray], device: torch.device
) -> None:
    """All files of a run but the manifest."""
    tensors = [torch.as_tensor(rows).to(device) for rows in inputs]
    frames = [
        _item_rows(split, items, probabilities(model, rows).cpu().numpy())
        for split, items, rows in zip(("train", "validation"), (data.train, data.validation), tensors, strict=True)
    ]
    pd.concat(frames, ignore_index=True).to_parquet(partial / "items.parquet", index=False)
    features = np.concatenate([item_features(model, settings, rows) for rows in tensors])
    np.save(partial / "features.npy", features.astype(np.float32, copy=False))
    np.save(partial / "item_losses.npy", np.stack((np.stack(history.masked_items), np.stack(history.flipped_items))))
    curves = pd.DataFrame({"epoch": np.arange(1, history.epochs + 1), **history.curves, "accuracy": history.accuracy})
    curves.to_parquet(partial / "curves.parquet", index=False)
    weights = {name: value.detach().cpu().contiguous() for name, value in trained_state(model).items()}
    (partial / "weights.safetensors").write_bytes(save(weights))


def _facts(
    settings: TrainSettings, data: Dataset, recipe: Recipe, model: Members, results: dict[str, Any], timings: dict[str, float], device: torch.device
) -> dict[str, Any]:
    """What the manifest says of a run."""
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": {"name": data.name, "source": data.source, "fingerprint": data.fingerprint()},
        "kind": data.kind,
        "classes": list(data.classes),
        "settings": asdict(settings),
        "recipe": asdict(recipe),
        "results": results,
        "timings": {name: round(seconds, 2) for name, seconds in timings.items()},
        "leaks": list(model.leaks),
        "device": device_name(device),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }
