"""*New run* on the Runs page: data, which are looked at at once, then a model that suits them.

Values live in the URL; an empty field means the default. Files that are uploaded are kept with the
runs, so neither they nor the work depend on the tab. All but data, model and name is under *More*,
as a loop over the options of the settings and of the model's family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from turnover.dashboard.engine import TookTooLong, answer_of
from turnover.dashboard.runs.run_list import CURVES, TRAINING, VIEW
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
    data_problem,
    free_name,
    is_remote,
    kind_of,
    name_problem,
    problem_of,
    steps,
    usual_values,
    what_follows,
)
from turnover.dashboard.runs.uploads import MOST_MEGABYTES, TYPES, find_uploads, keep_upload
from turnover.dashboard.shared.address import set_in_address, whole_number
from turnover.dashboard.shared.notice import bullets, problem, quiet, said, wrong_field
from turnover.dashboard.shared.own_data_view import OWN, clean, whole
from turnover.dashboard.state import runs_folder
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
_MORE_FILES = {
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

_DATA, _MODEL, _NAMED, _NAME = "train-data", "train-model", "train-named", "train-name"
_UPLOAD, _UPLOADED, _REFUSED = "train-upload", "train-uploaded", "train-upload-problem"
_REPORT, _STARTED, _STEP = "train-report", "train-started", 0.05


def show_new_run() -> None:
    """Data at the left, with what is in them; at the right the model, once data are there."""
    runs = runs_folder()
    left, right = st.columns([6, 5], gap="large")
    with left:
        request = _ask_for_data(runs)
        readable, kind = _look(request, runs)
    if readable:
        with right:
            _ask_and_start(request, kind, runs)


def after_start() -> None:
    """Show the curves of a training that was just started; before any widget is drawn."""
    if name := st.session_state.pop(_STARTED, ""):
        st.session_state.update({VIEW: CURVES, _NAME: ""})
        set_in_address(TRAINING, name)


# The data


def _ask_for_data(runs: Path) -> TrainingRequest:
    """The data of a request, which has no more yet."""
    chosen = st.selectbox(
        "Data", [*OWN.values(), *NAMES], key=_DATA, bind="query-params", on_change=_follow_data
    )
    data = next((name for name, words in OWN.items() if words == chosen), chosen)
    if data in OWN:
        data, own = _ask_for_own(data, runs)
        return TrainingRequest(data, "", free_name(data, runs, own), own=own)
    source, path = SOURCES[data], ""
    if not source.packaged:
        empty = "Empty: from the hub" if source.hub else "The folder with its files"
        path = _field("Folder with the files", "train-path", empty).strip()
    return TrainingRequest(data, "", free_name(data, runs), path)


def _follow_data() -> None:
    """Other data begin with the model that suits them."""
    chosen = st.session_state[_DATA]
    kind = SOURCES[chosen].kind if chosen in SOURCES else ""
    st.session_state[_MODEL] = next(iter(titles_of(kind)))


def _ask_for_own(data: str, runs: Path) -> tuple[str, OwnData]:
    """`data` of the settings, and the places and columns of a user's own data."""
    places: dict[str, Any] = {}
    rarer: Mapping[str, tuple[str, ...]] = _MORE_FILES
    if data == FILES:
        places["train"] = _ask_for_file(runs)
    else:
        name = _field("Name on the hub", "own-hub", "such as stanfordnlp/sst2", _ON_HUB)
        data, rarer = HUB + name.strip().removeprefix(HUB), _SPLITS
    fields: dict[str, tuple[str, ...]] = {**rarer, **_COLUMNS}
    given = any(_key(name) in st.query_params for name in (*fields, "size"))
    with (
        st.expander(f"{next(iter(rarer.values()))[0]}, columns, size of images", expanded=given),
        st.grid(2, min_column_width=200),
    ):
        values: dict[str, Any] = {
            name: _field(label, _key(name), *more) for name, (label, *more) in fields.items()
        }
        values["size"] = whole_number(
            "Side of images, pixels",
            SMALLEST,
            LARGEST,
            None,
            key=_key("size"),
            bind="query-params",
            placeholder="the usual one",
        )
    return data, clean(OwnData(**places, **values))


def _ask_for_file(runs: Path) -> str:
    """The path of the training file: of one that is uploaded now or was before, or typed."""
    st.file_uploader(
        "Upload a file: CSV, TSV, JSONL, parquet, or a zip of one folder of images a class",
        TYPES,
        key=_UPLOAD,
        on_change=_keep,
        args=(runs,),
        max_upload_size=MOST_MEGABYTES,
    )
    if refused := st.session_state.get(_REFUSED):
        wrong_field(refused)
    before = {
        f"{path.name} ({path.parent.name[:4]})": whole(f"{path}") for path in find_uploads(runs)
    }
    path = _field("Or the path of a file or folder on this machine", _key("train"), "", _FORMS)
    if before and not path:
        st.selectbox(
            "Or one that was uploaded before",
            before,
            index=None,
            key=_UPLOADED,
            on_change=lambda: st.session_state.update(
                {_key("train"): before[st.session_state[_UPLOADED]]}
            ),
        )
    return path


