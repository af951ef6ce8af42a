"""VGG19 with masked channels: what an instance can reach, what batch norm lets through, and torchvision's features."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, fx, nn
from torchvision.models import vgg19_bn

from core import TurnoverDropout, TurnoverError, influence, turnover
from core.dropout import turnover_layers
from core.models.vgg19 import Vgg19, vgg19
from core.pipeline.architecture import build_model
from core.pipeline.settings import TrainSettings
from tests.helpers.builders import naive_influence, randn, some_labels

MASKED = {12: 512, 13: 512, 14: 512, 15: 512, 16: 512, 17: 512, 18: 512, 19: 512}
"""Number and width of each masked layer's input, as built by default."""
IMAGES = (2, 3, 32, 32)


def trained(groups: int | None = None, seed: int = 0, **options: Any) -> Vgg19:
    """A network in float64 in evaluation mode with batch norms and biases as after training."""
    model = vgg19(3, groups=groups, seed=seed, **options).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.bias.data.normal_(std=0.1, generator=generator)
    return model


def gradients(model: nn.Module, images: Tensor, ids: list[int], rows: slice = slice(None)) -> dict[str, Tensor]:
    """Gradients of the loss of some rows of a batch, by parameter."""
    model.zero_grad()
    with turnover(ids):
        nn.functional.cross_entropy(model(images)[rows], some_labels(len(images), 3)[rows]).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def unsafe(model: Vgg19, grads: dict[str, Tensor], instance: int) -> set[str]:
    """Parameters into or out of units that the instance's masks switch off, with a gradient all the same."""
    found = set()
    for layer in turnover_layers(model):
        on = layer.mask([instance])[0] > 0
        for name, grad in grads.items():
            number = int(re.search(r"(\d+)\.\w+$", name)[1])
            if (number == layer.layer - 1 and grad[~on].count_nonzero()) or (number == layer.layer and grad.dim() > 1 and grad[:, ~on].count_nonzero()):
                found.add(name)
    return found


def is_leak(model: Vgg19, name: str) -> bool:
    """Whether a parameter or a statistic of batch norm is among the model's leaks."""
    kind, number = re.search(r"(conv|norm|linear)(\d+)\.", name).groups()
    if kind == "linear":
        return "the output bias" in model.leaks and name.endswith("linear19.bias")
    wanted = "the statistics of batch norms" if "running" in name or "batches" in name else "convolutions"
    last = [int(re.search(r" 1 to (\d+)", leak)[1]) for leak in model.leaks if leak.startswith(wanted)]
    return bool(last) and int(number) <= last[0]


def unmasked(model: nn.Module) -> nn.Module:
    """A copy whose mask layers are gone."""
    plain = copy.deepcopy(model)
    for part in (plain.features, plain.classifier):
        for name, child in part.named_children():
            if isinstance(child, TurnoverDropout):
                setattr(part, name, nn.Identity())
    return plain


# What an instance's loss can reach


@pytest.mark.parametrize(("groups", "first"), [(None, 12), (32, 12), (None, 16), (8, 2)])
def test_law_3(groups: int | None, first: int) -> None:
    model, images = trained(groups, first=first), randn(*IMAGES)
    for instance in (0, 2**62):
        grads = gradients(model, images, [instance] * 2)
        assert unsafe(model, grads, instance) == set()
        assert len(grads) == len(list(model.parameters()))
        assert all(grad.count_nonzero() for grad in grads.values())


def test_law_3_in_training_mode_without_batch_norm_behind_the_masks() -> None:
    """Batch norm is the leak that the manifest says: through its statistics a loss reaches the other row of the batch."""
    for norm_after_mask in (True, False):
        model = trained(norm_after_mask=norm_after_mask).train()
        grads = gradients(model, randn(*IMAGES), [3, 4], slice(0, 1))
        assert bool(unsafe(model, grads, 3)) == norm_after_mask


