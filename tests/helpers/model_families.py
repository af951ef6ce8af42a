"""Families of models for one contract: how each is built, where its masks lie, and what leaks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.helpers.builders import ALGEBRA, SHARED, some_labels
from turnover import TurnoverDropout, turnover
from turnover.attribution.ensemble import Ensemble, MemberLinear, Members
from turnover.attribution.norms import two_sets
from turnover.models.registry import TrainSettings

Chain = tuple[tuple[str, ...], str, str]
"""A mask, what writes the units that it guards, and what reads them ("" if all read them)."""
BIAS = {"the output bias": r"(linear_out|linear19|out|fc\.1|classifier\.3\.1|classifier\.1)\.bias$"}
ADAPTERS = {"the adapters' up-biases": r"\.up\.bias"} | BIAS
ENCODER = {
    "the embeddings": r"encoder\.embeddings",
    "the queries, keys and values of attention": r"\.attention\.self\.",
    "the first layer of each feed-forward network": r"\.intermediate\.dense\.",
    "the LayerNorms": r"\.layer\.\d\..*LayerNorm\.",
} | BIAS
CONVOLUTIONS = {"the convolutions before the first mask": r"prefix\."} | BIAS
LATE, EARLY = r"(conv|norm)([1-9]|10)\.(weight|bias)", r"norm(\d|1[01])\.(running|num)"
VGG = {"convolutions 1 to 10 and their batch norms": LATE}
BOTH, EVERY = "under masks and without", r"norm\d+\.(running|num)"
OWN = {f"{name}": rf"\.{name}$" for name in ("0.weight", "0.bias", "1.weight", "1.bias", "9.bias")}
OWN |= {f"the statistics of 1 {BOTH}": r"\.1\.(running|num)"}
HEAD: list[Chain] = [
    ((), "head.mask_in", "head.linear_in"),
    (("head.linear_in",), "head.mask_hidden", "head.linear_out"),
]


@dataclass(frozen=True)
class Case:
    """A family: its settings, what it reads, where its leaks lie, and the engine's way with it."""

    settings: dict[str, Any]
    shape: tuple[int, ...]
    leaks: dict[str, str]
    path: str = SHARED
    members: int = 2
    encoder: str = ""

    @property
    def dtype(self) -> torch.dtype:
        """Large networks compute in float32, to be quick."""
        return torch.float32 if self.shape == (3, 32, 32) else torch.float64


def heads(groups: int) -> Case:
    return Case({"data": "reviews", "model": "heads", "groups": groups}, (16,), BIAS, ALGEBRA)


def pixels(model: str, groups: int, leaks: dict[str, str]) -> Case:
    return Case({"data": "digits", "model": model, "groups": groups}, (1, 8, 8), leaks, ALGEBRA)


def encoder(model: str, kind: str, groups: int) -> Case:
    leaks = ADAPTERS if model == "adapters" else ENCODER
    return Case({"data": "sst2", "model": model, "groups": groups}, (9,), leaks, encoder=kind)


def network(name: str, first: str, groups: int = 16) -> Case:
    settings = {
        "data": "cifar10",
        "model": f"torchvision:{name}",
        "from_layer": first,
        "groups": groups,
    }
    return Case(settings, (3, 32, 32), BIAS, members=1)


CASES = {
    "heads": heads(0),
    "heads in groups": heads(4),
    "perceptron on pixels": pixels("heads", 0, BIAS),
    "perceptron in groups": pixels("heads", 16, BIAS),
    "mlp": pixels("mlp", 0, BIAS),
    "small-vgg": pixels("small-vgg", 8, CONVOLUTIONS),
    "adapters in bert": encoder("adapters", "bert", 0),
    "adapters in roberta": encoder("adapters", "roberta", 4),
    "adapters in electra": encoder("adapters", "electra", 0),
    "masked-encoder of bert": encoder("masked-encoder", "bert", 0),
    "masked-encoder of roberta": encoder("masked-encoder", "roberta", 4),
    "masked-encoder of electra": encoder("masked-encoder", "electra", 0),
    "a trained classifier": Case(
        {"data": "sst2", "model": "checkpoint", "groups": 4, "from_layer": "bert.pooler"},
        (9,),
        BIAS,
        encoder="classifier",
    ),
    "resnet18": network("resnet18", "layer4.1"),
    "mobilenet": network("mobilenet_v3_small", "features.11"),
    "densenet": network("densenet121", "features.denseblock4.denselayer15", groups=0),
    "a module of one's own": Case({"data": "digits", "model": "own"}, (1, 8, 8), OWN),
    "vgg19": Case(
        {"data": "cifar10", "model": "vgg19", "groups": 16},
        (3, 32, 32),
        VGG | {f"the statistics of batch norms 1 to 16 {BOTH}": EVERY} | BIAS,
        members=1,
    ),
    "vgg19 without late norms": Case(
        {"data": "cifar10", "model": "vgg19", "late_norm": False, "groups": 16},
        (3, 32, 32),
        VGG | {f"the statistics of batch norms 1 to 11 {BOTH}": EARLY} | BIAS,
        members=1,
    ),
}
CLOSE = {torch.float64: 1e-12, torch.float32: 1e-4}
ROWS, IDS, LABELS = 2, [0, 7, 2**53 + 1], some_labels(2, 3)


