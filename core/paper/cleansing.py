"""Cleansing for another domain (section 4.4, Table 2): SST-2 cleansed for Elec, retrained without turn-over dropout.

Influences are averaged over 200 Elec validation reviews. The paper removes 1 %; here several fractions are tried, the one
with the least validation loss is chosen, and the Elec test reviews measure it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from turnover.cleansing.choose import CLEANSED, CONDITIONS, NONE, RANDOM
from turnover.paper.row import PaperRow
from turnover.paper.setup import Setup
from turnover.paper.side_effect import text_settings
from turnover.pipeline.cleanse import cleanse, prepare
from turnover.pipeline.influence import compute_influence
from turnover.pipeline.settings import TrainSettings
from turnover.runs import Run

_PAPER = {NONE: ("77.0 ± .9 %", ".536"), RANDOM: ("76.8 ± 1.1 %", ""), CLEANSED: ("78.3 ± .2 %", ".484")}
_FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2)
_REPEATS = 8


def cleansing(setup: Setup) -> Iterator[PaperRow]:
    """Accuracy and loss on Elec, mean ± standard deviation over seeds, at 1 % and at the fraction that validation chooses."""
    run = _run(setup)
    prepared = prepare(run, "elec", setup.folder("elec"), setup.device)
    tried = {fraction: cleanse(prepared, fraction, _REPEATS) for fraction in _FRACTIONS}
    best = min(tried, key=lambda fraction: _condition(tried[fraction], CLEANSED)["validation_loss"])
    model = f"heads on {setup.encoder_name}" if setup.scale == "small" else f"{setup.encoder_name} with adapters"
    for fraction in dict.fromkeys((_FRACTIONS[0], best)):
        chosen = ", chosen by validation loss" if fraction == best else ""
        for name in CONDITIONS:
            one = _condition(tried[fraction], name)
            paper_accuracy, paper_loss = _PAPER[name] if fraction == _FRACTIONS[0] else ("", "")
            setting = f"SST-2 to Elec, {model}, {fraction:.0%} removed{chosen}, {_REPEATS} seeds"
            yield PaperRow(f"{name}: accuracy", setting, paper_accuracy, f"{one['accuracy']:.1%} ± {one['accuracy_sd']:.1%}{_against(one, 'accuracy', '+.1%')}")
            yield PaperRow(f"{name}: loss", setting, paper_loss, f"{one['loss']:.3f} ± {one['loss_sd']:.3f}{_against(one, 'loss', '+.3f')}")


def _against(one: dict[str, Any], what: str, form: str) -> str:
    """How a condition compares with those before it, in brackets; with paired p-values."""
    parts = []
    for other in one["against"]:
        p_value = other[f"{what}_p"]
        parts.append(f"{other[what]:{form}} against {other['other']}" + ("" if p_value is None else f", paired p = {p_value:.2g}"))
    return f" ({'; '.join(parts)})" if parts else ""


def _condition(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in result["conditions"] if one["condition"] == name)


def _run(setup: Setup) -> Run:
    small = setup.scale == "small"
    settings = TrainSettings("sst2", path=setup.folder("sst2"), limit=5000, encoder=setup.text_encoder) if small else text_settings(setup, 20_000)
    run = setup.run("sst2-cleansing", settings)
    if not run.has_influence:
        compute_influence(run, "validation" if small else "errors", setup.device)
    return Run(run.folder)
