"""Data of one's own on the Train page, as pure functions: what is wrong at sight, and the options
that say the same.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.helpers.fake_runs import FakeRun
from turnover.cli import build_parser
from turnover.cli.train import own_data
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
from turnover.dashboard.shared.own_data_view import clean, own_name, own_problem
from turnover.dashboard.shared.runs_view import build_about
from turnover.dashboard.shared.tray_view import apply_command
from turnover.data.tables import FILES, OwnData
from turnover.runs.run import Run


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
        *(SUITS, "heads", "small-vgg", "adapters", "masked-encoder", "torchvision network"),
        "vgg19",
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


def test_about_tells_files_and_columns_with_the_settings_and_what_the_check_found(
    table: Path, tmp_path: Path
) -> None:
    about = build_about(
        run_on(OwnData(str(table), label_column="l"), tmp_path, data_report=["2 texts <b>"])
    )
    assert dict(about.groups)["Settings"] == (
        ("data", "files"),
        ("label_column", "l"),
        ("members", "2"),
        ("train", str(table)),
    )
    assert about.data_report == ("2 texts <b>",)
