"""VGG19 with masked channels: torchvision's features, masks and norms where they were asked for.

Laws 3, 4 and 6 hold for it as for every family (`tests/laws/test_model_families.py`).
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import fx, nn
from torchvision.models import vgg19_bn

from tests.helpers.builders import randn, some_labels
from turnover import TurnoverDropout, TurnoverError, turnover
from turnover.attribution.dropout import turnover_layers
from turnover.attribution.state import load_trained, trained_state
from turnover.models.registry import TrainSettings
from turnover.models.vgg19 import Vgg19, vgg19

IMAGES = randn(2, 3, 32, 32).float()


def new(**options: Any) -> Vgg19:
    return vgg19(**{"classes": 3, "groups": None, "seed": 0, **options}).eval()


def named(model: nn.Module, part: str) -> list[str]:
    """Last parts of the names of modules that hold a word."""
    names = [name.split(".")[-1] for name, _ in model.named_modules()]
    return [name for name in names if part in name]


def test_the_features_are_torchvision_s() -> None:
    model, theirs = new(), vgg19_bn(weights=None).features.eval()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
    state = model.features.state_dict()  # type: ignore[union-attr]
    ours = [value for name, value in state.items() if "unmasked" not in name]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours, strict=True)))
    load_trained(
        model, {name: own for name, own in trained_state(model).items() if "unm" not in name}
    )
    torch.testing.assert_close(model.features(IMAGES), theirs(IMAGES))  # type: ignore[operator]


def test_masks_lie_before_every_layer_from_the_first_one_on() -> None:
    model = new()
    order = [name.split(".")[1] for name, child in model.named_modules() if "." in name]
    layers = turnover_layers(model)
    assert [layer.layer for layer in layers] == list(range(12, 20))
    for layer in layers:
        number = int(layer.layer or 0)
        kind = "conv" if number < 17 else "linear"
        assert order[order.index(f"mask{number}") + 1] == f"{kind}{number}"
        assert layer.dim == (1 if number < 17 else -1)
        assert layer.width == 512


def test_a_narrow_one_has_the_same_layers_and_all_of_them_narrower() -> None:
    narrow, whole = new(width=128), new()
    assert [*narrow.state_dict()] == [*whole.state_dict()]
    assert {layer.width for layer in turnover_layers(narrow)} == {128}
    assert narrow.features.conv1.weight.shape[0] == 16  # type: ignore[union-attr]
    assert narrow(IMAGES).shape == whole(IMAGES).shape


def test_law_3_from_the_convolution_before_the_first_mask_on() -> None:
    """From there no parameter but the output bias is trained by an item whose mask is off."""
    model = new(groups=8)
    with turnover([5, 5]):
        nn.functional.cross_entropy(model(IMAGES), some_labels(2, 3)).backward()
    parts = dict(model.named_modules())
    for layer in turnover_layers(model):
        off, number = layer.mask([5])[0] == 0, int(layer.layer or 0)
        for name in (f"features.{kind}{number - 1}" for kind in ("conv", "norm")):
            own = [parts[name].weight, parts[name].bias] if name in parts else []
            assert not any(one.grad[off].count_nonzero() for one in own)  # type: ignore[index]
        reads = parts.get(f"features.conv{number}", parts.get(f"classifier.linear{number}"))
        assert not reads.weight.grad[:, off].count_nonzero()  # type: ignore[union-attr, index]
    before = "convolutions 1 to 10 and their batch norms"
    statistics = "the statistics of batch norms 1 to 16 under masks and without"
    assert model.leaks == (before, statistics, "the output bias")


def test_norms_dropout_and_relu_lie_where_they_were_asked_for() -> None:
    plain, other = new(), new(dropout=0.3, norm_after_mask=False)
    assert named(plain, "norm") == [f"norm{number}" for number in range(1, 17)]
    assert named(other, "norm") == [f"norm{number}" for number in range(1, 12)]
    rates = [(name, own.p) for name, own in other.named_modules() if isinstance(own, nn.Dropout)]
    assert rates == [("classifier.dropout17", 0.3), ("classifier.dropout18", 0.3)]
    assert named(plain, "dropout") == []
    between = new(conv_dropout=0.2)
    assert named(between, "dropout") == [f"dropout{number}" for number in range(12, 17)]
    assert {own.p for own in between.modules() if isinstance(own, nn.Dropout)} == {0.2}
    assert {*between.state_dict()} == {*plain.state_dict()}
    relus = [module for module in other.modules() if isinstance(module, nn.ReLU)]
    assert len(relus) == 18 and not any(module.inplace for module in relus)


@pytest.mark.parametrize(("late_norm", "norms"), [(True, 16), (False, 11)])
def test_settings_say_whether_batch_norm_lies_behind_the_first_mask(
    late_norm: bool, norms: int
) -> None:
    settings = TrainSettings.of("cifar10", model="vgg19", late_norm=late_norm).resolved("image")
    model = settings.build(10, (3, 32, 32))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == norms
    assert f"the statistics of batch norms 1 to {norms} under masks and without" in model.leaks


def test_masking_before_or_after_the_pooling_is_the_same() -> None:
    model = new()
    swapped = copy.deepcopy(model)
    names = [name for name, _ in swapped.features.named_children()]  # type: ignore[union-attr]
    before, parts = names.index("pool12"), swapped.features
    assert names[before + 1] == "mask13" and isinstance(parts, nn.Sequential)
    parts[before], parts[before + 1] = parts[before + 1], parts[before]
    logits = []
    for one in (model, swapped):
        with turnover([1, 2]):
            logits.append(one(IMAGES))
    assert torch.equal(*logits)


def test_weights_behind_a_mask_are_smaller_by_the_root_of_two_and_otherwise_the_seed_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = new(seed=5).state_dict()
    monkeypatch.setattr("turnover.models.vgg19.FIRST", 14)
    again = new(seed=5).state_dict()
    rescaled = {"features.conv12.weight", "features.conv13.weight"}
    assert {name for name in one if not torch.equal(one[name], again[name])} == rescaled
    assert all(torch.allclose(one[name] * 2**0.5, again[name]) for name in rescaled)
    assert all(value.device.type == "cpu" and value.isfinite().all() for value in one.values())


@pytest.mark.parametrize("norm_after_mask", [True, False])
def test_a_new_network_neither_blows_up_nor_fades(norm_after_mask: bool) -> None:
    model = vgg19(10, groups=None, seed=0, norm_after_mask=norm_after_mask)
    with torch.no_grad(), turnover(range(8)):
        assert 0.1 < model(randn(8, 3, 32, 32).float()).std() < 3


def test_fx_traces_it() -> None:
    """With masks as leaves the graph holds them; without, it sees the ordinary model."""

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return isinstance(m, TurnoverDropout) or super().is_leaf_module(
                m, module_qualified_name
            )

    model = new(dropout=0.2)
    assert torch.equal(fx.symbolic_trace(model)(IMAGES), model(IMAGES))
    graph = Tracer().trace(model)
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    assert sum("mask" in target for target in calls) == 8
    logits = []
    for one in (model, fx.GraphModule(model, graph)):
        with turnover([1, 2]):
            logits.append(one(IMAGES))
    assert torch.equal(*logits)


def test_groups_that_do_not_divide_a_width_are_refused() -> None:
    reason = "^10 groups do not divide a width of 512; choose a divisor$"
    with pytest.raises(TurnoverError, match=reason):
        new(groups=10)
