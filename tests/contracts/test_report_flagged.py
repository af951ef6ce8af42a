"""The flags on the page of a run's mistakes: all that was decided, harmless whatever notes say, bounded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core import Run
from core.cli import main
from core.flags import Flags
from core.report.flagged import FLAGS
from core.report.page import report_page
from tests.contracts.test_report_file import TAGS, TURNING
from tests.helpers.fake_runs import HOSTILE, FakeRun
from tests.helpers.page_reader import Node, page_of, read_page

NOTES = (*HOSTILE, '=HYPERLINK("http://evil.example")', f"{TURNING} \x00 \x1b[31m </p></li></ol><script>x</script>", "n" * 100_000)


def flags_of(page: Node) -> list[Node]:
    return page.one("ol", "flags").all("li")


def test_a_run_without_flags_says_nothing_of_them(tmp_path: Path) -> None:
    page = page_of(FakeRun().write(tmp_path))
    assert page.all("ol", "flags") == [] and "flagged" not in page.one("main").text


@pytest.mark.parametrize("kind", ["text", "image"])
def test_every_flag_is_listed_with_its_item_who_when_and_why(tmp_path: Path, kind: str) -> None:
    folder = FakeRun(kind=kind).write(tmp_path)
    Flags(folder, by="bob").put(2, "drop", note="bad")
    Flags(folder, by="ann").put(5, "relabel", "negative")
    Flags(folder, by="ann").put(7, "keep")
    Flags(folder, by="ann").clear(7)
    page = page_of(folder)
    assert f"2 training {kind}s are flagged: 1 to drop, 1 to relabel; by" in page.one("main").text
    newest, oldest = flags_of(page)
    assert "relabel to negative" in newest.text and "t005" in newest.text and "ann, 20" in newest.text and not newest.all("p", "note")
    assert oldest.one("p", "note").text == "bad" and "bob, 20" in oldest.text and oldest.one("span", "to-flag").text == "drop"
    if kind == "text":
        assert Run(folder).item("train", 5)["text"] in newest.text
    else:
        assert newest.one("img").attributes["alt"] == "training image labelled positive"
    assert {node.tag for node in page.all()} <= TAGS


def test_hostile_notes_and_names_stay_text(tmp_path: Path) -> None:
    folder = FakeRun(texts=HOSTILE, classes=("<b>neg</b>", f'" onload=x {TURNING}')).write(tmp_path)
    for instance, note in enumerate(NOTES):
        Flags(folder, by=f"<i>bob</i>{TURNING}").put(instance, "drop", note=note)
    page = page_of(folder)
    assert {node.tag for node in page.all()} <= TAGS - {"img"}
    assert not [name for node in page.all() for name in node.attributes if name.startswith("on")]
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not [character for character in (*TURNING, "\x00", "\x1b") if character in written]
    texts = [item.text for item in flags_of(page)]
    assert len(texts) == len(NOTES) and all(len(text) < 6000 for text in texts) and any('=HYPERLINK("http' in text for text in texts)


def test_thousands_of_flags_give_a_page_of_bounded_size(tmp_path: Path) -> None:
    folder = FakeRun(train=3000).write(tmp_path)
    Flags(folder).put_many(range(3000), "drop", note="n" * 200)
    page = page_of(folder)
    assert len(flags_of(page)) == FLAGS and f"The newest {FLAGS} are shown" in page.one("main").text
    assert (tmp_path / "page.html").stat().st_size < 2**20


def test_export_writes_the_same_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = FakeRun().write(tmp_path)
    Flags(folder).put(2, "drop")
    out = tmp_path / "out.html"
    assert main(["export", "--run", str(folder), "--format", "html", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "flags": 1}
    assert out.read_text(encoding="utf-8") == report_page(Run(folder)) and len(flags_of(read_page(out))) == 1
