"""Processes that kill themselves: at a file operation below a folder, or after some time from a
first one.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

_WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "sqlite3.connect")


def die(folder: str, start: str, count: int, seconds: float) -> None:
    """From now on this process ends without a word at its count-th file operation below `folder`,
    or after some seconds.

    Operations count from the first on a name that holds `start`, and the seconds begin there; 0
    means never.
    """
    seen = [0]

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event not in _WATCHED:
            return
        places = [str(place) for place in arguments[:2]]
        if any(folder in place for place in places) and (
            seen[0] or any(start in place for place in places)
        ):
            seen[0] += 1
            if seen[0] == 1 and seconds:
                timer = threading.Timer(seconds, kill)
                timer.daemon = True  # what ends before its time is over has survived
                timer.start()
            if seen[0] == count:
                kill()

    sys.addaudithook(watch)
