"""What several tests of the engine build: small models, naive re-implementations, runs, other
processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from turnover import Influence, TurnoverDropout, influence, turnover
from turnover.attribution.ensemble import MemberHead, MemberModel
from turnover.attribution.masks import MAX_ID
from turnover.models.registry import TrainSettings
from turnover.storage.artifacts import sha256
from turnover.workflows.train import train_run

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core"
WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
"""Environment of other processes, which must compute as this one does."""
ODD_IDS = [0, 1, 7, 10**8, 2**53 + 1, MAX_ID]
"""Small ids, and where floats and 32-bit words lose numbers."""
ALGEBRA, HALVES, SHARED, PLAIN = (
    "mask algebra: ",
    "sub-networks cut out",
    "shared prefix: ",
    "plain: ",
)
"""How the names of the engine's paths begin."""
LAW_4 = {torch.float64: 1e-9, torch.float32: 1e-4}
SMALL_RUN = {"data": "digits", "limit": 60, "members": 2, "groups": 16, "seed": 3}
"""Settings of a run that trains in three seconds."""


def run_python(code: str, *arguments: object) -> str:
    """Standard output of a fresh Python process that runs `code` from the repository's root; its
    failure is the test's.
    """
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


_KILLING = """
import sys
from pathlib import Path
from tests.helpers.killing import die
die(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
"""


def run_killed(
    code: str, folder: Path, start: str, count: int, seconds: float = 0.0, *more: object
) -> str | None:
    """Standard output of a process that runs `code` and kills itself at the count-th file operation
    or after some seconds; None if killed.

    Operations below `folder` count, from the first on a name that holds `start`; 0 means never.
    `code` may use `sys`, `Path` and `sys.argv`: the folder is the first argument, `more` begin with
    the fifth.
    """
    command = [
        sys.executable,
        "-c",
        _KILLING + code,
        *map(str, (folder, start, count, seconds, *more)),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout if done.returncode == 0 else None


def splitmix(word: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014) on Python integers."""
    word &= WORD - 1
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & WORD - 1
    word = (word ^ word >> 27) * 0x94D049BB133111EB & WORD - 1
    return word ^ word >> 31


def reference_mask(instance: int, units: int, on: int, *, seed: int, layer: int) -> list[bool]:
    """An instance's mask as `turnover.attribution.masks` describes it, in exact integers, one unit
    at a time.
    """
    place = splitmix(splitmix(seed + GOLDEN) ^ splitmix(layer + 2 * GOLDEN))
    row = splitmix(splitmix(instance + GOLDEN) ^ place)
    keys = []
    for unit in range(units):
        key = splitmix(row + (unit + 1) * GOLDEN)
        signed = key - WORD if key >= WORD // 2 else key
        keys.append((signed >> 20, unit))
    return [key in sorted(keys)[:on] for key in keys]


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64, the same for the same seed."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def some_labels(rows: int, classes: int, seed: int = 0) -> Tensor:
    """Class numbers, the same for the same seed."""
    return torch.randint(0, classes, (rows,), generator=torch.Generator().manual_seed(seed))


def sequential_net(
    width: int = 6, hidden: int = 8, classes: int = 3, *, groups: int | None = None, seed: int = 0
) -> nn.Sequential:
    """A classifier of our user's kind: masks on the input and on the hidden layer, float64."""
    torch.manual_seed(seed)
    masks = [
        TurnoverDropout(wide, groups=groups, seed=seed + 11, layer=number)
        for number, wide in enumerate((width, hidden))
    ]
    return nn.Sequential(
        masks[0], nn.Linear(width, hidden), nn.ReLU(), masks[1], nn.Linear(hidden, classes)
    ).double()


class SmallCnn(nn.Module):
    """Convolutions with batch norm and channel masks (4-D activations), then a masked linear layer;
    one logit or several.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(
                nn.Conv2d(1, 8, 3, padding=1),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                TurnoverDropout(8, groups=4, dim=1, layer=0, seed=5),
            ),
            *(
                nn.Conv2d(8, 6, 3, padding=1),
                nn.BatchNorm2d(6),
                nn.ReLU(),
                TurnoverDropout(6, dim=1, layer=1, seed=5),
            ),
        )
        self.out = nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.out(self.body(images).mean((2, 3)))
        return logits


def small_cnn(classes: int, seed: int = 0) -> SmallCnn:
    """A `SmallCnn` in float64 with batch norms as after training, in evaluation mode."""
    torch.manual_seed(seed)
    model = SmallCnn(classes).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, dtype=torch.float64)
            module.running_var = torch.rand(module.num_features, dtype=torch.float64) + 0.5
    return model.eval()


def member_heads(
    width: int = 8,
    hidden: int = 12,
    classes: int = 3,
    *,
    members: int = 3,
    groups: int | None = None,
    masks: int | None = None,
    seed: int = 0,
) -> MemberModel:
    """K small turn-over heads on frozen features, float64, with biases that are not zero."""
    head = MemberHead(
        width, hidden, classes, groups=groups, masks=masks, seed=seed, members=members
    )
    return shaken(MemberModel(nn.Identity(), head, ("the output bias",)).double(), seed)


def shaken(model: MemberModel, seed: int) -> MemberModel:
    """The model with random biases in place of its zeros."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data = torch.randn(
                parameter.shape, generator=generator, dtype=parameter.dtype
            )
    return model


