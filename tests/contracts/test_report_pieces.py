"""Marks inside words: what the encoder's own pieces say that two words share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.models.encoders import DEFAULT_ENCODER
from core.report.errors import error_items
from core.report.explanation import PREDICTION, explain_error, marked_target
from core.report.pieces import encoder_cut, run_cut
from core.report.words import content_words, mark, recurring_words
from core.runs import Run
from tests.helpers.fake_runs import FakeRun

CUT = encoder_cut(DEFAULT_ENCODER)


def marked(text: str, other: str) -> list[str]:
    """What is marked in `text` of what it shares with `other`."""
    return [segment.text for segment in mark(text, content_words(other, CUT), cut=CUT).head if segment.marked]


@pytest.mark.parametrize(
    ("text", "other", "found"),
    [
        ("antichristian", "he was unchristened", ["christ"]),  # anti ##christ ##ian, un ##christ ##ened
        ("the submariner", "a submarine", ["submarine"]),  # submarine ##r
        ("a submarine", "the submariner", ["submarine"]),
        ("a submarine's bell", "slow submarines", []),  # the encoder has a piece of its own for each of them
        ("christian", "unchristened", []),
        ("unwatchable and rewatchable", "something workable", []),  # ##able is an ending: four letters
        ("unwatchable", "rewatchable", ["watchable"]),  # the longest run of pieces
        ("underappreciated", "underwhelming", []),  # "under" is a word that says nothing
        ("Unchristened SOULS", "unchristened souls", ["Unchristened SOULS"]),  # whole words as before
    ],
)
def test_what_words_share_is_what_the_encoder_sees(text: str, other: str, found: list[str]) -> None:
    assert marked(text, other) == found


@given(st.text(max_size=80), st.text(max_size=80))
def test_marks_lose_nothing(text: str, other: str) -> None:
    assert mark(text, content_words(other, CUT), cut=CUT).plain == text


@given(st.text(st.sampled_from("abcdeinrstu "), max_size=60))
def test_all_content_words_of_a_text_are_marked_in_itself(text: str) -> None:
    known = mark(text, content_words(text), cut=CUT)
    assert known == mark(text, content_words(text))
    assert mark(text, content_words(text, CUT), cut=CUT).plain == text


def test_pieces_recur_like_words() -> None:
    others = ["christened", "an antichristian film", "an antichrist"]
    assert "##christ" in recurring_words("the unchristened", others, cut=CUT)
    assert "##christ" not in recurring_words("the unchristened", others[:2], cut=CUT)


def test_a_word_of_any_length_takes_no_time() -> None:
    assert marked("x" * 20_000, "x" * 19_000) == []


def test_an_encoder_that_is_not_here_leaves_words_as_they_are(tmp_path: Path) -> None:
    assert encoder_cut("some/hub-name") is None
    (tmp_path / "tokenizer.json").write_text("{}")
    assert encoder_cut(str(tmp_path)) is None
    assert run_cut(Run(FakeRun("images", kind="image", facts={"settings": {"encoder": DEFAULT_ENCODER}}).write(tmp_path))) is None
    assert run_cut(Run(FakeRun("texts").write(tmp_path))) is None


def test_the_pieces_of_an_error_are_marked_in_its_cards(tmp_path: Path) -> None:
    texts = ["the unchristened captain", "an antichristian boat"]
    run = Run(FakeRun(texts=texts, facts={"settings": {"encoder": DEFAULT_ENCODER}}).write(tmp_path))
    item = next(one for one in error_items(run, with_influence=True) if one.text == texts[0])
    shown = explain_error(run, item, PREDICTION, 20)
    cards = {card.text.plain: card.text for card in shown.proponents + shown.opponents if card.text}
    assert [segment.text for segment in cards[texts[1]].head if segment.marked] == ["christ"]
    assert any(segment.marked for segment in marked_target(item.text, shown.proponents, cut=run_cut(run)).head)


def test_no_torch_is_needed() -> None:
    script = "import sys; from core.report.pieces import encoder_cut; encoder_cut('all-MiniLM-L6-v2')('submariner'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "False"
