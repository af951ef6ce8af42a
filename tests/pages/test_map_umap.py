"""Places by UMAP: made by a command, kept in the run, and offered where UMAP is installed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_runs import FakeRun, keep_ends, truncate
from tests.pages.app_testing import OpenPage, explorer, html_of
from turnover.cli import main
from turnover.dashboard.training_data.map_view import UMAP
from turnover.errors import TurnoverError
from turnover.runs import maps
from turnover.runs.maps import (
    BY,
    FEATURES,
    INFLUENCES,
    has_umap,
    kept_places,
    make_places,
    map_rows,
)
from turnover.runs.run import Run

pytestmark = pytest.mark.usefixtures("fresh")
STAND_INS = Path(__file__).parents[1] / "helpers" / "stand_ins"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of UMAP, for this process and those that it starts."""
    monkeypatch.syspath_prepend(str(STAND_INS))
    monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
    monkeypatch.delitem(sys.modules, "umap", raising=False)
    monkeypatch.setattr(maps, "find_spec", lambda name: object() if name == "umap" else None)


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No UMAP, also on a machine that has it."""
    monkeypatch.setattr(maps, "find_spec", lambda name: None)


# Made and kept


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("by", BY)
def test_places_are_kept_and_the_same_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    folder = FakeRun().write(tmp_path)
    assert kept_places(Run(folder), by) is None
    assert main(["map", "--run", str(folder), "--by", by, "--json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["file"])
    run = Run(folder)
    rows, found = map_rows(run, by), kept_places(run, by)
    assert found is not None and np.allclose(found, rows[:, :2] - rows[:, :2].mean(0), atol=1e-6)
    before = path.read_bytes()
    assert (
        make_places(run, by) == path
        and path.read_bytes() == before
        and [one.name for one in path.parent.iterdir()] == [path.name]
    )


@pytest.mark.usefixtures("installed")
def test_places_of_other_numbers_are_not_taken_for_these(tmp_path: Path) -> None:
    folder = FakeRun().write(tmp_path)
    for by in BY:
        make_places(Run(folder), by)
    keep_ends(folder, 4)
    with pytest.raises(TurnoverError, match="keeps only the ends"):
        kept_places(Run(folder), INFLUENCES)
    assert kept_places(Run(folder), FEATURES) is not None
    other = FakeRun("other", train=31).write(tmp_path)
    (folder / "maps").rename(other / "maps")
    assert kept_places(Run(other), FEATURES) is None and kept_places(Run(other), INFLUENCES) is None


@pytest.mark.parametrize("by", BY)
def test_looking_for_places_reads_no_rows(
    tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages look on each rerun."""
    run = Run(FakeRun().write(tmp_path))
    monkeypatch.setattr(maps, "map_rows", lambda *_: pytest.fail("rows were read"))
    assert kept_places(run, by) is None


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("spoil", ["truncated", "shape", "nan", "text"])
def test_damaged_places_are_refused_with_the_way_out(tmp_path: Path, spoil: str) -> None:
    run = Run(FakeRun().write(tmp_path))
    path = make_places(run, FEATURES)
    if spoil == "truncated":
        truncate(path)
    else:
        np.savez(
            path,
            places={
                "shape": np.zeros((54, 3)),
                "nan": np.full((54, 2), np.nan),
                "text": np.full((54, 2), "x"),
            }[spoil],
        )
    with pytest.raises(
        TurnoverError, match=f"make it again with `turnover map --run {run.folder} --by features`"
    ) as raised:
        kept_places(run, FEATURES)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.usefixtures("installed")
def test_what_umap_cannot_do_is_a_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Run(FakeRun("small", train=2, validation=1, errors=False).write(tmp_path))
    with pytest.raises(TurnoverError, match="3 items are too few for UMAP, which needs 4"):
        make_places(small, FEATURES)
    run = Run(FakeRun().write(tmp_path))
    monkeypatch.setattr(maps, "NEIGHBOURS", 1)
    with pytest.raises(
        TurnoverError,
        match=r"UMAP failed \(n_neighbors must be greater than 1\); choose principal components",
    ):
        make_places(run, FEATURES)
    assert not (run.folder / "maps").exists() and not (small.folder / "maps").exists()


@pytest.mark.usefixtures("missing")
def test_without_umap_the_command_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = FakeRun().write(tmp_path)
    assert not has_umap() and main(["map", "--run", str(folder)]) == 2
    assert (
        capsys.readouterr().err
        == "turnover map: UMAP is not installed; get it with `pip install umap-learn`\n"
    )


def test_looking_for_umap_imports_nothing_of_it() -> None:
    code = (
        "import sys; from turnover.runs.maps import has_umap; print(has_umap(), 'umap' in "
        "sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(STAND_INS)},
        cwd=STAND_INS.parents[2],
    )
    assert done.stdout.split() == ["True", "False", "False"]


# The page


def points(app: AppTest) -> dict[str, Any]:
    """The map that is drawn."""
    return explorer(app)["map"]  # type: ignore[no-any-return]


@pytest.mark.usefixtures("missing")
def test_without_umap_the_page_offers_none_and_says_how_to_get_it(
    open_page: OpenPage, runs: Path
) -> None:
    FakeRun().write(runs)
    app = open_page("training", view="map")
    assert len(explorer(app)["ways"]) == 1 and "pip install umap-learn" in points(app)["words"]


@pytest.mark.usefixtures("installed")
def test_places_are_made_by_a_job_and_shown(open_page: OpenPage, runs: Path) -> None:
    run = Run(FakeRun().write(runs))
    app = open_page("training", view="map")
    assert [way for way, _ in explorer(app)["ways"]] == ["", UMAP]
    assert "pip install" not in points(app)["words"]
    app = open_page("training", view="map", way=UMAP)
    assert "UMAP takes a minute" in html_of(app) and "keeps" in points(app)["words"]
    app.button(key="map-umap").click().run()
    assert not app.exception and "Map fake: features by UMAP" in html_of(app)
    assert not [one for one in app.button if one.key == "map-umap"]
    end = time.monotonic() + 60
    while "says little" not in points(app)["words"] and time.monotonic() < end:
        time.sleep(0.3)
        app.run()
    assert "says little" in points(app)["words"]
    assert not app.exception and "UMAP takes a minute" not in html_of(app)
    assert kept_places(run, FEATURES) is not None
    app = open_page("training", view="map", way=UMAP, places=INFLUENCES)
    assert "UMAP takes a minute" in html_of(app) and "keeps" in points(app)["words"]


@pytest.mark.usefixtures("installed")
def test_damaged_places_and_kept_ends_are_said_and_components_shown(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun().write(runs)
    truncate(make_places(Run(folder), FEATURES))
    app = open_page("training", view="map", way=UMAP)
    assert "This map cannot be drawn" in html_of(app) and "keeps" in points(app)["words"]
    assert app.button(key="map-umap").label == "Compute UMAP"
    make_places(Run(folder), FEATURES)
    keep_ends(folder, 4)
    app = open_page("training", view="map", places=INFLUENCES)
    assert html_of(app).count("This map cannot be drawn") == 1 and "keeps" in points(app)["words"]
