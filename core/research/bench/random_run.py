"""A run of random numbers, of any size, to measure the cost of opening one; and `BenchRow`.

That cost does not depend on what the numbers mean. Texts, features, losses and influences are drawn
at random and written in the form of a real run (`turnover.runs.run`), without weights. Whole
rankings are kept as long as `turnover.workflows.influence` would keep them; a larger run has their
two ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from turnover.research.evaluate.results import markdown_table
from turnover.runs.run import INFLUENCE_FILES, RUN_FILES
from turnover.storage.artifacts import sha256, write_manifest
from turnover.workflows.influence_chunks import FULL_BYTES, InfluenceFiles, kept

MEMBERS = 16
_CLASSES, _WORDS, _WIDTH, _EPOCHS, _DIRECTIONS = ("negative", "positive"), 20, 384, 5, 8
_ROWS = 16
_SD = 0.05


@dataclass(frozen=True)
class RandomRun:
    """Size of a run: numbers of training items and of targets, a third of which are errors."""

    train: int
    targets: int

    @property
    def name(self) -> str:
        return f"random-{self.train}x{self.targets}"

    def write(self, runs: Path) -> Path:
        """Write it into the folder `runs`, unless it is there; returns its own folder."""
        folder = runs / self.name
        if folder.exists():
            return folder
        beside = runs / f"{self.name}.partial"
        (beside / "influence").mkdir(parents=True)
        rng = np.random.default_rng(0)
        items = pd.concat(
            [self._items("train", self.train, rng), self._items("validation", self.targets, rng)],
            ignore_index=True,
        )
        items.to_parquet(beside / "items.parquet", index=False)
        np.save(beside / "features.npy", rng.standard_normal((len(items), _WIDTH), np.float32))
        np.save(beside / "item_losses.npy", rng.random((2, _EPOCHS, self.train), np.float32))
        ends = {"masked": 0.1, "flipped": 0.9, "validation": 0.5, "unowned": 0.9}
        losses = {name: np.linspace(1, end, _EPOCHS) for name, end in ends.items()}
        pd.DataFrame({"epoch": range(1, _EPOCHS + 1), **losses, "accuracy": 2 / 3}).to_parquet(
            beside / "curves.parquet", index=False
        )
        (beside / "weights.safetensors").write_bytes(b"none")
        write_manifest(beside, self._facts(), RUN_FILES)
        self._write_influence(beside, np.flatnonzero(np.arange(self.targets) % 3 == 0), rng)
        beside.rename(folder)
        return folder

    def _facts(self) -> dict[str, object]:
        return {
            "data": {
                "name": "random",
                "source": "random words and numbers",
                "fingerprint": self.name,
            },
            "kind": "text",
            "classes": _CLASSES,
            "settings": {"data": "random", "members": MEMBERS},
            "recipe": {},
            "results": {
                "train_size": self.train,
                "validation_size": self.targets,
                "validation_accuracy": 2 / 3,
                "plain_accuracy": 2 / 3,
                "members": MEMBERS,
                "epochs": _EPOCHS,
                "kept_epoch": _EPOCHS,
            },
        }

    def _items(self, split: str, count: int, rng: np.random.Generator) -> pd.DataFrame:
        labels = np.arange(count) % len(_CLASSES)
        predicted = np.where(
            (np.arange(count) % 3 == 0) & (split == "validation"), 1 - labels, labels
        )
        chance = rng.uniform(0.5, 1, count)
        return pd.DataFrame(
            {
                "split": split,
                "position": np.arange(count),
                "id": [f"{split[0]}{row}" for row in range(count)],
                "label": labels,
                "predicted": predicted,
                "planted": "",
                "true_label": labels,
                **{
                    f"probability_{number}": np.where(predicted == number, chance, 1 - chance)
                    for number in range(len(_CLASSES))
                },
                "text": random_texts(count, rng),
                "image": [b""] * count,
            }
        )

    def _write_influence(self, run: Path, errors: np.ndarray, rng: np.random.Generator) -> None:
        folder, counts = run / "influence", {"truth": self.targets, "prediction": len(errors)}
        layout = "full" if 4 * MEMBERS * self.train * sum(counts.values()) <= FULL_BYTES else "top"
        for meaning, count in counts.items():
            files = InfluenceFiles(
                folder, meaning, layout, (MEMBERS, count, self.train), _DIRECTIONS
            )
            for first in range(0, count, _ROWS):
                rows = np.arange(first, min(first + _ROWS, count))
                # members are only kept in the full layout
                drawn = MEMBERS if layout == "full" else 1
                raw = _SD * rng.standard_normal((drawn, len(rows), self.train), np.float32)
                error = np.full(raw.shape[1:], _SD, np.float32)
                if drawn > 1:
                    error = raw.std(0) / MEMBERS**0.5
                coefficients = np.zeros((len(rows), _DIRECTIONS), np.float32)
                files.put(rows, kept(layout, raw, coefficients, raw.mean(0), error))
        np.save(folder / "self.npy", rng.random((MEMBERS, self.train), np.float32))
        mean = _SD * rng.standard_normal((MEMBERS, self.train), np.float32)
        np.save(folder / "mean_members.npy", mean)
        assert all((folder / name).is_file() for name in INFLUENCE_FILES)
        facts = {
            "targets": list(range(self.targets)),
            "errors": errors.tolist(),
            "layout": layout,
            "estimator": "median",
            "agreement": {"median": 0.0},
        }
        write_manifest(
            folder,
            {**facts, "run": sha256(run / "weights.safetensors")},
            sorted(path.name for path in folder.glob("*.npy")),
        )


def random_texts(count: int, rng: np.random.Generator) -> list[str]:
    """So many texts of twenty random words."""
    words = np.array([f"word{number}" for number in range(5000)])
    return [" ".join(row) for row in rng.choice(words, (count, _WORDS))]


# Measured figures


@dataclass(frozen=True)
class BenchRow:
    """A figure, its unit, and its goal ('' for none)."""

    case: str
    measure: str
    value: float
    unit: str
    goal: str = ""


def table(rows: Sequence[BenchRow]) -> str:
    """The rows as a Markdown table."""

    def shown(row: BenchRow) -> str:
        value = f"{row.value:,.0f}" if row.value >= 1000 else f"{row.value:.4g}"
        return f"{value} {row.unit}"

    lines = ((row.case, row.measure, shown(row), row.goal) for row in rows)
    return markdown_table(("case", "measure", "value", "goal"), lines, right=[2])
