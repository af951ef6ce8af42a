"""What goes wrong where things are kept: disks that refuse, works at the same time, damage."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.builders import ROOT, member_heads, randn, some_labels
from turnover import TurnoverError
from turnover.flags.flag_file import text_hash
from turnover.training.fit import Recipe, Split

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
READ_ONLY = OSError(errno.EROFS, os.strerror(errno.EROFS))
_WRITES = ((Path, "write_text"), (Path, "write_bytes"), (Path, "mkdir"), (Path, "replace"))
_WRITES += ((Path, "rename"), (os, "fsync"))  # type: ignore[assignment]

_HOLD = """
import sys
from pathlib import Path
from turnover.storage.lock import alone
with alone(Path(sys.argv[1]), 'at work'):
    print('held', flush=True)
    sys.stdin.read()
"""


@contextmanager
def failing_writes(calls: int, error: BaseException) -> Iterator[None]:
    """From the calls-th time on that something is written, renamed or made, the system refuses."""
    with pytest.MonkeyPatch.context() as patch:
        count = [0]

        def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
            def function(*arguments: Any, **options: Any) -> Any:
                count[0] += 1
                if count[0] >= calls:
                    raise error
                return real(*arguments, **options)

            return function

        for owner, name in _WRITES:
            patch.setattr(owner, name, refusing(getattr(owner, name)))
        yield


def together(*works: Callable[[], object]) -> list[TurnoverError]:
    """Do some works at the same time; what refused them. Whatever else goes wrong is raised."""
    start, refused = threading.Barrier(len(works)), list[TurnoverError]()
    wrong = list[Exception]()

    def do(work: Callable[[], object]) -> None:
        start.wait()
        try:
            work()
        except TurnoverError as error:
            refused.append(error)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=do, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]
    return refused


@contextmanager
def held_elsewhere(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock."""
    command = [sys.executable, "-c", _HOLD, str(lock)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def edit(path: Path) -> None:
    """Change one bit in the middle of a file; the size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def small_splits() -> tuple[Split, Split, Split]:
    """Items to train small heads on, to stop by and to measure on."""
    one, two, three = (
        Split(randn(rows, 8, seed=rows).float(), some_labels(rows, 3, seed=rows))
        for rows in (30, 12, 40)
    )
    return one, two, three


def small_heads(seed: int = 0, members: int = 1) -> Any:
    """Heads for `small_splits`."""
    return member_heads(groups=4, members=members, seed=seed).float()


PLAIN_RECIPE = Recipe(epochs=3, batch=8, learning_rate=1e-2, masked=False)


def flag_line(
    id: str, text: str, label: str, action: str, new_label: str = "", **other: str
) -> dict[str, Any]:
    """A decision as a flag file says it."""
    said = {"id": id, "sha256": text_hash(text), "label": label, "action": action}
    said |= {"new_label": new_label, "note": "", "by": "ann", "at": "2026-11-01"}
    return {**said, **other}


def write_flag_file(
    path: Path,
    lines: Sequence[dict[str, Any]],
    classes: Sequence[str] = ("negative", "positive"),
    shape: Sequence[int] = (),
) -> Path:
    """A flag file file of some decisions."""
    header = {"turnover_patch": 1, "fingerprint": "f", "run": "r", "kind": "text"}
    header |= {"classes": list(classes), "shape": list(shape), "count": len(lines)}
    path.write_text("".join(f"{json.dumps(line)}\n" for line in (header, *lines)), encoding="utf-8")
    return path
