"""`turnover dashboard`: serve the pages, on this machine's loopback address unless HOST is set.

The port is `--port`, else the environment variable PORT, else 8501; if it is taken, the next free
one is used and printed. The server runs headless, so that on a machine without a browser it neither
fails nor asks for an e-mail address.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import sys
import threading
import time
from pathlib import Path

from turnover.errors import TurnoverError

HERE = Path(__file__).parent
LOCAL = "127.0.0.1"
LOOPBACK = (LOCAL, "localhost", "::1")
_EVERY_ADDRESS = ("0.0.0.0", "::")
_TRIES = 100
_QUIET_SECONDS, _FIRST_LOAD = 2.0, 8.0
_TRUST = {"agreement", "lds"}
"""Measures of which Runs, Trust tells in words."""
_FIRST_PAGE = (
    *("pandas", "pyarrow.parquet", "pyarrow.dataset", "PIL.Image"),
    *(
        "turnover.dashboard.shared.address",
        "turnover.dashboard.errors.explorer",
        "turnover.dashboard.errors.more",
    ),
)


def is_free(port: int, host: str = LOCAL) -> bool:
    """Whether a port of this machine is free.

    Raises:
        OSError: if this machine does not have this address.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def free_port(wanted: int, host: str = LOCAL) -> int | None:
    """The first free port from `wanted` on, within `_TRIES`; None if all are taken. Raises OSError
    as `is_free`.
    """
    return next(
        (port for port in range(wanted, min(wanted + _TRIES, 65536)) if is_free(port, host)), None
    )


def arguments(port: int, host: str = LOCAL) -> list[str]:
    """The arguments of Streamlit. Other options are in .streamlit/config.toml beside the script,
    which allows this machine's own host names only.
    """
    options = [
        "run",
        str(HERE / "app.py"),
        f"--server.port={port}",
        f"--server.address={host}",
        "--server.headless=true",
    ]
    if host in LOOPBACK:
        return options
    names = ("*",) if host in _EVERY_ADDRESS else (*LOOPBACK[:2], host)
    return [*options, *(f"--server.allowedHosts={name}" for name in names)]


def warn(host: str, port: int) -> None:
    """Warn on stderr about serving on an address that other machines can reach."""
    print(
        f"Warning: HOST={host}, so everyone who can reach port {port} of this machine reads the "
        "runs' data, flags items and starts jobs, over plain HTTP. Set up sign-in and a proxy "
        "with TLS first (README, Security).",
        file=sys.stderr,
        flush=True,
    )


def find_port(wanted: str, host: str = LOCAL) -> int:
    """The port to serve on, printed if it is not the wanted one.

    Raises:
        TurnoverError: if `wanted` is not a port number, no port near it is free, or this machine
            does not have the address `host`.
    """
    if not wanted.isdecimal() or not 1 <= int(wanted) <= 65535:
        raise TurnoverError(f"port {wanted!r}: choose a number from 1 to 65535")
    try:
        port = free_port(int(wanted), host)
    except OSError as error:
        raise TurnoverError(
            f"HOST={host}: this machine cannot serve there ({error.strerror}); leave HOST out, or "
            "name one of its addresses"
        ) from None
    if port is None:
        raise TurnoverError(f"no free port from {wanted} on; choose another with --port or PORT")
    if port != int(wanted):
        print(f"Port {wanted} is taken, so this uses {port}.", flush=True)
    return port


def launch(port: str, runs: str, demos: bool = False) -> None:
    """Find a port and serve the dashboard; once it is up, measure the `demos`. HOST is read from
    the environment only, so that nobody exposes the dashboard by a mistyped option.

    Raises:
        ModuleNotFoundError: if Streamlit is missing, before anything is printed.
        TurnoverError: as `find_port`.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise ModuleNotFoundError(name="streamlit")
    host = os.environ.get("HOST") or LOCAL
    free = find_port(port, host)
    if demos:
        threading.Thread(
            target=measure, args=(free, Path(runs).resolve(), host), daemon=True
        ).start()
    serve(free, Path(runs), host)


def measure(port: int, runs: Path, host: str = LOCAL) -> None:
    """Wait until the dashboard is up and a first page had time to load, then begin to measure the
    demo runs.
    """
    while is_free(port, host):
        time.sleep(_QUIET_SECONDS)
    time.sleep(_FIRST_LOAD)
    try:
        measure_demos(runs)
    except TurnoverError as error:  # the pages are served all the same
        print(f"turnover dashboard: {error}", file=sys.stderr, flush=True)


def measure_demos(folder: Path) -> None:
    """Begin, at low priority, to measure what takes too long for `make run` to wait for: whether
    cleansing helps each demo run, and then how far to trust it. What was measured, or stopped by
    somebody, is left alone.

    Raises:
        TurnoverError: if a job cannot be started.
    """
    from turnover.jobs import State, find_jobs, resume_job, start_job
    from turnover.research.evaluate.results import read_results
    from turnover.runs.run import Run
    from turnover.workflows.cleansing_results import OWN, curve_of
    from turnover.workflows.demo import DATA, demo_folder, is_built

    curves, trust = [], []
    for data in reversed(DATA):  # the quicker one first
        if not is_built(folder, data):
            continue
        run = Run(demo_folder(folder, data))
        if run.manifest["settings"]["data"] != data:
            continue
        curve, name = curve_of(run, OWN), str(run.folder)
        if not curve or curve.stale:
            step = ["cleanse", "--run", name, "--repeats", "4", "--validation", OWN]
            curves.append((f"Does cleansing help {run.name}?", step))
        fresh = {result.measure for result in read_results(run).found if not result.stale}
        for measure in sorted(_TRUST - fresh):
            step = ["evaluate", "--run", name, "--measure", measure]
            trust.append((f"How far to trust {run.name}: {measure}", step))
    for label, step in (*curves, *trust):
        known = next((job for job in find_jobs(folder) if list(job.steps[0]) == step), None)
        if known is None or known.state is State.DONE:
            start_job(folder, [step], label, low=True)
        elif known.state is State.LOST:
            resume_job(known)


def serve(port: int, runs: Path, host: str = LOCAL) -> None:
    """Print the dashboard's address, and serve it until it is stopped."""
    if host not in LOOPBACK:
        warn(host, port)
    print(f"Turnover is at http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    runs, here = runs.resolve(), Path.cwd()
    os.environ["TURNOVER_RUNS"] = (
        str(runs.relative_to(here)) if runs.is_relative_to(here) else str(runs)
    )
    run_streamlit(arguments(port, host))


def run_streamlit(argv: list[str]) -> None:
    """Run Streamlit's command line in this process."""
    from streamlit.web import cli

    threading.Thread(target=warm_up, daemon=True).start()
    sys.argv = ["streamlit", *argv]
    cli.main()


def warm_up() -> None:
    """Import what the first page needs, after a pause: importing while a browser loads the page's
    files would slow them down.
    """
    time.sleep(_QUIET_SECONDS)
    for name in _FIRST_PAGE:
        importlib.import_module(name)
