"""The page of a run's mistakes: what it shows is what the run says."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest

from core import Run
from core.data.base import CONFIRMED_ERROR
from core.estimators.trust import STRONG, trust_words
from core.ranking import TOP, clearest_first
from core.report.explanation import PREDICTION, TRUTH
from core.report.facts import explained_pattern, run_facts
from core.report.fragments import mark_html
from core.report.page import write_report
from tests.helpers.fake_runs import FakeRun, keep_targets
from tests.helpers.page_reader import number, page_of, read_page, sides


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A made-up text run with eight errors."""
    return FakeRun().write(tmp_path)


# What is shown


@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize("top", [1, 4])
def test_cards_are_the_ends_of_each_ranking_in_their_order(kind: str, top: int, tmp_path: Path) -> None:
    folder = FakeRun(kind=kind).write(tmp_path)
    run, page = Run(folder), page_of(folder, top=top)
    articles = page.all("article")
    for article, position in zip(articles, clearest_first(run), strict=True):
        item = run.item("validation", position)
        assert str(item["id"]) in article.text
        chance = item[f"probability_{item['predicted']}"]
        assert f"with probability {chance:.0%}" in article.text
        for meaning in (PREDICTION, TRUTH):
            ranked = run.influence.ranked(position, meaning)
            for cards, places in zip(sides(article, meaning), ranked.ends(top), strict=True):
                assert [card.one("span", "id").text for card in cards] == [f"t{place:03d}" for place in places]
                assert [number(card) for card in cards] == pytest.approx(list(ranked.values[places]), abs=5e-4)
                assert [card.one("span", "to-label").text for card in cards] == [run.classes[label] for label in run.train["label"].loc[places]]
                errors = [card.one("span", "error").text for card in cards]
                assert errors == [f"± {ranked.errors[place]:.3f}" for place in places]
                words = trust_words(ranked.values, ranked.errors)
                assert [card.one("span", "to-trust").text for card in cards] == list(words[places])


def test_whose_loss_is_meant_is_said_for_both(run: Path) -> None:
    opened = Run(run)
    for article, position in zip(page_of(run).all("article"), clearest_first(opened), strict=True):
        item = opened.item("validation", position)
        true, wrong = (opened.classes[item[name]] for name in ("label", "predicted"))
        prediction, truth = (heading.text for heading in article.all("h4"))
        assert prediction == f"Influence on the prediction loss of the wrong label “{wrong}”"
        assert truth == f"Influence on the truth loss of the true label “{true}”"
        towards = [heading.text for heading in article.all("h5")]
        assert towards == [f"{side} “{label}”" for label in (wrong, true) for side in ("Proponents pushed towards", "Opponents pushed away from")]


def test_one_member_has_no_error_and_the_page_says_so(tmp_path: Path) -> None:
    page = page_of(FakeRun(members=1).write(tmp_path))
    assert page.all("span", "error") == page.all("span", "to-trust") == [] and page.all("div", "bar") and not page.one("main").all("div", "bar")[0].all("b")
    for article in page.all("article"):
        assert article.text.count("One member: no error known.") == 2
    assert "±" not in page.all("article")[0].one("details").one("div", "sides").text
    assert "nan" not in page.text


def test_how_many_items_can_be_trusted_stands_above_both_lists(run: Path) -> None:
    part = Run(run).influence
    for article, position in zip(page_of(run).all("article"), clearest_first(Run(run)), strict=True):
        for said, meaning in zip(article.all("div", "certainty"), (PREDICTION, TRUTH), strict=True):
            ranked = part.ranked(position, meaning)
            strong = int((trust_words(ranked.values, ranked.errors) == STRONG).sum())
            assert said.text.startswith(f"{strong} of 30 training items" if strong else "No single training item can be told from noise here.")


def test_bars_are_in_proportion_and_stay_in_their_tracks(run: Path) -> None:
    for article in page_of(run).all("article"):
        cards = [card for side in sides(article, PREDICTION) for card in side]
        widths = [float(card.one("div", "bar").one("i").attributes["style"].removeprefix("width:").rstrip("%")) for card in cards]
        values = [abs(number(card)) for card in cards]
        np.testing.assert_allclose(np.array(widths) / max(widths), np.array(values) / max(values), atol=0.02)
        for card in cards:
            left, width = re.findall(r"[\d.]+", card.one("div", "bar").one("b").attributes["style"])
            assert float(left) >= 0 and float(left) + float(width) <= 100.1


def test_words_that_a_training_text_shares_with_the_mistake_are_marked(tmp_path: Path) -> None:
    texts = ["The slow submarine sinks", "A submarine, slow and warm", "Elegant and bright"]
    page = page_of(FakeRun(texts=texts).write(tmp_path))
    article = next(article for article in page.all("article") if "slow submarine" in article.one("div", "target").text)
    cards = [card for side in sides(article, PREDICTION) for card in side]
    marked = {card.one("div", "to-text").text: [mark.text for mark in card.all("mark")] for card in cards}
    assert marked[texts[0]] == ["slow submarine sinks"]
    assert marked.get(texts[1], ["submarine", "slow"]) == ["submarine", "slow"]
    assert marked.get(texts[2], []) == []


