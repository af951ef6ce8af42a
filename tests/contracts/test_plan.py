"""What a training is about to do is checked before anything is trained, and without torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import turnover.workflows.train as train_pipeline
from tests.helpers.builders import failing_after, names, run_python, train_digits
from tests.helpers.fake_runs import FakeRun
from turnover.cli import main
from turnover.data.sources import SOURCES, load_data
from turnover.models.registry import TrainSettings, families
from turnover.runs.run import Run

SMALL = ("--data", "digits", "--limit", "60", "--members", "2", "--groups", "16", "--seed", "3")
SAME = ("--data", "digits", "--limit", "20", "--members", "1")


def check(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> dict[str, Any]:
    """What `train --check` says."""
    capsys.readouterr()
    assert main(["train", "--check", "--run", str(folder), "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_check_says_what_the_run_will_have_and_makes_nothing(
    tmp_path: Path, small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, made = check(capsys, tmp_path / "run", *SMALL), Run(small_run)
    results, epochs = made.manifest["results"], made.manifest["recipe"]["epochs"]
    assert names(tmp_path) == []
    for name in ("train_size", "validation_size", "members"):
        assert told[name] == results[name]
    assert [one["name"] for one in told["classes"]] == made.classes
    for split in ("train", "validation"):
        counts = made.split(split)["label"].value_counts().sort_index().tolist()
        assert [one[split] for one in told["classes"]] == counts
    injected = (made.train["label"] != made.train["true_label"]).sum()
    assert told["injected_labels"] == injected == 3
    kind = told["model"], told["kind"], told["epochs"], told["resumes"]
    assert kind == ("small-vgg", "image", epochs, False)


def test_a_check_says_whether_a_stopped_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopping = failing_after(1, print, KeyboardInterrupt())
    monkeypatch.setattr(train_pipeline, "write_run", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_digits(tmp_path / "run", limit=20, members=1, groups=None, seed=0)
    before = names(tmp_path / "run.partial")
    assert check(capsys, tmp_path / "run", *SAME)["resumes"] is True
    for other in (("--seed", "1"), ("--masks", "4")):
        words = ["train", "--check", "--run", str(tmp_path / "run"), *SAME, *other]
        assert main(words) == 2
        assert "was begun with other settings or data" in capsys.readouterr().err
    assert names(tmp_path / "run.partial") == before


BAD = {
    "--data digits --limit 100000": "choose a number from 2 to the 1200 training items",
    "--data sst2 --path /nowhere": "/nowhere",
    "--data imdb-checks": "--path names the folder",
    "--data reviews --model vgg19": "choose one of heads",
    "--data digits --model vgg19": "reads RGB images of 32 x 32 pixels",
    "--data digits --label-noise 1": "--label-noise",
    "--data digits": "exists; choose another --run",
}


def test_what_cannot_be_trained_is_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last one into a run that exists."""
    for options, expected in BAD.items():
        if options == "--data digits":
            shutil.move(FakeRun().write(tmp_path), tmp_path / "run")
        before = names(tmp_path)
        capsys.readouterr()
        code = main(["train", "--check", "--run", str(tmp_path / "run"), *options.split()])
        printed = capsys.readouterr()
        assert (code, printed.out, printed.err.count("\n")) == (2, "", 1)
        assert expected in printed.err and names(tmp_path) == before


def test_a_check_needs_no_torch(tmp_path: Path) -> None:
    code = """
import sys
from turnover.cli import main
main(['train', '--check', '--data', 'reviews', '--run', sys.argv[1]])
print('torch' in sys.modules)"""
    said = run_python(code, tmp_path / "run")
    assert said.endswith("False\n")
    assert "negative 400 and 100, positive 400 and 100" in said


@pytest.mark.parametrize("name", SOURCES)
def test_the_table_of_sources_says_what_the_data_are(name: str) -> None:
    source = SOURCES[name]
    made = TrainSettings(name).resolved(source.kind)
    assert made.model == families(source.kind)[0].name
    assert (made.members, made.label_noise) == (source.members, source.label_noise)
    assert made.recipe == source.recipe
    assert not (source.packaged and source.hub)
    if source.packaged:
        assert load_data(name).kind == source.kind
