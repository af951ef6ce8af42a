from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.fake_runs import EPOCHS, FakeRun
from turnover.attribution.estimators.significance import trust_words
from turnover.dashboard.errors.answer_view import (
    build_answer,
)
from turnover.dashboard.runs.curves_view import build_curves
from turnover.dashboard.shared.runs_view import run_names, summarise
from turnover.errors import TurnoverError
from turnover.explain.explanation import (
    certainty_sentences,
    decimals_of,
    error_items,
    explain_error,
    marked_target,
    rounded,
    units_sentence,
    usual_yardstick,
    yardstick_sentence,
)
from turnover.runs.ranking import clearness
from turnover.runs.run import PREDICTION, TRUTH, Ranked, Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(FakeRun().write(tmp_path))


@pytest.fixture
def image_run(tmp_path: Path) -> Run:
    return Run(FakeRun("images", kind="image", classes=tuple("0123456789")).write(tmp_path))


def test_the_demo_with_planted_causes_is_shown_first(tmp_path: Path) -> None:
    for name in ("zebra", "demo-reviews", "demo-digits"):
        FakeRun(name, influence=False).write(tmp_path)
    assert run_names(tmp_path) == ["demo-reviews", "demo-digits", "zebra"]
    assert run_names(tmp_path / "nowhere") == []


def test_a_run_in_words(run: Run) -> None:
    summary = summarise(run)
    assert summary.sizes == "30 training and 24 validation texts"
    assert summary.quality == "4 models, 66.7% right"


def test_errors_are_all_misclassified_items_with_the_clearest_first(run: Run) -> None:
    items = error_items(run, with_influence=True)
    assert sorted(item.position for item in items) == run.misclassified_positions
    assert [item.rank for item in items] == list(range(len(items)))
    unplanted = [clearness(run, item.position) for item in items if not item.injected]
    assert unplanted == sorted(unplanted, reverse=True)


def test_errors_without_influence_come_by_position(run: Run) -> None:
    assert [
        item.position for item in error_items(run, with_influence=False)
    ] == run.misclassified_positions


@pytest.mark.parametrize("meaning", [PREDICTION, TRUTH])
def test_cards_are_the_ends_of_the_ranking(run: Run, meaning: str) -> None:
    item = error_items(run, with_influence=True)[0]
    shown = explain_error(run, item, meaning, 4)
    ranked = run.influence.ranked(item.position, meaning)
    assert [card.influence for card in shown.proponents] == pytest.approx(
        sorted(ranked.values, reverse=True)[:4]
    )
    assert [card.influence for card in shown.opponents] == pytest.approx(sorted(ranked.values)[:4])
    card = shown.proponents[0]
    assert card.std_error == pytest.approx(float(ranked.std_errors[card.position]))
    assert card.trust == trust_words(ranked.values, ranked.std_errors)[card.position]
    assert (
        card.id == f"t{card.position:03d}"
        and card.text
        and card.text.plain == run.item("train", card.position)["text"]
    )
    assert max(card.share for card in shown.proponents + shown.opponents) == 1
    assert shown.target == (item.predicted if meaning == PREDICTION else item.label)


def test_the_sentences_say_whose_loss_is_meant_how_it_was_made_and_how_large_is_usual(
    run: Run,
) -> None:
    item = error_items(run, with_influence=True)[0]
    prediction, truth = (explain_error(run, item, meaning, 5) for meaning in (PREDICTION, TRUTH))
    assert (
        f"wrong label “{item.predicted}”" in prediction.sentence
        and "towards the mistake" in prediction.sentence
    )
    assert (
        f"true label “{item.label}”" in truth.sentence
        and "towards the right answer" in truth.sentence
    )
    assert (
        "nats" in prediction.units and "estimated from 4 members: what similar" in prediction.units
    )
    spread = rounded(float(run.influence.ranked(item.position, PREDICTION).values.std()))
    assert f"±{spread} " in prediction.yardstick and "all 30" in prediction.yardstick
    assert "±" in usual_yardstick(run)


def test_a_run_that_keeps_the_ends_says_so() -> None:
    ranked = Ranked(np.array([3, 5]), np.array([0.5, -0.25]), np.array([0.1, 0.1]))
    assert "below ±0.25" in yardstick_sentence(ranked, 1000)


def test_one_member_has_no_standard_error(tmp_path: Path) -> None:
    run = Run(FakeRun(members=1).write(tmp_path))
    shown = explain_error(run, error_items(run, with_influence=True)[0], PREDICTION, 3)
    assert (shown.proponents[0].std_error, shown.proponents[0].trust) == (None, "")
    assert shown.certainty == "One member: no error known." and "--members" in shown.advice
    assert "one member has no standard error" in shown.units


def test_each_estimator_has_its_words() -> None:
    assert "estimated from 16 members" in units_sentence(
        "best", 16
    ) and "noise of the masks; ± is one" in units_sentence("best", 16)
    assert (
        units_sentence("median", 4)
        == "In nats of loss, the median over 4 members; ± is one standard error."
    )
    assert (
        units_sentence("raw", 1)
        == "In nats of loss, the one member’s raw influence; one member has no standard error."
    )


