"""The command line from end to end, as a user calls it: JSON on stdout, progress on stderr, one line and exit code 2 for bad input."""

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.cli import COMMANDS, main
from core.commands.explain import entry_lines
from core.estimators.trust import NOISE, STRONG, WEAK
from core.flags import Flags
from core.pipeline.export import COLUMNS, safe_cell
from core.runs import Run

Result = tuple[int, str, str]


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> Result:
    """Run a command in this process: exit code, stdout, stderr."""
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = int(str(end.code))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The JSON object that a command prints."""
    code, out, err = call(capsys, *arguments, "--json")
    assert code == 0, err
    parsed: dict[str, Any] = json.loads(out)
    return parsed


def make_run(factory: pytest.TempPathFactory, data: str, limit: int) -> Path:
    """A small run with influence, made by the commands themselves."""
    folder = factory.mktemp("runs") / f"small-{data}"
    assert main(["train", "--data", data, "--limit", str(limit), "--members", "2", "--run", str(folder)]) == 0
    assert main(["influence", "--run", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small digits run."""
    return make_run(tmp_path_factory, "digits", 150)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small reviews run."""
    return make_run(tmp_path_factory, "reviews", 120)


def test_train_prints_what_it_promises_and_refuses_to_overwrite(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ("train", "--data", "digits", "--limit", "60", "--members", "1", "--groups", "0", "--seed", "3", "--run", folder)
    result = answer(capsys, *arguments)
    promised = {"train_size", "validation_size", "validation_accuracy", "validation_loss", "masked_loss", "flipped_loss"}
    assert promised | {"epochs", "seconds", "device", "plain_accuracy"} <= set(result)
    assert (result["train_size"], result["validation_size"], result["members"]) == (60, 597, 1)
    assert Run(folder).manifest["results"]["validation_loss"] == result["validation_loss"]
    code, out, err = call(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "exists" in err


def test_influence_counts_every_pair(capsys: pytest.CaptureFixture[str], digits: Path) -> None:
    result = answer(capsys, "influence", "--run", digits, "--targets", "errors")
    run = Run(digits)
    assert result["targets"] == len(run.errors) == len(run.influence.targets)
    assert result["train_size"] == 150
    everything = answer(capsys, "influence", "--run", digits)
    assert everything["targets"] == 597
    assert everything["pairs_per_second"] == pytest.approx(everything["pairs"] / everything["seconds"], rel=0.05)


def test_errors_lists_each_misclassified_item_with_its_proponents(capsys: pytest.CaptureFixture[str], reviews: Path) -> None:
    run, result = Run(reviews), answer(capsys, "errors", "--run", reviews, "--top", "3")
    assert sorted(entry["id"] for entry in result["errors"]) == sorted(run.validation.loc[run.errors, "id"])
    first = result["errors"][0]
    influences = [entry["influence"] for entry in first["proponents"]]
    assert influences == sorted(influences, reverse=True)
    assert influences[-1] > 0
    assert all(entry["influence"] < 0 for entry in first["opponents"])
    position = int(run.validation.index[run.validation["id"] == first["id"]][0])
    assert influences[0] == pytest.approx(run.influence.array("prediction_estimate")[run.influence.errors.index(position)].max())


def test_explaining_a_validation_text_gives_the_stored_influences(capsys: pytest.CaptureFixture[str], reviews: Path) -> None:
    run = Run(reviews)
    position = run.errors[0]
    item = run.item("validation", position)
    result = answer(capsys, "explain", "--run", reviews, "--text", item["text"], "--top", "4")
    assert result["predicted"] == run.classes[item["predicted"]]
    assert sum(result["probabilities"].values()) == pytest.approx(1)
    stored = run.influence.ranked(position, "prediction")
    places = stored.ends(4)[0]
    assert [entry["position"] for entry in result["proponents"]] == list(places)
    assert [entry["influence"] for entry in result["proponents"]] == pytest.approx(list(stored.values[places]), abs=1e-4)
    assert [entry["standard_error"] for entry in result["proponents"]] == pytest.approx(list(stored.errors[places]), abs=1e-4)
    assert all(entry["trust"] in (STRONG, WEAK, NOISE) for entry in result["proponents"])
    assert set(result["trust"]) == {STRONG, WEAK}


def test_each_line_of_an_explanation_says_how_far_to_trust_it() -> None:
    known = {"id": "t1", "label": "positive", "influence": 0.5, "standard_error": 0.1, "trust": STRONG, "text": "fine"}
    unknown = known | {"influence": -0.5, "standard_error": None, "trust": None}
    lines = entry_lines({"proponents": [known], "opponents": [unknown]}, "positive", "best")
    assert lines[1] == "  +0.5000 ± 0.1000 strong  t1 [positive]  fine"
    assert lines[3] == "  -0.5000 error not known  t1 [positive]  fine"


def test_a_label_turns_the_question_round(capsys: pytest.CaptureFixture[str], reviews: Path) -> None:
    text = "a warm and funny film"
    predicted = answer(capsys, "explain", "--run", reviews, "--text", text)["predicted"]
    other = next(name for name in Run(reviews).classes if name != predicted)
    result = answer(capsys, "explain", "--run", reviews, "--text", text, "--label", other)
    assert (result["meaning"], result["label"], result["predicted"]) == ("label", other, predicted)


def test_an_image_is_explained_with_thumbnails(capsys: pytest.CaptureFixture[str], digits: Path, tmp_path: Path) -> None:
    picture = tmp_path / "seven.png"
    strokes = np.full((80, 80), 255, np.uint8)
    strokes[10:18, 15:65] = 0
    strokes[10:70, 45:55] = 0
    Image.fromarray(strokes).save(picture)
    result = answer(capsys, "explain", "--run", digits, "--image", picture)
    assert result["proponents"]
    for entry in result["proponents"]:
        assert Image.open(entry["thumbnail"]).size == (8, 8)


def test_a_run_that_takes_no_thumbnails_is_one_line(capsys: pytest.CaptureFixture[str], digits: Path, tmp_path: Path) -> None:
    """A folder that cannot be made is as good as a read-only run."""
    copy = Path(shutil.copytree(digits, tmp_path / "copy", ignore=shutil.ignore_patterns("thumbnails")))
    (copy / "thumbnails").write_text("in the way")
    code, _, err = call(capsys, "errors", "--run", copy)
    assert (code, err.count("\n")) == (2, 1)
    assert "thumbnails" in err


def test_export_writes_the_flags_and_nothing_a_spreadsheet_would_run(capsys: pytest.CaptureFixture[str], reviews: Path, tmp_path: Path) -> None:
    run, out = Run(reviews), tmp_path / "flags.csv"
    error = run.influence.errors[0]
    item = int(run.influence.ranked(error, "prediction").ends(1)[0][0])
    Flags(reviews).put(item, "relabel", "positive", note='=HYPERLINK("http://example.org")')
    Flags(reviews).put((item + 1) % 120, "drop")
    assert answer(capsys, "export", "--run", reviews, "--out", out) == {"out": str(out), "flags": 2}
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert list(rows[0]) == ["text" if name == "content" else name for name in COLUMNS]
    row = next(row for row in rows if row["id"] == run.item("train", item)["id"])
    assert (row["action"], row["new_label"], row["note"][:2]) == ("relabel", "positive", "'=")
    assert float(row["self_influence"]) == pytest.approx(float(run.influence.self_influence[item]))
    assert run.item("validation", error)["id"] in row["errors"].split()
    assert [file.name for file in tmp_path.iterdir()] == ["flags.csv"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_formulas_become_text_and_numbers_stay_numbers(text: str) -> None:
    assert safe_cell(text) == f"'{text}"
    assert safe_cell(-1.5) == -1.5


def test_runs_lists_good_and_damaged_runs(capsys: pytest.CaptureFixture[str], digits: Path, tmp_path: Path) -> None:
    assert answer(capsys, "runs", "--folder", tmp_path)["runs"] == []
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("{}")
    assert "manifest" in answer(capsys, "runs", "--folder", tmp_path)["runs"][0]["error"]
    row = answer(capsys, "runs", "--folder", digits.parent)["runs"][0]
    assert (row["data"], row["members"], row["influence"]) == ("digits", 2, True)


BAD_CALLS = {
    "no such run": ("errors", "--run", "nowhere"),
    "unknown data": ("train", "--data", "mnist", "--run", "{new}"),
    "path for built-in data": ("train", "--data", "digits", "--path", ".", "--run", "{new}"),
    "sst2 folder missing": ("train", "--data", "sst2", "--path", "nowhere", "--run", "{new}"),
    "limit too small": ("train", "--data", "digits", "--limit", "1", "--run", "{new}"),
    "noise out of range": ("train", "--data", "digits", "--label-noise", "1.5", "--run", "{new}"),
    "no members": ("train", "--data", "digits", "--members", "0", "--run", "{new}"),
    "groups do not divide": ("train", "--data", "digits", "--groups", "7", "--run", "{new}"),
    "negative groups": ("train", "--data", "digits", "--groups", "-4", "--run", "{new}"),
    "unknown device": ("train", "--data", "digits", "--device", "abacus", "--run", "{new}"),
    "unknown encoder": ("train", "--data", "reviews", "--encoder", "{new}/none", "--run", "{new}"),
    "empty text": ("explain", "--run", "{reviews}", "--text", "  "),
    "huge text": ("explain", "--run", "{reviews}", "--text", "x" * 100_000),
    "unknown label": ("explain", "--run", "{reviews}", "--text", "fine", "--label", "mild"),
    "image for a text run": ("explain", "--run", "{reviews}", "--image", "{reviews}/manifest.json"),
    "text for an image run": ("explain", "--run", "{digits}", "--text", "fine"),
    "not an image": ("explain", "--run", "{digits}", "--image", "{digits}/manifest.json"),
    "no such image": ("explain", "--run", "{digits}", "--image", "nowhere.png"),
    "top is zero": ("errors", "--run", "{reviews}", "--top", "0"),
    "no command": (),
    "export into a missing folder": ("export", "--run", "{digits}", "--out", "{new}/none/flags.csv"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_input_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str], case: str, digits: Path, reviews: Path, tmp_path: Path) -> None:
    places = {"digits": digits, "reviews": reviews, "new": tmp_path / "new"}
    code, out, err = call(capsys, *(argument.format(**places) if "{" in argument else argument for argument in BAD_CALLS[case]))
    assert (code, out) == (2, ""), err
    lines = [line for line in err.replace("\r", "\n").split("\n") if line.strip() and "%|" not in line]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_influence_says_what_to_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    assert main(["train", "--data", "digits", "--limit", "40", "--members", "1", "--run", str(folder)]) == 0
    for arguments in (("errors", "--run", folder), ("explain", "--run", folder, "--text", "x")):
        code, _, err = call(capsys, *arguments)
        assert code == 2
        assert f"python -m core influence --run {folder}" in err


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        code, out, _ = call(capsys, name, "--help")
        assert code == 0
        assert out.startswith(f"usage: python -m core {name}")
        assert "--json" in out


def test_the_worker_answers_line_by_line_and_survives_nonsense(reviews: Path) -> None:
    requests = ['{"text": "a fine film", "top": 2}', "nonsense", '{"text": ""}', '{"image": "!!"}', '{"text": "dull", "label": "positive"}']
    command = [sys.executable, "-m", "core", "worker", "--run", str(reviews)]
    done = subprocess.run(command, input="\n".join(requests) + "\n", capture_output=True, text=True, timeout=120, check=True)
    ready, first, *refused, last = [json.loads(line) for line in done.stdout.splitlines()[: len(requests) + 1]]
    assert ready == {"ready": True}
    assert len(first["proponents"]) == 2
    assert all(set(reply) == {"error"} for reply in refused)
    assert last["label"] == "positive"


def limited(megabytes: float, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process that cannot write files beyond a size, as on a disk that fills up."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({int(megabytes * 2**20)},) * 2); from core.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_disk_that_fills_up_is_said_in_one_line_and_leaves_nothing(digits: Path, tmp_path: Path) -> None:
    trained = limited(0.5, "train", "--data", "digits", "--limit", "60", "--members", "2", "--run", tmp_path / "run")
    assert trained.returncode == 2
    assert trained.stderr.strip().splitlines()[-1].startswith("python -m core train:")
    assert "Traceback" not in trained.stderr
    assert list(tmp_path.iterdir()) == []
    before = {path: path.stat().st_mtime_ns for path in digits.rglob("*") if path.is_file()}
    computed = limited(0.5, "influence", "--run", digits)
    assert computed.returncode == 2
    assert "Traceback" not in computed.stderr
    assert {path: path.stat().st_mtime_ns for path in digits.rglob("*") if path.is_file()} == before


def listen() -> None:
    """A process that was started in the background ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(tmp_path: Path) -> None:
    arguments = ("train", "--data", "digits", "--limit", "200", "--members", "2", "--run", str(tmp_path / "run"))
    running = subprocess.Popen([sys.executable, "-m", "core", *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=listen)
    partial = tmp_path / "run.partial" / "masked.checkpoint"
    while not partial.exists() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "same command" in said.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()
    assert main([*arguments]) == 0
    assert Run(tmp_path / "run").manifest["results"]["epochs"] >= 1
