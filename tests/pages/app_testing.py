"""What tests of pages share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from streamlit.testing.v1 import AppTest

from turnover.dashboard.errors.list_view import Place
from turnover.workflows.cleansing import (
    CLEANSED,
    FLAGGED,
    NONE,
    RANDOM,
    Retrained,
    chosen_share,
    summarise,
)

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
PAGES = {
    "errors": "app_pages/errors.py",
    "training": "app_pages/training_data.py",
    "cleanse": "app_pages/cleanse.py",
    "runs": "app_pages/runs.py",
}
OpenPage = Callable[..., AppTest]


def links(app: AppTest) -> list[tuple[str, dict[str, list[str]]]]:
    """Labels and parameters of the links that choose something."""
    return [
        (link.proto.label, parse_qs(link.proto.query_string))
        for link in app.get("page_link")
        if link.proto.query_string
    ]


def explorer(app: AppTest) -> dict[str, Any]:
    """What the Errors page hands to the browser's list and pane."""
    (component,) = app.get("bidi_component")
    return json.loads(component.proto.json)  # type: ignore[no-any-return]


def shown_pane(app: AppTest) -> dict[str, Any]:
    """The error that the browser shows, with its teachers and opponents."""
    data = explorer(app)
    return next(pane for pane in data["panes"] if pane["id"] == data["item"])


def go_to_error(app: AppTest, item: str) -> AppTest:
    """Show another error, as after a step."""
    app.session_state["place"].place = Place(item=item)
    return app.run()


def open_more(app: AppTest, part: str) -> AppTest:
    """Open a part of what is below the error, by its name in the address."""
    app.session_state["more"] = True
    app.session_state["more-choice"] = part
    return app.run()


def warm(app: AppTest) -> AppTest:
    """Run the page until the model is warm and has answered."""
    end = time.monotonic() + 20
    while "warming up" in html_of(app) and time.monotonic() < end:
        time.sleep(0.1)
        app.run()
    assert "warming up" not in html_of(app) and not app.exception
    return app


def try_own(app: AppTest, text: str = "", file: tuple[str, bytes] | None = None) -> AppTest:
    """Ask about a text or a file (name, content) of one's own, and wait for the answer."""
    closed = app.session_state["try-closed"] if "try-closed" in app.session_state else 0  # noqa: SIM401
    app.session_state[f"try-{closed}"] = True
    app.run()
    if file:
        app.file_uploader(key="try-file").upload(*file)
    if text:
        app.text_area(key="try-text").set_value(text)
    next(button for button in app.button if button.label == "Explain").click().run()
    return warm(app)


def html_of(app: AppTest) -> str:
    """All that the page shows through st.html."""
    return "\n".join(element.proto.body for element in app.get("html"))


def a_curve(
    helps: bool = True, flags: bool = False, facts_flags: Any = None, **facts: Any
) -> dict[str, Any]:
    """What `cleanse --json` prints of four seeds and two shares of 60 items; `helps` says whether
    cleansing does, far beyond chance.
    """
    models = []
    for seed in range(4):
        noise = 0.01 * (seed % 2) * (1 + seed)
        models.append(Retrained(NONE, seed, 0.7 + noise, 0.5 - noise, 0.4))
        for share in (0.1, 0.2):
            models.append(Retrained(RANDOM, seed, 0.7 - noise, 0.5 + noise, 0.4, share))
            better = 0.15 * helps
            models.append(Retrained(CLEANSED, seed, 0.7 + better, 0.5 - better, 0.3, share))
        if flags:
            models.append(Retrained(FLAGGED, seed, 0.8, 0.4, 0.4))
    rows = summarise(models)
    decided = {"dropped": 2, "relabelled": 1, "digest": "of others"} if flags else facts_flags
    told = {"validation": "validation", "shares": [0.1, 0.2], "removed": [6, 12], "flags": decided}
    told |= {"total": 60, "repeats": 4, "targets": 9, "measured_on": 9, "removed_ids": []}
    told |= {"chosen": chosen_share(rows), "conditions": [asdict(row) for row in rows]}
    return told | {"models": [asdict(model) for model in models]} | facts
