"""The tensors that training changes: what is worth saving of a model whose encoder is frozen and known by name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from core.errors import TurnoverError


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that training changes, by name: all but frozen parameters; of a `whole` model, whose frozen part is not known by name, these too."""
    frozen = {name for name, parameter in model.named_parameters() if not (parameter.requires_grad or getattr(model, "whole", False))}
    return {name: value.detach() for name, value in model.state_dict().items() if name not in frozen}


def load_trained(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take over what `trained_state` gave.

    Raises:
        TurnoverError: if these are the tensors of another model.
    """
    own, given = ({(name, tuple(value.shape)) for name, value in weights.items()} for weights in (trained_state(model), state))
    if own != given:
        raise TurnoverError(f"the weights are of another {type(model).__name__}: they differ at {min(own ^ given)[0]!r}; build it with the same settings")
    model.load_state_dict(dict(state), strict=False)
