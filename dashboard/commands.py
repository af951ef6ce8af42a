"""Short commands of the engine, asked for an answer while the user waits; long ones are jobs (`core.jobs`)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import TurnoverError

ROOT = Path(__file__).parents[1]
SECONDS = 60.0


def answer_of(arguments: Sequence[str], seconds: float = SECONDS) -> dict[str, Any]:
    """What `python -m core …` prints with --json.

    Raises:
        TurnoverError: if it says what is wrong, or does not answer in time.
    """
    command = [sys.executable, "-m", "core", *arguments, "--json"]
    try:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise TurnoverError(f"no answer within {seconds:.0f} s; give the command in a terminal: python -m core {' '.join(arguments)}") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise TurnoverError(lines[-1].removeprefix(f"python -m core {arguments[0]}: ") if lines else f"{arguments[0]} ended with code {done.returncode}")
    return dict(json.loads(done.stdout))
