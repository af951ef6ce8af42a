"""The misclassified validation items of a run, each with the training items behind it."""

from __future__ import annotations

from typing import Any

from turnover.ranking import clearest_first, content_of, ranking_entries
from turnover.runs import Run


def list_errors(run: Run, top: int = 5) -> dict[str, Any]:
    """All errors of a run with their proponents and opponents, by influence on the prediction; clearest first.

    Raises:
        TurnoverError: if the run has no influence yet.
    """
    classes, part = run.classes, run.influence
    entries = []
    for position in clearest_first(run):
        item, ranked = run.item("validation", position), part.ranked(position, "prediction")
        entry = {
            "id": str(item["id"]),
            "label": classes[int(item["label"])],
            "predicted": classes[int(item["predicted"])],
            "probability": float(item[f"probability_{int(item['predicted'])}"]),
            "planted": str(item["planted"]),
        }
        entries.append(entry | content_of(run, position, "validation") | ranking_entries(run, ranked, top))
    return {"run": str(run.folder), "estimator": part.estimator, "meaning": "prediction", "errors": entries}
