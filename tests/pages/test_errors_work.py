"""Working through many errors: for scale, by key, with the time left, and out into an issue
tracker.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.fake_runs import HOSTILE, FakeRun
from tests.pages.app_testing import OpenPage, html_of
from turnover.dashboard.views.errors import (
    Visits,
    choice,
    code,
    error_link,
    issue_markdown,
    lost_sentence,
    progress_sentence,
    visit,
)
from turnover.explain.explanation import ErrorItem, error_items, explain_error
from turnover.flags import Flags
from turnover.runs.run import PREDICTION, TRUTH, Run

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun().write(tmp_path / "made"))


def first(run: Run) -> ErrorItem:
    return error_items(run, with_influence=True)[0]


# For scale


@pytest.mark.parametrize("meaning", [PREDICTION, TRUTH])
def test_the_random_item_is_the_same_for_the_same_error_and_draw(
    tmp_path: Path, meaning: str
) -> None:
    run = Run(FakeRun(train=8).write(tmp_path))
    ranked = run.influence.ranked(first(run).position, meaning)
    one, again = (explain_error(run, first(run), meaning, 3).random for _ in range(2))
    assert one == again and one is not None
    assert one.influence == pytest.approx(float(ranked.values[one.position]))
    shown = explain_error(run, first(run), meaning, 3)
    assert one.share == pytest.approx(
        min(
            1,
            abs(one.influence)
            / max(abs(card.influence) for card in shown.proponents + shown.opponents),
        )
    )
    drawn = {
        explain_error(run, first(run), meaning, 3, draw=number).random.position
        for number in range(60)
    }  # type: ignore[union-attr]
    assert len(drawn) == len(run.train), "every training item can be drawn"


def test_another_random_item_is_drawn_and_another_error_begins_anew(
    open_page: OpenPage, runs: Path
) -> None:
    run = Run(FakeRun(train=200).write(runs))
    cards = [
        explain_error(run, first(run), PREDICTION, 5, draw=number).random for number in range(2)
    ]
    app = open_page()
    for card in cards:
        assert (
            card
            and card.text
            and f'dir="auto">{card.text.plain}'
            in html_of(app).split('class="to-random"')[1].split("</div></div>")[0]
        )
        app.button(key="another-random").click().run()
    other = error_items(run, with_influence=True)[1]
    app.selectbox(key="item").select(other.id).run()
    card = explain_error(run, other, PREDICTION, 5).random
    assert card and card.text and card.text.plain in html_of(app).split('class="to-random"')[1]


# How far the work has come


def test_the_time_left_is_the_median_stay_for_each_error_not_seen() -> None:
    visits, ids = Visits(), [f"v{number}" for number in range(10)]
    assert progress_sentence(visits, ids) == ""
    for item, time in (("v0", 100.0), ("v0", 130.0), ("v1", 160.0), ("v2", 170.0)):
        visits = visit(visits, item, time)
    assert visits.stays == (60.0, 10.0)
    assert progress_sentence(visits, ids) == "3 of 10 seen in this session."
    visits = visit(visits, "v3", 290.0)
    assert progress_sentence(visits, ids) == "4 of 10 seen in this session, about 6 min left."
    assert progress_sentence(visits, ids[:6]) == "4 of 6 seen in this session, about 2 min left."
    assert progress_sentence(visits, ids[:4]) == "All 4 seen in this session."
    assert progress_sentence(visit(visits, "v0", 9000.0), ids).startswith("4 of 10 seen")
    assert progress_sentence(visits, [f"v{number}" for number in range(304)]).endswith(
        "about 5.0 h left."
    )
    assert progress_sentence(Visits(frozenset({"v0", "v1"}), "v1", 0, (3.0,) * 3), ids).endswith(
        "less than a minute left."
    )


def test_the_page_counts_what_was_seen(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    app = open_page()
    assert "seen in this session" not in html_of(app)
    for number in range(2, 5):
        next(button for button in app.button if button.label == "Next").click().run()
        assert f"{number} of 8 seen in this session" in html_of(app)
    assert "min" in html_of(app).split("4 of 8 seen in this session")[1][:40]
    assert {item.label for item in error_items(Run(folder), with_influence=True)[:4]} == {
        "negative"
    }
    app.selectbox(key="true").select("negative").run()
    assert "All 4 seen in this session" in html_of(app)


# By key


def test_a_key_drops_the_strongest_and_another_takes_it_back(
    open_page: OpenPage, runs: Path
) -> None:
    run = Run(FakeRun().write(runs))
    strongest = [card.position for card in explain_error(run, first(run), PREDICTION, 5).proponents]
    Flags(run.folder).put(strongest[1], "keep")
    app = open_page()
    drop, back = app.button(key="key-drop"), app.button(key="key-back")
    assert (drop.proto.shortcut, back.proto.shortcut) == ("f", "u") and back.disabled
    app.button(key="key-drop").click().run()
    app.button(key="key-drop").click().run()
    assert {place: flag.action for place, flag in Flags(run.folder).current().items()} == {
        strongest[0]: "drop",
        strongest[1]: "keep",
        strongest[2]: "drop",
    }
    app.button(key="key-back").click().run()
    assert set(Flags(run.folder).current()) == set(strongest[:2])
    Flags(run.folder).put(strongest[0], "keep", note="changed by hand")
    app.run()
    assert app.button(key="key-back").disabled, (
        "a decision that was changed since is not taken back"
    )
    for _ in strongest[2:]:
        app.button(key="key-drop").click().run()
    assert app.button(key="key-drop").disabled and set(Flags(run.folder).current()) == set(
        strongest
    )


def test_a_key_that_cannot_store_says_so(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    app = open_page()
    (folder / "flags.sqlite").write_bytes(b"not a database, " * 100)
    app.button(key="key-drop").click().run()
    assert not app.exception and "The flag was not stored" in html_of(app)


# What a link names that is not there


def test_an_unknown_error_is_said_in_a_line(run: Run) -> None:
    items = error_items(run, with_influence=True)
    assert lost_sentence(items, choice(list(items), items[2].id).lost) == ""
    assert (
        lost_sentence(items, choice(list(items), None).lost)
        == lost_sentence(items, choice(list(items), "").lost)
        == ""
    )
    assert (
        lost_sentence(items, choice(list(items), "v001").lost)
        == "“v001” is not among the errors of this run, so the first that matches is shown."
    )
    assert "does not match the filters" in lost_sentence(
        items, choice([items[0]], items[1].id).lost
    )
    assert len(lost_sentence(items, choice(list(items), "x" * 5000).lost)) < 200


def test_a_link_with_nonsense_in_it_opens_the_page_and_names_what_is_missing(
    open_page: OpenPage, runs: Path
) -> None:
    FakeRun().write(runs)
    app = open_page(
        item="<b>nothing</b>",
        true="zebra",
        predicted="[]",
        sort="-1",
        meaning="x",
        top="1e9",
        search="",
    )
    assert "“&lt;b&gt;nothing&lt;/b&gt;” is not among the errors of this run" in html_of(app)
    assert "Error 1 of 8" in html_of(app) and html_of(app).count('class="to-line"') == 10
    app.run()
    assert "is not among the errors" not in html_of(app)


# As Markdown


@given(st.text(min_size=1))
def test_nothing_ends_a_code_span(text: str) -> None:
    """By the rule of CommonMark: a span ends at the first run of as many backticks as it began
    with.
    """
    span = code(text, 500)
    fence = len(span) - len(span.lstrip("`"))
    inside, runs, length = span[fence:-fence], set(), 0
    for character in f"{inside} ":
        length, ended = (length + 1, 0) if character == "`" else (0, length)
        runs |= {ended} if ended else set()
    assert span.endswith("`" * fence) and fence not in runs and "\n" not in span
    assert not inside.startswith("`") and not inside.endswith("`")


def test_an_error_as_markdown_says_all_and_quotes_what_is_data(tmp_path: Path) -> None:
    for kind in ("text", "image"):
        run = Run(
            FakeRun(
                f"a `run` {kind}",
                kind=kind,
                texts=[*HOSTILE[:4], "`` ` @somebody #1"],
                classes=("<b>neg</b>", "a `b` [x](http://e)"),
            ).write(tmp_path)
        )
        item = first(run)
        shown = explain_error(run, item, PREDICTION, 5)
        made = issue_markdown(
            run.name, item, "<b>", shown, PREDICTION, "http://127.0.0.1:8501/?item=v000"
        )
        outside = _without_spans(made)
        assert not set("<@#`") & set(
            outside.replace("### ", "").replace("(<http://127.0.0.1:8501/?item=v000>)", "")
        )
        assert f"`` {run.name} ``" not in outside and run.name in made and "see it there" in outside
        for card in shown.proponents + shown.opponents:
            assert (
                f"± {card.std_error:.{shown.decimals}f}, {card.trust}" in made
                and f"`{card.id}`" in made
            )
        assert outside.count("\n1. ") == 2 and outside.count("\n5. ") == 2
        assert shown.certainty in outside and shown.yardstick in outside


def _without_spans(text: str) -> str:
    """Markdown with its code spans taken out, read as CommonMark says."""
    out, place = "", 0
    while place < len(text):
        if text[place] != "`":
            out, place = out + text[place], place + 1
            continue
        end = place
        while text[end] == "`":
            end += 1
        fence, close = text[place:end], end
        while True:
            close = text.index(fence, close)
            if text[close - 1] != "`" and text[close + len(fence)] != "`":
                break
            close += 1
        place = close + len(fence)
    return out


def test_the_link_names_run_error_and_meaning(run: Run) -> None:
    link = error_link("http://127.0.0.1:8501/", "a & b", first(run), TRUTH)
    assert parse_qs(urlsplit(link).query) == {
        "run": ["a & b"],
        "item": [first(run).id],
        "meaning": ["truth"],
    }
    assert error_link("", "a", first(run), TRUTH) == ""


def test_the_markdown_is_made_when_it_is_asked_for(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page()
    assert not app.code
    app.session_state["issue"] = True
    app.run()
    assert (
        app.code[0].value.startswith("### `v0")
        and "**Opponents** pushed away from" in app.code[0].value
    )
