"""The form of the Train page: data, model and settings.

Values live in the URL; an empty field means the default. A user's own data have fields for paths or
a hub name, and for columns. Each kind of model has its own fields, with an error line below each.
`start_or_check` checks the data and starts the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from turnover.dashboard.engine import TookTooLong, answer_of
from turnover.dashboard.runs.train_model_view import (
    NOT_OFFERED,
    SHARED,
    cleaned,
    fields_of,
    module_problem,
    notes,
    problems,
    titles_of,
)
from turnover.dashboard.runs.train_view import (
    TrainingRequest,
    arguments,
    build_report,
    free_name,
    kind_of,
    problem_of,
    steps,
    usual_values,
    what_follows,
)
from turnover.dashboard.shared.address import whole_number
from turnover.dashboard.shared.notice import bullets, problem, quiet, said, wrong_field
from turnover.dashboard.shared.own_data_view import OWN, clean
from turnover.data.sources import NAMES, SOURCES
from turnover.data.tables import FILES, HUB, OwnData
from turnover.data.tables.formats import ENDINGS
from turnover.data.tables.spec import LARGEST, SMALLEST
from turnover.errors import TurnoverError
from turnover.jobs import start_job
from turnover.models.options import Option

_FORMS = (
    f"A file ({', '.join(ENDINGS)}) with texts, images or their paths; or a folder with one folder "
    "of images a class"
)
_ON_HUB = "OWNER/NAME, and :CONFIGURATION where there are several; it is downloaded"
_ONCE = "The finished model is measured on it once"
_FILES = {
    "train": ("Training file or folder", "its path", _FORMS),
    "validation": ("Validation file or folder", "empty: a fifth of each class is drawn", _FORMS),
    "test": ("Test file or folder", "empty: none", _ONCE),
}
_SPLITS = {
    "train_split": ("Training split", "train"),
    "validation_split": ("Validation split", "validation, else test"),
}
_COLUMNS = {
    "text_column": ("Column of the texts", "inferred"),
    "image_column": ("Column of the images", "inferred"),
    "label_column": ("Column of the labels", "inferred"),
    "id_column": ("Column of the ids", "inferred"),
    "classes": ("File with the names of classes", "one a line, from 0"),
}
"""Fields of a user's own data with their labels, placeholders and helps."""


def ask_for_place(data: str) -> tuple[str, OwnData]:
    """The fields for files or a hub data set; returns `data` of the settings, and their other
    values so far.
    """
    if data == FILES:
        return data, clean(OwnData(**_fields(_FILES)))
    name = _field("Name on the hub", "own-hub", "such as stanfordnlp/sst2", _ON_HUB)
    return HUB + name.strip().removeprefix(HUB), clean(OwnData(**_fields(_SPLITS)))


