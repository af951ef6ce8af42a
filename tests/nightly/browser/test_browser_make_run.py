"""From `make run` to an exported CSV, as a new user goes."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.helpers.fake_runs import FakeRun
from tests.pages.browser.browser_testing import ROOT, free_port, wait_until_healthy
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
            expect(page.locator("[data-turnover=tray]")).to_contain_text("1 flagged")
            page.get_by_role("link", name="Flags & export").first.click()
            expect(page.get_by_role("heading", name="Flags & export")).to_be_visible()
            with page.expect_download() as download:
                page.get_by_role("button", name=re.compile("CSV")).first.click()
            (row,) = csv.DictReader(
                io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))
            )
            assert row["action"] == "drop" and float(row["self_influence"]) > 0
        finally:
            os.killpg(made.pid, signal.SIGKILL)
