"""What tests of deep models build: a tiny encoder with a tokenizer in a folder, token ensembles,
small image data.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertTokenizerFast

from tests.helpers.builders import randn
from turnover.attribution.ensemble import Ensemble
from turnover.data.base import Dataset, Items
from turnover.data.images import png_bytes
from turnover.models.adapters import (
    AdapterClassifier,
    EncoderClassifier,
    MaskedClassifier,
    TokenRows,
)

PADDING = 1
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
}
GOOD, BAD = ("superb", "lovely", "witty", "moving"), ("dreadful", "dull", "clumsy", "tired")
WORDS = (
    *GOOD,
    *BAD,
    "a",
    "film",
    "review",
    "number",
    *map(str, range(10)),
    *(f"##{digit}" for digit in range(10)),
)


def tiny_bert() -> BertModel:
    """Two layers with random weights and ordinary dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BertModel(
            BertConfig(**SIZES, vocab_size=50, initializer_range=0.5, pad_token_id=PADDING)
        ).eval()


def token_member(seed: int, build: str = "adapters") -> TokenRows:
    """One deep member around a new tiny encoder."""
    model: EncoderClassifier
    if build == "adapters":
        model = AdapterClassifier(tiny_bert(), 3, layers=None, groups=None, seed=seed, bottleneck=8)
    else:
        model = MaskedClassifier(tiny_bert(), 3, groups=None, seed=seed)
    return TokenRows(model)


def token_ensemble(members: int = 3, build: str = "adapters") -> Ensemble:
    """A K-member model whose members differ in their seeds."""
    models = [token_member(10 + member, build) for member in range(members)]
    return Ensemble(models, 3, models[0].model.leaks)


def grown(model: nn.Module) -> nn.Module:
    """The model in float64, its trained weights as large as after much training, in evaluation
    mode.
    """
    for number, (name, parameter) in enumerate(model.double().named_parameters()):
        if ".dropout.1." in name or ".out." in name:
            parameter.data = randn(*parameter.shape, seed=number) / 2
    return model.eval()


def token_rows(rows: int = 4, length: int = 9, seed: int = 1) -> Tensor:
    """Token ids `(rows, length)`; each second text is shorter by 4."""
    ids = torch.randint(3, 50, (rows, length), generator=torch.Generator().manual_seed(seed))
    ids[1::2, length - 4 :] = PADDING
    return ids


def encoder_in(folder: Path) -> str:
    """A tiny encoder with its tokenizer, written to a folder as `--encoder` takes it."""
    folder.mkdir(parents=True)
    vocabulary = folder / "words.txt"
    vocabulary.write_text(
        "\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)), encoding="utf-8"
    )
    BertTokenizerFast(vocab_file=str(vocabulary)).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(
            BertConfig(
                **{**SIZES, "hidden_size": 32}, vocab_size=5 + len(WORDS), initializer_range=0.5
            )
        ).save_pretrained(folder)
    return str(folder)


def labelled_texts(count: int, name: str) -> pd.DataFrame:
    """Texts that a word tells apart, with labels 1 and 0 by turns."""
    texts = [f"a {(GOOD, BAD)[row % 2][row // 2 % 4]} {name} number {row}" for row in range(count)]
    return pd.DataFrame({"text": texts, "label": [1 - row % 2 for row in range(count)]})


def sst2_in(folder: Path, train: int = 24, development: int = 10) -> str:
    """A folder in the shape of SST-2's."""
    folder.mkdir(parents=True)
    labelled_texts(train, "film").to_csv(folder / "train.csv", index=False)
    labelled_texts(development, "review").to_csv(folder / "dev.csv", index=False)
    return str(folder)


def elec_in(folder: Path, validation: int = 8, test: int = 12) -> str:
    """A folder in the shape of Elec's."""
    folder.mkdir(parents=True)
    labelled_texts(validation, "review").to_csv(folder / "valid.csv", index=False)
    labelled_texts(test, "number").to_csv(folder / "test.csv", index=False)
    return str(folder)


def small_images(train: int = 24, validation: int = 6) -> Dataset:
    """Colour images of 32 × 32 in two classes, dark and light."""
    random, splits = np.random.default_rng(0), []
    for name, count in (("train", train), ("validation", validation)):
        labels = np.arange(count) % 2
        pixels = random.integers(0, 128, (count, 32, 32, 3)) + 127 * labels[:, None, None, None]
        splits.append(
            Items(
                [f"{name}-{row}" for row in range(count)],
                labels.astype(np.int64),
                images=pixels.astype(np.uint8),
            )
        )
    return Dataset("cifar10", "a test", ("dark", "light"), *splits)


def photos(count: int, seed: int) -> np.ndarray:
    """Smooth patches of colour, red for even rows, blue for odd ones."""
    made = np.random.default_rng(seed).integers(0, 160, (count, 4, 4, 3))
    made = made.repeat(8, 1).repeat(8, 2)
    made[::2, ..., 0] += 90
    made[1::2, ..., 2] += 90
    return made.astype(np.uint8)


def twins_in(folder: Path) -> str:
    """A folder in the shape of CIFAR-10's: test images 500 to 505 nearly repeat training images
    1030 to 1035, as pairs.csv says.
    """
    folder.mkdir(parents=True)
    train, test = photos(60, 1), photos(30, 2)
    test[:6] = np.clip(train[30:36].astype(int) + 3, 0, 255)
    for name, images, first in (("train", train, 1000), ("test", test, 500)):
        columns = {
            "image": [png_bytes(pixels) for pixels in images],
            "label": [row % 2 for row in range(len(images))],
        }
        pq.write_table(
            pa.table({**columns, "index": list(range(first, first + len(images)))}),
            folder / f"{name}.parquet",
        )
    pairs = "".join(f"{500 + row},{1030 + row},1\n" for row in range(6))
    (folder / "pairs.csv").write_text(
        f"test_index,train_index,judgment\n{pairs}700,1001,1\n501,9,2\n", encoding="utf-8"
    )
    return str(folder)
