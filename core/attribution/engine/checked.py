"""A fast backend that is checked against the plain backend while it works.

Sharing a prefix or slicing weights relies on how a model behaves when it runs, so logits are
compared with the plain backend's for a few instances: for every target where a model may run
differently for each, for some targets of each tile where all take the same steps. Where they
differ, or where the fast backend fails, the plain backend takes over, and the backend's name, which
every result carries, gives the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from turnover.attribution.engine.naive import NaiveBackend
from turnover.attribution.engine.prefix import NotSplittable, PrefixBackend
from turnover.attribution.engine.subnetworks import SubnetworkBackend
from turnover.attribution.engine.tails import TailBackend
from turnover.attribution.engine.tiling import Tiling, is_out_of_memory

_INSTANCES, _TARGETS = 2, 8
_BOUND = {torch.float64: 1e-9, torch.float32: 1e-4}
_LOW_PRECISION_BOUND = 0.1

Fast = SubnetworkBackend | TailBackend | PrefixBackend


class CheckedBackend:
    """The first fast backend whose logits equal the plain backend's, or else the plain backend
    itself.
    """

    def __init__(
        self,
        attempts: Sequence[Callable[[NaiveBackend], Fast]],
        plain: NaiveBackend,
    ) -> None:
        self.attempts, self.plain, self.members = list(attempts), plain, plain.members
        self.backend: Fast | NaiveBackend = plain
        self.reason = ""
        self._checked: slice | None = None
        self._next()

    @property
    def name(self) -> str:
        """How the logits are computed, and why not faster if they are not."""
        return (
            f"{self.backend.name} (no part is shared: {self.reason})"
            if self.backend is self.plain
            else self.backend.name
        )

    @property
    def tiling(self) -> Tiling:
        """That of the backend in use."""
        return self.backend.tiling

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Masked and flipped logits, each `(K, targets, ids, classes)`."""
        while self.backend is not self.plain:
            try:
                halves = self.backend.tile(targets, ids)
                if self._checked != targets:
                    self._compare(targets, ids[:_INSTANCES], halves)
                    self._checked = targets
            except (
                Exception
            ) as error:  # if the model itself is at fault, the plain backend will raise
                if is_out_of_memory(error):
                    raise
                self._next(error)
            else:
                return halves
        return self.plain.tile(targets, ids)

    def _next(self, error: Exception | None = None) -> None:
        """Switch to the next backend that can be built."""
        self.backend = self.plain
        while self.backend is self.plain and self.attempts:
            try:
                self.backend = self.attempts.pop(0)(self.plain)
            except Exception as refusal:
                error = refusal
        if error:
            self.reason = (
                str(error).splitlines()[0]
                if isinstance(error, NotSplittable)
                else type(error).__name__
            )

    def _compare(self, targets: slice, ids: Tensor, halves: tuple[Tensor, Tensor]) -> None:
        """Raise NotSplittable unless the first instances' logits equal the plain backend's."""
        count = targets.stop - targets.start
        # a known chain runs the same for all targets
        spread = (
            isinstance(self.backend, SubnetworkBackend | TailBackend)
            and self.backend.chain.known
            and count > _TARGETS
        )
        rows = range(0, count, -(-count // _TARGETS) if spread else 1)
        samples = self.plain.samples((targets.start + row for row in rows), ids)
        for row, slow in zip(rows, samples, strict=True):
            fast = torch.cat([half[:, row, : len(ids)] for half in halves], 1).to(slow.dtype)
            bound = (
                _BOUND.get(slow.dtype, _LOW_PRECISION_BOUND)
                if self.plain.dtype is None
                else _LOW_PRECISION_BOUND
            )
            if not torch.allclose(fast, slow, rtol=bound, atol=bound, equal_nan=True):
                raise NotSplittable("the check against the plain backend failed")
