"""Numbers in words."""

from __future__ import annotations

import pytest

from core.wording import counted


@pytest.mark.parametrize(("count", "said"), [(0, "0 members"), (1, "1 member"), (2, "2 members"), (12_345, "12,345 members")])
def test_one_is_singular_and_thousands_are_parted(count: int, said: str) -> None:
    assert counted(count, "member") == said
