"""Of random training items, few are confirmed to have taught a mistake; of its teachers, many."""

from __future__ import annotations

import shutil
from pathlib import Path

from turnover import Run
from turnover.research.evaluate import proofs
from turnover.research.evaluate.scores import Options
from turnover.research.evaluate.task import EvaluationTask
from turnover.runs.proofs import CONFIRMED, read_proofs


def test_of_a_hundred_random_sets_at_most_six_are_confirmed(
    reviews_run: Path, tmp_path: Path
) -> None:
    run = Run(Path(shutil.copytree(reviews_run, tmp_path / "run")))
    result = proofs.measure(EvaluationTask.of(run, "cpu"), Options())
    rows = {row.method: row.figures for row in result["rows"]}
    assert rows[proofs.RANDOM]["claims"].value == proofs.PLACEBOS
    assert rows[proofs.RANDOM][CONFIRMED].value <= 0.06
    assert rows[proofs.WHY][CONFIRMED].value > 2 * rows[proofs.RANDOM][CONFIRMED].value
    assert len(read_proofs(run)[0]) == result["errors"] > 10
