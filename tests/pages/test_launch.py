from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.fake_runs import FakeRun
from tests.helpers.kept_things import a_cleansing, a_measure
from turnover import jobs
from turnover.cli import main
from turnover.dashboard import launch
from turnover.errors import TurnoverError
from turnover.research.evaluate.results import keep_result
from turnover.runs.run import Run
from turnover.workflows.cleansing_results import keep_cleansing

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """What Streamlit would be told, instead of running it."""
    calls: list[list[str]] = []
    monkeypatch.setattr(launch, "run_streamlit", calls.append)
    monkeypatch.setenv("TURNOVER_RUNS", "")
    monkeypatch.delenv("PORT", raising=False)
    monkeypatch.delenv("HOST", raising=False)
    monkeypatch.setattr(launch.sys, "path", list(launch.sys.path))
    monkeypatch.chdir(ROOT)
    return calls


@pytest.fixture
def taken():  # type: ignore[no-untyped-def]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_port_comes_from_the_environment_and_the_url_is_said(
    started, monkeypatch, capsys, taken
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PORT", str(taken))
    assert main(["dashboard", "--runs", "runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    port = int(lines[-1].rsplit(":", 1)[1])
    assert port > taken
    assert lines == [
        f"Port {taken} is taken, so this uses {port}.",
        f"Turnover is at http://127.0.0.1:{port}",
    ]
    (command,) = started
    assert (
        f"--server.port={port}" in command
        and "--server.address=127.0.0.1" in command
        and "--server.headless=true" in command
    )
    assert launch.os.environ["TURNOVER_RUNS"] == "runs"


def test_a_free_port_is_used_as_it_is(started, capsys) -> None:  # type: ignore[no-untyped-def]
    port = launch.free_port(20000)
    assert main(["dashboard", "--port", str(port), "--runs", "/somewhere/else"]) == 0
    assert capsys.readouterr().out == f"Turnover is at http://127.0.0.1:{port}\n"
    assert launch.os.environ["TURNOVER_RUNS"] == "/somewhere/else"


@pytest.mark.parametrize("port", ["x", "0", "70000", "-1"])
def test_a_bad_port_is_one_line_and_exit_code_2(started, capsys, port: str) -> None:  # type: ignore[no-untyped-def]
    assert main(["dashboard", f"--port={port}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not started


@pytest.mark.parametrize(
    ("host", "names"), [("0.0.0.0", ["*"]), ("127.0.0.2", ["127.0.0.1", "localhost", "127.0.0.2"])]
)
def test_another_address_is_warned_of_and_allowed(
    started, monkeypatch, capsys, host: str, names: list[str]
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("HOST", host)
    assert main(["dashboard", "--runs", "runs"]) == 0
    said = capsys.readouterr()
    assert (
        said.err.startswith(f"Warning: HOST={host}, so everyone who can reach port ")
        and said.err.count("\n") == 1
    )
    assert said.out.splitlines()[-1].startswith(f"Turnover is at http://{host}:")
    (command,) = started
    assert f"--server.address={host}" in command
    assert [
        part.partition("=")[2] for part in command if part.startswith("--server.allowedHosts")
    ] == names


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost"])
def test_this_machine_s_own_names_need_no_warning(started, monkeypatch, capsys, host: str) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("HOST", host)
    assert main(["dashboard", "--runs", "runs"]) == 0
    assert capsys.readouterr().err == ""
    assert not [part for part in started[0] if "allowedHosts" in part]


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host"])
def test_an_address_that_is_not_this_machine_s_is_one_line(
    started, monkeypatch, capsys, host: str
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("HOST", host)
    assert main(["dashboard", "--runs", "runs"]) == 2
    assert capsys.readouterr().err.startswith(
        f"turnover dashboard: HOST={host}: this machine cannot serve there"
    )
    assert not started


def test_an_address_of_version_6_is_written_as_urls_want_it(started, capsys) -> None:  # type: ignore[no-untyped-def]
    launch.serve(9000, ROOT / "runs", "::")
    assert capsys.readouterr().out == "Turnover is at http://[::]:9000\n"
    assert started == [launch.arguments(9000, "::")] and "--server.allowedHosts=*" in started[0]


def test_without_streamlit_one_line_names_the_extra(started, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    assert main(["dashboard"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        (
            "turnover dashboard: streamlit is not installed, and this needs it; pip install "
            "'turnover[dashboard]'\n"
        ),
    )
    assert not started


def test_demo_runs_are_measured_once_the_dashboard_is_up_and_only_where_it_is_asked_for(
    started, monkeypatch, capsys, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    measured, waited = [], []
    monkeypatch.setattr(launch, "measure_demos", measured.append)
    monkeypatch.setattr(launch.time, "sleep", waited.append)
    with monkeypatch.context() as patch:
        patch.setattr(launch, "is_free", lambda *_: len(waited) < 3)
        launch.measure(9000, tmp_path)
    assert measured == [tmp_path] and len(waited) == 4
    monkeypatch.setattr(launch, "measure", lambda *told: measured.append(told))
    port = launch.free_port(20000)
    for asked in ([], ["--measure-demos"]):
        assert main(["dashboard", "--port", str(port), "--runs", str(tmp_path), *asked]) == 0
    assert measured[1:] == [(port, tmp_path, "127.0.0.1")]
    assert "--measure-demos" in (ROOT / "Makefile").read_text()


def test_what_cannot_be_measured_is_one_line_and_the_pages_are_served(
    started, monkeypatch, capsys, taken, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    def fails(folder: Path) -> None:
        raise TurnoverError("no disk is left")

    monkeypatch.setattr(launch, "measure_demos", fails)
    monkeypatch.setattr(launch.time, "sleep", lambda _: None)
    launch.measure(taken, tmp_path)
    assert capsys.readouterr().err == "turnover dashboard: no disk is left\n"


def test_demo_runs_are_measured_once_and_no_other_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First whether cleansing helps. What somebody stopped stays stopped; what a restart of the
    machine ended goes on.
    """
    begun: list[tuple[str, str, bool]] = []

    def begin(_: Path, steps: list[list[str]], label: str, low: bool) -> None:
        begun.append((steps[0][2], steps[0][-1], low))

    monkeypatch.setattr(jobs, "start_job", begin)
    monkeypatch.setattr(
        jobs, "resume_job", lambda job: begun.append((job.steps[0][2], job.steps[0][-1], job.low))
    )
    folders = {}
    for name, data in (("demo-digits", "digits"), ("demo-reviews", "mine"), ("other", "digits")):
        folders[name] = FakeRun(name, facts={"settings": {"data": data}}).write(tmp_path)
        (folders[name] / "causes").mkdir()
    digits, run = str(folders["demo-digits"]), Run(folders["demo-digits"])
    trust = [(digits, "agreement", True), (digits, "lds", True)]
    launch.measure_demos(tmp_path)
    assert begun == [(digits, "validation", True), *trust]
    step = ["cleanse", "--run", digits, "--repeats", "4", "--validation", "validation"]
    job = fake_job(tmp_path, [step], cancelled=True)
    begun.clear()
    launch.measure_demos(tmp_path)
    assert begun == trust
    (job / "cancelled").unlink()
    launch.measure_demos(tmp_path)
    assert begun[2:] == [(digits, "validation", False), *trust]
    begun.clear()
    with at_work(job):
        launch.measure_demos(tmp_path)
    assert begun == trust
    keep_cleansing(run, json.loads(json.dumps(a_cleansing())))
    keep_result(run, a_measure("lds", targets=9))
    launch.measure_demos(tmp_path)
    assert begun[2:] == trust[:1]
