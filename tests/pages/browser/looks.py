"""What holds for every page: in light and dark, on a desk, enlarged to 200 % and on a phone, it
fits and its text stands out; and axe, the accessibility engine, finds nothing.

Axe takes seconds, so it sees three of the six looks, in which each scheme and each size is.
"""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.pages.browser.browser_testing import LOW_CONTRAST, shoot

SCHEMES = ("light", "dark")
SIZES = ((1280, 900), (720, 450), (390, 900))
WHOLE = (("light", 1280), ("light", 720), ("dark", 390))
"""The looks that axe sees, and of which a picture is kept."""

WIDER = """() => Math.max(...['html', '[data-testid=stMain]'].map(
  name => document.querySelector(name)).map(node => node.scrollWidth - node.clientWidth))"""

STREAMLIT = "stFileUploaderDropzone"
"""Streamlit's uploader is a `section` with the role of decoration that can be focused; nothing of
ours can change that.
"""


def violations(page: Page) -> list[str]:
    """One line for each rule of axe that the open page breaks: the rule, and where it is broken
    first.
    """
    found = Axe().run(page).response["violations"]
    ours = [
        (one, [node["html"] for node in one["nodes"] if not is_streamlits(node["html"])])
        for one in found
    ]
    return [
        f"{one['id']}: {one['help']}: {nodes[0][:200]} ({len(nodes)})"
        for one, nodes in ours
        if nodes
    ]


def is_streamlits(html: str) -> bool:
    """Whether a node is Streamlit's uploader itself; what only contains it is ours."""
    return f'data-testid="{STREAMLIT}"' in html.partition(">")[0]


def wrong_looks(page: Page, name: str) -> dict[str, list[str]]:
    """What is wrong with the open page in each look; empty if nothing is."""
    wrong = {}
    # a colour on its way from one scheme to the other is no look
    page.add_style_tag(content="* { transition: none !important; }")
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.wait_for_timeout(300)
            lines = [f"contrast {line}" for line in page.evaluate(LOW_CONTRAST)]
            if (wide := page.evaluate(WIDER)) > 0:
                lines.append(f"{wide} pixels too wide")
            if (scheme, width) in WHOLE:
                lines += violations(page)
                shoot(page, f"{name}-{scheme}-{width}")
            if lines:
                wrong[f"{scheme}, {width}"] = lines
    return wrong
