"""Pages opened by links that nobody would make, on runs that nobody would keep: each shows
something, and no page breaks.
"""

from __future__ import annotations

import os
import random
import re
import sys
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.helpers.fake_jobs import fake_job
from tests.helpers.fake_runs import FakeRun
from tests.nightly.soak.fuzz import Example, spoilt_results
from tests.nightly.soak.mutations import ODD, mutated_bytes, mutated_json
from tests.pages.app_testing import APP, PAGES
from turnover.dashboard import engine
from turnover.storage.artifacts import MANIFEST

_KEYS = sorted(
    {
        key
        for path in APP.parent.rglob("*.py")
        for key in re.findall(r'key="([a-z-]+)"', path.read_text(encoding="utf-8"))
    }
    | {"run", "item", "true", "predicted", "search", "sort", "epoch"}
)
_WORKER = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    print(json.dumps({"error": "not today"}), flush=True)
"""
_WORDS = (
    "text",
    "image",
    "bare",
    "nowhere",
    "v000",
    "v003",
    "t001",
    "negative",
    "positive",
    "truth",
    "prediction",
    "true",
    "1",
    "5",
    "5000",
    "film",
    "0.5",
    "drop",
)


def fuzz_pages(folder: Path) -> Example:
    """Every page with query parameters at random, now and then with a file of the run spoiled."""
    os.environ["TURNOVER_RUNS"] = str(folder)
    engine.worker_command = lambda: [sys.executable, "-c", _WORKER]
    made = [
        FakeRun(name, name, train=12, validation=9, members=2).write(folder)
        for name in ("text", "image")
    ]
    made.append(FakeRun("bare", train=12, validation=9, influence=False).write(folder))
    fake_job(
        folder,
        [["train", "--data", "digits", "--run", str(folder / "x")]],
        outcome={"results": [], "finished": False, "error": "broke"},
        log="said\n",
    )
    kept = [
        *spoilt_results(made[0]),
        *(folder / ".jobs").glob("*/*.json"),
        *(run / MANIFEST for run in made),
        *(run / "influence" / MANIFEST for run in made[:2]),
    ]

    def one(chance: random.Random) -> None:
        page, spoilt = (
            chance.choice(list(PAGES)),
            chance.choice(kept) if chance.random() < 0.4 else None,
        )
        whole = spoilt.read_bytes() if spoilt else b""
        if spoilt:
            spoilt.write_bytes(
                mutated_bytes(chance, whole)
                if spoilt.suffix == ".npz"
                else mutated_json(chance, whole)
            )
        try:
            show(
                page,
                {chance.choice(_KEYS): _value(chance) for _ in range(chance.choice((0, 1, 2, 6)))},
            )
        finally:
            if spoilt:
                spoilt.write_bytes(whole)

    for page in PAGES:  # what is loaded once is no example
        show(page, {})
    return one


def show(page: str, query: dict[str, Any]) -> None:
    """Open a page; it has a title, and says nothing with a traceback."""
    app = AppTest.from_file(str(APP), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    if page != "errors":
        app.switch_page(PAGES[page]).run()
    broken = [element.proto.message for element in app.exception]
    assert not broken and app.title, f"{page} {query!r}: {broken}"


def _value(chance: random.Random) -> Any:
    if chance.random() < 0.1:
        return [str(chance.choice(_WORDS)) for _ in range(chance.randrange(3))]
    word = str(chance.choice(_WORDS if chance.random() < 0.5 else ODD))
    return word.encode("utf-8", "replace").decode()  # as a browser sends it
