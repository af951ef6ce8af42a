"""Yahoo Answers: the original files, the hub, and files that cannot be used."""

from __future__ import annotations

import csv
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import TurnoverError
from core.data import load_data
from core.data.tables import MAX_CHARACTERS
from core.data.yahoo import CLASSES

TRAIN = """"5","why doesn't an ""optical"" mouse, or so, work?","Or even on some surfaces?","It uses an LED.\\nAnd a camera."
"6","What is the best road motorcycle?","","I hear that\\n\\nthe Yamaha is."
"10","Vote?","  ",""
"1","","","Only an answer"
"""
TEST = """"2","What is heat?","","Motion"
"2","Ωμέγα?","","so"
"""


def yahoo(folder: Path, train: str | bytes = TRAIN, test: str | bytes = TEST, classes: str | None = None) -> Path:
    for name, content in (("train.csv", train), ("test.csv", test), ("classes.txt", classes)):
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_the_original_files_are_read(tmp_path: Path) -> None:
    """Quotes doubled, line breaks written as two characters, missing parts left out, classes counted from 1."""
    data = load_data("yahoo", yahoo(tmp_path))
    assert data.train.texts == [
        'why doesn\'t an "optical" mouse, or so, work? Or even on some surfaces? It uses an LED. And a camera.',
        "What is the best road motorcycle? I hear that  the Yamaha is.",
        "Vote?",
        "Only an answer",
    ]
    assert (data.train.labels.tolist(), data.validation.labels.tolist()) == ([4, 5, 9, 0], [1, 1])
    assert data.validation.texts == ["What is heat? Motion", "Ωμέγα? so"]
    assert (data.train.ids[0], data.validation.ids[-1]) == ("train-0", "test-1")
    assert (data.name, data.kind, data.classes) == ("yahoo", "text", CLASSES)
    assert data.source == f"train.csv and test.csv in {tmp_path}"
    assert data.train.labels.dtype == np.int64


PART = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\\0"), max_size=30)


