"""What README and docs show must run, parse, and be there."""

from __future__ import annotations

import re
import shlex
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

from turnover.cli import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
"""README and the pages of docs, by place."""
OTHERS = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
}


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def files(text: str) -> dict[str, str]:
    """Blocks that begin with a file's name are files, which the page's other blocks may import."""
    return {
        found[1]: block
        for block in blocks(text, "python")
        if (found := re.match(r"# (\w+\.py)\n", block))
    }


def lines_of(language: str) -> list[tuple[str, str]]:
    """All blocks in one language that are no files, by the page's place."""
    return [
        (place, block)
        for place, text in PAGES.items()
        for block in blocks(text, language)
        if block not in files(text).values()
    ]


BEFORE_A_LOOP = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
inputs, labels = torch.randn(40, 4), torch.randint(3, (40,))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
"""
SHELL = [
    (place, line)
    for place, block in lines_of("sh")
    for line in block.replace("\\\n", " ").splitlines()
]
COMMAND_LINES = sorted(
    {
        found[1]
        for _, line in SHELL
        if (
            found := re.search(
                r"^(?:\w+=\S+ |.*torchrun .*-m -- )?turnover (.+?)(?:\s+#.*)?$", line
            )
        )
    }
)
INLINE = sorted(
    {
        (place, code)
        for place, text in (PAGES | OTHERS).items()
        for code in re.findall(r"`turnover ([^`]+)`", text)
    }
)


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the block's page shows."""
    for name, content in files(PAGES[request.getfixturevalue("place")]).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("place", "code"), lines_of("python"))
def test_snippets_run(
    place: str, code: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(code, place, "exec"), {"__name__": "snippet"})
    assert "influence" in capsys.readouterr().out.lower()


def test_a_diff_leads_from_code_that_runs_to_code_that_runs() -> None:
    diffs = dict.fromkeys(block for _, block in lines_of("diff"))
    for diff in diffs:
        for left_out in "+-":
            lines = [line[1:] for line in diff.splitlines() if not line.startswith(left_out)]
            exec(compile("\n".join((BEFORE_A_LOOP, *lines)), "README.md", "exec"), {})
    assert diffs and all("turnover.turnover(" in diff for diff in diffs)


@pytest.fixture(scope="module")
def parser() -> ArgumentParser:
    return build_parser()


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_commands_are_understood(line: str, parser: ArgumentParser) -> None:
    words = shlex.split(line)
    assert parser.parse_args(words).command == words[0]


def test_every_command_is_shown() -> None:
    hidden = {"worker", "job"}  # the dashboard starts these
    assert {line.split()[0] for line in COMMAND_LINES} == {*COMMANDS} - hidden


@pytest.mark.parametrize(("place", "code"), INLINE)
def test_commands_in_a_sentence_have_their_options(
    place: str, code: str, parser: ArgumentParser
) -> None:
    """They may leave out what is required, and name a value by a word in capitals."""
    name, *words = code.split()
    if name == "X":
        return
    assert name in COMMANDS, place
    (choices,) = (action.choices for action in parser._actions if isinstance(action.choices, dict))
    choices[name].fill()
    known = {option for action in choices[name]._actions for option in action.option_strings}
    assert {word.strip("[]") for word in words if word.startswith(("-", "[-"))} <= known, place


@pytest.mark.parametrize("place", PAGES | OTHERS)
def test_links_and_pictures_are_there(place: str) -> None:
    text = (PAGES | OTHERS)[place]
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [
        link
        for link in links
        if "://" not in link and link and not (ROOT / place).parent.joinpath(link).exists()
    ]
    assert not missing
    pictures = [ROOT / place / ".." / link for link in links if link.endswith(".png")]
    assert all(picture.resolve().stat().st_size < 200_000 for picture in pictures)


def test_every_page_can_be_reached_from_readme() -> None:
    readme = PAGES["README.md"]
    pages = [
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs").glob("notebooks/*.ipynb"),
        ROOT / "SECURITY.md",
    ]
    assert [str(page) for page in pages if f"({page.relative_to(ROOT)})" not in readme] == []


def test_readme_is_two_screens() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 160


@pytest.mark.parametrize("place", PAGES | OTHERS)
def test_lines_are_short(place: str) -> None:
    long = [
        line
        for line in (PAGES | OTHERS)[place].splitlines()
        if len(line) > 120 and not line.startswith(("|", "!["))
    ]
    assert not long
