"""Progress that nobody watches at a terminal goes into a small file, whole at every moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core import progress
from core.progress import VARIABLE, Progress, bar, read_progress


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


def test_each_stage_takes_the_place_of_the_one_before(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with bar(4, "first", "epochs") as advance:
        assert read_progress(file) == Progress("first", 0, 4, "epochs", None)
        advance(4)
    with bar(2, "second <b>", "texts") as advance:
        assert read_progress(file) == Progress("second <b>", 0, 2, "texts", None)
        advance(1)
        advance(1)
    assert read_progress(file) == Progress("second <b>", 2, 2, "texts", 0.0)
    assert capsys.readouterr().err == ""
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_time_left_goes_by_the_speed_so_far(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with bar(10, "stage", "items") as advance:
        now[0] = 106.0
        advance(3)
        found = read_progress(file)
        assert found == Progress("stage", 3, 10, "items", 14.0) and found.share == 0.3


def test_it_is_written_a_few_times_a_second_only(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (written.append(now[0]), real(self, to))[1])
    with bar(10_000, "stage", "items") as advance:
        for _ in range(10_000):
            now[0] += 0.001
            advance(1)
    assert 30 <= len(written) <= 35
    assert read_progress(file) == Progress("stage", 10_000, 10_000, "items", 0.0)


def test_a_file_that_cannot_be_written_stops_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no" / "folder" / "progress.json"))
    with bar(2, "stage", "items") as advance:
        advance(2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("total", [0, -3])
def test_nothing_to_do_is_no_division_by_zero(file: Path, total: int) -> None:
    with bar(total, "stage", "items") as advance:
        advance(0)
    found = read_progress(file)
    assert found is not None and found.share == 0


@pytest.mark.parametrize(
    "change",
    [{"done": "x"}, {"done": -1}, {"total": None}, {"seconds_left": "NaN"}, {"seconds_left": float("nan")}, {"seconds_left": -1.0}, {"done": float("inf")}],
)
def test_what_is_no_progress_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    whole = {"stage": "s", "done": 1, "total": 2, "unit": "u", "seconds_left": None}
    path = tmp_path / "progress.json"
    path.write_text(json.dumps(whole))
    assert read_progress(path) is not None
    path.write_text(json.dumps(whole | change))
    assert read_progress(path) is None
    path.write_text("{torn")
    assert read_progress(path) is None and read_progress(tmp_path / "none") is None


def test_at_a_terminal_it_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with bar(2, "stage", "items") as advance:
        advance(2)
    assert "stage: 100%" in capsys.readouterr().err
