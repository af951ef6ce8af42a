"""Law 7: a run opens only if its manifest and checksums hold, and says which file does not and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core import Run, TurnoverError
from core.runs import FORMAT, RUN_FILES, Ranked, find_runs, read_manifest, sha256, write_manifest
from tests.helpers.builders import train_digits

INFLUENCE_ARRAYS = ("self", "mean_members", "truth_estimate", "truth_error", "truth_members", "prediction_estimate", "prediction_error", "prediction_members")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def edit(path: Path) -> None:
    """Change one bit in the middle; the size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE = {
    truncate: "truncated or edited",
    halve: "truncated or edited",
    empty: "truncated or edited",
    extend: "truncated or edited",
    edit: "its contents were changed after it was written",
    remove: "missing",
    to_folder: "missing",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", RUN_FILES)
def test_a_damaged_file_of_a_run_is_named(name: str, damage: Callable[[Path], None], run_copy: Path) -> None:
    damage(run_copy / name)
    with pytest.raises(TurnoverError, match=rf"copy/{name}: {DAMAGE[damage]}.*; delete .*/copy and train it again$"):
        Run(run_copy)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", INFLUENCE_ARRAYS)
def test_a_damaged_file_of_the_influence_is_named_and_the_rest_of_the_run_opens(name: str, damage: Callable[[Path], None], run_copy: Path) -> None:
    damage(run_copy / "influence" / f"{name}.npy")
    run = Run(run_copy)
    assert len(run.train) == 60
    with pytest.raises(TurnoverError, match=rf"influence/{name}\.npy: {DAMAGE[damage]}.*; compute it again with `python -m core influence --run .*/copy`$"):
        _ = run.influence


FOREIGN = {
    "torn": '{"format": 1, "files": {',
    "empty": "",
    "list": "[]",
    "number": "3",
    "nothing": "null",
    "package.json": '{"name": "left-pad", "version": "1.0.0"}',
    "no files": '{"format": 1}',
    "files as a list": '{"format": 1, "files": ["items.parquet"]}',
    "files as a number": '{"format": 1, "files": 5}',
    "facts as a number": '{"format": 1, "files": {"items.parquet": 5}}',
    "no facts": '{"format": 1, "files": {"items.parquet": {}}}',
    "not UTF-8": b'{"format": 1, "files": {}, "name": "caf\xe9"}',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("part", ["", "influence"])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_manifest_is_named(name: str, part: str, run_copy: Path) -> None:
    content = FOREIGN[name]
    path = run_copy / part / "manifest.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if part:
        shutil.copy(run_copy / "items.parquet", path.parent)
    with pytest.raises(TurnoverError, match=rf"{path.parent.name}/(manifest\.json|items\.parquet): .*again"):
        _ = Run(run_copy).influence


def change_manifest(folder: Path, change: dict[str, Any]) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")


@pytest.mark.parametrize("version", [0, FORMAT + 1, "1.0", None])
@pytest.mark.parametrize("part", ["", "influence"])
def test_another_format_is_named_with_both_numbers(version: object, part: str, run_copy: Path) -> None:
    change_manifest(run_copy / part, {"format": version})
    with pytest.raises(TurnoverError, match=rf"manifest\.json: format {version}, this version reads format {FORMAT}; .* again"):
        _ = Run(run_copy).influence


@pytest.mark.parametrize("files", ['["items.parquet"]', "{}", '{"items.parquet": "d41d8cd9"}', "null"])
def test_another_format_is_told_even_where_it_lists_its_files_in_another_way(files: str, run_copy: Path) -> None:
    (run_copy / "manifest.json").write_text(f'{{"format": 0, "files": {files}}}', encoding="utf-8")
    with pytest.raises(TurnoverError, match=rf"manifest\.json: format 0, this version reads format {FORMAT}; .* again"):
        Run(run_copy)


@pytest.mark.parametrize("part", ["", "influence"])
def test_a_manifest_of_something_else_in_our_format_is_refused(part: str, run_copy: Path) -> None:
    (run_copy / part / "manifest.json").write_text('{"format": 1, "files": {}}', encoding="utf-8")
    with pytest.raises(TurnoverError, match="again"):
        _ = Run(run_copy).influence


def test_influences_of_an_estimator_that_is_no_more_are_refused(run_copy: Path) -> None:
    change_manifest(run_copy / "influence", {"estimator": "smoothed"})
    with pytest.raises(TurnoverError, match=r"its estimator is 'smoothed', from an earlier version; compute it again with `python -m core influence"):
        _ = Run(run_copy).influence


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_manifest_that_does_not_list_a_file_of_a_run_is_refused(name: str, run_copy: Path) -> None:
    files = json.loads((run_copy / "manifest.json").read_text(encoding="utf-8"))["files"]
    change_manifest(run_copy, {"files": {other: facts for other, facts in files.items() if other != name}})
    with pytest.raises(TurnoverError, match=f"the manifest lists no {name}"):
        Run(run_copy)


@pytest.mark.parametrize("place", ["../outside.txt", "influence/../../outside.txt", "influence/self.npy", ".", "..", "", "absolute"])
def test_a_manifest_cannot_name_files_outside_its_folder(place: str, run_copy: Path) -> None:
    """Not even existing ones with the right checksum."""
    outside = run_copy.parent / "outside.txt"
    outside.write_text("secret")
    name = str(outside) if place == "absolute" else place
    target = run_copy / name
    facts = {"bytes": target.stat().st_size, "sha256": sha256(target) if target.is_file() else ""}
    manifest = json.loads((run_copy / "manifest.json").read_text(encoding="utf-8"))
    change_manifest(run_copy, {"files": {**manifest["files"], name: facts}})
    with pytest.raises(TurnoverError, match="train it again"):
        Run(run_copy)


def test_a_folder_without_a_manifest_is_no_run(tmp_path: Path, run_copy: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TurnoverError, match=r"empty: no manifest\.json, so this is not a run; delete .*/empty and train it again"):
        Run(tmp_path / "empty")
    (run_copy / "influence" / "manifest.json").unlink()
    with pytest.raises(TurnoverError, match=r"influence: no manifest\.json, .*compute it again with"):
        _ = Run(run_copy).influence


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_run_that_is_not_there_says_how_to_train_one(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TurnoverError, match=rf"{name}: no such run; train one with `python -m core train --run .*{name}`"):
        Run(tmp_path / name)


def test_a_run_without_influence_opens_and_says_how_to_compute_it(run_copy: Path) -> None:
    shutil.rmtree(run_copy / "influence")
    run = Run(run_copy)
    assert not run.has_influence
    with pytest.raises(TurnoverError, match=r"copy: no influence yet; compute it with `python -m core influence --run .*/copy`"):
        _ = run.influence


def test_influence_of_other_weights_is_refused(run_copy: Path, tmp_path: Path) -> None:
    other = train_digits(tmp_path / "other", members=1, limit=20)
    shutil.copytree(run_copy / "influence", other / "influence")
    with pytest.raises(
        TurnoverError, match=r"other/influence: made for another run's weights; compute it again with `python -m core influence --run .*/other`"
    ):
        _ = Run(other).influence


def test_unlisted_files_such_as_flags_do_not_matter(run_copy: Path) -> None:
    (run_copy / "flags.sqlite").write_text("anything")
    assert Run(run_copy).influence.targets == list(range(597))


@given(keep=st.floats(0, 0.99))
def test_no_manifest_cut_anywhere_opens(keep: float, small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cut")
    content = (small_run / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(TurnoverError, match=r"manifest\.json"):
        read_manifest(folder, "do it again")


def test_a_manifest_says_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    write_manifest(tmp_path, {"name": "Ünïcode"}, ["a.bin"])
    expected = {"bytes": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    assert read_manifest(tmp_path, "") == {"format": FORMAT, "name": "Ünïcode", "files": {"a.bin": expected}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "manifest.json"]


# Finding runs


def test_runs_are_found_by_name_and_partial_ones_are_not(small_run: Path, tmp_path: Path) -> None:
    for name in ("b", "a", "c.partial"):
        (tmp_path / name).mkdir()
        shutil.copy(small_run / "manifest.json", tmp_path / name)
    (tmp_path / "no manifest").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    assert [path.name for path in find_runs(tmp_path)] == ["a", "b"]


def test_no_folder_has_no_runs(tmp_path: Path) -> None:
    assert find_runs(tmp_path / "none") == []
    assert find_runs(tmp_path) == []


# What an open run says


def test_items_of_both_splits_are_there_by_position(small_run: Path) -> None:
    run = Run(small_run)
    assert (run.name, run.kind, run.classes) == ("small", "image", [str(digit) for digit in range(10)])
    assert list(run.train["position"]) == list(run.train.index) == list(range(60))
    assert list(run.validation.index) == list(range(597))
    assert run.item("validation", 5)["id"] == run.validation.loc[5, "id"]


def test_errors_are_the_validation_items_predicted_wrongly(small_run: Path) -> None:
    run = Run(small_run)
    chances = run.validation[[f"probability_{number}" for number in range(10)]].to_numpy()
    assert run.errors == np.flatnonzero(chances.argmax(1) != run.validation["label"]).tolist()
    assert 0 < len(run.errors) < 597


def test_arrays_are_mapped_and_read_only(small_run: Path) -> None:
    run = Run(small_run)
    for array in (run.array("features"), run.influence.array("truth_members")):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_summaries_are_means_over_members(small_run: Path) -> None:
    part = Run(small_run).influence
    np.testing.assert_allclose(part.self_influence, np.load(small_run / "influence" / "self.npy").mean(0))
    members = np.load(small_run / "influence" / "mean_members.npy")
    mean, error = part.mean_influence
    np.testing.assert_allclose(mean, members.mean(0))
    np.testing.assert_allclose(error, members.std(0, ddof=1) / 2**0.5)
    np.testing.assert_allclose(members, np.load(small_run / "influence" / "truth_members.npy").mean(1), atol=1e-5)


def test_rankings_are_rows_of_the_matrices(small_run: Path) -> None:
    run = Run(small_run)
    part, error = run.influence, run.errors[3]
    right = next(position for position in range(597) if position not in run.errors)
    for target, meaning, name, row in (
        (error, "truth", "truth", error),
        (error, "prediction", "prediction", part.errors.index(error)),
        (right, "truth", "truth", right),
        (right, "prediction", "truth", right),
    ):
        ranked = part.ranked(target, meaning)
        assert np.array_equal(ranked.instances, np.arange(60))
        assert np.array_equal(ranked.values, part.array(f"{name}_estimate")[row])
        assert np.array_equal(ranked.errors, part.array(f"{name}_error")[row])


def test_a_target_that_was_not_computed_is_refused(small_run: Path) -> None:
    with pytest.raises(TurnoverError, match="validation item 597 has no influences in this run; compute them with --targets validation"):
        Run(small_run).influence.ranked(597, "truth")


@given(values=arrays(np.float32, st.integers(0, 30), elements=st.floats(-3, 3, width=32)), top=st.integers(0, 12))
def test_the_ends_of_a_ranking_are_its_strongest_of_either_sign(values: np.ndarray, top: int) -> None:
    proponents, opponents = Ranked(np.arange(len(values)) + 100, values, values).ends(top)
    expected = sorted((float(value) for value in values if value > 0), reverse=True)[:top]
    assert [float(value) for value in values[proponents]] == expected
    assert [float(value) for value in values[opponents]] == sorted(float(value) for value in values if value < 0)[:top]
    assert len(set(proponents)) == len(proponents)
