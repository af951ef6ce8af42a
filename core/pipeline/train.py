"""Train a run: data → features → K turn-over members and their plain twin → a run folder.

The twin has the same architecture, seeds and batches but no masks; it says what turn-over dropout costs in accuracy.
Work goes on in `RUN.partial`: the features and a checkpoint after every epoch lie there, so the same command, given
again after Ctrl-C or a crash, goes on where it stopped. When all is there the folder is renamed to RUN.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor

from core.atomic import disk_error, replace_folder, write_atomic
from core.data import load_data
from core.data.base import Dataset, Items, limit_training, plant_label_noise
from core.data.images import png_bytes
from core.device import choose_device, device_name
from core.errors import TurnoverError
from core.models.members import MemberModel
from core.models.text import DEFAULT_ENCODER, TextEncoder, text_heads
from core.models.vision import small_vgg
from core.progress import bar
from core.runs import RUN_FILES, write_manifest
from core.training import History, Recipe, Split, accuracy, fit, item_losses, probabilities

RECIPES = {
    "digits": Recipe(learning_rate=2e-3, batch=64),
    "reviews": Recipe(learning_rate=3e-4, batch=32, weight_decay=2.0),
    "sst2": Recipe(learning_rate=1e-3, batch=64, weight_decay=2.0),
}
DEFAULT_NOISE = {"digits": 0.05}
DEFAULT_MEMBERS = {"digits": 8}
DEFAULT_GROUPS = 16
_SCRATCH = ("settings.json", "masked.checkpoint", "plain.checkpoint", "inputs.npz")
_PACKAGES = ("torch", "torchvision", "transformers", "numpy", "scikit-learn")


@dataclass(frozen=True)
class TrainSettings:
    """What a user chooses; None means the data set's own default.

    `groups` = 0 masks single units.
    """

    data: str
    path: str | None = None
    limit: int | None = None
    label_noise: float | None = None
    members: int | None = None
    groups: int | None = None
    seed: int = 0
    encoder: str = DEFAULT_ENCODER

    def resolved(self) -> TrainSettings:
        """The settings with every default filled in."""
        noise = DEFAULT_NOISE.get(self.data, 0.0) if self.label_noise is None else self.label_noise
        members = DEFAULT_MEMBERS.get(self.data, 16) if self.members is None else self.members
        groups = DEFAULT_GROUPS if self.groups is None else self.groups
        if members < 1:
            raise TurnoverError(f"--members {members}: choose 1 or more")
        return replace(self, label_noise=noise, members=members, groups=groups)


def build_model(kind: str, settings: TrainSettings, classes: int, shape: tuple[int, ...]) -> MemberModel:
    """The K-member model of a run: heads for features of `shape` (D,), a small VGG for images of `shape` (C, H, W)."""
    assert settings.members is not None
    options: dict[str, Any] = {"members": settings.members, "groups": settings.groups or None, "seed": settings.seed}
    if kind == "text":
        return text_heads(shape[0], classes, **options)
    channels, height, width = shape
    return small_vgg((channels, height, width), classes, **options)


def image_inputs(images: np.ndarray) -> Tensor:
    """Images uint8 `(N, H, W)` as model inputs float32 `(N, 1, H, W)` in [-1, 1]."""
    return torch.from_numpy(images).unsqueeze(1).float() / 127.5 - 1


def train_run(settings: TrainSettings, folder: Path, device_choice: str | None = None) -> dict[str, Any]:
    """Train a run and write it to `folder`; returns what `python -m core train --json` prints.

    Raises:
        TurnoverError: for bad settings or data, a folder that exists, or a partial run that was begun with other settings.
    """
    if folder.exists():
        raise TurnoverError(f"{folder} exists; choose another --run, or delete it first")
    device = choose_device(device_choice)
    data = load_data(settings.data, Path(settings.path) if settings.path else None)
    if settings.limit is not None:
        data = limit_training(data, settings.limit, settings.seed)
    settings = settings.resolved()
    assert settings.label_noise is not None
    if settings.label_noise:
        data = plant_label_noise(data, settings.label_noise, settings.seed)
    partial = _open_partial(folder, settings, data)
    begun = time.perf_counter()
    try:
        return _train(settings, data, folder, partial, device, begun)
    except (TurnoverError, OSError) as error:
        if not _has_checkpoint(partial):
            shutil.rmtree(partial, ignore_errors=True)
        raise disk_error(partial, error) if isinstance(error, OSError) else error from None


def _train(settings: TrainSettings, data: Dataset, folder: Path, partial: Path, device: torch.device, begun: float) -> dict[str, Any]:
    inputs = _inputs(data, settings, partial, device)
    featured = time.perf_counter()
    train, validation = (
        Split(torch.as_tensor(rows).to(device), torch.from_numpy(items.labels).to(device))
        for rows, items in zip(inputs, (data.train, data.validation), strict=True)
    )
    recipe = replace(RECIPES[data.name], seed=settings.seed)
    model, history = _fit(data, settings, train, validation, recipe, partial)
    trained = time.perf_counter()
    twin, _ = _fit(data, settings, train, validation, replace(recipe, masked=False), partial)
    timings = {"features": featured - begun, "training": trained - featured, "twin": time.perf_counter() - trained}
    kept = history.kept
    results = {
        "train_size": len(data.train),
        "validation_size": len(data.validation),
        "validation_accuracy": accuracy(model, validation),
        "plain_accuracy": accuracy(twin, validation),
        **{f"{name}_loss": history.curves[name][kept] for name in ("validation", "masked", "flipped", "unowned")},
        "plain_loss": float(item_losses(twin, validation).mean()),
        "epochs": history.epochs,
        "kept_epoch": kept + 1,
        "members": model.members,
        "seconds": round(time.perf_counter() - begun, 2),
        "device": device_name(device),
    }
    _write_run(partial, data, model, history, inputs, device)
    facts = _facts(settings, data, recipe, model, results, timings, device)
    write_manifest(partial, facts, RUN_FILES)
    replace_folder(partial, folder)
    for name in _SCRATCH:  # only now: until the rename, a stop must find them
        (folder / name).unlink(missing_ok=True)
    return {"run": str(folder), **results}


def _has_checkpoint(partial: Path) -> bool:
    """Whether a partial run holds training worth resuming."""
    return any(partial.glob("*.checkpoint"))


def _open_partial(folder: Path, settings: TrainSettings, data: Dataset) -> Path:
    """The folder that the run is made in, new or begun earlier with the same settings and data."""
    partial = folder.with_name(folder.name + ".partial")
    wanted = json.dumps({**asdict(settings), "fingerprint": data.fingerprint()})
    known = partial / "settings.json"
    if known.exists() and known.read_text(encoding="utf-8") == wanted:
        return partial
    if _has_checkpoint(partial):
        raise TurnoverError(f"{partial} was begun with other settings or data; give the same again to resume, or delete it")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        raise disk_error(partial, error) from None
    write_atomic(known, lambda beside: beside.write_text(wanted, encoding="utf-8"))
    return partial


def _inputs(data: Dataset, settings: TrainSettings, partial: Path, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Model inputs of both splits; a text encoder runs once, and its features are kept for a resumed run."""
    if data.kind == "image":
        train, validation = (image_inputs(items.images).numpy() for items in (data.train, data.validation) if items.images is not None)
        return train, validation
    kept = partial / "inputs.npz"
    if not kept.exists():
        encoder = TextEncoder(settings.encoder, device)
        texts = [data.train.texts or [], data.validation.texts or []]
        with bar(sum(map(len, texts)), f"{data.name}: features", "texts") as advance:
            train, validation = (encoder.features(part, advance) for part in texts)

        def write(beside: Path) -> None:
            with beside.open("wb") as file:
                np.savez(file, train=train, validation=validation)

        write_atomic(kept, write)
    with np.load(kept, allow_pickle=False) as arrays:
        return arrays["train"], arrays["validation"]


