"""One's own data from end to end: from the check to flags that are applied to the files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.builders import names, run_python
from tests.helpers.fake_runs import png
from tests.helpers.own_modules import command
from tests.helpers.token_builders import encoder_in
from turnover.cli import main
from turnover.flags import Flags
from turnover.runs.run import Run

WORDS = {
    "food": "soup bread cake rice",
    "money": "bank tax loan fund",
    "sport": "goal match team race",
}
KINDS = ("csv", "jsonl", "parquet", "folder", "paths")


def data_in(folder: Path, kind: str) -> Path:
    """30 items of three classes, texts or images, in a file or a folder; two are the same item."""
    rng = np.random.default_rng(0)
    classes = [name for name in WORDS for _ in range(10)]
    texts = [
        " ".join(rng.choice(WORDS[name].split(), 5)) + f" {row}" for row, name in enumerate(classes)
    ]
    frame = pd.DataFrame({"review": texts, "sentiment": classes})
    if kind == "csv":
        frame.to_csv(folder / "own.csv", index=False)
    elif kind == "jsonl":
        frame.to_json(folder / "own.jsonl", orient="records", lines=True)
    elif kind == "parquet":
        frame.assign(id=[f"r{row}" for row in range(30)]).to_parquet(folder / "own.parquet")
    else:
        for row, name in enumerate(classes):
            pixels = rng.integers(0, 100, (12, 10, 3), np.uint8)
            pixels[..., list(WORDS).index(name)] += 120
            (folder / "own" / name).mkdir(parents=True, exist_ok=True)
            (folder / "own" / name / f"{row}.png").write_bytes(png(pixels))
        if kind == "folder":
            return folder / "own"
        paths = [f"own/{name}/{row}.png" for row, name in enumerate(classes)]
        pd.DataFrame({"file_name": paths, "sentiment": classes}).to_csv(
            folder / "own.csv", index=False
        )
    return folder / f"own.{'csv' if kind == 'paths' else kind}"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny text encoder."""
    return encoder_in(tmp_path_factory.mktemp("encoder") / "encoder")


