"""A run's mistakes, explained: influences on some of them, a page to look at, and what the explanations have in common."""

from __future__ import annotations

from collections.abc import Iterator

from turnover.paper.row import PaperRow
from turnover.paper.setup import Setup
from turnover.pipeline.influence import compute_influence
from turnover.ranking import TOP
from turnover.report.explanation import rounded
from turnover.report.facts import explained_pattern
from turnover.report.page import write_report
from turnover.runs import Run


def explain_mistakes(setup: Setup, run: Run, page: str, most: int) -> Iterator[PaperRow]:
    """Rows on the mistakes of a run; `page` is the file written beside the runs.

    Args:
        setup: where runs are kept, and the device.
        run: whose influences are computed on at most `most` mistakes, drawn at random, unless it has some.
        page: name of the file.
        most: 1 or more.

    Raises:
        TurnoverError: if the run makes no mistake.
    """
    if not run.has_influence:
        compute_influence(run, "errors", setup.device, most=most)
    run = Run(run.folder)
    written = write_report(run, setup.runs / page)
    results = run.manifest["results"]
    setting = f"{run.name}, N = {results['train_size']:,}, members: {results['members']}, estimator: {run.influence.estimator}"
    yield PaperRow("misclassified validation items", setting, "", f"{written['misclassified']:,} of {len(run.validation):,}")
    yield PaperRow("of them explained", setting, "", f"{written['explained']:,}")
    yield PaperRow("page", setting, "", written["report"])
    pattern = explained_pattern(run)
    if pattern is None:
        return
    error = "" if pattern.proponents_error is None else f" ± {pattern.proponents_error:.1%}"
    shares = f"{pattern.proponents:.1%}{error} (of all training items {pattern.chance:.1%})"
    yield PaperRow(f"{TOP} strongest proponents of the prediction that carry the predicted label", setting, "", shares)
    yield PaperRow(f"{TOP} strongest opponents that carry it", setting, "", f"{pattern.opponents:.1%}")
    yield PaperRow("influence of the strongest proponent, median", setting, "", f"{rounded(pattern.strongest)} nats")
    if pattern.spread is not None:
        yield PaperRow("influence of a training item, standard deviation, median", setting, "", f"{rounded(pattern.spread)} nats")
