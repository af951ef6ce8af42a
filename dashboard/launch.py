"""`python -m dashboard.launch [--runs DIR] [--port N]`: start the dashboard, bound to this machine only.

The port is `--port`, else the environment variable PORT, else 8501; if it is taken, the next free one, which is said.
The server runs headless, so that a machine without a browser neither fails nor asks for an e-mail address.
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from core.errors import TurnoverError

ROOT = Path(__file__).parents[1]
ADDRESS = "127.0.0.1"
DEFAULT_PORT = 8501
_TRIES = 100
_QUIET_SECONDS = 2.0
_FIRST_PAGE = (
    *("pandas", "pyarrow.parquet", "pyarrow.dataset", "PIL.Image"),
    *("dashboard.components.run_choice", "dashboard.components.overview", "dashboard.components.confusion"),
    *("dashboard.components.error_table", "dashboard.components.error_detail", "dashboard.components.export"),
)


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def free_port(wanted: int) -> int | None:
    """The wanted port, or the next free one after it; None if there is none near."""
    return next((port for port in range(wanted, min(wanted + _TRIES, 65536)) if is_free(port)), None)


def arguments(port: int) -> list[str]:
    """What Streamlit is told; the rest is in .streamlit/config.toml."""
    return ["run", str(ROOT / "dashboard" / "app.py"), f"--server.port={port}", f"--server.address={ADDRESS}", "--server.headless=true"]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; PORT and TURNOVER_RUNS of the environment are their defaults."""
    parser = argparse.ArgumentParser(prog="python -m dashboard.launch", description="Open the dashboard on the runs in a folder.")
    parser.add_argument("--runs", default=os.environ.get("TURNOVER_RUNS", "runs"), metavar="DIR", help="folder that holds the runs (default runs)")
    parser.add_argument("--port", default=os.environ.get("PORT") or str(DEFAULT_PORT), metavar="N", help=f"port (default PORT, else {DEFAULT_PORT})")
    return parser.parse_args(argv)


def find_port(wanted: str) -> int:
    """The port to serve on; says so if it is not the wanted one.

    Raises:
        TurnoverError: if `wanted` is no port, or no port near it is free.
    """
    if not wanted.isdecimal() or not 1 <= int(wanted) <= 65535:
        raise TurnoverError(f"port {wanted!r}: choose a number from 1 to 65535")
    port = free_port(int(wanted))
    if port is None:
        raise TurnoverError(f"no free port from {wanted} on; choose another with --port or PORT")
    if port != int(wanted):
        print(f"Port {wanted} is taken, so this uses {port}.", flush=True)
    return port


def main(argv: Sequence[str] | None = None) -> int:
    """Find a port and serve the dashboard; returns the exit code."""
    options = parse(argv)
    try:
        port = find_port(options.port)
    except TurnoverError as error:
        print(f"python -m dashboard.launch: {error}", file=sys.stderr)
        return 2
    serve(port, Path(options.runs))
    return 0


def serve(port: int, runs: Path) -> None:
    """Say where the dashboard is, and serve it until it is stopped."""
    print(f"Turnover is at http://{ADDRESS}:{port}", flush=True)
    runs = runs.resolve()
    here = Path.cwd() == ROOT and runs.is_relative_to(ROOT)
    os.environ["TURNOVER_RUNS"] = str(runs.relative_to(ROOT)) if here else str(runs)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    run_streamlit(arguments(port))


def run_streamlit(argv: list[str]) -> None:
    """Streamlit's own command line, in this process."""
    from streamlit.web import cli

    threading.Thread(target=warm_up, daemon=True).start()
    sys.argv = ["streamlit", *argv]
    cli.main()


def warm_up() -> None:
    """Import what the first page needs, if no browser came at once: it would load its own files slower meanwhile."""
    time.sleep(_QUIET_SECONDS)
    for name in _FIRST_PAGE:
        importlib.import_module(name)


if __name__ == "__main__":
    raise SystemExit(main())
