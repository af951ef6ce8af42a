"""A model that a user names is tried before anything is trained, and names are known without torch."""

from __future__ import annotations

import sys
from pathlib import Path

import huggingface_hub
import pytest
from torchvision import models

from core import TurnoverError
from core.models.encoders import DEFAULT_ENCODER, needs_hub
from core.models.networks import torchvision_networks
from tests.contracts.test_own_models import command, refused
from tests.helpers.builders import names
from tests.helpers.own_modules import own_code
from tests.helpers.token_builders import encoder_in, sst2_in

__all__ = ["own_code"]
DIGITS = ("train", "--check", "--data", "digits", "--limit", 24)
WRONG = {
    "a network without a linear layer": (["--model", "torchvision:squeezenet1_1"], "it has no linear layer"),
    "no such layer": (["--model", "torchvision:resnet18", "--from-layer", "layer9"], "a ResNet has no such layer; choose one of conv1"),
    "no weights": (["--model", "torchvision:resnet18", "--weights", "own_images.py"], "not the weights of resnet18"),
    "no such function": (["--model", "own_images.py:nothing"], "has no function 'nothing'"),
    "members alike": (["--model", "own_images.py:same", "--members", "2"], "two members would have the same masks"),
    "no image encoder": (["--model", "heads", "--encoder", "empty"], "encoder 'empty': the folder lacks config.json"),
}


def test_torchvision_s_classifiers_are_known_by_name() -> None:
    assert list(torchvision_networks()) == sorted(models.list_models(module=models))


def test_there_may_be_no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert torchvision_networks.__wrapped__() == ()


@pytest.mark.parametrize("what", WRONG)
def test_what_building_tells_is_said_by_the_check(what: str, own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_code / "empty").mkdir()
    with (own_code / "own_images.py").open("a") as file:
        file.write("\n\ndef same(classes, shape, seed):\n    return build(classes, shape, 0)\n")
    options, words = WRONG[what]
    assert words in refused(capsys, *DIGITS, "--run", own_code / "run", *options)
    assert "run" not in names(own_code) and "run.partial" not in names(own_code)


def test_what_is_right_passes_and_nothing_is_made(own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--model", "torchvision:resnet18", "--from-layer", "fc"], ["--model", "own_images.py:build", "--members", "2"]):
        told = command(capsys, *DIGITS, "--run", own_code / "run", *options)
        assert told["model"] == options[1] and told["train_size"] == 24
    assert "run" not in names(own_code) and "run.partial" not in names(own_code)


def test_an_encoder_s_form_is_tried_with_its_adapters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, encoder = sst2_in(tmp_path / "sst2"), encoder_in(tmp_path / "encoder")
    asked = ("train", "--check", "--data", "sst2", "--path", path, "--model", "adapters", "--encoder", encoder, "--run", tmp_path / "run")
    assert "layers" in refused(capsys, *asked, "--layers", 9)
    assert command(capsys, *asked, "--layers", 1)["model"] == "adapters"


def test_what_has_to_be_downloaded_is_told_from_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = {("a/whole", "config.json"), ("a/whole", "model.safetensors"), ("a/sharded", "config.json"), ("a/sharded", "model.safetensors.index.json")}
    cache |= {("a/torn", "config.json")}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: "there" if (name, file) in cache else None)
    assert not needs_hub(DEFAULT_ENCODER) and not needs_hub(encoder_in(tmp_path / "encoder"))
    assert not needs_hub("a/whole") and not needs_hub("a/sharded")
    assert needs_hub("a/torn") and needs_hub("a/other") and needs_hub("gpt2")


@pytest.mark.parametrize("name", ["/nowhere", "./here", "a/b/c", "-x", "a b", "<b>", ""])
def test_what_is_neither_a_folder_nor_a_name_is_refused(name: str) -> None:
    with pytest.raises(TurnoverError, match="encoder"):
        needs_hub(name)


def test_a_function_is_loaded_though_its_encoder_has_to_be_downloaded(own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("train", "--check", "--data", "sst2", "--path", sst2_in(own_code / "sst2"), "--encoder", "nobody/nothing", "--run", own_code / "run")
    assert "has no function 'nothing'" in refused(capsys, *asked, "--model", "own_texts:nothing")
    assert "reads 'letters'" in refused(capsys, *asked, "--model", "own_texts:letters")
    for name in ("features", "tokens"):
        assert command(capsys, *asked, "--model", f"own_texts:{name}")["model"] == f"own_texts:{name}"


def test_a_download_waits_for_the_training(own_code: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # asking it for anything fails
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", lambda *_, **__: pytest.fail("a download"))
    assert command(capsys, *DIGITS, "--run", own_code / "run", "--model", "heads", "--encoder", "nobody/nothing")["model"] == "heads"
    assert command(capsys, *DIGITS, "--run", own_code / "run", "--model", "torchvision:resnet18", "--pretrained")["members"] == 8
