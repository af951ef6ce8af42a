"""One contract for all commands: help, one JSON object, bad input in one line; their promises."""

from __future__ import annotations

import csv
import io
import json
import shutil
from argparse import ArgumentParser
from pathlib import Path
from typing import cast

import pytest

from tests.helpers.calling import answer, call, lines_said, tree
from tests.helpers.fake_runs import FakeRun, remove_influence
from turnover.cli import COMMANDS, _CommandParser, build_parser, main
from turnover.data.images import png_bytes, png_pixels
from turnover.errors import counted
from turnover.explain.report import ERRORS, SIDE
from turnover.flags import Flags
from turnover.flags.export import COLUMNS, safe_cell
from turnover.runs.run import Run

Capture = pytest.CaptureFixture[str]

ASK = {
    "influence": "--run {}",
    "errors": "--run {}",
    "apply": "--run {} --out nowhere.csv",
    "groups": "--run {}",
    "prove": "--run {} --error v001",
    "label-errors": "--run {}",
    "flag": "--run {} --item t000 --drop",
    "explain": "--run {} --text fine",
    "report": "{}",
    "cleanse": "--run {} --score-only",
    "evaluate": "--run {} --measure agreement",
    "map": "--run {}",
    "export": "--run {} --out {{new}}",
    "import-flags": "--run {} --flags {{patch}}",
    "worker": "--run {}",
}
"""The shortest call of each command that opens a run."""

GOOD = {
    "demo": "--folder {demos}",
    "train": "--data digits --check --run {new}",
    "influence": "--run {real} --targets errors --most 3",
    "errors": "--run {text}",
    "groups": "--run {text}",
    "label-errors": "--run {text}",
    "flag": "--run {text} --item t000 --keep",
    "explain": "--run {real} --image {picture}",
    "report": "{text} --output {new}",
    "cleanse": "--run {real} --score-only",
    "export": "--run {text} --out {new}",
    "import-flags": "--run {text} --flags {patch}",
    "apply": "--flags {patch} --data {table} --out {new}",
    "runs": "--folder {demos}",
}
DEAR = {"register", "dashboard", "prove", "evaluate", "map", "paper", "bench", "worker", "job"}
"""Commands whose results have tests of their own, with what they need."""

BAD = [
    ("", "required"),
    ("train --data mnist --run {new}", "mnist"),
    ("train --run {new}", "name the data"),
    ("train --data digits --path . --run {new}", "path"),
    ("train --data sst2 --path nowhere --run {new}", "nowhere"),
    ("train --data digits --limit 1 --run {new}", "limit"),
    ("train --data digits --label-noise 1.5 --run {new}", "noise"),
    ("train --data digits --members 0 --run {new}", "members"),
    ("train --data digits --groups 7 --run {new}", "groups"),
    ("train --data digits --groups -4 --run {new}", "groups"),
    ("train --data digits --device abacus --run {new}", "abacus"),
    ("train --data reviews --encoder {new}/none --run {new}", "encoder"),
    ("train --data digits --run {text}", "exists"),
    ("influence --run {real} --memory much", "at least 1M"),
    ("influence --run {real} --most 0", "1 or more"),
    ("influence --run {real} --device abacus", "abacus"),
    ("errors --run {text} --top 0", "1 or more"),
    ("explain --run {real}", "--text --image"),
    ("explain --run {real} --text fine", "is an image run"),
    ("explain --run {real} --image nowhere.png", "no such file"),
    ("explain --run {real} --image {patch}", "patch.jsonl"),
    ("explain --run {real} --image {picture} --label mild", "unknown label 'mild'"),
    ("groups --run {text} --error nobody", "no validation item has the id 'nobody'"),
    ("groups --run {text} --error v001", "'v001' is not misclassified"),
    ("groups --run {text} --containing zeppelin", "no training text contains 'zeppelin'"),
    ("groups --run {text} --class mild", "unknown class 'mild'"),
    ("groups --run {text} --injected nothing", "no training item has the injected mark 'nothing'"),
    ("groups --run {text} --ids nowhere.txt", "no such file"),
    ("groups --run {unflagged} --flagged", "no training item is flagged"),
    ("groups --run {text} --top 0", "whole number"),
    ("prove --run {text} --error nobody", "no validation item has the id 'nobody'"),
    ("prove --run {text} --error v000 --items nobody", "no training item has the id 'nobody'"),
    ("prove --run {text} --error v000 --containing zeppelin", "no training text contains"),
    ("prove --run {text} --error v000 --top 0", "1 or more"),
    ("report {text} --output {new}/none/page.html", "cannot be written"),
    ("report {text} --output {demos}", "cannot be written"),
    ("report {text} --errors 0", "1 or more"),
    ("export --run {text} --out {new}/none/flags.csv", "cannot be written"),
    ("export --run {text} --out {new} --format pdf", "pdf"),
    ("import-flags --run {text} --flags nowhere.jsonl", "nowhere.jsonl"),
    ("apply --flags {patch} --data nowhere.csv --out {new}", "nowhere.csv"),
    ("apply --flags {patch} --data {table} --out {table}", "exists"),
    ("apply --data {table} --out {new}", "--run --flags"),
    ("apply --flags {patch} --out {new}", "with --data"),
    ("apply --run {unflagged} --out {new}", "no training item is flagged"),
    ("apply --run {text} --out {new}", "does not say which file"),
    ("bench sst2", "name their folder with --path"),
    ("bench million", "name its folder with --path"),
    ("evaluate --run {real} --measure luck", "luck"),
    ("job --folder nowhere", "nowhere"),
]


