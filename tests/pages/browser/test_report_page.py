"""The page of a run's mistakes as a browser shows it: from the file, on a phone and on a desk,
light and dark.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.helpers.fake_runs import HOSTILE, FakeRun
from tests.pages.browser.browser_testing import LOW_CONTRAST, SHOTS
from turnover.explain.report import write_report
from turnover.runs.run import Run

UNFOLD = "document.querySelectorAll('details').forEach(part => part.open = true)"


@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fits_is_readable_and_asks_for_nothing(
    browser: Browser, tmp_path: Path, kind: str, scheme: str, width: int
) -> None:
    long_word = "<script>document.title='owned'</script>" + "x" * 300
    folder = FakeRun(
        kind=kind, texts=(long_word, *HOSTILE), classes=("<b>neg</b>", "a long class name " * 9)
    ).write(tmp_path)
    path = tmp_path / "page.html"
    write_report(Run(folder), path)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    page.evaluate(UNFOLD)
    page.wait_for_timeout(100)
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert said == []
    assert page.title() == "What taught fake its mistakes"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(LOW_CONTRAST) == []
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    page.screenshot(path=SHOTS / f"report-{kind}-{width}-{scheme}.png")
    context.close()
