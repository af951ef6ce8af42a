"""Commands called in this process, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from turnover.cli import main


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run a command: exit code, stdout, stderr."""
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = int(str(end.code))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The JSON object that a command prints."""
    code, out, err = call(capsys, *arguments, "--json")
    assert code == 0, err
    (line,) = out.splitlines()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def lines_said(err: str) -> list[str]:
    """What stands on stderr beside bars of progress."""
    return [
        line for line in err.replace("\r", "\n").split("\n") if line.strip() and "%|" not in line
    ]


def tree(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file below some folders, which tell whether anything was written."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}
