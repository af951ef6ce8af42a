"""What is told of work that goes on: progress in a small file, whole at every moment.

And of a training, its curves so far, read from its checkpoint while it runs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.builders import names, run_python
from tests.helpers.storage_testing import small_heads, small_splits
from turnover import TurnoverError
from turnover.runs.partial import find_partials, read_partial
from turnover.storage import progress
from turnover.storage.progress import VARIABLE, Progress, bar, read_progress
from turnover.storage.schema import CURVES
from turnover.training.fit import Recipe, fit
from turnover.training.history import History


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    return clock


def test_each_stage_takes_the_place_of_the_one_before(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with bar(4, "first", "epochs") as advance:
        assert read_progress(file) == Progress("first", 0, 4, "epochs", None)
        advance(4)
    with bar(2, "second <b>", "texts") as advance:
        assert read_progress(file) == Progress("second <b>", 0, 2, "texts", None)
        advance(1)
        advance(1)
    assert read_progress(file) == Progress("second <b>", 2, 2, "texts", 0.0)
    assert capsys.readouterr().err == "" and names(file.parent) == [file.name]


def test_the_time_left_goes_by_the_speed_so_far(file: Path, now: list[float]) -> None:
    with bar(10, "stage", "items") as advance:
        now[0] += 6.0
        advance(3)
        found = read_progress(file)
        assert found == Progress("stage", 3, 10, "items", 14.0) and found.share == 0.3


def test_it_is_written_a_few_times_a_second_only(
    file: Path, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    written, real = list[float](), Path.replace
    noted = lambda self, to: (written.append(now[0]), real(self, to))[1]  # noqa: E731
    monkeypatch.setattr(Path, "replace", noted)
    with bar(10_000, "stage", "items") as advance:
        for _ in range(10_000):
            now[0] += 0.001
            advance(1)
    assert 30 <= len(written) <= 35
    assert read_progress(file) == Progress("stage", 10_000, 10_000, "items", 0.0)


def test_a_file_that_cannot_be_written_stops_no_work_and_nothing_to_do_divides_by_no_zero(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for total in (0, -3):
        with bar(total, "stage", "items") as advance:
            advance(0)
        found = read_progress(file)
        assert found is not None and found.share == 0
    file.unlink()
    monkeypatch.setenv(VARIABLE, str(file.parent / "no" / "folder" / "progress.json"))
    with bar(2, "stage", "items") as advance:
        advance(2)
    assert names(file.parent) == []


CHANGES: list[dict[str, object]] = [{"done": "x"}, {"done": -1}, {"total": None}]
CHANGES += [{"done": float("inf")}, {"seconds_left": "NaN"}, {"seconds_left": -1.0}]
CHANGES.append({"seconds_left": float("nan")})


def test_what_is_no_progress_is_none(tmp_path: Path) -> None:
    whole = {"stage": "s", "done": 1, "total": 2, "unit": "u", "seconds_left": None}
    path = tmp_path / "progress.json"
    path.write_text(json.dumps(whole))
    assert read_progress(path) is not None
    for text in [*(json.dumps(whole | change) for change in CHANGES), "{torn"]:
        path.write_text(text)
        assert read_progress(path) is None
    assert read_progress(tmp_path / "none") is None


def test_at_a_terminal_it_is_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with bar(2, "stage", "items") as advance:
        advance(2)
    assert "stage: 100%" in capsys.readouterr().err


# A training that goes on


def begun(runs: Path, name: str = "one") -> Path:
    folder = runs / f"{name}.partial"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text("{}")
    return folder


def train(folder: Path, epochs: int = 3, name: str = "masked") -> list[History]:
    """Train with a checkpoint; what is read after every epoch is what had been measured."""
    seen: list[History] = []

    def look(history: History) -> None:
        seen.append(history)
        if name == "plain":
            return
        partial = read_partial(folder.parent, "one")
        told = partial.most, partial.validation_size, partial.curves["epoch"].tolist()
        assert told == (9, 12, list(range(1, history.epochs + 1)))
        for curve in CURVES:
            np.testing.assert_array_equal(partial.curves[curve], history.curves[curve])
        np.testing.assert_array_equal(partial.curves["accuracy"], history.accuracy)
        np.testing.assert_array_equal(partial.flipped, np.stack(history.flipped_items))

    masked, (train_split, validation, _) = name == "masked", small_splits()
    recipe = Recipe(epochs=9, patience=epochs, batch=10, learning_rate=1.0, masked=masked)
    path = folder / f"{name}.checkpoint"
    fit(small_heads(members=2), train_split, validation, recipe, path, look)
    return seen


def test_after_every_epoch_the_curves_so_far_are_those_that_were_measured(tmp_path: Path) -> None:
    """And the twin's epochs are counted; no torch is needed to look."""
    folder = begun(tmp_path)
    partial = read_partial(tmp_path, "one")
    assert (len(partial.curves), partial.twin, partial.most) == (0, 0, 0)
    masked, twin = train(folder), train(folder, 2, "plain")
    partial = read_partial(tmp_path, "one")
    assert len(masked) >= 2
    assert (len(partial.curves), partial.twin) == (masked[-1].epochs, twin[-1].epochs)
    changed = (folder / "plain.checkpoint").stat().st_mtime
    assert partial.changed == pytest.approx(changed)
    code = """
import sys
from pathlib import Path
from turnover.runs.partial import read_partial
print(len(read_partial(Path(sys.argv[1]), 'one').curves), 'torch' in sys.modules)"""
    assert run_python(code, tmp_path) == f"{masked[-1].epochs} False\n"


def test_trainings_are_found_until_their_run_is_there(tmp_path: Path) -> None:
    assert find_partials(tmp_path / "nowhere") == find_partials(tmp_path) == []
    begun(tmp_path, "two"), begun(tmp_path, "one")
    (tmp_path / "odd.partial").mkdir()
    assert find_partials(tmp_path) == ["one", "two"]
    (tmp_path / "two.partial").rename(tmp_path / "two")
    assert find_partials(tmp_path) == ["one"]
    with pytest.raises(TurnoverError, match=r"two\.partial: not there any more; the run is fin"):
        read_partial(tmp_path, "two")


def test_a_damaged_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    train(folder, 1)
    path = folder / "masked.checkpoint"
    cut = path.read_bytes()[:-9]
    for content in (b"", b"no checkpoint", b"\x08\0\0\0\0\0\0\0{}      ", cut):
        path.write_bytes(content)
        why = r"masked\.checkpoint: .*; delete it to train from the"
        with pytest.raises(TurnoverError, match=why):
            read_partial(tmp_path, "one")
