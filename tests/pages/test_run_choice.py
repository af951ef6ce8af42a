"""Which run the sidebar shows where the URL names one more than once, as after a followed link."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pytest

from tests.helpers.fake_runs import FakeRun
from tests.pages.app_testing import OpenPage, html_of

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.mark.parametrize("page", ["errors", "runs"])
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
    app = open_page("errors", run=named)
    assert app.selectbox(key="run").value in ("a", "b")
    if named[-1] != "b":
        assert f"There is no run “{escape(named[-1])}” here" in html_of(app)
