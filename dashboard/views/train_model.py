"""The model fields of the Train page: which fields a model needs, their errors, and the options.

`Details` holds the values of the fields. `cleaned` keeps those that the chosen model needs;
`problems` and `notes` check them without loading a model or running code; `options_of` turns them
into options of `turnover train`.
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
"""Sources of a network's weights."""
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
    """Values of the fields; "" and None mean the default. Fields that the model does not need
    (`fields_of`) are ignored.
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
    """The fields that a model needs for data of a kind: `text`, `image`, or "" if the kind is known
    only once the data are read.
    """
    if model == NETWORK:
        return "network", "source", "weights", "from_layer"
    if model == MODULE:
        return ("module",) if kind == "image" else ("module", "encoder")
    if model == "adapters":
        return "encoder", "layers"
    return ("encoder",) if model in ("heads", "masked-encoder") else ()


def cleaned(details: Details, model: str, kind: str) -> Details:
    """The fields that the model needs, stripped, with absolute paths, since the job runs in another
    folder.
    """
    needed = set(fields_of(model, kind))
    values: dict[str, Any] = {
        name: value.strip() if isinstance(value, str) else value
        for name, value in ((field.name, getattr(details, field.name)) for field in fields(Details))
        if name in needed
    }
    if values.get("source", RANDOM) != OF_FILE:
        values.pop("weights", None)
    if values.get("weights"):
        values["weights"] = whole(values["weights"])
    if values.get("encoder") and not path_problem(values["encoder"], Path.is_dir, "folder"):
        values["encoder"] = whole(values["encoder"])
    return Details(**values)


def name_of(model: str, details: Details) -> str:
    """The value of `--model`."""
    return {NETWORK: f"{TORCHVISION}{details.network}", MODULE: details.module}.get(model, model)


def options_of(model: str, details: Details) -> dict[str, object]:
    """The options of `turnover train`, besides `--model`, for cleaned fields."""
    return {option: getattr(details, name) for name, option in _OPTIONS.items()} | (
        {"--pretrained": True} if details.source == PRETRAINED else {}
    )


def problems(model: str, details: Details) -> dict[str, str]:
    """Errors in cleaned fields, one line each, by field, as far as they can be found without
    loading a model or running code.
    """
    lines = {"encoder": _encoder_problem(details.encoder)} if details.encoder else {}
    if model == NETWORK and details.source == OF_FILE:
        lines["weights"] = _weights_problem(details.weights)
    if details.from_layer and not _LAYER.fullmatch(details.from_layer):
        lines["from_layer"] = (
            "A layer's name has letters, digits and dots, such as layer4 or features.11; "
            "correct it."
        )
    if model == MODULE:
        lines["module"] = _module_problem(details.module)
    return {name: line for name, line in lines.items() if line}


def notes(details: Details) -> dict[str, str]:
    """What valid cleaned fields download from other machines, one line each, by field."""
    lines = {}
    if details.encoder and needs_hub(details.encoder):
        lines["encoder"] = (
            "Neither a folder nor in the cache of this machine: the training asks the Hugging Face "
            "hub and downloads it."
        )
    if details.source == PRETRAINED:
        lines["source"] = (
            "Downloaded from PyTorch unless they are in its cache, in PyTorch’s own format."
        )
    return lines


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
    """Why `FILE.py:function` or `module:function` cannot be used; errors that need running it are
    left to `train --check`, which builds the model.
    """
    file, _, _ = module.partition(":")
    return path_problem(file, Path.is_file, "file") if file.endswith(".py") else ""


def encoder_of(details: Details) -> str:
    """The encoder, the packaged one if none is named."""
    return details.encoder or DEFAULT_ENCODER
