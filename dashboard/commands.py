"""Short commands of the engine, asked for an answer while the user waits; long ones are jobs (`turnover.jobs`)."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from turnover.errors import TurnoverError

SECONDS = 60.0


class TookTooLong(TurnoverError):
    """A command that did not answer in time; nothing is known to be wrong."""


def answer_of(arguments: Sequence[str], seconds: float | None = None) -> dict[str, Any]:
    """What `turnover …` prints with --json, within `seconds`, else `SECONDS`.

    Raises:
        TookTooLong: if it does not answer in time.
        TurnoverError: if it says what is wrong.
    """
    seconds = SECONDS if seconds is None else seconds
    command = [sys.executable, "-m", "turnover", *arguments, "--json"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise TookTooLong(f"no answer within {seconds:.0f} s; give the command in a terminal: `turnover {shlex.join(arguments)}`") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise TurnoverError(lines[-1].removeprefix(f"turnover {arguments[0]}: ") if lines else f"{arguments[0]} ended with code {done.returncode}")
    return dict(json.loads(done.stdout))