def test_how_many_items_can_be_trusted_is_said() -> None:
    counts = {"strong": 12, "weak": 9}
    assert certainty_sentences(counts, 800, 800, 4) == (
        "12 of 800 training items can be told from noise here.",
        "",
    )
    assert certainty_sentences(counts, 40, 5000, 4)[0].startswith("At least 12 of 5,000 ")
    title, advice = certainty_sentences({"strong": 0, "weak": 3}, 800, 800, 16)
    assert title == "No single training item can be told from noise here."
    assert "more than 16 (--members)" in advice


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_the_counts_are_over_the_whole_ranking_and_not_over_the_cards(
    size: float, run: Run
) -> None:
    """Seven items far above their error, all others far below it; or no item above it."""
    part = run.influence
    for name, row in (
        ("estimate", np.where(np.arange(30) < 7, size, 0.001)),
        ("error", np.full(30, 0.1)),
    ):
        np.save(
            part.folder / f"prediction_{name}.npy",
            np.tile(row.astype(np.float32), (len(part.misclassified), 1)),
        )
    shown = explain_error(run, error_items(run, with_influence=True)[0], PREDICTION, 3)
    assert {card.trust for card in shown.proponents} == {
        "strong" if size else "not distinguishable from noise"
    }
    assert (
        shown.certainty == "7 of 30 training items can be told from noise here."
        if size
        else "More members would help" in shown.advice
    )


def test_words_of_the_error_are_marked_in_the_cards_and_recurring_ones_in_the_error(
    tmp_path: Path,
) -> None:
    run = Run(FakeRun(texts=["a slow submarine", "the submarine again"]).write(tmp_path))
    item = error_items(run, with_influence=True)[0]
    shown = explain_error(run, item, PREDICTION, 5)
    for card in shown.proponents:
        assert card.text and any(
            segment.marked and "submarine" in segment.text for segment in card.text.head
        )
    assert any(segment.marked for segment in marked_target(item.text, shown.proponents).head)


def test_numbers_keep_their_digits() -> None:
    assert [rounded(value) for value in (0.0521, 1.26, 12.6, 0.00012, 0.0)] == [
        "0.052",
        "1.3",
        "13",
        "0.00012",
        "0",
    ]
    assert decimals_of([0.00031]) == 5 and decimals_of([]) == 3 and decimals_of([0.5]) == 3


def _card():  # type: ignore[no-untyped-def]
    from turnover.explain.explanation import Card

    return Card(0, "t0", "positive", 0.3, 0.1, "strong", 0.0, "", None, b"")


def test_images_have_pixels_instead_of_words(image_run: Run) -> None:
    item = error_items(image_run, with_influence=True)[0]
    shown = explain_error(image_run, item, PREDICTION, 5)
    assert item.image.startswith(b"\x89PNG") and not item.text
    assert all(card.text is None and card.image.startswith(b"\x89PNG") for card in shown.proponents)


def test_curves_mark_the_kept_epoch(run: Run) -> None:
    curves = build_curves(run)
    assert curves.kept == 2 and curves.epochs == tuple(range(1, EPOCHS + 1))
    assert [line.name for line in curves.series] == [
        "Learned",
        "Not learned",
        "New items",
        "Validation",
    ]
    assert "kept epoch 2" in curves.alt and "learned 0.55" in curves.alt
    assert "66.7% right" in curves.accuracy and "ordinary training: 70.0%" in curves.accuracy


REPLY = {
    "predicted": "positive",
    "probabilities": {"negative": 0.2, "positive": 0.8},
    "meaning": "label",
    "label": "negative",
    "estimator": "raw",
    "trust": None,
    "cause": None,
    "warning": "",
    "proponents": [
        {
            "position": 6,
            "id": "t006",
            "label": "negative",
            "influence": 0.2,
            "std_error": None,
            "trust": None,
            "strength": None,
            "rank": 1,
            "share": 0.4,
            "doubt": {"label": "positive", "probability": 0.9},
            "text": "slow boat",
        }
    ],
    "opponents": [],
}
CUE = {"kind": "cue", "sentence": "", "group": "", "words": ["boat"], "regions": [], "without": 0.1}
CUE |= {"doubt": None, "teachers": [6], "twin": None}


def test_an_answer_becomes_cards(run: Run) -> None:
    answer = build_answer(run, {**REPLY, "cause": CUE})
    assert list(answer.probabilities) == ["positive", "negative"]
    (card,) = answer.explanation.proponents
    assert (card.injected, card.std_error, card.trust) == ("cue-submarine", None, "")
    assert card.share == 1 and card.doubt and card.doubt.label == "positive"
    assert card.text and [part.text for part in card.text.head if part.marked] == ["boat"]
    assert "the label “negative”" in answer.explanation.sentence
    assert answer.cause and (answer.cause.words, answer.cause.error) == (("boat",), -1)


def test_an_answer_that_is_none_is_a_clear_error(run: Run) -> None:
    for reply in ({}, {**REPLY, "proponents": [{}]}, {**REPLY, "probabilities": None}):
        with pytest.raises(TurnoverError, match="answer cannot be read"):
            build_answer(run, reply)
