"""What the Train page asks of a model beside its name: which fields it needs, what is wrong in
them, and the options that say the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from turnover.dashboard.views.own_data import path_problem, whole
from turnover.errors import TurnoverError
from turnover.models.names import ALLOW, DEFAULT_ENCODER, TORCHVISION, needs_hub

NETWORK = "torchvision network"
MODULE = "your own module"
RANDOM, OF_FILE, PRETRAINED = "random", "a file of yours", "torchvision’s own"
WEIGHTS = (RANDOM, OF_FILE, PRETRAINED)
"""Where a network's weights come from."""
NOT_OFFERED = (
    f"Your own module is offered if the dashboard is started with {ALLOW}=FILE.py:function; "
    "whoever reaches this page, from any account of this machine, can run that code as you."
)

_OPTIONS = {
    "encoder": "--encoder",
    "layers": "--layers",
    "weights": "--weights",
    "from_layer": "--from-layer",
}
_LAYER = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


@dataclass(frozen=True)
class Details:
    """What the fields say; "" and None mean the usual. Those that a model does not need are not
    looked at (`fields_of`).
    """

    encoder: str = ""
    layers: int | None = None
    network: str = ""
    source: str = RANDOM
    weights: str = ""
    from_layer: str = ""
    module: str = ""


USUAL = Details()


def fields_of(model: str, kind: str) -> tuple[str, ...]:
    """The fields that a model needs for data of a kind, `text` or `image`; "" where that is not
    known before they are read.
    """
    if model == NETWORK:
        return "network", "source", "weights", "from_layer"
    if model == MODULE:
        return ("module",) if kind == "image" else ("module", "encoder")
    if model == "adapters":
        return "encoder", "layers"
    return ("encoder",) if model in ("heads", "masked-encoder") else ()


def cleaned(details: Details, model: str, kind: str) -> Details:
    """What counts of the fields, without blanks, and with whole paths: the work is done in another
    folder.
    """
    needed = set(fields_of(model, kind))
    kept = {one.name: getattr(details, one.name) for one in fields(Details) if one.name in needed}
    said: dict[str, Any] = {
        name: value.strip() if isinstance(value, str) else value for name, value in kept.items()
    }
    if said.get("source", RANDOM) != OF_FILE:
        said.pop("weights", None)
    if said.get("weights"):
        said["weights"] = whole(said["weights"])
    if said.get("encoder") and not path_problem(said["encoder"], Path.is_dir, "folder"):
        said["encoder"] = whole(said["encoder"])
    return Details(**said)


def name_of(model: str, details: Details) -> str:
    """What `--model` names."""
    return {NETWORK: f"{TORCHVISION}{details.network}", MODULE: details.module}.get(model, model)


def options_of(model: str, details: Details) -> dict[str, object]:
    """The options of `train` beside `--model` that say the same as cleaned fields."""
    return {option: getattr(details, name) for name, option in _OPTIONS.items()} | (
        {"--pretrained": True} if details.source == PRETRAINED else {}
    )


def problems(model: str, details: Details) -> dict[str, str]:
    """What is wrong in cleaned fields, a line each, by field: as far as it can be seen without
    loading a model or running code.
    """
    found = {"encoder": _encoder_problem(details.encoder)} if details.encoder else {}
    if model == NETWORK and details.source == OF_FILE:
        found["weights"] = _weights_problem(details.weights)
    if details.from_layer and not _LAYER.fullmatch(details.from_layer):
        found["from_layer"] = (
            "A layer's name has letters, digits and dots, such as layer4 or features.11; "
            "correct it."
        )
    if model == MODULE:
        found["module"] = _module_problem(details.module)
    return {name: line for name, line in found.items() if line}


def notes(details: Details) -> dict[str, str]:
    """What a person should know of cleaned fields without a problem, by field: what is asked of
    other machines.
    """
    found = {}
    if details.encoder and needs_hub(details.encoder):
        found["encoder"] = (
            "Neither a folder nor in the cache of this machine: the training asks the Hugging Face "
            "hub and downloads it."
        )
    if details.source == PRETRAINED:
        found["source"] = (
            "Downloaded from PyTorch unless they are in its cache, in PyTorch’s own format."
        )
    return found


def _encoder_problem(encoder: str) -> str:
    try:
        needs_hub(encoder)
    except TurnoverError as error:
        return str(error)
    return ""


def _weights_problem(weights: str) -> str:
    if not weights:
        return "Name the safetensors file with the network's weights."
    return path_problem(weights, Path.is_file, "file")


def _module_problem(module: str) -> str:
    """What is wrong with `FILE.py:function` or `module:function`; what only running it tells is
    left to the check, which builds it.
    """
    file, _, _ = module.partition(":")
    return path_problem(file, Path.is_file, "file") if file.endswith(".py") else ""


def encoder_of(details: Details) -> str:
    """The encoder, the packaged one where none is named."""
    return details.encoder or DEFAULT_ENCODER
