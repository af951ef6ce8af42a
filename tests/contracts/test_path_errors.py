"""Paths that the system will not look at are told in a line, wherever a person names one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from turnover import Run, TurnoverError
from turnover.data.sources.images import read_pairs
from turnover.data.tables import FILES, OwnData
from turnover.data.tables.checks import require_folder
from turnover.data.tables.load import load_own
from turnover.models.encoders import needs_hub
from turnover.models.heads import load_encoder
from turnover.models.registry import TrainSettings
from turnover.runs.plan import plan_run
from turnover.storage.atomic import looked_at, user_path

LONG = "x" * 5000
NAMED: dict[str, Callable[[str], object]] = {
    "path": user_path,
    "own data": lambda path: load_own(FILES, OwnData(path), 0),
    "encoder": needs_hub,
    "--path": lambda path: require_folder(Path(path), "files"),
    "--run of a run": lambda path: Run(Path(path)),
    "--run of a training": lambda path: plan_run(TrainSettings("digits"), Path(path)),
    "--keep": lambda path: read_pairs(Path(path)),
    "encoder to load": load_encoder,
}


def refused(what: Callable[[], object]) -> str:
    with pytest.raises(TurnoverError) as told:
        what()
    assert "\n" not in str(told.value) and len(str(told.value)) < 500
    return str(told.value)


def test_a_path_is_whole_and_a_home_unfolded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert user_path("a/b.csv") == tmp_path / "a" / "b.csv"
    assert user_path("~/b.csv") == tmp_path / "me" / "b.csv"
    (tmp_path / "file").touch()  # nothing is under it, and that is no problem of the path
    assert looked_at(Path("file/under")) == Path("file/under")


@pytest.mark.parametrize("where", NAMED)
def test_what_cannot_be_looked_at_is_said_in_a_line(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = NAMED[where]
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
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,1\nb,2\n")
    for data in (OwnData("~nobody-here/a.csv"), OwnData(str(path), classes="~nobody-here/c.txt")):
        assert "nobody here" in refused(lambda data=data: load_own(FILES, data, 0))
