"""What tests of pages share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

from streamlit.testing.v1 import AppTest

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
PAGES = {
    "overview": "app_pages/overview.py",
    "errors": "app_pages/errors.py",
    "training": "app_pages/training_item.py",
    "curves": "app_pages/curves.py",
    "map": "app_pages/map.py",
    "trust": "app_pages/trust.py",
    "cleanse": "app_pages/cleanse.py",
    "try": "app_pages/try_own.py",
    "flags": "app_pages/flags.py",
    "train": "app_pages/train.py",
    "about": "app_pages/about.py",
}
OpenPage = Callable[..., AppTest]


def links(app: AppTest) -> list[tuple[str, dict[str, list[str]]]]:
    """Labels and parameters of the links that choose something."""
    return [
        (link.proto.label, parse_qs(link.proto.query_string))
        for link in app.get("page_link")
        if link.proto.query_string
    ]


def html_of(app: AppTest) -> str:
    """All that the page shows through st.html."""
    return "\n".join(element.proto.body for element in app.get("html"))
