"""Words that texts share, texts cut to size, and texts made harmless to show."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from core.report.words import HEAD, LIMIT, Segment, content_words, mark, recurring_words, snippet, visible


def test_content_words_are_lower_cased_and_without_stop_words() -> None:
    assert content_words("The Captain's ship, and the SHIP’s bell") == {"captain's", "ship", "ship's", "bell"}


def test_shared_words_are_marked_and_nothing_is_lost() -> None:
    text = "A slow  Submarine, slowly."
    marked = mark(text, {"submarine", "slow"})
    assert marked.head == (Segment("A "), Segment("slow  Submarine", True), Segment(", slowly."))
    assert marked.plain == text
    assert marked.tail == () and marked.left_out == 0


def test_a_mark_at_both_ends() -> None:
    assert mark("slow, slow", {"slow"}).head == (Segment("slow", True), Segment(", "), Segment("slow", True))
    assert mark("", {"slow"}).head == ()


def test_a_long_text_unfolds_and_a_huge_one_is_cut() -> None:
    text = "word " * 20_000
    marked = mark(text, {"word"})
    assert len("".join(segment.text for segment in marked.head)) <= HEAD
    assert marked.plain == text[:LIMIT]
    assert (marked.length, marked.left_out) == (100_000, 100_000 - LIMIT)


def test_recurring_words_need_two_texts() -> None:
    assert recurring_words("a slow submarine", ["submarine one", "the submarine", "slow"]) == {"submarine"}


def test_a_snippet_is_one_line() -> None:
    assert snippet("one\n two\tthree") == "one two three"
    assert len(snippet("word " * 1000, 50)) <= 50 and snippet("word " * 1000, 50).endswith("…")


@given(st.text(st.characters(exclude_categories=())))
def test_what_does_not_show_is_replaced_and_the_rest_stays(text: str) -> None:
    shown = visible(text)
    assert len(shown) == len(text)
    for before, after in zip(text, shown, strict=True):
        hidden = unicodedata.category(before) in ("Cc", "Cs") and before not in "\t\n\r"
        turning = unicodedata.bidirectional(before) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        assert after == ("\N{REPLACEMENT CHARACTER}" if hidden or turning else before)
    assert shown.encode().decode() == shown
    assert visible(shown) == shown


def test_every_character_that_hides_or_turns_is_known() -> None:
    hidden = [chr(code) for code in (0, 7, 0x1B, 0x7F, 0x9F, 0xD800, 0xDFFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
    assert {visible(character) for character in hidden} == {"\N{REPLACEMENT CHARACTER}"}
    assert visible("a\tb\r\nc é ש 漢 🙂") == "a\tb\r\nc é ש 漢 🙂"


def test_a_text_is_cut_at_its_limit() -> None:
    text = "word " * 100
    marked = mark(text, {"word"}, head=50, limit=200)
    assert marked.plain == text[:200]
    assert (marked.length, marked.left_out) == (500, 300)
    assert marked.tail
