"""The section on groups below an error's cards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import turnover.dashboard.shared.prove as proving_module
from tests.helpers.fake_runs import HOSTILE, FakeRun
from tests.helpers.kept_things import a_proof
from tests.pages.app_testing import OpenPage, explorer, html_of, open_more, shown_pane
from turnover.attribution.estimators.significance import NOISE
from turnover.dashboard.shared.groups_view import (
    build_groups,
    caution_sentence,
    flip_sentence,
    number,
)
from turnover.explain.explanation import ErrorItem, error_items, rounded
from turnover.explain.flips import Flip
from turnover.explain.groups import injected
from turnover.runs.proofs import keep_proof
from turnover.runs.run import Run
from turnover.storage.artifacts import MANIFEST, write_manifest

pytestmark = pytest.mark.usefixtures("fresh")
ITEM = ErrorItem(3, "v003", "negative", "positive", 0.7, "", 0, "a text", b"")


# The view


def test_rows_are_the_ends_the_words_and_the_planted_marks(tmp_path: Path) -> None:
    run = Run(FakeRun().write(tmp_path))
    item = error_items(run, with_influence=True)[0]
    shown = build_groups(run, item, " Submarine")
    containing = sum("submarine" in text for text in run.train["text"])
    assert [(row.name, row.size) for row in shown.rows] == [
        ("top 10 proponents", 10),
        ("top 10 opponents", 10),
        ("texts with “Submarine”", containing),
        ("injected cue-submarine", 5),
    ]
    prediction, truth = (
        np.median(run.influence.evidence(item.position, meaning)[0][:, 0], 0)
        for meaning in ("prediction", "truth")
    )
    top = np.argsort(-run.influence.ranked(item.position, "prediction").values)[:10]
    assert shown.rows[0].prediction.influence == pytest.approx(prediction[top].sum(), rel=1e-4)
    assert shown.rows[3].truth.influence == pytest.approx(truth[::6].sum(), rel=1e-4)
    assert shown.missing == ""


def test_words_that_no_text_contains_are_said_and_make_no_row(tmp_path: Path) -> None:
    run = Run(FakeRun().write(tmp_path))
    item = error_items(run, with_influence=True)[0]
    shown = build_groups(run, item, "zeppelin")
    assert "no training text contains 'zeppelin'" in shown.missing
    assert len(shown.rows) == 3 == len(build_groups(run, item).rows)


def test_the_sentence_says_how_many_items_flip_an_error_and_what_they_do() -> None:
    flip = Flip(np.array([4, 2]), 0.7, 0.484, 0.5)
    assert flip_sentence(flip, ITEM, 800) == (
        "Removing these 2 training items is predicted to flip this error to “negative”: “positive” "
        "falls from 70% to 48%, and below 50% “negative” wins."
    )
    one = flip_sentence(Flip(np.array([4]), 0.7, 0.4, 0.5), ITEM, 800)
    assert "Removing this training item is" in one
    none = flip_sentence(Flip(np.array([], np.int64), 0.7, 0.7, 0.5), ITEM, 1800)
    assert none.startswith(
        "No group of up to half of the 1,800 training items is predicted to flip this error"
    )
    assert flip_sentence(None, ITEM, 800).startswith("Not tested: ")
    assert "Another label" in caution_sentence(0.05, 3)
    assert caution_sentence(0.05, 2) == (
        "By sums of influences times 0.050, what retraining showed of them in this run."
    )
    assert [number(value) for value in (-12.34, 0.0456)] == [f"−{rounded(12.34)}", "+0.046"]


# The page


def test_a_group_is_proved_by_a_button_until_its_verdict_stands_in_the_table(
    open_page: OpenPage, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, begun = Run(FakeRun(train=70).write(runs)), list[list[str]]()
    monkeypatch.setattr(proving_module, "begin_job", lambda step, label: begun.append(step))
    app = open_more(open_page(), "Groups")
    item = next(
        one for one in error_items(run, with_influence=True) if one.id == explorer(app)["item"]
    )
    names = [button.label for button in app.button if button.label.startswith("Prove ")]
    assert len(names) == 2 and "opponents" not in f"{names}"
    next(button for button in app.button if "injected" in button.label).click().run()
    option = ["--injected", "cue-submarine"]
    assert begun == [["prove", "--run", str(run.folder), "--error", item.id, *option]]
    group = tuple(injected(run, "cue-submarine").instances.tolist())
    keep_proof(run, replace(a_proof(), error=item.position, items=group))
    app = app.run()
    assert "retraining: confirmed" in html_of(app)
    assert not any("injected" in button.label for button in app.button)


def test_the_section_sums_and_flips(open_page: OpenPage, runs: Path) -> None:
    run = Run(FakeRun(train=70).write(runs))
    app = open_more(open_page(), "groups")
    shown = html_of(app)
    assert (
        "top 10 proponents" in shown
        and "injected cue-submarine" in shown
        and "texts with" not in shown
    )
    item = next(
        one for one in error_items(run, with_influence=True) if one.id == explorer(app)["item"]
    )
    made = build_groups(run, item)
    assert made.flip in shown and f"± {rounded(made.rows[0].prediction.std_error or 0)}" in shown
    sums = [total.trust for row in made.rows for total in (row.prediction, row.truth)]
    assert shown.count("uncertain</span>") == sums.count(NOISE) > 0 and ">strong<" not in shown
    app.text_input(key="containing").set_value("captain").run()
    assert not app.exception and "texts with “captain”" in html_of(app)
    app.text_input(key="containing").set_value("zeppelin").run()
    assert "no training text contains" in html_of(app) and "top 10 proponents" in html_of(app)


def test_the_items_that_flip_an_error_are_listed(open_page: OpenPage, runs: Path) -> None:
    for name, kind in (("texts", "text"), ("images", "image")):
        run = Run(FakeRun(name, kind=kind, train=400).write(runs))
        app = open_more(open_page(run=name), "groups")
        item = next(
            one for one in error_items(run, with_influence=True) if one.id == explorer(app)["item"]
        )
        assert "Not tested" in html_of(app) and build_groups(run, item).ids == ()
        keep_proof(run, replace(a_proof(), error=item.position, predicted=1.6))
        app = app.run()
        made, section = (
            build_groups(run, item),
            html_of(app).split('<ol class="to-removed">')[1].split("</ol>")[0],
        )
        assert 0 < len(made.ids) == len(made.removed) == section.count("<li>")
        assert all(one.id in section for one in made.removed)
        assert section.count("<img") == (len(made.ids) if kind == "image" else 0)
        assert (kind == "text") == any(box.key == "containing" for box in app.text_input)


def test_hostile_words_and_class_names_stay_text(open_page: OpenPage, runs: Path) -> None:
    FakeRun(
        texts=HOSTILE, train=400, classes=("<b>neg</b>", ":red[pos] [x](http://evil.example)")
    ).write(runs)
    for word in ("<img src=x onerror", "<script>", ":red[red]", "<b>nobody</b>"):
        app = open_more(open_page(), "groups")
        app.text_input(key="containing").set_value(word).run()
        shown = html_of(app).split("Groups</h2>")[1].split("<style>")[0]
        assert "<script" not in shown and "<img src=x" not in shown and "<b>" not in shown
        assert word.replace("<", "&lt;").replace(">", "&gt;") in shown


def test_one_member_says_that_no_error_is_known(open_page: OpenPage, runs: Path) -> None:
    FakeRun(members=1).write(runs)
    section = html_of(open_more(open_page(), "groups")).split("Groups</h2>")[1]
    assert "error not known" in section and "nan" not in section and "None" not in section


def test_a_run_from_before_groups_says_what_to_do_and_shows_the_rest(
    open_page: OpenPage, runs: Path
) -> None:
    folder = FakeRun().write(runs)
    facts = json.loads((folder / "influence" / MANIFEST).read_text(encoding="utf-8"))
    kept = [name for name in facts.pop("files") if not name.endswith("_shape.npy")]
    write_manifest(
        folder / "influence",
        {name: value for name, value in facts.items() if name != "format"},
        kept,
    )
    app = open_more(open_page(), "groups")
    shown = html_of(app)
    assert (
        "Groups cannot be summed" in shown
        and f"<code>turnover influence --run {folder}</code>" in shown
    )
    assert len(shown_pane(app)["teachers"]) == 5
