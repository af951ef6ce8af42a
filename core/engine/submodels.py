"""The path of chains: each instance's two half networks, cut out and run on all targets.

In a chain (`turnover.engine.chain`) the masked network of an instance *is* a smaller network: its weights are the rows and
columns of the units that its masks keep. The flipped network is the one of the units that they drop. With half of the
units kept, a layer between two masks costs a quarter, for both halves together half of one plain pass, where the published
way makes two passes. Cutting the weights out costs a copy, which pays as soon as many targets share it.

The input of the first masked layer is the same for all instances, and that layer is linear. So where no mask follows at
once, its flipped result is what the masked one leaves of the full one,

    W(x ∘ m̃) = (1/p) Wx − W(x ∘ m),

and with few groups the masked results of all instances are sums of G partial products made once a target, by one matrix
product.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from turnover.dropout import TurnoverDropout, turnover_layers
from turnover.engine.chain import Affine, Chain, Norm
from turnover.engine.cores import spread
from turnover.engine.memory import Cost, pieces, tile_size
from turnover.engine.plain import autocast, both_halves, device_of
from turnover.engine.prefix import NotSplittable

FEW_TARGETS = 16
_TARGETS, _INSTANCES = 256, 256
_MOST_GROUPS = 64
_TOGETHER_BYTES = 2**25

Kept = dict[TurnoverDropout, Tensor]
"""The units, in rising order, that one instance's half network has of each masked dimension."""


