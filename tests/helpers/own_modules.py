"""Code of a user's own, written to files as `--model module:function` finds it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from turnover.cli import main
from turnover.models import names as source

IMAGES = """
from torch import nn

from turnover import TurnoverDropout


def build(classes, shape, seed):
    return nn.Sequential(
        nn.Conv2d(shape[0], 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), TurnoverDropout(64, seed=seed), nn.Linear(64, 16), nn.ReLU(),
        TurnoverDropout(16, seed=seed), nn.Linear(16, classes),
    )


def unseeded(classes, shape, seed):
    return nn.Sequential(nn.Flatten(), TurnoverDropout(64), nn.Linear(64, classes))


def maskless(classes, shape, seed):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def one_too_many(classes, shape, seed):
    return nn.Sequential(nn.Flatten(), TurnoverDropout(64, seed=seed), nn.Linear(64, classes + 1))


def text(classes, shape, seed):
    return "no module"


def failing(classes, shape, seed):
    raise ValueError("not\\ntoday")


def mute(classes, shape, seed):
    raise SystemExit


number = 7


class Odd(nn.Module):
    # right until it is trained, and then wrong in one of three ways

    def __init__(self, wrong, classes, seed):
        super().__init__()
        self.wrong, self.out = wrong, nn.Linear(8, classes)
        self.body = nn.Sequential(nn.Flatten(), TurnoverDropout(64, seed=seed), nn.Linear(64, 8))

    def train(self, mode=True):
        assert not (mode and self.wrong == "mode")
        return super().train(mode)

    def forward(self, x):
        if self.training and self.wrong == "forward":
            raise RuntimeError("only to be\\nlooked at")
        hidden = self.body(x).exp()
        logits = self.out(hidden)
        if self.wrong == "backward":
            hidden.zero_()
        return logits


def odd_mode(classes, shape, seed):
    return Odd("mode", classes, seed)


def odd_forward(classes, shape, seed):
    return Odd("forward", classes, seed)


def odd_backward(classes, shape, seed):
    return Odd("backward", classes, seed)


def untrained(classes, shape, seed):
    return Odd("", classes, seed).requires_grad_(False)


def normed(classes, shape, seed):
    return nn.Sequential(
        nn.Flatten(), TurnoverDropout(64, seed=seed), nn.Linear(64, 8),
        nn.BatchNorm1d(8), nn.Linear(8, classes),
    )


def half(classes, shape, seed):
    return normed(classes, shape, seed).bfloat16()


class Tied(nn.Module):
    # one matrix under two names, and a part of it under a third

    def __init__(self, classes, seed):
        super().__init__()
        self.body, self.out = build(classes, (1, 8, 8), seed), nn.Linear(classes, classes)
        self.again = nn.Linear(classes, classes)
        self.again.weight = self.out.weight
        self.register_buffer("part", self.out.weight.data[:2])

    def forward(self, x):
        return self.again(self.out(self.body(x)).relu())


def tied(classes, shape, seed):
    return Tied(classes, seed)


trunk = nn.Linear(64, 64).requires_grad_(False)


def one_trunk(classes, shape, seed):
    # what all members share
    return nn.Sequential(
        nn.Flatten(), trunk, TurnoverDropout(64, seed=seed), nn.Linear(64, classes)
    )


import torch
from torch.utils.checkpoint import checkpoint


class Checkpointed(nn.Module):
    def __init__(self, classes, seed):
        super().__init__()
        self.body = build(classes, (1, 8, 8), seed)

    def forward(self, x):
        return checkpoint(self.body[5:], self.body[:5](x), use_reentrant=False)


def checkpointed(classes, shape, seed):
    return Checkpointed(classes, seed)


class PassedBy(nn.Module):
    def __init__(self, classes, seed):
        super().__init__()
        self.body = build(classes, (1, 8, 8), seed)
        self.late = TurnoverDropout(classes, seed=seed, layer=7)

    def forward(self, x):
        return self.late(self.body(x)) if self.training else self.body(x)