def _fields(fields: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The values of text fields."""
    return {name: _field(label, _key(name), *more) for name, (label, *more) in fields.items()}


def _key(name: str) -> str:
    return f"own-{name.replace('_', '-')}"


def ask_for_columns(own_data: OwnData) -> OwnData:
    """Add the fields for columns, classes and image size to the settings."""
    shown = any(_key(name) in st.query_params for name in (*_COLUMNS, "size"))
    with (
        st.expander("Columns, names of classes, size of images", expanded=shown),
        st.grid(3, min_column_width=200),
    ):
        values = _fields(_COLUMNS)
        values["size"] = whole_number(
            "Side of images, pixels",
            SMALLEST,
            LARGEST,
            None,
            key=_key("size"),
            bind="query-params",
            placeholder="the usual one",
        )
    return clean(replace(own_data, **values))


def _field(label: str, key: str, placeholder: str, help: str | None = None) -> str:
    return (
        st.text_input(label, key=key, bind="query-params", placeholder=placeholder, help=help) or ""
    )


# The model

_MODEL, _NAMED = "train-model", "train-named"


def choose_model(data: str) -> str:
    """The value of `--model`, "" for what suits the data."""
    titles = titles_of(kind_of(data))
    family = titles[_select("Model", tuple(titles), _MODEL)]
    if not any(offered and offered.code for offered in titles.values()):
        quiet(NOT_OFFERED)
    if family is None:
        return ""
    choices = family.choices()
    model = choices[0] if choices == (family.name,) else _select("Which one", choices, _NAMED)
    if wrong := module_problem(model):
        wrong_field(wrong)
    return model


def _select(label: str, choices: tuple[str, ...], key: str) -> str:
    """A choice; one that was made among others gives way to the first."""
    if st.session_state.get(key) not in (None, *choices):
        st.session_state[key] = choices[0]
    return str(st.selectbox(label, choices, key=key, bind="query-params"))


def _ask(model: str, kind: str) -> dict[str, Any]:
    """The options of a model, each with its error or its note below."""
    values: dict[str, Any] = {}
    options = fields_of(model, kind)
    for option in options:
        with st.container(gap="xsmall"):
            values[option.name] = _option(option)
            chosen = cleaned(values, options)
            wrong = problems(model, chosen, kind)
            if option.name in wrong:
                wrong_field(wrong[option.name])
            elif not wrong and option.name in (known := notes(model, chosen)):
                quiet(known[option.name])
    return cleaned(values, options)


def _option(option: Option, usual: str = "") -> Any:
    """The field of an option; empty, it stands for the usual value."""
    key = f"train-{option.name.replace('_', '-')}"
    empty = usual or option.empty or f"{option.default}"
    more: dict[str, Any] = {
        "key": key,
        "bind": "query-params",
        "help": f"{option.help[0].upper()}{option.help[1:]}",
    }
    if option.type is bool:
        return st.checkbox(option.label, option.default, **more)
    if option.type is int:
        least, most = option.least and int(option.least), option.most and int(option.most)
        step = 2 if option.even else 1
        return whole_number(option.label, least, most, None, step, placeholder=empty, **more)
    if option.type is float:
        least, most = float(option.least or 0), option.below and option.below - _STEP
        return st.number_input(
            option.label, least, most, None, _STEP, "%g", placeholder=empty, **more
        )
    return _field(option.label, key, empty, more["help"])


# The training

_NAME, _REPORT = "train-name", "train-report"
_STEP = 0.05


def ask_for_training(runs: Path) -> TrainingRequest:
    """Draw the form; returns the values as a request."""
    if st.session_state.pop("train-started", False):
        st.session_state[_NAME] = ""
    left, right = st.columns(2, gap="medium")
    with left:
        data, path, own_data = _ask_for_data()
    with right:
        model = choose_model(data)
        suggested = free_name(data, runs, own_data)
        name = (
            st.text_input(
                "Run name", key=_NAME, bind="query-params", placeholder=suggested, max_chars=80
            )
            or ""
        )
    own_data = ask_for_columns(own_data) if own_data else None
    with st.grid(4, min_column_width=150):
        options = _ask(model, kind_of(data))
        usual = usual_values(data, model, options)
        shared = {option.name: _option(option, usual.get(option.name, "")) for option in SHARED}
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
        seed = whole_number("Seed", 0, 2**31 - 1, 0, key="train-seed", bind="query-params")
    return TrainingRequest(
        data,
        model,
        name.strip() or suggested,
        path.strip(),
        noise,
        seed,
        own_data,
        options | cleaned(shared, SHARED),
    )


def _ask_for_data() -> tuple[str, str, OwnData | None]:
    """`data` of the settings, the folder of its files, and the settings of a user's own data."""
    chosen = st.selectbox("Data", [*NAMES, *OWN.values()], key="train-data", bind="query-params")
    data = next((name for name, words in OWN.items() if words == chosen), chosen)
    source = SOURCES.get(data)
    if source is None:
        data, own_data = ask_for_place(data)
        return data, "", own_data
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


def start_or_check(request: TrainingRequest, runs: Path) -> None:
    """Two buttons, to check the data and to start; nothing starts that the check rejects."""
    wrong = problem_of(request, runs)
    if wrong:
        problem("This cannot be trained yet", wrong)
    else:
        quiet(what_follows(request))
    with st.container(horizontal=True):
        start = st.button("Start training", disabled=bool(wrong), key="train-start")
        check = st.button("Check the data", disabled=bool(wrong), key="train-check")
    if (start or check) and _checked(request, runs) and start:
        _start(request, runs)
    _show_report(request, runs)


def _checked(request: TrainingRequest, runs: Path) -> bool:
    """Whether the check found no error; its result is shown as long as the form is unchanged. If
    the check takes too long, the training may start: it checks the data first, and its job shows
    errors.
    """
    command, wrong = arguments(request, runs), False
    with st.spinner("Looking at the data"):
        try:
            shown = answer_of([*command, "--check"]), "", ""
        except TookTooLong as error:
            first = f"Start the training, which looks at them first. Or: {error}"
            shown = {}, "Looking at the data takes long", first
        except TurnoverError as error:
            shown = {}, "This cannot be trained", str(error)
            wrong = True
    st.session_state[_REPORT] = command, *shown
    return not wrong


def _start(request: TrainingRequest, runs: Path) -> None:
    try:
        start_job(runs, steps(request, runs), request.title)
    except TurnoverError as error:
        problem("The training did not start", str(error))
        return
    st.session_state["train-started"] = True
    st.session_state.pop(_REPORT, None)
    st.rerun()


def _show_report(request: TrainingRequest, runs: Path) -> None:
    checked, output, title, message = st.session_state.get(_REPORT, ([], {}, "", ""))
    if checked != arguments(request, runs):
        return
    if title:
        problem(title, message)
        return
    report = build_report(output)
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
