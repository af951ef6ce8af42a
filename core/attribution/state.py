"""The tensors that training changes: what is saved of a model whose encoder is frozen and named."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from turnover.attribution.norms import with_both_sets
from turnover.errors import TurnoverError

NUMBERED = re.compile(r"\bmodels\.(\d+)\.")
"""The member's number in the names of an ensemble's tensors."""


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that training changes, by name: all but frozen parameters; of a `whole` model,
    whose frozen part is not named, these too.

    A tensor that a member has under several names (tied weights) gets the first; no two share
    memory, which a file could not represent.
    """
    parameters = model.named_parameters(remove_duplicate=False)
    frozen = {
        name
        for name, parameter in parameters
        if not (parameter.requires_grad or getattr(model, "whole", False))
    }
    firsts, storages, state = tied_names(model), set(), {}
    for name, value in model.state_dict().items():
        if name not in frozen and firsts[name] == name:
            storage = value.untyped_storage().data_ptr()
            state[name] = value.detach().clone() if storage in storages else value.detach()
            storages |= {storage} if storage else set()
    return state


def tied_names(model: nn.Module) -> dict[str, str]:
    """For the name of each of a model's tensors, the first name under which the same member has the
    same tensor.
    """
    firsts: dict[tuple[object, ...], str] = {}
    names = {}
    for name, value in model.state_dict().items():
        member = NUMBERED.search(name)
        where = (member and member[0], value.data_ptr(), value.dtype, value.shape, value.stride())
        names[name] = firsts.setdefault(where, name) if value.numel() else name
    return names


def check_savable(model: nn.Module, where: str) -> None:
    """Reject tensors that a file cannot store.

    Raises:
        TurnoverError: for a tensor that is sparse, quantized, without memory, or overlaps itself
            in memory.
    """
    for name, value in model.state_dict().items():
        plain = value.layout == torch.strided and not (value.is_meta or value.is_quantized)
        if not plain or torch._debug_has_internal_overlap(value) == 1:
            kind = (
                "quantized"
                if value.is_quantized
                else "without memory"
                if value.is_meta
                else "sparse"
            )
            what = "repeats its own memory" if plain else f"is {kind}"
            raise TurnoverError(
                f"{where}: {name!r} {what}, so the trained model could not be saved; make it an "
                "ordinary tensor (.clone())"
            )


def load_trained(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the tensors of a `trained_state`, of an earlier version as well.

    Raises:
        TurnoverError: if these are the tensors of another model.
    """
    state = with_both_sets(model, state)
    expected, given = (
        {(name, tuple(value.shape)) for name, value in weights.items()}
        for weights in (trained_state(model), state)
    )
    if expected != given:
        raise TurnoverError(
            f"the weights are of another {type(model).__name__}: they differ at "
            f"{min(expected ^ given)[0]!r}; build it with the same settings"
        )
    model.load_state_dict(state, strict=False)
