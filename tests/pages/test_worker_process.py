"""The one worker process behind all runs, as the dashboard sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from turnover.dashboard import engine
from turnover.dashboard.engine import Engine, Phase, Worker, worker_command
from turnover.errors import TurnoverError

Commands = Callable[[str], list[str]]
Make = Callable[..., Worker]
ASKED = {"text": "a submarine", "label": None, "top": 2}


@pytest.fixture
def make_worker(worker_command: Commands) -> Iterator[Make]:
    made: list[Engine] = []

    def make(mode: str, run: str = "a") -> Worker:
        made.append(Engine(worker_command(mode)))
        return Worker(made[-1], Path(run))

    yield make
    for one in made:
        one.close()


def wait_for(worker: Worker, phase: Phase) -> None:
    end = time.monotonic() + 20
    while worker.phase is not phase and time.monotonic() < end:
        time.sleep(0.02)
    assert worker.phase is phase


def test_the_command_names_no_run() -> None:
    assert worker_command()[1:] == ["-m", "turnover", "worker"]


def test_it_warms_up_in_the_background_and_answers(make_worker: Make) -> None:
    worker = make_worker("answers")
    assert worker.phase is Phase.STOPPED
    worker.start()
    assert worker.phase in (Phase.WARMING, Phase.READY)
    answer = worker.ask(ASKED)
    assert answer["predicted"] == "positive" and len(answer["proponents"]) == 2
    assert worker.phase is Phase.READY and worker.problem == ""
    worker.start()
    assert worker.ask(ASKED)["process"] == answer["process"]


def test_many_tabs_and_runs_share_one_process(make_worker: Make) -> None:
    worker = make_worker("answers")
    workers = (worker, Worker(worker._engine, Path("b")))
    with ThreadPoolExecutor(4) as pool:
        asked = [(workers[top % 2], {**ASKED, "top": top}) for top in range(1, 9)]
        answers = list(pool.map(lambda one: one[0].ask(one[1]), asked))
    assert [len(answer["proponents"]) for answer in answers] == list(range(1, 9))
    assert len({answer["process"] for answer in answers}) == 1


def test_what_it_complains_about_is_raised(make_worker: Make) -> None:
    with pytest.raises(TurnoverError, match="too bad"):
        make_worker("answers").ask({**ASKED, "text": "bad"})


def test_a_run_that_cannot_be_loaded_says_why_and_harms_no_other(make_worker: Make) -> None:
    worker = make_worker("answers", "refused")
    other = Worker(worker._engine, Path("b"))
    worker.start()
    wait_for(worker, Phase.FAILED)
    assert worker.problem == "its encoder is not there"
    assert other.ask(ASKED)["predicted"] == "positive"
    process = worker._engine.process
    with pytest.raises(TurnoverError, match="encoder is not there"):
        worker.ask(ASKED)
    assert worker._engine.process is process and other.phase is Phase.READY


def test_one_that_cannot_start_says_why_and_starts_again_only_on_demand(make_worker: Make) -> None:
    worker = make_worker("fails")
    worker.start()
    wait_for(worker, Phase.FAILED)
    assert worker.problem == "the encoder is not there; install it"
    process = worker._engine.process
    worker.start()
    assert worker._engine.process is process
    worker.start(again=True)
    wait_for(worker, Phase.FAILED)
    assert worker._engine.process is not process
    with pytest.raises(TurnoverError, match="encoder is not there"):
        worker.ask(ASKED)


def test_one_that_died_or_ended_is_started_again(make_worker: Make) -> None:
    worker = make_worker("dies")
    with pytest.raises(TurnoverError, match="stopped while it was answering"):
        worker.ask(ASKED)
    wait_for(worker, Phase.STOPPED)
    worker.start()
    wait_for(worker, Phase.READY)


def test_a_late_answer_is_given_up(make_worker: Make) -> None:
    worker = make_worker("silent")
    with pytest.raises(TurnoverError, match=r"no answer within 0 s"):
        worker.ask(ASKED, seconds=0.3)
    assert worker.phase is Phase.STOPPED
    worker.start()
    wait_for(worker, Phase.READY)


def test_one_that_was_closed_stays_closed(
    make_worker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[object] = []
    monkeypatch.setattr(engine.atexit, "unregister", forgotten.append)
    worker = make_worker("answers")
    worker.ask(ASKED)
    worker._engine.close()
    assert worker.phase is Phase.STOPPED and forgotten == [worker._engine.close]
    with pytest.raises(TurnoverError, match="being stopped"):
        worker.ask(ASKED)
    process = worker._engine.process
    assert process and not process.alive, "no process that nobody would end"


def test_one_that_does_not_get_ready_fails(
    make_worker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "READY_SECONDS", 0.3)
    worker = make_worker("slow start")
    with pytest.raises(TurnoverError, match="not ready within"):
        worker.ask(ASKED)
    assert worker.phase is Phase.FAILED
