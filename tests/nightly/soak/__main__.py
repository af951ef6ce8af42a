"""Kills and fuzzing for minutes: `python -m tests.nightly.soak --rounds 200 --examples 10000`.
Prints what was done; fails with the first thing that broke.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

SHARES = {
    **{
        "pages": 0.05,
        "manifests": 0.08,
        "tables": 0.05,
        "arrays": 0.05,
        "data": 0.15,
        "images": 0.22,
    },
    **{"patches": 0.1, "apply": 0.12, "results": 0.08, "jobs": 0.06, "flags": 0.04},
}
"""Of the examples; a page takes a hundred times as long as an image."""


def main() -> None:
    """Parse the options, and do the rounds and the examples."""
    parser = argparse.ArgumentParser(prog="python -m tests.nightly.soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, metavar="N", help="kills (default 200)")
    parser.add_argument(
        "--examples",
        type=int,
        default=10_000,
        metavar="N",
        help="spoiled files and links (default 10,000)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="of everything that is drawn at random (default 0)",
    )
    options = parser.parse_args()
    os.environ["STREAMLIT_LOGGER_LEVEL"] = (
        "critical"  # else each page warns that nobody looks at it
    )
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        if options.rounds:
            from tests.nightly.soak.kills import kill_rounds

            _say("kills", kill_rounds(options.rounds, Path(folder), options.seed), begun)
        begun = time.perf_counter()
        if options.examples:
            from tests.nightly.soak.fuzz import fuzz

            done = {
                name: fuzz(
                    name,
                    round(share * options.examples),
                    Path(folder, f"fuzz-{name}"),
                    options.seed,
                )
                for name, share in SHARES.items()
            }
            _say("examples", done, begun)


def _say(what: str, done: dict[str, int], begun: float) -> None:
    print(
        json.dumps(
            {what: sum(done.values()), **done, "seconds": round(time.perf_counter() - begun)}
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
