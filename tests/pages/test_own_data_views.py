"""Data of one's own for a new run, as pure functions: what is wrong at sight, and the options
that say the same.
"""

from __future__ import annotations

import io
import re
import shlex
import stat
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.helpers.fake_runs import FakeRun
from turnover.cli import build_parser
from turnover.cli.train import own_data
from turnover.dashboard.runs import uploads
from turnover.dashboard.runs.details import build_details
from turnover.dashboard.runs.train_model_view import SUITS, titles_of
from turnover.dashboard.runs.train_view import (
    TrainingRequest,
    arguments,
    build_report,
    free_name,
    problem_of,
    steps,
    usual_values,
)
from turnover.dashboard.runs.uploads import find_uploads, keep_upload
from turnover.dashboard.shared.own_data_view import clean, own_name, own_problem
from turnover.dashboard.shared.tray_view import apply_command
from turnover.data.tables import FILES, OwnData
from turnover.errors import TurnoverError
from turnover.runs.run import Run, find_runs


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table; what is in it does not matter here."""
    (tmp_path / "my table.csv").write_text("text,label\n")
    return tmp_path / "my table.csv"


def test_every_wish_is_what_the_command_line_understands(table: Path, tmp_path: Path) -> None:
    own = OwnData(
        str(table), str(tmp_path), None, "a b", None, "--label", "id", None, None, str(table), 64
    )
    for data, wish in (
        (FILES, replace(own, label_column="l")),
        ("hub:a/b", OwnData(train_split="s", validation_split="v", size=9)),
    ):
        asked = arguments(
            TrainingRequest(data, "", "x", own=wish, options={"members": 3}), tmp_path
        )
        parsed = build_parser().parse_args(asked)
        assert own_data(parsed) == (data, wish) and parsed.members == 3 and parsed.model is None
    asked = arguments(TrainingRequest(FILES, "vgg19", "x", own=OwnData(str(table))), tmp_path)
    assert asked[:5] == ["train", "--train", str(table), "--model", "vgg19"]
    assert (
        "--most"
        in steps(TrainingRequest(FILES, "vgg19", "x", own=OwnData(str(table))), tmp_path)[1]
    )


def test_paths_are_whole_and_blank_fields_are_none(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    monkeypatch.setenv("HOME", str(table.parent))
    assert clean(OwnData(" my table.csv ", "~/v.csv", "", " ", size=8)) == OwnData(
        str(table), str(table.parent / "v.csv"), size=8
    )


@pytest.mark.parametrize(
    ("data", "wish", "problem"),
    [
        (FILES, {}, "Name the file or folder with the training items."),
        ("hub:", {}, "Name the data set as on the hub"),
        ("hub:a b", {}, "write hub:NAME"),
        (FILES, {"train": "/nowhere/<b>"}, "/nowhere/<b>: no such file or folder; check the path."),
        (FILES, {"train": "TABLE", "validation": "/nowhere"}, "/nowhere: no such file or folder"),
        (
            FILES,
            {"train": "~nobody-here/x.csv"},
            "~nobody-here/x.csv: nobody here has this home folder",
        ),
        (
            FILES,
            {"train": "TABLE", "classes": "x" * 5000},
            "cannot be looked at (File name too long)",
        ),
        (
            FILES,
            {"train": "TABLE", "test": "OTHER"},
            "other.txt: neither a folder nor a file that ends with .csv, .tsv, .jsonl, .parquet",
        ),
        (
            FILES,
            {"train": "TABLE", "text_column": "a", "image_column": "b"},
            "a model reads one of the two",
        ),
        (FILES, {"train": "TABLE", "classes": "OTHER"}, ""),
        ("hub:a/b:c", {}, ""),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_read(
    table: Path, data: str, wish: dict[str, str], problem: str
) -> None:
    (table.parent / "other.txt").write_text("x")
    places = {"TABLE": str(table), "OTHER": str(table.parent / "other.txt")}
    own = OwnData(**{name: places.get(value, value) for name, value in wish.items()})  # type: ignore[arg-type]
    own = clean(own)
    found = own_problem(data, own)
    assert problem in found and bool(found) is bool(problem)
    assert problem_of(TrainingRequest(data, "", "x", own=own), table.parent / "runs") == found


@pytest.mark.parametrize(
    ("data", "train", "name"),
    [
        (FILES, "/a/My Table!.csv", "My-Table"),
        (FILES, "/a/шум.csv", "own"),
        (FILES, "", "own"),
        ("hub:a/b:c", None, "a-b-c"),
        (FILES, "x" * 99, "x" * 40),
    ],
)
def test_a_run_is_called_after_its_data_by_a_name_that_passes(
    data: str, train: str | None, name: str, tmp_path: Path
) -> None:
    own = OwnData(train)
    assert own_name(data, own) == name and free_name(data, tmp_path, own) == f"{name}-1"
    assert "A run's name" not in problem_of(
        TrainingRequest(data, "", f"{name}-1", own=own), tmp_path
    )


def test_own_data_may_be_texts_or_images_so_all_models_are_there() -> None:
    assert list(titles_of("")) == [
        *(SUITS, "heads", "small-vgg", "adapters"),
        *("a trained classifier of transformers", "masked-encoder"),
        *("perceptron of the MNIST benchmark", "torchvision network", "vgg19"),
    ]
    assert usual_values(FILES, "", {})["members"] == "16, images 8"
    assert (
        usual_values(FILES, "small-vgg", {})["members"],
        usual_values(FILES, "vgg19", {})["members"],
        usual_values("digits", "heads", {})["members"],
    ) == ("8", "1", "8")


def test_the_report_of_a_check_has_the_data_s_lines() -> None:
    told = {
        "data": "d",
        "train_size": 2,
        "validation_size": 1,
        "kind": "text",
        "injected_labels": 0,
        "model": "heads",
        "members": 2,
        "epochs": 3,
        "resumes": False,
    }
    made = build_report(
        {
            **told,
            "data_report": ["one <b>", "two"],
            "classes": [{"name": "a", "train": 2, "validation": 1}],
        }
    )
    assert made.lines == ("one <b>", "two") and made.sentence.startswith(
        "d: 2 training and 1 validation texts in 1 classes."
    )


def run_on(own: OwnData, folder: Path, **facts: object) -> Run:
    return Run(
        FakeRun(
            facts={"settings": {"data": "files", "own": asdict(own), "members": 2}, **facts}
        ).write(folder)
    )


def test_flags_are_applied_to_what_the_run_remembers(table: Path, tmp_path: Path) -> None:
    told = {"name": "own", "source": "s", "origin": {"path": str(table.with_suffix(".tsv"))}}
    run = run_on(OwnData(str(table)), tmp_path, data=told)
    command, missing = apply_command(run)
    parsed = build_parser().parse_args(shlex.split(command)[1:])
    assert (parsed.run, parsed.data, parsed.out, missing) == (
        str(run.folder),
        None,
        "cleansed.tsv",
        "",
    )


def test_details_tell_files_and_columns_with_the_settings_and_what_the_check_found(
    table: Path, tmp_path: Path
) -> None:
    details = build_details(
        run_on(OwnData(str(table), label_column="l"), tmp_path, data_report=["2 texts <b>"])
    )
    assert dict(details.groups)["Settings"] == (
        ("data", "files"),
        ("label_column", "l"),
        ("members", "2"),
        ("train", str(table)),
    )
    assert details.data_report == ("2 texts <b>",)


# Uploads


def packed(*files: tuple[str, bytes], link: str = "") -> bytes:
    """A zip file."""
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
        if link:
            entry = zipfile.ZipInfo(link)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc/passwd")
    return file.getvalue()


def test_an_upload_is_kept_once_under_a_plain_name(tmp_path: Path) -> None:
    kept = keep_upload(tmp_path, "../a b/../-my <films>.CSV", b"text,label")
    assert kept.read_bytes() == b"text,label" and kept.name == "my-films-.CSV"
    assert kept.parents[2] == tmp_path and find_runs(tmp_path) == []
    assert keep_upload(tmp_path, "../a b/../-my <films>.CSV", b"text,label") == kept
    other = keep_upload(tmp_path, "my-films-.CSV", b"other")
    assert set(find_uploads(tmp_path)) == {kept, other}


def test_a_zip_of_folders_is_unpacked_without_links_or_ways_out(tmp_path: Path) -> None:
    files = [(f"pictures/{name}/1.png", b"x") for name in ("cat", "dog")]
    content = packed(*files, ("__MACOSX/cat/._1.png", b"x"), link="pictures/cat/link.png")
    kept = keep_upload(tmp_path / "runs", "pictures.zip", content)
    assert sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*.*")) == [
        "cat/1.png",
        "dog/1.png",
    ]
    odd = keep_upload(tmp_path / "runs", "odd.zip", packed(("../../../out.png", b"x")))
    assert [path.name for path in tmp_path.rglob("out.png")] == ["out.png"]
    assert [path.name for path in odd.iterdir()] == ["out.png"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.txt", b"x", "notes.txt: upload a file that ends with .csv"),
        ("", b"x", "data: upload a file that ends with .csv"),
        ("torn.zip", packed(("a", b"x"))[:20], "torn.zip: cannot be unpacked"),
        ("bomb.zip", packed(("a", bytes(2**20))), "bomb.zip: 1 files of 1 MB are too many"),
    ],
    ids=["another ending", "no name", "torn", "too large"],
)
def test_an_upload_that_cannot_be_used_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, words: str
) -> None:
    monkeypatch.setattr(uploads, "_UNPACKED", 2**20 - 1)
    with pytest.raises(TurnoverError, match=re.escape(words)):
        keep_upload(tmp_path, name, content)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert find_uploads(tmp_path) == []
