"""The model of the Train page: a choice of kinds, and the fields that the chosen one needs, each with what is wrong in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from turnover.dashboard.components.notice import quiet, wrong_field
from turnover.dashboard.components.numbers import whole_number
from turnover.dashboard.views.train import kind_of, models_of
from turnover.dashboard.views.train_model import NOT_OFFERED, OF_FILE, WEIGHTS, Details, cleaned, fields_of, notes, problems
from turnover.models.networks import torchvision_networks
from turnover.models.source import ALLOW, allowed_modules

_MODEL, _USUAL_NETWORK = "train-model", "resnet18"
_ENCODER_HELP = "A folder, or a name on the Hugging Face hub, of a model that transformers loads from safetensors"
_MODULE_HELP = f"Those that {ALLOW} named when the dashboard was started; their code is run as whoever started it"


def choose_model(data: str) -> tuple[str, Details]:
    """The model and what its fields say."""
    own_code = bool(allowed_modules())
    models = models_of(data, own_code)
    if st.session_state.get(_MODEL) not in (None, *models):
        st.session_state[_MODEL] = models[0]
    model = st.selectbox("Model", models, key=_MODEL, bind="query-params")
    if not own_code:
        quiet(NOT_OFFERED)
    return model, _ask(model, kind_of(data))


def _ask(model: str, kind: str) -> Details:
    """The fields of a model; below each what is wrong, or what it downloads."""
    said: dict[str, Any] = {}
    for name in fields_of(model, kind):
        if name == "weights" and said["source"] != OF_FILE:
            continue
        said[name] = _FIELDS[name](kind)
        details = cleaned(Details(**said), model, kind)
        wrong = problems(model, details)
        if name in wrong:
            wrong_field(wrong[name])
        elif not wrong and name in (known := notes(details)):
            quiet(known[name])
    return cleaned(Details(**said), model, kind)


def _encoder(kind: str) -> str:
    usual = {"text": "all-MiniLM-L6-v2", "image": "none: pixels", "": "texts all-MiniLM-L6-v2, images none"}[kind]
    return _text("Encoder", "train-encoder", usual, _ENCODER_HELP)


def _network(kind: str) -> str:
    networks = torchvision_networks()
    ordered = [_USUAL_NETWORK, *(name for name in networks if name != _USUAL_NETWORK)]
    return st.selectbox("Network", ordered, key="train-network", bind="query-params")


def _module(kind: str) -> str:
    return st.selectbox("File and function", allowed_modules(), key="train-module", bind="query-params", help=_MODULE_HELP)


def _text(label: str, key: str, placeholder: str, help: str | None = None) -> str:
    return st.text_input(label, key=key, bind="query-params", placeholder=placeholder, help=help) or ""


_FIELDS: dict[str, Callable[[str], Any]] = {
    "encoder": _encoder,
    "layers": lambda kind: whole_number("Layers with adapters", 1, 200, None, key="train-layers", bind="query-params", placeholder="all"),
    "network": _network,
    "source": lambda kind: st.selectbox("Weights", WEIGHTS, key="train-weights", bind="query-params"),
    "weights": lambda kind: _text("File with the weights", "train-weights-file", "a safetensors file"),
    "from_layer": lambda kind: _text("Train from layer", "train-from-layer", "empty: frozen, heads on it", "Such as layer4; with masks from there on"),
    "module": _module,
}
