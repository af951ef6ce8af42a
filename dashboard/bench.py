"""`python -m turnover.dashboard.bench`: speed and memory of the dashboard in a real browser.

Starts the dashboard as `make run` does, with Chromium already open, and measures the seconds to the
first words and to the first error with its training items. Then, on the existing runs and on random
runs of two sizes (`turnover.research.bench.random_run`), it measures the time from a click to
another error shown, and the server's memory while browsing. Needs Playwright and Chromium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from turnover.dashboard.launch import free_port
from turnover.research.bench.random_run import BenchRow, RandomRun, table

if TYPE_CHECKING:
    from playwright.sync_api import Page

_CLICKS = (["Next"] * 5 + ["Previous"] * 5) * 2
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SHOWN = "[data-turnover=error]"


@dataclass(frozen=True)
class Budget:
    """Limits for a size of run: seconds per click (median, 95th percentile), megabytes."""

    median: float
    slow: float
    memory: int


SIZES = {
    RandomRun(5_000, 436): Budget(0.3, 0.8, 800),
    RandomRun(50_000, 10_000): Budget(1.0, 1.0, 800),
}


def measure_dashboard(runs: Path, alone: bool = False) -> Iterator[BenchRow]:
    """Measure first words, clicks and memory on the runs in a folder, then, unless `alone`, on
    random runs.
    """
    yield from _measured(runs, "", Budget(0.3, 0.8, 800))
    for size, budget in SIZES.items() if not alone else ():
        with tempfile.TemporaryDirectory() as folder:
            size.write(Path(folder))
            which = f"{size.train:,} × {size.targets:,}, random: "
            yield from _measured(Path(folder), which, budget)


def _measured(runs: Path, which: str, budget: Budget) -> Iterator[BenchRow]:
    """Measure one server on the runs of one folder; first words on those of the user only."""
    with _browsed(runs) as (page, process, begun):
        words = time.perf_counter() - begun
        page.wait_for_selector(_SHOWN, timeout=120_000)
        first = time.perf_counter() - begun
        clicks = sorted(_clicks(page))
        memory = _resident_megabytes(process)
    if not which:
        yield BenchRow("dashboard", "first words after the start", words, "s", "<= 3")
    median, slow = clicks[len(clicks) // 2], clicks[int(0.95 * len(clicks))]
    for measure, value, unit, goal in (
        ("first error shown after the start", first, "s", ""),
        ("click on another error, median", median, "s", f"<= {budget.median}"),
        ("click on another error, 95th percentile", slow, "s", f"<= {budget.slow}"),
        ("memory while browsing", memory, "MB", f"< {budget.memory}"),
    ):
        yield BenchRow("dashboard", f"{which}{measure}", value, unit, goal)


@contextmanager
def _browsed(runs: Path) -> Iterator[tuple[Page, int, float]]:
    """A new server in Chromium as soon as its first words are there, its process id, and when it
    was started.
    """
    from playwright.sync_api import sync_playwright

    port = free_port(8600)
    options = ["--runs", str(runs), "--port", str(port)]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        page = chromium.new_page()
        begun = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "-m", "turnover", "dashboard", *options], stdout=subprocess.DEVNULL
        )
        try:
            _open(page, f"http://127.0.0.1:{port}/")
            page.wait_for_selector("h1")
            yield page, server.pid, begun
        finally:
            server.kill()
            server.wait()
            chromium.close()


def _open(page: Page, url: str) -> None:
    """Open the page as soon as the server listens."""
    from playwright.sync_api import Error

    for _ in range(600):
        try:
            page.goto(url)
            return
        except Error:
            time.sleep(0.05)
    raise SystemExit(f"no dashboard at {url} after 30 s")


def _clicks(page: Page) -> Iterator[float]:
    """Seconds from each click on a button until another error is shown."""
    for button in _CLICKS:
        page.wait_for_timeout(300)
        before = page.locator(_SHOWN).get_attribute("data-id")
        begun = time.perf_counter()
        page.get_by_role("button", name=button).click()
        page.wait_for_selector(f'{_SHOWN}:not([data-id="{before}"]) + .sides')
        yield time.perf_counter() - begun


def _resident_megabytes(process: int) -> float:
    """Resident memory of a process, from `ps`."""
    completed = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(process)], capture_output=True, text=True, check=True
    )
    return int(completed.stdout) / 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m turnover.dashboard.bench", description="Measure the dashboard in Chromium."
    )
    parser.add_argument(
        "--runs",
        default=os.environ.get("TURNOVER_RUNS", "runs"),
        metavar="DIR",
        help="folder that holds the runs (default runs)",
    )
    parser.add_argument("--alone", action="store_true", help="leave the random runs out")
    arguments = parser.parse_args(argv)
    runs = Path(arguments.runs).resolve()
    if shutil.which("chromium") is None:
        print(
            "python -m turnover.dashboard.bench: no Chromium found; install it with `apt-get "
            "install -y chromium`",
            file=sys.stderr,
        )
        return 2
    print(table(list(measure_dashboard(runs, arguments.alone))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
