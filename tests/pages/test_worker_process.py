from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from turnover.dashboard import engine
from turnover.dashboard.engine import Phase, Worker, worker_command
from turnover.errors import TurnoverError

Commands = Callable[[str], list[str]]
ASKED = {"text": "a submarine", "label": None, "top": 2}


@pytest.fixture
def make_worker(worker_command: Commands):  # type: ignore[no-untyped-def]
    made: list[Worker] = []

    def make(mode: str) -> Worker:
        made.append(Worker(worker_command(mode)))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


def wait_for(worker: Worker, phase: Phase) -> None:
    end = time.monotonic() + 20
    while worker.phase is not phase and time.monotonic() < end:
        time.sleep(0.02)
    assert worker.phase is phase


def test_the_command_names_the_run() -> None:
    command = worker_command(Path("runs/one"))
    assert command[1:] == ["-m", "turnover", "worker", "--run", str(Path("runs/one").resolve())]


def test_it_warms_up_in_the_background_and_answers(make_worker) -> None:  # type: ignore[no-untyped-def]
    worker = make_worker("answers")
    assert worker.phase is Phase.STOPPED
    worker.start()
    assert worker.phase in (Phase.WARMING, Phase.READY)
    answer = worker.ask(ASKED)
    assert answer["predicted"] == "positive" and len(answer["proponents"]) == 2
    assert worker.phase is Phase.READY and worker.problem == ""
    worker.start()
    assert worker.ask(ASKED)["process"] == answer["process"]


def test_many_tabs_share_it(make_worker) -> None:  # type: ignore[no-untyped-def]
    worker = make_worker("answers")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda top: worker.ask({**ASKED, "top": top}), range(1, 9)))
    assert [len(answer["proponents"]) for answer in answers] == list(range(1, 9))
    assert len({answer["process"] for answer in answers}) == 1


def test_what_it_complains_about_is_raised(make_worker) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TurnoverError, match="too bad"):
        make_worker("answers").ask({**ASKED, "text": "bad"})


def test_one_that_cannot_start_says_why_and_starts_again_only_on_demand(make_worker) -> None:  # type: ignore[no-untyped-def]
    worker = make_worker("fails")
    worker.start()
    wait_for(worker, Phase.FAILED)
    assert worker.problem == "the encoder is not there; install it"
    process = worker._process
    worker.start()
    assert worker._process is process
    worker.start(again=True)
    assert worker._process is not process
    with pytest.raises(TurnoverError, match="encoder is not there"):
        worker.ask(ASKED)


def test_one_that_died_is_started_again(make_worker) -> None:  # type: ignore[no-untyped-def]
    worker = make_worker("dies")
    with pytest.raises(TurnoverError, match="stopped while it was answering"):
        worker.ask(ASKED)
    wait_for(worker, Phase.STOPPED)
    worker.start()
    wait_for(worker, Phase.READY)


def test_a_late_answer_is_given_up(make_worker) -> None:  # type: ignore[no-untyped-def]
    worker = make_worker("silent")
    with pytest.raises(TurnoverError, match=r"no answer within 0 s"):
        worker.ask(ASKED, seconds=0.3)
    wait_for(worker, Phase.READY)


def test_one_that_was_closed_stays_closed(make_worker, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    forgotten: list[object] = []
    monkeypatch.setattr(engine.atexit, "unregister", forgotten.append)
    worker = make_worker("answers")
    worker.ask(ASKED)
    worker.close()
    worker.start(again=True)
    assert (
        worker.closed
        and worker.phase is Phase.STOPPED
        and worker._process is None
        and forgotten == [worker.close]
    )
    with pytest.raises(TurnoverError, match="the engine was put away"):
        worker.ask(ASKED)
    assert worker._process is None, "no process that nobody would end"


def test_one_that_is_closed_while_it_is_asked_starts_no_other(make_worker) -> None:  # type: ignore[no-untyped-def]
    worker = make_worker("silent")
    worker.start()
    wait_for(worker, Phase.READY)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(worker.ask, ASKED, 0.5)
        time.sleep(0.1)
        worker.close()
        with pytest.raises(TurnoverError, match="stopped while it was answering"):
            asked.result()
    assert worker._process is None and worker.closed


def test_one_that_does_not_get_ready_fails(make_worker, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(engine, "READY_SECONDS", 0.3)
    worker = make_worker("slow start")
    with pytest.raises(TurnoverError, match="not loaded within"):
        worker.ask(ASKED)
    assert worker.phase is Phase.FAILED
