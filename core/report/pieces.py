"""How a run's encoder cuts words into pieces, so that a page can mark what two words share in the encoder's eyes.

"unchristened" is read as un ##christ ##ened: another word with ##christ in it has something in common with it. The pieces
come from the encoder's own `tokenizer.json`, by the package `tokenizers` alone, which is there in milliseconds.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from turnover.models.encoders import encoder_folder
from turnover.report.words import Cut
from turnover.runs import Run

_LONGEST = 40
_WORDS = 100_000


def run_cut(run: Run) -> Cut | None:
    """How the run's encoder cuts words; None for images, and where the encoder's `tokenizer.json` is not on this machine."""
    encoder = run.manifest["settings"].get("encoder") if run.kind == "text" else None
    return encoder_cut(str(encoder)) if encoder else None


@lru_cache(maxsize=4)
def encoder_cut(encoder: str) -> Cut | None:
    """How an encoder cuts words; None if its `tokenizer.json` is not in a folder on this machine. Words of more than 40 characters stay whole."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str((Path(encoder_folder(encoder)) / "tokenizer.json").read_text(encoding="utf-8"))
    except Exception:  # the package raises bare exceptions for what is no tokenizer
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
