"""The engine's tests use small networks, which would never reach the backend of large ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from turnover.attribution.engine.subnetworks import Chain

MANY = 16


@pytest.fixture(autouse=True, scope="module")
def many_targets_take_sub_networks() -> Iterator[None]:
    """As they do in networks with large layers."""
    with pytest.MonkeyPatch.context() as patch:

        def many(chain: Chain, features: object, targets: int) -> bool:
            return targets >= MANY

        patch.setattr("turnover.attribution.engine.favours_subnetworks", many)
        yield
