"""Twenty people at once: no flag is lost, and nobody sees another's item."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from playwright.sync_api import Browser, expect

from tests.helpers.fake_runs import FakeRun
from tests.pages.browser.browser_testing import Served, chosen, settle
from turnover.flags import Flags

PEOPLE = 20


def test_twenty_sessions_flag_at_once(browser: Browser, served: Served) -> None:
    """Each has a session of its own, looks at an error of its own, and saves without waiting for
    the others.
    """
    folder = FakeRun("many", train=60, validation=3 * PEOPLE).write(served.runs)
    # one, so that Streamlit's scripts are fetched once; each tab is a session
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tabs = [context.new_page() for _ in range(PEOPLE)]
    for number, tab in enumerate(tabs):
        tab.goto(f"{served.url}/?run=many&item=v{3 * number:03d}", wait_until="commit")
    for number, tab in enumerate(tabs):
        tab.wait_for_selector("[data-turnover=teacher]", timeout=120_000)
        settle(tab)
        assert chosen(tab) == f"v{3 * number:03d}"
        tab.get_by_role("button", name="Relabel", exact=True).first.dispatch_event("click")
        tab.get_by_label("Decision").select_option("drop")
        tab.get_by_label("Note").fill(f"from {number}")
        tab.get_by_label("Note").blur()
    for tab in tabs:
        # without a look whether the button stands still: all of them at once
        tab.get_by_role("button", name="Save").dispatch_event("click")
    for number, tab in enumerate(tabs):
        expect(tab.get_by_text("flagged: drop").first).to_be_visible(timeout=60_000)
        assert chosen(tab) == f"v{3 * number:03d}"
    with closing(sqlite3.connect(folder / "flags.sqlite")) as database:
        notes = [note for (note,) in database.execute("SELECT note FROM decisions")]
    assert sorted(notes) == sorted(f"from {number}" for number in range(PEOPLE))
    assert all(
        flag.action == "drop" and flag.note in notes for flag in Flags(folder).current().values()
    )
    context.close()
