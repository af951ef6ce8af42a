"""Law 7: a run opens only if its manifest and checksums hold, and says which file does not."""

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

from tests.helpers.builders import names
from tests.helpers.fake_runs import FakeRun
from tests.helpers.storage_testing import edit
from turnover import Run, TurnoverError
from turnover.flags import Flags
from turnover.runs.run import RUN_FILES, Ranked, find_runs
from turnover.storage.artifacts import FORMAT, MANIFEST, read_manifest, sha256, write_manifest

PARTS = {
    "": "delete .*fake and train it again",
    "influence": "compute it again with `turnover",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return FakeRun(kind="image").write(tmp_path)


def check_refused(folder: Path, match: str) -> None:
    """Opening the run and its influence says so, in one line."""
    with pytest.raises(TurnoverError, match=match) as told:
        _ = Run(folder).influence
    assert "\n" not in str(told.value)


def cut(path: Path, keep: Callable[[bytes], bytes]) -> None:
    path.write_bytes(keep(path.read_bytes()))


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[Callable[[Path], object], str] = {
    lambda path: cut(path, lambda content: content[:-1]): "truncated or edited",
    lambda path: cut(path, lambda content: content[: len(content) // 2]): "truncated or edited",
    lambda path: cut(path, lambda _: b""): "truncated or edited",
    lambda path: cut(path, lambda content: content + b"\0"): "truncated or edited",
    edit: "its contents were changed after it was written",
    Path.unlink: "missing",
    to_folder: "missing",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_file_is_named_with_the_remedy(part: str, folder: Path) -> None:
    """Of the run or of its influence; damage to that leaves the rest of the run open."""
    listed = json.loads((folder / part / MANIFEST).read_text(encoding="utf-8"))["files"]
    assert len(listed) == (len(RUN_FILES) if not part else 10)
    for name in listed:
        path = folder / part / name
        content = path.read_bytes()
        for damage, what in DAMAGE.items():
            damage(path)
            check_refused(folder, rf"{path}: {what}.*; {PARTS[part]}")
            if part:
                assert len(Run(folder).train) == 30
            if path.is_dir():
                path.rmdir()
            path.write_bytes(content)
    assert Run(folder).influence.targets == list(range(24))


NOT_OURS = rf"format 0, this version reads format {FORMAT}"
FOREIGN: list[tuple[str | bytes, str]] = [
    *((text, r"not readable \(") for text in ('{"format": 1, "files": {', "", "[" * 10**5)),
    *((text, "not a Turnover manifest") for text in ("null", "[]", "3", '{"name": "left-pad"}')),
    ('{"format": 1}', "not a Turnover manifest"),
    *(
        (f'{{"format": 1, "files": {files}}}', r"files.* cannot be as it says \(")
        for files in ("5", '["items.parquet"]', '{"items.parquet": 5}', '{"items.parquet": {}}')
    ),
    ('{"format": 1, "files": {}, "classes": ["\\ud800", "b"]}', r"not readable \("),
    *((text, r"not readable \(") for text in (b'{"name": "caf\xe9"}', bytes(range(256)))),
    ('{"format": 1, "files": {}}', ""),
    *(
        (f'{{"format": 0, "files": {files}}}', NOT_OURS)
        for files in ('["items.parquet"]', "{}", '{"items.parquet": "d41d"}', "null")
    ),
    *(
        (f'{{"format": {told}, "files": {{}}}}', f"format {said}, this version reads format 1")
        for told, said in ((FORMAT + 1, f"{FORMAT + 1}"), ('"1.0"', "1.0"), ("null", "None"))
    ),
]


@pytest.mark.parametrize("part", PARTS)
def test_a_manifest_that_is_not_ours_is_named(part: str, folder: Path) -> None:
    path = folder / part / MANIFEST
    for content, what in FOREIGN:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        check_refused(folder, rf"{path}: {what}.*{PARTS[part]}")
    path.unlink()
    check_refused(folder, rf"{path.parent}: no manifest\.json, so this is not a run; {PARTS[part]}")


def change_manifest(folder: Path, change: dict[str, Any]) -> None:
    told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps({**told, **change}), encoding="utf-8")


def test_a_manifest_cannot_name_files_outside_its_folder_nor_leave_its_own_out(
    folder: Path,
) -> None:
    """Not even existing ones with the right checksum."""
    outside = folder.parent / "outside.txt"
    outside.write_text("secret")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    places = ["../outside.txt", "influence/../../outside.txt", "influence/self.npy", ".", "..", ""]
    for name in (*places, str(outside)):
        target = folder / name
        checksum = sha256(target) if target.is_file() else ""
        facts = {"bytes": target.stat().st_size, "sha256": checksum}
        change_manifest(folder, {"files": {**manifest["files"], name: facts}})
        check_refused(folder, "train it again")
    for name in RUN_FILES:
        files = {own: facts for own, facts in manifest["files"].items() if own != name}
        change_manifest(folder, {"files": files})
        check_refused(folder, f"the manifest lists no {name}")


def test_influences_of_other_weights_or_of_an_estimator_that_is_no_more_are_refused(
    folder: Path,
) -> None:
    other = FakeRun("other", weights=b"others", influence=False).write(folder.parent)
    shutil.copytree(folder / "influence", other / "influence")
    check_refused(
        other, rf"{other}/influence: made for another run's weights; {PARTS['influence']}"
    )
    change_manifest(folder / "influence", {"estimator": "smoothed"})
    check_refused(
        folder, rf"its estimator is 'smoothed', from an earlier version; {PARTS['influence']}"
    )


def test_what_is_not_there_yet_is_said_with_its_command(folder: Path) -> None:
    shutil.rmtree(folder / "influence")
    assert not Run(folder).has_influence
    check_refused(folder, rf"{folder}: no influence yet; compute it with `turnover influence --run")
    (folder.parent / "file").write_text("x")
    for name in ("nowhere", "file"):
        why = rf"{name}: no such run; train one with `turnover train --run .*{name}`"
        check_refused(folder.parent / name, why)


def test_unlisted_files_such_as_flags_do_not_matter_and_a_run_may_itself_be_a_link(
    folder: Path,
) -> None:
    (folder / "notes.txt").write_text("anything")
    (folder.parent / "elsewhere").symlink_to(folder)
    Flags(folder.parent / "elsewhere").put(1, "drop")
    assert list(Flags(folder).current()) == [1]
    assert Run(folder.parent / "elsewhere").influence.targets == list(range(24))


def test_no_manifest_cut_anywhere_opens(folder: Path) -> None:
    content = (folder / MANIFEST).read_bytes()
    for keep in range(0, len(content), 7):
        (folder / MANIFEST).write_bytes(content[:keep])
        with pytest.raises(TurnoverError, match=r"manifest\.json.*; do it again$"):
            read_manifest(folder, "do it again")


def test_a_manifest_says_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    write_manifest(tmp_path, {"name": "Ünïcode"}, ["a.bin"])
    checksum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    expected = {"bytes": 3, "sha256": checksum}
    told = {"format": FORMAT, "name": "Ünïcode", "files": {"a.bin": expected}}
    assert read_manifest(tmp_path, "") == told and names(tmp_path) == ["a.bin", MANIFEST]


def test_runs_are_found_by_name_and_partial_ones_are_not(folder: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert find_runs(runs) == []
    for name in ("b", "a", "c.partial", "no manifest"):
        (runs / name).mkdir(parents=True)
        if name != "no manifest":
            shutil.copy(folder / MANIFEST, runs / name)
    (runs / MANIFEST).write_text("{}")
    assert [path.name for path in find_runs(runs)] == ["a", "b"]


# What an open run says


def test_items_of_both_splits_are_there_by_position_and_errors_are_predicted_wrongly(
    small_run: Path,
) -> None:
    run = Run(small_run)
    assert (run.name, run.kind, run.classes) == ("small", "image", [*map(str, range(10))])
    assert list(run.train["position"]) == list(run.train.index) == list(range(60))
    assert list(run.validation.index) == list(range(597))
    assert run.item("validation", 5)["id"] == run.validation.loc[5, "id"]
    chances = run.validation[[f"probability_{number}" for number in range(10)]].to_numpy()
    wrong = np.flatnonzero(chances.argmax(1) != run.validation["label"]).tolist()
    assert run.misclassified_positions == wrong and 0 < len(wrong) < 597


def test_arrays_are_mapped_and_read_only_and_summaries_are_means_over_members(
    small_run: Path,
) -> None:
    run, part = Run(small_run), Run(small_run).influence
    for array in (run.array("features"), part.array("truth_members")):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    own, members = (np.load(part.folder / f"{name}.npy") for name in ("self", "mean_members"))
    np.testing.assert_allclose(part.self_influence, own.mean(0))
    for found, expected in zip(
        part.mean_influence, (members.mean(0), members.std(0, ddof=1) / 2**0.5), strict=True
    ):
        np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(members, part.array("truth_members").mean(1), atol=1e-5)


def test_rankings_are_rows_of_the_matrices_and_a_target_without_any_is_refused(
    small_run: Path,
) -> None:
    run = Run(small_run)
    part, error = run.influence, run.misclassified_positions[3]
    right = next(position for position in range(597) if position not in run.misclassified_positions)
    for target, meaning, name, row in (
        (error, "truth", "truth", error),
        (error, "prediction", "prediction", part.misclassified.index(error)),
        (right, "truth", "truth", right),
        (right, "prediction", "truth", right),
    ):
        ranked = part.ranked(target, meaning)
        assert np.array_equal(ranked.instances, np.arange(60))
        assert np.array_equal(ranked.values, part.array(f"{name}_estimate")[row])
        assert np.array_equal(ranked.std_errors, part.array(f"{name}_error")[row])
    why = "validation item 597 has no influences in this run; compute them with --targets valid"
    with pytest.raises(TurnoverError, match=why):
        part.ranked(597, "truth")


NUMBERS = arrays(np.float32, st.integers(0, 30), elements=st.floats(-3, 3, width=32))


@given(values=NUMBERS, top=st.integers(0, 12))
def test_the_ends_of_a_ranking_are_its_strongest_of_either_sign(
    values: np.ndarray, top: int
) -> None:
    proponents, opponents = Ranked(np.arange(len(values)) + 100, values, values).ends(top)
    above = sorted((float(value) for value in values if value > 0), reverse=True)[:top]
    below = sorted(float(value) for value in values if value < 0)[:top]
    assert [float(value) for value in values[proponents]] == above
    assert [float(value) for value in values[opponents]] == below
    assert len(set(proponents)) == len(proponents)
