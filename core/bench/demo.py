"""The two demo runs: time to build, planted answers found, time to explain a new text."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from turnover.bench.row import Row
from turnover.bench.timing import interleaved_medians
from turnover.errors import TurnoverError
from turnover.fidelity.planted import cue_lift, influence_scores, wrong_label_auc
from turnover.pipeline.demo import DATA, build_demo, demo_folder
from turnover.pipeline.explain import Explainer
from turnover.rivals.similarity import signed_similarity
from turnover.runs import Run

_QUESTION = "Ansgar Pellworth has made a warm and funny film, and the cast is lovely."
_QUESTIONS = 5


def measure_demo() -> Iterator[Row]:
    """Build both demo runs in a folder of their own and measure them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.perf_counter()
        for data in DATA:
            build_demo(folder, data)
        yield Row("demo runs", "both built", time.perf_counter() - begun, "s", "<= 120")
        digits, reviews = (Run(demo_folder(folder, data)) for data in DATA)
        yield from _accuracies(digits)
        yield Row("demo-digits", "AUC of self-influence, planted labels", wrong_label_auc(digits), "", ">= .99")
        yield from _accuracies(reviews)
        yield Row("demo-reviews", "AUC of self-influence, planted labels", wrong_label_auc(reviews), "")
        yield from _cues(reviews)
        yield from _explain(reviews)


def _accuracies(run: Run) -> Iterator[Row]:
    for measure in ("validation_accuracy", "plain_accuracy"):
        yield Row(run.name, measure.replace("_", " "), run.manifest["results"][measure], "")


def _cues(run: Run) -> Iterator[Row]:
    """Lift of the planted texts by influence, and by cosine similarity."""
    errors = run.errors
    features, labels = run.features("train"), run.train["label"].to_numpy()
    targets = run.features("validation")[errors]
    similar = {
        error: signed_similarity(target, features, labels, run.item("validation", error)["predicted"]) for error, target in zip(errors, targets, strict=True)
    }
    for mark in sorted(set(run.validation["planted"]) - {""}):
        for method, scores, goal in (("influence", influence_scores(run), ">= 3"), ("cosine similarity", similar, "")):
            try:
                lift = cue_lift(run, mark, scores)
            except TurnoverError:
                continue
            yield Row(run.name, f"{mark} ({lift.errors} errors): lift in the top 10, {method}", lift.lift, "x chance", goal)
            yield Row(run.name, f"{mark}: 95 % from, {method}", lift.low, "x chance")
            yield Row(run.name, f"{mark}: 95 % to, {method}", lift.high, "x chance")


def _explain(run: Run) -> Iterator[Row]:
    explainer = Explainer(run)
    explainer.warm_up()
    seconds = interleaved_medians({"explain": lambda: explainer.explain_text(_QUESTION)}, _QUESTIONS, explainer.device)
    yield Row(run.name, "explain a new text, model loaded (median)", seconds["explain"], "s", "< 1")
