"""What costs are measured on: one kind of model, trained on growing parts of SST-2, with one target, a development sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from turnover.data import load_data
from turnover.data.base import limit_training
from turnover.device import choose_device
from turnover.errors import TurnoverError
from turnover.models.adapters import TokenRows
from turnover.models.text import token_mean
from turnover.paper.setup import Setup
from turnover.paper.side_effect import text_settings
from turnover.pipeline.architecture import TextInputs, build_model
from turnover.rivals.base import Problem, Schedule, take
from turnover.rivals.plain import plain_classifier
from turnover.rivals.repeat import train_problem
from turnover.training import Split

HEADS_SGD = Schedule(epochs=5, batch=64, learning_rate=0.05, optimizer="sgd")
ADAPTERS_SGD = Schedule(epochs=3, batch=32, learning_rate=0.05, optimizer="sgd")
ADAPTERS_ADAMW = Schedule(epochs=3, batch=32, learning_rate=1e-3)


@dataclass(frozen=True)
class Subject:
    """A model before training, and data to train it on.

    Attributes:
        setting: data and model in words.
        sizes: numbers of training items, each twice the one before.
        schedule: how the model is trained.
        sgd: plain SGD, for a method that knows nothing else.
        groups: of units that turn-over dropout masks; None means single units.
        left_out: how many items retraining leaves out.
    """

    setting: str
    model: nn.Module
    train: Split
    target: Split
    sizes: tuple[int, ...]
    schedule: Schedule
    sgd: Schedule
    groups: int | None
    left_out: int

    def problem(self, size: int) -> Problem:
        """A model trained on the first `size` training items."""
        return train_problem(self.model, take(self.train, torch.arange(size)), self.target, self.schedule)


def text_subject(setup: Setup, kind: str, sizes: tuple[int, ...], left_out: int) -> Subject:
    """SST-2 sentences for `heads` on frozen features, or for `adapters` in the encoder; sizes that the data do not reach are left out.

    Raises:
        TurnoverError: if the data cannot be read, or are too few for two sizes.
    """
    folder = setup.folder("sst2")
    data = load_data("sst2", Path(folder))
    reached = tuple(size for size in sizes if size <= len(data.train))
    if len(reached) < 2:
        raise TurnoverError(f"{folder}: {len(data.train)} training sentences; growth wants two sizes, so give {sizes[1]:,} or more")
    data = limit_training(data, reached[-1], 0)
    settings = replace(text_settings(setup, reached[-1], kind), members=1).resolved("text")
    device = choose_device(setup.device)
    inputs = TextInputs(settings, device)
    train, target = (
        Split(torch.from_numpy(inputs(texts)).to(device), torch.from_numpy(labels).to(device))
        for texts, labels in ((data.train.texts or [], data.train.labels), ((data.validation.texts or [])[:1], data.validation.labels[:1]))
    )
    model = plain_classifier(build_model(settings, len(data.classes), tuple(train.inputs.shape[1:])))
    encoder = setup.encoder_name
    setting, schedule, sgd = f"SST-2, two-layer heads on frozen {encoder}", HEADS_SGD, HEADS_SGD
    if isinstance(model, TokenRows):
        setting, schedule, sgd = f"SST-2, {encoder} with adapters", ADAPTERS_ADAMW, ADAPTERS_SGD
        model = FixedWidth(model)
        train, target = (Split(cut, split.labels) for cut, split in zip(model.cut(train.inputs, target.inputs), (train, target), strict=True))
    return Subject(setting, model.to(device), train, target, reached, schedule, sgd, settings.groups or None, left_out)


class FixedWidth(nn.Module):
    """An `EncoderClassifier` on token ids `(B, T)` whose steps do not depend on what the texts are, as `torch.func` wants it.

    Attention is written out, since fused kernels have no second derivatives.
    """

    def __init__(self, rows: TokenRows) -> None:
        super().__init__()
        self.model, self.padding = rows.model, rows.padding
        self.model.encoder.set_attn_implementation("eager")

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `(B, classes)`."""
        real = tokens != self.padding
        weight = self.model.out.weight
        barred = (~real).to(weight)[:, None, None] * torch.finfo(weight.dtype).min
        hidden = self.model.encoder(input_ids=tokens, attention_mask=barred).last_hidden_state
        logits: Tensor = self.model.out(self.model.mask(token_mean(hidden, real)))
        return logits

    def cut(self, *tokens: Tensor) -> list[Tensor]:
        """Token ids, all as long as the longest text among them."""
        longest = max(int((part != self.padding).sum(1).max()) for part in tokens)
        return [part[:, :longest] for part in tokens]
