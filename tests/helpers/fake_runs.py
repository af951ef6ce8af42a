"""Small made-up run folders, written file by file as `turnover.runs.run` describes them; nothing is
trained.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from turnover.models.registry import TrainSettings
from turnover.runs.plan import plan_run
from turnover.runs.run import RUN_FILES, Run
from turnover.storage.artifacts import MANIFEST, sha256, write_manifest

MEMBERS = 4
EPOCHS = 3
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"> <b>bold</b>",
    "[click](http://evil.example) ![x](http://evil.example/x.png)",
    ":red[red] :material/home: $x^2$ `code` # heading",
    "<script>document.title='owned'</script><style>*{display:none}</style>",
    "word " * 20_000,
)
_WORDS = [
    "plot",
    "actor",
    "scene",
    "harbour",
    "submarine",
    "captain",
    "music",
    "dull",
    "bright",
    "clever",
    "slow",
    "warm",
    "silly",
    "elegant",
    "boring",
    "story",
]


@dataclass
class FakeRun:
    """What to make: a text or an image run with `train` and `validation` items, every third
    validation item an error.
    """

    name: str = "fake"
    kind: str = "text"
    classes: Sequence[str] = ("negative", "positive")
    train: int = 30
    validation: int = 24
    texts: Sequence[str] = ()
    errors: bool = True
    influence: bool = True
    members: int = MEMBERS
    width: int = 5
    weights: bytes = b"no weights"
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, runs: Path) -> Path:
        """Write the run into the folder `runs`; returns its own folder."""
        folder = runs / self.name
        folder.mkdir(parents=True)
        rng = np.random.default_rng(0)
        frame = pd.concat(
            [
                self._items("train", self.train, rng),
                self._items("validation", self.validation, rng),
            ],
            ignore_index=True,
        )
        frame.to_parquet(folder / "items.parquet", index=False)
        np.save(
            folder / "features.npy",
            rng.normal(size=(self.train + self.validation, self.width)).astype(np.float32),
        )
        np.save(folder / "item_losses.npy", rng.random((2, EPOCHS, self.train)).astype(np.float32))
        losses = {
            name: np.linspace(1, end, EPOCHS)
            for name, end in (
                ("masked", 0.1),
                ("flipped", 0.9),
                ("validation", 0.5),
                ("unowned", 0.92),
            )
        }
        pd.DataFrame(
            {"epoch": range(1, EPOCHS + 1), **losses, "accuracy": np.linspace(0.6, 0.8, EPOCHS)}
        ).to_parquet(folder / "curves.parquet", index=False)
        (folder / "weights.safetensors").write_bytes(self.weights)
        write_manifest(folder, {**self._facts(), **self.facts}, RUN_FILES)
        if self.influence:
            self._write_influence(folder, frame, rng)
        return folder

    def _facts(self) -> dict[str, Any]:
        results = {
            "train_size": self.train,
            "validation_size": self.validation,
            "validation_accuracy": 2 / 3,
            "plain_accuracy": 0.7,
            "members": self.members,
            "epochs": EPOCHS,
            "kept_epoch": 2,
        }
        told = {
            "settings": {"data": "fake"},
            "recipe": {"epochs": EPOCHS},
            "data": {"name": "fake", "source": "made-up items"},
        }
        return {"kind": self.kind, "classes": list(self.classes), "results": results, **told}

    def _items(self, split: str, count: int, rng: np.random.Generator) -> pd.DataFrame:
        labels = np.arange(count) % len(self.classes)
        wrong = (np.arange(count) % 3 == 0) & self.errors & (split == "validation")
        predicted = np.where(wrong, (labels + 1) % len(self.classes), labels)
        chances = np.full(
            (count, len(self.classes)), 0.3 / max(1, len(self.classes) - 1), np.float32
        )
        chances[np.arange(count), predicted] = 0.7 + 0.2 * np.arange(count) / count
        made = [" ".join(rng.choice(_WORDS, 9)) for _ in range(count)]
        texts = [
            self.texts[row % len(self.texts)] if self.texts else text
            for row, text in enumerate(made)
        ]
        return pd.DataFrame(
            {
                "split": split,
                "position": np.arange(count),
                "id": [f"{split[0]}{row:03d}" for row in range(count)],
                "label": labels,
                "predicted": predicted,
                "plain_predicted": np.where(np.arange(count) % 2, predicted, labels),
                "planted": ["cue-submarine" if row % 6 == 0 else "" for row in range(count)],
                "true_label": labels,
                **{
                    f"probability_{number}": chances[:, number]
                    for number in range(len(self.classes))
                },
                "text": texts if self.kind == "text" else "",
                "image": [
                    png(rng.integers(0, 255, (8, 8), np.uint8)) if self.kind == "image" else b""
                    for _ in range(count)
                ],
            }
        )

    def _write_influence(self, folder: Path, frame: pd.DataFrame, rng: np.random.Generator) -> None:
        validation = frame[frame["split"] == "validation"]
        errors = [
            int(row)
            for row in validation["position"][validation["label"] != validation["predicted"]]
        ]
        part = folder / "influence"
        part.mkdir()
        for meaning, targets in (("truth", self.validation), ("prediction", len(errors))):
            members = rng.normal(0, 0.05, (self.members, targets, self.train)).astype(np.float32)
            error = (
                members.std(0, ddof=1) / np.sqrt(self.members)
                if self.members > 1
                else np.full(members.shape[1:], np.nan)
            )
            for name, array in (
                ("members", members),
                ("estimate", members.mean(0)),
                ("error", error),
                ("shape", np.zeros((targets, 0))),
            ):
                np.save(part / f"{meaning}_{name}.npy", array.astype(np.float32))
        np.save(part / "self.npy", rng.random((self.members, self.train)).astype(np.float32))
        np.save(
            part / "mean_members.npy",
            rng.normal(size=(self.members, self.train)).astype(np.float32),
        )
        facts = {
            "targets": list(range(self.validation)),
            "errors": errors,
            "layout": "full",
            "estimator": "best" if self.members > 1 else "raw",
            "agreement": {"median": 0.1, "best": 0.2} if self.members > 1 else {},
            "run": sha256(folder / "weights.safetensors"),
        }
        write_manifest(part, facts, sorted(path.name for path in part.glob("*.npy")))


def png(pixels: np.ndarray) -> bytes:
    """Pixels as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def truncate(path: Path) -> None:
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def keep_ends(run: Path, top: int) -> None:
    """Leave of each ranking only its two ends, as a run too large for whole rankings does."""
    part = run / "influence"
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    for meaning in ("truth", "prediction"):
        estimates, errors = (
            np.load(part / f"{meaning}_{name}.npy") for name in ("estimate", "error")
        )
        order = np.argsort(-estimates, axis=1, kind="stable")
        ends = np.concatenate((order[:, :top], order[:, -top:]), 1)
        for name, array in (
            ("estimate", np.take_along_axis(estimates, ends, 1)),
            ("error", np.take_along_axis(errors, ends, 1)),
            ("instances", ends),
        ):
            np.save(part / f"{meaning}_{name}.npy", array)
        for name in ("members", "shape"):
            (part / f"{meaning}_{name}.npy").unlink()
    told = {name: fact for name, fact in facts.items() if name not in ("format", "files", "layout")}
    write_manifest(
        part, {**told, "layout": "top"}, sorted(path.name for path in part.glob("*.npy"))
    )


