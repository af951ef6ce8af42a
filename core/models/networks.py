"""torchvision's classifiers by name, read from its source. No torch in here: pages offer them."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

_REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@cache
def torchvision_networks() -> tuple[str, ...]:
    """What `torchvision:NAME` can name, in the order of the alphabet; () where torchvision is missing."""
    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent / "models" if spec and spec.origin else Path()
    return tuple(sorted(name for file in folder.glob("*.py") if spec for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))))
