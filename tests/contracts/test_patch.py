"""A patch file: what it says of a run's flags, read with care, merged into a copy of the run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import Run, TurnoverError
from core.cli import main
from core.data.images import png_pixels
from core.flags import MAX_NOTE, Flags
from core.patch.content import item_hash, pixel_hash, text_hash
from core.patch.form import MAX_BYTES, export_patch, read_patch
from core.patch.merge import merge_patch
from tests.helpers.builders import run_python
from tests.helpers.fake_runs import HOSTILE, FakeRun

NOTES = (*HOSTILE, '=HYPERLINK("http://evil.example")', "\u202eright to left\u202c", "two\nlines\r\n\u2028", '{"turnover_patch": 1}')


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A made-up text run."""
    return Run(FakeRun().write(tmp_path))


def copy_of(run: Run, name: str = "copy") -> Run:
    """The run as a colleague has it, without flags."""
    folder = run.folder.with_name(name)
    shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns("flags*"))
    return Run(folder)


def lines_of(patch: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in patch.splitlines()]


def patch_with(run: Run, **changes: Any) -> bytes:
    """A patch of one flag, its only line changed."""
    Flags(run.folder, by="ann").put(3, "drop")
    header, line = lines_of(export_patch(run))
    return "".join(f"{json.dumps(one)}\n" for one in (header, {**line, **changes})).encode()


def test_a_patch_says_all_of_every_flag(run: Run) -> None:
    flags = Flags(run.folder, by="ann")
    flags.put(3, "relabel", "negative", note="why")
    flags.put(5, "drop")
    flags.put(7, "keep")
    flags.clear(7)
    header, first, second = lines_of(export_patch(run))
    assert header["turnover_patch"] == 1 and (header["run"], header["kind"], header["classes"], header["count"]) == ("fake", "text", run.classes, 2)
    item = run.item("train", 3)
    assert (first["id"], first["sha256"], first["label"]) == (item["id"], text_hash(item["text"]), "positive")
    assert (first["action"], first["new_label"], first["note"], first["by"], first["at"]) == ("relabel", "negative", "why", "ann", flags.current()[3].at)
    assert (second["action"], second["new_label"]) == ("drop", "")


def test_images_are_known_by_shape_and_pixels(tmp_path: Path) -> None:
    run = Run(FakeRun(kind="image").write(tmp_path))
    Flags(run.folder).put(2, "drop")
    header, line = lines_of(export_patch(run))
    pixels = png_pixels(run.item("train", 2)["image"])
    assert header["shape"] == [8, 8] and line["sha256"] == pixel_hash(pixels) != pixel_hash(pixels.reshape(4, 16))


def test_what_is_written_is_read_again_whatever_the_notes_say(run: Run) -> None:
    flags = Flags(run.folder, by="<b>ann</b>")
    for instance, note in enumerate(NOTES):
        flags.put(instance, "drop", note=note)
    patch = export_patch(run)
    assert patch.isascii() and patch.count("\n") == len(NOTES) + 1
    read = read_patch(patch.encode(), "patch")
    assert read.refused == () and [replace(line.flag, instance=instance) for instance, line in enumerate(read.lines)] == list(flags.current().values())


def test_a_flag_on_an_item_that_is_not_there_is_left_out(run: Run) -> None:
    Flags(run.folder).put(1000, "drop")
    assert len(lines_of(export_patch(run))) == 1


# Merging


def test_a_colleague_s_flags_come_with_name_and_time_and_twice_is_once(run: Run) -> None:
    colleague = copy_of(run)
    for instance, action in ((1, "drop"), (2, "keep"), (3, "drop")):
        Flags(colleague.folder, by="bob").put(instance, action, note=f"note {instance}")
    Flags(run.folder, by="ann").put(2, "drop")
    patch = read_patch(export_patch(colleague).encode(), "patch")
    mine = Flags(run.folder, by="ann")
    assert merge_patch(run, mine, patch) == {"new": 3, "conflicting": 1, "known": 0, "refused": []}
    assert mine.current()[1] == Flags(colleague.folder).current()[1] and mine.current()[2].by == "ann"
    state, history = mine.current(), mine.history(2)
    assert merge_patch(run, mine, patch) == {"new": 0, "conflicting": 0, "known": 3, "refused": []}
    assert (mine.current(), mine.history(2)) == (state, history)
    mine.settle(2, "keep")
    back = read_patch(export_patch(run).encode(), "patch")
    assert merge_patch(colleague, Flags(colleague.folder, by="bob"), back)["known"] == 2
    assert Flags(colleague.folder).conflicts() == []


def test_a_patch_of_other_data_is_refused_whole(run: Run, tmp_path: Path) -> None:
    other = Run(FakeRun("other", train=31).write(tmp_path))
    Flags(other.folder).put(1, "drop")
    with pytest.raises(TurnoverError, match="made on other data than fake"):
        merge_patch(run, Flags(run.folder), read_patch(export_patch(other).encode(), "patch"))
    assert Flags(run.folder).current() == {}