def passed_by(classes, shape, seed):
    return PassedBy(classes, seed)


def sparse(classes, shape, seed):
    made = build(classes, shape, seed)
    made.register_buffer("table", torch.eye(3).to_sparse())
    return made


def shared(classes, shape, seed):
    masks = {"seed": seed, "masks": 4}
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), TurnoverDropout(32, **masks),
        nn.Linear(32, 16), nn.ReLU(), TurnoverDropout(16, **masks), nn.Linear(16, classes),
    )
"""
LEAKS = [
    *("0.weight", "0.bias", "1.weight", "1.bias", "9.bias"),
    "the statistics of 1 under masks and without",
]
"""What all training items share of the network in `IMAGES`."""

TEXTS = """
import torch
from torch import nn

from turnover import TurnoverDropout


class Bag(nn.Module):
    def __init__(self, classes, seed):
        super().__init__()
        self.vectors = nn.Embedding(60, 8, padding_idx=0)
        self.mask, self.out = TurnoverDropout(8, seed=seed), nn.Linear(8, classes)

    def forward(self, tokens):
        return self.out(self.mask(self.vectors(tokens).mean(1)))


def tokens(classes, shape, seed):
    assert shape == (128,)
    return Bag(classes, seed)


tokens.reads = "tokens"


def features(classes, shape, seed):
    assert shape == (32,)
    return nn.Sequential(TurnoverDropout(32, seed=seed), nn.Linear(32, classes))


def letters(classes, shape, seed):
    return Bag(classes, seed)


letters.reads = "letters"
"""

FINE_TUNED = """
from torch import nn
from torchvision.models import resnet18

from turnover import TurnoverDropout


class FineTuned(nn.Module):
    \"\"\"A resnet18 that is trained from its last stage on, with a mask before every layer
    there.
    \"\"\"

    def __init__(self, classes, seed):
        super().__init__()
        self.network = resnet18(num_classes=classes).requires_grad_(False)
        places = [
            name
            for name, layer in self.network.named_modules()
            if name.startswith(("layer4", "fc")) and isinstance(layer, nn.Conv2d | nn.Linear)
        ]
        for number, name in enumerate(places):
            layer = self.network.get_submodule(name).requires_grad_(True)
            linear = isinstance(layer, nn.Linear)
            width, dim = (layer.in_features, -1) if linear else (layer.in_channels, 1)
            mask = TurnoverDropout(width, seed=seed, layer=number, dim=dim)
            self.network.set_submodule(name, nn.Sequential(mask, layer))

    def train(self, mode=True):
        super().train(mode)
        for layer in self.network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()  # its statistics would be shared by all training items
        return self

    def forward(self, images):
        return self.network(images.expand(-1, 3, -1, -1))


def build(classes, shape, seed):
    return FineTuned(classes, seed)
"""


@contextmanager
def code_in(folder: Path) -> Iterator[None]:
    """Inside, one works in a folder with `own_images.py`, for a run that several tests share;
    nothing is allowed yet, or imported afterwards.
    """
    (folder / "own_images.py").write_text(IMAGES, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(source, "_allowed", set())
        yield
    sys.modules.pop("own_images", None)


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with `own_images.py`, `own_texts.py` and `fine_tuned.py`, and nothing
    allowed or imported yet.
    """
    (tmp_path / "own_images.py").write_text(IMAGES, encoding="utf-8")
    (tmp_path / "own_texts.py").write_text(TEXTS, encoding="utf-8")
    (tmp_path / "fine_tuned.py").write_text(FINE_TUNED, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "_allowed", set())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(source.ALLOW, raising=False)
    yield tmp_path
    for name in ("own_images", "own_texts", "fine_tuned", "evil"):
        sys.modules.pop(name, None)


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What a command that must succeed prints with --json."""
    code = main([*map(str, arguments), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return dict(json.loads(said.out))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command is refused with."""
    assert main([*map(str, arguments), "--json"]) == 2
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("turnover")]
    assert said.out == "" and len(lines) == 1 and "Traceback" not in said.err
    return lines[0]
