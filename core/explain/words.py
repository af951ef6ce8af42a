"""Words that two texts share, as segments that a page can mark; and texts that are safe to show.

Words are compared in lower case. Stop words (`STOP_WORDS`) are ignored, and neighbouring shared
words become one segment, so that a name is marked as a whole.

Where the run's tokenizer is known, a run of subword pieces that two words share is marked inside
them, if it has at least five letters: shorter ones are mostly endings. "unchristened" is read as
un ##christ ##ened, so another word with ##christ shares something with it. The pieces come from the
encoder's own `tokenizer.json`, by the package `tokenizers` alone, which loads in milliseconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from turnover.models.names import encoder_folder
from turnover.runs.run import Run

HEAD = 600
"""Characters of a text that are shown at once; the rest unfolds."""

LIMIT = 20_000
"""Characters of a text that are sent to the browser at all."""

_CONTROLS = {*range(32), *range(0x7F, 0xA0)} - {ord(character) for character in "\t\n\r"}
_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_VISIBLE = dict.fromkeys(_CONTROLS | _TURNING | {*range(0xD800, 0xE000)}, 0xFFFD)
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_FREQUENT = """
a about after again all also am an and any are as at be because been before being but by can could
did do does doing don't down each few for from further had has have having he her here hers him his
how i i'd i'll i'm i've if in into is isn't it it's its itself just me more most my n't no nor not
now of off on once only or other our out over own s same she should so some such t than that that's
the their theirs them then there these they they're this those through to too under until up very
was wasn't we were what when where which while who whom why will with would you your yours
"""
STOP_WORDS = frozenset(_FREQUENT.split())
SplitWord = Callable[[str], Collection[tuple[str, int, int]]]
"""A word's subword pieces as the encoder names them, each with its begin and end in the word."""

_LETTERS = 5


@dataclass(frozen=True)
class Segment:
    """A piece of text, marked or not."""

    text: str
    marked: bool = False


@dataclass(frozen=True)
class MarkedText:
    """A text in segments: what is shown at once, what unfolds, and how many characters are not
    sent.
    """

    head: tuple[Segment, ...]
    tail: tuple[Segment, ...] = ()
    length: int = 0
    left_out: int = 0

    @property
    def plain(self) -> str:
        """The text that is sent, without marks."""
        return "".join(segment.text for segment in self.head + self.tail)


def content_words(text: str, cut: SplitWord | None = None) -> frozenset[str]:
    """The words of a text, lower-cased, without stop words; with `cut` also the runs of pieces in
    them, such as "un ##christ".
    """
    words = {word for word in _WORD.findall(text[:LIMIT]) if _key(word) not in STOP_WORDS}
    inside = {run for word in words for run, _, _ in _runs(word, cut)} if cut else set()
    return frozenset(map(_key, words)) | inside


def recurring_words(
    text: str, others: Iterable[str], least: int = 2, cut: SplitWord | None = None
) -> frozenset[str]:
    """The `content_words` of `text` that at least `least` of the `others` share."""
    counts = Counter(word for other_text in others for word in content_words(other_text, cut))
    return frozenset(word for word in content_words(text, cut) if counts[word] >= least)


def mark(
    text: str,
    words: Collection[str],
    head: int = HEAD,
    limit: int = LIMIT,
    cut: SplitWord | None = None,
) -> MarkedText:
    """A text with `words` (as `content_words` gives them) marked, cut into what is shown at once
    and what unfolds; nothing past `limit` characters is kept.
    """
    end = len(text) if len(text) <= head * 1.25 else _space_before(text, head)
    return MarkedText(
        _segments(text[:end], words, cut),
        _segments(text[end:limit], words, cut),
        len(text),
        max(0, len(text) - limit),
    )


def snippet(text: str, length: int = 160) -> str:
    """The beginning of a text on one line."""
    line = " ".join(visible(text[: 4 * length]).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def visible(text: str) -> str:
    """A text with U+FFFD for each character that would not show: controls, bidirectional controls,
    lone surrogates. Tabs and line breaks stay.
    """
    return text.translate(_VISIBLE)


def _segments(text: str, words: Collection[str], cut: SplitWord | None) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    position = 0
    for begin, end in _shared(text, words, cut):
        between = text[position:begin]
        if segments and segments[-1].marked and (between.isspace() or not between):
            segments[-1] = Segment(segments[-1].text + text[position:end], True)
        else:
            segments += [Segment(between)] * bool(between) + [Segment(text[begin:end], True)]
        position = end
    return (*segments, Segment(text[position:])) if text[position:] else tuple(segments)


def _shared(text: str, words: Collection[str], cut: SplitWord | None) -> Iterator[tuple[int, int]]:
    """Where a shared word, or the longest shared run of pieces inside a word, begins and ends; in
    order.
    """
    for match in _WORD.finditer(text):
        word, first = match.group(), match.start()
        if _key(word) in words:
            yield first, match.end()
        elif cut and (
            spans := [
                (end - begin, begin, end) for run, begin, end in _runs(word, cut) if run in words
            ]
        ):
            _, begin, end = max(spans)
            yield first + begin, first + end


def _runs(word: str, cut: SplitWord) -> Iterator[tuple[str, int, int]]:
    """Neighbouring pieces of a word, joined by spaces, and where they begin and end; a word of one
    piece has none but itself.
    """
    pieces = list(cut(word))
    for first in range(len(pieces)):
        for last in range(first, len(pieces) if len(pieces) > 1 else 0):
            begin, end = pieces[first][1], pieces[last][2]
            if end - begin >= _LETTERS and word[begin:end].lower() not in STOP_WORDS:
                yield " ".join(name for name, _, _ in pieces[first : last + 1]), begin, end


def _key(word: str) -> str:
    return word.lower().replace("’", "'")


def _space_before(text: str, end: int) -> int:
    space = text.rfind(" ", max(0, end - 40), end)
    return end if space < 0 else space


# The encoder's pieces of words

_LONGEST = 40
_WORDS = 100_000


def run_splitter(run: Run) -> SplitWord | None:
    """How the run's encoder cuts words; None for images, and where the encoder's `tokenizer.json`
    is not on this machine.
    """
    encoder = run.manifest["settings"].get("encoder") if run.kind == "text" else None
    return encoder_splitter(str(encoder)) if encoder else None


@lru_cache(maxsize=4)
def encoder_splitter(encoder: str) -> SplitWord | None:
    """How an encoder cuts words; None if its `tokenizer.json` is not in a folder on this machine.
    Words of more than 40 characters stay whole.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(
            (Path(encoder_folder(encoder)) / "tokenizer.json").read_text(encoding="utf-8")
        )
    except Exception:  # the package raises bare exceptions for a file that is no tokenizer
        return None
    tokenizer.no_padding()
    tokenizer.no_truncation()

    @lru_cache(maxsize=_WORDS)
    def cut(word: str) -> tuple[tuple[str, int, int], ...]:
        if len(word) > _LONGEST:
            return ()
        read = tokenizer.encode(word, add_special_tokens=False)
        return tuple((token, *span) for token, span in zip(read.tokens, read.offsets, strict=True))

    return cut
