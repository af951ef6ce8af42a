"""Which model a user gets, and what is refused in one line before anything is trained."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from tests.helpers.builders import SMALL_RUN, names, train_digits
from tests.helpers.own_modules import command, own_code, refused
from tests.helpers.token_builders import encoder_in, small_images, sst2_in
from turnover import TurnoverError
from turnover.cli import main
from turnover.data.recipe import OWN
from turnover.data.sources import SOURCES
from turnover.data.tables import OwnData
from turnover.models.encoders import DEFAULT_ENCODER, needs_hub
from turnover.models.families.torchvision import torchvision_networks
from turnover.models.family import USUAL_MASKS
from turnover.models.names import file_checksum
from turnover.models.registry import (
    TrainSettings,
    families,
    family_options,
)
from turnover.models.torchvision import (
    FineTuned,
    ImageEncoder,
    pixels_of,
    torchvision_images,
    torchvision_network,
)
from turnover.runs.plan import plan_run
from turnover.workflows.train import train_run

__all__ = ["own_code"]
CPU = torch.device("cpu")

# Defaults

DEFAULTS = {
    ("digits", "image", None): ("small-vgg", 8, 0.05),
    ("cifar10", "image", None): ("small-vgg", 8, 0.0),
    ("cifar10", "image", "vgg19"): ("vgg19", 1, 0.0),
    ("reviews", "text", None): ("heads", 16, 0.0),
    ("sst2", "text", "adapters"): ("adapters", 1, 0.0),
    ("yahoo", "text", "masked-encoder"): ("masked-encoder", 1, 0.0),
}


@pytest.mark.parametrize(("data", "kind", "model"), DEFAULTS)
def test_defaults_follow_data_and_model(data: str, kind: str, model: str | None) -> None:
    made = TrainSettings(data, model=model).resolved(kind)
    named, members, noise = DEFAULTS[data, kind, model]
    assert (made.model, made.members, made.label_noise) == (named, members, noise)
    assert (made.options["groups"], made.resolved(kind)) == (16, made)
    assert made.options.get("layers") is None
    own = {"members": 3, "groups": 0, "label_noise": 0.0, "seed": 9}
    said = TrainSettings.of(data, model=model, **own).resolved(kind)
    assert {name: said.saved[name] for name in own} == own
    assert said.recipe == replace(said.family.recipe or SOURCES[data].recipe, seed=9)
    assert replace(said, epochs=2).recipe == replace(said.recipe, epochs=2)


@pytest.mark.parametrize("data", ["files", "hub:a/b"])
def test_the_kind_of_own_data_decides_what_suits_them(data: str) -> None:
    for kind, members in (("text", 16), ("image", 8)):
        made = TrainSettings(data, own=OwnData(train="x")).resolved(kind)
        assert (made.model, made.members) == (families(kind)[0].name, members)
        assert made.recipe == OWN[kind].recipe
        assert TrainSettings.read(made.saved, kind) == made


# Settings of runs

OLD = {
    **{"path": None, "limit": None, "validation_limit": None, "label_noise": 0.0, "seed": 0},
    **{"members": 2, "groups": 16, "encoder": DEFAULT_ENCODER, "layers": None, "dropout": 0.0},
    **{"epochs": None, "late_norm": True, "keep": None, "own": None, "source": None},
    **{"weights": None, "pretrained": False, "from_layer": None},
}
"""Settings of a run that was made when every run had the options of all families."""
WINDOWS = {"heads": 256, "adapters": 128, "masked-encoder": 128, "mine.py:build": 0}


def test_runs_from_before_families_had_options_of_their_own_open_as_they_were() -> None:
    for model, window in WINDOWS.items():
        groups = None if model == "mine.py:build" else 16
        old = {**OLD, "data": "sst2", "model": model, "source": "x", "groups": groups}
        made = TrainSettings.read(old, "text")
        assert made.options["max_tokens"] == window
        assert TrainSettings.read(made.saved, "text") == made
    for model in ("small-vgg", "vgg19", "heads", "torchvision:resnet18", "mine.py:build"):
        made = TrainSettings.read({**OLD, "data": "digits", "model": model, "source": "x"}, "image")
        assert made.model == model and "max_tokens" not in made.options
    with pytest.raises(TurnoverError, match=r"^the run's setting 'later' is unknown to this ver"):
        TrainSettings.read({**OLD, "data": "sst2", "later": 1}, "text")


def test_every_option_has_one_meaning_and_one_name() -> None:
    """Families that share an option agree on what the command line asks for."""
    shared = set(TrainSettings.__dataclass_fields__)
    for family in families():
        for own in family.options():
            known = family_options()[own.name]
            assert own.name not in shared and own.help
            assert (own.type, own.default, own.least) == (known.type, known.default, known.least)
            assert own.label or own.type is bool
    assert all(len([own for own in families() if kind in own.default_for]) == 1 for kind in OWN)


# Settings that do not go together

CLASHES: list[tuple[str, dict[str, Any], str]] = [
    ("text", {"model": "vgg19"}, "--model vgg19: sst2 is text data; choose one of heads, adapters"),
    ("text", {"model": "nonsense"}, "--model nonsense: "),
    ("text", {"model": "torchvision:resnet18"}, "--model torchvision:resnet18: sst2 is text data"),
    (
        "image",
        {"model": "adapters"},
        "--model adapters: sst2 is image data; choose one of small-vgg",
    ),
    ("text", {"layers": 2}, "--layers is for adapters, not heads; leave it out"),
    (
        "text",
        {"model": "masked-encoder", "layers": 2},
        "--layers is for adapters, not masked-encoder",
    ),
    ("image", {"model": "vgg19", "layers": 1}, "--layers is for adapters, not vgg19"),
    ("image", {"dropout": 0.5}, "--dropout is for vgg19, not small-vgg; leave it out"),
    ("text", {"model": "adapters", "dropout": 0.1}, "--dropout is for vgg19, not adapters"),
    *(
        (
            "image",
            {"model": "vgg19", "dropout": rate},
            f"--dropout {rate}: choose a number from 0 up to",
        )
        for rate in (1.5, 1.0, -0.2, float("nan"))
    ),
    ("image", {"members": 0}, "--members 0: choose 1 or more"),
    ("image", {"members": -2}, "--members -2: choose 1 or more"),
    ("image", {"late_norm": False}, "--no-late-norm is for vgg19, not small-vgg; leave it out"),
    ("text", {"max_tokens": 513}, f"--max-tokens 513: the encoder {DEFAULT_ENCODER} reads at most"),
    ("text", {"model": "heads", "encoder": "pixels"}, "--encoder pixels reads images, not texts"),
    ("text", {"max_tokens": 7}, "--max-tokens 7: choose 8 or more"),
    ("image", {"max_tokens": 99}, "--max-tokens is for heads, .*, not small-vgg; leave it out"),
    ("text", {"masks": 7}, "--masks 7: choose an even number"),
    ("image", {"masks": -2}, "--masks -2: choose 0 or more"),
    ("image", {"model": "mine.py:build", "masks": 4}, "--masks is for .*, not mine.py:build"),
    ("text", {"colour": 1}, "--colour: there is no such option"),
    ("text", {"epochs": 0}, "--epochs 0: choose 1 or more"),
    ("image", {"encoder": "x"}, "--encoder is for heads, not small-vgg; leave it out"),
    (
        "image",
        {"model": "heads", "pretrained": True},
        "--pretrained is for torchvision:NAME, not heads",
    ),
    ("image", {"from_layer": "fc"}, "--from-layer is for torchvision:NAME, not small-vgg"),
    (
        "image",
        {"model": "torchvision:resnet18", "weights": "x", "pretrained": True},
        "--weights and --pretrained exclude each other; give one of them",
    ),
]


@pytest.mark.parametrize(("kind", "options", "expected"), CLASHES)
def test_settings_that_do_not_go_together_are_refused_in_one_line(
    kind: str, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(TurnoverError, match=f"^{expected}[^\n]*$"):
        TrainSettings.of("sst2", **options).resolved(kind)


@pytest.mark.parametrize(
    ("options", "masks"),
    [
        ({"model": "heads"}, USUAL_MASKS),
        ({"model": "heads", "masks": 8}, 8),
        ({"model": "heads", "masks": 0}, None),
        ({"model": "heads", "limit": USUAL_MASKS - 1}, None),
        ({"model": "heads", "groups": 1}, None),
        ({}, None),
    ],
)
def test_masks_are_shared_by_default_where_they_can_be(
    options: dict[str, Any], masks: int | None, tmp_path: Path
) -> None:
    chosen = {"limit": 60, "members": 1, **options}
    plan = plan_run(TrainSettings.of("digits", **chosen), tmp_path / "run")
    assert plan.settings.options["masks"] == masks


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"limit": 1}, "--limit 1: choose a number from 2 to the 1200 training items"),
    ({"limit": 5000}, "--limit 5000"),
    ({"label_noise": 1.0}, "--label-noise 1.0: choose a number from 0 up to"),
    (
        {"masks": 62},
        "--masks 62: more than the 60 training items; choose fewer, or 0 so that every item",
    ),
    ({"masks": 4, "groups": 1}, "1 units or groups leaves"),
    ({"groups": 7}, "7 groups do not divide a width of 64"),
    ({"groups": -1}, "--groups -1: choose 0 or more"),
    ({"members": 0}, "--members 0: choose 1 or more"),
    ({"data": "imagenet"}, "unknown data set 'imagenet'"),
    ({"path": "somewhere"}, "leave --path out"),
    ({"model": "vgg19"}, "--model vgg19 reads RGB images of 32 x 32 pixels, not digits's"),
]


@pytest.mark.parametrize(("change", "reason"), UNFIT)
def test_settings_that_the_data_cannot_have_leave_nothing_behind(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(TurnoverError, match=reason):
        train_run(TrainSettings.of(**{**SMALL_RUN, **change}), tmp_path / "run", "cpu")
    assert names(tmp_path) == []


def test_a_folder_that_exists_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(TurnoverError, match="run exists; choose another --run, or delete it first"):
        train_digits(tmp_path / "run")
    assert names(tmp_path / "run") == ["mine.txt"]


BAD_CALLS = {
    "a text model for images": "--data digits --model adapters",
    "an image model for texts": "--data reviews --model vgg19",
    "more layers than there are": "--data reviews --limit 30 --model adapters --layers 99",
    "no epochs": "--data reviews --epochs 0",
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_settings_are_one_line_and_code_2(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["train", *BAD_CALLS[case].split(), "--run", str(tmp_path / "run")])
    said = capsys.readouterr()
    lines = [own for own in said.err.replace("\r", "\n").split("\n") if own.strip()]
    assert (code, said.out, len([own for own in lines if "%|" not in own])) == (2, "", 1), said.err
    assert list(tmp_path.iterdir()) == []


# A model that a user names is tried before anything is trained

DIGITS = ("--data", "digits", "--limit", 24, "--validation-limit", 8)
TEXTS = ("--data", "sst2", "--path", "sst2")
RESNET = ("--model", "torchvision:resnet18")
UNUSABLE: dict[str, tuple[tuple[object, ...], str]] = {
    "no such network": (("--model", "torchvision:nothing"), "torchvision has no classifier"),
    "no classifier": (("--model", "torchvision:fcn_resnet50"), "torchvision has no classifier"),
    "no linear layer": (("--model", "torchvision:squeezenet1_1"), "SqueezeNet has no linear layer"),
    "no such layer": (
        (*RESNET, "--from-layer", "layer9"),
        "a ResNet has no such layer; choose one of conv1, bn1, relu, maxpool, layer1",
    ),
    "no weights": ((*RESNET, "--weights", "own_images.py"), "not the weights of resnet18"),
    "no file": ((*RESNET, "--weights", "none"), "cannot be read (No such file"),
    "no such function": (("--model", "own_images.py:nothing"), "has no function 'nothing'"),
    "members alike": (
        ("--model", "own_images.py:same", "--members", "2"),
        "two members would have the same masks",
    ),
    "an empty folder": (
        ("--model", "heads", "--encoder", "empty"),
        "encoder 'empty'",
    ),
    "a text encoder for images": (("--model", "heads", "--encoder", "bert"), "cannot be loaded"),
    "an image encoder for texts": ((*TEXTS, "--encoder", "vit"), "cannot be loaded"),
    "too many layers": (
        (*TEXTS, "--model", "adapters", "--encoder", "bert", "--layers", 9),
        "layers=9",
    ),
    "no function, and an encoder to be downloaded": (
        (*TEXTS, "--encoder", "nobody/nothing", "--model", "own_texts:nothing"),
        "has no function 'nothing'",
    ),
    "reads what is not there": (
        (*TEXTS, "--encoder", "nobody/nothing", "--model", "own_texts:letters"),
        "reads 'letters'",
    ),
}


@pytest.fixture
def things(own_code: Path) -> Path:
    """A working directory with code, an encoder of texts, one of images, and small data."""
    same = "\n\ndef same(classes, shape, seed):\n    return build(classes, shape, 0)\n"
    with (own_code / "own_images.py").open("a") as file:
        file.write(same)
    (own_code / "empty").mkdir()
    encoder_in(own_code / "bert")
    sst2_in(own_code / "sst2")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ViTConfig(**sizes, intermediate_size=16, image_size=16, patch_size=8)
    ViTModel(config).save_pretrained(own_code / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(own_code / "vit")
    return own_code


def test_what_building_tells_is_said_by_the_check_and_by_training(
    things: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(things)
    for what, (options, words) in UNUSABLE.items():
        asked = ("train", *options) if "--data" in options else ("train", *DIGITS, *options)
        for check in (("--check",), ()):
            assert words in refused(capsys, *asked, "--run", "run", *check), what
    assert [name for name in names(things) if name != "__pycache__"] == before


def test_what_is_right_passes_and_nothing_is_made(
    things: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has to be downloaded waits for the training."""
    before = names(things)
    cases: list[tuple[tuple[object, ...], str]] = [
        ((*DIGITS, *RESNET, "--from-layer", "fc"), "torchvision:resnet18"),
        ((*DIGITS, "--model", "own_images.py:build", "--members", 2), "own_images.py:build"),
        ((*TEXTS, "--model", "adapters", "--encoder", "bert", "--layers", 1), "adapters"),
        (
            (*TEXTS, "--encoder", "nobody/nothing", "--model", "own_texts:tokens"),
            "own_texts:tokens",
        ),
    ]
    for options, model in cases:
        assert command(capsys, "train", "--check", *options, "--run", "run")["model"] == model
    monkeypatch.setitem(sys.modules, "transformers", None)  # asking it for anything fails
    loads = "torchvision.models._api.WeightsEnum.get_state_dict"
    monkeypatch.setattr(loads, lambda *_, **__: pytest.fail("a download"))
    for own in (("--model", "heads", "--encoder", "nobody/nothing"), (*RESNET, "--pretrained")):
        told = command(capsys, "train", "--check", *DIGITS, *own, "--run", "run")
        assert (told["model"], told["train_size"], told["members"]) == (own[1], 24, 8)
    assert [name for name in names(things) if name != "__pycache__"] == before