@given(rows=st.lists(st.tuples(st.integers(1, 10), PART.filter(str.strip), PART, PART), min_size=1, max_size=5))
def test_any_text_comes_back_as_it_was_written(rows: list[tuple[int, str, str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = yahoo(tmp_path_factory.mktemp("yahoo"))
    with (folder / "test.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    validation = load_data("yahoo", folder).validation
    assert validation.texts == [" ".join(part.strip() for part in parts if part.strip()) for _, *parts in rows]
    assert validation.labels.tolist() == [label - 1 for label, *_ in rows]


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + TRAIN.replace("\n", "\r\n").encode() + b"\r\n\r\n"
    assert load_data("yahoo", yahoo(tmp_path, content)).train.labels.tolist() == [4, 5, 9, 0]


def test_classes_may_be_named(tmp_path: Path) -> None:
    names = [f"topic {number}" for number in range(10)]
    assert load_data("yahoo", yahoo(tmp_path, classes="\n".join(names) + "\n\n")).classes == tuple(names)


def test_a_text_longer_than_any_encoder_reads_is_cut(tmp_path: Path) -> None:
    data = load_data("yahoo", yahoo(tmp_path, TRAIN + f'"3","Long?","","{"a" * 30_000}"\n'))
    assert data.train.texts and data.train.texts[-1] == "Long? " + "a" * (MAX_CHARACTERS - 6)


def test_many_rows_are_counted_on(tmp_path: Path) -> None:
    rows = "".join(f'"{number % 10 + 1}","title {number}","","answer"\n' for number in range(2500))
    data = load_data("yahoo", yahoo(tmp_path, rows))
    assert (data.train.ids[-1], data.train.texts and data.train.texts[-1]) == ("train-2499", "title 2499 answer")
    with pytest.raises(TurnoverError, match=r"train\.csv, row 2501: the class '11'"):
        load_data("yahoo", yahoo(tmp_path, rows + '"11","t","","a"\n'))


BROKEN = {
    "class 0": ('"0","a","b","c"\n', r"train\.csv, row 5: the class '0' is not one of 1 to 10; correct it \(the file has no header\)"),
    "no number": ('"Health","a","b","c"\n', r"train\.csv, row 5: the class 'Health' is not one of 1 to 10"),
    "too few fields": ('"1","a","b"\n', r"train\.csv, row 5: 3 fields instead of class, title, question and answer; check quotes and commas"),
    "too many fields": ('"1",a, b,c,d\n', r"train\.csv, row 5: 5 fields"),
    "no text": ('"1",""," ","\\n"\n', r"train\.csv, row 5: title, question and answer are all empty; write one or remove the row"),
    "open quote": ('"1","a","b","c\n"1","a","b","c"\n', r"train\.csv, row 5: not readable \(.*\); check quotes and commas"),
    "open quote at the end": ('"1","a","b","c\n', r"train\.csv, row 5: not readable"),
    "quotes not doubled": ('"1","a "b" c","",""\n', r"train\.csv, row 5: not readable"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_row_that_cannot_be_used_is_refused_with_place_and_remedy(name: str, tmp_path: Path) -> None:
    rows, reason = BROKEN[name]
    with pytest.raises(TurnoverError, match=reason):
        load_data("yahoo", yahoo(tmp_path, TRAIN + rows))


def test_a_header_is_a_row_of_no_class(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=r"train\.csv, row 1: the class 'topic' is not one of 1 to 10; correct it \(the file has no header\)"):
        load_data("yahoo", yahoo(tmp_path, "topic,title,question,answer\n" + TRAIN))


def test_the_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=r"train\.csv, line 5: not UTF-8 text \(byte 0xe9\); save the file as UTF-8"):
        load_data("yahoo", yahoo(tmp_path, TRAIN.encode() + b'"1","caf\xe9","",""\n'))


@pytest.mark.parametrize("missing", ["train.csv", "test.csv"])
def test_files_that_are_missing_or_empty_are_named(missing: str, tmp_path: Path) -> None:
    yahoo(tmp_path)
    (tmp_path / missing).write_text("")
    with pytest.raises(TurnoverError, match=f"the {'training' if missing == 'train.csv' else 'validation'} split is empty; add rows"):
        load_data("yahoo", tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(TurnoverError, match=f"no {missing} is there; put it into the folder"):
        load_data("yahoo", tmp_path)
    with pytest.raises(TurnoverError, match=r"nowhere: no such folder; --path names the folder with train\.csv and test\.csv"):
        load_data("yahoo", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        ("a\nb\n", r"classes\.txt: 2 class names instead of 10; write one a line"),
        ("a\nb\n\na\n" + "\n".join("cdefghi"), r"classes\.txt, line 4: the class name 'a' occurs twice; make names unique"),
    ],
)
def test_class_names_are_checked(classes: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(TurnoverError, match=reason):
        load_data("yahoo", yahoo(tmp_path, classes=classes))


# The hub


def hub_rows(topics: list[int], answers: list[str | None]) -> datasets.Dataset:
    blank = [""] * len(topics)
    return datasets.Dataset.from_dict({"id": topics, "topic": topics, "question_title": blank, "question_content": blank, "best_answer": answers})


def test_the_hub_s_rows_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 2300
    many = hub_rows([row % 10 for row in range(count)], [f"answer\\n{row}" for row in range(count)])
    splits = datasets.DatasetDict({"train": many, "test": hub_rows([9], ["so"])})
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"community-datasets/yahoo_answers_topics": splits}[name])
    data = load_data("yahoo")
    assert data.train.texts == [f"answer {row}" for row in range(count)]
    assert data.train.labels.tolist() == [row % 10 for row in range(count)]
    assert (data.validation.texts, data.validation.labels.tolist(), data.validation.ids) == (["so"], [9], ["test-0"])
    assert (data.classes, data.source) == (CLASSES, "hub data set community-datasets/yahoo_answers_topics")


@pytest.mark.parametrize(("topics", "answers", "reason"), [([1, 10], ["a", "b"], "row 2: the topic 10 is not one of 0 to 9"), ([1], [None], "row 1: title")])
def test_the_hub_s_rows_are_checked(topics: list[int], answers: list[str | None], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = datasets.DatasetDict({name: hub_rows(topics, answers) for name in ("train", "test")})
    monkeypatch.setattr(datasets, "load_dataset", lambda _: splits)
    with pytest.raises(TurnoverError, match=f"^community-datasets/yahoo_answers_topics, split train, {reason}"):
        load_data("yahoo")
