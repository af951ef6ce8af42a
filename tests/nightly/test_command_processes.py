"""Commands as processes of their own: a disk that fills up, Ctrl-C, a worker in conversation."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers.builders import ONE_THREAD
from tests.helpers.calling import tree
from turnover.cli import main
from turnover.runs.run import Run

LIMITED = (
    "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); "
    "from turnover.cli import main; sys.exit(main(sys.argv[2:]))"
)


def limited(size: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command that cannot write larger files, as on a disk that fills up."""
    command = [sys.executable, "-c", LIMITED, *map(str, (size, *arguments))]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=ONE_THREAD
    )


def test_a_disk_that_fills_up_is_said_in_one_line_and_leaves_nothing(
    small_run: Path, tmp_path: Path
) -> None:
    asked = ("train", "--data", "digits", "--limit", 60, "--members", 2)
    trained = limited(2**19, *asked, "--run", tmp_path / "run")
    assert trained.returncode == 2
    assert trained.stderr.strip().splitlines()[-1].startswith("turnover train:")
    assert "Traceback" not in trained.stderr
    assert list(tmp_path.iterdir()) == []
    shutil.copytree(small_run, tmp_path / "run")
    before = tree(tmp_path)
    computed = limited(2**17, "influence", "--run", tmp_path / "run")
    assert computed.returncode == 2
    assert "Traceback" not in computed.stderr
    assert tree(tmp_path) == before


def listen() -> None:
    """A process that was started in the background ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    asked = ("train", "--data", "digits", "--limit", "200", "--members", "2", "--run", run)
    running = subprocess.Popen(
        [sys.executable, "-m", "turnover", *asked],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=listen,
    )
    partial = tmp_path / "run.partial" / "masked.checkpoint"
    while not partial.exists() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "same command" in said.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()
    assert main([*asked]) == 0
    assert Run(tmp_path / "run").manifest["results"]["epochs"] >= 1


def test_a_worker_answers_each_line_before_it_reads_the_next(reviews_run: Path) -> None:
    command = [sys.executable, "-m", "turnover", "worker", "--run", str(reviews_run)]
    running = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ONE_THREAD
    )
    assert running.stdin and running.stdout
    assert json.loads(running.stdout.readline()) == {"ready": True}
    for request, key in (('{"text": "a fine film"}', "proponents"), ("nonsense", "error")):
        print(request, file=running.stdin, flush=True)
        assert key in json.loads(running.stdout.readline())
    running.communicate(timeout=60)
    assert running.returncode == 0