def grown(model: Members, dtype: torch.dtype) -> Members:
    """The model as after much training, so that every part of it matters."""
    generator = torch.Generator().manual_seed(1)
    for module in model.to(dtype).modules():
        if isinstance(module, nn.BatchNorm2d):
            for kind in ("running", "unmasked") if two_sets(module) else ("running",):
                getattr(module, f"{kind}_mean").normal_(std=0.1, generator=generator)
                getattr(module, f"{kind}_var").uniform_(0.5, 1.5, generator=generator)
    for name, own in model.named_parameters():
        if own.requires_grad and (name.endswith("bias") or ".up." in name or ".out." in name):
            own.data.normal_(std=0.1 if name.endswith("bias") else 0.5, generator=generator)
    return model.eval()


@dataclass
class Family:
    """A case with its files: new models, and one grown model that no test changes."""

    case: Case
    settings: dict[str, Any]
    model: Members
    x: Tensor

    @property
    def stray(self) -> bool:
        """Whether batch norm lies behind a mask, and so takes a loss to other rows of its batch."""
        return f"the statistics of batch norms 1 to 16 {BOTH}" in self.case.leaks

    def leak(self, name: str) -> bool:
        return any(re.search(place, name) for place in self.case.leaks.values())


def build(settings: dict[str, Any], case: Case, members: int, seed: int = 3) -> Members:
    kind = "image" if len(case.shape) == 3 else "text"
    resolved = TrainSettings.of(**settings, members=members, seed=seed).resolved(kind)
    return resolved.build(3, case.shape)


def member_chains(model: nn.Module) -> list[Chain]:
    """The masks of one model and what lies around each."""
    found: list[Chain] = []
    names = dict(model.named_modules())
    for name, mask in names.items():
        if not isinstance(mask, TurnoverDropout):
            continue
        if name.endswith("dropout.1"):
            found.append(((f"{name.removesuffix('dropout.1')}dense",), name, ""))
        elif name.endswith(".dropout.1.mask"):
            adapter = name.removesuffix("mask")
            found.append(((f"{adapter}down",), name, f"{adapter}up"))
        elif name == "model.mask":
            found.append(((), name, "model.out"))
        elif number := re.fullmatch(r"(features|classifier)\.mask(\d+)", name):
            place = int(number[2])
            before = [f"features.{kind}{place - 1}" for kind in ("conv", "norm")]
            before.append(f"classifier.linear{place - 1}")
            after = f"features.conv{place}" if place < 17 else f"classifier.linear{place}"
            found.append((tuple(one for one in before if one in names), name, after))
        elif name.endswith(".0"):
            found.append(((), name, f"{name.removesuffix('0')}1"))
        else:
            found.append((("6",) if name == "8" else (), name, str(int(name) + 1)))
    return found


def chains(model: Members) -> list[Chain]:
    """The masks of all members and what lies around each."""
    if not isinstance(model, Ensemble):
        within = "prefix.linear" in dict(model.named_modules())
        return [(("prefix.linear",), *HEAD[0][1:]), HEAD[1]] if within else HEAD
    return [
        (
            tuple(f"models.{k}.{name}" for name in before),
            f"models.{k}.{mask}",
            after and f"models.{k}.{after}",
        )
        for k, own in enumerate(model.models)
        for before, mask, after in member_chains(own)
    ]


def parts(layer: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
    """Gradients of a layer's weight, outputs first, and bias, member by member."""
    weight, bias = (None if own is None else own.grad for own in (layer.weight, layer.bias))
    if isinstance(layer, MemberLinear):
        assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
        return [(own.T, shift[0]) for own, shift in zip(weight, bias, strict=True)]
    assert isinstance(weight, Tensor)
    return [(weight, bias)]


def touched(model: Members, instance: int) -> tuple[set[str], set[str]]:
    """Layers with a gradient in units that an instance's masks switch off, and in units left on."""
    off, on = set(), set()
    for before, mask, after in chains(model):
        layer = model.get_submodule(mask)
        assert isinstance(layer, TurnoverDropout)
        kept = (layer.mask([instance])[..., 0, :] > 0).view(-1, layer.width)
        for name in (*before, *([after] if after else [])):
            for member, (weight, bias) in zip(kept, parts(model.get_submodule(name)), strict=True):
                guarded = [weight.movedim(1, 0)] if name == after else [weight]
                guarded += [bias] if bias is not None and name != after else []
                off |= {name for own in guarded if own[~member].count_nonzero()}
                on |= {name for own in guarded if own[member].count_nonzero()}
    return off, on


def backward(model: Members, x: Tensor, ids: list[int], rows: slice = slice(None)) -> None:
    """Gradients of the loss of some rows of a batch, summed over members."""
    model.zero_grad()
    with torch.random.fork_rng(), turnover(ids):
        logits = model(x)[:, rows]
    labels = LABELS.repeat(len(x))[: len(x)][rows].repeat(model.members)
    nn.functional.cross_entropy(logits.flatten(0, 1), labels, reduction="sum").backward()
