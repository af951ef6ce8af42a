"""Frozen encoders of texts and images: features that depend on the item alone, of any family."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_image
from torch import nn
from torchvision import models
from transformers import AutoModel as AnyModel
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    ConvNextImageProcessor,
    DistilBertConfig,
    ElectraConfig,
    PreTrainedConfig,
    ResNetConfig,
    RobertaConfig,
    ViTConfig,
    ViTImageProcessor,
)

from tests.helpers.own_modules import command, own_code, refused
from tests.helpers.token_builders import WORDS, encoder_in, sst2_in
from turnover import Run, TurnoverError, influence
from turnover.data.images import png_pixels
from turnover.explain.facts import run_facts
from turnover.explain.words import mark
from turnover.models.encoders import (
    DEFAULT_ENCODER,
    DEFAULT_WINDOW,
    encoder_folder,
    encoder_limit,
    encoder_pieces,
)
from turnover.models.families.own import Own
from turnover.models.heads import TextEncoder, length_batches
from turnover.models.names import allow
from turnover.models.registry import TrainSettings, families
from turnover.models.torchvision import hub_images, packaged_images, pixels_of
from turnover.runs.model import load_model, split_inputs
from turnover.storage.artifacts import sha256

__all__ = ["own_code"]
CPU = torch.device("cpu")
MIXED = [
    *("A warm, witty film.", "Dull.", "It goes on and on and on, " * 12),
    *("Ça va? 你好 🎬", "I left after ten minutes; so did the projectionist."),
]
LAYERS = {"num_hidden_layers": 1, "num_attention_heads": 2}
SIZES = {"vocab_size": 5 + len(WORDS), "max_position_embeddings": 40}
BERT = {**SIZES, **LAYERS, "hidden_size": 32, "intermediate_size": 32}
TEXTS: dict[str, Callable[[], PreTrainedConfig]] = {
    "bert": lambda: BertConfig(**BERT),
    "roberta": lambda: RobertaConfig(**BERT, pad_token_id=0),
    "electra": lambda: ElectraConfig(**BERT, embedding_size=8),
    "distilbert": lambda: DistilBertConfig(dim=32, n_layers=1, n_heads=2, hidden_dim=32, **SIZES),
}
VIT = {**LAYERS, "hidden_size": 16, "intermediate_size": 16, "image_size": 16, "patch_size": 8}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
IMAGES: dict[str, Callable[[], tuple[PreTrainedConfig, object]]] = {
    "vit": lambda: (ViTConfig(**VIT), ViTImageProcessor(size={"height": 16, "width": 16})),
    "resnet": lambda: (ResNetConfig(**RESNET), ConvNextImageProcessor(size={"shortest_edge": 32})),
}
DIGITS = ("--data", "digits", "--limit", 24, "--validation-limit", 8, "--epochs", 2, "--members", 2)


def random_model(config: PreTrainedConfig, folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AnyModel.from_config(config).save_pretrained(folder)
    return folder


def text_encoder_in(folder: Path, kind: str) -> Path:
    folder.mkdir()
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)
    (folder / "words.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(vocab_file=str(folder / "words.txt")).save_pretrained(folder)
    return random_model(TEXTS[kind](), folder)


def image_encoder_in(folder: Path, kind: str) -> Path:
    config, processor = IMAGES[kind]()
    processor.save_pretrained(folder)  # type: ignore[attr-defined]
    return random_model(config, folder)


def picture(rows: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, 12, 9, 3)).astype(np.uint8)


# The packaged encoder


def test_features_are_the_scaled_mean_of_the_token_vectors(encoder: TextEncoder) -> None:
    features = encoder.features(MIXED)
    for text, row in zip(MIXED, features, strict=True):
        with torch.no_grad():
            tokens = encoder.tokenizer(text, return_tensors="pt")
            mean = encoder.model(**tokens).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm() * 384**0.5).numpy(), atol=2e-4)
    assert features.dtype == np.float32


def test_features_of_a_text_do_not_depend_on_the_other_texts(encoder: TextEncoder) -> None:
    told: list[int] = []
    together = encoder.features(MIXED * 4, told.append)
    alone = np.concatenate([encoder.features([text]) for text in MIXED])
    np.testing.assert_allclose(together, np.tile(alone, (4, 1)), atol=2e-4)
    assert sum(told) == len(MIXED) * 4


def test_texts_of_any_length_are_cut_to_the_encoder_s_window(encoder: TextEncoder) -> None:
    (tokens,) = encoder.tokens(["word " * 100_000])
    assert len(tokens) == encoder.max_tokens == DEFAULT_WINDOW
    assert encoder.features(["word " * 100_000]).shape == (1, 384)


def test_the_encoder_is_the_one_we_measured_with_frozen(encoder: TextEncoder) -> None:
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not encoder.model.training
    weights = Path(encoder_folder("all-MiniLM-L6-v2")) / "model.safetensors"
    measured = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert sha256(weights) == measured
    assert encoder_folder("bert-base-uncased") == "bert-base-uncased"  # left to transformers


def test_a_folder_without_an_encoder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match="cannot be loaded: it is a local folder") as raised:
        TextEncoder(str(tmp_path))
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


@given(lengths=st.lists(st.integers(1, 300), max_size=60), tokens=st.integers(1, 2000))
def test_batches_hold_every_row_once_and_keep_to_their_size(
    lengths: list[int], tokens: int
) -> None:
    batches = length_batches(lengths, tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    sizes = [len(batch) * max(lengths[row] for row in batch) for batch in batches]
    assert all(len(own) == 1 or size <= tokens for own, size in zip(batches, sizes, strict=True))


# Windows

SHORT, LONG = 16, 40
"""Tokens that are read, and what the tiny encoders of these tests have positions for, at most."""


@pytest.mark.parametrize("kind", TEXTS)
def test_the_limit_of_an_encoder_is_what_it_has_positions_for(kind: str, tmp_path: Path) -> None:
    folder = text_encoder_in(tmp_path / kind, kind)
    limit = encoder_limit(str(folder))
    assert limit == (39 if kind == "roberta" else 40)
    model = AnyModel.from_pretrained(folder).eval()
    with torch.no_grad():
        model(torch.full((1, limit), 7))
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, limit + 1), 7))
    assert encoder_limit("nobody/nothing") is None


@given(text=st.text(max_size=300), window=st.integers(8, 64))
def test_what_is_marked_as_read_is_what_the_encoder_reads(
    encoder: TextEncoder, text: str, window: int
) -> None:
    def tokens(of: str) -> list[int]:
        return encoder.tokenizer(of, truncation=True, max_length=window)["input_ids"]

    pieces = encoder_pieces(DEFAULT_ENCODER, window)
    assert pieces
    end = pieces.end(text)
    whole = encoder.tokenizer(text)["input_ids"]
    assert (end is not None) == (len(whole) > window)
    if end is not None:
        assert text[:end].strip() and len(tokens(text)) == window
        shown = mark(text, (), pieces=pieces)
        assert shown.plain == text
        before, (marker, *_) = [], [own for own in shown.head if own.window]
        for segment in shown.head:
            if segment is marker:
                break
            before.append(segment.text)
        assert "".join(before) == text[:end] and marker.window == window


def ending(word: str, words: int = 30) -> str:
    """A text whose last words decide, too late for a window of 16 tokens."""
    return f"{'a film ' * (words // 2)}{word}"


@pytest.mark.parametrize("model", ["own_texts:tokens", *(own.name for own in families("text"))])
def test_every_family_reads_as_far_as_it_is_told(
    model: str, own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if model == Own.name:
        model = "own_texts:features"
    folder = str(text_encoder_in(own_code / "bert", "bert"))
    allow(model)
    for window in (SHORT, None, LONG):
        chosen = {"encoder": folder, "max_tokens": window}
        settings = TrainSettings.of("sst2", model=model, **chosen).resolved("text")
        first, second = settings.reader(CPU)([ending("superb"), ending("very dull")])
        assert np.array_equal(first, second) == (window == SHORT)
        assert settings.options["max_tokens"] == (window or LONG)
    asked = ("train", "--data", "reviews", "--check", "--encoder", folder, "--run", own_code / "x")
    line = refused(capsys, *asked, "--model", model, "--max-tokens", LONG + 1)
    assert f"the encoder {folder} reads at most 40; choose that or fewer" in line


def test_the_report_says_what_share_of_the_texts_is_cut_and_pages_mark_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, table = text_encoder_in(tmp_path / "bert", "bert"), tmp_path / "table.csv"
    texts = [ending("dull", words) for words in range(2, 36)]
    frame = pd.DataFrame({"text": texts, "label": [0, 1] * 17})
    frame.to_csv(table, index=False)
    frame.to_csv(tmp_path / "held.csv", index=False)
    asked = ("train", "--train", table, "--validation", tmp_path / "held.csv")
    asked = (*asked, "--encoder", folder)
    asked = (*asked, "--run", tmp_path / "run", "--members", 2, "--epochs", 1)
    whole = command(capsys, *asked, "--check")["data_report"]
    assert not [line for line in whole if "are longer than" in line]
    cut = np.mean([2 * (words // 2) + 3 > SHORT for words in range(2, 36)])
    checked = command(capsys, *asked, "--check", "--max-tokens", SHORT)
    expected = (
        f"{100 * cut:.0f} % of the training texts are longer than 16 tokens and are cut there; "
        "--max-tokens goes up to 40"
    )
    assert expected in checked["data_report"]
    command(capsys, *asked, "--max-tokens", SHORT)
    command(capsys, "influence", "--run", tmp_path / "run")
    command(capsys, "report", tmp_path / "run", "--output", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "[cut here: the model reads 16 tokens]" in page


# Encoders of other families


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_encoder_of_any_family_has_features_of_texts_alone(
    kind: str, tmp_path: Path
) -> None:
    """In any company, and of texts longer than it has positions for."""
    encoder = TextEncoder(str(text_encoder_in(tmp_path / kind, kind)))
    texts = ["a superb film", "dull", "a tired review " * 100]
    features = encoder.features(texts)
    assert features.shape == (3, 32) and np.isfinite(features).all()
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 32**0.5, rtol=1e-5)
    for text, row in zip(texts, features, strict=True):
        np.testing.assert_allclose(encoder.features([text])[0], row, atol=1e-5)
    assert not np.allclose(features[0], features[1])


@pytest.mark.parametrize("kind", TEXTS)
def test_a_run_on_any_text_encoder_explains_a_text_as_it_was_seen(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, folder = text_encoder_in(tmp_path / kind, kind), tmp_path / "run"
    data = ("--data", "sst2", "--path", sst2_in(tmp_path / "sst2"), "--encoder", encoder)
    command(capsys, "train", *data, "--epochs", 2, "--members", 2, "--run", folder)
    command(capsys, "influence", "--run", folder)
    run = Run(folder)
    text, chance = run.validation[["text", "probability_0"]].iloc[1]
    made = command(capsys, "explain", "--run", folder, "--text", text)
    assert made["probabilities"][run.classes[0]] == pytest.approx(float(chance), abs=1e-5)
    adapters = ("--model", "adapters", "--epochs", 1, "--limit", 6, "--run", tmp_path / "adapters")
    if kind == "distilbert":
        assert "is not built like BERT" in refused(capsys, "train", *data, *adapters)
    else:
        assert command(capsys, "train", *data, *adapters)["model"] == "adapters"


@pytest.mark.parametrize("kind", IMAGES)
def test_features_of_an_image_encoder_are_the_scaled_mean_of_its_last_layer(
    kind: str, tmp_path: Path
) -> None:
    """A grey image has those of the same image in RGB."""
    folder = image_encoder_in(tmp_path / kind, kind)
    encoder, network = hub_images(str(folder), CPU), AnyModel.from_pretrained(folder).eval()
    told: list[int] = []
    features = encoder.features(picture(20), told.append)
    with torch.no_grad():
        hidden = network(encoder.prepare(picture(20))).last_hidden_state
    mean = hidden.mean(1) if kind == "vit" else hidden.flatten(2).mean(2)
    expected = nn.functional.normalize(mean) * mean.shape[1] ** 0.5
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert told == [16, 4] and features.shape == (20, 16)
    grey = picture()[..., 0]
    colour = encoder.features(np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(encoder.features(grey), colour)


def checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A run whose influences are the engine's, and which sees an image as training did."""
    command(capsys, "influence", "--run", folder)
    run = Run(folder)
    rows = split_inputs(run, "validation", list(range(8)), CPU)
    np.testing.assert_array_equal(rows, run.features("validation"))
    labels = torch.tensor(run.validation["label"].tolist())
    expected = influence(load_model(run, CPU), rows, labels, range(24), plain=True).values
    np.testing.assert_allclose(run.influence.array("truth_members"), expected, atol=1e-4)
    (folder.parent / "digit.png").write_bytes(run.item("validation", 3)["image"])
    made = command(capsys, "explain", "--run", folder, "--image", folder.parent / "digit.png")
    chances = run.validation[[f"probability_{number}" for number in range(10)]].iloc[3]
    assert [*made["probabilities"].values()] == pytest.approx([*chances], abs=1e-4)
    return run


