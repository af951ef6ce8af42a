"""A flag file: what it says of a run's flags, read with care, merged into a copy of the run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_runs import HOSTILE, FakeRun
from turnover import Run, TurnoverError
from turnover.cli import main
from turnover.data.images import png_pixels
from turnover.flags import MAX_NOTE, Flags
from turnover.flags.flag_file import (
    MAX_BYTES,
    export_flag_file,
    item_hash,
    merge_flag_file,
    pixel_hash,
    read_flag_file,
    text_hash,
)

NOTES = (*HOSTILE, '=HYPERLINK("http://evil.example")', "\u202eright to left\u202c")
NOTES += ("two\nlines\r\n\u2028", '{"turnover_patch": 1}')


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A made-up text run."""
    return Run(FakeRun().write(tmp_path))


@pytest.fixture
def colleague(run: Run) -> Run:
    """The run as a colleague has it, without flags."""
    folder = run.folder.with_name("copy")
    shutil.copytree(run.folder, folder)
    return Run(folder)


def lines_of(patch: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in patch.splitlines()]


def patch_with(run: Run, **changes: Any) -> bytes:
    """A flag file of one flag, its only line changed."""
    Flags(run.folder, by="ann").put(3, "drop")
    header, line = lines_of(export_flag_file(run))
    return "".join(f"{json.dumps(one)}\n" for one in (header, {**line, **changes})).encode()


def merged(run: Run, content: bytes | str) -> dict[str, Any]:
    """What merging a flag file says."""
    content = content.encode() if isinstance(content, str) else content
    return merge_flag_file(run, Flags(run.folder, by="ann"), read_flag_file(content, "patch"))


def test_a_patch_says_all_of_every_flag_on_an_item_that_is_there(run: Run) -> None:
    flags = Flags(run.folder, by="ann")
    flags.put(3, "relabel", "negative", note="why")
    flags.put_many([5, 1000], "drop")
    flags.put(7, "keep")
    flags.clear(7)
    header, first, second = lines_of(export_flag_file(run))
    told = {"run": "fake", "kind": "text", "classes": run.classes, "count": 2}
    assert header["turnover_patch"] == 1 and told.items() <= header.items()
    item, at = run.item("train", 3), flags.current()[3].at
    told = {"id": item["id"], "sha256": text_hash(item["text"]), "label": "positive"}
    told |= {"action": "relabel", "new_label": "negative", "note": "why", "by": "ann", "at": at}
    assert told.items() <= first.items() and first["sha256"] == item_hash(run, 3)
    assert (second["action"], second["new_label"]) == ("drop", "")
    assert text_hash("é") != text_hash("e\u0301")


def test_images_are_known_by_shape_and_pixels(tmp_path: Path) -> None:
    run = Run(FakeRun(kind="image").write(tmp_path))
    Flags(run.folder).put(2, "drop")
    header, line = lines_of(export_flag_file(run))
    pixels = png_pixels(run.item("train", 2)["image"])
    assert header["shape"] == [8, 8]
    assert line["sha256"] == pixel_hash(pixels) != pixel_hash(pixels.reshape(4, 16))


def test_what_is_written_is_read_again_whatever_the_notes_say(run: Run) -> None:
    flags = Flags(run.folder, by="<b>ann</b>")
    for instance, note in enumerate(NOTES):
        flags.put(instance, "drop", note=note)
    patch = export_flag_file(run)
    assert patch.isascii() and patch.count("\n") == len(NOTES) + 1
    read = read_flag_file(patch.encode(), "patch")
    found = [replace(line.flag, instance=instance) for instance, line in enumerate(read.lines)]
    assert read.refused == () and found == list(flags.current().values())


# Merging


def test_a_colleague_s_flags_come_with_name_and_time_and_twice_is_once(
    run: Run, colleague: Run
) -> None:
    theirs, mine = Flags(colleague.folder, by="bob"), Flags(run.folder, by="ann")
    for instance, action in ((1, "drop"), (2, "keep"), (3, "drop")):
        theirs.put(instance, action, note=f"note {instance}")
    mine.put(2, "drop")
    patch = export_flag_file(colleague)
    assert merged(run, patch) == {"new": 3, "conflicting": 1, "known": 0, "refused": []}
    assert mine.current()[1] == theirs.current()[1] and mine.current()[2].by == "ann"
    state, history = mine.current(), mine.history(2)
    assert merged(run, patch) == {"new": 0, "conflicting": 0, "known": 3, "refused": []}
    assert (mine.current(), mine.history(2)) == (state, history)
    mine.settle(2, "keep")
    back = read_flag_file(export_flag_file(run).encode(), "patch")
    assert (
        merge_flag_file(colleague, theirs, back)["known"] == 2 and theirs.overview().conflicts == []
    )


