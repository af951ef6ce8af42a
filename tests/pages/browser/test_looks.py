"""What axe finds is forgiven to Streamlit's uploader alone."""

from __future__ import annotations

import pytest

from tests.pages.browser.looks import STREAMLIT, is_streamlits

UPLOADER = f'<section class="x" role="presentation" data-testid="{STREAMLIT}" tabindex="0">'


@pytest.mark.parametrize(
    ("html", "forgiven"),
    [
        (f"{UPLOADER}<b>Upload</b></section>", True),
        (f'<div role="alert">{UPLOADER}</section></div>', False),
        (f'<span data-testid="{STREAMLIT}Instructions">', False),
        (f'<p title="{STREAMLIT}">', False),
    ],
)
def test_the_uploader_itself_is_forgiven_and_nothing_around_it(html: str, forgiven: bool) -> None:
    assert is_streamlits(html) is forgiven
