"""Some members of a K-member model: half an ensemble, or the same start many times (deep members: once, since two would share masks)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from turnover.dropout import turnover_layers
from turnover.models.ensemble import Ensemble
from turnover.models.members import MemberModel, Members, MemberTurnoverDropout


def some_members(model: Members, places: Sequence[int]) -> Members:
    """A copy with the members at these places; neither shares weights with the other.

    Raises:
        TypeError: for a model whose members cannot be told apart.
    """
    if isinstance(model, Ensemble):
        return model.of([copy.deepcopy(model.models[place]) for place in places])
    if not isinstance(model, MemberModel):
        raise TypeError(f"members of a {type(model).__name__} are not told apart here")
    chosen = copy.deepcopy(model)
    for parameter in chosen.parameters():  # every one has a leading member axis
        parameter.data = parameter.data[list(places)]
    for mask in turnover_layers(chosen):
        assert isinstance(mask, MemberTurnoverDropout)
        mask.seeds = tuple(mask.seeds[place] for place in places)
    chosen.members = len(places)
    return chosen
