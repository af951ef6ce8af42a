"""What tabs share: who waits for whom."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.helpers.fake_runs import FakeRun
from turnover.dashboard import state

pytestmark = pytest.mark.usefixtures("fresh")


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
