"""Numbers in words, the same on pages and in the terminal."""

from __future__ import annotations


def counted(count: int, what: str) -> str:
    """So many of something that takes an s in the plural: `1 member`, `2,000 members`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
