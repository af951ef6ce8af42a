"""Made-up runs, a made-up worker, and pages run in process by Streamlit's AppTest."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.pages.app_testing import APP, PAGES, OpenPage
from turnover.dashboard import engine

WORKER = """
    import base64, json, os, sys, time
    mode = sys.argv[1]
    if mode == "fails":
        print("turnover worker: the encoder is not there; install it", file=sys.stderr)
        sys.exit(2)
    time.sleep({"slow start": 60}.get(mode, 0))
    print("not JSON")
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["run"].endswith("refused"):
            print(json.dumps({"error": "its encoder is not there"}), flush=True)
            continue
        if set(asked) == {"run"}:
            print(json.dumps({"loaded": True}), flush=True)
            continue
        if mode == "dies":
            sys.exit(1)
        if mode == "silent":
            time.sleep(60)
        def chances(text):
            positive = 0.8 if "submarine" in text else 0.3
            return {"negative": 1 - positive, "positive": positive}
        if "instances" in asked:  # the first patch holds all influence, the last one takes from it
            changes = [0, *(-1 / (1 + place) for place in range(len(asked["images"]) - 2)), 0.25]
            values = [
                [1 + change * (1 + position) for position in range(len(asked["instances"]))]
                for change in changes
            ]
            answer = {"influences": values, "estimator": "median"}
            if asked["label"] == "bad":
                answer = {"error": "no <b>such</b> label"}
            print(json.dumps(answer), flush=True)
            continue
        if "texts" in asked or "images" in asked:
            contents = asked.get("texts") or [
                "submarine" if place % 2 else "" for place in range(len(asked["images"]))
            ]
            answer = {"probabilities": [chances(content) for content in contents]}
            print(json.dumps(answer), flush=True)
            continue
        if asked.get("text") == "bad":
            print(json.dumps({"error": "your text: <b>too bad</b>"}), flush=True)
            continue
        def entry(position, influence):
            content = {"text": "a <i>slow</i> submarine"}
            if "text" not in asked:
                content = {"image": asked["image"]}
            known = {"influence": influence, "std_error": 0.01, "trust": "strong", "strength": 5.2}
            known |= {"rank": 1 + position, "share": abs(influence) / 4}
            named = {"position": position, "id": f"t{position:03d}", "label": "positive"}
            return named | known | content
        known = chances(asked.get("text", "submarine"))
        answer = {
            "predicted": max(known, key=known.get), "probabilities": known,
            "meaning": "label" if asked["label"] else "prediction",
            "label": asked["label"] or max(known, key=known.get),
            "estimator": "median", "trust": {"strong": 6, "weak": 0},
            "seconds": 0.1, "process": os.getpid(), "cause": None, "warning": "",
            "proponents": [entry(i, 0.2 - i / 100) for i in range(asked["top"])],
            "opponents": [entry(9, -0.1)],
        }
        if asked.get("why"):
            cue = asked.get("text", "").count("submarine")
            answer["cause"] = {
                "kind": "cue" if cue else "none", "sentence": "as <b>it</b> was", "group": "x",
                "words": ["submarine"] * cue, "regions": [], "without": 0.3, "doubt": None,
                "teachers": [], "twin": None,
            }
            answer["warning"] = "<i>unknown</i>" if asked.get("text") == "odd" else ""
        if "also" in asked:
            answer["also"] = [entry(position, position / 10) for position in asked["also"]]
        print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def worker_command(tmp_path: Path) -> Callable[[str], list[str]]:
    """Commands of a made-up worker: `answers`, `fails`, `dies` at its first question, stays
    `silent`, or has a `slow start`.
    """
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER), encoding="utf-8")
    return lambda mode: [sys.executable, str(script), mode]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of runs that the dashboard looks into."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("TURNOVER_RUNS", str(folder))
    return folder


@pytest.fixture
def open_page(runs: Path) -> OpenPage:
    """Open a page by name, with query parameters; fails if the page raised."""

    def open_it(page: str = "errors", **query: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(APP), default_timeout=60)
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        if page != "errors":
            app.switch_page(PAGES[page]).run()
        assert not app.exception
        return app

    return open_it


@pytest.fixture
def fresh(
    worker_command: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Nothing cached from another test, and a made-up worker."""
    monkeypatch.setattr(engine, "worker_command", lambda: worker_command("answers"))
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()