def _keep(runs: Path) -> None:
    """Keep what was uploaded, and take it for the training."""
    st.session_state.pop(_REFUSED, None)
    file = st.session_state[_UPLOAD]
    if file is None:
        return
    try:
        kept = keep_upload(runs, file.name, file.getvalue())
    except TurnoverError as error:
        st.session_state[_REFUSED] = str(error)
        return
    st.session_state[_key("train")] = whole(f"{kept}")


def _key(name: str) -> str:
    return f"own-{name.replace('_', '-')}"


def _field(label: str, key: str, placeholder: str = "", help: str | None = None) -> str:
    return (
        st.text_input(label, key=key, bind="query-params", placeholder=placeholder, help=help) or ""
    )


def _look(request: TrainingRequest, runs: Path) -> tuple[bool, str]:
    """Look at the data once they are named, and say what is in them; at those of another machine
    when asked to. Returns whether they can be trained on as far as is known, and their kind, "" if
    unknown.
    """
    if not request.named:
        quiet("Columns, classes and the model follow from the data.")
        return False, ""
    if wrong := data_problem(request):
        wrong_field(wrong)
        return False, ""
    command = arguments(request, runs)
    known = st.session_state.get(_REPORT, ((),))[0] == command
    if not known and not is_remote(request):
        st.session_state[_REPORT] = command, *_answer(command)
        known = True
    shown = st.container()
    if st.button("Check again" if known else "Check the data", key="train-check"):
        st.session_state[_REPORT] = command, *_answer(command)
        st.rerun()
    with shown:
        if known:
            return _show_report(request, *st.session_state[_REPORT][1:])
    return True, kind_of(request.data)


def _show_report(
    request: TrainingRequest, output: dict[str, Any], title: str, message: str
) -> tuple[bool, str]:
    """What a check said; returns as `_look`."""
    if title:
        problem(title, message)
        return title == _LONG, kind_of(request.data)
    report = build_report(output, request.own)
    said(report.sentence)
    bullets(report.lines)
    st.dataframe(
        report.table,
        hide_index=True,
        height="content" if len(report.table) <= 12 else 420,
        alt="How many items each class has",
    )
    return True, report.kind


_LONG = "Looking at the data takes long"


def _answer(command: list[str]) -> tuple[dict[str, Any], str, str]:
    """What a check says; or the title of a problem, and what it is. If it takes too long, the
    training may start: it checks the data first, and its job shows errors.
    """
    with st.spinner("Looking at the data"):
        try:
            return answer_of([*command, "--check"]), "", ""
        except TookTooLong as error:
            return {}, _LONG, f"Start the training, which looks at them first. Or: {error}"
        except TurnoverError as error:
            return {}, "This cannot be trained", str(error)


# The model


def _ask_and_start(request: TrainingRequest, kind: str, runs: Path) -> None:
    """Model, name, what is under *More*, and the button."""
    model = _choose_model(kind)
    name = st.text_input(
        "Run name", key=_NAME, bind="query-params", placeholder=request.name, max_chars=80
    )
    name = (name or "").strip() or request.name
    if wrong_name := name_problem(name, runs):
        wrong_field(wrong_name)
    elif (runs / f"{name}.partial").exists():
        quiet("A training of this name was stopped; with the same settings it goes on from there.")
    given = any(
        parameter.startswith("train-")
        for parameter in [*st.query_params]
        if parameter not in (_DATA, _MODEL, _NAME, "train-path")
    )
    with st.expander("More", expanded=given):
        options = _ask(model, kind)
        usual = usual_values(request.data, model, options, kind)
        with st.grid(2, min_column_width=180):
            shared = {option.name: _option(option, usual.get(option.name, "")) for option in SHARED}
        if not any(offered and offered.code for offered in titles_of(kind).values()):
            quiet(NOT_OFFERED)
    request = replace(request, model=model, name=name, options=options | cleaned(shared, SHARED))
    wrong = problem_of(request, runs)
    if not wrong:
        quiet(what_follows(request))
    elif not wrong_name:
        wrong_field(wrong)
    if st.button("Start training", type="primary", disabled=bool(wrong), key="train-start"):
        _start(request, runs)


def _start(request: TrainingRequest, runs: Path) -> None:
    """Check all settings with the data, and start; nothing starts that the check rejects."""
    _, title, message = _answer(arguments(request, runs))
    if title and title != _LONG:
        problem(title, message)
        return
    try:
        start_job(runs, steps(request, runs), request.title)
    except TurnoverError as error:
        problem("The training did not start", str(error))
        return
    st.session_state[_STARTED] = request.name
    st.rerun()


def _choose_model(kind: str) -> str:
    """The value of `--model`, "" for what suits the data."""
    titles = titles_of(kind)
    family = titles[_select("Model", tuple(titles), _MODEL)]
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
    with st.grid(2, min_column_width=180):
        for option in options:
            with st.container(gap="xsmall"):
                values[option.name] = _option(option)
                _note(option.name, model, cleaned(values, options), kind)
    return cleaned(values, options)


def _note(name: str, model: str, chosen: Mapping[str, Any], kind: str) -> None:
    wrong = problems(model, chosen, kind)
    if name in wrong:
        wrong_field(wrong[name])
    elif not wrong and name in (known := notes(model, chosen)):
        quiet(known[name])


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
