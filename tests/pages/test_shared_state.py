"""What tabs share: who waits for whom, and what becomes of an engine that another run's takes the
place of.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.helpers.fake_runs import FakeRun
from turnover.dashboard import state
from turnover.dashboard.engine import Phase, Worker
from turnover.dashboard.errors import worker as when_ready
from turnover.runs.run import Run

pytestmark = pytest.mark.usefixtures("fresh")


class Rerun(Exception):
    """The page would be drawn again."""


def rerun() -> None:
    raise Rerun


@pytest.fixture
def workers(runs: Path) -> tuple[Worker, Worker]:
    """The engine of a run that two others took the place of, and the run's new one."""
    found = [Run(FakeRun(name).write(runs)) for name in ("a", "b", "c")]
    first = state.worker_of(found[0])
    first.start()
    for run in found[1:]:
        state.worker_of(run)
    return first, state.worker_of(found[0])


def test_an_engine_that_others_took_the_place_of_is_closed_and_the_run_has_a_new_one(
    workers: tuple[Worker, Worker],
) -> None:
    old, new = workers
    assert old.closed and old.phase is Phase.STOPPED and not new.closed and new is not old
    old.start()
    assert old.phase is Phase.STOPPED


def test_who_clicks_in_a_page_that_holds_a_closed_engine_gets_the_new_one(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(when_ready.st, "rerun", rerun)
    with pytest.raises(Rerun):
        when_ready._look(
            workers[0],
            waited=False,
            meanwhile="",
            draw=lambda: pytest.fail("a closed engine answers nothing"),
        )


@pytest.mark.parametrize("pressed", [False, True])
def test_who_only_waits_takes_no_engine_from_another_tab(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch, pressed: bool
) -> None:
    monkeypatch.setattr(when_ready.st, "rerun", rerun)
    monkeypatch.setattr(when_ready.st, "button", lambda label: pressed)
    told: list[str] = []
    monkeypatch.setattr(when_ready, "notice", lambda title, message: told.append(title))
    if pressed:
        with pytest.raises(Rerun):
            when_ready._look(workers[0], True, "", rerun)
    else:
        when_ready._look(workers[0], True, "", rerun)
    assert told == ["The engine was put away"]


def test_a_run_that_takes_long_keeps_nobody_from_another(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = (FakeRun(name).write(runs) for name in ("slow", "quick"))
    began, go_on = threading.Event(), threading.Event()
    real, opened = state._open, []

    def opening(folder: str, *changed: object) -> state.Opened:
        if folder == str(slow):
            began.set()
            assert go_on.wait(20)
        return real(folder, *changed)  # type: ignore[arg-type]

    monkeypatch.setattr(state, "_open", opening)
    tabs = [threading.Thread(target=lambda: opened.append(state.open_run(slow))) for _ in range(2)]
    for tab in tabs:
        tab.start()
    try:
        assert began.wait(20)
        other = threading.Thread(target=lambda: opened.append(state.open_run(quick)))
        other.start()
        other.join(20)
        assert [one.run.name for one in opened] == ["quick"]
    finally:
        go_on.set()
        for tab in tabs:
            tab.join(20)
    assert [one.run.name for one in opened[1:]] == ["slow", "slow"] and opened[1] is opened[2], (
        "opened once for both tabs"
    )
