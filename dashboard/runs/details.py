"""The Details tab of the Runs page: where a run comes from, and what influences cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from turnover.dashboard.shared.notice import bullets, heading, quiet
from turnover.dashboard.state import current_run
from turnover.explain.facts import run_facts
from turnover.explain.html import safe
from turnover.runs.run import Run

LIMITS = (
    (
        "An influence compares two halves of one network: one learned the item, one did not. It is "
        "no proof of cause, and other items may teach the same."
    ),
    (
        "Sums over groups of items say more than single items, since noise averages out; the Trust "
        "tab says which single items can be read."
    ),
    (
        "Items that stand in for each other have a small influence each, though all of them "
        "together may decide an answer."
    ),
    (
        "Removing what hurts a validation set changes the model for that set; whether it helps "
        "elsewhere is what the Cleanse page measures, beside random removal."
    ),
    (
        "What instances share in spite of their masks leaks between the two halves; the run's leaks"
        " are listed above."
    ),
)


@dataclass(frozen=True)
class Details:
    """Facts about the run: groups with a heading, of pairs of a name and a value as text."""

    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    data_report: tuple[str, ...] = ()
    """Remarks on the data, one per line."""


def build_details(run: Run) -> Details:
    """The provenance of a run, from its manifests."""
    manifest = run.manifest
    chosen = {**manifest["settings"], **(manifest["settings"].get("own") or {}), "own": None}
    settings = {name: value for name, value in chosen.items() if value not in (None, "", False)}
    data = [
        ("Name", manifest["data"].get("name")),
        ("Source", manifest["data"].get("source")),
        ("Fingerprint", manifest["data"].get("fingerprint")),
    ]
    creation = [
        ("Created", manifest.get("created")),
        ("Device", manifest.get("device")),
        ("Leaks", ", ".join(manifest.get("leaks", ()))),
        ("Masks that items share", manifest.get("masks")),
    ]
    groups = (
        ("Data", _known(data)),
        ("Settings", _known(sorted(settings.items()))),
        ("Recipe", _known(sorted(manifest["recipe"].items()))),
        (
            "Made",
            _known(
                [
                    *creation,
                    *(
                        (f"Seconds, {name}", seconds)
                        for name, seconds in manifest.get("timings", {}).items()
                    ),
                ]
            ),
        ),
        ("Versions", _known(manifest.get("versions", {}).items())),
    )
    return Details(
        tuple(group for group in groups if group[1]),
        tuple(map(str, manifest.get("data_report", ()))),
    )


def _known(pairs: Any) -> tuple[tuple[str, str], ...]:
    """Names and values as text, without unknown values."""
    return tuple((str(name), str(value)) for name, value in pairs if value not in (None, ""))


def show_details() -> None:
    """Facts of the run, the report on its data, and its limits; all settings on demand."""
    opened = current_run()
    details = build_details(opened.run)
    facts = run_facts(opened.run, with_influence=not opened.influence_problem)
    rows = "".join(f"<div><dt>{safe(k)}</dt><dd>{safe(v)}</dd></div>" for k, v in facts.items())
    st.html(f'<dl class="to-about">{rows}</dl>')
    if details.data_report:
        heading("What its data are like")
        bullets(details.data_report)
    heading("What it cannot tell")
    bullets(LIMITS[2:-1] if opened.run.scored else LIMITS)  # the others are of masks and noise
    with st.expander("All settings, recipe and versions"):
        for name, pairs in details.groups:
            rows = "".join(f"<dt>{safe(fact)}</dt><dd>{safe(value)}</dd>" for fact, value in pairs)
            st.html(f'<h3 class="to-side">{name}</h3><dl class="to-pairs">{rows}</dl>')
    quiet(f"In the folder {opened.run.folder}.")
