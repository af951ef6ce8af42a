"""Scores of other engines and predictions: every form of file gives the same matrix, bad ones are
one line, and runs are made of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.helpers.calling import answer, call
from turnover import Run, TurnoverError
from turnover.data.scores import HELPS, HURTS, read_predictions, read_scores
from turnover.explain.facts import missing_words, run_facts
from turnover.workflows.cleansing import halves

TARGETS, ITEMS = ["v0", "v1"], ["a", "b", "c"]
SCORES = np.array([[1, -2, 0], [0, 0.5, 3]], np.float32)


def triples(**changes: object) -> pd.DataFrame:
    """The scores that are not 0, one a row."""
    rows, columns = np.nonzero(SCORES)
    table = pd.DataFrame(
        {
            "target": [TARGETS[row] for row in rows],
            "item": [ITEMS[column] for column in columns],
            "score": SCORES[rows, columns],
        }
    )
    for column, value in changes.items():
        table[column] = table[column].astype(object)
        table.loc[1, column] = value
    return table


FORMS: dict[str, Callable[[Path], object]] = {
    "scores.npy": lambda file: np.save(file, SCORES),
    "named.npz": lambda file: np.savez(file, scores=SCORES, other=np.ones(3)),
    "only.npz": lambda file: np.savez(file, values=SCORES.astype(np.float64)),
    "scores.safetensors": lambda file: save_file({"scores": SCORES}, file),
    "matrix.parquet": lambda file: pd.DataFrame(SCORES, columns=[*"xyz"]).to_parquet(file),
    "top.parquet": lambda file: triples().to_parquet(file),
    "top.csv": lambda file: triples().to_csv(file, index=False),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_scores(name: str, tmp_path: Path) -> None:
    FORMS[name](tmp_path / name)
    helps = read_scores(tmp_path / name, TARGETS, ITEMS, HELPS)
    assert helps.dtype == np.float32 and np.array_equal(helps, SCORES)
    assert np.array_equal(read_scores(tmp_path / name, TARGETS, ITEMS, HURTS), -SCORES)


SPOILED = np.where(SCORES == 3, np.nan, SCORES)
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "none.npy": (lambda file: None, "no such file"),
    "scores.pt": (lambda file: file.write_bytes(b"x"), "scores are read from .npy"),
    "broken.npy": (lambda file: file.write_bytes(b"x"), "no numbers that can be read"),
    "broken.npz": (lambda file: file.write_bytes(b"PK"), "no numbers that can be read"),
    "broken.safetensors": (lambda file: file.write_bytes(b"x" * 99), "no numbers that can be read"),
    "broken.parquet": (lambda file: file.write_bytes(b"x"), "no numbers that can be read"),
    "objects.npy": (
        lambda file: np.save(file, np.array([{}]), allow_pickle=True),
        "no numbers that can be read",
    ),
    "words.npy": (lambda file: np.save(file, np.array([["a"]])), "no array 'scores' of numbers"),
    "two.npz": (lambda file: np.savez(file, a=SCORES, b=SCORES), "it holds a, b"),
    "turned.npy": (lambda file: np.save(file, SCORES.T), "2 validation items and 3 training"),
    "nan.npy": (lambda file: np.save(file, SPOILED), "row 2, column 3: nan is not a finite"),
    "stranger.csv": (
        lambda file: triples(item="z").to_csv(file, index=False),
        "no training item 'z'",
    ),
    "target.csv": (
        lambda file: triples(target="z").to_csv(file, index=False),
        "no validation item 'z'",
    ),
    "words.csv": (lambda file: triples(score="much").to_csv(file, index=False), "'much' is not a"),
    "missing.csv": (
        lambda file: triples().drop(columns="score").to_csv(file, index=False),
        "score",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_one_line_with_its_place(name: str, tmp_path: Path) -> None:
    write, message = BAD[name]
    write(tmp_path / name)
    with pytest.raises(TurnoverError, match=message) as caught:
        read_scores(tmp_path / name, TARGETS, ITEMS, HELPS)
    assert name in str(caught.value) and "\n" not in str(caught.value)


# Predictions

CLASSES = ["cat", "dog"]
CHANCES = np.array([[0.25, 0.75], [1, 0]], np.float32)


def predictions(**changes: object) -> pd.DataFrame:
    """One row a target, in another order than the run's."""
    columns = {name: CHANCES[:, number] for number, name in enumerate(CLASSES)}
    return pd.DataFrame({"id": TARGETS, **columns} | changes)[::-1]


