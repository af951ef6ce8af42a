"""What tests of pages share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
PAGES = {
    "errors": "app_pages/errors.py",
    "curves": "app_pages/curves.py",
    "trust": "app_pages/trust.py",
    "try": "app_pages/try_own.py",
    "train": "app_pages/train.py",
    "cleanse": "app_pages/cleanse.py",
}
OpenPage = Callable[..., AppTest]


def html_of(app: AppTest) -> str:
    """All that the page shows through st.html."""
    return "\n".join(element.proto.body for element in app.get("html"))
