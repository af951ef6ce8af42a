"""Insert masks into a network that was built without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from torch import nn

from turnover.attribution.dropout import TurnoverDropout
from turnover.errors import TurnoverError

Network = TypeVar("Network", bound=nn.Module)


def insert_masks(
    model: Network,
    layers: Sequence[str],
    p: float = 0.5,
    groups: int | None = None,
    seed: int = 0,
    *,
    masks: int | None = None,
) -> Network:
    """Put a mask before each of these layers, on the units or channels that it reads; the model is
    changed in place and returned.

    A layer `fc` becomes `nn.Sequential(mask, fc)`, so its weights are called `fc.1.weight` from
    then on: load weights first. A column of a masked layer's weights never learns from an instance
    whose mask switches its unit off (law 3); biases and norms between the masks leak.

    Args:
        model: any module.
        layers: names of linear layers and convolutions, as in `model.named_modules()`, those that
            PEFT has wrapped and the `lora_B` of these included; masks are numbered in this order.
        p: keep rate.
        groups: mask this many equal groups of units in every layer whose width they divide; single
            units elsewhere.
        seed: mask seed; members need different ones.
        masks: how many masks the instances share; None: every instance has its own.

    Raises:
        TurnoverError: for a layer that does not exist, is neither linear nor an ordinary
            convolution, lies inside attention (which reads its weights without calling it) or has
            a mask already, and as `TurnoverDropout`.
    """
    names = [layers] if isinstance(layers, str) else layers
    if not isinstance(model, nn.Module) or not isinstance(names, Sequence) or not names:
        raise TurnoverError(
            "insert_masks(model, layers): give a torch.nn.Module and the names of one or more of "
            "its layers, as in model.named_modules()"
        )
    for number, (name, layer) in enumerate([(name, _maskable(model, name)) for name in names]):
        core = _wrapped(layer)
        width, dim = (
            (core.in_features, -1) if isinstance(core, nn.Linear) else (core.in_channels, 1)
        )
        fitting = groups if groups and width % groups == 0 else None
        mask = TurnoverDropout(width, p, fitting, seed, masks=masks, layer=number, dim=dim)
        model.set_submodule(name, nn.Sequential(mask, layer))
    return model


def _wrapped(layer: nn.Module) -> Any:
    """What PEFT has wrapped in a layer of its own, or the layer itself."""
    return getattr(layer, "base_layer", layer)


def _maskable(model: nn.Module, name: str) -> nn.Module:
    """A layer that a mask can be put before. Errors as `insert_masks`."""
    if not isinstance(name, str):
        raise TurnoverError(
            f"a layer is named as in model.named_modules(), not by a {type(name).__name__}"
        )
    modules = dict(model.named_modules())
    layer, parent = modules.get(name), modules.get(name.rpartition(".")[0])
    if not name or layer is None:
        raise TurnoverError(
            f"a {type(model).__name__} has no layer {name!r}; its parts are "
            f"{', '.join(part for part, _ in model.named_children())}"
        )
    if isinstance(parent, nn.MultiheadAttention):
        raise TurnoverError(
            f"{name!r} lies inside attention, which reads its weights without calling it, so a "
            "mask there would not run; choose another"
        )
    if (
        isinstance(parent, nn.Sequential)
        and len(parent) == 2
        and any(isinstance(part, TurnoverDropout) for part in parent)
    ):
        raise TurnoverError(f"{name!r} has a mask already; insert masks once")
    if "lora_A" in name.split("."):
        raise TurnoverError(
            f"{name!r}: PEFT reads the weights of lora_A beside calling it; name its lora_B, or "
            f"{name.split('.lora_A')[0]!r} as a whole"
        )
    core = _wrapped(layer)
    if not isinstance(core, nn.Linear | nn.Conv2d) or getattr(core, "groups", 1) != 1:
        raise TurnoverError(
            f"{name!r} is a {type(layer).__name__}; a mask can be put before linear layers and "
            "ordinary convolutions"
        )
    return layer
