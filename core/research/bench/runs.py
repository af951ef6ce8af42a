"""Measurements behind docs/results.md: `bench demo`, `bench masks` and `bench sst2`.

- demo: the two demo runs; time to build, injected answers found, time to explain a new text.
- masks: masks hashed when needed against masks stored; units per second and bytes.
- sst2: 5,000 sentences with 10 % wrong labels, 16 members; time, accuracy, injected labels found.

A measurement yields `BenchRow`s; `turnover bench NAME` prints them as a table or as JSON. Times are
of this machine and this moment; what is compared is compared within one run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from turnover.attribution.masks import instance_masks
from turnover.errors import TurnoverError
from turnover.models.registry import TrainSettings
from turnover.research.baselines.simple import signed_similarity
from turnover.research.bench.random_run import BenchRow
from turnover.research.bench.timing import interleaved_medians
from turnover.research.evaluate.labels import cue_lift, influence_scores, wrong_label_auc
from turnover.runs.run import Run
from turnover.workflows.demo import DATA, build_demo, demo_folder
from turnover.workflows.explain import Explainer
from turnover.workflows.influence import compute_influence
from turnover.workflows.train import train_run

# The demo runs

_QUESTION = "Ansgar Pellworth has made a warm and funny film, and the cast is lovely."
_QUESTIONS = 5
_AREA = "AUC of self-influence, injected labels"


def measure_demo() -> Iterator[BenchRow]:
    """Build both demo runs in a folder of their own and measure them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.perf_counter()
        for data in DATA:
            build_demo(folder, data)
        yield BenchRow("demo runs", "both built", time.perf_counter() - begun, "s", "<= 120")
        digits, reviews = (Run(demo_folder(folder, data)) for data in DATA)
        for run, goal in ((digits, ">= .99"), (reviews, "")):
            yield from _accuracies(run, run.name)
            yield BenchRow(run.name, _AREA, wrong_label_auc(run), "", goal)
        yield from _cues(reviews)
        yield from _explain(reviews)


def _accuracies(run: Run, case: str, goal: str = "") -> Iterator[BenchRow]:
    results = run.manifest["results"]
    yield BenchRow(case, "validation accuracy", results["validation_accuracy"], "", goal)
    yield BenchRow(case, "plain accuracy", results["plain_accuracy"], "")


def _cues(run: Run) -> Iterator[BenchRow]:
    """Lift of the injected texts by influence, and by cosine similarity."""
    errors = run.misclassified_positions
    similar = signed_similarity(
        run.features("validation")[errors],
        run.validation["predicted"].loc[errors].to_numpy(),
        run.features("train"),
        run.train["label"].to_numpy(),
    )
    for mark in sorted(set(run.validation["planted"]) - {""}):
        for method, scores, goal in (
            ("influence", influence_scores(run), ">= 3"),
            ("cosine similarity", dict(zip(errors, similar, strict=True)), ""),
        ):
            try:
                errors_marked, lift = cue_lift(run, mark, scores)
            except TurnoverError:
                continue
            yield BenchRow(
                run.name,
                f"{mark} ({errors_marked} errors): lift in the top 10, {method}",
                lift.value,
                "x chance",
                goal,
            )
            for end, bound in (("from", lift.low), ("to", lift.high)):
                yield BenchRow(run.name, f"{mark}: 95 % {end}, {method}", bound or 0.0, "x chance")


def _explain(run: Run) -> Iterator[BenchRow]:
    explainer = Explainer(run)
    explainer.warm_up()
    works = {"explain": lambda: explainer.explain_text(_QUESTION)}
    seconds = interleaved_medians(works, _QUESTIONS, explainer.device)["explain"]
    yield BenchRow(run.name, "explain a new text, model loaded (median)", seconds, "s", "< 1")


# Masks

_INSTANCES, _UNITS, _BATCH, _REPEATS = 20_000, 384, 256, 5


def measure_masks() -> Iterator[BenchRow]:
    """Hashing against looking up, on the CPU and, where there is one, on CUDA."""
    for name in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        device = torch.device(name)
        ids = torch.randperm(_INSTANCES, device=device)
        batches = ids.split(_BATCH)
        stored = instance_masks(
            torch.arange(_INSTANCES, device=device), _UNITS, _UNITS // 2, seed=0, layer=0
        )

        def hashed(batches: tuple[torch.Tensor, ...] = batches) -> None:
            for batch in batches:
                instance_masks(batch, _UNITS, _UNITS // 2, seed=0, layer=0)

        def looked_up(
            batches: tuple[torch.Tensor, ...] = batches, stored: torch.Tensor = stored
        ) -> None:
            for batch in batches:
                stored[batch]

        case, works = f"masks, {name}", {"hashed": hashed, "stored, looked up": looked_up}
        for measure, seconds in interleaved_medians(works, _REPEATS, device).items():
            rate = _INSTANCES * _UNITS / seconds
            yield BenchRow(case, f"{measure}: units a second", rate, "1/s")
        what = f"memory to store {_INSTANCES:,} x {_UNITS} (hashed: 0)"
        yield BenchRow(case, what, stored.numel() / 2**20, "MB")


# SST-2


def measure_sst2(folder: Path) -> Iterator[BenchRow]:
    """Train with and without label noise from the files in `folder`, and compute all influences of
    the noisy run.
    """
    for case, noise in (("SST-2 5,000", 0.0), ("SST-2 5,000, 10 % noise", 0.1)):
        with tempfile.TemporaryDirectory() as name:
            run_folder = Path(name) / "sst2"
            train_run(
                TrainSettings("sst2", path=str(folder), limit=5000, label_noise=noise), run_folder
            )
            run = Run(run_folder)
            for part, goal in (("features", ""), ("training", "<= 60"), ("twin", "")):
                yield BenchRow(case, part, run.manifest["timings"][part], "s", goal)
            yield from _accuracies(run, case, "plain - .01")
            if noise:
                computed = compute_influence(run)
                what = f"influence of {computed['targets']} targets"
                yield BenchRow(case, what, computed["seconds"], "s", "<= 60")
                yield BenchRow(case, "pairs a second", computed["pairs_per_second"], "1/s")
                yield BenchRow(case, _AREA, wrong_label_auc(run), "", ">= .86")
