"""Models that are a chain from the first mask on.

Many classifiers end in one line of steps: masks, linear layers, convolutions, and operations on single units such as relu,
pooling, or batch norm in evaluation mode. Where such a model is an `nn.Sequential`, however nested, its order is known
without running or tracing it, and `find_chain` says what its prefix and its steps are; `turnover.engine.submodels` computes with
them. The prefix may hold any module. A step that is not known to leave units alone, a module whose behaviour was changed by
hooks, and the model is no chain.

(`torch.fx` would find chains in any code, but tracing replaces `nn.Module.__call__` for all threads while it runs.)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from turnover.dropout import TurnoverDropout

Affine = nn.Linear | nn.Conv2d
Norm = nn.BatchNorm1d | nn.BatchNorm2d

_ON_UNITS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Hardswish, nn.Softplus)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
_KNOWN = (TurnoverDropout, nn.Flatten, nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, *_ON_UNITS, *_POOLS, *_NOTHING)


@dataclass(frozen=True)
class Chain:
    """A model as a prefix, free of masks, and steps, the first of which is a mask.

    `readers[i]` is the mask, if any, that the units put out by step i meet before anything else mixes them. `known` says whether the prefix, too,
    is made of modules that are known to treat each row by itself.
    """

    prefix: nn.Module
    known: bool
    steps: tuple[nn.Module, ...]
    readers: tuple[TurnoverDropout | None, ...]


def find_chain(model: nn.Module) -> Chain | None:
    """The model as a chain, or None if it is not one."""
    line = _line(model)
    if line is None:
        return None
    first = next((place for place, module in enumerate(line) if isinstance(module, TurnoverDropout)), len(line))
    tail = line[first:]
    if not tail or any(_holds_masks(module) for module in line[:first]) or not all(_is_step(module) for module in tail):
        return None
    steps = tuple(module for module in tail if not isinstance(module, _NOTHING))
    mixing = [module for module in steps if isinstance(module, TurnoverDropout | Affine)]
    if any(isinstance(before, TurnoverDropout) and isinstance(after, TurnoverDropout) for before, after in pairwise(mixing)):
        return None
    known = all(_is_step(module) for module in line[:first])
    return Chain(nn.Sequential(*line[:first]), known, steps, tuple(_reader(steps, place) for place in range(len(steps))))


def _line(module: nn.Module) -> list[nn.Module] | None:
    """The modules of nested `nn.Sequential`s in the order in which they run; None for anything else."""
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
    """Whether nobody listens to a module or has replaced its forward."""
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


def _reader(steps: tuple[nn.Module, ...], place: int) -> TurnoverDropout | None:
    """The mask that an affine step's outputs meet first, if it masks just these."""
    affine = steps[place]
    if not isinstance(affine, Affine):
        return None
    width = affine.out_features if isinstance(affine, nn.Linear) else affine.out_channels
    for step in steps[place + 1 :]:
        if isinstance(step, TurnoverDropout):
            return step if step.width == width else None
        if isinstance(step, Affine):
            return None
    return None
