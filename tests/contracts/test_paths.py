"""Paths that the system will not look at are told in a line, wherever a person names one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core import Run, TurnoverError
from core.data.own import FILES, OwnData
from core.data.own.load import load_own
from core.data.pairs import read_pairs
from core.data.tables import require_folder
from core.models.encoders import needs_hub
from core.models.text import load_encoder
from core.paths import looked_at, user_path
from core.pipeline.plan import plan_run
from core.pipeline.settings import TrainSettings

LONG = "x" * 5000


def test_a_path_is_whole_and_a_home_unfolded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert user_path("a/b.csv") == tmp_path / "a" / "b.csv" and user_path("~/b.csv") == tmp_path / "me" / "b.csv"
    (tmp_path / "file").touch()
    assert looked_at(Path("file/under")) == Path("file/under")  # nothing is there, and that is no problem of the path


def refused(what: Callable[[], object]) -> str:
    with pytest.raises(TurnoverError) as told:
        what()
    assert "\n" not in str(told.value) and len(str(told.value)) < 500
    return str(told.value)


@pytest.mark.parametrize(
    "what",
    [
        lambda path: user_path(path),
        lambda path: load_own(FILES, OwnData(path), 0),
        lambda path: needs_hub(path),
        lambda path: require_folder(Path(path), "files"),
        lambda path: Run(Path(path)),
        lambda path: plan_run(TrainSettings("digits"), Path(path)),
        lambda path: read_pairs(Path(path)),
        load_encoder,
    ],
    ids=["path", "own data", "encoder", "--path", "--run of a run", "--run of a training", "--keep", "encoder to load"],
)
def test_what_cannot_be_looked_at_is_said_in_a_line(what: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "File name too long" in refused(lambda: what(LONG))
    (tmp_path / "circle").symlink_to("circle")
    assert "circle/x: cannot be looked at" in refused(lambda: what(f"{tmp_path}/circle/x"))
    real = os.stat

    def closed(path: object, **options: object) -> os.stat_result:
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "stat", closed)
    assert "Permission denied" in refused(lambda: what(f"{tmp_path}/closed/x"))


def test_a_home_that_nobody_has_is_said(tmp_path: Path) -> None:
    assert "nobody here has this home folder" in refused(lambda: user_path("~nobody-here/x"))
    assert "nobody here" in refused(lambda: user_path(f"~{LONG}"))
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,2\n")
    assert "nobody here" in refused(lambda: load_own(FILES, OwnData("~nobody-here/a.csv"), 0))
    assert "nobody here" in refused(lambda: load_own(FILES, OwnData(str(tmp_path / "a.csv"), classes="~nobody-here/c.txt"), 0))