@pytest.mark.parametrize("kind", IMAGES)
def test_heads_on_a_frozen_image_encoder_from_end_to_end(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = image_encoder_in(tmp_path / kind, kind)
    options = ("--model", "heads", "--encoder", encoder, "--run", tmp_path / "run")
    command(capsys, "train", *DIGITS, *options)
    run = checked(tmp_path / "run", capsys)
    assert run.features("train").shape == (24, 16)
    assert run.manifest["leaks"] == ["the output bias"]
    assert run_facts(run)["Model"] == f"heads on {encoder}, masks of 16 groups of units"


def test_the_packaged_image_encoder_reads_colour_images_by_default() -> None:
    """Features do not depend on the batch; grey images stay pixels, as does what is asked to."""

    def planned(images: np.ndarray, **options: Any) -> TrainSettings:
        settings = TrainSettings.of("mine", model="heads", **options).resolved("image")
        family = settings.family.for_images("heads", "mine", images.shape[1:])
        return settings.with_family(family)

    settings = planned(picture())
    assert settings.options["encoder"] == "efficientnet-lite0" and settings.reads == "features"
    for asked in (planned(picture()[..., 0]), planned(picture(), encoder="pixels")):
        assert asked.reads == "pixels" and not asked.family.where("image")
    assert planned(picture(), encoder="mine").options["encoder"] == "mine"
    read = settings.reader(CPU)
    features = read(picture(20))
    assert features.shape == (20, 1280)
    np.testing.assert_allclose((features**2).sum(1), 1280, rtol=1e-5)
    np.testing.assert_allclose(read(picture(20)[17:]), features[17:], atol=1e-3)
    encoder = packaged_images(CPU)
    flower = encoder.prepare(load_sample_image("flower.jpg")[None].copy())
    assert flower.shape == (1, 3, 224, 224)
    classes = encoder.network._fc(encoder.network(flower))
    assert int(classes.argmax()) == 985  # of ImageNet: daisy


def test_a_torchvision_network_frozen_with_weights_of_the_user_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnover.models.torchvision._SIDE", 64)  # for speed
    torch.manual_seed(1)
    network, file = models.resnet18(weights=None).eval(), tmp_path / "resnet18.safetensors"
    save_file(network.state_dict(), file)
    options = ("--model", "torchvision:resnet18", "--weights", file, "--run", tmp_path / "run")
    command(capsys, "train", *DIGITS, *options)
    run = checked(tmp_path / "run", capsys)
    network.fc = nn.Identity()
    grey = np.stack([png_pixels(content) for content in run.validation["image"]])
    with torch.no_grad():
        made = network(pixels_of(np.repeat(grey[..., None], 3, -1)))
    expected = nn.functional.normalize(made) * 512**0.5
    np.testing.assert_allclose(run.features("validation"), expected, atol=1e-3)
    save_file(models.resnet18(weights=None).state_dict(), file)
    asked = ("explain", "--run", tmp_path / "run", "--image", tmp_path / "digit.png")
    assert "changed since the run was made" in refused(capsys, *asked)
    random, named = ((*DIGITS, *end) for end in (("--model", "torchvision:resnet18"), options[:4]))
    for data, cautions in ((random, True), (named, False)):
        made = command(capsys, "train", *data, "--run", tmp_path / "tried", "--check")
        assert ("random weights" in made["caution"]) is cautions
    assert "Caution" not in run_facts(run)
    run.manifest["settings"]["weights"] = None
    assert next(iter(run_facts(run))) == "Caution"


def test_a_classifier_trained_without_masks_gets_them_and_its_accuracy_before_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before is what the classifier itself scores; only what masks guard, and the output bias, is
    trained.
    """
    folder, data = encoder_in(tmp_path / "encoder"), sst2_in(tmp_path / "sst2")
    config = BertConfig.from_pretrained(folder, num_labels=2)
    torch.manual_seed(0)
    classifier = BertForSequenceClassification(config).eval()
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    for part in (classifier, tokenizer):
        part.save_pretrained(tmp_path / "trained")
    asked = ("train", "--data", "sst2", "--path", data, "--model", "checkpoint", "--encoder")
    run = tmp_path / "run"
    made = command(
        capsys, *asked, tmp_path / "trained", "--members", 2, "--epochs", 1, "--run", run
    )
    items = Run(run).validation
    with torch.no_grad():
        read = tokenizer(items["text"].tolist(), return_tensors="pt", padding=True)
        right = classifier(**read).logits.argmax(1).numpy() == items["label"].to_numpy()
    assert made["accuracy_before"] == pytest.approx(right.mean())
    kept = load_file(run / "weights.safetensors")
    for name, value in classifier.state_dict().items():
        masked = name in ("bert.pooler.dense.weight", "classifier.weight", "classifier.bias")
        inside = re.sub(r"(pooler\.dense|classifier)\.", r"\1.1.", name)
        assert torch.equal(kept[f"models.1.network.{inside}"], value) != masked, name
    command(capsys, "influence", "--run", run)
    assert "none that was trained" in refused(capsys, *asked, folder, "--run", tmp_path / "x")
    line = refused(capsys, *asked, tmp_path / "trained", "--from-layer", "top", "--run", "x")
    assert "has no such layer; choose one of bert, dropout, classifier" in line
