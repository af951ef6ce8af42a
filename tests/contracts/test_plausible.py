"""A run folder from anybody: what it says and cannot be is one line, though its checksums hold.

And no path leads out of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.fake_jobs import fake_job
from tests.helpers.fake_runs import FakeRun, keep_ends, png
from turnover import Run, TurnoverError
from turnover.data.images import png_pixels
from turnover.explain.listing import list_errors
from turnover.jobs import find_jobs, read_job
from turnover.runs.ranking import content_of, stored_estimator
from turnover.storage.artifacts import MANIFEST, write_manifest

RUNS = {
    "text": FakeRun("text"),
    "image": FakeRun("image", kind="image", classes=("cat", "dog")),
    "one": FakeRun("one", members=1),
}
DELETE = "delete .* and train it again"
ANEW = "compute it again with `turnover influence --run"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return FakeRun().write(tmp_path)


def check_readable(run: Path) -> None:
    """Read all parts of a run."""
    opened = Run(run)
    _ = opened.curves, opened.array("item_losses"), opened.features("train"), opened.influence
    assert len(list_errors(opened)["errors"]) == 8


def check_refused(run: Path, match: str) -> None:
    """Somebody who reads all of it is told this, in one line."""
    with pytest.raises(TurnoverError, match=match) as told:
        check_readable(run)
    assert "\n" not in str(told.value)


def checked_anew(part: Path) -> None:
    """Let a part's manifest have the checksums of what is there now."""
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    told = {key: value for key, value in facts.items() if key not in ("format", "files")}
    write_manifest(part, told, sorted(facts["files"]))


def check_spoiled(
    part: Path, name: str, change: Callable[[Any], Any], match: str, run: Path
) -> None:
    """With a file of a part changed, and its checksum with it, the run is refused; then undo it."""
    path = part / name
    before, read = path.read_bytes(), {".npy": np.load, ".parquet": pd.read_parquet}[path.suffix]
    made = change(read(path))
    np.save(path, made) if path.suffix == ".npy" else made.to_parquet(path, index=False)
    checked_anew(part)
    check_refused(run, match)
    path.write_bytes(before)
    checked_anew(part)


@pytest.mark.parametrize("kind", RUNS)
def test_what_is_written_can_be(kind: str, tmp_path: Path) -> None:
    run = RUNS[kind].write(tmp_path)
    check_readable(run)
    keep_ends(run, 5)
    check_readable(run)


RESULTS = {"train_size": 30, "validation_size": 24, "validation_accuracy": 0.6}
RESULTS |= {"plain_accuracy": 0.7, "members": 4, "epochs": 3, "kept_epoch": 2}
COUNTS = ("members", "epochs", "kept_epoch", "train_size")
SOURCE = {"name": "x", "source": "y"}
CLASSES = (5, [], ["a", "a"], [1, 2], ["a", None], {"a": 1})
OTHERS = ({"kept_epoch": 4}, {"validation_loss": float("inf")}, {"members": "4"}, {"other": []})
IMPOSSIBLE: list[dict[str, Any]] = [
    *({"kind": kind} for kind in ("audio", None, ["text"])),
    *({"classes": classes} for classes in CLASSES),
    *(
        {name: value}
        for name in ("data", "settings", "recipe", "results")
        for value in (None, [], "x", 7)
    ),
    *({"data": data} for data in ({}, {"name": "x"}, {"name": 5, "source": "x"})),
    {"data": {**SOURCE, "fingerprint": []}},
    *(
        {"results": {**RESULTS, name: value}}
        for name in COUNTS
        for value in (0, -1, 1.5, None, True, 10**20)
    ),
    *(
        {"results": {**RESULTS, "plain_accuracy": value}}
        for value in (None, "x", 1.5, float("nan"), 10**400)
    ),
    *({"results": {**RESULTS, **more}} for more in OTHERS),
    *({"leaks": "all"}, {"versions": {"torch": 2}}, {"device": []}, {"created": 5}),
]
OF_INFLUENCES: list[dict[str, Any]] = [
    *({"targets": targets} for targets in ([], [0, 0], [-1], ["0"], [10**6], None, [1.0])),
    *({"errors": errors} for errors in ([1], [0], "all", [100])),
    *({"layout": "half"}, {"agreement": []}, {"agreement": {"best": "x"}}),
    *({"estimator": 5}, {"precision": {}}),
]


@pytest.mark.parametrize("part", ["", "influence"])
def test_a_manifest_that_says_what_cannot_be(part: str, run: Path) -> None:
    path = run / part / MANIFEST
    facts = json.loads(path.read_text(encoding="utf-8"))
    for change in OF_INFLUENCES if part else IMPOSSIBLE:
        path.write_text(json.dumps({**facts, **change}), encoding="utf-8")
        what = f"({next(iter(change))}|errors)" if part else next(iter(change))
        check_refused(run, rf": {what}.* cannot be as it says.*; {ANEW if part else DELETE}")


def test_an_estimator_that_lacks_a_part_is_one_line(run: Path) -> None:
    path = run / "influence" / MANIFEST
    facts = json.loads(path.read_text(encoding="utf-8"))
    for shrinkage in ({"strength": 1.0}, "strong", None):
        path.write_text(json.dumps({**facts, "shrinkage": shrinkage}), encoding="utf-8")
        with pytest.raises(TurnoverError, match=rf"influence: not readable \(.*\); {ANEW}"):
            stored_estimator(Run(run))


