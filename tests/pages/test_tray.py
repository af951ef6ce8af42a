"""The tray, on every page and in every state, run in process."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_runs import HOSTILE, FakeRun, remove_influence
from tests.pages.app_testing import PAGES, OpenPage, explorer, html_of
from turnover.dashboard.shared import flag_form as people
from turnover.flags import Flag, Flags
from turnover.flags.export import export_csv, export_judged_csv
from turnover.flags.flag_file import export_flag_file
from turnover.flags.judgements import judge, judgements
from turnover.runs.run import Run

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture(autouse=True)
def ann(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who looks at the page."""
    monkeypatch.setenv("TURNOVER_USER", "ann")


def verdicts(run: Path) -> dict[int, tuple[str, str]]:
    return {instance: flag.verdict for instance, flag in Flags(run).current().items()}


def opened(app: AppTest) -> AppTest:
    """With the tray open."""
    app.session_state["tray"] = True
    app.run()
    assert not app.exception
    return app


def press(app: AppTest, key: str) -> AppTest:
    app.button(key=key).click().run()
    assert not app.exception
    return app


def step(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception
    return app


def downloads(app: AppTest) -> list[str]:
    return [button.proto.label for button in app.get("download_button")]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_how_many_decisions_there_are(
    open_page: OpenPage, runs: Path, page: str
) -> None:
    folder = FakeRun().write(runs)
    assert ">0 decisions<" in html_of(open_page(page))
    Flags(folder).put_many([1, 2], "drop")
    judge(Flags(folder), 3, "unclear")
    app = open_page(page)
    assert 'data-turnover="tray">3 decisions<' in html_of(app)
    assert not app.get("download_button") or page == "try", "drawn only while it is open"
    assert "2 training items flagged: 2 to drop; by ann. 1 error judged." in html_of(opened(app))


def test_nothing_is_decided_yet(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = opened(open_page("cleanse"))
    assert "Nothing is decided yet" in html_of(app) and not downloads(app)
    assert "Import" in app.file_uploader(key="import-file").label


def test_decisions_are_listed_newest_first(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put_many([1, 2], "drop", note="first")
    Flags(folder, by="ann").put(5, "relabel", "negative", note="why")
    judge(Flags(folder, by="eve"), 3, "label wrong")
    shown = html_of(opened(open_page()))
    places = [shown.index(f'"to-id">{name}<') for name in ("v003", "t005", "t001")]
    assert places == sorted(places) and Run(folder).item("train", 5)["text"][:30] in shown
    assert "relabel to negative" in shown and ">why<" in shown and "eve, 20" in shown
    assert "“relabel to negative” on t005" in shown
    app = opened(open_page())
    assert downloads(app) == [
        "Export flagged items (CSV)",
        "Flag file",
        "Report (HTML)",
        "Judged errors (CSV)",
    ]
    assert app.code[0].value == f"turnover apply --run {folder} --data DATA --out cleansed.csv"


def test_one_decision_is_taken_back_and_the_page_knows(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put_many([1, 2], "drop")
    judge(Flags(folder, by="eve"), 3, "label wrong")
    app = press(opened(open_page()), "tray-train-1")
    assert verdicts(folder) == {2: ("drop", "")}
    assert explorer(app)["decided"] == 2 and ">2 decisions<" in html_of(app)
    app = press(app, "tray-validation-3")
    assert judgements(Flags(folder)) == {} and ">1 decision<" in html_of(app)
    assert downloads(app)[-1] == "Report (HTML)"


def test_undo_walks_back_and_ends(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put(1, "keep")
    Flags(folder, by="ann").put_many([1, 2, 3], "drop")
    app = opened(open_page())
    assert "Undo takes back “drop” on t001, t002, t003" in html_of(app)
    press(app, "undo")
    assert verdicts(folder) == {1: ("keep", "")}
    assert not [button for button in app.button if button.key == "undo"]


def test_many_decisions_are_found_by_words(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(train=5000, validation=30, members=2).write(runs)
    Flags(folder, by="bob").put_many(range(5000), "drop")
    app = opened(open_page("cleanse"))
    assert "and 4,992 more" in html_of(app)
    assert len([button for button in app.button if button.label == "Take back"]) == 8
    app.text_input(key="tray-search").set_value("T4321 bob").run()
    assert [button.key for button in app.button if button.label == "Take back"] == [
        "tray-train-4321"
    ]


def test_undo_takes_back_only_what_the_sentence_said(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    flags = Flags(folder, by="ann")
    flags.put(1, "drop")
    app = opened(open_page())
    flags.put(2, "drop")  # in another tab, after this one was drawn
    press(app, "undo")
    assert "look again what undo takes back" in html_of(app) and len(verdicts(folder)) == 2
    press(app, "undo")
    assert verdicts(folder) == {1: ("drop", "")}


def test_people_who_differ_come_first_and_one_click_settles(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put(3, "relabel", "negative", note="bob's reason")
    Flags(folder, by="ann").put(3, "drop", note="ann's reason")
    app = opened(open_page())
    shown = html_of(app)
    assert (
        "People differ on 1 item" in shown
        and "bob&#x27;s reason" in shown
        and "ann&#x27;s reason" in shown
        and "In force now: drop (ann)" in shown
    )
    press(app, "settle-3-A")
    flag = Flags(folder).current()[3]
    assert (flag.verdict, flag.note, flag.by) == (("relabel", "negative"), "bob's reason", "ann")
    assert "People differ" not in html_of(app) and Flags(folder).overview().conflicts == []
    press(app, "undo")
    assert "People differ on 1 item" in html_of(app)


def test_many_disputes_come_in_portions(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put_many(range(13), "keep")
    Flags(folder, by="ann").put_many(range(13), "drop")
    app = opened(open_page())
    assert len([button for button in app.button if button.label.startswith("Settle for")]) == 20
    assert "and 3 more" in html_of(app)


def colleague(folder: Path, *flags: tuple[int, str], by: str = "bob") -> bytes:
    """A flag file from another copy of a run."""
    copy = folder.with_name("copy.partial")
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("flags*"))
    for instance, action in flags:
        Flags(copy, by=by).put(instance, action, note=f"<b>{by}</b>")
    patch = export_flag_file(Run(copy))
    shutil.rmtree(copy)
    return patch.encode()


def send(app: AppTest, content: bytes | None, name: str = "patch.jsonl") -> AppTest:
    if content is not None:
        app.file_uploader(key="import-file").upload(name, content, "application/jsonl")
    return step(app, "Import")


def test_a_colleague_s_flags_are_imported_once(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="ann").put(3, "keep")
    content = colleague(folder, (3, "drop"), (4, "drop"))
    app = send(opened(open_page()), content)
    assert "2 flags are new. 1 of them differ" in html_of(
        app
    ) and "People differ on 1 item" in html_of(app)
    assert "bob (imported)" in html_of(app) and "<b>bob" not in html_of(app)
    assert (
        verdicts(folder) == {3: ("keep", ""), 4: ("drop", "")}
        and Flags(folder).current()[4].by == "bob"
    )
    app = send(app, content)
    assert "Nothing new: 2 of its flags are known" in html_of(app)
    press(app, "undo")
    assert verdicts(folder) == {3: ("keep", "")}


def test_refused_lines_are_told_by_number(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    content = (
        colleague(folder, (3, "drop")).replace(b'"count": 1', b'"count": 62') + b"<script>\n" * 61
    )
    shown = html_of(send(opened(open_page()), content))
    assert (
        "1 flag is new" in shown
        and "61 lines refused" in shown
        and "line 3: not a decision" in shown
        and "and 11 more" in shown
    )
    assert "<script>" not in shown


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "there is no file yet"),
        (b"a,b\n1,2\n", "not a flag file"),
        (b"\xff\x00" * 1000, "not a flag file"),
        (b"", "not a flag file"),
    ],
)
def test_what_is_no_patch_is_said_and_changes_nothing(
    open_page: OpenPage, runs: Path, content: bytes | None, why: str
) -> None:
    folder = FakeRun().write(runs)
    shown = html_of(send(opened(open_page()), content, "<img src=x>.jsonl"))
    assert "Nothing was imported" in shown and why in shown and "<img src=x>" not in shown
    assert Flags(folder).current() == {}


def test_a_patch_of_other_data_is_refused(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    other = FakeRun("other.partial", train=31).write(runs)
    Flags(other).put(1, "drop")
    assert "made on other data than fake" in html_of(
        send(opened(open_page()), export_flag_file(Run(other)).encode())
    )
    assert Flags(folder).current() == {}


def test_hostile_notes_names_and_texts_stay_text(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(
        texts=HOSTILE, classes=("<b>neg</b>", ":red[pos] [x](http://evil.example)")
    ).write(runs)
    notes = (*HOSTILE, "=1+1", "\u202eabc", "a\0b", "n" * 100_000)
    for instance, note in enumerate(notes):
        Flags(folder, by=f"<i>bob</i> {instance}").put(instance, "drop", note=note)
        Flags(folder, by="[ann](http://evil.example)").put(
            instance,
            "relabel",
            ("<b>neg</b>", ":red[pos] [x](http://evil.example)")[instance % 2 == 0],
            note,
        )
    shown = html_of(app := opened(open_page()))
    assert not [tag for tag in ("<script", "<img src=x", "<b>", "<i>") if tag in shown]
    assert "\u202e" not in shown and "\0" not in shown and len(shown) < 600_000
    said = [
        element.value
        for kind in ("markdown", "caption", "title", "header", "error", "info", "warning")
        for element in app.get(kind)
    ]
    assert said == ["Errors"]
    labels = [button.label for button in app.button]
    assert not [label for label in labels if "evil" in label or "<" in label]
    assert "&lt;" in shown


def test_a_file_that_is_no_flags_file_is_named(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    (folder / "flags.sqlite").write_bytes(b"not a database, " * 100)
    app = opened(open_page())
    assert "The flags cannot be read" in html_of(
        app
    ) and "flags.sqlite: flags cannot be read or written" in html_of(app)


def test_a_run_without_influence_has_no_page_of_errors_to_take(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun().write(runs)
    remove_influence(folder)
    Flags(folder).put(1, "drop")
    assert downloads(opened(open_page())) == ["Export flagged items (CSV)", "Flag file"]


def test_an_image_run_shows_pictures(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(kind="image", classes=("cat", "dog")).write(runs)
    Flags(folder).put_many([1, 2], "drop")
    assert html_of(opened(open_page())).count("data:image/png;base64,") == 2


def test_tables_are_for_spreadsheets(runs: Path) -> None:
    """These take UTF-8 for something else without a mark at its start."""
    folder = FakeRun().write(runs)
    Flags(folder).put(1, "drop", note="naïve")
    judge(Flags(folder), 3, "unclear")
    for text in (export_csv(Run(folder)), export_judged_csv(Run(folder))):
        assert text.encode().startswith(b"\xef\xbb\xbf")
        (row,) = csv.DictReader(io.StringIO(text.encode().decode("utf-8-sig")))
        assert row["id"] in ("t001", "v003") and "naïve" in (row.get("note"), "naïve")


# Who decides


def test_a_signed_in_user_decides_in_their_own_name(
    open_page: OpenPage, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put(3, "drop")
    monkeypatch.setattr(
        people.st, "user", {"is_logged_in": True, "name": "Eve E.", "email": "eve@example.org"}
    )
    app = opened(open_page())
    assert not [button for button in app.button if button.key == "undo"], "it is bob's"
    press(app, "tray-train-3")
    assert Flags(folder).history(3)[-1].flag.by == "eve@example.org"
    monkeypatch.setattr(people.st, "user", {"is_logged_in": False, "email": "eve@example.org"})
    shown = app.run()
    assert (
        "Sign in to go on" in html_of(shown)
        and [button.key for button in shown.button if button.key == "undo"] == []
    )


def test_without_sign_in_nobody_is_signed_in() -> None:
    assert st.user.get("is_logged_in") in (None, False) and people.signed_in() is None


def test_an_old_flag_of_the_same_second_is_not_lost_on_the_way(runs: Path) -> None:
    """Flags of earlier versions have times in seconds; a flag file keeps them as they are."""
    folder = FakeRun().write(runs)
    Flags(folder).merge([Flag(1, "drop", "", "", "bob", "2026-11-01T10:00:00+00:00")])
    line = json.loads(export_flag_file(Run(folder)).splitlines()[1])
    assert line["at"] == "2026-11-01T10:00:00+00:00"
