"""The bare wheel: masks and influence, without what the extras bring."""

import importlib.util
from pathlib import Path

import torch

import turnover

assert Path(turnover.__file__).parent.parent.name == "site-packages", turnover.__file__
assert not any(
    importlib.util.find_spec(name) for name in ("core", "dashboard", "transformers", "streamlit")
)
model = torch.nn.Sequential(
    torch.nn.Linear(4, 8), torch.nn.ReLU(), turnover.TurnoverDropout(8), torch.nn.Linear(8, 3)
)
inputs, labels = torch.randn(20, 4), torch.randint(3, (20,))
with turnover.turnover(range(20)):
    torch.nn.functional.cross_entropy(model(inputs), labels).backward()
made = turnover.influence(model, inputs[:5], labels[:5], range(20))
assert made.values.shape == (1, 5, 20) and made.values.isfinite().all()
print(
    f"wheel: turnover {turnover.__version__} imported from site-packages, influences of "
    f"{made.values.shape[2]} instances on {made.values.shape[1]} targets"
)