TABLES: list[tuple[str, str, Callable[[pd.DataFrame], pd.DataFrame]]] = [
    ("items", "label", lambda items: items.assign(label=2)),
    ("items", "predicted", lambda items: items.assign(predicted=-1)),
    ("items", "position", lambda items: items.assign(position=0)),
    ("items", "split", lambda items: items[::-1]),
    ("items", "split", lambda items: items.iloc[1:]),
    ("items", "id", lambda items: items.assign(id="same")),
    ("items", "planted", lambda items: items.assign(planted=1.5)),
    ("items", "probability_1", lambda items: items.assign(probability_1=np.float32("nan"))),
    ("items", "probability_0", lambda items: items.drop(columns="probability_0")),
    ("items", "text", lambda items: items.assign(text=None)),
    ("curves", "epochs", lambda curves: curves.iloc[1:]),
    ("curves", "flipped", lambda curves: curves.drop(columns="flipped")),
    ("curves", "masked", lambda curves: curves.assign(masked="low")),
]


def test_tables_that_cannot_be(run: Path) -> None:
    for name, what, change in TABLES:
        match = rf"{name}\.parquet: {what} cannot be as it says; {DELETE}"
        check_spoiled(run, f"{name}.parquet", change, match, run)


FORMS: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda values: values[:1] if len(values) > 1 else values[:, :1],
    lambda values: values[None],
    lambda values: values.astype("U8"),
    lambda values: values.astype(np.int64),
    lambda values: values.astype(complex),
]
ARRAYS = ("features", "item_losses", "self", "mean_members", "truth_estimate", "truth_error")
ARRAYS += ("prediction_members", "prediction_shape")


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_another_form(name: str, run: Path) -> None:
    part = run if name in ("features", "item_losses") else run / "influence"
    for change in FORMS:
        match = f"cannot be as it says; {DELETE if part == run else ANEW}"
        check_spoiled(part, f"{name}.npy", change, match, run)


def test_influences_without_end_and_positions_that_no_item_has(run: Path) -> None:
    """An error may be unknown, and is NaN then."""
    part = run / "influence"

    def third(value: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda values: np.where(
            np.arange(values.size).reshape(values.shape) == 3, np.float32(value), values
        )

    for name in ("self", "truth_estimate", "prediction_error"):
        for value in (np.nan, np.inf, 1e38):
            if name != "prediction_error" or not np.isnan(value):
                match = f"influence: {name} cannot be as it says; {ANEW}"
                check_spoiled(part, f"{name}.npy", third(value), match, run)
    errors = np.load(part / "prediction_error.npy")
    np.save(part / "prediction_error.npy", third(np.nan)(errors))
    checked_anew(part)
    check_readable(run)
    keep_ends(run, 5)
    match = "truth_instances cannot be as it says"
    check_spoiled(part, "truth_instances.npy", lambda values: values + 25, match, run)


HEADS = [b"\x93NUMPY\x01\x00\x06\x00{'de:\n", b"\x93NUMPY\x01\x00\x05\x00([{\n", b""]
HEADS += [b"PK\x03\x04", np.array([None]).dumps()]


def test_an_array_with_a_broken_head_or_of_objects(run: Path) -> None:
    for content in HEADS:
        (run / "features.npy").write_bytes(content)
        checked_anew(run)
        check_refused(run, rf"features\.npy: not readable \(.*; {DELETE}")


def test_an_image_of_a_run_that_is_none() -> None:
    images = [png(np.zeros(shape, np.uint8)) for shape in ((4, 4, 4), (7000, 7000))]
    for content in (b"", b"no image", *images):
        with pytest.raises(TurnoverError, match="an image of the run: "):
            png_pixels(content)


# No path leads out

PLACES = ("items.parquet", "influence/self.npy", "influence", "flags.sqlite", "thumbnails")


@pytest.mark.parametrize("place", [*PLACES, "cleansing", "fidelity", ".influence.new"])
def test_a_run_with_a_link_in_it_is_refused_and_nothing_is_written_through_it(
    place: str, run: Path, tmp_path: Path
) -> None:
    here, outside = run / place, tmp_path / "outside"
    if here.exists():
        here.rename(outside)
    elif here.suffix:
        outside.touch()
    else:
        outside.mkdir()
    before = sorted(outside.rglob("*"))
    here.symlink_to(outside)
    why = rf"fake/{place}: a link, which could lead out of the run; put the file itself there"
    with pytest.raises(TurnoverError, match=why):
        content_of(Run(run), 0)
    assert sorted(outside.rglob("*")) == before


@pytest.mark.parametrize("file", ["log", "outcome.json", "progress.json"])
def test_a_job_with_a_link_in_it_is_none(file: str, tmp_path: Path) -> None:
    job = fake_job(tmp_path, [["runs"]])
    assert len(find_jobs(tmp_path)) == 1
    (tmp_path / "secret").write_text("secret")
    (job / file).unlink(missing_ok=True)
    (job / file).symlink_to(tmp_path / "secret")
    with pytest.raises(TurnoverError, match="no job, or a damaged one"):
        read_job(job)
    assert find_jobs(tmp_path) == []