@pytest.fixture(scope="module")
def places(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs and files by the names that the tables call them."""
    folder = tmp_path_factory.mktemp("places")
    text, unflagged = (FakeRun(name, train=70).write(folder) for name in ("text", "unflagged"))
    real = Path(shutil.copytree(small_run, folder / "real"))
    for name in ("digits", "reviews"):
        (FakeRun(f"demo-{name}").write(folder / "demos") / "causes").mkdir()
    Flags(text).put(3, "drop")
    table, patch, picture = (folder / name for name in ("table.csv", "patch.jsonl", "one.png"))
    frame = Run(text).train
    frame.assign(label=[Run(text).classes[label] for label in frame["label"]]).to_csv(
        table, columns=["id", "text", "label"], index=False
    )
    assert main(["export", "--run", str(text), "--out", str(patch), "--format", "jsonl"]) == 0
    picture.write_bytes(png_bytes(255 - png_pixels(Run(real).item("validation", 0)["image"])))
    known = {"text": text, "unflagged": unflagged, "real": real, "demos": folder / "demos"}
    return known | {"table": table, "patch": patch, "picture": picture}


def parsers() -> dict[str, ArgumentParser]:
    """The parser of each command."""
    (commands,) = (one for one in build_parser()._actions if one.dest == "command")
    parsers = cast(dict[str, _CommandParser], commands.choices)
    for parser in parsers.values():
        parser.fill()
    return {**parsers}


# Every command


def test_every_command_explains_itself_and_each_of_its_options(capsys: Capture) -> None:
    assert set(parsers()) == set(COMMANDS)
    for name, parser in parsers().items():
        code, out, err = call(capsys, name, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"usage: turnover {name}")
        for action in parser._actions:
            assert action.help, (name, action.dest)
            assert all(option in out for option in action.option_strings), (name, action.dest)
        assert "--json" in out


def test_every_command_prints_one_json_object(
    capsys: Capture, places: dict[str, Path], tmp_path: Path
) -> None:
    """And, without `--json`, words."""
    assert set(GOOD) | DEAR == set(COMMANDS) and not set(GOOD) & DEAR
    for name, line in GOOD.items():
        told = [word.format(**places, new=tmp_path / name) for word in line.split()]
        assert answer(capsys, name, *told), name
    for name in ("demo", "errors", "groups", "runs", "import-flags"):
        code, out, _ = call(capsys, name, *(word.format(**places) for word in GOOD[name].split()))
        assert code == 0 and out.strip() and not out.startswith("{")


def check_refused(capsys: Capture, arguments: list[str], message: str, folder: Path) -> None:
    """One line on stderr, nothing on stdout, exit code 2, and no file written."""
    before = tree(folder)
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, ""), (arguments, err)
    (line,) = lines_said(err)
    assert line.startswith("turnover"), line
    assert message in line and "Traceback" not in err and "\n\n" not in err, line
    assert tree(folder) == before, arguments


@pytest.mark.parametrize(("line", "message"), BAD)
def test_bad_input_is_one_line_and_code_2(
    capsys: Capture, places: dict[str, Path], tmp_path: Path, line: str, message: str
) -> None:
    arguments = [word.format(**places, new=tmp_path / "new") for word in line.split()]
    check_refused(capsys, arguments, message, places["text"].parent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "spoiled", ["nowhere", "a file", "an empty folder", "a manifest of nothing"]
)
def test_every_command_that_opens_a_run_says_that_there_is_none(
    capsys: Capture, places: dict[str, Path], tmp_path: Path, spoiled: str
) -> None:
    folder = tmp_path / "spoiled"
    if spoiled == "a file":
        folder.write_text("in the way")
    elif spoiled != "nowhere":
        folder.mkdir()
    if spoiled == "a manifest of nothing":
        (folder / "manifest.json").write_text("{}")
    opening = {name for name, parser in parsers().items() if "run" in vars_of(parser)}
    assert opening - set(ASK) == {"train", "register"}  # these write one
    for name, line in ASK.items():
        told = [word.format(**places, new=tmp_path / "new") for word in line.format(folder).split()]
        check_refused(capsys, [name, *told], "spoiled", tmp_path)
    check_refused(capsys, ["errors", "--run", f"{folder}\nagain"], "spoiled again", tmp_path)


def vars_of(parser: ArgumentParser) -> set[str]:
    """The names of a command's options."""
    return {action.dest for action in parser._actions}


def test_torchrun_is_refused(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its processes would do all the work."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    check_refused(capsys, ["train", "--run", str(tmp_path / "run")], "--cluster", tmp_path)


def test_no_command_takes_an_option_that_it_does_not_know(capsys: Capture, tmp_path: Path) -> None:
    for name in COMMANDS:
        check_refused(capsys, [name, "--nonsense"], "--help)", tmp_path)


def test_a_run_without_influence_says_what_to_do(
    capsys: Capture, places: dict[str, Path], tmp_path: Path
) -> None:
    bare, real = FakeRun("bare", influence=False).write(tmp_path), tmp_path / "real"
    shutil.copytree(places["real"], real)
    remove_influence(real)
    for name in ("errors", "groups", "report", "export"):
        line = ASK[name].format(bare).format(new=tmp_path / "new")
        if name == "export":
            line += " --format html"
        check_refused(capsys, [name, *line.split()], f"turnover influence --run {bare}", tmp_path)
    for line in ("explain --text x", "worker"):
        asked = [*line.split(), "--run", str(real)]
        check_refused(capsys, asked, f"turnover influence --run {real}", tmp_path)


# What each promises


def test_train_prints_what_it_promises(capsys: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ("--limit", 60, "--members", 1, "--groups", 0, "--seed", 3)
    result = answer(capsys, "train", "--data", "digits", *options, "--run", folder)
    promised = {"validation_accuracy", "validation_loss", "masked_loss", "flipped_loss", "epochs"}
    assert promised | {"seconds", "device", "plain_accuracy"} <= set(result)
    assert (result["train_size"], result["validation_size"], result["members"]) == (60, 597, 1)
    assert Run(folder).manifest["results"]["validation_loss"] == result["validation_loss"]


def test_influence_counts_every_pair(capsys: Capture, run_copy: Path) -> None:
    assert len(Run(run_copy).influence.targets) == 597
    result = answer(capsys, "influence", "--run", run_copy, "--targets", "errors")
    run = Run(run_copy)
    assert result["targets"] == len(run.misclassified_positions) == len(run.influence.targets)
    assert (result["train_size"], result["members"]) == (60, 2)
    assert result["pairs"] >= 2 * 60 * len(run.misclassified_positions)
    speed = result["pairs"] / result["seconds"]
    assert result["pairs_per_second"] == pytest.approx(speed, rel=0.05)


def test_errors_lists_each_misclassified_item_with_its_proponents(
    capsys: Capture, places: dict[str, Path]
) -> None:
    run = Run(places["text"])
    result = answer(capsys, "errors", "--run", places["text"], "--top", 3)
    listed = [entry["id"] for entry in result["errors"]]
    assert sorted(listed) == sorted(run.validation.loc[run.misclassified_positions, "id"])
    first = result["errors"][0]
    influences = [entry["influence"] for entry in first["proponents"]]
    assert len(influences) == 3 and influences == sorted(influences, reverse=True)
    assert influences[-1] > 0 and all(entry["influence"] < 0 for entry in first["opponents"])
    position = int(run.validation.index[run.validation["id"] == first["id"]][0])
    stored = run.influence.array("prediction_estimate")[run.influence.misclassified.index(position)]
    assert influences[0] == pytest.approx(stored.max())


def test_a_run_that_takes_no_thumbnails_is_one_line(capsys: Capture, tmp_path: Path) -> None:
    """A folder that cannot be made is as good as a read-only run."""
    run = FakeRun(kind="image").write(tmp_path)
    (run / "thumbnails").write_text("in the way")
    check_refused(capsys, ["errors", "--run", str(run)], "thumbnails", tmp_path)


def test_export_writes_the_flags_and_nothing_a_spreadsheet_would_run(
    capsys: Capture, tmp_path: Path
) -> None:
    folder = FakeRun().write(tmp_path / "runs")
    run, out = Run(folder), tmp_path / "flags.csv"
    error = run.influence.misclassified[0]
    item = int(run.influence.ranked(error, "prediction").ends(1)[0][0])
    Flags(folder).put(item, "relabel", "positive", note='=HYPERLINK("http://example.org")')
    Flags(folder).put((item + 1) % 30, "drop")
    result = answer(capsys, "export", "--run", folder, "--out", out)
    assert result == {"out": str(out), "flags": 2}
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8-sig"))))
    assert list(rows[0]) == ["text" if name == "content" else name for name in COLUMNS]
    row = next(row for row in rows if row["id"] == run.item("train", item)["id"])
    assert (row["action"], row["new_label"], row["note"][:2]) == ("relabel", "positive", "'=")
    assert float(row["self_influence"]) == pytest.approx(float(run.influence.self_influence[item]))
    assert run.item("validation", error)["id"] in row["errors"].split()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["flags.csv", "runs"]


def test_formulas_become_text_and_numbers_stay_numbers() -> None:
    for text in ("=1+1", "+1", "-1", "@x", "\tx", "\rx"):
        assert safe_cell(text) == f"'{text}"
    assert safe_cell(-1.5) == -1.5


def test_runs_lists_good_and_damaged_runs(
    capsys: Capture, places: dict[str, Path], tmp_path: Path
) -> None:
    assert answer(capsys, "runs", "--folder", tmp_path)["runs"] == []
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("{}")
    assert "manifest" in answer(capsys, "runs", "--folder", tmp_path)["runs"][0]["error"]
    rows = answer(capsys, "runs", "--folder", places["real"].parent)["runs"]
    (row,) = (row for row in rows if row["run"] == str(places["real"]))
    assert (row["data"], row["members"], row["influence"]) == ("digits", 2, True)


def test_report_writes_beside_the_run_or_where_it_is_told(capsys: Capture, tmp_path: Path) -> None:
    run, page = FakeRun().write(tmp_path), tmp_path / "fake.html"
    made = answer(capsys, "report", run)
    counts = {"misclassified": 8, "explained": 8, "shown": 8}
    assert made == {"report": str(page), **counts, "bytes": page.stat().st_size}
    asked = ("report", run, "--output", tmp_path / "other.html", "--errors", 2, "--top", 1)
    assert "2 of 8 errors" in call(capsys, *asked)[1]
    assert (tmp_path / "other.html").read_text(encoding="utf-8").count("<article") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fake", "fake.html", "other.html"]
    arguments = build_parser().parse_args(["report", "run"])
    assert (arguments.errors, arguments.top) == (ERRORS, SIDE)


def test_a_patch_goes_to_a_colleague_and_to_the_data(
    capsys: Capture, places: dict[str, Path], tmp_path: Path
) -> None:
    lines = places["patch"].read_text(encoding="utf-8").splitlines()
    assert [one["id"] for one in map(json.loads, lines) if "id" in one] == ["t003"]
    out = tmp_path / "out.csv"
    applied = ("--flags", places["patch"], "--data", places["table"], "--out", out)
    assert answer(capsys, "apply", *applied)["dropped"] == 1
    assert "t003" not in out.read_text(encoding="utf-8")


def test_one_is_singular_and_thousands_are_parted() -> None:
    said = {0: "0 members", 1: "1 member", 2: "2 members", 12_345: "12,345 members"}
    assert {count: counted(count, "member") for count in said} == said


def test_a_demo_run_of_an_earlier_version_is_completed(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without being trained again: it has no causes yet."""
    monkeypatch.setattr("turnover.workflows.demo.build_demo", lambda *_: None)
    for name in ("digits", "reviews"):
        FakeRun(f"demo-{name}").write(tmp_path)
    (tmp_path / "demo-digits" / "causes").mkdir()
    assert answer(capsys, "demo", "--folder", tmp_path)["built"] == ["reviews"]
