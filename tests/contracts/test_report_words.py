"""Words and parts of words that texts share, texts cut to size and made harmless to show."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.fake_runs import FakeRun
from turnover.explain.explanation import error_items, explain_error, marked_target
from turnover.explain.words import (
    HEAD,
    LIMIT,
    Segment,
    content_words,
    encoder_pieces,
    mark,
    recurring_words,
    run_pieces,
    snippet,
    visible,
)
from turnover.models.encoders import DEFAULT_ENCODER
from turnover.runs.run import PREDICTION, Run

CUT = encoder_pieces(DEFAULT_ENCODER)
REPLACED = "\N{REPLACEMENT CHARACTER}"


def test_content_words_are_lower_cased_and_without_stop_words() -> None:
    words = content_words("The Captain's ship, and the SHIP’s bell")
    assert words == {"captain's", "ship", "ship's", "bell"}


def test_shared_words_are_marked_and_nothing_is_lost() -> None:
    text = "A slow  Submarine, slowly."
    marked = mark(text, {"submarine", "slow"})
    assert marked.head == (Segment("A "), Segment("slow  Submarine", True), Segment(", slowly."))
    assert (marked.plain, marked.tail, marked.left_out) == (text, (), 0)
    both = mark("slow, slow", {"slow"})
    assert both.head == (Segment("slow", True), Segment(", "), Segment("slow", True))
    assert mark("", {"slow"}).head == ()


def test_a_long_text_unfolds_and_a_huge_one_is_cut() -> None:
    text = "word " * 20_000
    marked = mark(text, {"word"})
    assert len("".join(segment.text for segment in marked.head)) <= HEAD
    assert marked.plain == text[:LIMIT]
    assert (marked.length, marked.left_out) == (100_000, 100_000 - LIMIT)
    marked = mark(text[:500], {"word"}, head=50, limit=200)
    assert (marked.plain, marked.length, marked.left_out) == (text[:200], 500, 300)
    assert marked.tail


def test_a_snippet_is_one_line() -> None:
    assert snippet("one\n two\tthree") == "one two three"
    cut = snippet("word " * 1000, 50)
    assert len(cut) <= 50 and cut.endswith("…")


@given(st.text(st.characters(exclude_categories=())))
def test_what_does_not_show_is_replaced_and_the_rest_stays(text: str) -> None:
    shown = visible(text)
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for before, after in zip(text, shown, strict=True):
        hidden = unicodedata.category(before) in ("Cc", "Cs") and before not in "\t\n\r"
        hidden |= unicodedata.bidirectional(before) in turning
        assert after == (REPLACED if hidden else before)
    assert shown.encode().decode() == shown
    assert visible(shown) == shown


def test_every_character_that_hides_or_turns_is_known() -> None:
    codes = (0, 7, 0x1B, 0x7F, 0x9F, 0xD800, 0xDFFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    assert {visible(chr(code)) for code in codes} == {REPLACED}
    assert visible("a\tb\r\nc é ש 漢 🙂") == "a\tb\r\nc é ש 漢 🙂"


# Pieces of words, as the encoder has them


def marked(text: str, other: str) -> list[str]:
    """What is marked in `text` of what it shares with `other`."""
    made = mark(text, content_words(other, CUT), pieces=CUT)
    return [segment.text for segment in made.head if segment.marked]


@pytest.mark.parametrize(
    ("text", "other", "found"),
    [
        # anti ##christ ##ian, un ##christ ##ened
        ("antichristian", "he was unchristened", ["christ"]),
        ("the submariner", "a submarine", ["submarine"]),  # submarine ##r
        ("a submarine", "the submariner", ["submarine"]),
        ("a submarine's bell", "slow submarines", []),  # a piece of its own for each of them
        ("christian", "unchristened", []),
        ("unwatchable and rewatchable", "something workable", []),  # an ending: four letters
        ("unwatchable", "rewatchable", ["watchable"]),  # the longest run of pieces
        ("underappreciated", "underwhelming", []),  # "under" is a word that says nothing
        ("Unchristened SOULS", "unchristened souls", ["Unchristened SOULS"]),  # whole words
        ("x" * 20_000, "x" * 19_000, []),  # of any length, in no time
    ],
)
def test_what_words_share_is_what_the_encoder_sees(text: str, other: str, found: list[str]) -> None:
    assert marked(text, other) == found


@given(st.text(max_size=80), st.text(max_size=80))
def test_marks_lose_nothing(text: str, other: str) -> None:
    assert mark(text, content_words(other, CUT), pieces=CUT).plain == text


@given(st.text(st.sampled_from("abcdeinrstu "), max_size=60))
def test_all_content_words_of_a_text_are_marked_in_itself(text: str) -> None:
    known = mark(text, content_words(text), pieces=CUT)
    assert known == mark(text, content_words(text))
    assert mark(text, content_words(text, CUT), pieces=CUT).plain == text


def test_words_and_pieces_recur_in_two_texts() -> None:
    others = ["a slow submarine one", "the submarine", "slower"]
    assert recurring_words("a slow submarine", others) == {"submarine"}
    others = ["christened", "an antichristian film", "an antichrist"]
    assert "##christ" in recurring_words("the unchristened", others, pieces=CUT)
    assert "##christ" not in recurring_words("the unchristened", others[:2], pieces=CUT)


def test_an_encoder_that_is_not_here_leaves_words_as_they_are(tmp_path: Path) -> None:
    assert encoder_pieces("some/hub-name") is None
    (tmp_path / "tokenizer.json").write_text("{}")
    assert encoder_pieces(str(tmp_path)) is None
    facts = {"settings": {"encoder": DEFAULT_ENCODER}}
    assert run_pieces(Run(FakeRun("images", kind="image", facts=facts).write(tmp_path))) is None
    assert run_pieces(Run(FakeRun("texts").write(tmp_path))) is None


def test_the_pieces_of_an_error_are_marked_in_its_cards(tmp_path: Path) -> None:
    texts = ["the unchristened captain", "an antichristian boat"]
    facts = {"settings": {"encoder": DEFAULT_ENCODER}}
    run = Run(FakeRun(texts=texts, facts=facts).write(tmp_path))
    items = error_items(run, with_influence=True)
    item = next(one for one in items if one.text == texts[0])
    shown = explain_error(run, item, PREDICTION, 20)
    cards = [card.text for card in shown.proponents + shown.opponents if card.text]
    head = next(text.head for text in cards if text.plain == texts[1])
    assert [segment.text for segment in head if segment.marked] == ["christ"]
    target = marked_target(item.text, shown.proponents, pieces=run_pieces(run))
    assert any(segment.marked for segment in target.head)
