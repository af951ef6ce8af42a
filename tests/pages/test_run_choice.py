"""Which run the sidebar shows where the URL names one more than once, as after a followed link."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.fake_runs import FakeRun
from tests.pages.app_testing import OpenPage

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.mark.parametrize("page", ["overview", "errors", "train"])
@pytest.mark.parametrize("named", [["b"], ["b", "b"], ["b", "b", "b"], ["a", "b"], ["nobody", "b"]])
def test_the_last_run_that_is_named_is_shown(
    open_page: OpenPage, runs: Path, named: list[str], page: str
) -> None:
    for name in "abc":
        FakeRun(name).write(runs)
    app = open_page(page, run=named)
    assert app.selectbox(key="run").value == "b"


@pytest.mark.parametrize("named", [["nobody"], ["nobody", "nobody"], ["b", "<b>nobody</b>"]])
def test_a_run_that_is_not_there_breaks_no_page(
    open_page: OpenPage, runs: Path, named: list[str]
) -> None:
    FakeRun("a").write(runs)
    FakeRun("b").write(runs)
    assert open_page("overview", run=named).selectbox(key="run").value in ("a", "b")
