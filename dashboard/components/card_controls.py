"""What can be done with a training item at the foot of its card: flag it, or open its own page."""

from __future__ import annotations

from turnover.dashboard.components.flag_form import flag_control
from turnover.dashboard.components.links import training_link
from turnover.flags import Flag
from turnover.report.explanation import Card
from turnover.runs import Run


def card_controls(run: Run, card: Card, flag: Flag | None) -> None:
    """The flag and the link of one card."""
    flag_control(run, card, flag)
    training_link(run, "Open", card.id)
