"""The backend of chains: each instance's two sub-networks, cut out and run on all targets.

Many classifiers end in one sequence of steps: masks, linear layers, convolutions, and operations on
single units such as relu, pooling, or batch norm in evaluation mode. Where such a model is an
`nn.Sequential`, however nested, its order is known without running or tracing it, and `find_chain`
splits it into a prefix and steps. The prefix may hold any module. A step that is not known to leave
units independent, or a module whose behaviour hooks change, makes the model no chain. (`torch.fx`
would find chains in any code, but tracing replaces `nn.Module.__call__` for all threads while it
runs.)

In a chain the masked sub-network of an instance *is* a smaller network: its weights are the rows
and columns of the units that its masks keep. The flipped sub-network has the units that they drop.
With half of the units each, a layer between two masks costs a quarter, so both sub-networks
together cost half of one plain pass, where the published method makes two passes. Cutting the
weights out costs a copy, which pays once enough targets share it.

The input of the first masked layer is the same for all instances, and that layer is linear. So
where no mask follows at once, its flipped result is the full one minus the masked one,

    W(x ∘ m̃) = (1/p) Wx − W(x ∘ m),

and with few groups the masked results of all instances are sums of G partial products, computed
once per target, by one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from turnover.attribution.dropout import TurnoverDropout
from turnover.attribution.engine.naive import autocast, device_of, number_masks
from turnover.attribution.engine.prefix import NotSplittable
from turnover.attribution.engine.tiling import Cost, pieces, spread, tile_size
from turnover.attribution.norms import TurnoverNorm1d, TurnoverNorm2d
from turnover.attribution.scope import before_masks

Affine = nn.Linear | nn.Conv2d
Norm = nn.BatchNorm1d | nn.BatchNorm2d

_ON_UNITS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardswish,
    nn.Softplus,
)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
_KNOWN = (
    TurnoverDropout,
    nn.Flatten,
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    TurnoverNorm1d,
    TurnoverNorm2d,
    *_ON_UNITS,
    *_POOLS,
    *_NOTHING,
)


# Chains


@dataclass(frozen=True)
class Chain:
    """A model as a prefix, free of masks, and steps, the first of which is a mask.

    `readers[i]` is the mask, if any, that the output units of step i reach before another layer
    mixes them. `known` is whether the prefix, too, consists of modules that treat each row
    independently.
    """

    prefix: nn.Module
    known: bool
    steps: tuple[nn.Module, ...]
    readers: tuple[TurnoverDropout | None, ...]

    def features(self, inputs: Tensor) -> Tensor:
        """The prefix's results, as they are under masks."""
        with before_masks():
            features: Tensor = self.prefix(inputs)
        return features

    @property
    def by_groups(self) -> bool:
        """Whether the first mask has so few groups that the first layer's results are sums of
        partial products, computed once a target.
        """
        first, affine = self.steps[0], self.steps[1:2]
        return (
            isinstance(first, TurnoverDropout)
            and first.units <= _MOST_GROUPS
            and all(isinstance(step, Affine) for step in affine)
        )

    def results(self, x: Tensor) -> list[Tensor]:
        """What the prefix makes of a batch, and each step of the one before it, without masks."""
        results = [self.features(x)]
        x = results[0].clone()  # which a step may change in place
        for step in self.steps:
            x = step(x)
            results.append(x)
        return results


def find_chain(model: nn.Module) -> Chain | None:
    """The model as a chain, or None if it is not one."""
    line = _line(model)
    if line is None:
        return None
    first = next(
        (position for position, module in enumerate(line) if isinstance(module, TurnoverDropout)),
        len(line),
    )
    tail = line[first:]
    if (
        not tail
        or any(_holds_masks(module) for module in line[:first])
        or not all(_is_step(module) for module in tail)
    ):
        return None
    steps = tuple(module for module in tail if not isinstance(module, _NOTHING))
    mixing = [module for module in steps if isinstance(module, TurnoverDropout | Affine)]
    if any(
        isinstance(before, TurnoverDropout) and isinstance(after, TurnoverDropout)
        for before, after in pairwise(mixing)
    ):
        return None
    known = all(_is_step(module) for module in line[:first])
    return Chain(
        nn.Sequential(*line[:first]),
        known,
        steps,
        tuple(_reader(steps, position) for position in range(len(steps))),
    )


def _line(module: nn.Module) -> list[nn.Module] | None:
    """The modules of nested `nn.Sequential`s in the order in which they run; None for anything
    else.
    """
    if type(module).forward is not nn.Sequential.forward or not _is_untouched(module):
        return None
    line: list[nn.Module] = []
    for child in module.children() if len(set(module.children())) == len(module._modules) else []:
        inner = _line(child) if isinstance(child, nn.Sequential) else [child]
        if inner is None:
            return None
        line += inner
    return line or None