PREDICTED: dict[str, tuple[Callable[[Path], object], np.ndarray]] = {
    "chances.npy": (lambda file: np.save(file, CHANCES), CHANCES),
    "numbers.npy": (lambda file: np.save(file, np.array([1, 0])), CHANCES.round()),
    "chances.csv": (lambda file: predictions().to_csv(file, index=False), CHANCES),
    "chances.parquet": (lambda file: predictions().to_parquet(file, index=False), CHANCES),
    "names.csv": (
        lambda file: predictions(predicted=["dog", "cat"]).to_csv(file, index=False),
        CHANCES.round(),
    ),
}


@pytest.mark.parametrize("name", PREDICTED)
def test_every_form_gives_the_same_predictions(name: str, tmp_path: Path) -> None:
    write, expected = PREDICTED[name]
    write(tmp_path / name)
    np.testing.assert_array_equal(read_predictions(tmp_path / name, TARGETS, CLASSES), expected)


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "none.csv": (lambda file: None, "no such file"),
    "chances.pt": (lambda file: file.write_bytes(b"x"), "predictions are read from .npy"),
    "wide.npy": (lambda file: np.save(file, np.ones((2, 3))), "2 validation items and 2 classes"),
    "high.npy": (lambda file: np.save(file, np.array([2, 0])), r"shape \(2,\)"),
    "logits.npy": (lambda file: np.save(file, 3 * CHANCES), "'v0' are not from 0 to 1"),
    "nan.npy": (lambda file: np.save(file, CHANCES * np.nan), "give the softmax"),
    "stranger.csv": (
        lambda file: predictions(id=["v0", "z"]).to_csv(file, index=False),
        "row 1, column id: the run has no validation item 'z'",
    ),
    "twice.csv": (
        lambda file: predictions(id=["v0", "v0"]).to_csv(file, index=False),
        "2 rows with the id 'v0'",
    ),
    "few.csv": (
        lambda file: predictions()[:1].to_csv(file, index=False),
        "0 rows with the id 'v0'",
    ),
    "class.csv": (
        lambda file: predictions(predicted=["dog", "cow"]).to_csv(file, index=False),
        "column predicted: the label 'cow' is not one of cat, dog",
    ),
    "columns.csv": (
        lambda file: predictions().drop(columns="dog").to_csv(file, index=False),
        "no column 'dog'",
    ),
    "words.csv": (
        lambda file: predictions(dog=["much", 0]).to_csv(file, index=False),
        "column dog: 'much' is not a number",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_predictions_that_cannot_be_used_are_one_line(name: str, tmp_path: Path) -> None:
    write, message = UNUSABLE[name]
    write(tmp_path / name)
    with pytest.raises(TurnoverError, match=message) as caught:
        read_predictions(tmp_path / name, TARGETS, CLASSES)
    assert name in str(caught.value) and "\n" not in str(caught.value)


# Runs of scores


@pytest.fixture
def given(tmp_path: Path) -> list[object]:
    """Ten training and four validation images of two classes with scores and predictions, the last
    of which is wrong, as options of `register`.
    """
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("validation", 4)):
        for number in range(count):
            folder = tmp_path / split / CLASSES[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 100, (8, 8), np.uint8) + 100 * (number % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    np.save(tmp_path / "scores.npy", rng.normal(size=(4, 10)))
    np.save(tmp_path / "predictions.npy", [0, 0, 1, 0])
    named = ("scores", "predictions")
    files = [(f"--{name}", tmp_path / f"{name}.npy") for name in named]
    data = [(f"--{name}", tmp_path / name) for name in ("train", "validation")]
    more = [("--positive", "hurts"), ("--run", tmp_path / "run")]
    return [part for pair in (*files, *data, *more) for part in pair]


def test_a_run_holds_the_scores_and_says_what_it_lacks(
    given: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = answer(capsys, "register", *given)
    assert (made["validation_accuracy"], made["plain_accuracy"]) == (0.75, None)
    run, scores = Run(tmp_path / "run"), -np.load(tmp_path / "scores.npy").astype(np.float32)
    wrong = run.misclassified_positions[0]
    for target in range(4):
        np.testing.assert_array_equal(run.influence.ranked(target, "truth").values, scores[target])
    np.testing.assert_array_equal(run.influence.ranked(wrong, "prediction").values, -scores[wrong])
    assert run.influence.estimator == "scores" and np.isnan(run.array("item_losses")).all()
    assert missing_words(run).startswith("Scores of another engine, scores.npy: no learning curves")
    assert run_facts(run)["Accuracy"] == "75.0%, of the model trained here unknown"
    (error,) = answer(capsys, "errors", "--run", run.folder)["errors"]
    best = int(np.argmin(scores[wrong]))
    assert error["proponents"][0]["id"] == run.train["id"][best] and error["trust"] is None
    named = "no model is named to train again; make it again with `turnover register --model"
    for command, said in (
        ("influence", "no model to ask"),
        ("label-errors", "no model was asked"),
        ("cleanse", named),
        (f"prove --error {error['id']} --top 2", named),
        ("evaluate --measure lds", named),
    ):
        name, *more = command.split()
        code, _, err = call(capsys, name, "--run", run.folder, *more)
        assert code == 2 and said in err and err.count("\n") == 1, err


def test_scores_of_the_predicted_label_turn_where_the_true_one_is_meant(
    given: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "register", *given, "--label", "predicted")
    run, scores = Run(tmp_path / "run"), -np.load(tmp_path / "scores.npy").astype(np.float32)
    (wrong,) = run.misclassified_positions
    for meaning, expected in (("prediction", scores), ("truth", -scores)):
        ranked = run.influence.ranked(wrong, meaning).values
        np.testing.assert_array_equal(ranked, expected[wrong])
    right = (wrong + 1) % 4
    np.testing.assert_array_equal(run.influence.ranked(right, "truth").values, scores[right])


def test_a_named_model_is_trained_again(
    given: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By cleansing, proofs and measures; without predictions it makes them."""
    made = answer(capsys, "register", *given, "--model", "heads")
    assert made["plain_accuracy"] is not None and made["validation_accuracy"] == 0.75
    run = Run(tmp_path / "run")
    (error,) = answer(capsys, "errors", "--run", run.folder)["errors"]
    some = ("--run", run.folder)
    cleansed = answer(capsys, "cleanse", *some, "--fraction", 0.2, "--repeats", 2)
    half = run.influence.array("truth_estimate")[halves(run.validation["id"])[0]].mean(0)
    assert cleansed["removed_ids"] == run.train["id"][np.argsort(half, kind="stable")[:2]].tolist()
    (proof,) = answer(capsys, "prove", *some, "--error", error["id"], "--top", 2)["proofs"]
    assert len(proof["whole"]) == 5
    for measure in ("lds", "loo", "removal", "loss-added"):
        small = ("--halves", 4, "--seeds", 2, "--instances", 4, "--remove", 2, "--baselines")
        files = ("--scores", tmp_path / "scores.npy", "--positive", "hurts")
        asked = (*some, "--measure", measure, *small, "loss", *files)
        rows = {row["method"]: row for row in answer(capsys, "evaluate", *asked)["rows"]}
        assert rows["scores.npy, as shown"]["figures"] == rows["scores.npy"]["figures"]
        assert rows["scores.npy"]["figures"] and rows["training loss"]["figures"]
    unpredicted = [part for part in given if "predictions" not in str(part)]
    unpredicted[unpredicted.index(tmp_path / "run")] = tmp_path / "own"
    own = answer(capsys, "register", *unpredicted, "--model", "heads")
    assert own["validation_accuracy"] == own["plain_accuracy"]


WRONG: dict[str, tuple[list[str], str]] = {
    "sign": (["--positive"], "--scores and --positive helps or hurts go together"),
    "predictions": (["--predictions"], "name the file with the predictions"),
    "scores": (["--scores", "--positive"], "--model is missing"),
    "validation": (["--validation"], "name the validation items"),
}


@pytest.mark.parametrize("name", [*WRONG, "shape", "weights", "model"])
def test_what_is_missing_or_wrong_is_one_line_and_leaves_nothing(
    name: str, given: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without, said = WRONG.get(name, ([], ""))
    pairs = zip(given[::2], given[1::2], strict=True)
    options = [part for pair in pairs if pair[0] not in without for part in pair]
    if name == "shape":
        np.save(tmp_path / "scores.npy", np.ones((10, 4)))
        said = "scores.npy: scores of shape (10, 4), but the run has 4 validation items and 10"
    if name == "weights":
        options, said = [*options, "--weights", "w"], "--weights: not with --scores"
    if name == "model":
        options, said = [*options, "--model", "oracle"], "--model oracle"
    code, out, err = call(capsys, "register", *options)
    assert (code, out) == (2, "") and said in err.splitlines()[-1], err
    assert not [*tmp_path.glob("run*")]
