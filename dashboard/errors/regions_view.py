"""The regions of a misclassified image on which its proponents' influence rests.

Each patch is blanked in turn and the influence of the proponents recomputed; the fall of an
influence, whole image minus blanked, is the patch's share of it, in nats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnover.dashboard.errors.answer_view import Question, item_question
from turnover.dashboard.errors.edits_view import InputPart, parts_of, parts_request
from turnover.errors import TurnoverError
from turnover.explain.explanation import Explanation, decimals_of, estimate_words
from turnover.explain.html import signed
from turnover.runs.run import Run

_NAMED = 3


@dataclass(frozen=True)
class Fall:
    """A patch, and by how much an influence falls when it is blanked (nats): positive if the
    influence rests on the patch, negative if it grows without it.
    """

    name: str
    value: float


@dataclass(frozen=True)
class Region:
    """An influence on the whole image (nats), and its fall without each patch, in patch order."""

    whole: float
    falls: tuple[Fall, ...]

    @property
    def largest(self) -> tuple[Fall, ...]:
        """The patches with a non-zero fall, the largest changes first."""
        return tuple(
            sorted((fall for fall in self.falls if fall.value), key=lambda fall: -abs(fall.value))
        )

    @property
    def decimals(self) -> int:
        """Decimals at which to show the falls."""
        return decimals_of([fall.value for fall in self.falls])

    def named(self, fall: Fall) -> str:
        """A patch with the change of the influence without it: `row 2, column 3 (−0.410 nats)`."""
        return f"{fall.name} ({signed(-fall.value, self.decimals)} nats)"

    @property
    def told(self) -> str:
        """The patches that change it most, in words."""
        return "; ".join(map(self.named, self.largest[:_NAMED])) or "none, no patch changes it"

    @property
    def rests(self) -> str:
        """The patch on which it rests most, in words."""
        best = max(self.falls, key=lambda fall: fall.value)
        return f"rests most on {self.named(best)}" if best.value > 0 else "rests on no single patch"


@dataclass(frozen=True)
class Regions:
    """The regions of an error's proponents, together and by training position, with a caption on
    what the numbers are.
    """

    image: bytes
    together: Region
    by_item: dict[int, Region]
    caption: str


def patches_of(run: Run, item: str, target: str) -> tuple[Question, tuple[InputPart, ...]]:
    """The question on a validation item (by id), and the item without each patch, about the label
    `target`.

    Raises:
        TurnoverError: if there is no such item.
    """
    question = item_question(run, item)
    return question, parts_of(run, question, target)


def regions_request(
    question: Question, parts: Sequence[InputPart], target: str, positions: Sequence[int]
) -> dict[str, Any]:
    """The worker's request: the influences of training items on the loss of `target`, for the whole
    image and for the image without each patch.
    """
    return {
        **parts_request((InputPart("", question), *parts)),
        "label": target,
        "instances": list(positions),
    }


def joined(replies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Concatenate replies about disjoint proponents into one reply about all of them, in order.

    Raises:
        TurnoverError: if a reply is malformed.
    """
    with _readable():
        return {
            **replies[0],
            "influences": (
                np.concatenate(
                    [np.array(reply["influences"], float) for reply in replies], axis=1
                ).tolist()
            ),
        }


@contextmanager
def _readable() -> Iterator[None]:
    """Turn errors from reading a malformed reply into a TurnoverError."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, TurnoverError):
            raise
        raise TurnoverError(
            f"the engine's answer cannot be read ({type(error).__name__}: {error}); ask again"
        ) from None


def build_regions(
    question: Question,
    parts: Sequence[InputPart],
    explanation: Explanation,
    members: int,
    reply: dict[str, Any],
) -> Regions:
    """The regions in the worker's reply to `regions_request`.

    Raises:
        TurnoverError: if the reply is malformed.
    """
    positions = [card.position for card in explanation.proponents]
    names = [part.name for part in parts]
    with _readable():
        influences = np.array(reply["influences"], float)
        if (
            influences.shape != (1 + len(parts), len(positions))
            or not np.isfinite(influences).all()
        ):
            raise ValueError(f"influences of shape {influences.shape}")
        estimate = estimate_words(str(reply["estimator"]), members)
    return Regions(
        image=question.image,
        together=_region(names, influences.sum(1)),
        by_item={
            position: _region(names, column)
            for position, column in zip(positions, influences.T, strict=True)
        },
        caption=(
            "Each patch of the error’s image was blanked in turn, and the influence on the loss of "
            f"“{explanation.target}” computed again ({estimate}). Blue: it falls without the "
            "patch, so it rests there. Orange: it grows. Each picture’s fullest colour is its own "
            "largest change; numbers are the change in nats, and no standard error is known for "
            "them. The model never saw such blanks: this says what the model uses, not why."
        ),
    )


def _region(names: Sequence[str], influences: np.ndarray) -> Region:
    """The region of influences `(1 + patches,)`: on the whole image, then without each patch."""
    falls = influences[0] - influences[1:]
    return Region(
        float(influences[0]),
        tuple(Fall(name, float(value)) for name, value in zip(names, falls, strict=True)),
    )