def rows(inputs: Tensor | Mapping[str, Tensor], start: int, stop: int) -> Any:
    """Rows of a batch, one tensor or several by name."""
    return (
        inputs[start:stop]
        if isinstance(inputs, Tensor)
        else {name: value[start:stop] for name, value in inputs.items()}
    )


def logits_of(model: nn.Module, inputs: Any) -> Tensor:
    """Logits of any model, `(K, rows, …)`; one that is not ours counts as one member."""
    output = model(inputs) if isinstance(inputs, Tensor) else model(**inputs).logits
    return output if isinstance(model, MemberModel) else output[None]


def naive_influence(
    model: nn.Module,
    inputs: Tensor | Mapping[str, Tensor],
    labels: Tensor,
    ids: list[int],
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Equation (2) of the paper as written: for each pair two forward passes of one row; `(K,
    targets, N)`.
    """
    measure = loss or (
        lambda logits, label: nn.functional.cross_entropy(logits, label, reduction="none")
    )
    columns = []
    with torch.no_grad():
        for target in range(len(labels)):
            row, label = rows(inputs, target, target + 1), labels[target : target + 1]
            for instance in ids:
                losses = {}
                for flipped in (False, True):
                    with turnover([instance], flipped=flipped):
                        losses[flipped] = torch.stack(
                            [measure(own, label)[0] for own in logits_of(model, row)]
                        )
                columns.append(losses[True] - losses[False])
    return torch.stack(columns, -1).view(-1, len(labels), len(ids))


def check_law_4(
    model: nn.Module,
    inputs: Tensor | Mapping[str, Tensor],
    labels: Tensor,
    path: str,
    ids: Sequence[int] = ODD_IDS,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    **options: Any,
) -> Influence:
    """`influence` takes the path whose name begins so, and gives the naive loop's values, which are
    not zero.
    """
    expected = naive_influence(model, inputs, labels, list(ids), loss)
    made = influence(model, inputs, labels, ids, loss, **options)
    assert made.backend.startswith(path), made.backend
    torch.testing.assert_close(made.values, expected, rtol=0, atol=LAW_4[expected.dtype])
    assert expected.abs().max() > 1e-3
    return made


class Net(nn.Module):
    """Layers `first`, `mask`, `hidden`, `late_mask` and `out` of widths 6, 8, 8 and 3 in float64,
    put together by a function of one's own.
    """

    def __init__(self, run: Callable[[Net, Any], Any], **masks: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.run = run
        self.first, self.hidden, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.mask, self.late_mask = (
            TurnoverDropout(8, seed=5, layer=number, **masks) for number in (0, 1)
        )
        self.double().eval()

    def forward(self, x: Any) -> Any:
        return self.run(self, x)

    def tail(self, features: Tensor) -> Tensor:
        """All from the first mask on."""
        logits: Tensor = self.out(self.late_mask(torch.relu(self.hidden(self.mask(features)))))
        return logits


def small_chain(classes: int = 3) -> nn.Sequential:
    """A linear layer before the first mask, then those of `sequential_net`."""
    tail = sequential_net(classes=classes)
    return nn.Sequential(nn.Linear(6, 6), *tail).double()


def a_case(kind: str) -> tuple[nn.Module, Tensor, Tensor, str]:
    """A model with targets, labels and the path that it takes: one case for every way in which the
    engine computes.
    """
    if kind == "groups":
        return member_heads(groups=4), randn(7, 8), some_labels(7, 3), ALGEBRA
    if kind in ("products", "submatrices"):  # these differ by the number of targets
        rows = 5 if kind == "products" else 30
        return member_heads(64, 80, members=2), randn(rows, 64), some_labels(rows, 3), ALGEBRA
    if kind == "chain":
        return small_chain(), randn(18, 6), some_labels(18, 3), HALVES
    if kind == "prefix":
        return small_cnn(3), randn(4, 1, 6, 6), some_labels(4, 3), SHARED
    row_by_row = Net(lambda net, x: net.tail(net.first(torch.stack([2 * row for row in x]))))
    return row_by_row, randn(5, 6), some_labels(5, 3), PLAIN


KINDS = ("groups", "products", "submatrices", "chain", "prefix", "plain")


def train_digits(folder: Path, **changes: Any) -> Path:
    """Train the small run, with other settings where named, and return its folder."""
    train_run(TrainSettings.of(**{**SMALL_RUN, **changes}), folder, "cpu")
    return folder


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def checksums(run: Path) -> dict[str, str]:
    """SHA-256 of each file that a run's manifest lists."""
    return {
        name: sha256(run / name)
        for name in json.loads((run / "manifest.json").read_text(encoding="utf-8"))["files"]
    }


def failing_after(calls: int, real: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """The function, failing from its calls-th call on."""
    count = [0]

    def function(*arguments: Any, **options: Any) -> Any:
        count[0] += 1
        if count[0] >= calls:
            raise error
        return real(*arguments, **options)

    return function
