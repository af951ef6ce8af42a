"""The form of the Train page. What it says lives in the URL; empty fields mean the data set's own."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from turnover.dashboard.commands import TookTooLong, answer_of
from turnover.dashboard.components.notice import bullets, problem, quiet, said
from turnover.dashboard.components.numbers import whole_number
from turnover.dashboard.components.own_data_form import ask_for_columns, ask_for_place
from turnover.dashboard.components.train_model_form import choose_model
from turnover.dashboard.views.own_data import OWN
from turnover.dashboard.views.train import GROUPS, Wish, arguments, build_report, free_name, problem_of, steps, usual_values, what_follows
from turnover.dashboard.views.train_model import MODULE
from turnover.data import NAMES, SOURCES
from turnover.data.own import OwnData
from turnover.errors import TurnoverError
from turnover.jobs import start_job
from turnover.models.source import allowed_modules

_NAME, _REPORT = "train-name", "train-report"
_LONG = "Looking at the data takes long"


def ask_for_training(runs: Path) -> Wish:
    """The fields; returns what they say."""
    if st.session_state.pop("train-started", False):
        st.session_state[_NAME] = ""
    left, right = st.columns(2, gap="medium")
    with left:
        data, path, own = _ask_for_data()
    with right:
        model, details = choose_model(data)
        suggested = free_name(data, runs, own)
        name = st.text_input("Run name", key=_NAME, bind="query-params", placeholder=suggested, max_chars=80) or ""
    own = ask_for_columns(own) if own else None
    usual = usual_values(data, model, details)
    with st.grid(4, min_column_width=150):
        members = whole_number("Members", 1, 256, None, key="train-members", bind="query-params", placeholder=usual["members"])
        limit = whole_number("Training items", 2, None, None, key="train-limit", bind="query-params", placeholder="all")
        validation_limit = whole_number("Validation items", 1, None, None, key="train-validation", bind="query-params", placeholder="all")
        epochs = whole_number("Epochs at most", 1, 1000, None, key="train-epochs", bind="query-params", placeholder=usual["epochs"])
        noise = st.number_input("Wrong labels, %", 0.0, 99.0, None, 1.0, "%g", key="train-noise", bind="query-params", placeholder=usual["noise"])
        masked = GROUPS[16] if model == MODULE else st.selectbox("Masks are of", list(GROUPS.values()), key="train-groups", bind="query-params")
        seed = whole_number("Seed", 0, 2**31 - 1, 0, key="train-seed", bind="query-params")
    groups = next(number for number, words in GROUPS.items() if words == masked)
    return Wish(data, model, name.strip() or suggested, path.strip(), limit, validation_limit, members, groups, epochs, noise, seed, own, details)


def _ask_for_data() -> tuple[str, str, OwnData | None]:
    """`data` of the settings, the folder that its files are in, and where a user's own items are."""
    chosen = st.selectbox("Data", [*NAMES, *OWN.values()], key="train-data", bind="query-params")
    data = next((name for name, words in OWN.items() if words == chosen), chosen)
    source = SOURCES.get(data)
    if source is None:
        data, own = ask_for_place(data)
        return data, "", own
    if source.packaged:
        return data, "", None
    empty = "Empty: from the hub" if source.hub else "The folder with its files"
    return data, st.text_input("Folder with the files", key="train-path", bind="query-params", placeholder=empty) or "", None


def start_or_check(wish: Wish, runs: Path) -> None:
    """Two buttons: see whether data and settings go together, and start; nothing starts that the check refuses."""
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


def _checked(wish: Wish, runs: Path) -> bool:
    """Whether nothing speaks against settings and data; what came out is kept and shown as long as the form says the same.

    Data that take long to look at do not: the training looks at them first, and its job says what is wrong.
    """
    asked = arguments(wish, runs)
    with st.spinner("Looking at the data"):
        try:
            st.session_state[_REPORT] = asked, answer_of([*asked, "--check"]), "", ""
        except TookTooLong as error:
            st.session_state[_REPORT] = asked, {}, _LONG, f"Start the training, which looks at them first. Or: {error}"
            return True
        except TurnoverError as error:
            st.session_state[_REPORT] = asked, {}, "This cannot be trained", str(error)
    return bool(st.session_state[_REPORT][1])


def _start(wish: Wish, runs: Path) -> None:
    try:
        start_job(runs, steps(wish, runs), wish.title)
    except TurnoverError as error:
        problem("The training did not start", str(error))
        return
    st.session_state["train-started"] = True
    st.session_state.pop(_REPORT, None)
    st.rerun()


def _show_report(wish: Wish, runs: Path) -> None:
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
    st.dataframe(report.table, hide_index=True, height="content" if len(report.table) <= 12 else 420, alt="How many items each class has")
