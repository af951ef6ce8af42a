"""What the About page says: where the open run comes from, how to read an influence, and what it cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from turnover.runs import Run

HOW_TO_READ = (
    ("Positive, a proponent", "Learning the training item lowered the loss of the label in question: it helps that label."),
    ("Negative, an opponent", "Learning it raised that loss: it hurts the label."),
    (
        "Influence on the prediction",
        "The label in question is the one that the model chose. For an error, its proponents are the training items that taught the mistake.",
    ),
    ("Influence on the truth", "The label in question is the true one. For an error, its opponents stand in the way of the right answer."),
    ("Nats", "The unit of cross-entropy with natural logarithms. 0.69 nats double or halve the probability of the label."),
    (
        "± standard error",
        "Over members: models that differ in masks, initialisation and the order of the batches. It does not say how another data set would do.",
    ),
)
LIMITS = (
    "An influence compares two halves of one network: one learned the item, one did not. It is no proof of cause, and other items may teach the same.",
    "Sums over groups of items say more than single items, since noise averages out; the Trust page says which single items can be read.",
    "Items that stand in for each other have a small influence each, though all of them together may decide an answer.",
    "Removing what hurts a validation set changes the model for that set; whether it helps elsewhere is what the Cleanse page measures, beside random removal.",
    "What instances share in spite of their masks leaks between the two halves; the run's leaks are listed below.",
)


@dataclass(frozen=True)
class About:
    """Facts on the run as pairs of a name and a value, in groups with a heading; all values are text as files hold it."""

    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    data_report: tuple[str, ...] = ()
    """What a person should know of the data, in lines."""


def build_about(run: Run) -> About:
    """Where a run comes from, of what its manifests tell."""
    manifest = run.manifest
    chosen = {**manifest["settings"], **(manifest["settings"].get("own") or {}), "own": None}
    settings = {name: value for name, value in chosen.items() if value not in (None, "", False)}
    data = [("Name", manifest["data"].get("name")), ("Source", manifest["data"].get("source")), ("Fingerprint", manifest["data"].get("fingerprint"))]
    made = [("Created", manifest.get("created")), ("Device", manifest.get("device")), ("Leaks", ", ".join(manifest.get("leaks", ())))]
    groups = (
        ("Data", _told(data)),
        ("Settings", _told(sorted(settings.items()))),
        ("Recipe", _told(sorted(manifest["recipe"].items()))),
        ("Made", _told([*made, *((f"Seconds, {name}", seconds) for name, seconds in manifest.get("timings", {}).items())])),
        ("Versions", _told(manifest.get("versions", {}).items())),
        ("Files, SHA-256", _told((name, facts["sha256"]) for name, facts in manifest["files"].items())),
    )
    return About(tuple(group for group in groups if group[1]), tuple(map(str, manifest.get("data_report", ()))))


def _told(pairs: Any) -> tuple[tuple[str, str], ...]:
    """Names and values as text, without what is not known."""
    return tuple((str(name), str(value)) for name, value in pairs if value not in (None, ""))
