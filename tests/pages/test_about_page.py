"""About: what the manifest says is shown as text; sign-in stands before every page where it is set
up.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st

from tests.helpers.fake_runs import FakeRun
from tests.pages.app_testing import OpenPage, html_of, shown_pane
from turnover.dashboard.shared.runs_view import build_about
from turnover.runs.run import Run


@pytest.fixture(autouse=True)
def _fresh(fresh: None) -> None:
    """Nothing cached from another test."""


def test_facts_are_the_manifest_s_and_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    facts = {
        "leaks": ["the output bias", "more"],
        "timings": {"training": 1.5},
        "settings": {"data": "fake", "limit": None, "path": "", "members": 4},
    }
    run = Run(FakeRun(facts=facts).write(tmp_path))
    groups = dict(build_about(run).groups)
    assert groups["Settings"] == (("data", "fake"), ("members", "4"))
    assert groups["Made"] == (("Leaks", "the output bias, more"), ("Seconds, training", "1.5"))
    assert "Versions" not in groups
    assert (
        dict(groups["Files, SHA-256"])["weights.safetensors"]
        == run.manifest["files"]["weights.safetensors"]["sha256"]
    )


def test_the_page_shows_them_as_text(open_page: OpenPage, runs: Path) -> None:
    FakeRun(
        "one", facts={"data": {"name": "<b>bold</b>", "source": "[x](http://evil.example)"}}
    ).write(runs)
    shown = html_of(open_page("about", run="one"))
    assert (
        "&lt;b&gt;bold&lt;/b&gt;" in shown
        and "[x](http://evil.example)" in shown
        and "<b>" not in shown
    )
    assert "it helps that label" in shown


def test_it_can_be_read_without_a_run(open_page: OpenPage, runs: Path) -> None:
    shown = html_of(open_page("about"))
    assert "What it cannot tell" in shown and "No runs yet" in shown


@pytest.mark.parametrize(
    ("user", "stopped"),
    [({}, False), ({"is_logged_in": True}, False), ({"is_logged_in": False}, True)],
)
def test_who_is_not_signed_in_sees_nothing_of_a_run(
    open_page: OpenPage,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: dict[str, bool],
    stopped: bool,
) -> None:
    FakeRun("secret run", texts=["a secret text"]).write(runs)
    monkeypatch.setattr(st, "user", user)
    app = open_page("errors", run="secret run")
    assert ("Sign in to go on" in html_of(app)) == stopped
    assert bool(app.get("bidi_component")) != stopped and "secret" not in html_of(app)
    assert stopped or "secret" in str(shown_pane(app)["content"]["head"])
    assert (len(app.sidebar.selectbox) == 0) == stopped
