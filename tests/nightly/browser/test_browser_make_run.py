"""From `make run` to an exported CSV, as a new user goes."""

from __future__ import annotations

import codecs
import csv
import io
import os
import signal
import subprocess
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.helpers.fake_runs import FakeRun
from tests.pages.browser.browser_testing import (
    ROOT,
    free_port,
    open_tray,
    wait_until_healthy,
)
from turnover.explain.causes import causes
from turnover.runs.run import Run


def test_make_run_serves_the_demo_runs_and_a_mistake_ends_as_a_csv(
    page: Page, tmp_path: Path
) -> None:
    """The demo runs are there already, so that nothing is trained; what builds them has tests of
    its own.
    """
    for name in ("demo-digits", "demo-reviews"):
        causes(Run(FakeRun(name).write(tmp_path)))  # computed and kept
    environment = {**os.environ, "TURNOVER_RUNS": str(tmp_path), "PORT": str(free_port())}
    with subprocess.Popen(
        ["make", "run"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as made:
        assert made.stdout
        try:
            lines: list[str] = []
            while not lines or "Turnover is at" not in lines[-1]:
                lines.append(made.stdout.readline())
                assert lines[-1], lines
            assert "both demo runs are there\n" in lines
            url = lines[-1].split()[-1]
            wait_until_healthy(url)
            page.goto(url)
            expect(page.get_by_role("heading", name="Errors")).to_be_visible()
            expect(page.locator("[data-turnover=teacher]").first).to_be_visible()
            page.keyboard.press("f")
            expect(page.locator("[data-turnover=tray]")).to_have_text("1 decision")
            expect(page.get_by_text("1 flagged")).to_be_visible()
            open_tray(page)
            with page.expect_download() as download:
                page.get_by_role("button", name="Export flagged items (CSV)").click()
            table = Path(download.value.path()).read_bytes()
            assert table.startswith(codecs.BOM_UTF8)
            (row,) = csv.DictReader(io.StringIO(table.decode("utf-8-sig")))
            assert row["action"] == "drop" and float(row["self_influence"]) > 0
            assert not (tmp_path / ".jobs").exists(), "these are no demo runs, but in name"
        finally:
            os.killpg(made.pid, signal.SIGKILL)