class SubmodelPath:
    """Exact influences of one-member models that are chains, for many targets."""

    members = 1

    def __init__(self, model: nn.Module, chain: Chain, inputs: Tensor, memory: int, dtype: torch.dtype | None = None) -> None:
        self.chain, self.inputs, self.device = chain, inputs, device_of(model)
        self.dtype = dtype if self.device.type == "cuda" else None  # cut-out weights are too small to gain from bfloat16 on a CPU
        first, affine = chain.steps[:2]
        assert isinstance(first, TurnoverDropout)
        self.first = first
        with torch.no_grad():
            if any(layer.layer is None for layer in turnover_layers(model)):  # layers number themselves when they first run
                both_halves(model, inputs[:1].to(self.device, copy=True), torch.zeros(1, dtype=torch.int64))
            sample = chain.prefix(inputs[:1].to(self.device, copy=True))
            self._check(sample)
            self.shared = affine if isinstance(affine, Affine) and (chain.readers[1] is None or first.units <= _MOST_GROUPS) else None
            self.by_groups = self.shared is not None and first.units <= _MOST_GROUPS
            self.result = self.shared(sample) if self.shared is not None else sample
        self.name = "half networks cut out for each instance" + (f", the first layer from {first.units} partial products a target" if self.by_groups else "")
        number = sample.dtype.itemsize
        prepared = sample.numel() + self.result.numel() * (first.units + 1 if self.by_groups else 1)
        self.tiling = tile_size(Cost(prepared * number + 6 * number * max(sample.numel(), self.result.numel()), 64), memory, _TARGETS, _INSTANCES)
        self._prepared: tuple[slice, tuple[Tensor, Tensor | None, Tensor | None]] | None = None
        self._transposed = {step: step.weight.detach().T.contiguous() for step in chain.steps if isinstance(step, nn.Linear)}

    def _check(self, sample: Tensor) -> None:
        """Units must be dimension 1 of `(B, units)` or `(B, channels, height, width)` for every mask and every layer."""
        dims = sample.dim()
        for step in self.chain.steps:
            fits = {2: nn.Linear, 4: nn.Conv2d}.get(dims, ())
            if isinstance(step, Affine) and not isinstance(step, fits):
                raise NotSplittable(f"a {type(step).__name__} reads {dims} dimensions")
            if isinstance(step, TurnoverDropout) and (dims not in (2, 4) or step.dim not in ((1, -1) if dims == 2 else (1,))):
                raise NotSplittable("a mask is not on the units of a vector or the channels of an image")
            dims = 2 if isinstance(step, nn.Flatten) else dims

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(1, targets, ids, classes)`."""
        if self._prepared is None or self._prepared[0] != targets:
            self._prepared = None
            self._prepared = targets, self._prepare(targets)
        prepared = self._prepared[1]
        masks = [step for step in self.chain.steps if isinstance(step, TurnoverDropout)]
        bits = {mask: mask.bits(ids.to(self.device)) for mask in masks}
        logits: list[tuple[Tensor, Tensor] | None] = [None] * len(ids)
        together = max(1, min(16, _TOGETHER_BYTES // (self.result.numel() * self.result.itemsize * len(prepared[0]))))

        def work(block: slice) -> None:
            own = {mask: bits[mask][block] for mask in masks}
            with autocast(self.device, self.dtype):
                logits[block] = self._block(prepared, own)

        spread(work, pieces(slice(0, len(ids)), together), self.device)
        masked, flipped = (torch.stack([pair[half] for pair in logits if pair is not None], 1).unsqueeze(0) for half in (0, 1))
        return masked, flipped

    def _prepare(self, targets: slice) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The prefix's features; (1/p) Wx of the first layer and its partial products `(G, …)`, where these are used."""
        features = self.chain.prefix(self.inputs[targets].to(self.device, copy=True))
        if self.shared is None:
            return features, None, None
        full = _affine(self.shared, features, self.shared.weight) / self.first.keep
        if not self.by_groups:
            return features, full, None
        parts = zip(features.chunk(self.first.units, 1), self.shared.weight.chunk(self.first.units, 1), strict=True)
        return features, full, torch.stack([_affine(self.shared, part, weight) for part, weight in parts]) / self.first.keep

    def _block(self, prepared: tuple[Tensor, Tensor | None, Tensor | None], bits: Kept) -> list[tuple[Tensor, Tensor]]:
        """Masked and flipped logits `(t, classes)` of some instances."""
        features, full, partials = prepared
        results = None if partials is None else (bits[self.first].to(partials.dtype) @ partials.flatten(1)).unflatten(1, partials.shape[1:])
        pairs = []
        for place in range(len(bits[self.first])):
            halves = [{mask: _units(mask, own[place] != flipped) for mask, own in bits.items()} for flipped in (False, True)]
            if self.shared is None:
                starts = [self._run(0, features, None, kept) for kept in halves]
            else:
                masked = results[place] if results is not None else self._first_layer(features, halves[0][self.first])
                assert full is not None
                starts = [self._after_first(result, kept) for result, kept in zip((masked, full - masked), halves, strict=True)]
            pairs.append((starts[0], starts[1]))
        return pairs

    def _first_layer(self, features: Tensor, units: Tensor) -> Tensor:
        """W(x ∘ m) of the first layer, all its outputs."""
        assert self.shared is not None
        return self._apply(self.shared, features.index_select(1, units), units, None) / self.first.keep

    def _after_first(self, result: Tensor, kept: Kept) -> Tensor:
        """The rest of a half network, from the first layer's result without bias."""
        assert self.shared is not None
        reader = self.chain.readers[1]
        units = None if reader is None else kept[reader]
        wanted = result if units is None else result.index_select(1, units)
        return self._run(2, _biased(self.shared, wanted, units), units, kept)

    def _run(self, begin: int, x: Tensor, units: Tensor | None, kept: Kept) -> Tensor:
        """The steps of a half network from `begin` on; `units` are those of x, None for all."""
        for step, reader in zip(self.chain.steps[begin:], self.chain.readers[begin:], strict=True):
            if isinstance(step, TurnoverDropout):
                x = (x if units is not None else x.index_select(1, kept[step])) / step.keep
                units = kept[step]
            elif isinstance(step, Affine):
                wanted = None if reader is None else kept[reader]
                x = _biased(step, self._apply(step, x, units, wanted), wanted)
                units = wanted
            elif isinstance(step, Norm):
                x = _norm(step, x, units)
            elif isinstance(step, nn.Flatten):
                if units is not None and x.dim() == 4:
                    area = x.shape[2] * x.shape[3]
                    units = (units.unsqueeze(1) * area + torch.arange(area, device=units.device)).flatten()
                x = x.flatten(1)
            else:
                x = step(x)
        return x

    def _apply(self, step: Affine, x: Tensor, units: Tensor | None, wanted: Tensor | None) -> Tensor:
        """A layer's product for the units that x has and the outputs that are wanted, without bias."""
        if isinstance(step, nn.Linear) and wanted is None and units is not None:
            return x @ self._transposed[step].index_select(0, units)  # rows lie together, columns do not
        weight = step.weight if wanted is None else step.weight.index_select(0, wanted)
        return _affine(step, x, weight if units is None else weight.index_select(1, units))


def _affine(step: Affine, x: Tensor, weight: Tensor) -> Tensor:
    """A linear layer's or convolution's product with some of its weights, without bias."""
    if isinstance(step, nn.Linear):
        return functional.linear(x, weight)
    return functional.conv2d(x, weight, None, step.stride, step.padding, step.dilation)


def _biased(step: Affine, x: Tensor, units: Tensor | None) -> Tensor:
    """A layer's product, of some of its outputs, with their biases."""
    if step.bias is None:
        return x
    return x + (step.bias if units is None else step.bias[units]).view(-1, *[1] * (x.dim() - 2))


def _norm(step: Norm, x: Tensor, units: Tensor | None) -> Tensor:
    """Batch norm in evaluation mode for some of its units."""
    parts = (step.running_mean, step.running_var, step.weight, step.bias)
    mean, variance, weight, bias = (part if part is None or units is None else part[units] for part in parts)
    return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, step.eps)


def _units(mask: TurnoverDropout, kept: Tensor) -> Tensor:
    """Numbers of the single units that a mask's bits, of units or groups, keep."""
    return (kept if mask.groups is None else kept.repeat_interleave(mask.width // mask.units)).nonzero()[:, 0]
