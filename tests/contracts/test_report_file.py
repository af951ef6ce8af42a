"""The page of a run's mistakes as a file: in good form, harmless whatever the data hold, bounded, whole or absent; and its command."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

import core.atomic as atomic
from core import Run, TurnoverError
from core.cli import build_parser, main
from core.report.article import CHARACTERS
from core.report.explanation import PREDICTION
from core.report.fragments import safe
from core.report.page import ERRORS, SIDE, write_report
from tests.helpers.builders import names, run_python
from tests.helpers.fake_runs import HOSTILE, FakeRun
from tests.helpers.page_reader import page_of, read_page, sides

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav", "section", "article", "h1", "h2", "h3", "h4", "h5"),
    *("p", "div", "span", "strong", "em", "mark", "b", "i", "ul", "ol", "li", "dl", "dt", "dd", "a", "img", "details", "summary", "svg", "circle", "path"),
}
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A made-up text run with eight errors."""
    return FakeRun().write(tmp_path)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_page_is_one_file_in_good_form(kind: str, tmp_path: Path) -> None:
    page = page_of(FakeRun(kind=kind).write(tmp_path))
    assert page.one("html").attributes["lang"] == "en"
    assert {node.tag for node in page.all()} <= TAGS
    policy = next(node.attributes["content"] for node in page.all("meta") if "http-equiv" in node.attributes)
    assert "default-src 'none'" in policy and "script" not in policy
    for node in page.all():
        assert not [name for name in node.attributes if name.startswith("on") or name in ("srcset", "action", "background")]
        if "src" in node.attributes:
            assert node.attributes["src"].startswith("data:image/png;base64,") and "alt" in node.attributes
    assert not re.search(r"url\(|@import|https?:|//", page.one("style").text)
    known = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    links = [node.attributes["href"] for node in page.all("a")]
    assert len(known) == len(set(known)) and links and {link.removeprefix("#") for link in links} <= set(known)
    levels = [int(node.tag[1]) for node in page.all() if re.fullmatch(r"h\d", node.tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(after <= before + 1 for before, after in pairwise(levels))


def test_hostile_texts_ids_and_names_stay_text(tmp_path: Path) -> None:
    texts = (*HOSTILE, f"{TURNING} \x00 \x1b[31m </style></details><base href=//evil.example> \" ' &amp; &#0;")
    names_of_classes = ("<script>alert(1)</script>", f"\" onload=x '{TURNING}\x00")
    folder = FakeRun("<i>run", texts=texts, classes=names_of_classes, facts={"device": "<img src=x onerror=y>"}).write(tmp_path)
    page = page_of(folder)
    assert {node.tag for node in page.all()} <= TAGS - {"img"}
    assert {name for node in page.all() for name in node.attributes if name.startswith("on")} == set()
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not [character for character in (*TURNING, "\x00", "\x1b") if character in written]
    assert page.one("h1").text == "What taught <i>run its mistakes"
    assert "<script>alert(1)</script>" in page.one("main").text and "<img src=x onerror=y>" in page.one("dl").text


def test_quotes_cannot_leave_an_attribute() -> None:
    assert safe("\"'<>&\u202e\x00") == "&quot;&#x27;&lt;&gt;&amp;\ufffd\ufffd"


def test_long_texts_are_folded_and_cut(tmp_path: Path) -> None:
    page = page_of(FakeRun(texts=["word " * 20_000], classes=("c" * 5000, "d")).write(tmp_path))
    for text in page.all("div", "to-text"):
        (folded,) = text.all("details", "to-more")
        assert len(text.text) < CHARACTERS + 100
        assert len(text.text) - len(folded.text) <= 600
        assert f"{100_000 - CHARACTERS:,} characters more" in folded.text
    assert (tmp_path / "page.html").stat().st_size < 8 * 2 * (1 + 2 * SIDE) * 4 * CHARACTERS


def test_a_large_run_gives_a_page_of_the_usual_size(tmp_path: Path) -> None:
    folder = FakeRun(train=300, validation=240).write(tmp_path)
    made = write_report(Run(folder), tmp_path / "page.html")
    assert (made["misclassified"], made["shown"]) == (80, ERRORS)
    assert made["bytes"] == (tmp_path / "page.html").stat().st_size < 2**20


def test_the_same_run_gives_the_same_page(run: Path, tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_report(Run(run), tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_a_page_that_cannot_be_written_leaves_the_old_one(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    path.write_text("old", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(TurnoverError, match="the disk is full"):
        write_report(Run(run), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["fake", "page.html"]


def test_a_page_is_made_without_torch(run: Path, tmp_path: Path) -> None:
    code = """
import json, sys
from pathlib import Path
from core.report.page import write_report
from core.runs import Run
write_report(Run(Path(sys.argv[1])), Path(sys.argv[2]))
print(json.dumps(sorted(set(sys.modules) & {"torch", "transformers", "sklearn", "scipy", "streamlit"})))
"""
    assert json.loads(run_python(code, run, tmp_path / "page.html")) == []


# The command


def test_the_command_writes_beside_the_run_or_where_it_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made == {"report": str(tmp_path / "fake.html"), "misclassified": 8, "explained": 8, "shown": 8, "bytes": (tmp_path / "fake.html").stat().st_size}
    assert main(["report", str(run), "--output", str(tmp_path / "other.html"), "--errors", "2", "--top", "1"]) == 0
    assert "2 of 8 errors" in capsys.readouterr().out
    page = read_page(tmp_path / "other.html")
    assert [len(side) for article in page.all("article") for side in sides(article, PREDICTION)] == [1] * 4
    assert names(tmp_path) == ["fake", "fake.html", "other.html"]


def test_the_command_s_defaults_are_those_of_the_page() -> None:
    arguments = build_parser().parse_args(["report", "run"])
    assert (arguments.errors, arguments.top) == (ERRORS, SIDE)


@pytest.mark.parametrize("case", ["no run", "no influence", "no folder", "a folder", "no errors"])
def test_bad_input_is_one_line_and_code_2(case: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if case == "no influence":
        shutil.rmtree(run / "influence")
    (tmp_path / "taken").mkdir()
    output = {"no folder": tmp_path / "none" / "page.html", "a folder": tmp_path / "taken"}.get(case, tmp_path / "page.html")
    folder = tmp_path / "nowhere" if case == "no run" else run
    try:
        code = main(["report", str(folder), "--output", str(output), "--errors", "0" if case == "no errors" else "5"])
    except SystemExit as end:
        code = int(str(end.code))
    printed = capsys.readouterr()
    assert (code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert {"no influence": "python -m core influence --run", "no run": "no such run", "no errors": "1 or more"}.get(case, "cannot be written") in printed.err
    assert names(tmp_path) == ["fake", "taken"]
