"""Scores of captum and of TRAK as `turnover register` reads them, on scikit-learn's digits.

    pip install captum==0.9.0 traker==0.3.2 torch scikit-learn pandas pyarrow pillow
    python docs/examples/digits_scores.py FOLDER captum        # or trak

In an environment of their own. FOLDER gets train.parquet, validation.parquet, predictions.csv and
captum.npy or trak.npz; the last line printed is the command that makes a run of them. In both a
positive score means that the training item lowers the target's loss, here of the predicted label,
since that explains errors.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

TRAIN, VALIDATION, EPOCHS, RATE = 600, 200, 20, 0.1


def splits(folder: Path) -> tuple[TensorDataset, TensorDataset]:
    """The training and validation digits, written as tables of PNG images with ids."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))[: TRAIN + VALIDATION]
    pixels, labels = (digits.images[order] * 255 / 16).astype(np.uint8), digits.target[order]
    made = []
    for name, rows in (("train", slice(0, TRAIN)), ("validation", slice(TRAIN, None))):
        files = [io.BytesIO() for _ in pixels[rows]]
        for file, image in zip(files, pixels[rows], strict=True):
            Image.fromarray(image).save(file, "PNG")
        table = {"id": [f"{name}-{row}" for row in range(len(files))], "label": labels[rows]}
        images = [file.getvalue() for file in files]
        pd.DataFrame(table | {"image": images}).to_parquet(folder / f"{name}.parquet", index=False)
        inputs = torch.from_numpy(pixels[rows, None].astype(np.float32) / 255)
        made.append(TensorDataset(inputs, torch.from_numpy(labels[rows])))
    return made[0], made[1]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def trained(data: TensorDataset, checkpoints: Path) -> nn.Sequential:
    """A network, with a checkpoint after every fifth epoch."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    for epoch in range(1, EPOCHS + 1):
        for images, labels in DataLoader(data, batch_size=32, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        if epoch % 5 == 0:
            torch.save(model.state_dict(), checkpoints / f"{epoch:02d}.pt")
    return model.eval()


def by_captum(model: nn.Sequential, train: TensorDataset, targets: TensorDataset) -> Tensor:
    """TracIn on the last layer, over the checkpoints."""
    from captum.influence import TracInCPFast

    def load(module: nn.Module, file: str) -> float:
        module.load_state_dict(torch.load(file, weights_only=True))
        return RATE

    files = sorted(map(str, CHECKPOINTS.glob("*.pt")))
    loss = nn.CrossEntropyLoss(reduction="sum")
    tracin = TracInCPFast(model, model[-1], train, files, load, loss, batch_size=100)
    return tracin.influence(targets.tensors)


def by_trak(model: nn.Sequential, train: TensorDataset, targets: TensorDataset) -> Tensor:
    """TRAK of the one network."""
    from trak import TRAKer

    traker = TRAKer(
        model,
        "image_classification",
        len(train),
        save_dir=str(FOLDER / "trak"),
        device="cpu",
        proj_dim=512,
        use_half_precision=False,
    )
    traker.load_checkpoint(model.state_dict(), model_id=0)
    for batch in DataLoader(train, batch_size=100):
        traker.featurize(batch=batch, num_samples=len(batch[0]))
    traker.finalize_features()
    traker.start_scoring_checkpoint("digits", model.state_dict(), 0, num_targets=len(targets))
    for batch in DataLoader(targets, batch_size=100):
        traker.score(batch=batch, num_samples=len(batch[0]))
    return torch.from_numpy(np.array(traker.finalize_scores("digits")).T.copy())


if __name__ == "__main__":
    FOLDER, engine = Path(sys.argv[1]), sys.argv[2]
    CHECKPOINTS = FOLDER / "checkpoints"
    CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    train, targets = splits(FOLDER)
    model = trained(train, CHECKPOINTS)
    with torch.no_grad():
        chances = model(targets.tensors[0]).softmax(1).numpy()
    ids = [f"validation-{row}" for row in range(len(targets))]
    columns = {str(digit): chances[:, digit] for digit in range(10)}
    pd.DataFrame({"id": ids, **columns}).to_csv(FOLDER / "predictions.csv", index=False)
    answers = TensorDataset(targets.tensors[0], torch.from_numpy(chances.argmax(1)))
    scores = (by_captum if engine == "captum" else by_trak)(model, train, answers).detach().numpy()
    file = FOLDER / ("captum.npy" if engine == "captum" else "trak.npz")
    np.save(file, scores) if engine == "captum" else np.savez(file, scores=scores)
    print(
        f"turnover register --scores {file} --positive helps --label predicted "
        f"--train {FOLDER}/train.parquet --validation {FOLDER}/validation.parquet "
        f"--predictions {FOLDER}/predictions.csv --model mlp --run runs/{engine}"
    )
