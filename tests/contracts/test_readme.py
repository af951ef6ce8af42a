"""What README shows must run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from turnover.cli import build_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^turnover (.+?)(?:\s+#.*)?$", README, re.MULTILINE)


BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
FILES = {block.split()[1]: block for block in BLOCKS if block.startswith("# ")}
"""Blocks that begin with a file's name are files, which the others may import."""
DIFFS = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
BEFORE_A_LOOP = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
inputs, labels = torch.randn(40, 4), torch.randint(3, (40,))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that README shows."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", [block for block in BLOCKS if block not in FILES.values()])
def test_snippets_run(code: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "README.md", "exec"), {})
    assert "influence" in capsys.readouterr().out


def test_a_diff_leads_from_code_that_runs_to_code_that_runs() -> None:
    for diff in DIFFS:
        for left_out in "+-":
            lines = [line[1:] for line in diff.splitlines() if not line.startswith(left_out)]
            exec(compile("\n".join((BEFORE_A_LOOP, *lines)), "README.md", "exec"), {})
    assert all("turnover.turnover(" in diff for diff in DIFFS)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    words = re.findall(r'"[^"]*"|\S+', command)
    assert build_parser().parse_args([word.strip('"') for word in words]).command == words[0]


def test_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\((assets/[^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).stat().st_size < 200_000 for picture in pictures)