def test_a_patch_of_other_data_is_refused_whole_but_other_settings_take_it(tmp_path: Path) -> None:
    data = {"name": "fake", "source": "made-up items", "fingerprint": "f" * 64}
    one, two = (
        Run(FakeRun(name, members=members, facts={"data": data}).write(tmp_path))
        for name, members in (("one", 4), ("two", 1))
    )
    Flags(one.folder, by="bob").put(1, "drop")
    assert merged(two, export_flag_file(one))["new"] == 1
    other = Run(FakeRun("other", train=31).write(tmp_path))
    with pytest.raises(TurnoverError, match="made on other data than other"):
        merged(other, export_flag_file(one))
    assert Flags(other.folder).current() == {}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"id": "nobody"}, "no training item has the id 'nobody'"),
    ({"id": 3}, "not a decision"),
    ({"note": None}, "not a decision"),
    ({"sha256": "x" * 64}, "sha256 is not 64"),
    ({"sha256": "0" * 64}, "has another text here"),
    ({"label": "negative"}, "has the label 'positive' here, not 'negative'"),
    ({"action": "burn"}, "unknown action 'burn'"),
    ({"action": "clear"}, "unknown action"),
    ({"action": "relabel"}, "a relabel needs the new label"),
    ({"action": "relabel", "new_label": "mild"}, "'mild' is not one of the classes"),
    ({"action": "relabel", "new_label": "positive"}, "'positive' is the one it has"),
    ({"by": " \0\n"}, "nobody is named"),
    ({"at": "yesterday"}, "'yesterday' is no time"),
    ({"at": "9999-12-31T23:59:59+00:00"}, "made in the future"),
]


def test_a_line_that_cannot_be_used_is_refused_by_its_number(run: Run, colleague: Run) -> None:
    for changes, why in REFUSED:
        told = merged(run, patch_with(colleague, **changes))
        assert told["new"] == 0 and [one["line"] for one in told["refused"]] == [2], changes
        assert why in told["refused"][0]["why"]
    assert Flags(run.folder).current() == {}


NONSENSE = [b"nonsense", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"at": ' + b"1" * 5000 + b"}"]


@pytest.mark.parametrize("line", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_between_good_lines_is_refused_alone(
    run: Run, colleague: Run, line: bytes
) -> None:
    header, good = patch_with(colleague).splitlines()
    content = [header.replace(b'"count": 1', b'"count": 2'), b"", line, good]
    told = merged(run, b"\n".join(content))
    assert (told["new"], [one["line"] for one in told["refused"]]) == (1, [3])


HEAD = b'{"turnover_patch": 1, "classes": ["a"], '
NO_PATCH = [
    (b"", "not a flag file"),
    (b"id,text\n1,2\n", "not a flag file"),
    (b'{"turnover_patch": 2}', "format 2, this version reads format 1"),
    (b'{"turnover_patch": 1}', "which classes there are"),
    (HEAD + b'"shape": [8, -8]}', "which classes there are"),
    (HEAD + b'"shape": [], "count": 3}\n{}\n', "1 decisions where the first line promises 3"),
    (b"x" * (MAX_BYTES + 1), "a flag file has at most 20 MB"),
]


def test_a_file_that_is_no_whole_patch_is_refused() -> None:
    for content, why in NO_PATCH:
        with pytest.raises(TurnoverError, match=why):
            read_flag_file(content, "patch")


def test_notes_and_names_are_cut_and_times_told_in_utc(run: Run, colleague: Run) -> None:
    at = "2026-11-01T12:00:00+02:00"
    merged(run, patch_with(colleague, note="\0" + "n" * 100_000, by="b" * 5000, at=at))
    flag = Flags(run.folder).current()[3]
    assert flag.note == "n" * MAX_NOTE and flag.by == "b" * 100
    assert flag.at == "2026-11-01T10:00:00+00:00"


# The commands


def test_export_and_import_by_command(
    run: Run,
    colleague: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patch, words = tmp_path / "patch.jsonl", ["--run", str(colleague.folder), "--format", "jsonl"]
    monkeypatch.setenv("TURNOVER_USER", "bob")
    Flags(colleague.folder).put(4, "drop", note="why")
    assert main(["export", *words, "--out", str(patch)]) == 0
    monkeypatch.setenv("TURNOVER_USER", "ann")
    patch.write_text(patch.read_text().replace('"count": 1', '"count": 2') + "nonsense\n")
    assert main(["import-flags", "--run", str(run.folder), "--flags", str(patch)]) == 0
    first, second = capsys.readouterr().out.splitlines()[-2:]
    told = "0 of them differ from what others decided; 0 were known"
    assert first == f"1 flags are new to {run.folder}, {told}"
    assert second.startswith("line 3 refused: not a decision")
    assert Flags(run.folder).current()[4].by == "bob"
    last = Flags(run.folder).overview().last
    assert last and last.kind == "import"
    (tmp_path / "patch").write_text("nothing")
    bad = [(run.folder, "none"), (run.folder, "patch"), (tmp_path / "nowhere", "patch.jsonl")]
    for folder, name in bad:
        words = ["--run", str(folder), "--flags", str(tmp_path / name)]
        code, printed = main(["import-flags", *words]), capsys.readouterr()
        assert (code, printed.out, printed.err.count("\n")) == (2, "", 1)
