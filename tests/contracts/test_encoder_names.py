"""Encoders by name, texts' and images': tiny ones with random weights in folders, and torchvision's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models
from transformers import AutoModel as AnyModel
from transformers import (
    BertConfig,
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

from core import Run, TurnoverError, influence
from core.models.image_encoders import ImageEncoder, hub_images, pixels_of, torchvision_images
from core.models.text import TextEncoder
from core.pipeline.model import load_model, split_inputs
from core.report.facts import run_facts
from tests.contracts.test_own_models import command, refused
from tests.helpers.token_builders import WORDS, sst2_in

CPU = torch.device("cpu")
SIZES = {"vocab_size": 5 + len(WORDS), "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TEXTS: dict[str, Callable[[], PreTrainedConfig]] = {
    "bert": lambda: BertConfig(**SIZES, max_position_embeddings=40),
    "roberta": lambda: RobertaConfig(**SIZES, max_position_embeddings=40, pad_token_id=0),
    "electra": lambda: ElectraConfig(**SIZES, max_position_embeddings=40, embedding_size=8),
    "distilbert": lambda: DistilBertConfig(vocab_size=5 + len(WORDS), dim=32, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=40),
}
IMAGES: dict[str, tuple[Callable[[], PreTrainedConfig], Callable[[], ViTImageProcessor | ConvNextImageProcessor]]] = {
    "vit": (
        lambda: ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8),
        lambda: ViTImageProcessor(size={"height": 16, "width": 16}),
    ),
    "resnet": (
        lambda: ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
        lambda: ConvNextImageProcessor(size={"shortest_edge": 32}),
    ),
}
DIGITS = ("--data", "digits", "--limit", 24, "--validation-limit", 8, "--epochs", 2, "--members", 2)


def random_model(config: PreTrainedConfig, folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AnyModel.from_config(config).save_pretrained(folder)
    return folder


def text_encoder_in(folder: Path, kind: str) -> Path:
    folder.mkdir()
    (folder / "words.txt").write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)), encoding="utf-8")
    BertTokenizerFast(vocab_file=str(folder / "words.txt")).save_pretrained(folder)
    return random_model(TEXTS[kind](), folder)


def image_encoder_in(folder: Path, kind: str) -> Path:
    config, processor = IMAGES[kind]
    processor().save_pretrained(folder)
    return random_model(config(), folder)


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_encoder_of_any_family_has_features_of_texts_alone(kind: str, tmp_path: Path) -> None:
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
def test_a_run_on_any_text_encoder_explains_a_text_as_it_was_seen(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder, folder = text_encoder_in(tmp_path / kind, kind), tmp_path / "run"
    data = ("--data", "sst2", "--path", sst2_in(tmp_path / "sst2"), "--encoder", encoder)
    command(capsys, "train", *data, "--epochs", 2, "--members", 2, "--run", folder)
    command(capsys, "influence", "--run", folder)
    run = Run(folder)
    made = command(capsys, "explain", "--run", folder, "--text", run.validation["text"].iloc[1])
    assert made["probabilities"][run.classes[0]] == pytest.approx(float(run.validation["probability_0"].iloc[1]), abs=1e-5)
    if kind == "distilbert":
        assert "is not built like BERT" in refused(capsys, "train", *data, "--model", "adapters", "--run", tmp_path / "adapters")
    else:
        command(capsys, "train", *data, "--model", "adapters", "--epochs", 1, "--limit", 6, "--run", tmp_path / "adapters")


def picture(seed: int = 0, rows: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, 12, 9, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", IMAGES)
def test_features_of_an_image_encoder_are_the_scaled_mean_of_its_last_layer(kind: str, tmp_path: Path) -> None:
    folder = image_encoder_in(tmp_path / kind, kind)
    encoder = hub_images(str(folder), CPU)
    network = AnyModel.from_pretrained(folder).eval()
    told: list[int] = []
    features = encoder.features(picture(rows=20), told.append)
    with torch.no_grad():
        hidden = network(encoder.prepare(picture(rows=20))).last_hidden_state
    mean = hidden.mean(1) if kind == "vit" else hidden.flatten(2).mean(2)
    np.testing.assert_allclose(features, torch.nn.functional.normalize(mean) * mean.shape[1] ** 0.5, atol=1e-5)
    assert told == [16, 4] and features.shape == (20, 16)


def test_a_grey_image_has_the_features_of_the_same_image_in_rgb(tmp_path: Path) -> None:
    encoder = hub_images(str(image_encoder_in(tmp_path / "vit", "vit")), CPU)
    grey = picture()[..., 0]
    np.testing.assert_array_equal(encoder.features(grey), encoder.features(np.stack([grey] * 3, -1)))


def check_explained_and_opened(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """The run's influences are the engine's on its features, and an image is seen anew as it was seen in training."""
    command(capsys, "influence", "--run", folder)
    run = Run(folder)
    rows = split_inputs(run, "validation", list(range(8)), CPU)
    np.testing.assert_array_equal(rows, run.features("validation"))
    expected = influence(load_model(run, CPU), rows, torch.tensor(run.validation["label"].tolist()), range(24), plain=True).values
    np.testing.assert_allclose(run.influence.array("truth_members"), expected, atol=1e-4)
    (folder.parent / "digit.png").write_bytes(run.item("validation", 3)["image"])
    made = command(capsys, "explain", "--run", folder, "--image", folder.parent / "digit.png")
    for number, name in enumerate(run.classes):
        assert made["probabilities"][name] == pytest.approx(float(run.validation[f"probability_{number}"].iloc[3]), abs=1e-4)
    return run


@pytest.mark.parametrize("kind", IMAGES)
def test_heads_on_a_frozen_image_encoder_from_end_to_end(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = image_encoder_in(tmp_path / kind, kind)
    command(capsys, "train", *DIGITS, "--model", "heads", "--encoder", encoder, "--run", tmp_path / "run")
    run = check_explained_and_opened(tmp_path / "run", capsys)
    assert run.features("train").shape == (24, 16)
    assert run.manifest["leaks"] == ["the output bias"]
    assert run_facts(run)["Model"] == f"heads on {encoder}, masks of 16 groups of units"


def test_a_torchvision_network_frozen_with_weights_of_the_user_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(1)
    network = models.resnet18(weights=None).eval()
    save_file(network.state_dict(), tmp_path / "resnet18.safetensors")
    options = (*DIGITS, "--model", "torchvision:resnet18", "--weights", tmp_path / "resnet18.safetensors")
    command(capsys, "train", *options, "--run", tmp_path / "run")
    run = check_explained_and_opened(tmp_path / "run", capsys)
    network.fc = torch.nn.Identity()
    pictures = np.stack([np.asarray(image) for image in _images(run)])
    with torch.no_grad():
        made = network(pixels_of(np.repeat(pictures[..., None], 3, -1)))
    np.testing.assert_allclose(run.features("validation"), torch.nn.functional.normalize(made) * 512**0.5, atol=1e-3)
    save_file(models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.safetensors")
    assert "changed since the run was made" in refused(capsys, "explain", "--run", tmp_path / "run", "--image", tmp_path / "digit.png")


def _images(run: Run) -> list[np.ndarray]:
    from core.data.images import png_pixels

    return [png_pixels(content) for content in run.validation["image"]]


def test_random_torchvision_weights_depend_on_the_seed_alone() -> None:
    def made(seed: int) -> ImageEncoder:
        return torchvision_images("torchvision:mobilenet_v3_small", None, None, False, seed, CPU)

    torch.manual_seed(3)
    first = made(0).features(picture(rows=1))
    torch.manual_seed(4)
    np.testing.assert_array_equal(made(0).features(picture(rows=1)), first)
    assert not np.allclose(made(1).features(picture(rows=1)), first)
    assert first.shape == (1, 1024)


def test_encoders_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "bad.safetensors").write_bytes(b"not weights")
    run, texts = tmp_path / "run", ("--data", "sst2", "--path", sst2_in(tmp_path / "sst2"), "--epochs", 1)
    cases = (
        ((*DIGITS, "--model", "heads", "--encoder", empty), "cannot be loaded: it is a local folder"),
        ((*DIGITS, "--model", "heads", "--encoder", text_encoder_in(tmp_path / "bert", "bert")), "cannot be loaded"),
        ((*texts, "--encoder", image_encoder_in(tmp_path / "vit", "vit")), "cannot be loaded"),
        ((*DIGITS, "--encoder", empty), "reads pixels; an image encoder goes with --model heads"),
        ((*DIGITS, "--model", "torchvision:nothing"), "torchvision has no classifier 'nothing'"),
        ((*DIGITS, "--model", "torchvision:fcn_resnet50"), "torchvision has no classifier"),
        ((*DIGITS, "--model", "torchvision:squeezenet1_1"), "no linear layer"),
        ((*DIGITS, "--model", "torchvision:resnet18", "--weights", tmp_path / "bad.safetensors"), "not the weights of resnet18"),
        ((*DIGITS, "--model", "torchvision:resnet18", "--weights", tmp_path / "none"), "cannot be read (No such file"),
        ((*DIGITS, "--model", "torchvision:resnet18", "--weights", "x", "--pretrained"), "give one of them"),
        ((*DIGITS, "--model", "heads", "--pretrained"), "are for torchvision's networks"),
        ((*texts, "--model", "torchvision:resnet18"), "is text data"),
    )
    for options, expected in cases:
        assert expected in refused(capsys, "train", *options, "--run", run), options
        assert not run.exists() and not (tmp_path / "run.partial").exists()


def test_a_network_that_makes_no_features_is_named(tmp_path: Path) -> None:
    class Words(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            raise ValueError("You have to specify input_ids")

    with pytest.raises(TurnoverError, match=r"^a Words makes no features of images \(You have to specify input_ids\); name another$"):
        ImageEncoder(Words(), pixels_of, CPU).features(picture())
