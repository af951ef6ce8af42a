"""The Trust tab in a real browser: a picture that a link reproduces, readable in both themes and
on a small screen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.helpers.fake_runs import HOSTILE, FakeRun
from tests.pages.browser.browser_testing import Served, open_page, settle
from tests.pages.browser.looks import wrong_looks
from turnover.research.evaluate.results import keep_result
from turnover.runs.run import Run
from turnover.storage.artifacts import MANIFEST, write_manifest


def drown(part: Path) -> None:
    """Errors so large that no influence on a prediction stands out of them."""
    np.save(
        part / "prediction_error.npy", np.full_like(np.load(part / "prediction_error.npy"), 100)
    )
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    write_manifest(
        part,
        {name: fact for name, fact in facts.items() if name not in ("format", "files")},
        sorted(facts["files"]),
    )


@pytest.fixture
def measured(served: Served) -> Iterator[Path]:
    """A run with two measures, one of them with a method whose name would be mischief as markup."""
    folder = served.runs / "measured"
    if not folder.exists():
        FakeRun("measured").write(served.runs)
        drown(folder / "influence")
        for measure, figure in (("lds", "LDS"), ("agreement", "Spearman")):
            methods = (
                "turn-over, as shown",
                "turn-over, mean of members",
                "signed cosine similarity",
                HOSTILE[0],
            )
            rows = [
                {"method": name, "train_seconds": 3.0 * place, "estimate_seconds": 0.5, "note": ""}
                | {
                    "figures": {
                        figure: {
                            "value": 0.6 - place / 10,
                            "low": 0.5 - place / 10,
                            "high": 0.7 - place / 10,
                        }
                    }
                }
                for place, name in enumerate(methods)
            ]
            keep_result(
                Run(folder),
                json.loads(
                    json.dumps(
                        {
                            "run": str(folder),
                            "measure": measure,
                            "targets": 24,
                            "ceiling": 0.9,
                            "rows": rows,
                        }
                    )
                ),
            )
    yield folder


def test_a_measure_is_chosen_by_keyboard_and_linked(
    page: Page, served: Served, measured: Path
) -> None:
    open_page(page, served, "trust", run="measured", measure="lds")
    expect(
        page.get_by_role("heading", name="Do summed influences predict retraining")
    ).to_be_visible()
    expect(page.locator(".js-plotly-plot .scatterlayer .trace")).to_have_count(2, timeout=30_000)
    expect(page.get_by_label("LDS of 4 methods; best: turn-over, as shown, 0.60")).to_have_count(1)
    assert page.locator(".js-plotly-plot image, .js-plotly-plot img").count() == 0
    assert page.title() != "owned"
    page.get_by_role("radio", name="agreement").focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("heading", name="Do two halves of the members agree")).to_be_visible(
        timeout=30_000
    )
    settle(page)
    assert "measure=agreement" in page.url


def test_noisy_errors_lead_to_the_page(page: Page, served: Served, measured: Path) -> None:
    open_page(page, served, run="measured")
    expect(page.get_by_text("uncertain", exact=True)).to_have_count(10, timeout=30_000)
    page.get_by_text("More", exact=True).click()
    page.get_by_text("All numbers", exact=True).click()
    page.get_by_role("link", name="How far to trust this run").click()
    expect(page.get_by_role("radio", name="Trust")).to_be_checked(timeout=30_000)
    expect(page.get_by_text("cannot tell for any of 8 errors")).to_be_visible(timeout=30_000)


def test_the_page_is_readable(page: Page, served: Served, measured: Path) -> None:
    open_page(page, served, "runs", view="Trust", run="measured", measure="lds")
    assert wrong_looks(page, "trust-measured") == {}
