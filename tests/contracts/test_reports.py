"""The page of a run's mistakes: what the run says, in good form, harmless, bounded, and whole."""

from __future__ import annotations

import base64
import re
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import nodes

import turnover.storage.atomic as atomic
from tests.helpers.builders import names
from tests.helpers.calling import answer
from tests.helpers.fake_runs import HOSTILE, FakeRun, keep_targets
from tests.helpers.page_reader import Node, Reader, number, page_of, read_page, sides
from turnover import Run, TurnoverError
from turnover.attribution.estimators.significance import NOISE, STRONG, trust_words
from turnover.data.base import CONFIRMED_ERROR
from turnover.explain.facts import run_facts
from turnover.explain.html import (
    TEMPLATES,
    chip_html,
    image_html,
    mark_html,
    marked_html,
    safe,
)
from turnover.explain.report import (
    CHARACTERS,
    ERRORS,
    FLAGS,
    SIDE,
    page_data,
    report_page,
    write_report,
)
from turnover.explain.words import mark, visible
from turnover.flags import Flags
from turnover.runs.ranking import clearest_first
from turnover.runs.run import PREDICTION, TRUTH

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav"),
    *("section", "article", "h1", "h2", "h3", "h4", "h5", "p", "div", "span", "strong", "em"),
    *("mark", "b", "i", "ul", "ol", "li", "dl", "dt", "dd", "a", "img", "details", "summary"),
    *("svg", "circle", "path"),
}
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
SPITEFUL = (
    *HOSTILE,
    f"{TURNING} \x00 \x1b[31m </style></details><base href=//evil.example> \" ' &amp; &#0;",
)
ATTACK = "\u202e\u200b\x00</style></p><script>x</script>\"'&lt;"
NOT_SHOWN = re.compile(
    r"mistakes/\d+/(item/text|\w+/(sentence|units|random/.*|.*/trust))"
    r"|flags/\d+/item/(text|flag/(action|new_label|by|at))"
)
NOTES = (
    *HOSTILE,
    '=HYPERLINK("http://evil.example")',
    f"{TURNING} \x00 \x1b[31m </p></li></ol><script>x</script>",
    "n" * 100_000,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A made-up text run with eight errors."""
    return FakeRun().write(tmp_path)


# What is shown


@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize("top", [1, 4])
def test_cards_are_the_ends_of_each_ranking_in_their_order(
    kind: str, top: int, tmp_path: Path
) -> None:
    folder = FakeRun(kind=kind).write(tmp_path)
    run, page = Run(folder), page_of(folder, top=top)
    for article, position in zip(page.all("article"), clearest_first(run), strict=True):
        item = run.item("validation", position)
        assert str(item["id"]) in article.text
        chance = item[f"probability_{item['predicted']}"]
        assert f"with probability {chance:.0%}" in article.text
        for meaning in (PREDICTION, TRUTH):
            ranked = run.influence.ranked(position, meaning)
            words = trust_words(ranked.values, ranked.std_errors)
            for cards, places in zip(sides(article, meaning), ranked.ends(top), strict=True):
                shown = {
                    kind: [card.one("span", kind).text for card in cards]
                    for kind in ("id", "to-label", "error")
                }
                labels = [run.classes[label] for label in run.train["label"].loc[places]]
                assert shown["id"] == [f"t{place:03d}" for place in places]
                assert shown["to-label"] == labels
                assert shown["error"] == [f"± {ranked.std_errors[place]:.3f}" for place in places]
                marks = [[mark.text for mark in card.all("span", "to-trust")] for card in cards]
                assert marks == [["uncertain"] * (word == NOISE) for word in words[places]]
                values = [number(card) for card in cards]
                assert values == pytest.approx(list(ranked.values[places]), abs=5e-4)


def test_whose_loss_is_meant_and_how_many_items_can_be_trusted_is_said_for_both(run: Path) -> None:
    opened, sent = Run(run), ("Proponents pushed towards", "Opponents pushed away from")
    for article, position in zip(page_of(run).all("article"), clearest_first(opened), strict=True):
        item = opened.item("validation", position)
        true, wrong = (opened.classes[item[name]] for name in ("label", "predicted"))
        prediction, truth = (heading.text for heading in article.all("h4"))
        assert prediction == f"Influence on the prediction loss of the wrong label “{wrong}”"
        assert truth == f"Influence on the truth loss of the true label “{true}”"
        towards = [heading.text for heading in article.all("h5")]
        assert towards == [f"{side} “{label}”" for label in (wrong, true) for side in sent]
        told = article.all("div", "certainty")
        for said, meaning in zip(told, (PREDICTION, TRUTH), strict=True):
            ranked = opened.influence.ranked(position, meaning)
            strong = int((trust_words(ranked.values, ranked.std_errors) == STRONG).sum())
            none = "No single training item can be told from noise here."
            assert said.text.startswith(f"{strong} of 30 training items" if strong else none)


def test_one_member_has_no_error_and_the_page_says_so(tmp_path: Path) -> None:
    page = page_of(FakeRun(members=1).write(tmp_path))
    assert page.all("span", "error") == page.all("span", "to-trust") == []
    assert page.all("div", "bar") and not page.one("main").all("div", "bar")[0].all("b")
    for article in page.all("article"):
        assert article.text.count("One member: no error known.") == 2
    assert "±" not in page.all("article")[0].one("details").one("div", "sides").text
    assert "nan" not in page.text


def test_bars_are_in_proportion_and_stay_in_their_tracks(run: Path) -> None:
    for article in page_of(run).all("article"):
        cards = [card for side in sides(article, PREDICTION) for card in side]
        bars = [card.one("div", "bar") for card in cards]
        styles = [bar.one("i").attributes["style"] for bar in bars]
        widths = np.array([float(style.removeprefix("width:").rstrip("%")) for style in styles])
        values = np.array([abs(number(card)) for card in cards])
        np.testing.assert_allclose(widths / max(widths), values / max(values), atol=0.02)
        for bar in bars:
            left, width = map(float, re.findall(r"[\d.]+", bar.one("b").attributes["style"]))
            assert left >= 0 and left + width <= 100.1


def test_words_that_a_training_text_shares_with_the_mistake_are_marked(tmp_path: Path) -> None:
    texts = ["The slow submarine sinks", "A submarine, slow and warm", "Elegant and bright"]
    articles = page_of(FakeRun(texts=texts).write(tmp_path)).all("article")
    article = next(one for one in articles if "slow submarine" in one.one("div", "target").text)
    cards = [card for side in sides(article, PREDICTION) for card in side]
    marked = {
        card.one("div", "to-text").text: [mark.text for mark in card.all("mark")] for card in cards
    }
    assert marked[texts[0]] == ["slow submarine sinks"]
    assert marked.get(texts[1], ["submarine", "slow"]) == ["submarine", "slow"]
    assert marked.get(texts[2], []) == []


def test_images_are_the_run_s_own_bytes_with_words_for_those_who_cannot_see_them(
    tmp_path: Path,
) -> None:
    folder = FakeRun(kind="image", classes=("cat", "dog")).write(tmp_path)
    run, article = Run(folder), page_of(folder).all("article")[0]
    item = run.item("validation", clearest_first(run)[0])
    card = sides(article, PREDICTION)[0][0]
    training = run.train.set_index("id").loc[card.one("span", "id").text]
    true, wrong, other = (
        run.classes[label] for label in (item["label"], item["predicted"], training["label"])
    )
    for place, content, said in (
        (
            article.one("div", "target"),
            item,
            f"validation image of class {true}, predicted {wrong}",
        ),
        (card, training, f"training image labelled {other}"),
    ):
        shown = place.one("img").attributes
        source = shown["src"].removeprefix("data:image/png;base64,")
        assert base64.b64decode(source) == content["image"] and shown["alt"] == said


def test_the_header_says_what_the_run_is(small_run: Path, run: Path, tmp_path: Path) -> None:
    """And leaves out what a manifest does not say."""
    opened = Run(small_run)
    write_report(opened, tmp_path / "page.html")
    header = read_page(tmp_path / "page.html").one("header")
    told = {row.one("dt").text: row.one("dd").text for row in header.one("dl").all("div")}
    assert told == run_facts(opened)
    results = opened.manifest["results"]
    masked, plain = (f"{results[f'{name}_accuracy']:.1%}" for name in ("validation", "plain"))
    assert told["Accuracy"] == f"{masked} with turn-over dropout, {plain} without"
    assert (told["Members"], told["Device"]) == ("2, from seed 3", "cpu")
    assert told["Model"] == "small-vgg, masks of 16 groups of units"
    assert told["Estimator"].startswith(("estimated from 2 members", "the median over 2 members"))
    assert (
        f"{len(opened.misclassified_positions)} of 597 validation images are misclassified"
        in header.text
    )
    bare = run_facts(Run(run))
    assert {"Device", "Model", "Leaks"} & set(bare) == set()
    assert (bare["Data"], bare["Members"]) == ("fake: made-up items", "4")


@pytest.mark.parametrize(("count", "shown"), [(3, 3), (100, 8)])
def test_no_more_mistakes_than_asked_for_clearest_first(run: Path, count: int, shown: int) -> None:
    page, opened = page_of(run, errors=count), Run(run)
    assert len(page.all("article")) == len(page.one("nav").all("li")) == shown
    ids = [article.all("span", "id")[0].text for article in page.all("article")]
    clearest = clearest_first(opened)[:shown]
    assert ids == [opened.item("validation", position)["id"] for position in clearest]
    assert ("whose explanation is clearest" in page.one("header").text) == (shown < 8)


def test_errors_without_influences_are_counted_and_not_shown(run: Path, tmp_path: Path) -> None:
    keep_targets(run, Run(run).influence.misclassified[:3])
    made = write_report(Run(run), tmp_path / "page.html")
    assert (made["misclassified"], made["explained"], made["shown"]) == (8, 3, 3)
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Influences were computed for 3 of them." in written


def test_a_model_without_mistakes_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = page_of(FakeRun(errors=False).write(tmp_path))
    assert "right on all 24 validation texts" in page.one("header").text
    assert page.all("article") == [] and page.all("nav") == []


def test_a_mark_says_who_put_it_there() -> None:
    assert mark_html("") == ""
    assert "injected: cue-director" in mark_html("cue-director")
    confirmed = mark_html(CONFIRMED_ERROR)
    assert "label found wrong by people" in confirmed and "injected:" not in confirmed
    assert "<b>" not in mark_html("<b>bold</b>")


# Flags


def flags_of(page: Node) -> list[Node]:
    return page.one("ol", "flags").all("li")


@pytest.mark.parametrize("kind", ["text", "image"])
def test_every_flag_is_listed_with_its_item_who_when_and_why(tmp_path: Path, kind: str) -> None:
    folder = FakeRun(kind=kind).write(tmp_path)
    page = page_of(folder)
    assert page.all("ol", "flags") == [] and "flagged" not in page.one("main").text
    Flags(folder, by="bob").put(2, "drop", note="bad")
    Flags(folder, by="ann").put(5, "relabel", "negative")
    Flags(folder, by="ann").put(7, "keep")
    Flags(folder, by="ann").clear(7)
    page = page_of(folder)
    said = f"2 training {kind}s are flagged: 1 to drop, 1 to relabel; by"
    assert said in page.one("main").text
    newest, oldest = flags_of(page)
    assert all(word in newest.text for word in ("relabel to negative", "t005", "ann, 20"))
    assert not newest.all("p", "note") and oldest.one("p", "note").text == "bad"
    assert "bob, 20" in oldest.text and oldest.one("span", "to-flag").text == "drop"
    if kind == "text":
        assert Run(folder).item("train", 5)["text"] in newest.text
    else:
        assert newest.one("img").attributes["alt"] == "training image labelled positive"
    assert {node.tag for node in page.all()} <= TAGS


def test_export_writes_the_same_page(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Flags(run).put(2, "drop")
    out = tmp_path / "out.html"
    made = answer(capsys, "export", "--run", run, "--format", "html", "--out", out)
    assert made == {"out": str(out), "flags": 1}
    assert out.read_text(encoding="utf-8") == report_page(Run(run))
    assert len(flags_of(read_page(out))) == 1


# A file in good form, harmless whatever the data hold


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_page_is_one_file_in_good_form(kind: str, tmp_path: Path) -> None:
    folder = FakeRun(kind=kind).write(tmp_path)
    assert report_page(Run(folder)).startswith("<!doctype html>\n<html")
    page = page_of(folder)
    assert page.one("html").attributes["lang"] == "en"
    assert {node.tag for node in page.all()} <= TAGS
    metas = [node.attributes for node in page.all("meta")]
    policy = next(meta["content"] for meta in metas if "http-equiv" in meta)
    assert "default-src 'none'" in policy and "script" not in policy
    for own in (node.attributes for node in page.all()):
        assert not {"srcset", "action", "background"} & set(own)
        assert not [name for name in own if name.startswith("on")]
        if "src" in own:
            assert own["src"].startswith("data:image/png;base64,") and "alt" in own
    assert not re.search(r"url\(|@import|https?:|//", page.one("style").text)
    known = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    links = {node.attributes["href"].removeprefix("#") for node in page.all("a")}
    assert len(known) == len(set(known)) and links and links <= set(known)
    levels = [int(node.tag[1]) for node in page.all() if re.fullmatch(r"h\d", node.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_hostile_texts_ids_names_and_notes_stay_text(tmp_path: Path) -> None:
    classes = ("<script>alert(1)</script>", f"\" onload=x '{TURNING}\x00")
    facts = {"device": "<img src=x onerror=y>"}
    folder = FakeRun("<i>run", texts=SPITEFUL, classes=classes, facts=facts).write(tmp_path)
    for instance, note in enumerate(NOTES):
        Flags(folder, by=f"<i>bob</i>{TURNING}").put(instance, "drop", note=note)
    page = page_of(folder)
    assert {node.tag for node in page.all()} <= TAGS - {"img"}
    assert not [name for node in page.all() for name in node.attributes if name.startswith("on")]
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not [character for character in (*TURNING, "\x00", "\x1b") if character in written]
    assert page.one("h1").text == "What taught <i>run its mistakes"
    assert classes[0] in page.one("main").text and facts["device"] in page.one("dl").text
    notes = [item.text for item in flags_of(page)]
    assert len(notes) == len(NOTES) and all(len(text) < 6000 for text in notes)
    assert any('=HYPERLINK("http' in text for text in notes)


def attacked(data: Any, attacks: dict[str, str], place: str = "") -> Any:
    """The same data with an attack of its own in place of every text, noted by its place."""
    if isinstance(data, str):
        return attacks.setdefault(place[1:], f"{len(attacks)}:{ATTACK}")
    if is_dataclass(data) and not isinstance(data, type):
        parts = {field.name: getattr(data, field.name) for field in fields(data)}
        return replace(data, **attacked(parts, attacks, place))
    if isinstance(data, dict):
        return {name: attacked(part, attacks, f"{place}/{name}") for name, part in data.items()}
    if isinstance(data, list | tuple):
        return [attacked(part, attacks, f"{place}/{i}") for i, part in enumerate(data)]
    return data


@pytest.mark.parametrize("kind", ["text", "image"])
def test_every_text_on_the_page_is_escaped_and_made_visible(kind: str, tmp_path: Path) -> None:
    folder = FakeRun(kind=kind, texts=["submarine " * 1000, "a submarine"]).write(tmp_path)
    Flags(folder).put_many(range(3), "drop")
    attacks: dict[str, str] = {}
    data = attacked(page_data(Run(folder), ERRORS, SIDE), attacks)
    written = TEMPLATES.get_template("report.html.jinja").render(data)
    assert not [
        hidden for hidden in (*TURNING, "\x00", "<script", "</style></p>") if hidden in written
    ]
    page = Reader(written).open[0]
    assert {node.tag for node in page.all()} <= TAGS
    shown = page.text + "".join(value for node in page.all() for value in node.attributes.values())
    missing = {place for place, attack in attacks.items() if visible(attack) not in shown}
    assert [place for place in missing if not NOT_SHOWN.fullmatch(place)] == []


@pytest.mark.parametrize("name", TEMPLATES.list_templates(extensions=["jinja"]))
def test_no_template_turns_escaping_off(name: str) -> None:
    assert TEMPLATES.loader and TEMPLATES.autoescape is True
    tree = TEMPLATES.parse(TEMPLATES.loader.get_source(TEMPLATES, name)[0])
    assert "safe" not in {filtered.name for filtered in tree.find_all(nodes.Filter)}
    assert not list(tree.find_all(nodes.EvalContextModifier))


def test_no_piece_lets_markup_or_a_turning_character_through() -> None:
    assert safe("\"'<>&\u202e\x00") == "&quot;&#x27;&lt;&gt;&amp;\ufffd\ufffd"
    for piece in (
        chip_html(ATTACK),
        mark_html(ATTACK),
        image_html(b"", 1, ATTACK),
        marked_html(mark(ATTACK, ())),
    ):
        (node,) = (part for part in Reader(piece).open[0].inside if isinstance(part, Node))
        assert node.all() == [] and not set(TURNING) & set(piece)
        assert visible(ATTACK) in node.text + node.attributes.get("alt", "")


# Bounded, the same again, whole or absent


def test_long_texts_are_folded_and_cut(tmp_path: Path) -> None:
    classes = ("c" * 5000, "d")
    page = page_of(FakeRun(texts=["word " * 20_000], classes=classes).write(tmp_path))
    for text in page.all("div", "to-text"):
        (folded,) = text.all("details", "to-more")
        assert len(text.text) < CHARACTERS + 100
        assert len(text.text) - len(folded.text) <= 600
        assert f"{100_000 - CHARACTERS:,} characters more" in folded.text
    most = 8 * 2 * (1 + 2 * SIDE) * 4 * CHARACTERS
    assert (tmp_path / "page.html").stat().st_size < most


def test_large_runs_and_thousands_of_flags_give_a_page_of_bounded_size(tmp_path: Path) -> None:
    folder = FakeRun(train=3000, validation=240).write(tmp_path)
    Flags(folder).put_many(range(3000), "drop", note="n" * 200)
    made = write_report(Run(folder), tmp_path / "page.html")
    assert (made["misclassified"], made["shown"]) == (80, ERRORS)
    assert made["bytes"] == (tmp_path / "page.html").stat().st_size < 2**20
    page = read_page(tmp_path / "page.html")
    assert len(flags_of(page)) == FLAGS and f"The newest {FLAGS} are shown" in page.one("main").text


def test_the_same_run_gives_the_same_page(run: Path, tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_report(Run(run), tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    path.write_text("old", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(TurnoverError, match="the disk is full"):
        write_report(Run(run), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["fake", "page.html"]