@pytest.mark.parametrize("kind", KINDS)
def test_own_data_go_all_the_way(
    kind: str, tmp_path: Path, encoder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = data_in(tmp_path, kind), tmp_path / "run"
    asked = ["train", "--train", str(data), "--run", str(folder), "--members", "2", "--epochs", "3"]
    asked += [] if kind in ("folder", "paths") else ["--encoder", encoder]
    checked = command(capsys, *asked, "--check")
    made = command(capsys, *asked)
    run = Run(folder)
    assert run.classes == ["food", "money", "sport"] and run.kind == checked["kind"] == (
        "image" if kind in ("folder", "paths") else "text"
    )
    assert (
        (made["train_size"], made["validation_size"])
        == (checked["train_size"], checked["validation_size"])
        == (24, 6)
    )
    assert run.manifest["data_report"] == checked[
        "data_report"
    ] and "no validation items were named" in " ".join(checked["data_report"])
    command(capsys, "influence", "--run", str(folder))
    question = (
        ["--image", str(next(tmp_path.rglob("*.png")))]
        if run.kind == "image"
        else ["--text", "a goal of the team"]
    )
    explained = command(capsys, "explain", "--run", str(folder), *question)
    assert explained["predicted"] in WORDS and explained["proponents"]
    assert command(capsys, "errors", "--run", str(folder))["run"] == str(folder)
    command(capsys, "report", str(folder), "--out", str(tmp_path / "report.html"))
    assert "food" in (tmp_path / "report.html").read_text(encoding="utf-8")
    cleansed = command(
        capsys, "cleanse", "--run", str(folder), "--fraction", "0.1", "--repeats", "1"
    )
    assert cleansed["removed"] == [2] and {*cleansed["removed_ids"]} <= {*run.train["id"]}
    apply_flags(run, data, tmp_path, capsys)


def apply_flags(run: Run, data: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Drop an item and relabel another in what was trained on, and see that, and nothing else."""
    flags = Flags(run.folder, by="ann")
    first, second = run.item("train", 2), run.item("train", 9)
    new = next(name for name in run.classes if name != run.classes[int(second["label"])])
    flags.put(2, "drop")
    flags.put(9, "relabel", new)
    before, out = content_of(data), folder / f"clean{data.suffix}"
    done = command(capsys, "apply", "--run", str(run.folder), "--out", str(out))
    assert content_of(data) == before and not done["changed"]
    assert (done["dropped"], done["relabelled"], done["refused"]) == (1, 1, [])
    content = "image" if run.kind == "image" else "text"
    checked = command(
        capsys, "train", "--train", str(out), "--run", str(folder / "again"), "--check"
    )
    assert checked["train_size"] + checked["validation_size"] == len(run.items) - 1
    names_of = {one["name"]: one["train"] + one["validation"] for one in checked["classes"]}
    counts = run.items["label"].value_counts()
    old = [run.classes[int(item["label"])] for item in (first, second)]
    expected = {
        name: int(counts[number]) - old.count(name) + (name == new)
        for number, name in enumerate(run.classes)
    }
    assert names_of == expected and content in run.items


def content_of(data: Path) -> dict[Path, bytes]:
    """The files of a data set."""
    files = [data] if data.is_file() else sorted(filter(Path.is_file, data.rglob("*")))
    return {file: file.read_bytes() for file in files}


def test_a_test_file_is_measured_once_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = data_in(tmp_path, "folder")
    shutil.copytree(data, tmp_path / "test")
    shutil.rmtree(tmp_path / "test" / "food")
    asked = [
        "train",
        "--train",
        str(data),
        "--test",
        str(tmp_path / "test"),
        "--run",
        str(tmp_path / "run"),
        "--members",
        "1",
        "--epochs",
        "2",
    ]
    made = command(capsys, *asked)
    run = Run(tmp_path / "run")
    assert (
        made["test_size"] == 20
        and run.manifest["results"]["test_accuracy"] == made["test_accuracy"]
    )
    known = pd.concat([run.train, run.validation]).set_index("id")
    right = [
        bool(known.loc[name, "predicted"] == known.loc[name, "label"])
        for name in known.index
        if not name.startswith("food")
    ]
    assert made["test_accuracy"] == pytest.approx(np.mean(right)) and {*run.items["split"]} == {
        "train",
        "validation",
    }
    assert main([*asked[:-1], "2"]) == 2  # the run exists


def test_a_stopped_training_goes_on_with_the_same_files_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_in(tmp_path, "folder")
    asked = [
        "train",
        "--train",
        str(data),
        "--run",
        str(tmp_path / "run"),
        "--members",
        "1",
        "--epochs",
        "2",
    ]
    with monkeypatch.context() as stopped:
        stopped.setattr(
            "turnover.workflows.train.write_run",
            lambda *_: (_ for _ in ()).throw(KeyboardInterrupt),
        )
        assert main(asked) == 130
    assert command(capsys, *asked, "--check")["resumes"] is True
    (data / "food" / "0.png").unlink()
    assert (
        main([*asked, "--check"]) == 2
        and "was begun with other settings or data" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--members", "2"], "name the data: --train FILE for your own, or --data NAME"),
        (
            ["--data", "digits", "--train", "FILE"],
            "--data digits is a data set with files of its own form; leave --train",
        ),
        (["--data", "hub:a", "--train", "FILE"], "name files; for the hub, name splits"),
        (
            ["--train", "FILE", "--path", "x"],
            "--path is for data sets with files of their own form",
        ),
        (
            ["--train", "FILE", "--model", "vgg19"],
            "choose one of heads, adapters, checkpoint, masked-encoder",
        ),
        (["--data", "files"], "name the file or folder with the training items with --train"),
        (["--train", "/nowhere/<b>.csv"], "/nowhere/<b>.csv: no such file; check the path"),
    ],
)
def test_bad_options_are_one_line_and_code_2(
    options: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = data_in(tmp_path, "csv")
    before = names(tmp_path)
    assert (
        main(
            [
                "train",
                "--check",
                "--run",
                str(tmp_path / "run"),
                *(str(data) if part == "FILE" else part for part in options),
            ]
        )
        == 2
    )
    printed = capsys.readouterr()
    assert (
        (printed.out, printed.err.count("\n")) == ("", 1)
        and reason in printed.err
        and names(tmp_path) == before
    )


def test_vgg19_wants_its_size_and_gets_it_by_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "train",
        "--check",
        "--run",
        str(tmp_path / "run"),
        "--train",
        str(data_in(tmp_path, "folder")),
        "--model",
        "vgg19",
    ]
    assert main(asked) == 2 and "choose small-vgg" in capsys.readouterr().err
    assert command(capsys, *asked, "--size", "32")["model"] == "vgg19"


def test_a_check_of_own_files_needs_no_torch_and_no_datasets(tmp_path: Path) -> None:
    code = """
import sys
from turnover.cli import main
main(["train", "--check", "--train", sys.argv[1], "--run", sys.argv[2]])
print(sorted({"torch", "datasets", "transformers"} & {*sys.modules}))
"""
    assert run_python(code, data_in(tmp_path, "csv"), tmp_path / "run").endswith("[]\n")