def test_a_run_of_other_settings_on_the_same_data_takes_it(tmp_path: Path) -> None:
    facts = {"data": {"name": "fake", "source": "made-up items", "fingerprint": "f" * 64}}
    one, two = (Run(FakeRun(name, members=members, facts=facts).write(tmp_path)) for name, members in (("one", 4), ("two", 1)))
    Flags(one.folder, by="bob").put(1, "drop")
    assert merge_patch(two, Flags(two.folder), read_patch(export_patch(one).encode(), "patch"))["new"] == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"id": "nobody"}, "no training item has the id 'nobody'"),
        ({"id": 3}, "not a decision"),
        ({"sha256": "x" * 64}, "sha256 is not 64"),
        ({"sha256": "0" * 64}, "has another text here"),
        ({"label": "negative"}, "has the label 'positive' here, not 'negative'"),
        ({"action": "burn"}, "unknown action 'burn'"),
        ({"action": "clear"}, "unknown action"),
        ({"action": "relabel"}, "a relabel needs the new label"),
        ({"action": "relabel", "new_label": "mild"}, "'mild' is not one of the classes"),
        ({"action": "relabel", "new_label": "positive"}, "the new label 'positive' is the one it has"),
        ({"by": " \0\n"}, "nobody is named"),
        ({"at": "yesterday"}, "'yesterday' is no time"),
        ({"at": "9999-12-31T23:59:59+00:00"}, "made in the future"),
        ({"note": None}, "not a decision"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused_by_its_number(run: Run, changes: dict[str, Any], why: str) -> None:
    content = patch_with(copy_of(run), **changes)
    told = merge_patch(run, Flags(run.folder), read_patch(content, "patch"))
    assert told["new"] == 0 and [one["line"] for one in told["refused"]] == [2] and why in told["refused"][0]["why"]
    assert Flags(run.folder).current() == {}


@pytest.mark.parametrize("line", [b"nonsense", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"at": ' + b"1" * 5000 + b"}"])
def test_nonsense_between_good_lines_is_refused_alone(run: Run, line: bytes) -> None:
    header, good = patch_with(copy_of(run)).splitlines()
    content = b"\n".join([header.replace(b'"count": 1', b'"count": 2'), b"", line, good])
    told = merge_patch(run, Flags(run.folder), read_patch(content, "patch"))
    assert (told["new"], [one["line"] for one in told["refused"]]) == (1, [3])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a patch"),
        (b"id,text\n1,2\n", "not a patch"),
        (b'{"turnover_patch": 2}', "format 2, this version reads format 1"),
        (b'{"turnover_patch": 1}', "which classes there are"),
        (b'{"turnover_patch": 1, "classes": ["a"], "shape": [8, -8]}', "which classes there are"),
        (b'{"turnover_patch": 1, "classes": ["a"], "shape": [], "count": 3}\n{}\n', "1 decisions where the first line promises 3"),
        (b"x" * (MAX_BYTES + 1), "a patch has at most 20 MB"),
    ],
)
def test_a_file_that_is_no_whole_patch_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(TurnoverError, match=why):
        read_patch(content, "patch")


def test_hostile_notes_and_names_are_cut_on_their_way_in(run: Run) -> None:
    content = patch_with(copy_of(run), note="\0" + "n" * 100_000, by="b" * 5000)
    merge_patch(run, Flags(run.folder), read_patch(content, "patch"))
    flag = Flags(run.folder).current()[3]
    assert flag.note == "n" * MAX_NOTE and flag.by == "b" * 100


def test_times_of_other_zones_are_told_in_utc(run: Run) -> None:
    content = patch_with(copy_of(run), at="2026-11-01T12:00:00+02:00")
    assert read_patch(content, "patch").lines[0].flag.at == "2026-11-01T10:00:00+00:00"


def test_flags_are_exchanged_without_torch(run: Run) -> None:
    code = """
import json, sys
from pathlib import Path
import core.patch.merge, core.patch.form
from core.runs import Run
core.patch.form.export_patch(Run(Path(sys.argv[1])))
print(json.dumps(sorted(set(sys.modules) & {"torch", "transformers", "sklearn", "scipy", "datasets", "streamlit"})))
"""
    assert json.loads(run_python(code, run.folder)) == []


# The commands


def test_export_and_import_by_command(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    colleague = copy_of(run)
    monkeypatch.setenv("TURNOVER_USER", "bob")
    Flags(colleague.folder).put(4, "drop", note="why")
    patch = tmp_path / "patch.jsonl"
    assert main(["export", "--run", str(colleague.folder), "--format", "jsonl", "--out", str(patch)]) == 0
    monkeypatch.setenv("TURNOVER_USER", "ann")
    with patch.open("a") as file:
        file.write("nonsense\n")
    patch.write_text(patch.read_text().replace('"count": 1', '"count": 2'))
    assert main(["import-flags", "--run", str(run.folder), "--patch", str(patch)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2:] == [f"1 flags are new to {run.folder}, 0 of them differ from what others decided; 0 were known", printed[-1]]
    assert printed[-1].startswith("line 3 refused: not a decision")
    assert Flags(run.folder).current()[4].by == "bob"
    last = Flags(run.folder).last()
    assert last and last.kind == "import"


@pytest.mark.parametrize("case", ["no file", "no patch", "no run"])
def test_bad_input_is_one_line_and_code_2(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    (tmp_path / "patch").write_text("nothing")
    folder = tmp_path / "nowhere" if case == "no run" else run.folder
    code = main(["import-flags", "--run", str(folder), "--patch", str(tmp_path / ("none" if case == "no file" else "patch"))])
    printed = capsys.readouterr()
    assert (code, printed.out, printed.err.count("\n")) == (2, "", 1)


def test_the_hash_of_an_item_is_that_of_its_text(run: Run) -> None:
    assert item_hash(run, 3) == text_hash(run.train["text"].loc[3])
    assert text_hash("é") != text_hash("e\u0301")
