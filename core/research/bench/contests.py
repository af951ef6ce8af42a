"""Contests: models on which ways to compute influence are compared, each way as a function.

(a) *published*: the whole model, two passes per instance, batches of 100 masks, one target at a
time, as the authors do; (b) *masked part*: the prefix computed once, then two plain passes over
batches of instances and targets; (c) *engine*: `turnover.influence`, with everything it does.

Each way is timed on as many pairs as it finishes in a few seconds; a row states how many. Weights
are random: they do not change the work. Where training instances share masks, a target costs as
many passes as there are masks, however many instances these are spread to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from turnover.attribution.dropout import TurnoverDropout
from turnover.attribution.engine.naive import Inputs, row_count, take_rows
from turnover.attribution.engine.tiling import pair_losses
from turnover.attribution.ensemble import MemberModel
from turnover.attribution.influence import influence
from turnover.attribution.scope import turnover
from turnover.data.sources.text import load_reviews
from turnover.errors import counted
from turnover.models.adapters import AdapterClassifier, EncoderClassifier, new_encoder
from turnover.models.encoders import DEFAULT_ENCODER
from turnover.models.heads import TextEncoder, turnover_heads
from turnover.models.vgg19 import vgg19

PUBLISHED_BATCH = 100
_MEMBERS, _INSTANCES, _SEED = 16, 5000, 0
_FEWER_INSTANCES, _FEW_TARGETS = 1000, 20
_SAMPLE_TARGETS, _SAMPLE_INSTANCES = 2, 50
_HEAD_INSTANCES, _HEAD_TARGETS = 500, 10
_IMAGE_INSTANCES, _ADAPTER_INSTANCES = 128, 500
_BERT_INSTANCES, _BERT_BATCH = 10_000, 20

PUBLISHED, PART, ENGINE, ENGINE_LOW = (
    "(a) published",
    "(b) masked part",
    "(c) engine",
    "(c) engine, bfloat16",
)
PRECISIONS = {ENGINE: None, ENGINE_LOW: torch.bfloat16}


@dataclass(frozen=True)
class Way:
    """One way: `run` computes `pairs` pairs of (member, target, instance); `sample` gives
    influences `(K, t, n)` of a few of them.

    `masks` makes only the masks that `run` needs, to measure their share of the work.
    """

    pairs: int
    run: Callable[[], object]
    sample: Callable[[], Tensor]
    masks: Callable[[], object] | None = None


@dataclass(frozen=True)
class Contest:
    """A model and data, and the ways to compute its influences."""

    case: str
    ways: Mapping[str, Way]


class _Whole(nn.Module):
    """A frozen encoder and one head as one model."""

    def __init__(self, encoder: TextEncoder, head: MemberModel) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, **tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder.pooled(tokens))[0]
        return logits


def heads(
    targets: int, groups: int | None, device: torch.device, masks: int | None = None
) -> Contest:
    """16 heads on MiniLM features of review sentences, 5,000 training instances; 1,000 where unit
    masks meet many targets.
    """
    encoder = TextEncoder(device=device)
    tokens = _tokens(encoder, targets)
    model, single = (
        turnover_heads((encoder.width,), 2, members=members, groups=groups, seed=_SEED, masks=masks)
        .to(device)
        .eval()
        for members in (_MEMBERS, 1)
    )
    few = groups is None and masks is None and targets >= _FEW_TARGETS
    ids = torch.arange(_FEWER_INSTANCES if few else _INSTANCES)
    labels = torch.zeros(targets, dtype=torch.int64)

    def features(count: int) -> Tensor:
        return encoder.pooled({name: values[:count] for name, values in tokens.items()})

    def engine(dtype: torch.dtype | None, count: int, instances: Tensor) -> Tensor:
        return influence(model, features(count), labels[:count], instances, dtype=dtype).values

    def sample(dtype: torch.dtype | None) -> Tensor:
        # few targets would select another backend
        return engine(dtype, targets, sample_ids)[:, :sample_targets]

    def part(count: int, instances: Tensor) -> Tensor:
        return _heads_part(model, features(count), labels[:count], instances)

    sample_targets = min(targets, _SAMPLE_TARGETS)
    part_targets, sample_ids = min(targets, _HEAD_TARGETS), ids[:_SAMPLE_INSTANCES]
    ways = {
        PUBLISHED: _published(_Whole(encoder, single), tokens, sample_targets, labels, device),
        PART: Way(
            _MEMBERS * part_targets * _HEAD_INSTANCES,
            partial(part, part_targets, ids[:_HEAD_INSTANCES]),
            partial(part, sample_targets, sample_ids),
        ),
    }
    for name, dtype in PRECISIONS.items():
        if dtype is None or masks is None:
            ways[name] = Way(
                _MEMBERS * targets * len(ids),
                partial(engine, dtype, targets, ids),
                partial(sample, dtype),
                None if masks else partial(_make_masks, model, ids.to(device)),
            )
    return Contest(
        f"text heads, {masks_in_words(groups, masks)}, {counted(targets, 'target')}", ways
    )


def masks_in_words(groups: int | None, masks: int | None) -> str:
    """Of what the masks are, and how many of them the instances share."""
    words = "unit masks" if groups is None else f"{groups} groups"
    return words if masks is None else f"{words}, {masks} shared"


def _make_masks(model: MemberModel, ids: Tensor) -> None:
    for mask in (model.head.mask_in, model.head.mask_hidden):
        for seed in mask.seeds:
            mask.seeded_bits(ids, seed)


def adapters(layers: int | None, device: torch.device, masks: int | None = None) -> Contest:
    """MiniLM with adapters in its last layers (None for all), with enlarged weights."""
    model = AdapterClassifier(
        new_encoder(DEFAULT_ENCODER), 2, layers=layers, groups=None, seed=_SEED, masks=masks
    )
    where = "all" if layers is None else f"the last {layers}"
    return contest(
        f"MiniLM, adapters in {where} layers" + (f", {masks} shared masks" if masks else ""),
        _enlarged(model).to(device).eval(),
        _tokens(TextEncoder(device=device), 1 if masks else 2),
        _INSTANCES if masks else _ADAPTER_INSTANCES,
        device,
        halved=masks is None,
    )


def bert_base(device: torch.device, tokens: int = 32, masks: int | None = None) -> Contest:
    """A network of BERT-base's size with adapters in all layers, random weights, one target of
    `tokens` tokens, 10,000 instances; on a CPU 100, where each has its own masks, and (a) has 20
    masks a batch, since 100 take minutes.
    """
    from transformers import BertConfig, BertModel

    model = AdapterClassifier(
        BertModel(BertConfig(), add_pooling_layer=False),
        2,
        layers=None,
        groups=None,
        seed=_SEED,
        masks=masks,
    )
    target = {
        "input_ids": torch.full((1, tokens), 7, device=device),
        "attention_mask": torch.ones(1, tokens, dtype=torch.int64, device=device),
    }
    return contest(
        f"BERT-base, adapters in all layers, {tokens} tokens"
        + (f", {masks} shared masks" if masks else ""),
        _enlarged(model).to(device).eval(),
        target,
        _BERT_INSTANCES if masks or device.type == "cuda" else PUBLISHED_BATCH,
        device,
        halved=device.type == "cuda",
        batch=PUBLISHED_BATCH if device.type == "cuda" else _BERT_BATCH,
    )


def images(groups: int | None, device: torch.device, masks: int | None = None) -> Contest:
    """VGG19 on 32 × 32 images, masked from the input of the 12th convolution on."""
    model = vgg19(10, groups=groups, seed=_SEED, masks=masks).to(device).eval()
    inputs = torch.randn(100, 3, 32, 32, generator=torch.Generator().manual_seed(_SEED)).to(device)
    return contest(
        f"VGG19, {masks_in_words(groups, masks)}, 100 targets",
        model,
        inputs,
        _INSTANCES if masks else _IMAGE_INSTANCES,
        device,
        None if masks else _tail(model),
        halved=device.type == "cuda",
    )


def example_network(groups: int | None, device: torch.device) -> Contest:
    """The network of the authors' example: 784-768-768-768-10, masks after the first relu and
    before the output.
    """
    torch_seeded = torch.Generator().manual_seed(_SEED)
    masks = [TurnoverDropout(768, groups=groups, layer=number) for number in range(2)]
    model = nn.Sequential(
        *(nn.Linear(784, 768), nn.ReLU(), masks[0], nn.Linear(768, 768), nn.ReLU()),
        *(nn.Linear(768, 768), nn.ReLU(), masks[1], nn.Linear(768, 10)),
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05, generator=torch_seeded)
    inputs = torch.randn(200, 784, generator=torch_seeded).to(device)
    return contest(
        f"784-768-768-768-10, {masks_in_words(groups, None)}, 200 targets",
        model.to(device).eval(),
        inputs,
        1000,
        device,
        (model[:2], model[2:]),
        halved=device.type == "cuda",
    )


def contest(
    case: str,
    model: nn.Module,
    inputs: Inputs,
    count: int,
    device: torch.device,
    parts: tuple[nn.Module, nn.Module] | None = None,
    *,
    halved: bool,
    batch: int = PUBLISHED_BATCH,
) -> Contest:
    """A contest for a one-member model; with its two parts, if known, for (b), and in bfloat16 if
    `halved` (cut-out sub-networks gain nothing from that on a CPU). (a) has `batch` masks a batch.
    """
    targets = row_count(inputs)
    labels, ids = torch.zeros(targets, dtype=torch.int64), torch.arange(count)
    sample_targets = min(targets, _SAMPLE_TARGETS)
    sample_size = min(count, batch, _SAMPLE_INSTANCES)
    published = _published(model, inputs, sample_targets, labels, device, sample_size, batch)
    ways = {PUBLISHED: published}
    if parts and isinstance(inputs, Tensor):
        part_size = min(count, 16)
        ways[PART] = Way(
            targets * part_size,
            partial(_part, *parts, inputs, labels, ids[:part_size]),
            partial(
                _part, *parts, inputs[:sample_targets], labels[:sample_targets], ids[:sample_size]
            ),
        )

    def engine(dtype: torch.dtype | None, targets: int, instances: Tensor) -> Tensor:
        return influence(
            model,
            take_rows(inputs, torch.arange(targets), device),
            labels[:targets],
            instances,
            dtype=dtype,
        ).values

    def sample(dtype: torch.dtype | None) -> Tensor:
        # all targets, which select the measured backend
        return engine(dtype, targets, ids[:sample_size])[:, :sample_targets]

    for name, dtype in PRECISIONS.items():
        if dtype is None or halved:
            ways[name] = Way(
                targets * count, partial(engine, dtype, targets, ids), partial(sample, dtype)
            )
    return Contest(case, ways)


def _published(
    model: nn.Module,
    inputs: Inputs,
    targets: int,
    labels: Tensor,
    device: torch.device,
    count: int = _SAMPLE_INSTANCES,
    batch: int = PUBLISHED_BATCH,
) -> Way:
    """Two passes of the whole model for each instance, `batch` masks at a time, one target at a
    time.
    """

    @torch.no_grad()
    def compute(ids: Tensor, target: int) -> Tensor:
        rows = take_rows(inputs, torch.full((len(ids),), target), device)
        losses = []
        for flipped in (False, True):
            with turnover(ids, flipped=flipped):
                logits = model(rows) if isinstance(rows, Tensor) else model(**rows)
            losses.append(pair_losses(None, logits[None, None], labels[target : target + 1])[0, 0])
        return losses[1] - losses[0]

    def sample() -> Tensor:
        return torch.stack([compute(torch.arange(count), target) for target in range(targets)])[
            None
        ].cpu()

    return Way(batch, lambda: compute(torch.arange(batch), 0), sample)


@torch.no_grad()
def _part(
    prefix: nn.Module, masked: nn.Module, inputs: Tensor, labels: Tensor, ids: Tensor
) -> Tensor:
    """Influences `(1, t, n)` by two plain passes of the masked part, all pairs in one batch."""
    rows = prefix(inputs).repeat_interleave(len(ids), 0)
    losses = []
    for flipped in (False, True):
        with turnover(ids.repeat(len(inputs)), flipped=flipped):
            losses.append(
                pair_losses(None, masked(rows).unflatten(0, (1, len(inputs), len(ids))), labels)[0]
            )
    return (losses[1] - losses[0])[None].cpu()


@torch.no_grad()
def _heads_part(model: MemberModel, features: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
    """Influences `(K, t, n)` by two plain passes of all heads; masks are made once for all targets,
    pairs are batched.
    """
    head = model.head
    bits = [mask.bits(ids.to(features.device)) for mask in (head.mask_in, head.mask_hidden)]
    both = []
    for flipped in (False, True):
        first, second = (
            mask.scale(stored, flipped, features.dtype)
            for mask, stored in zip((head.mask_in, head.mask_hidden), bits, strict=True)
        )
        parts = []
        for row, label in zip(features, labels, strict=True):
            hidden = torch.relu(head.linear_in(row * first))
            parts.append(
                pair_losses(None, head.linear_out(hidden * second).unsqueeze(1), label[None])
            )
        both.append(torch.cat(parts, 1))
    return (both[1] - both[0]).cpu()


def _tail(model: nn.Sequential) -> tuple[nn.Module, nn.Module]:
    """VGG19 cut before its first mask."""
    features = list(model.features)  # type: ignore[arg-type]
    first = next(
        number for number, layer in enumerate(features) if isinstance(layer, TurnoverDropout)
    )
    rest = [module for name, module in model.named_children() if name != "features"]
    return nn.Sequential(*features[:first]), nn.Sequential(*features[first:], *rest)


def _tokens(encoder: TextEncoder, count: int) -> dict[str, Tensor]:
    """Tokens of some reviews, padded to the longest."""
    texts = list(load_reviews().validation.texts or [])[:count]
    padded: Any = encoder.tokenizer(
        texts, padding=True, truncation=True, max_length=32, return_tensors="pt"
    )
    return {name: padded[name].to(encoder.device) for name in ("input_ids", "attention_mask")}


def _enlarged(model: EncoderClassifier) -> EncoderClassifier:
    """Adapters as large as trained ones, so that masks change the result."""
    generator = torch.Generator().manual_seed(_SEED)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = (0.1 * torch.randn(parameter.shape, generator=generator)).to(
                parameter.device
            )
    return model