UNMASKED = {
    ("squeezenet1_1", "features.12"): "the last layer of a SqueezeNet is not linear",
    ("vit_b_32", "encoder"): "is attention, inside which no mask can be put",
}


@pytest.mark.parametrize(("name", "first"), UNMASKED)
def test_networks_whose_layers_cannot_be_masked_are_refused(name: str, first: str) -> None:
    network = torchvision_network(f"torchvision:{name}", None, None, False, 1)
    with pytest.raises(TurnoverError, match=UNMASKED[name, first]) as refusal:
        FineTuned(network, first, 3, groups=16, seed=1)
    assert "\n" not in str(refusal.value)


def test_vgg19_s_dropout_is_checked_before_its_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("turnover.runs.plan.load_data", lambda *_: small_images(4, 2))
    asked = ("--data", "cifar10", "--model", "vgg19", "--dropout", "1.5")
    assert "--dropout" in refused(capsys, "train", *asked, "--run", tmp_path / "run")


# Names


def test_torchvision_s_classifiers_are_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """And there may be no torchvision."""
    assert list(torchvision_networks()) == sorted(models.list_models(module=models))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert torchvision_networks.__wrapped__() == ()


def test_what_has_to_be_downloaded_is_told_from_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a/whole": "model.safetensors", "a/sharded": "model.safetensors.index.json"}
    cache = {*files.items(), *((name, "config.json") for name in (*files, "a/torn"))}

    def cached(name: str, file: str) -> str | None:
        return "there" if (name, file) in cache else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    here = (
        DEFAULT_ENCODER,
        "efficientnet-lite0",
        "pixels",
        encoder_in(tmp_path / "encoder"),
        *files,
    )
    assert not any(needs_hub(name) for name in here)
    assert all(needs_hub(name) for name in ("a/torn", "a/other", "gpt2"))
    for name in ("/nowhere", "./here", "a/b/c", "-x", "a b", "<b>"):
        with pytest.raises(TurnoverError, match="no such folder, and no name on the hub"):
            needs_hub(name)
    with pytest.raises(TurnoverError, match=r": the folder lacks config\.json or model\.safe"):
        needs_hub("")