def keep_targets(run: Path, targets: Sequence[int]) -> None:
    """Leave the influences on some targets only, as if no others had been computed."""
    part = run / "influence"
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    kept = {
        "targets": [target for target in facts["targets"] if target in targets],
        "errors": [target for target in facts["errors"] if target in targets],
    }
    for meaning, name in (("truth", "targets"), ("prediction", "errors")):
        rows = [facts[name].index(target) for target in kept[name]]
        for array in ("members", "estimate", "error", "shape"):
            path = part / f"{meaning}_{array}.npy"
            whole = np.load(path)
            np.save(path, whole[:, rows] if array == "members" else whole[rows])
    told = {name: fact for name, fact in facts.items() if name not in ("format", "files")}
    write_manifest(part, {**told, **kept}, sorted(path.name for path in part.glob("*.npy")))


def remove_influence(run: Path) -> None:
    """Take a run's influence away."""
    shutil.rmtree(run / "influence")


def run_on(folder: Path, settings: TrainSettings) -> Run:
    """A run as a training on these settings would leave it, without the training."""
    data = plan_run(settings, folder / "trained").data
    train, validation = data.train, data.validation
    fake = FakeRun("run", train=len(train), validation=len(validation), classes=data.classes)
    written = fake.write(folder)
    told = {name: fact for name, fact in Run(written).manifest.items() if name != "files"}
    assert train.origin is not None
    told["settings"], told["data"]["origin"] = asdict(settings), train.origin.facts
    frame = pd.read_parquet(written / "items.parquet")
    frame["row"], rows = -1, frame["split"] == "train"
    frame.loc[rows, "row"] = train.origin.rows
    for name in ("id", "text", "label"):
        values = [getattr(items, f"{name}s") for items in (train, validation)]
        frame[name] = np.concatenate(values)
    frame.to_parquet(written / "items.parquet", index=False)
    del told["format"]
    write_manifest(written, told, RUN_FILES)
    return Run(written)
