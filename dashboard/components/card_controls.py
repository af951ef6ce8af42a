"""What can be done with a training item at the foot of its card: flag it, or open its own page."""

from __future__ import annotations

from core.flags import Flag
from core.report.explanation import Card
from core.runs import Run
from dashboard.components.flag_form import flag_control
from dashboard.components.links import training_link


def card_controls(run: Run, card: Card, flag: Flag | None) -> None:
    """The flag and the link of one card."""
    flag_control(run, card, flag)
    training_link(run, "Open", card.id)
