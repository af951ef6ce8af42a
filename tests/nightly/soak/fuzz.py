"""Fuzzing of all that is read: whatever the bytes, what a user gets is a result or one line, soon
and in little memory.

A subject makes something to spoil in a folder, and returns what does one example: spoils it and
reads it as the command line and the pages do. A `TurnoverError` is an answer; anything else, more
than `SECONDS`, or more than `MEMORY` is a failure.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import random
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tests.helpers.fake_jobs import fake_job
from tests.helpers.fake_runs import FakeRun
from tests.nightly.soak.mutations import mutated_array, mutated_bytes, mutated_json, mutated_table
from turnover.data.images import FORMATS, fit_image, open_image
from turnover.errors import TurnoverError
from turnover.explain.facts import run_certainty
from turnover.explain.flips import group_influences
from turnover.explain.listing import list_errors
from turnover.explain.report import report_page
from turnover.flags import Flags
from turnover.flags.apply import apply_flag_file
from turnover.flags.export import export_csv
from turnover.flags.flag_file import export_flag_file, merge_flag_file, read_flag_file
from turnover.jobs import find_jobs, log_tail
from turnover.jobs.job import read_outcome
from turnover.research.evaluate.results import FOLDER as RESULTS
from turnover.research.evaluate.results import keep_result, read_results
from turnover.runs.ranking import influence_column, stored_estimator
from turnover.runs.run import RUN_FILES, Run
from turnover.storage.artifacts import MANIFEST, write_manifest
from turnover.workflows.cleansing import NONE, RANDOM, Retrained, summarise
from turnover.workflows.cleansing_results import FOLDER as CLEANSINGS
from turnover.workflows.cleansing_results import (
    Scores,
    keep_cleansing,
    keep_scores,
    read_cleansings,
    run_scores,
)

SECONDS, MEMORY = 5, 2 * 2**30
_WAIT = 60
"""Seconds that are too many on a machine that does a lot else."""

Example = Callable[[random.Random], object]
_SMALL = {"train": 12, "validation": 9, "members": 2}


def attempt(work: Callable[[], Any]) -> None:
    """Do something; one line for the user is an answer."""
    try:
        work()
    except TurnoverError as error:
        assert str(error).strip()


def read_run(folder: Path) -> None:
    """Open a run and make of it what commands and pages make."""
    run = Run(folder)
    looks: tuple[Callable[[], Any], ...] = (
        *(
            lambda: run.curves,
            lambda: run.array("item_losses").sum(),
            lambda: run.features("train").sum(),
            lambda: list_errors(run, 3),
        ),
        *(
            lambda: run_certainty(run),
            lambda: report_page(run),
            lambda: export_csv(run),
            lambda: export_flag_file(run),
        ),
        *(
            lambda: group_influences(run, []),
            lambda: run_scores(run).estimates,
            lambda: influence_column(run, 0, "prediction"),
            lambda: stored_estimator(run),
        ),
    )
    for look in looks:
        attempt(look)


def _spoiled_part(
    part: Path, name: str, files: tuple[str, ...], spoil: Callable[[Path], None], run: Path
) -> None:
    """Read a run, one file of which is spoiled, while the checksums hold; and put it right
    again.
    """
    path, manifest = part / name, (part / MANIFEST).read_bytes()
    whole = path.read_bytes()
    try:
        spoil(path)
        if name != MANIFEST:
            facts = {
                key: value
                for key, value in json.loads(manifest).items()
                if key not in ("format", "files")
            }
            write_manifest(part, facts, files)
        attempt(lambda: read_run(run))
    finally:
        (part / MANIFEST).write_bytes(manifest)
        path.write_bytes(whole if name != MANIFEST else manifest)


def fuzz_manifests(folder: Path) -> Example:
    """The manifests of a run and of its influence."""
    runs = [FakeRun(kind, kind, **_SMALL).write(folder) for kind in ("text", "image")]

    def one(chance: random.Random) -> None:
        run = chance.choice(runs)
        part = chance.choice((run, run / "influence"))
        _spoiled_part(
            part,
            MANIFEST,
            (),
            lambda path: path.write_bytes(mutated_json(chance, path.read_bytes())) and None,
            run,
        )

    return one


def fuzz_tables(folder: Path) -> Example:
    """Items and curves of a run whose checksums hold; every other time as bytes that are no
    parquet.
    """
    runs = [FakeRun(kind, kind, **_SMALL).write(folder) for kind in ("text", "image")]

    def one(chance: random.Random) -> None:
        def spoil(path: Path) -> None:
            if chance.random() < 0.5:
                path.write_bytes(mutated_bytes(chance, path.read_bytes()))
            else:
                mutated_table(chance, pd.read_parquet(path)).to_parquet(path, index=False)

        run = chance.choice(runs)
        _spoiled_part(
            run, chance.choice(("items.parquet", "curves.parquet")), RUN_FILES, spoil, run
        )

    return one


def fuzz_arrays(folder: Path) -> Example:
    """Arrays of a run and of its influence whose checksums hold."""
    run = FakeRun("run", **_SMALL).write(folder)

    def one(chance: random.Random) -> None:
        def spoil(path: Path) -> None:
            if chance.random() < 0.4:
                path.write_bytes(mutated_bytes(chance, path.read_bytes()))
            else:
                np.save(path, mutated_array(chance, np.load(path)))

        part = chance.choice((run, run / "influence", run / "influence"))
        arrays = sorted(path.name for path in part.glob("*.npy"))
        _spoiled_part(
            part, chance.choice(arrays), RUN_FILES if part == run else tuple(arrays), spoil, run
        )

    return one


def fuzz_images(folder: Path) -> Example:
    """Image files, and images in the form of training images."""
    pixels = np.arange(24 * 20 * 3, dtype=np.uint8).reshape(24, 20, 3)
    whole = []
    for form in FORMATS:
        for shown in (
            Image.fromarray(pixels),
            Image.fromarray(pixels[..., 0]),
            Image.fromarray(pixels).convert("P"),
        ):
            written = io.BytesIO()
            with_palette = form in ("PNG", "BMP", "GIF", "TIFF")
            shown.convert(shown.mode if with_palette else "RGB").save(written, form)
            whole.append(written.getvalue())

    def one(chance: random.Random) -> None:
        colour = chance.random() < 0.5
        fitted = fit_image(
            open_image(mutated_bytes(chance, chance.choice(whole)), "image", colour), 8, 8
        )
        assert fitted.shape == ((8, 8, 3) if colour else (8, 8)) and fitted.dtype == np.uint8

    return one


def _flagged(folder: Path) -> Run:
    run = Run(FakeRun("run", **_SMALL).write(folder))
    Flags(run.folder).put_many([1, 2], "drop", note="why")
    Flags(run.folder).put(5, "relabel", run.classes[1 - int(run.train["label"].loc[5])])
    return run


def fuzz_patches(folder: Path) -> Example:
    """Patches, read and merged."""
    run = _flagged(folder)
    whole = export_flag_file(run).encode()

    def one(chance: random.Random) -> None:
        patch = read_flag_file(mutated_json(chance, whole), "patch.jsonl")
        Flags(folder / "copy").path.parent.mkdir(exist_ok=True)
        merge_flag_file(run, Flags(folder / "copy"), patch)
        shutil.rmtree(folder / "copy")

    return one


def fuzz_apply(folder: Path) -> Example:
    """Patches applied to data sets, either of them spoiled."""
    run = _flagged(folder)
    patch, data = (
        export_flag_file(run).encode(),
        run.train[["id", "text"]].assign(
            label=run.train["label"].map(dict(enumerate(run.classes)))
        ),
    )
    files = {
        ".csv": data.to_csv(index=False).encode(),
        ".jsonl": data.to_json(orient="records", lines=True).encode(),
    }
    files |= {
        ".tsv": data.to_csv(index=False, sep="\t").encode(),
        ".parquet": data.to_parquet(index=False),
    }

    def one(chance: random.Random) -> None:
        suffix, spoiled = chance.choice(list(files)), chance.randrange(2)
        place = folder / "work"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        source = place / f"data{suffix}"
        (place / "patch.jsonl").write_bytes(patch if spoiled else mutated_json(chance, patch))
        source.write_bytes(mutated_bytes(chance, files[suffix]) if spoiled else files[suffix])
        before = source.read_bytes()
        try:
            apply_flag_file(place / "patch.jsonl", str(source), place / f"out{suffix}")
        finally:
            assert source.read_bytes() == before

    return one


def spoilt_results(folder: Path) -> list[Path]:
    """Files of a run with what an evaluation and a cleansing came to, and the scores of another
    one: to be spoiled.
    """
    run = Run(folder)
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    row = {
        "method": "best",
        "train_seconds": 1.0,
        "estimate_seconds": 1.0,
        "figures": {"LDS": figure},
        "note": "",
    }
    keep_result(run, {"measure": "lds", "run": "run", "seconds": 1.0, "rows": [row]})
    models = [
        Retrained(name, seed, 0.5, 0.5 + seed, 0.5) for seed in (0, 1) for name in (NONE, RANDOM)
    ]
    facts = {"run": "run", "validation": "validation", "path": "", "shares": [0.1], "removed": [1]}
    facts |= {"removed_ids": ["t000"], "flags": None, "repeats": 2, "targets": 4, "measured_on": 5}
    rows = {"conditions": summarise(models), "models": models}
    told = {name: [asdict(row) for row in values] for name, values in rows.items()}
    keep_cleansing(run, {**facts, **told, "seconds": 1.0})
    keep_scores(run, "elec", Scores(np.ones((2, 12), np.float32), None, stored_estimator(run), 4))
    files = [*(run.folder / RESULTS).glob("*"), *(run.folder / CLEANSINGS).glob("*")]
    assert len(files) == 3 and not read_results(run).problems and not read_cleansings(run)[1]
    return files


def fuzz_results(folder: Path) -> Example:
    """What evaluations and cleansings came to, and the scores of a cleansing for other data."""
    run = Run(FakeRun("run", **_SMALL).write(folder))
    files = spoilt_results(run.folder)

    def one(chance: random.Random) -> None:
        path = chance.choice(files)
        whole = path.read_bytes()
        path.write_bytes(
            mutated_bytes(chance, whole) if path.suffix == ".npz" else mutated_json(chance, whole)
        )
        try:
            found, (cleansed, problems) = read_results(run), read_cleansings(run)
            assert len(found.found) + len(found.problems) == 1 == len(cleansed) + len(problems)
            _ = run_scores(run, "elec").estimates
        finally:
            path.write_bytes(whole)

    return one


def fuzz_jobs(folder: Path) -> Example:
    """Folders of jobs."""
    notes = {
        "outcome": {"results": [{"run": "x"}], "finished": False, "error": "broke"},
        "log": "said\n",
        "begun": True,
    }
    told = {"stage": "training", "done": 1, "total": 2, "unit": "epochs", "seconds_left": 1.0}
    job = fake_job(
        folder, [["train", "--data", "digits", "--run", "runs/x"]], progress=told, **notes
    )
    files = [path for path in job.iterdir() if path.stat().st_size]

    def one(chance: random.Random) -> None:
        path = chance.choice(files)
        whole = path.read_bytes()
        path.write_bytes(
            mutated_json(chance, whole) if path.name != "log" else mutated_bytes(chance, whole)
        )
        try:
            for found in find_jobs(folder):
                assert found.steps[0][0] is not None and log_tail(found) is not None
            _ = read_outcome(job)
        finally:
            path.write_bytes(whole)

    return one


def fuzz_flags(folder: Path) -> Example:
    """The file of flags."""
    run = _flagged(folder)
    whole = (run.folder / "flags.sqlite").read_bytes()

    def one(chance: random.Random) -> None:
        for path in run.folder.glob("flags.sqlite*"):
            path.unlink()
        (run.folder / "flags.sqlite").write_bytes(mutated_bytes(chance, whole))
        flags = Flags(run.folder)
        for look in (
            flags.current,
            flags.overview,
            lambda: flags.put(3, "drop"),
            lambda: export_csv(run),
            flags.undo,
        ):
            attempt(look)

    return one


def subjects() -> dict[str, Callable[[Path], Example]]:
    """All subjects by name."""
    from tests.nightly.soak.corpora import fuzz_data
    from tests.nightly.soak.pages import fuzz_pages

    own = (
        fuzz_manifests,
        fuzz_tables,
        fuzz_arrays,
        fuzz_data,
        fuzz_images,
        fuzz_patches,
        fuzz_apply,
        fuzz_results,
        fuzz_jobs,
        fuzz_flags,
        fuzz_pages,
    )
    return {one.__name__.removeprefix("fuzz_"): one for one in own}


def _peak_bytes() -> int:
    """The most memory that this process has had; a process's `ru_maxrss` begins with that of the
    one that started it.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(subject: str, examples: int, folder: Path, seed: int = 0) -> int:
    """Do some examples of a subject; how many were done.

    Raises:
        AssertionError: and whatever else a reader should not raise; what is printed before says
            which example it was.
    """
    folder.mkdir()
    one = subjects()[subject](folder)
    for ending in (signal.SIGPROF, signal.SIGALRM):
        faulthandler.register(ending, chain=True)  # says where, and lets the signal end the process
    for number in range(examples):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # whichever comes first
        signal.alarm(_WAIT)
        try:
            attempt(lambda number=number: one(random.Random(f"{seed} {subject} {number}")))  # type: ignore[misc]
        except BaseException:
            print(f"{subject}: example {number} of seed {seed}", flush=True)
            raise
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
    used = _peak_bytes()
    assert used < MEMORY, f"{subject}: {used:,} bytes of memory"
    return examples
