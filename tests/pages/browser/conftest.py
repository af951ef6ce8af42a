"""A served dashboard on small runs, and a Chromium that reports every foreign request and every
console error.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.helpers.fake_runs import HOSTILE, FakeRun
from tests.pages.browser.browser_testing import SHOTS, Served, serving

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
KNOWN_404 = ("_stcore/health", "_stcore/host-config")
"""Streamlit's pages below the first ask for these in the wrong place; harmless."""


expect.set_options(timeout=20_000)  # a busy machine takes its time

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
MISSING = "no Chromium found; install it with `apt-get install -y chromium`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a busy machine a browser now and then misses a step: a test that fails is tried once more,
    and the summary names it. What fails twice fails.
    """
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line says why browser tests were skipped."""
    if CHROMIUM is None and "skipped" in terminalreporter.stats:
        terminalreporter.write_line(f"browser tests were skipped: {MISSING}")


def find_chromium() -> str:
    """Chromium's path; without one the tests skip, or fail where nothing may be skipped."""
    if CHROMIUM is None:
        give_up = pytest.fail if os.environ.get("TURNOVER_NO_SKIP") == "1" else pytest.skip
        give_up(MISSING)
    return CHROMIUM


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    SHOTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def served(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The dashboard on a text run and an image run with real
    models, and a hostile run.
    """
    runs = tmp_path_factory.mktemp("runs")
    write_working_run("texts", "text", ("negative", "positive"), runs)
    write_working_run("images", "image", tuple("0123456789"), runs)
    FakeRun(
        "hostile", texts=HOSTILE, classes=("<b>neg</b>", ":red[pos] [x](http://evil.example)")
    ).write(runs)
    FakeRun("waiting", influence=False).write(runs)
    with serving(runs) as dashboard:
        yield dashboard


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab; afterwards, nothing but this machine was asked and the console is clean."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    tab = context.new_page()
    wrong: list[str] = []

    def see_request(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")):
            wrong.append(f"asked {request.url}")

    def see_message(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(
            known in message.location["url"] for known in KNOWN_404
        ):
            wrong.append(f"console: {message.text} {message.location}")

    tab.on("request", see_request)
    tab.on("console", see_message)
    tab.on("pageerror", lambda error: wrong.append(f"raised {error}"))
    tab.set_default_timeout(30_000)
    yield tab
    context.close()
    assert not wrong


def write_working_run(name: str, kind: str, classes: tuple[str, ...], runs: Path) -> None:
    """A made-up run with a real, untrained model in it, so that its worker answers; influences
    computed by the engine.
    """
    import torch
    from safetensors.torch import save

    from turnover.models.registry import TrainSettings
    from turnover.runs.run import Run
    from turnover.workflows.influence import compute_influence

    torch.manual_seed(0)
    data = {"text": "reviews", "image": "digits"}[kind]
    settings = TrainSettings(data, members=2).resolved(kind)
    model = settings.build(len(classes), (384,) if kind == "text" else (1, 8, 8))
    width = 384 if kind == "text" else model.features(torch.zeros(1, 1, 8, 8)).numel()
    weights = save({key: value.contiguous() for key, value in model.state_dict().items()})
    facts = {"settings": settings.saved}
    folder = FakeRun(
        name, kind, classes, members=2, width=width, weights=weights, influence=False, facts=facts
    ).write(runs)
    compute_influence(Run(folder), device_choice="cpu")
