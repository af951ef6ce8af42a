"""Networks of torchvision that are trained from a layer on: law 3 where masks claim it, the rest frozen, and a run of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from core import Run, TurnoverDropout, TurnoverError, influence, turnover
from core.models import finetuned
from core.models.finetuned import LEAKS, FineTuned, fine_tuned
from core.models.own import found_leaks
from core.pipeline.model import load_model, split_inputs
from tests.contracts.test_own_models import command, refused
from tests.helpers.builders import some_labels

CPU = torch.device("cpu")
CASES = {"resnet18": "layer4", "mobilenet_v3_small": "features.11", "densenet121": "features.denseblock4.denselayer15"}


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks at 32 × 32: the laws are the same as at 224 × 224, in a fiftieth of the time."""
    monkeypatch.setattr("core.models.image_encoders._SIDE", 32)


def network(name: str, first: str, groups: int | None = 16) -> FineTuned:
    return fine_tuned(f"torchvision:{name}", first, 3, weights=None, pretrained=False, groups=groups, seed=1)


@pytest.mark.parametrize("name", CASES)
def test_law_3_and_leaks(name: str) -> None:
    """A trained weight's column learns nothing from an item whose mask switches its unit off; the output bias is all that leaks."""
    model, x, y = network(name, CASES[name]), torch.rand(4, 3, 32, 32) * 2 - 1, some_labels(4, 3)
    masked = [(layer[0], layer[1]) for layer in model.modules() if isinstance(layer, nn.Sequential) and isinstance(layer[0], TurnoverDropout)]
    assert {id(own) for own in model.parameters() if own.requires_grad} == {id(layer.weight) for _, layer in masked} | {id(masked[-1][1].bias)}
    for instance in range(2):
        model.train().zero_grad()
        with torch.random.fork_rng(), turnover([instance] * 4):
            nn.functional.cross_entropy(model(x), y).backward()
        for mask, layer in masked:
            off = mask.mask([instance])[0] == 0
            assert layer.weight.grad[:, off].eq(0).all()
        assert masked[-1][1].weight.grad.ne(0).any()
    assert len(found_leaks(model, x, y)) == len(LEAKS) == 1
    assert found_leaks(model, x, y)[0].endswith("1.bias")


def test_training_leaves_what_is_before_the_layer_as_it_was() -> None:
    model = network("resnet18", "layer4")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([own for own in model.parameters() if own.requires_grad], 0.1)
    model.train()
    with turnover([0, 1]):
        nn.functional.cross_entropy(model(torch.rand(2, 1, 16, 16)), torch.tensor([0, 1])).backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith(("network.layer4", "network.fc")) and name.endswith(("1.weight", "1.bias")) for name in changed)


def test_without_masks_it_is_the_network_of_torchvision(tmp_path: Path) -> None:
    """Law 6: with the user's weights, but for the new output layer."""
    torch.manual_seed(2)
    plain = models.resnet18(weights=None).eval()
    save_file(plain.state_dict(), tmp_path / "w.safetensors")
    made = fine_tuned("torchvision:resnet18", "layer3", 3, weights=str(tmp_path / "w.safetensors"), pretrained=False, groups=None, seed=0)
    plain.fc = made.network.get_submodule("fc.1")
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    mean, std = (torch.tensor(own).view(3, 1, 1) for own in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        torch.testing.assert_close(made(x), plain(((x + 1) / 2 - mean) / std), rtol=1e-4, atol=1e-5)


def test_a_fine_tuned_run_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its weights' file may be gone afterwards: the run has all."""
    torch.manual_seed(2)
    save_file(models.resnet18(weights=None).state_dict(), tmp_path / "w.safetensors")
    options = ("--data", "digits", "--limit", 16, "--validation-limit", 4, "--epochs", 1, "--model", "torchvision:resnet18")
    command(capsys, "train", *options, "--from-layer", "layer4.1", "--weights", tmp_path / "w.safetensors", "--run", tmp_path / "run")
    (tmp_path / "w.safetensors").unlink()
    command(capsys, "influence", "--run", tmp_path / "run")
    run = Run(tmp_path / "run")
    model, rows = load_model(run, CPU), split_inputs(run, "validation", [0, 1, 2, 3], CPU)
    expected = influence(model, rows, torch.tensor(run.validation["label"].tolist()), range(16), plain=True).values
    np.testing.assert_allclose(run.influence.array("truth_members"), expected, atol=1e-4)
    assert (run.manifest["leaks"], model.members, run.features("train").shape) == (["the output bias"], 1, (16, 512))


BAD = {
    ("resnet18", "layer9"): "a ResNet has no such layer; choose one of conv1, bn1, relu, maxpool, layer1",
    ("squeezenet1_1", "features.12"): "the last layer of a SqueezeNet is not linear",
    ("vit_b_32", "encoder"): "is attention, inside which no mask can be put",
}


@pytest.mark.parametrize(("name", "first"), BAD)
def test_layers_that_cannot_be_trained_from_are_refused(name: str, first: str) -> None:
    with pytest.raises(TurnoverError) as refusal:
        network(name, first)
    assert BAD[name, first] in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_option_is_for_torchvision_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is for torchvision's networks" in refused(capsys, "train", "--data", "digits", "--from-layer", "fc", "--run", tmp_path / "run")
    assert finetuned.LEAKS == ("the output bias",)