def _fit(data: Dataset, settings: TrainSettings, train: Split, validation: Split, recipe: Recipe, partial: Path) -> tuple[MemberModel, History]:
    name = "masked" if recipe.masked else "plain"
    label = f"{data.name}: training" if recipe.masked else f"{data.name}: plain twin"
    model = build_model(data.kind, settings, len(data.classes), tuple(train.inputs.shape[1:])).to(train.inputs.device)
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


def _member_features(model: MemberModel, inputs: Tensor) -> np.ndarray:
    """The members' own features of images, side by side: `(n, K · D)`."""
    with torch.inference_mode():
        parts = [model.features(rows).transpose(0, 1).flatten(1).cpu() for rows in inputs.split(512)]
    return torch.cat(parts).numpy()


def _write_run(partial: Path, data: Dataset, model: MemberModel, history: History, inputs: tuple[np.ndarray, np.ndarray], device: torch.device) -> None:
    """All files of a run but the manifest."""
    tensors = [torch.as_tensor(rows).to(device) for rows in inputs]
    frames = [
        _item_rows(split, items, probabilities(model, rows).cpu().numpy())
        for split, items, rows in zip(("train", "validation"), (data.train, data.validation), tensors, strict=True)
    ]
    pd.concat(frames, ignore_index=True).to_parquet(partial / "items.parquet", index=False)
    features = inputs if data.kind == "text" else [_member_features(model, rows) for rows in tensors]
    np.save(partial / "features.npy", np.concatenate(features).astype(np.float32, copy=False))
    np.save(partial / "item_losses.npy", np.stack((np.stack(history.masked_items), np.stack(history.flipped_items))))
    curves = pd.DataFrame({"epoch": np.arange(1, history.epochs + 1), **history.curves, "accuracy": history.accuracy})
    curves.to_parquet(partial / "curves.parquet", index=False)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    (partial / "weights.safetensors").write_bytes(save(weights))


def _facts(
    settings: TrainSettings, data: Dataset, recipe: Recipe, model: MemberModel, results: dict[str, Any], timings: dict[str, float], device: torch.device
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
