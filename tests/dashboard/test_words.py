from __future__ import annotations

from dashboard.views.words import HEAD, LIMIT, Segment, content_words, mark, recurring_words, snippet


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
