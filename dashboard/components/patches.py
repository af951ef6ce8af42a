"""An image under a grid of its patches."""

from __future__ import annotations

from collections.abc import Sequence

from turnover.dashboard.views.edits import GRID


def patches_html(image: str, pixels: int, values: Sequence[float]) -> str:
    """The HTML of an image, so many pixels wide, with a colour over each patch: blue for values above 0, orange below, the largest the fullest.

    Colours are for the eye alone: the image's own alternative text, or a list beside it, has to say the same.
    """
    largest = max(map(abs, values), default=0.0) or 1.0
    cells = "".join(f'<i class="to-{"for" if value > 0 else "against"}" style="opacity:{0.75 * abs(value) / largest:.2f}"></i>' for value in values)
    return f'<div class="to-map" style="width:{pixels}px">{image}<div style="--cells:{GRID}" aria-hidden="true">{cells}</div></div>'
