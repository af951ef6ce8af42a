"""What a user chooses of a measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from turnover.errors import TurnoverError
from turnover.fidelity.methods import RIVALS, USUAL

_LEAST_RANKED = 4


@dataclass(frozen=True)
class Options:
    """How much is trained again, and which rivals are measured.

    Attributes:
        halves: random halves of the training set (lds).
        seeds: models for every half, for every item that is left out, or for every removal (lds, loo, removal).
        masked: whether turn-over dropout stays on in retraining (lds).
        instances: training items that are left out (loo).
        rivals: their names.
        errors: errors whose proponents are removed (removal).
        removed: how many proponents are removed at once, each of these numbers in turn (removal).
        pairs: file or folder with near duplicates (duplicates).

    Raises:
        TurnoverError: for too few halves or items to rank, or a rival that nobody knows.
    """

    halves: int = 60
    seeds: int = 5
    masked: bool = False
    instances: int = 100
    rivals: tuple[str, ...] = USUAL
    errors: int = 10
    removed: tuple[int, ...] = (5, 20, 80)
    pairs: Path | None = None

    def __post_init__(self) -> None:
        for name, count in (("--halves", self.halves), ("--instances", self.instances)):
            if count < _LEAST_RANKED:
                raise TurnoverError(f"{name} {count}: a ranking wants {_LEAST_RANKED} or more")
        if unknown := set(self.rivals) - set(RIVALS):
            raise TurnoverError(f"--rivals {min(unknown)}: nobody knows it; choose from {', '.join(RIVALS)}")
