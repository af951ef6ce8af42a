"""SST-2: from a folder and from the hub."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from core import TurnoverError
from core.data import load_data
from core.data.sst2 import load_sst2, load_sst2_phrases

GOOD = "text,label\nsome,1\nother,0\n"


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_bytes(content.encode())
    return path


def sst2_folder(folder: Path, *names: str) -> Path:
    """A folder whose files each say in their texts which file they are."""
    for name in names:
        column, mark = ("sentence", "\t") if name.endswith(".tsv") else ("text", ",")
        write(folder, name, f"{column}{mark}label\nfrom {name}{mark}1\nmore of {name}{mark}0\n")
    return folder


@pytest.mark.parametrize(
    ("there", "train", "development"),
    [
        (("train.csv", "train.tsv", "train_sentences.csv", "dev.csv", "dev.tsv", "dev_shared.csv"), "train.csv", "dev.csv"),
        (("train.tsv", "train_sentences.csv", "dev.tsv", "dev_shared.csv"), "train.tsv", "dev.tsv"),
        (("train_sentences.csv", "train_phrases.csv", "dev_shared.csv"), "train_sentences.csv", "dev_shared.csv"),
        (("train_sentences.csv", "train.csv", "dev_shared.csv", "dev.tsv"), "train.csv", "dev.tsv"),
    ],
)
def test_sst2_reads_the_first_file_of_each_kind_and_says_which(there: tuple[str, ...], train: str, development: str, tmp_path: Path) -> None:
    data = load_sst2(sst2_folder(tmp_path, *there))
    assert data.train.texts == [f"from {train}", f"more of {train}"]
    assert data.validation.texts == [f"from {development}", f"more of {development}"]
    assert data.source == f"{train} and {development} in {tmp_path}"
    assert data.train.labels.tolist() == [1, 0]
    assert (data.kind, data.classes) == ("text", ("negative", "positive"))


@pytest.mark.parametrize(
    ("there", "wanted"), [(("dev.csv",), "train.csv, train.tsv, train_sentences.csv"), (("train.csv",), "dev.csv, dev.tsv, dev_shared.csv")]
)
def test_sst2_names_the_files_it_looked_for(there: tuple[str, ...], wanted: str, tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=f"none of {wanted} is there; put one of them into the folder"):
        load_sst2(sst2_folder(tmp_path, *there))


def test_sst2_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=r"nowhere: no such folder; --path names"):
        load_sst2(tmp_path / "nowhere")
    with pytest.raises(TurnoverError, match="no such folder"):
        load_sst2(write(tmp_path, "train.csv", GOOD))


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ("text,label\nsome,1\nother,1\n", "all 2 training items have the label 'positive'; a classifier needs two classes"),
        ("text,label\nsome,1\nother,positive\n", r"train\.csv, row 2, column label: the label 'positive' is not one of 0, 1"),
        ("text\nsome\n", r"train\.csv: no column 'label'"),
        ("review,label\nsome,1\n", r"train\.csv: no column 'sentence'"),
        ("text,label\n,1\n", r"train\.csv, row 1, column text: the text is empty"),
        ("text,label\n", r"train\.csv: a header but no rows"),
    ],
)
def test_sst2_files_are_checked(train: str, reason: str, tmp_path: Path) -> None:
    write(tmp_path, "dev.csv", GOOD)
    write(tmp_path, "train.csv", train)
    with pytest.raises(TurnoverError, match=reason):
        load_sst2(tmp_path)


def test_sst2_from_the_hub_is_its_training_and_validation_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"sentence": ["fine", "poor"], "label": [1, 0], "idx": [0, 1]}
    splits = datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name in ("train", "validation", "test")})
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"stanfordnlp/sst2": splits}[name])
    data = load_data("sst2")
    assert (data.train.texts, data.train.labels.tolist()) == (["fine", "poor"], [1, 0])
    assert (data.train.ids, data.validation.ids) == (["train-0", "train-1"], ["validation-0", "validation-1"])
    assert data.source == "hub data set stanfordnlp/sst2"


def test_phrases_are_another_training_set_of_the_same_folder(tmp_path: Path) -> None:
    folder = sst2_folder(tmp_path, "train_sentences.csv", "train_phrases.csv", "dev_shared.csv")
    assert load_data("sst2", folder).train.texts == ["from train_sentences.csv", "more of train_sentences.csv"]
    phrases = load_data("sst2-phrases", folder)
    assert phrases.train.texts == ["from train_phrases.csv", "more of train_phrases.csv"]
    assert phrases.validation.texts == load_data("sst2", folder).validation.texts
    (folder / "train_phrases.csv").unlink()
    with pytest.raises(TurnoverError, match=r"none of train_phrases\.csv, train\.tsv is there"):
        load_sst2_phrases(folder)