@pytest.mark.parametrize(("first", "norm_after_mask"), [(12, True), (12, False), (2, True)])
def test_what_every_instance_changes_is_listed_as_a_leak(first: int, norm_after_mask: bool) -> None:
    """With 16 groups, every one of which is off for some of these instances."""
    model, images, many = trained(16, first=first, norm_after_mask=norm_after_mask), randn(1, 3, 32, 32), range(12)
    touched = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for instance in many:
        for name, grad in gradients(model, images, [instance]).items():
            touched[name] += grad != 0
    leaked = {name for name, count in touched.items() if (count == len(many)).any()}
    assert leaked == {name for name in touched if is_leak(model, name)}
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    model.train()(torch.cat((images, images)))
    changed = {name for name, value in model.named_buffers() if not torch.equal(value, statistics[name])}
    assert changed == {name for name in statistics if is_leak(model, name)}


def test_the_leaks_in_words() -> None:
    assert vgg19(2, groups=None, seed=0).leaks == ("convolutions 1 to 10 and their batch norms", "the statistics of batch norms 1 to 16", "the output bias")
    assert "the statistics of batch norms 1 to 11" in vgg19(2, groups=None, seed=0, norm_after_mask=False).leaks
    assert vgg19(2, groups=8, seed=0, first=3).leaks[0] == "convolution 1 and its batch norm"
    assert len(vgg19(2, groups=8, seed=0, first=2).leaks) == 2


def test_a_step_on_an_instance_reaches_its_flipped_half_by_leaks_alone() -> None:
    for frozen in (True, False):
        model, images, ids = trained(), randn(*IMAGES), [5, 5]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not (frozen and is_leak(model, name)))
        logits = []
        for _ in range(2):
            for flipped in (False, True):
                with torch.no_grad(), turnover(ids, flipped=flipped):
                    logits.append(model(images))
            gradients(model, images, ids)
            torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.1).step()
        assert not torch.allclose(logits[0], logits[2])
        assert torch.equal(logits[1], logits[3]) == frozen


# The influence


@pytest.mark.parametrize("norm_after_mask", [True, False])
def test_influence_is_that_of_the_naive_loop(norm_after_mask: bool) -> None:
    model, images, labels, ids = trained(16, norm_after_mask=norm_after_mask), randn(*IMAGES), some_labels(2, 3), [7, 2**53 + 1]
    expected = naive_influence(model, images, labels, ids)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(influence(model, images, labels, ids).values, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("training", [False, True])
def test_law_6_without_a_context_it_is_the_model_without_masks(training: bool) -> None:
    model, images = trained().train(training), randn(*IMAGES)
    ordinary = model(images)
    assert torch.equal(ordinary, unmasked(model).train(training)(images))
    with turnover([1, 2]):
        assert not torch.allclose(model(images), ordinary)


# The network


def test_the_features_are_torchvision_s() -> None:
    model, theirs, images = trained(), vgg19_bn(weights=None).features.double().eval(), randn(*IMAGES)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), model.features.state_dict().values(), strict=True)))
    torch.testing.assert_close(model.features(images), theirs(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("first", "masked"), [(12, MASKED), (16, {number: MASKED[number] for number in (16, 17, 18, 19)}), (2, {2: 64, 3: 64, 4: 128})])
def test_masks_lie_before_every_layer_from_the_first_one_on(first: int, masked: dict[int, int]) -> None:
    model = vgg19(10, groups=None, seed=0, first=first)
    order = [name.split(".")[1] for name, child in model.named_modules() if "." in name]
    masks = {layer.layer: layer.width for layer in turnover_layers(model)}
    assert list(masks) == list(range(first, 20))
    assert masked.items() <= masks.items()
    for number in masks:
        assert order[order.index(f"mask{number}") + 1] == (f"conv{number}" if number < 17 else f"linear{number}")
    assert all(layer.dim == (1 if layer.layer < 17 else -1) for layer in turnover_layers(model))


def test_batch_norm_ordinary_dropout_and_relu_lie_where_they_were_asked_for() -> None:
    plain, other = vgg19(10, groups=None, seed=0), vgg19(10, groups=None, seed=0, dropout=0.3, norm_after_mask=False)
    assert [name for name, _ in plain.features.named_children() if "norm" in name] == [f"norm{number}" for number in range(1, 17)]
    assert [name for name, _ in other.features.named_children() if "norm" in name] == [f"norm{number}" for number in range(1, 12)]
    assert not [module for module in plain.modules() if isinstance(module, nn.Dropout)]
    assert [(name, module.p) for name, module in other.named_modules() if isinstance(module, nn.Dropout)] == [
        ("classifier.dropout17", 0.3),
        ("classifier.dropout18", 0.3),
    ]
    assert len([module for module in other.modules() if isinstance(module, nn.ReLU) and not module.inplace]) == 18


def test_masking_before_or_after_the_pooling_is_the_same() -> None:
    model, images = trained(), randn(*IMAGES)
    swapped = copy.deepcopy(model)
    names = [name for name, _ in swapped.features.named_children()]
    before, after = names.index("pool12"), names.index("mask13")
    assert after == before + 1
    swapped.features[before], swapped.features[after] = swapped.features[after], swapped.features[before]
    logits = []
    for one in (model, swapped):
        with turnover([1, 2]):
            logits.append(one(images))
    assert torch.equal(*logits)


def test_masks_of_different_layers_and_seeds_differ() -> None:
    masks = [layer.mask(range(20)) for seed in (0, 1) for layer in turnover_layers(vgg19(2, groups=None, seed=seed))]
    for number, mask in enumerate(masks):
        for other in masks[:number]:
            assert 0.45 < (mask == other).double().mean() < 0.55


def test_the_seed_decides_all_weights_and_the_global_random_state_is_left_alone() -> None:
    random_state = torch.get_rng_state()
    one = vgg19(10, groups=None, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), random_state)
    torch.manual_seed(1)
    again, other = (vgg19(10, groups=16, seed=seed, first=14).state_dict() for seed in (5, 6))
    drawn = [name for name, value in one.items() if value.dim() > 1]
    assert all(value.device.type == "cpu" and value.isfinite().all() for value in one.values())
    assert not any(torch.equal(one[name], other[name]) for name in drawn)
    rescaled = {"features.conv12.weight", "features.conv13.weight"}
    assert {name for name, value in one.items() if not torch.equal(value, again[name])} == rescaled
    assert all(torch.allclose(one[name] * 2**0.5, again[name]) for name in rescaled)


