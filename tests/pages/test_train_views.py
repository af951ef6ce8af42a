"""What a new run and the list of jobs say, as pure functions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.fake_runs import FakeRun
from turnover.cli import build_parser
from turnover.dashboard.runs.train_model_view import titles_of
from turnover.dashboard.runs.train_view import (
    DEEP_TARGETS,
    TrainingRequest,
    arguments,
    free_name,
    problem_of,
    steps,
    what_follows,
)
from turnover.dashboard.shared.jobs_view import job_cards, jobs_with, run_of, time_left
from turnover.data.sources import NAMES, SOURCES
from turnover.jobs import State, find_jobs, read_job

DIGITS = TrainingRequest("digits", "small-vgg", "mine")
TRAIN = [["train", "--data", "digits", "--run", "RUN"], ["influence", "--run", "RUN"]]


@pytest.mark.parametrize("name", ["a", "sst2-1", "A.b_c-9", "x" * 80])
def test_plain_names_pass(name: str, tmp_path: Path) -> None:
    assert problem_of(replace(DIGITS, name=name), tmp_path) == ""


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".jobs",
        "../up",
        "a/b",
        "/abs",
        "a b",
        "-rf",
        "x\n",
        "ä",
        "<b>",
        "x" * 81,
        "run.partial",
        "a\x00b",
    ],
)
def test_names_that_are_paths_options_or_markup_do_not(name: str, tmp_path: Path) -> None:
    assert "A run's name has letters" in problem_of(replace(DIGITS, name=name), tmp_path)


def test_a_name_that_is_taken_is_refused_and_none_is_suggested_twice(tmp_path: Path) -> None:
    FakeRun("digits-1").write(tmp_path)
    (tmp_path / "digits-2.partial").mkdir()
    assert "already" in problem_of(replace(DIGITS, name="digits-1"), tmp_path)
    assert (
        free_name("digits", tmp_path) == "digits-3"
        and free_name("reviews", tmp_path) == "reviews-1"
    )


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (TrainingRequest("imdb-checks", "heads", "x"), "Name the folder"),
        (
            TrainingRequest("sst2", "heads", "x", path="/nowhere/<b>"),
            "/nowhere/<b>: no such folder",
        ),
        (
            TrainingRequest("sst2", "heads", "x", path="~nobody-here/x"),
            "~nobody-here/x: nobody here has this home folder",
        ),
        (TrainingRequest("digits", "heads", "x", options={"members": 0}), "--members 0"),
        (TrainingRequest("digits", "adapters", "x"), "choose one of small-vgg"),
        (TrainingRequest("digits", "heads", "x", options={"epochs": 0}), "--epochs 0"),
    ],
)
def test_what_cannot_be_trained_is_said_before_it_starts(
    wish: TrainingRequest, expected: str, tmp_path: Path
) -> None:
    assert expected in problem_of(wish, tmp_path)
    assert arguments(wish, tmp_path)[:3] == [
        "train",
        "--data",
        wish.data,
    ], "what is wrong is told, and keeps the page from nothing else"


@pytest.mark.parametrize("data", NAMES)
def test_every_wish_is_understood_by_the_command_line(data: str, tmp_path: Path) -> None:
    shared = {"limit": 10, "validation_limit": 5, "members": 3, "groups": 0, "epochs": 7}
    shared |= {"label_noise": 0.025, "seed": 4}
    for family in titles_of(SOURCES[data].kind).values():
        assert family
        model = family.choices()[0]
        wish = TrainingRequest(data, model, "x", str(tmp_path), options=shared)
        trained, influence = (build_parser().parse_args(step) for step in steps(wish, tmp_path))
        assert (
            trained.data,
            trained.model,
            trained.limit,
            trained.validation_limit,
            trained.members,
        ) == (data, model, 10, 5, 3)
        assert (trained.groups, trained.epochs, trained.label_noise, trained.seed) == (
            0,
            7,
            0.025,
            4,
        )
        assert trained.run == influence.run == str(tmp_path / "x")
        assert (trained.path is None) == (data in ("digits", "reviews"))
        deep = model in ("adapters", "checkpoint", "masked-encoder", "vgg19")
        assert (influence.targets, influence.most) == (
            ("errors", DEEP_TARGETS) if deep else ("validation", None)
        )
        assert ("at most 20 errors" in what_follows(wish)) is deep


def test_empty_fields_leave_the_choice_to_the_command(tmp_path: Path) -> None:
    expected = f"train --data digits --model small-vgg --run {tmp_path / 'mine'}"
    assert arguments(DIGITS, tmp_path) == expected.split()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.4, "59 s"), (61, "1 min"), (3599, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_the_time_left_is_said_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert time_left(seconds) == words


# Jobs


def test_a_card_for_every_state(tmp_path: Path) -> None:
    run = FakeRun("made").write(tmp_path)
    made = [[part.replace("RUN", str(run)) for part in step] for step in TRAIN]
    result = {"validation_accuracy": 0.9, "plain_accuracy": 0.91, "members": 8}
    fake_job(
        tmp_path,
        made,
        "done",
        "1",
        outcome={"results": [result, {}], "finished": True, "error": ""},
    )
    fake_job(
        tmp_path,
        TRAIN,
        "failed",
        "2",
        outcome={"results": [], "finished": False, "error": "no <b>"},
        log="one\ntwo",
    )
    fake_job(tmp_path, TRAIN, "cancelled", "3", cancelled=True)
    fake_job(tmp_path, TRAIN, "lost", "4", begun=True)
    running = fake_job(
        tmp_path,
        TRAIN,
        "running",
        "5",
        begun=True,
        outcome={"results": [result], "finished": False, "error": ""},
    )
    (running / "progress.json").write_text(
        '{"stage": "influence", "done": 3, "total": 4, "unit": "pairs", "seconds_left": 30.0}'
    )
    queued = fake_job(tmp_path, TRAIN, "queued", "6")
    stopping = fake_job(tmp_path, TRAIN, "stopping", "7", begun=True, cancelled=True)
    with at_work(running), at_work(queued), at_work(stopping):
        cards = {card.title: card for card in job_cards(find_jobs(tmp_path))}
    assert list(cards) == ["stopping", "queued", "running", "lost", "cancelled", "failed", "done"]
    assert (
        cards["done"].line
        == "Done: 8 models, 90.0% right on the validation items, 91.0% without turn-over "
        "dropout."
    )
    assert (cards["failed"].line, cards["failed"].log) == ("no <b>", "one\ntwo")
    assert (
        cards["running"].line == "Step 2 of 2: influence, 3 of 4 pairs, about 30 s left"
        and cards["running"].share == 0.75
    )
    assert "process is gone" in cards["lost"].line and "Waits for its turn" in cards["queued"].line
    assert {name for name, card in cards.items() if card.can_cancel} == {"running", "queued"}
    assert {name for name, card in cards.items() if card.can_resume} == {
        "failed",
        "cancelled",
        "lost",
    }
    assert {name: card.run for name, card in cards.items() if card.run} == {"done": "made"}
    assert {card.state for card in cards.values()} == {state.value for state in State}


@pytest.mark.parametrize("unknown", [{"plain_accuracy": None}, {}, {"plain_accuracy": "<b>"}])
def test_a_model_without_a_plain_twin_is_done_all_the_same(
    unknown: dict[str, Any], tmp_path: Path
) -> None:
    fake_job(
        tmp_path,
        TRAIN,
        outcome={
            "results": [{"validation_accuracy": 0.9, "members": 8, **unknown}],
            "finished": True,
            "error": "",
        },
    )
    (card,) = job_cards(find_jobs(tmp_path))
    assert card.line == "Done: 8 models, 90.0% right on the validation items."


def test_jobs_are_told_apart_by_command_and_run(tmp_path: Path) -> None:
    fake_job(tmp_path, [["train", "--run", str(tmp_path / "a")]], "t", "1")
    fake_job(tmp_path, [["cleanse", "--run", str(tmp_path / "a")]], "a", "2")
    fake_job(tmp_path, [["cleanse", "--run", str(tmp_path / "x" / ".." / "b")]], "b", "3")
    odd = read_job(fake_job(tmp_path, [["cleanse", "--run"]], "odd", "4"))
    assert [job.label for job in jobs_with(find_jobs(tmp_path), "cleanse", tmp_path / "b")] == ["b"]
    assert [job.label for job in jobs_with(find_jobs(tmp_path), "train")] == ["t"]
    assert run_of(odd) == Path()