def test_images_are_the_run_s_own_bytes_with_words_for_those_who_cannot_see_them(tmp_path: Path) -> None:
    folder = FakeRun(kind="image", classes=("cat", "dog")).write(tmp_path)
    run, page = Run(folder), page_of(folder)
    article, position = page.all("article")[0], clearest_first(run)[0]
    item = run.item("validation", position)
    shown = article.one("div", "target").one("img").attributes
    assert base64.b64decode(shown["src"].removeprefix("data:image/png;base64,")) == item["image"]
    assert shown["alt"] == f"validation image of class {run.classes[item['label']]}, predicted {run.classes[item['predicted']]}"
    card = sides(article, PREDICTION)[0][0]
    training = run.train.set_index("id").loc[card.one("span", "id").text]
    assert base64.b64decode(card.one("img").attributes["src"].removeprefix("data:image/png;base64,")) == training["image"]
    assert card.one("img").attributes["alt"] == f"training image labelled {run.classes[training['label']]}"


def test_the_header_says_what_the_run_is(small_run: Path, tmp_path: Path) -> None:
    run = Run(small_run)
    write_report(run, tmp_path / "page.html")
    header = read_page(tmp_path / "page.html").one("header")
    told = {row.one("dt").text: row.one("dd").text for row in header.one("dl").all("div")}
    assert told == run_facts(run)
    results = run.manifest["results"]
    assert told["Accuracy"] == f"{results['validation_accuracy']:.1%} with turn-over dropout, {results['plain_accuracy']:.1%} without"
    assert (told["Members"], told["Device"]) == ("2, from seed 3", "cpu")
    assert told["Model"] == "small-vgg, masks of 16 groups of units"
    assert told["Estimator"].startswith(("estimated from 2 members", "the median over 2 members"))
    assert f"{len(run.errors)} of 597 validation images are misclassified" in header.text


def test_what_a_manifest_does_not_say_is_left_out(run: Path) -> None:
    told = run_facts(Run(run))
    assert {"Device", "Model", "Leaks"} & set(told) == set()
    assert told["Data"] == "fake: made-up items"
    assert told["Members"] == "4"


@pytest.mark.parametrize(("count", "shown"), [(3, 3), (100, 8)])
def test_no_more_mistakes_than_asked_for_clearest_first(run: Path, count: int, shown: int, tmp_path: Path) -> None:
    page, opened = page_of(run, errors=count), Run(run)
    assert len(page.all("article")) == len(page.one("nav").all("li")) == shown
    ids = [article.all("span", "id")[0].text for article in page.all("article")]
    assert ids == [opened.item("validation", position)["id"] for position in clearest_first(opened)[:shown]]
    assert ("whose explanation is clearest" in page.one("header").text) == (shown < 8)


def test_errors_without_influences_are_counted_and_not_shown(run: Path, tmp_path: Path) -> None:
    keep_targets(run, Run(run).influence.errors[:3])
    made = write_report(Run(run), tmp_path / "page.html")
    assert (made["misclassified"], made["explained"], made["shown"]) == (8, 3, 3)
    assert "Influences were computed for 3 of them." in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_model_without_mistakes_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = page_of(FakeRun(errors=False).write(tmp_path))
    assert "right on all 24 validation texts" in page.one("header").text
    assert page.all("article") == [] and page.all("nav") == []


# In numbers


def test_the_pattern_is_counted_by_hand(run: Path) -> None:
    opened = Run(run)
    part, labels = opened.influence, opened.train["label"].tolist()
    shares, against, chances = [], [], []
    for position in part.errors:
        values, wrong = part.ranked(position, PREDICTION).values.tolist(), opened.validation["predicted"][position]
        order = sorted(range(30), key=lambda place: -values[place])
        helping = [labels[place] == wrong for place in order[:TOP] if values[place] > 0]
        hurting = [labels[place] == wrong for place in order[::-1][:TOP] if values[place] < 0]
        shares.append(sum(helping) / len(helping)), against.append(sum(hurting) / len(hurting))
        chances.append(labels.count(wrong) / 30)
    pattern = explained_pattern(opened)
    assert pattern and pattern.errors == 8
    assert (pattern.proponents, pattern.opponents, pattern.chance) == pytest.approx((np.mean(shares), np.mean(against), np.mean(chances)))
    assert pattern.proponents_error == pytest.approx(np.std(shares, ddof=1) / 8**0.5)
    estimates = np.load(run / "influence" / "prediction_estimate.npy")
    assert pattern.strongest == pytest.approx(np.median(estimates.max(1)))
    assert pattern.spread == pytest.approx(np.median(estimates.std(1)))


def test_a_run_without_errors_has_no_pattern_and_one_error_no_spread_of_shares(tmp_path: Path, run: Path) -> None:
    assert explained_pattern(Run(FakeRun("none", errors=False).write(tmp_path))) is None
    keep_targets(run, Run(run).influence.errors[:1])
    pattern = explained_pattern(Run(run))
    assert pattern and (pattern.errors, pattern.proponents_error) == (1, None)


def test_a_mark_says_who_put_it_there() -> None:
    assert mark_html("") == ""
    assert "planted: cue-director" in mark_html("cue-director")
    assert "label found wrong by people" in mark_html(CONFIRMED_ERROR) and "planted:" not in mark_html(CONFIRMED_ERROR)
    assert "<b>" not in mark_html("<b>bold</b>")
