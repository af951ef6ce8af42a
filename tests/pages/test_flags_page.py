"""The Flags page in every state, run in process."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_runs import HOSTILE, FakeRun, remove_influence
from tests.pages.app_testing import OpenPage, explorer, html_of
from turnover.dashboard.shared import flag_form as people
from turnover.dashboard.shared.choice_view import PAGE
from turnover.flags import Flag, Flags
from turnover.flags.flag_file import export_flag_file
from turnover.runs.run import Run

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture(autouse=True)
def ann(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who looks at the page."""
    monkeypatch.setenv("TURNOVER_USER", "ann")


def verdicts(run: Path) -> dict[int, tuple[str, str]]:
    return {instance: flag.verdict for instance, flag in Flags(run).current().items()}


def press(app: AppTest, key: str) -> AppTest:
    app.button(key=key).click().run()
    assert not app.exception
    return app


def step(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception
    return app


def test_no_flags_yet(open_page: OpenPage, runs: Path) -> None:
    FakeRun().write(runs)
    app = open_page("flags")
    assert "No training item is flagged yet" in html_of(
        app
    ) and "nothing of yours to undo" in html_of(app)
    assert app.button(key="undo").disabled and not app.dataframe and not app.get("download_button")
    assert "Import a colleague" in html_of(app)


def test_flags_are_listed_newest_first_with_the_first_one_open(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put_many([1, 2], "drop", note="first")
    Flags(folder, by="ann").put(5, "relabel", "negative", note="why")
    app = open_page("flags")
    assert list(app.dataframe[0].value["id"]) == ["t005", "t001", "t002"]
    assert list(app.dataframe[0].value["decision"]) == ["relabel to negative", "drop", "drop"]
    shown = html_of(app)
    assert (
        "3 training items flagged: 2 to drop, 1 to relabel; by bob, ann." in shown
        and "Flag 1 of 3" in shown
    )
    assert (
        "flagged: relabel to negative" in shown
        and "One decision so far" in shown
        and Run(folder).item("train", 5)["text"] in shown
    )
    assert app.selectbox(key="flag").value == "t005" and "“relabel to negative” on t005" in shown
    assert {button.proto.label for button in app.get("download_button")} == {
        "Export flags (CSV)",
        "Export flag file (JSONL)",
        "Flags and errors (HTML)",
    }
    assert app.code[0].value == f"turnover apply --run {folder} --data DATA --out cleansed.csv"


def test_the_url_says_what_is_shown(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put_many([1, 3], "drop", note="needle")
    Flags(folder, by="ann").put(5, "keep")
    app = open_page(
        "flags", decision="Drop", person="bob", words="needle", flag="t003", **{"class": "positive"}
    )
    assert (
        list(app.dataframe[0].value["id"]) == ["t001", "t003"]
        and app.selectbox(key="flag").value == "t003"
    )
    assert "Flag 2 of 2 that match, out of 3" in html_of(app)
    app = open_page("flags", decision="Nonsense", person="nobody", flag="t999")
    assert len(app.dataframe[0].value) == 3 and app.selectbox(key="flag").value == "t005"


def test_no_flag_matches(open_page: OpenPage, runs: Path) -> None:
    Flags(FakeRun().write(runs)).put(1, "drop")
    app = open_page("flags", words="no such word")
    assert "No flag matches" in html_of(app) and app.get("download_button")
    app.text_input(key="words").set_value("").run()
    assert "Flag 1 of 1" in html_of(app)


def edit_key(run: Path, instance: int) -> str:
    return f"edit-{instance}-{Flags(run).current()[instance].at}"


def test_a_note_is_edited_a_decision_changed_and_cleared(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put(3, "drop", note="bob's")
    app = open_page("flags")
    assert app.text_area(key=f"{edit_key(folder, 3)}-note").value == "bob's"
    app.text_area(key=f"{edit_key(folder, 3)}-note").set_value("ann's\nown")
    press(app, "edit-save")
    flag = Flags(folder).current()[3]
    assert (flag.action, flag.note, flag.by) == (
        "drop",
        "ann's\nown",
        "ann",
    ) and "All 2 decisions on this item" in html_of(app)
    app.segmented_control(key=f"{edit_key(folder, 3)}-action").set_value("relabel").run()
    assert app.selectbox(key=f"{edit_key(folder, 3)}-label").options == ["negative"]
    press(app, "edit-save")
    assert (
        verdicts(folder) == {3: ("relabel", "negative")}
        and Flags(folder).current()[3].note == "ann's\nown"
    )
    press(app, "edit-clear")
    assert verdicts(folder) == {} and "No training item is flagged yet" in html_of(app)


def test_undo_walks_back_and_ends(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put(1, "keep")
    Flags(folder, by="ann").put_many([1, 2, 3], "drop")
    app = open_page("flags")
    assert "Undo takes back “drop” on t001, t002, t003" in html_of(app)
    press(app, "undo")
    assert verdicts(folder) == {1: ("keep", "")} and app.button(key="undo").disabled
    assert len(app.dataframe[0].value) == 1


def test_undo_takes_back_only_what_the_sentence_said(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    flags = Flags(folder, by="ann")
    flags.put(1, "drop")
    app = open_page("flags")
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
    app = open_page("flags")
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
    app = open_page("flags")
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
    app = send(open_page("flags"), content)
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
    shown = html_of(send(open_page("flags"), content))
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
    shown = html_of(send(open_page("flags"), content, "<img src=x>.jsonl"))
    assert "Nothing was imported" in shown and why in shown and "<img src=x>" not in shown
    assert Flags(folder).current() == {}


def test_a_patch_of_other_data_is_refused(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    other = FakeRun("other.partial", train=31).write(runs)
    Flags(other).put(1, "drop")
    assert "made on other data than fake" in html_of(
        send(open_page("flags"), export_flag_file(Run(other)).encode())
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
    app = open_page("flags")
    for _ in notes:
        shown = html_of(app)
        assert (
            not [tag for tag in ("<script", "<img src=x", "<b>", "<i>") if tag in shown]
            and "\u202e" not in shown
            and "\0" not in shown
        )
        assert len(shown) < 600_000
        said = [
            element.value
            for kind in ("markdown", "caption", "title", "header", "error", "info", "warning")
            for element in app.get(kind)
        ]
        assert said == ["Flags & export"]
        assert not [
            button.label for button in app.button if "evil" in button.label or "<" in button.label
        ]
        step(app, "Next")
    assert "&lt;script&gt;" in shown or "&lt;img src=x" in shown or "&lt;b&gt;" in shown


def test_a_file_that_is_no_flags_file_is_named(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    (folder / "flags.sqlite").write_bytes(b"not a database, " * 100)
    app = open_page("flags")
    assert "The flags cannot be read" in html_of(
        app
    ) and "flags.sqlite: flags cannot be read or written" in html_of(app)


def test_a_run_without_influence_has_no_page_of_errors_to_take(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun().write(runs)
    remove_influence(folder)
    Flags(folder).put(1, "drop")
    disabled = {
        button.proto.label: button.proto.disabled
        for button in open_page("flags").get("download_button")
    }
    assert disabled == {
        "Export flags (CSV)": False,
        "Export flag file (JSONL)": False,
        "Flags and errors (HTML)": True,
    }


def test_an_image_run_shows_pictures(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(kind="image", classes=("cat", "dog")).write(runs)
    Flags(folder).put_many([1, 2], "drop")
    app = open_page("flags")
    assert app.dataframe[0].value["image"].iloc[0].startswith("data:image/png;base64,")
    assert 'alt="training image labelled ' in html_of(app)


def test_another_run_forgets_the_filters(open_page: OpenPage, runs: Path) -> None:
    for name in ("one", "two"):
        Flags(FakeRun(name).write(runs), by=name).put(1, "drop")
    app = open_page("flags", run="one", person="one", words="text")
    app.selectbox(key="run").select("two").run()
    assert (
        not app.exception
        and app.selectbox(key="person").value == "Anybody"
        and len(app.dataframe[0].value) == 1
    )


def test_a_person_whose_last_flag_goes_does_not_stay_chosen(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put(1, "keep")
    Flags(folder, by="ann").put(2, "drop")
    app = open_page("flags", person="ann")
    assert list(app.dataframe[0].value["id"]) == ["t002"]
    press(app, "undo")
    assert app.selectbox(key="person").value == "Anybody" and list(
        app.dataframe[0].value["id"]
    ) == ["t001"]


def test_thousands_of_flags_come_in_pages_and_answer_fast(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun(train=5000, validation=30, members=2).write(runs)
    Flags(folder, by="bob").put_many(range(5000), "drop")
    app = open_page("flags")
    assert len(app.dataframe[0].value) == PAGE and "Flag 1 of 5,000" in html_of(app)
    begun = time.perf_counter()
    app.selectbox(key="flag").select(f"t{PAGE - 1:03d}").run()
    step(app, "Next")
    assert app.selectbox(
        key="flag"
    ).value == f"t{PAGE:03d}" and f"Flag {PAGE + 1} of 5,000" in html_of(app)
    assert time.perf_counter() - begun < 6


# Who decides


def test_a_signed_in_user_decides_in_their_own_name(
    open_page: OpenPage, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FakeRun().write(runs)
    Flags(folder, by="bob").put(3, "drop")
    monkeypatch.setattr(
        people.st, "user", {"is_logged_in": True, "name": "Eve E.", "email": "eve@example.org"}
    )
    app = open_page("flags")
    press(app, "edit-save")
    assert Flags(folder).current()[3].by == "eve@example.org"
    assert "Undo takes back “drop” on t003" in html_of(app)
    monkeypatch.setattr(people.st, "user", {"is_logged_in": False, "email": "eve@example.org"})
    shown = app.run()
    assert (
        "Sign in to go on" in html_of(shown)
        and [button.key for button in shown.button if button.key == "edit-save"] == []
    )


def test_without_sign_in_nobody_is_signed_in() -> None:
    assert st.user.get("is_logged_in") in (None, False) and people.signed_in() is None


def test_errors_and_flags_lead_to_each_other(open_page: OpenPage, runs: Path) -> None:
    folder = FakeRun().write(runs)
    Flags(folder).put(3, "drop")
    app = open_page()
    assert explorer(app)["flagged"] == 1
    assert not app.switch_page("app_pages/flags.py").run().exception
    assert explorer(open_page("training"))["flagged"] == 1


def test_an_old_flag_of_the_same_second_is_not_lost_on_the_way(runs: Path) -> None:
    """Flags of earlier versions have times in seconds; a flag file keeps them as they are."""
    folder = FakeRun().write(runs)
    Flags(folder).merge([Flag(1, "drop", "", "", "bob", "2026-11-01T10:00:00+00:00")])
    line = json.loads(export_flag_file(Run(folder)).splitlines()[1])
    assert line["at"] == "2026-11-01T10:00:00+00:00"
