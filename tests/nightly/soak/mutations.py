"""Files as nobody should write them: bytes, JSON and tables, changed at random in ways that break
readers.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import numpy as np
import pandas as pd

_TOKENS = (
    b'"',
    b"'",
    b",",
    b"\t",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"{",
    b"[[",
    b"]",
    b"=1+1",
    b"../",
    b"9" * 400,
    b"nan",
    b"\x1f\x8b",
)
_DEEP = "[" * 3000 + "]" * 3000
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        -1,
        0,
        1,
        2,
        10**9,
        2**63,
        10**400,
        0.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        "x",
        "full",
        "top",
        "text",
        "image",
        "best",
        "raw",
        "../../etc/passwd",
        "/etc/passwd",
        "a\0b",
        "\ud800",
        "<script>alert(1)</script>",
        "9" * 5000,
    ),
    *([], [None], [[]], [1, 1], [0], [10**9], {}, {"a": None}, {"": {}}, {"__class__": "x"}),
)


def mutated_bytes(chance: random.Random, content: bytes) -> bytes:
    """The content with some bytes changed, cut, doubled or put in."""
    made = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randint(0, len(made))
        end = min(len(made), at + chance.choice((1, 2, 8, 64, 1000)))
        what = chance.randrange(6)
        if what == 0 and at < len(made):
            made[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            made[at:end] = b""
        elif what == 2:
            made[at:at] = made[at:end] * chance.choice((1, 2, 20))
        elif what == 3:
            made[at:end] = bytes(chance.randrange(256) for _ in range(end - at))
        elif what == 4:
            made[at:at] = chance.choice(_TOKENS)
        elif chance.random() < 0.3:
            del made[at:]
    return bytes(made)


def mutated_value(chance: random.Random, value: Any) -> Any:
    """What JSON holds, with some of it replaced, left out, doubled or put elsewhere."""
    made = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        holders = [holder for holder in _holders(made) if len(holder)]
        if not holders:
            return chance.choice(ODD)
        holder = chance.choice(holders)
        key = (
            chance.choice(list(holder))
            if isinstance(holder, dict)
            else chance.randrange(len(holder))
        )
        what = chance.randrange(6)
        if what == 0:
            del holder[key]
        elif what == 1:
            holder[key] = [holder[key]]
        elif what == 2 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif what == 3:
            other = chance.choice(holders)
            holder[key] = copy.deepcopy(
                chance.choice(list(other.values() if isinstance(other, dict) else other))
            )
        else:
            holder[key] = copy.deepcopy(chance.choice(ODD))
    return made


def _holders(value: Any) -> list[Any]:
    """All lists and dicts of a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [
        *([value] if isinstance(value, list | dict) else []),
        *(holder for one in inner for holder in _holders(one)),
    ]


def mutated_json(chance: random.Random, content: bytes) -> bytes:
    """A JSON file, or one with a JSON object a line, with odd values or, sometimes, odd bytes; now
    and then nested too deep.
    """
    if chance.random() < 0.2:
        return mutated_bytes(chance, content)
    if chance.random() < 0.02:
        return _DEEP.encode()
    lines = content.splitlines() if content.count(b"}\n{") else [content]
    place = chance.randrange(len(lines))
    lines[place] = json.dumps(mutated_value(chance, json.loads(lines[place]))).encode()
    return b"\n".join(lines) + b"\n" * chance.randrange(2)


def mutated_table(chance: random.Random, table: pd.DataFrame) -> pd.DataFrame:
    """A table with cells, columns or rows that should not be there."""
    made = table.copy()
    for _ in range(chance.choice((1, 1, 2))):
        name, what = chance.choice(list(made.columns) or ["none"]), chance.randrange(8)
        if not len(made.columns) or what == 0:
            made = made.drop(columns=name, errors="ignore")
        elif what == 1:
            made = made.iloc[chance.randrange(len(made) + 1) :].reset_index(drop=True)
        elif what == 2:
            made = pd.concat([made, made.iloc[:1]], ignore_index=True)
        elif what == 3:
            made = made.sample(frac=1, random_state=chance.randrange(2**31)).reset_index(drop=True)
        elif what == 4:
            made[name] = [chance.choice((-1, 0, 2**40))] * len(made)
        elif what == 5:
            made[name] = made[name].map(str)
        elif len(made):
            cells = made[name].astype(object).tolist()
            cells[chance.randrange(len(cells))] = chance.choice(
                (None, -1, 10**6, float("nan"), float("inf"), "x", b"x", "", "a\0b")
            )
            same = len({type(cell) for cell in cells if cell is not None}) <= 1
            made[name] = cells if same else [str(cell) for cell in cells]
    return made


def mutated_array(chance: random.Random, array: np.ndarray) -> np.ndarray:
    """An array of another shape or kind, or with numbers that should not be there."""
    what = chance.randrange(7)
    if what == 0:
        return array[: len(array) // 2]
    if what == 1:
        return array.reshape(-1)
    if what == 2:
        return array.astype(chance.choice(("int8", "complex64", "bool", "U8", "float64", "int64")))
    if what == 3:
        return array[None]
    made = array.copy()
    if made.size and made.dtype.kind in "fi":
        odd = (np.nan, np.inf, -np.inf, 1e38, 0.0) if made.dtype.kind == "f" else (-1, 10**9, 0)
        made.reshape(-1)[[chance.randrange(made.size) for _ in range(3)]] = chance.choice(odd)
        if chance.random() < 0.2:
            made[:] = chance.choice(odd)
    return made