def _is_untouched(module: nn.Module) -> bool:
    """Whether a module has no hooks and its forward is not replaced."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)


def _holds_masks(module: nn.Module) -> bool:
    return any(isinstance(inner, TurnoverDropout) for inner in module.modules())


def _is_step(module: nn.Module) -> bool:
    """Whether a module is known, and its settings leave its units independent."""
    if type(module) not in _KNOWN or not _is_untouched(module):
        return False
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    if isinstance(module, nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    if isinstance(module, nn.MaxPool2d):
        return not module.return_indices
    return not isinstance(module, Norm) or module.running_mean is not None


def _reader(steps: tuple[nn.Module, ...], position: int) -> TurnoverDropout | None:
    """The first mask that an affine step's outputs reach, if it masks exactly these."""
    affine = steps[position]
    if not isinstance(affine, Affine):
        return None
    width = affine.out_features if isinstance(affine, nn.Linear) else affine.out_channels
    for step in steps[position + 1 :]:
        if isinstance(step, TurnoverDropout):
            return step if step.width == width else None
        if isinstance(step, Affine):
            return None
    return None


# The backend

_TARGETS, _INSTANCES = 256, 256
_MOST_GROUPS = 64
_TOGETHER_BYTES = 2**25

SubnetworkUnits = dict[TurnoverDropout, Tensor]
"""The units, in ascending order, of one instance's sub-network in each masked dimension."""


