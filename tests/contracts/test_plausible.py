"""A run folder from anybody: what it says and cannot be is one line that names the file, though its checksums hold; and no path leads out of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core import Run, TurnoverError
from core.data.images import png_pixels
from core.flags import Flags
from core.jobs import find_jobs, read_job
from core.manifest import MANIFEST, write_manifest
from core.pipeline.errors import list_errors
from core.ranking import content_of
from tests.helpers.fake_jobs import fake_job
from tests.helpers.fake_runs import FakeRun, keep_ends, png

RUNS = {"text": FakeRun("text"), "image": FakeRun("image", kind="image", classes=("cat", "dog")), "one": FakeRun("one", members=1)}


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return RUNS[request.param].write(tmp_path)


def check_readable(run: Path) -> None:
    """Read all parts of a run."""
    opened = Run(run)
    _ = opened.curves, opened.array("item_losses"), opened.features("train"), opened.influence
    assert len(list_errors(opened)["errors"]) == 8


def rewritten(part: Path, name: str, change: Callable[[Any], Any], read: Callable[[Path], Any], write: Callable[[Path, Any], Any]) -> None:
    """Change a file of a part, and its checksum with it."""
    write(part / name, change(read(part / name)))
    facts = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    write_manifest(part, {key: value for key, value in facts.items() if key not in ("format", "files")}, sorted(facts["files"]))


def table(run: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    rewritten(run, f"{name}.parquet", change, pd.read_parquet, lambda path, made: made.to_parquet(path, index=False))


def array(part: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    rewritten(part, f"{name}.npy", change, np.load, np.save)


def facts(part: Path, change: dict[str, Any]) -> None:
    told = json.loads((part / MANIFEST).read_text(encoding="utf-8"))
    (part / MANIFEST).write_text(json.dumps({**told, **change}), encoding="utf-8")


def test_what_is_written_can_be(run: Path) -> None:
    check_readable(run)
    keep_ends(run, 5)
    check_readable(run)


RESULTS = {"train_size": 30, "validation_size": 24, "validation_accuracy": 0.6, "plain_accuracy": 0.7, "members": 4, "epochs": 3, "kept_epoch": 2}
IMPOSSIBLE = [
    *({"kind": kind} for kind in ("audio", None, ["text"])),
    *({"classes": classes} for classes in (5, [], ["a", "a"], [1, 2], ["a", None], {"a": 1}, ["\ud800", "b"])),
    *({name: value} for name in ("data", "settings", "recipe", "results") for value in (None, [], "x", 7)),
    *({"data": data} for data in ({}, {"name": "x"}, {"name": 5, "source": "x"}, {"name": "x", "source": "y", "fingerprint": []})),
    *({"results": {**RESULTS, name: value}} for name in ("members", "epochs", "kept_epoch", "train_size") for value in (0, -1, 1.5, None, True, 10**20)),
    *({"results": {**RESULTS, "plain_accuracy": value}} for value in (None, "x", 1.5, float("nan"), 10**400)),
    *({"results": {**RESULTS, **more}} for more in ({"kept_epoch": 4}, {"validation_loss": float("inf")}, {"members": "4"}, {"other": []})),
    *({"leaks": "all"}, {"versions": {"torch": 2}}, {"device": []}, {"created": 5}),
]


@pytest.mark.parametrize("change", IMPOSSIBLE, ids=str)
def test_a_manifest_that_says_what_cannot_be(change: dict[str, Any], tmp_path: Path) -> None:
    run = FakeRun().write(tmp_path)
    facts(run, change)
    with pytest.raises(TurnoverError, match=rf"manifest\.json: {next(iter(change))}.* cannot be as it says; delete .* and train it again"):
        Run(run)


ITEMS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "label": lambda items: items.assign(label=2),
    "predicted": lambda items: items.assign(predicted=-1),
    "position": lambda items: items.assign(position=0),
    "split": lambda items: items[::-1],
    "id": lambda items: items.assign(id="same"),
    "planted": lambda items: items.assign(planted=1.5),
    "probability_1": lambda items: items.assign(probability_1=np.float32("nan")),
    "probability_0": lambda items: items.drop(columns="probability_0"),
    "text": lambda items: items.assign(text=None),
    "items.parquet": lambda items: items.iloc[1:],
}


@pytest.mark.parametrize("name", ITEMS)
def test_items_that_cannot_be(name: str, tmp_path: Path) -> None:
    run = FakeRun().write(tmp_path)
    table(run, "items", ITEMS[name])
    with pytest.raises(TurnoverError, match=rf"items\.parquet.*: {'split' if name == 'items.parquet' else name} cannot be as it says; delete"):
        check_readable(run)


@pytest.mark.parametrize("change", [lambda curves: curves.iloc[1:], lambda curves: curves.drop(columns="flipped"), lambda curves: curves.assign(masked="low")])
def test_curves_that_cannot_be(change: Callable[[pd.DataFrame], pd.DataFrame], tmp_path: Path) -> None:
    run = FakeRun().write(tmp_path)
    table(run, "curves", change)
    with pytest.raises(TurnoverError, match=r"curves\.parquet: (epochs|flipped|masked) cannot be as it says"):
        check_readable(run)


SPOIL: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "another shape": lambda values: values[:1] if len(values) > 1 else values[:, :1],
    "another axis": lambda values: values[None],
    "words": lambda values: values.astype("U8"),
    "whole numbers": lambda values: values.astype(np.int64),
    "complex": lambda values: values.astype(complex),
}


@pytest.mark.parametrize("how", SPOIL)
@pytest.mark.parametrize("name", ["features", "item_losses", "self", "mean_members", "truth_estimate", "truth_error", "prediction_members", "prediction_shape"])
def test_arrays_of_another_form(name: str, how: str, tmp_path: Path) -> None:
    run = FakeRun().write(tmp_path)
    array(run if name in ("features", "item_losses") else run / "influence", name, SPOIL[how])
    with pytest.raises(TurnoverError, match=r"cannot be as it says; (delete .* train it again|compute it again)"):
        check_readable(run)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
@pytest.mark.parametrize("name", ["self", "truth_estimate", "prediction_error"])
def test_influences_without_end(name: str, value: float, tmp_path: Path) -> None:
    run = FakeRun().write(tmp_path)
    array(run / "influence", name, lambda values: np.where(np.arange(values.size).reshape(values.shape) == 3, np.float32(value), values))
    if name == "prediction_error" and np.isnan(value):
        return check_readable(run)  # an error may be unknown
    with pytest.raises(TurnoverError, match=f"influence: {name} cannot be as it says; compute it again with"):
        check_readable(run)
    return None


@pytest.mark.parametrize(
    "change",
    [
        *({"targets": targets} for targets in ([], [0, 0], [-1], ["0"], [10**6], None, [1.0])),
        *({"errors": errors} for errors in ([1], [0], "all", [100])),
        *({"layout": "half"}, {"agreement": []}, {"agreement": {"best": "x"}}, {"estimator": 5}, {"precision": {}}),
    ],
    ids=str,
)
def test_a_manifest_of_influences_that_cannot_be(change: dict[str, Any], tmp_path: Path) -> None:
    run = FakeRun().write(tmp_path)
    facts(run / "influence", change)
    with pytest.raises(TurnoverError, match="cannot be as it says; compute it again with `python -m core influence --run"):
        check_readable(run)


def test_positions_that_no_item_has(tmp_path: Path) -> None:
    run = FakeRun().write(tmp_path)
    keep_ends(run, 5)
    array(run / "influence", "truth_instances", lambda values: values + 25)
    with pytest.raises(TurnoverError, match="truth_instances cannot be as it says"):
        check_readable(run)


@pytest.mark.parametrize("content", [b"\x93NUMPY\x01\x00\x06\x00{'de:\n", b"\x93NUMPY\x01\x00\x05\x00([{\n", b"", b"PK\x03\x04", np.array([None]).dumps()])
def test_an_array_with_a_broken_head_or_of_objects(content: bytes, tmp_path: Path) -> None:
    run = FakeRun().write(tmp_path)
    rewritten(run, "features.npy", lambda _: content, Path.read_bytes, Path.write_bytes)
    with pytest.raises(TurnoverError, match=r"features\.npy: not readable \(.*; delete .* and train it again"):
        check_readable(run)


@pytest.mark.parametrize("content", [b"", b"no image", png(np.zeros((4, 4, 4), np.uint8)), png(np.zeros((7000, 7000), np.uint8))])
def test_an_image_of_a_run_that_is_none(content: bytes) -> None:
    with pytest.raises(TurnoverError, match="an image of the run: "):
        png_pixels(content)


# No path leads out


@pytest.mark.parametrize("place", ["items.parquet", "influence/self.npy", "influence", "flags.sqlite", "thumbnails", "cleansing", "fidelity", ".influence.new"])
def test_a_run_with_a_link_in_it_is_refused_and_nothing_is_written_through_it(place: str, tmp_path: Path) -> None:
    run, outside = FakeRun().write(tmp_path), tmp_path / "outside"
    here = run / place
    if here.exists():
        here.rename(outside)
    elif here.suffix:
        outside.touch()
    else:
        outside.mkdir()
    before = sorted(outside.rglob("*"))
    here.symlink_to(outside)
    with pytest.raises(TurnoverError, match=rf"fake/{place}: a link, which could lead out of the run; put the file itself there"):
        content_of(Run(run), 0)
    assert sorted(outside.rglob("*")) == before


def test_a_run_may_itself_be_a_link(tmp_path: Path) -> None:
    run = FakeRun().write(tmp_path)
    (tmp_path / "elsewhere").symlink_to(run)
    check_readable(tmp_path / "elsewhere")
    Flags(tmp_path / "elsewhere").put(1, "drop")
    assert list(Flags(run).current()) == [1]


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


@pytest.mark.parametrize("steps", [[], [[]], [["runs"], []], [[1]], "runs"])
def test_a_job_without_a_command_is_none(steps: Any, tmp_path: Path) -> None:
    job = fake_job(tmp_path, [["runs"]])
    (job / "job.json").write_text(json.dumps({"label": "x", "created": "2026", "steps": steps}))
    assert find_jobs(tmp_path) == []
