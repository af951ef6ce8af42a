"""Working through many errors: what the browser says, the time left, and out into a tracker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnover.dashboard.shared.prove as proving_module
from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.fake_runs import HOSTILE, FakeRun
from tests.helpers.kept_things import a_proof
from tests.pages.app_testing import OpenPage, explorer, go_to_error, open_more
from turnover.dashboard.errors.explorer import Explorer, hear, heard_place
from turnover.dashboard.errors.list_view import (
    Place,
    Visits,
    lost_sentence,
    progress_sentence,
    visit,
)
from turnover.dashboard.errors.markdown_view import code, issue_markdown, item_link
from turnover.dashboard.errors.message_view import Message, read_message
from turnover.dashboard.errors.pane_view import proof_facts
from turnover.explain.causes import causes
from turnover.explain.explanation import ErrorItem, error_items, explain_error
from turnover.flags import Flags
from turnover.flags.judgements import judge, judgements
from turnover.runs.run import PREDICTION, Run

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun().write(tmp_path / "made"))


def first(run: Run) -> ErrorItem:
    return error_items(run, with_influence=True)[0]


# How far the work has come


def test_the_time_left_is_the_median_stay_for_each_error_not_seen() -> None:
    visits, ids = Visits(), [f"v{number}" for number in range(10)]
    assert progress_sentence(visits, ids) == ""
    for item, time in (("v0", 100.0), ("v0", 130.0), ("v1", 160.0), ("v2", 170.0)):
        visits = visit(visits, item, time)
    assert visits.stays == (60.0, 10.0)
    assert progress_sentence(visits, ids) == "3 of 10 seen."
    visits = visit(visits, "v3", 290.0)
    assert progress_sentence(visits, ids) == "4 of 10 seen, about 6 min left."
    assert progress_sentence(visits, ids[:6]) == "4 of 6 seen, about 2 min left."
    assert progress_sentence(visits, ids[:4]) == "All 4 seen."
    assert progress_sentence(visit(visits, "v0", 9000.0), ids).startswith("4 of 10 seen")
    assert progress_sentence(visits, [f"v{number}" for number in range(304)]).endswith(
        "about 5.0 h left."
    )
    assert progress_sentence(Visits(frozenset({"v0", "v1"}), "v1", 0, (3.0,) * 3), ids).endswith(
        "1 min left."
    )


def test_the_page_counts_what_was_seen(open_page: OpenPage, runs: Path) -> None:
    ids = [item.id for item in error_items(Run(FakeRun().write(runs)), with_influence=True)]
    app = open_page()
    assert explorer(app)["progress"] == ""
    for number in range(2, 5):
        app = go_to_error(app, ids[number - 1])
        assert explorer(app)["progress"].startswith(f"{number} of 8 seen")
    assert "min" in explorer(app)["progress"] and explorer(open_page())["progress"] == ""


# What the browser says


def message(explorer: Explorer, acts: list[dict[str, Any]], **said: Any) -> Message:
    raw = {"client": "tab", "stamp": "s", "place": vars(explorer.place), "index": 0, "rows": ""}
    read = read_message(
        {**raw, "acts": acts, "panes": [], **said}, ["negative", "positive"], (30, 24)
    )
    assert read
    return read


def hear_all(run: Run, explorer: Explorer, *acts: dict[str, Any]) -> None:
    numbered = [{"number": number, **act} for number, act in enumerate(acts, start=1)]
    hear(explorer, message(explorer, numbered), Flags(run.folder), run.classes, str)


def test_each_decision_counts_once_however_often_it_is_repeated(run: Run) -> None:
    explorer = Explorer(run.name)
    acts = (
        {"kind": "drop", "position": 3},
        {"kind": "relabel", "position": 4, "label": 1, "note": "why <not>"},
        {"kind": "keep", "position": 5},
    )
    for known in range(1, 4):
        hear_all(run, explorer, *acts[:known])
        hear_all(run, explorer, *acts[:known])
    flags = Flags(run.folder).current()
    assert {place: flag.verdict for place, flag in flags.items()} == {
        3: ("drop", ""),
        4: ("relabel", "positive"),
        5: ("keep", ""),
    }
    assert flags[4].note == "why <not>" and explorer.done == 3 and not explorer.problem
    assert [len(Flags(run.folder).history(place)) for place in (3, 4, 5)] == [1, 1, 1]
    again = message(explorer, [{"number": 1, "kind": "clear", "position": 3}], client="other")
    hear(explorer, again, Flags(run.folder), run.classes, str)
    assert set(Flags(run.folder).current()) == {4, 5}, "another tab counts from one"


def test_undo_takes_back_what_this_tab_did_and_nothing_else(run: Run) -> None:
    flags, explorer = Flags(run.folder), Explorer(run.name)
    flags.put(1, "keep")
    drop = {"kind": "drop", "position": 3}
    hear_all(run, explorer, drop, {"kind": "undo"})
    assert set(flags.current()) == {1} and not explorer.problem
    hear_all(run, explorer, drop, {"kind": "undo"}, {"kind": "undo"})
    assert "nothing to undo in this tab" in explorer.problem and set(flags.current()) == {1}
    hear_all(run, explorer, *([drop] * 4))
    flags.put(3, "keep", note="changed since")
    hear_all(run, explorer, *([drop] * 4), {"kind": "undo"})
    assert flags.current()[3].note == "changed since" and "look again" in explorer.problem


def test_a_decision_that_cannot_be_stored_says_so(run: Run) -> None:
    explorer = Explorer(run.name)
    (run.folder / "flags.sqlite").write_bytes(b"not a database, " * 100)
    hear_all(run, explorer, {"kind": "drop", "position": 3})
    assert "flags.sqlite: flags cannot be read or written" in explorer.problem


@pytest.mark.parametrize(
    "wrong",
    [
        {"acts": [{"number": 1, "kind": "drop", "position": 30}]},
        {"acts": [{"number": 1, "kind": "drop", "position": -1}]},
        {"acts": [{"number": 1, "kind": "relabel", "position": 1, "label": 2}]},
        {"acts": [{"number": 1, "kind": "erase", "position": 1}]},
        {"acts": [{"number": 1, "kind": "judge", "position": 24, "label": 0}]},
        {"acts": [{"number": 1, "kind": "judge", "position": 1, "label": 3}]},
        {"acts": [{"number": 1, "kind": "prove", "position": 24}]},
        {"acts": [{"number": True, "kind": "undo"}]},
        {"acts": [{"number": 1, "kind": "undo"}] * 2000},
        {"acts": [{"number": 1, "kind": "keep", "position": 1, "note": "x" * 9000}]},
        {"place": ["item"]},
        {"index": "0"},
        {"client": "x" * 5000},
    ],
)
def test_a_message_that_no_tab_of_ours_sends_is_none(wrong: dict[str, Any]) -> None:
    raw = {"client": "a", "stamp": "s", "place": {}, "index": 0, "rows": "", "acts": []}
    raw |= {"panes": []}
    assert read_message(raw, ["negative", "positive"], (30, 24))
    assert read_message({**raw, **wrong}, ["negative", "positive"], (30, 24)) is None
    assert read_message(None, [], (0, 0)) is None


def test_a_judgement_says_whose_mistake_an_error_is(run: Run) -> None:
    explorer, flags = Explorer(run.name), Flags(run.folder, by="ann")
    wrong = {"kind": "judge", "position": 3, "label": 0}
    hear_all(run, explorer, wrong)
    assert judgements(flags)[3].verdict == "label wrong" and flags.current() == {}
    hear_all(run, explorer, wrong, {"kind": "judge", "position": 3, "label": None})
    assert judgements(flags) == {} and not explorer.problem


def test_undo_takes_back_flags_and_judgements_in_turn(run: Run) -> None:
    explorer, flags = Explorer(run.name), Flags(run.folder)
    undo = {"kind": "undo"}
    acts = [
        {"kind": "judge", "position": 3, "label": 0},
        {"kind": "drop", "position": 5},
        {"kind": "judge", "position": 3, "label": 2},
    ]
    hear_all(run, explorer, *acts)
    for undone, (verdict, flagged) in enumerate(
        [("label wrong", {5}), ("label wrong", set()), ("", set())], start=1
    ):
        hear_all(run, explorer, *acts, *[undo] * undone)
        said = judgements(flags)
        assert (said[3].verdict if said else "", set(flags.current())) == (verdict, flagged)
        assert not explorer.problem
    hear_all(run, explorer, *acts, *[undo] * 3, acts[0])
    judge(flags, 3, "unclear")
    hear_all(run, explorer, *acts, *[undo] * 3, acts[0], undo)
    assert "somebody has judged this error since" in explorer.problem
    assert judgements(flags)[3].verdict == "unclear"


def test_a_proof_is_begun_once_and_says_why_it_cannot(run: Run) -> None:
    explorer, begun = Explorer(run.name), list[int]()

    def prove(position: int) -> str:
        begun.append(position)
        return "the disk is full"

    acts = [{"number": 1, "kind": "prove", "position": 23}]
    for _ in range(2):
        said = message(explorer, acts)
        hear(explorer, said, Flags(run.folder), run.classes, prove)
    assert begun == [23] and explorer.problem == "the disk is full" and explorer.steps == []


def test_what_retraining_showed_is_sent_with_the_error_and_its_items(run: Run) -> None:
    items = error_items(run, with_influence=True)[:2]
    known = causes(run)
    why = known.by_error[items[0].position].sentence
    proof = replace(a_proof(), error=items[0].position, why=why)
    shown = proof_facts([proof], items, known)
    assert list(shown) == [items[0].id], "the other one was not tested"
    assert shown[items[0].id]["items"] == {"1": "confirmed", "2": "confirmed"}
    assert shown[items[0].id]["why"]["words"] == proof.words(items[0].predicted)
    other = proof_facts([replace(proof, why="another cause")], items, known)
    assert other[items[0].id]["why"] is None and other[items[0].id]["items"]


def test_prove_it_is_a_job_of_the_run_that_is_not_begun_twice(
    open_page: OpenPage, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, begun = Run(FakeRun().write(runs)), list[list[str]]()
    monkeypatch.setattr(
        proving_module, "start_job", lambda _, steps, label: begun.append([*steps[0], label])
    )
    position = run.misclassified_positions[0]
    error = str(run.item("validation", position)["id"])
    assert proving_module.begin_proof(run, [position]) == ""
    step = ["prove", "--run", str(run.folder), "--error", error]
    assert begun == [[*step, f"Prove who taught {error}"]]
    with at_work(fake_job(runs, [step], begun=True)):
        assert proving_module.begin_proof(run, [position]) == "" and len(begun) == 1
        app = open_page(item=error)
        assert explorer(app)["proving"] == [error]
        assert "Cancel" in [button.label for button in app.button]
    assert explorer(open_page(item=error))["proving"] == []


def test_a_relabel_without_a_class_is_refused_in_a_line(run: Run) -> None:
    explorer = Explorer(run.name)
    hear_all(run, explorer, {"kind": "relabel", "position": 3})
    assert "a relabel needs the new label" in explorer.problem


def test_a_step_to_a_row_whose_error_the_browser_does_not_know(run: Run) -> None:
    items = error_items(run, with_influence=True)
    ids = [item.id for item in items]
    assert heard_place(Place(), 5, items).item == ids[5]
    assert heard_place(Place(), 5000, items).item == ids[-1]
    assert heard_place(Place(item=ids[2]), 5, items).item == ids[2]
    assert heard_place(Place(item="gone"), 5, items).item == ids[0]


# What a link names that is not there


def test_an_unknown_error_is_said_in_a_line(run: Run) -> None:
    items = error_items(run, with_influence=True)
    assert lost_sentence(items, items, items[2].id) == lost_sentence(items, items, "") == ""
    assert (
        lost_sentence(items, items, "v001")
        == "“v001” is not among the errors of this run, so the first that matches is shown."
    )
    assert "does not match the filters" in lost_sentence(items, items[:1], items[1].id)
    assert len(lost_sentence(items, items, "x" * 5000)) < 200


def test_a_link_with_nonsense_in_it_opens_the_page_and_names_what_is_missing(
    open_page: OpenPage, runs: Path
) -> None:
    FakeRun().write(runs)
    nonsense = {"true": "zebra", "predicted": "[]", "sort": "-1", "search": ""}
    data = explorer(open_page(item="<b>nothing</b>", **nonsense))
    assert "“<b>nothing</b>” is not among the errors of this run" in data["lost"]
    assert (data["index"], data["total"], data["place"]["sort"]) == (0, 8, "cause")


def test_what_is_open_below_is_part_of_the_place(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page(more="groups", containing="submarine")
    assert app.segmented_control(key="more-choice").value == "groups"
    assert app.text_input(key="containing").value == "submarine"
    before = explorer(app)["opened"]
    app.text_input(key="containing").set_value("boat").run()
    place = explorer(app)["place"]
    assert (place["more"], place["containing"]) == ("groups", "boat")
    assert explorer(app)["opened"] == before + 1, "which tells the browser to name it"
    app.segmented_control(key="more-choice").set_value("truth").run()
    assert explorer(app)["place"]["more"] == "truth"
    assert (
        explorer(open_page(more="nonsense"))["item"] and not explorer(open_page())["place"]["more"]
    )


def test_a_browser_that_has_not_heard_of_a_change_by_hand_does_not_take_it_back(run: Run) -> None:
    explorer = Explorer(run.name, place=Place(more="truth"), opened=2)
    hear(explorer, message(explorer, [], place={}, opened=1), Flags(run.folder), run.classes, str)
    assert explorer.place.more == "truth"
    hear(explorer, message(explorer, [], place={}, opened=2), Flags(run.folder), run.classes, str)
    assert explorer.place.more == "", "it went back to where nothing was open"


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
        proof = replace(a_proof(), claim="@x `y` <b>", items=(shown.proponents[0].position,))
        link = "http://127.0.0.1:8501/?item=v000"
        made = issue_markdown(run.name, item, "<b>", shown, link, [proof])
        outside = _without_spans(made)
        assert not set("<@#`") & set(
            outside.replace("### ", "").replace("(<http://127.0.0.1:8501/?item=v000>)", "")
        )
        assert f"`` {run.name} ``" not in outside and run.name in made and "see it there" in outside
        for card in shown.proponents + shown.opponents:
            times = f"± {card.std_error:.{shown.decimals}f} ({card.times:,.0f} × usual)"
            assert f"{times}{', uncertain' * card.uncertain}, `{card.id}`" in made
        assert outside.count("\n1. ") == 2 and outside.count("\n5. ") == 2
        assert shown.certainty in outside and shown.yardstick in outside
        assert proof.numbers in made and outside.count("(retraining: confirmed)") == 1


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


def test_the_link_names_run_and_error(run: Run) -> None:
    link = item_link("http://127.0.0.1:8501/", "a & b", first(run).id)
    assert parse_qs(urlsplit(link).query) == {"run": ["a & b"], "item": [first(run).id]}
    assert item_link("http://x/", "a", "own-1", "t0") == "http://x/?run=a&yours=t0&item=own-1"
    assert item_link("", "a", "v000") == ""


def test_the_markdown_is_made_when_it_is_asked_for(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_more(open_page(), "markdown")
    assert (
        app.code[0].value.startswith("### `v0")
        and "**Opponents** pushed away from" in app.code[0].value
    )
