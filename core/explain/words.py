"""Words that two texts share, as segments that a page can mark; and texts that are safe to show.

Words are compared in lower case. Stop words (`STOP_WORDS`) are ignored, and neighbouring shared
words become one segment, so that a name is marked as a whole.

Where the run's tokenizer is known, a run of subword pieces that two words share is marked inside
them, if it has at least five letters: shorter ones are mostly endings. "unchristened" is read as
un ##christ ##ened, so another word with ##christ shares something with it. And a text that is
longer than the model's window is marked where the model stops reading.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from turnover.errors import TurnoverError
from turnover.models.encoders import Pieces, encoder_pieces
from turnover.models.registry import TrainSettings
from turnover.runs.run import Run

HEAD = 600
"""Characters of a text that are shown at once; the rest unfolds."""

LIMIT = 20_000
"""Characters of a text that are sent to the browser at all."""

_CONTROLS = {*range(32), *range(0x7F, 0xA0)} - {ord(character) for character in "\t\n\r"}
_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_VISIBLE = dict.fromkeys(_CONTROLS | _TURNING | {*range(0xD800, 0xE000)}, 0xFFFD)
WORD = re.compile(r"\w+(?:['’]\w+)*")
"""A word of a text."""
_FREQUENT = """
a about after again all also am an and any are as at be because been before being but by can could
did do does doing don't down each few for from further had has have having he her here hers him his
how i i'd i'll i'm i've if in into is isn't it it's its itself just me more most my n't no nor not
now of off on once only or other our out over own s same she should so some such t than that that's
the their theirs them then there these they they're this those through to too under until up very
was wasn't we were what when where which while who whom why will with would you your yours
"""
STOP_WORDS = frozenset(_FREQUENT.split())
_LETTERS = 5


@dataclass(frozen=True)
class Segment:
    """A piece of text, marked or not; or, without text, where the model's window of this many
    tokens ends.
    """

    text: str
    marked: bool = False
    window: int = 0


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


def content_words(text: str, pieces: Pieces | None = None) -> frozenset[str]:
    """The words of a text, lower-cased, without stop words; with `pieces` also the runs of pieces
    in them, such as "un ##christ".
    """
    words = {word for word in WORD.findall(text[:LIMIT]) if key_of(word) not in STOP_WORDS}
    inside = {run for word in words for run, _, _ in _runs(word, pieces)} if pieces else set()
    return frozenset(map(key_of, words)) | inside


def recurring_words(
    text: str, others: Iterable[str], least: int = 2, pieces: Pieces | None = None
) -> frozenset[str]:
    """The `content_words` of `text` that at least `least` of the `others` share."""
    counts = Counter(word for other_text in others for word in content_words(other_text, pieces))
    return frozenset(word for word in content_words(text, pieces) if counts[word] >= least)


def mark(
    text: str,
    words: Collection[str],
    head: int = HEAD,
    limit: int = LIMIT,
    pieces: Pieces | None = None,
) -> MarkedText:
    """A text with `words` (as `content_words` gives them) marked, cut into what is shown at once
    and what unfolds; nothing past `limit` characters is kept. What the model does not read has no
    marks.
    """
    end = len(text) if len(text) <= head * 1.25 else _space_before(text, head)
    read = (pieces.end(text) if pieces else None) or len(text)

    def part(first: int, last: int) -> tuple[Segment, ...]:
        middle = min(max(first, read), last)
        segments, rest = _segments(text[first:middle], words, pieces), text[middle:last]
        if pieces and rest and middle == read:
            segments = (*segments, Segment("", window=pieces.window or 0))
        return (*segments, Segment(rest)) if rest else segments

    return MarkedText(part(0, end), part(end, limit), len(text), max(0, len(text) - limit))


def snippet(text: str, length: int = 160) -> str:
    """The beginning of a text on one line."""
    line = " ".join(visible(text[: 4 * length]).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def visible(text: str) -> str:
    """A text with U+FFFD for each character that would not show: controls, bidirectional controls,
    lone surrogates. Tabs and line breaks stay.
    """
    return text.translate(_VISIBLE)


def _segments(text: str, words: Collection[str], pieces: Pieces | None) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    position = 0
    for begin, end in _shared(text, words, pieces):
        between = text[position:begin]
        if segments and segments[-1].marked and (between.isspace() or not between):
            segments[-1] = Segment(segments[-1].text + text[position:end], True)
        else:
            segments += [Segment(between)] * bool(between) + [Segment(text[begin:end], True)]
        position = end
    return (*segments, Segment(text[position:])) if text[position:] else tuple(segments)


def _shared(text: str, words: Collection[str], pieces: Pieces | None) -> Iterator[tuple[int, int]]:
    """Where a shared word, or the longest shared run of pieces inside a word, begins and ends; in
    order.
    """
    for match in WORD.finditer(text):
        word, first = match.group(), match.start()
        if key_of(word) in words:
            yield first, match.end()
        elif pieces and (
            spans := [
                (end - begin, begin, end) for run, begin, end in _runs(word, pieces) if run in words
            ]
        ):
            _, begin, end = max(spans)
            yield first + begin, first + end


def _runs(word: str, pieces: Pieces) -> Iterator[tuple[str, int, int]]:
    """Neighbouring pieces of a word, joined by spaces, and where they begin and end; a word of one
    piece has none but itself.
    """
    parts = list(pieces(word))
    for first in range(len(parts)):
        for last in range(first, len(parts) if len(parts) > 1 else 0):
            begin, end = parts[first][1], parts[last][2]
            if end - begin >= _LETTERS and word[begin:end].lower() not in STOP_WORDS:
                yield " ".join(name for name, _, _ in parts[first : last + 1]), begin, end


def key_of(word: str) -> str:
    """A word as it is compared with others."""
    return word.lower().replace("’", "'")


def _space_before(text: str, end: int) -> int:
    space = text.rfind(" ", max(0, end - 40), end)
    return end if space < 0 else space


# The encoder's pieces of words


def run_pieces(run: Run) -> Pieces | None:
    """The tokens of the run's encoder and its window; None for images, and where the encoder's
    `tokenizer.json` is not on this machine.
    """
    saved = run.manifest["settings"]
    if run.kind != "text" or not saved.get("encoder"):
        return None
    try:
        options = TrainSettings.read(saved, run.kind).options
    except TurnoverError:  # of another version
        return None
    return encoder_pieces(str(options.get("encoder")), options.get("max_tokens") or None)
