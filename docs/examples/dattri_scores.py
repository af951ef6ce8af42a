"""Scores of published libraries for `turnover paper lds-mnist`, in an environment of their own.

    pip install dattri==0.3.0 torch pandas pyarrow pillow
    python docs/examples/dattri_scores.py DATA BANK [METHOD ...]

DATA is the folder of the two files, BANK the folder `lds-mnist` that the command has made. Models
are trained as dattri's benchmark trains them: ten on everything, ten on halves. Settings are those
of its own script (`experiments/benchmark_result.py`); for influence functions it reports the best
of seven dampings, chosen on the truth, so each damping is a file, and a row, of its own. Then run
`turnover paper lds-mnist` again: it prints the new rows beside its own.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from dattri.algorithm.influence_function import IFAttributorCG
from dattri.algorithm.tracin import TracInAttributor
from dattri.algorithm.trak import TRAKAttributor
from dattri.benchmark.datasets.mnist import train_mnist_mlp
from dattri.benchmark.models.mlp import MLPMnist
from dattri.task import AttributionTask
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Subset, TensorDataset

MODELS, BATCH, EVALUATED = 10, 64, 500
DAMPINGS = (1.0, 0.1, 0.01, 0.005, 0.001)
METHODS = ("tracin", "cosine", "trak-1", "trak-10", "influence")


def read(file: Path) -> TensorDataset:
    """Images, standardised, and labels."""
    rows = pd.read_parquet(file)
    images = np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in rows["image"]])
    pixels = (images[:, None].astype(np.float32) / 255 - 0.1307) / 0.3081
    return TensorDataset(torch.from_numpy(pixels), torch.tensor(rows["label"].to_numpy(np.int64)))


def trained(data: TensorDataset, rows: np.ndarray | None, seed: int) -> dict[str, Tensor]:
    """The weights of a model on some rows, or all."""
    chosen = data if rows is None else Subset(data, rows.tolist())
    random = torch.Generator().manual_seed(seed)
    loader = DataLoader(chosen, batch_size=BATCH, shuffle=True, generator=random)
    return train_mnist_mlp(loader, seed=seed).eval().state_dict()


class Losses:
    """The loss of one row, or the mean of several, as dattri wants them."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def mean(self, parameters: dict[str, Tensor], rows: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = rows
        return nn.functional.cross_entropy(functional_call(self.model, parameters, images), labels)

    def single(self, parameters: dict[str, Tensor], row: tuple[Tensor, Tensor]) -> Tensor:
        return self.mean(parameters, (row[0][None], row[1][None]))

    def odds(self, parameters: dict[str, Tensor], row: tuple[Tensor, Tensor]) -> Tensor:
        """log p / (1 − p) of the label, TRAK's output function."""
        logarithm = -self.single(parameters, row)
        return logarithm - torch.log(1 - torch.exp(logarithm))

    def right(self, parameters: dict[str, Tensor], row: tuple[Tensor, Tensor]) -> Tensor:
        return torch.exp(-self.single(parameters, row))


def main(data: Path, bank: Path, methods: list[str]) -> None:
    train, targets = read(data / "train_first5000.parquet"), read(data / "test_first500.parquet")
    halves = np.load(bank / "subsets.npy")
    begun = time.perf_counter()
    whole = [trained(train, None, seed) for seed in range(MODELS)]
    each = (time.perf_counter() - begun) / MODELS
    half = [trained(train, halves[-1 - seed], seed) for seed in range(MODELS)]
    model = MLPMnist().eval()
    losses = Losses(model)
    on_train, on_targets = (DataLoader(part, batch_size=EVALUATED) for part in (train, targets))

    def keep(name: str, method: str, trainings: int, scores: Tensor, since: float) -> None:
        """dattri scores `(N, T)`; a training counts as one on everything."""
        np.savez(
            bank / "scores" / f"{name}.npz",
            method=method,
            scores=scores.detach().T.numpy().astype(np.float32),
            trainings=trainings,
            seconds=each * trainings + time.perf_counter() - since,
        )
        print(f"{method}: {time.perf_counter() - since:.0f} s", flush=True)

    for name, count, title in (("tracin", MODELS, "TracIn"), ("cosine", 1, "gradient cosine")):
        if name in methods:
            since = time.perf_counter()
            task = AttributionTask(losses.single, model, whole[:count])
            weights = torch.ones(count) * 1e-3
            method = TracInAttributor(task, weights, normalized_grad=name == "cosine", device="cpu")
            with torch.no_grad():
                scores = method.attribute(on_train, on_targets)
            keep(f"dattri-{name}", f"{title} (dattri 0.3.0)", count, scores, since)
    for count in (1, MODELS):
        if f"trak-{count}" in methods:
            since = time.perf_counter()
            task = AttributionTask(losses.odds, model, half[:count])
            random = {"proj_dim": 512, "device": "cpu"}
            method = TRAKAttributor(task, losses.right, projector_kwargs=random, device="cpu")
            method.cache(on_train)
            with torch.no_grad():
                scores = method.attribute(on_targets)
            keep(f"dattri-trak-{count}", "TRAK on halves (dattri 0.3.0)", count, scores, since)
    for damping in DAMPINGS if "influence" in methods else ():
        since = time.perf_counter()
        task = AttributionTask(losses.mean, model, whole[:1])
        method = IFAttributorCG(task, device="cpu", max_iter=10, regularization=damping)
        method.cache(DataLoader(train, batch_size=len(train)))
        with torch.no_grad():
            scores = method.attribute(on_train, on_targets)
        title = f"influence functions by conjugate gradients, damping {damping:g} (dattri 0.3.0)"
        keep(f"dattri-influence-{damping:g}", title, 1, scores, since)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or list(METHODS))
