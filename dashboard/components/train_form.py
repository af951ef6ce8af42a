"""The form of the Train page. What it says lives in the URL; empty fields mean the data set's own.

The fields of the Train page for data of one's own: paths or a name on the hub, and columns. What
they say lives in the URL.

The model of the Train page: a choice of kinds, and the fields that the chosen one needs, each with
what is wrong in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from turnover.dashboard.components.address import whole_number
from turnover.dashboard.components.notice import bullets, problem, quiet, said, wrong_field
from turnover.dashboard.engine import TookTooLong, answer_of
from turnover.dashboard.views.own_data import OWN, clean
from turnover.dashboard.views.train import (
    GROUPS,
    TrainingRequest,
    arguments,
    build_report,
    free_name,
    kind_of,
    models_of,
    problem_of,
    steps,
    usual_values,
    what_follows,
)
from turnover.dashboard.views.train_model import (
    MODULE,
    NOT_OFFERED,
    OF_FILE,
    WEIGHTS,
    Details,
    cleaned,
    fields_of,
    notes,
    problems,
)
from turnover.data.sources import NAMES, SOURCES
from turnover.data.tables import FILES, HUB, OwnData
from turnover.data.tables.formats import ENDINGS
from turnover.data.tables.spec import LARGEST, SMALLEST
from turnover.errors import TurnoverError
from turnover.jobs import start_job
from turnover.models.names import ALLOW, allowed_modules, torchvision_networks

_TEXTS = {
    "text_column": ("Column of the texts", "guessed"),
    "image_column": ("Column of the images", "guessed"),
    "label_column": ("Column of the labels", "guessed"),
    "id_column": ("Column of the ids", "guessed"),
    "classes": ("File with the names of classes", "one a line, from 0"),
}
"""Fields with their labels and what stands in an empty one."""


def ask_for_place(data: str) -> tuple[str, OwnData]:
    """Where the items are, in files or on the hub; returns `data` of the settings, and the rest as
    far as it is asked for here.
    """
    if data == FILES:
        help = (
            f"A file ({', '.join(ENDINGS)}) with texts, images or their paths; or a folder with one"
            " folder of images a class"
        )
        train = _field("Training file or folder", "own-train", "its path", help)
        validation = _field(
            "Validation file or folder",
            "own-validation",
            "empty: a fifth of each class is drawn",
            help,
        )
        test = _field(
            "Test file or folder",
            "own-test",
            "empty: none",
            "The finished model is measured on it once",
        )
        return data, clean(OwnData(train, validation, test))
    help = "OWNER/NAME, and :CONFIGURATION where there are several; it is downloaded"
    name = _field("Name on the hub", "own-hub", "such as stanfordnlp/sst2", help)
    train = _field("Training split", "own-train-split", "train")
    validation = _field("Validation split", "own-validation-split", "validation, else test")
    return HUB + name.strip().removeprefix(HUB), clean(
        OwnData(train_split=train, validation_split=validation)
    )


def ask_for_columns(own: OwnData) -> OwnData:
    """The same with the columns that the user names, and how to read them."""
    keys = {name: f"own-{name.replace('_', '-')}" for name in (*_TEXTS, "size")}
    said: dict[str, Any] = {}
    shown = any(key in st.query_params for key in keys.values())
    with (
        st.expander("Columns, names of classes, size of images", expanded=shown),
        st.grid(3, min_column_width=200),
    ):
        for name, (label, empty) in _TEXTS.items():
            said[name] = _field(label, keys[name], empty)
        said["size"] = whole_number(
            "Side of images, pixels",
            SMALLEST,
            LARGEST,
            None,
            key=keys["size"],
            bind="query-params",
            placeholder="the usual one",
        )
    return clean(replace(own, **said))


def _field(label: str, key: str, placeholder: str, help: str | None = None) -> str:
    return (
        st.text_input(label, key=key, bind="query-params", placeholder=placeholder, help=help) or ""
    )


_MODEL, _USUAL_NETWORK = "train-model", "resnet18"
_ENCODER_HELP = (
    "A folder, or a name on the Hugging Face hub, of a model that transformers loads from "
    "safetensors"
)
_MODULE_HELP = (
    f"Those that {ALLOW} named when the dashboard was started; their code is run as whoever "
    "started it"
)


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
    usual = {
        "text": "all-MiniLM-L6-v2",
        "image": "none: pixels",
        "": "texts all-MiniLM-L6-v2, images none",
    }[kind]
    return _text("Encoder", "train-encoder", usual, _ENCODER_HELP)


def _network(kind: str) -> str:
    networks = torchvision_networks()
    ordered = [_USUAL_NETWORK, *(name for name in networks if name != _USUAL_NETWORK)]
    return st.selectbox("Network", ordered, key="train-network", bind="query-params")


def _module(kind: str) -> str:
    return st.selectbox(
        "File and function",
        allowed_modules(),
        key="train-module",
        bind="query-params",
        help=_MODULE_HELP,
    )


def _text(label: str, key: str, placeholder: str, help: str | None = None) -> str:
    return (
        st.text_input(label, key=key, bind="query-params", placeholder=placeholder, help=help) or ""
    )


_FIELDS: dict[str, Callable[[str], Any]] = {
    "encoder": _encoder,
    "layers": lambda kind: whole_number(
        "Layers with adapters",
        1,
        200,
        None,
        key="train-layers",
        bind="query-params",
        placeholder="all",
    ),
    "network": _network,
    "source": lambda kind: st.selectbox(
        "Weights", WEIGHTS, key="train-weights", bind="query-params"
    ),
    "weights": lambda kind: _text(
        "File with the weights", "train-weights-file", "a safetensors file"
    ),
    "from_layer": lambda kind: _text(
        "Train from layer",
        "train-from-layer",
        "empty: frozen, heads on it",
        "Such as layer4; with masks from there on",
    ),
    "module": _module,
}


_NAME, _REPORT = "train-name", "train-report"
_LONG = "Looking at the data takes long"


def ask_for_training(runs: Path) -> TrainingRequest:
    """The fields; returns what they say."""
    if st.session_state.pop("train-started", False):
        st.session_state[_NAME] = ""
    left, right = st.columns(2, gap="medium")
    with left:
        data, path, own = _ask_for_data()
    with right:
        model, details = choose_model(data)
        suggested = free_name(data, runs, own)
        name = (
            st.text_input(
                "Run name", key=_NAME, bind="query-params", placeholder=suggested, max_chars=80
            )
            or ""
        )
    own = ask_for_columns(own) if own else None
    usual = usual_values(data, model, details)
    with st.grid(4, min_column_width=150):
        members = whole_number(
            "Members",
            1,
            256,
            None,
            key="train-members",
            bind="query-params",
            placeholder=usual["members"],
        )
        limit = whole_number(
            "Training items",
            2,
            None,
            None,
            key="train-limit",
            bind="query-params",
            placeholder="all",
        )
        validation_limit = whole_number(
            "Validation items",
            1,
            None,
            None,
            key="train-validation",
            bind="query-params",
            placeholder="all",
        )
        epochs = whole_number(
            "Epochs at most",
            1,
            1000,
            None,
            key="train-epochs",
            bind="query-params",
            placeholder=usual["epochs"],
        )
        noise = st.number_input(
            "Wrong labels, %",
            0.0,
            99.0,
            None,
            1.0,
            "%g",
            key="train-noise",
            bind="query-params",
            placeholder=usual["noise"],
        )
        masked = (
            GROUPS[16]
            if model == MODULE
            else st.selectbox(
                "Masks are of", list(GROUPS.values()), key="train-groups", bind="query-params"
            )
        )
        seed = whole_number("Seed", 0, 2**31 - 1, 0, key="train-seed", bind="query-params")
    groups = next(number for number, words in GROUPS.items() if words == masked)
    return TrainingRequest(
        data,
        model,
        name.strip() or suggested,
        path.strip(),
        limit,
        validation_limit,
        members,
        groups,
        epochs,
        noise,
        seed,
        own,
        details,
    )


def _ask_for_data() -> tuple[str, str, OwnData | None]:
    """`data` of the settings, the folder that its files are in, and where a user's own items
    are.
    """
    chosen = st.selectbox("Data", [*NAMES, *OWN.values()], key="train-data", bind="query-params")
    data = next((name for name, words in OWN.items() if words == chosen), chosen)
    source = SOURCES.get(data)
    if source is None:
        data, own = ask_for_place(data)
        return data, "", own
    if source.packaged:
        return data, "", None
    empty = "Empty: from the hub" if source.hub else "The folder with its files"
    return (
        data,
        st.text_input(
            "Folder with the files", key="train-path", bind="query-params", placeholder=empty
        )
        or "",
        None,
    )


def start_or_check(wish: TrainingRequest, runs: Path) -> None:
    """Two buttons: see whether data and settings go together, and start; nothing starts that the
    check refuses.
    """
    wrong = problem_of(wish, runs, allowed_modules())
    if wrong:
        problem("This cannot be trained yet", wrong)
    else:
        quiet(what_follows(wish))
    with st.container(horizontal=True):
        start = st.button("Start training", disabled=bool(wrong), key="train-start")
        check = st.button("Check the data", disabled=bool(wrong), key="train-check")
    if (start or check) and _checked(wish, runs) and start:
        _start(wish, runs)
    _show_report(wish, runs)


def _checked(wish: TrainingRequest, runs: Path) -> bool:
    """Whether nothing speaks against settings and data; what came out is kept and shown as long as
    the form says the same.

    Data that take long to look at do not: the training looks at them first, and its job says what
    is wrong.
    """
    asked = arguments(wish, runs)
    with st.spinner("Looking at the data"):
        try:
            st.session_state[_REPORT] = asked, answer_of([*asked, "--check"]), "", ""
        except TookTooLong as error:
            st.session_state[_REPORT] = (
                asked,
                {},
                _LONG,
                f"Start the training, which looks at them first. Or: {error}",
            )
            return True
        except TurnoverError as error:
            st.session_state[_REPORT] = asked, {}, "This cannot be trained", str(error)
    return bool(st.session_state[_REPORT][1])


def _start(wish: TrainingRequest, runs: Path) -> None:
    try:
        start_job(runs, steps(wish, runs), wish.title)
    except TurnoverError as error:
        problem("The training did not start", str(error))
        return
    st.session_state["train-started"] = True
    st.session_state.pop(_REPORT, None)
    st.rerun()


def _show_report(wish: TrainingRequest, runs: Path) -> None:
    asked, told, title, message = st.session_state.get(_REPORT, ([], {}, "", ""))
    if asked != arguments(wish, runs):
        return
    if title:
        problem(title, message)
        return
    report = build_report(told)
    said(report.sentence)
    bullets(report.lines)
    if report.resumes:
        quiet(report.resumes)
    st.dataframe(
        report.table,
        hide_index=True,
        height="content" if len(report.table) <= 12 else 420,
        alt="How many items each class has",
    )