def test_random_torchvision_weights_depend_on_the_seed_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, 12, 9, 3)).astype(np.uint8)

    def made(seed: int) -> np.ndarray:
        torch.manual_seed(np.random.randint(100))
        name = "torchvision:mobilenet_v3_small"
        network = torchvision_network(name, None, None, False, seed)
        return torchvision_images(network, CPU).features(picture)

    first = made(0)
    np.testing.assert_array_equal(made(0), first)
    assert not np.allclose(made(1), first)
    assert first.shape == (1, 1024)


def test_without_masks_a_fine_tuned_network_is_torchvision_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 6: with the user's weights, but for the new output layer."""
    monkeypatch.setattr("turnover.models.torchvision._SIDE", 32)
    torch.manual_seed(2)
    plain, file = models.resnet18(weights=None).eval(), tmp_path / "w.safetensors"
    save_file(plain.state_dict(), file)
    name, sha256 = "torchvision:resnet18", file_checksum(str(file))
    network = torchvision_network(name, str(file), sha256, False, 0)
    made = FineTuned(network, "layer3", 3, groups=None, seed=0)
    plain.fc = made.network.get_submodule("fc.1")
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    mean, std = (torch.tensor(own).view(3, 1, 1) for own in imagenet)
    with torch.no_grad():
        expected = plain(((x + 1) / 2 - mean) / std)
        torch.testing.assert_close(made(x), expected, rtol=1e-4, atol=1e-5)


def test_a_network_that_makes_no_features_is_named() -> None:
    class Words(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            raise ValueError("You have to specify input_ids")

    said = r"^a Words makes no features of images \(You have to specify input_ids\); name another$"
    with pytest.raises(TurnoverError, match=said):
        ImageEncoder(Words(), pixels_of, CPU).features(np.zeros((1, 8, 8), np.uint8))