@pytest.mark.parametrize("norm_after_mask", [True, False])
def test_a_new_network_neither_blows_up_nor_fades(norm_after_mask: bool) -> None:
    model = vgg19(10, groups=None, seed=0, norm_after_mask=norm_after_mask)
    with torch.no_grad(), turnover(range(8)):
        spread = model(randn(8, 3, 32, 32).float()).std()
    assert 0.1 < spread < 3


@pytest.mark.parametrize(("late_norm", "norms"), [(True, 16), (False, 11)])
def test_settings_say_whether_batch_norm_lies_behind_the_first_mask(late_norm: bool, norms: int) -> None:
    model = build_model(TrainSettings("cifar10", model="vgg19", late_norm=late_norm).resolved("image"), 10, (3, 32, 32))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == norms
    assert f"the statistics of batch norms 1 to {norms}" in model.leaks


@pytest.mark.parametrize("options", [{}, {"dropout": 0.2, "norm_after_mask": False}])
def test_fx_traces_it(options: dict[str, Any]) -> None:
    """With masks as leaves the graph holds them; the default tracer, outside a context, sees the ordinary model."""

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return isinstance(m, TurnoverDropout) or super().is_leaf_module(m, module_qualified_name)

    model, images = trained(**options), randn(*IMAGES)
    assert torch.equal(fx.symbolic_trace(model)(images), model(images))
    graph = Tracer().trace(model)
    assert sum("mask" in node.target for node in graph.nodes if node.op == "call_module") == 8
    logits = []
    for one in (model, fx.GraphModule(model, graph)):
        with turnover([1, 2]):
            logits.append(one(images))
    assert torch.equal(*logits)


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    model, images = trained(seed=1), randn(*IMAGES)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    restored = vgg19(3, groups=None, seed=1).double().eval()
    restored.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(restored(images), model(images))


@pytest.mark.parametrize("first", [0, 1, 17])
def test_a_convolution_that_is_not_there_is_refused(first: int) -> None:
    with pytest.raises(TurnoverError, match=rf"^first={first} is no convolution whose input can be masked; choose 2 to 16$"):
        vgg19(10, groups=None, seed=0, first=first)


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(TurnoverError, match=r"^10 groups do not divide a width of 512; choose a divisor$"):
        vgg19(10, groups=10, seed=0)
