"""The regions of an image on which its proponents' influence rests.

Each patch is blanked in turn and the influence of the proponents recomputed; the fall of their sum,
whole image minus blanked, is the patch's share of it, in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnover.dashboard.errors.answer_view import Question
from turnover.dashboard.errors.edits_view import InputPart, parts_request
from turnover.errors import TurnoverError

_NAMED = 3


@dataclass(frozen=True)
class Regions:
    """An image, the names of its patches, and by how much the influence falls without each of them:
    positive where it rests on the patch, negative where it grows without it.
    """

    image: bytes
    names: tuple[str, ...]
    falls: tuple[float, ...]

    @property
    def words(self) -> str:
        """The patches that matter most, in words."""
        order = sorted(zip(self.falls, self.names, strict=True), reverse=True)
        named = [name for fall, name in order if fall > 0][:_NAMED]
        return f"it rests most on {'; '.join(named)}" if named else "it rests on no single patch"


def regions_request(
    question: Question, parts: Sequence[InputPart], target: str, positions: Sequence[int]
) -> dict[str, Any]:
    """The worker's request: the influences of training items on the loss of `target`, for the whole
    image and for the image without each patch.
    """
    asked = parts_request((InputPart("", question), *parts))
    return asked | {"label": target, "instances": list(positions)}


def build_regions(
    question: Question, parts: Sequence[InputPart], replies: Sequence[dict[str, Any]]
) -> Regions:
    """The regions in the worker's replies to `regions_request`, each on other proponents.

    Raises:
        TurnoverError: if a reply is malformed.
    """
    try:
        sums = np.sum([np.array(reply["influences"], float).sum(1) for reply in replies], axis=0)
        if sums.shape != (1 + len(parts),) or not np.isfinite(sums).all():
            raise ValueError(f"influences of shape {sums.shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise TurnoverError(
            f"the engine's answer cannot be read ({type(error).__name__}: {error}); ask again"
        ) from None
    names = tuple(part.name for part in parts)
    return Regions(question.image, names, tuple((sums[0] - sums[1:]).tolist()))
