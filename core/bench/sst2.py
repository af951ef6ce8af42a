"""SST-2, 5,000 sentences with 10 % wrong labels, 16 members: time, accuracy and planted labels found."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from turnover.bench.row import Row
from turnover.fidelity.planted import wrong_label_auc
from turnover.pipeline.influence import compute_influence
from turnover.pipeline.settings import TrainSettings
from turnover.pipeline.train import train_run
from turnover.runs import Run


def measure_sst2(folder: Path) -> Iterator[Row]:
    """Train with and without label noise from the files in `folder`, and compute all influences of the noisy run."""
    for case, noise in (("SST-2 5,000", 0.0), ("SST-2 5,000, 10 % noise", 0.1)):
        with tempfile.TemporaryDirectory() as name:
            run_folder = Path(name) / "sst2"
            results = train_run(TrainSettings("sst2", path=str(folder), limit=5000, label_noise=noise), run_folder)
            run = Run(run_folder)
            for part, goal in (("features", ""), ("training", "<= 60"), ("twin", "")):
                yield Row(case, f"{part}", run.manifest["timings"][part], "s", goal)
            yield Row(case, "validation accuracy", results["validation_accuracy"], "", "plain - .01")
            yield Row(case, "plain accuracy", results["plain_accuracy"], "")
            if noise:
                computed = compute_influence(run)
                yield Row(case, f"influence of {computed['targets']} targets", computed["seconds"], "s", "<= 60")
                yield Row(case, "pairs a second", computed["pairs_per_second"], "1/s")
                yield Row(case, "AUC of self-influence, planted labels", wrong_label_auc(run), "", ">= .86")