class SubnetworkBackend:
    """Exact influences of one-member models that are chains, for many targets."""

    members = 1

    def __init__(
        self,
        model: nn.Module,
        chain: Chain,
        inputs: Tensor,
        memory: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.chain, self.inputs, self.device = chain, inputs, device_of(model)
        # cut-out weights are too small to gain from bfloat16 on a CPU
        self.dtype = dtype if self.device.type == "cuda" else None
        first, affine = chain.steps[:2]
        assert isinstance(first, TurnoverDropout)
        self.first = first
        with torch.no_grad():
            number_masks(model, inputs)
            sample = chain.features(inputs[:1].to(self.device, copy=True))
            self._check(sample)
            self.shared = (
                affine
                if isinstance(affine, Affine) and (chain.readers[1] is None or chain.by_groups)
                else None
            )
            self.by_groups = self.shared is not None and chain.by_groups
            self.result = self.shared(sample) if self.shared is not None else sample
        self.name = "sub-networks cut out for each instance" + (
            f", the first layer from {first.units} partial products a target"
            if self.by_groups
            else ""
        )
        number = sample.dtype.itemsize
        prepared = sample.numel() + self.result.numel() * (first.units + 1 if self.by_groups else 1)
        self.tiling = tile_size(
            Cost(prepared * number + 6 * number * max(sample.numel(), self.result.numel()), 64),
            memory,
            _TARGETS,
            _INSTANCES,
        )
        self._prepared: tuple[slice, tuple[Tensor, Tensor | None, Tensor | None]] | None = None
        self._transposed = {
            step: step.weight.detach().T.contiguous()
            for step in chain.steps
            if isinstance(step, nn.Linear)
        }

    def _check(self, sample: Tensor) -> None:
        """Units must be dimension 1 of `(B, units)` or `(B, channels, height, width)` for every
        mask and every layer.
        """
        dims = sample.dim()
        for step in self.chain.steps:
            fits = {2: nn.Linear, 4: nn.Conv2d}.get(dims, ())
            if isinstance(step, Affine) and not isinstance(step, fits):
                raise NotSplittable(f"a {type(step).__name__} reads {dims} dimensions")
            if isinstance(step, TurnoverDropout) and (
                dims not in (2, 4) or step.dim not in ((1, -1) if dims == 2 else (1,))
            ):
                raise NotSplittable(
                    "a mask is not on the units of a vector or the channels of an image"
                )
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
        together = max(
            1,
            min(
                16,
                _TOGETHER_BYTES // (self.result.numel() * self.result.itemsize * len(prepared[0])),
            ),
        )

        def work(block: slice) -> None:
            block_bits = {mask: bits[mask][block] for mask in masks}
            with autocast(self.device, self.dtype):
                logits[block] = self._block(prepared, block_bits)

        spread(work, pieces(slice(0, len(ids)), together), self.device)
        masked, flipped = (
            torch.stack([pair[half] for pair in logits if pair is not None], 1).unsqueeze(0)
            for half in (0, 1)
        )
        return masked, flipped

    def _prepare(self, targets: slice) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The prefix's features; (1/p) Wx of the first layer and its partial products `(G, …)`,
        where they are used.
        """
        features = self.chain.features(self.inputs[targets].to(self.device, copy=True))
        if self.shared is None:
            return features, None, None
        full = _affine(self.shared, features, self.shared.weight) / self.first.keep
        if not self.by_groups:
            return features, full, None
        parts = zip(
            features.chunk(self.first.units, 1),
            self.shared.weight.chunk(self.first.units, 1),
            strict=True,
        )
        return (
            features,
            full,
            torch.stack([_affine(self.shared, part, weight) for part, weight in parts])
            / self.first.keep,
        )

    def _block(
        self, prepared: tuple[Tensor, Tensor | None, Tensor | None], bits: SubnetworkUnits
    ) -> list[tuple[Tensor, Tensor]]:
        """Masked and flipped logits `(t, classes)` of some instances."""
        features, full, partials = prepared
        results = (
            None
            if partials is None
            else (bits[self.first].to(partials.dtype) @ partials.flatten(1)).unflatten(
                1, partials.shape[1:]
            )
        )
        pairs = []
        for instance in range(len(bits[self.first])):
            halves = [
                {
                    mask: _units(mask, mask_bits[instance] != flipped)
                    for mask, mask_bits in bits.items()
                }
                for flipped in (False, True)
            ]
            if self.shared is None:
                starts = [self._run(0, features, None, units) for units in halves]
            else:
                masked = (
                    results[instance]
                    if results is not None
                    else self._first_layer(features, halves[0][self.first])
                )
                assert full is not None
                starts = [
                    self._after_first(result, units)
                    for result, units in zip((masked, full - masked), halves, strict=True)
                ]
            pairs.append((starts[0], starts[1]))
        return pairs

    def _first_layer(self, features: Tensor, units: Tensor) -> Tensor:
        """W(x ∘ m) of the first layer, all its outputs."""
        assert self.shared is not None
        return (
            self._apply(self.shared, features.index_select(1, units), units, None) / self.first.keep
        )

    def _after_first(self, result: Tensor, kept_units: SubnetworkUnits) -> Tensor:
        """The rest of a sub-network, from the first layer's result without bias."""
        assert self.shared is not None
        reader = self.chain.readers[1]
        units = None if reader is None else kept_units[reader]
        wanted = result if units is None else result.index_select(1, units)
        return self._run(2, _biased(self.shared, wanted, units), units, kept_units)

    def _run(
        self, begin: int, x: Tensor, units: Tensor | None, kept_units: SubnetworkUnits
    ) -> Tensor:
        """The steps of a sub-network from `begin` on; `units` are those of x, None for all."""
        for step, reader in zip(self.chain.steps[begin:], self.chain.readers[begin:], strict=True):
            if isinstance(step, TurnoverDropout):
                x = (x if units is not None else x.index_select(1, kept_units[step])) / step.keep
                units = kept_units[step]
            elif isinstance(step, Affine):
                wanted = None if reader is None else kept_units[reader]
                x = _biased(step, self._apply(step, x, units, wanted), wanted)
                units = wanted
            elif isinstance(step, Norm):
                x = _norm(step, x, units)
            elif isinstance(step, nn.Flatten):
                if units is not None and x.dim() == 4:
                    area = x.shape[2] * x.shape[3]
                    units = (
                        units.unsqueeze(1) * area + torch.arange(area, device=units.device)
                    ).flatten()
                x = x.flatten(1)
            else:
                x = step(x)
        return x

    def _apply(
        self, step: Affine, x: Tensor, units: Tensor | None, wanted: Tensor | None
    ) -> Tensor:
        """A layer's product for the units of x and the wanted outputs, without bias."""
        if isinstance(step, nn.Linear) and wanted is None and units is not None:
            # rows are contiguous, columns are not
            return x @ self._transposed[step].index_select(0, units)
        weight = step.weight if wanted is None else step.weight.index_select(0, wanted)
        return _affine(step, x, weight if units is None else weight.index_select(1, units))


def _affine(step: Affine, x: Tensor, weight: Tensor) -> Tensor:
    """A linear layer's or convolution's product with some of its weights, without bias."""
    if isinstance(step, nn.Linear):
        return functional.linear(x, weight)
    return functional.conv2d(x, weight, None, step.stride, step.padding, step.dilation)


def _biased(step: Affine, x: Tensor, units: Tensor | None) -> Tensor:
    """A layer's product for some of its outputs, plus their biases."""
    if step.bias is None:
        return x
    return x + (step.bias if units is None else step.bias[units]).view(-1, *[1] * (x.dim() - 2))


def _norm(step: Norm, x: Tensor, units: Tensor | None) -> Tensor:
    """Batch norm in evaluation mode, under masks, for some of its units."""
    parts = (step.running_mean, step.running_var, step.weight, step.bias)
    mean, variance, weight, bias = (
        part if part is None or units is None else part[units] for part in parts
    )
    return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, step.eps)


def _units(mask: TurnoverDropout, bits: Tensor) -> Tensor:
    """Numbers of the single units that a mask's bits, for units or groups, keep."""
    return (
        bits if mask.groups is None else bits.repeat_interleave(mask.width // mask.units)
    ).nonzero()[:, 0]
