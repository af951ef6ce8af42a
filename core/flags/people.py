"""Who decides: the name that TURNOVER_USER gives, else the name of the account that runs the program."""

from __future__ import annotations

import getpass
import os

from turnover.flags.decision import clean_name

VARIABLE = "TURNOVER_USER"


def user_name() -> str:
    """The name under which decisions are kept where nobody gives another."""
    return clean_name(os.environ.get(VARIABLE, "")) or clean_name(_account()) or "unknown"


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
