"""What a training is about to do is checked before anything is trained, and without torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.cli import main
from core.data import SOURCES, load_data
from core.pipeline.settings import IMAGE_MODELS, TEXT_MODELS, TrainSettings
from core.runs import Run
from tests.helpers.builders import names, run_python, train_digits


def check(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> dict[str, Any]:
    """What `train --check` says."""
    assert main(["train", "--check", "--run", str(folder), "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_check_says_what_the_run_will_have_and_makes_nothing(tmp_path: Path, small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--data", "digits", "--limit", "60", "--members", "2", "--groups", "16", "--seed", "3")
    told, made = check(capsys, tmp_path / "run", *options), Run(small_run)
    results = made.manifest["results"]
    assert names(tmp_path) == []
    assert (told["train_size"], told["validation_size"], told["members"]) == (results["train_size"], results["validation_size"], results["members"])
    assert [one["name"] for one in told["classes"]] == made.classes
    assert [one["train"] for one in told["classes"]] == made.train["label"].value_counts().sort_index().tolist()
    assert [one["validation"] for one in told["classes"]] == made.validation["label"].value_counts().sort_index().tolist()
    assert told["planted_labels"] == (made.train["label"] != made.train["true_label"]).sum() == 3
    assert (told["model"], told["kind"], told["epochs"], told["resumes"]) == ("small-vgg", "image", made.manifest["recipe"]["epochs"], False)


def test_a_check_says_whether_a_stopped_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("core.pipeline.train.write_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train_digits(tmp_path / "run", limit=20, members=1, groups=None, seed=0)
    before = names(tmp_path / "run.partial")
    same = ("--data", "digits", "--limit", "20", "--members", "1")
    assert check(capsys, tmp_path / "run", *same)["resumes"] is True
    assert main(["train", "--check", "--run", str(tmp_path / "run"), *same, "--seed", "1"]) == 2
    assert "was begun with other settings or data" in capsys.readouterr().err
    assert names(tmp_path / "run.partial") == before


BAD = {
    "a run that exists": (["--data", "digits"], "exists; choose another --run"),
    "a limit past the end": (["--data", "digits", "--limit", "100000"], "choose a number from 2 to the 1200 training items"),
    "no folder": (["--data", "sst2", "--path", "/nowhere"], "/nowhere"),
    "no path where one is needed": (["--data", "imdb-checks"], "--path names the folder"),
    "a model of another kind": (["--data", "reviews", "--model", "vgg19"], "choose one of heads"),
    "a model for larger images": (["--data", "digits", "--model", "vgg19"], "reads RGB images of 32 x 32 pixels"),
    "all labels wrong": (["--data", "digits", "--label-noise", "1"], "--label-noise"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_trained_is_one_line_and_code_2(case: str, tmp_path: Path, small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, expected = BAD[case]
    if case == "a run that exists":
        shutil.copytree(small_run, tmp_path / "run")
    before = names(tmp_path)
    capsys.readouterr()
    assert main(["train", "--check", "--run", str(tmp_path / "run"), *options]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1) and expected in printed.err
    assert names(tmp_path) == before


def test_a_check_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys; from core.cli import main; main(['train', '--check', '--data', 'reviews', '--run', sys.argv[1]]); print('torch' in sys.modules)"
    said = run_python(code, tmp_path / "run")
    assert said.endswith("False\n") and "negative 400 and 100, positive 400 and 100" in said


@pytest.mark.parametrize("name", SOURCES)
def test_the_table_of_sources_says_what_the_data_are(name: str) -> None:
    source = SOURCES[name]
    models = TEXT_MODELS if source.kind == "text" else IMAGE_MODELS
    assert TrainSettings(name).resolved(source.kind).model == models[0]
    assert not (source.packaged and source.hub)
    if source.packaged:
        assert load_data(name).kind == source.kind
