"""Modules of the user's own as members of a run (`turnover.models.names` finds their code).

The function that `--model module:function` names is called as `function(classes, shape, seed)` and
returns a module with `TurnoverDropout` inside, which makes logits `(B, classes)` of a batch `(B,
*shape)`. Images come as float32 `(B, C, H, W)` in [-1, 1]; texts as features `(B, D)` of the frozen
encoder, or, where `function.reads = "tokens"`, as token ids `(B, T)`. Member k of a run with seed S
is built with seed S + k, and what the function draws at random is drawn from that seed.

What such a module's instances share is found by running it: a parameter leaks if some of its
numbers get a gradient under every one of 32 instances' masks; what a mask guards is on under all of
them with probability 2⁻³².
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Self

import torch
from torch import Tensor, nn

from turnover.attribution.dropout import TurnoverDropout, turnover_layers
from turnover.attribution.engine.naive import masks_of_training
from turnover.attribution.ensemble import Ensemble
from turnover.attribution.scope import MaskScope, entered, turnover
from turnover.attribution.state import check_savable
from turnover.errors import TurnoverError
from turnover.models.names import failing_in_one_line, load_function

TOKENS, FEATURES = "tokens", "features"
_MASKS, _ROWS = 32, 4
_MOST_NAMED = 12


class OwnMembers(Ensemble):
    """Modules of the user's own, or of torchvision, as one K-member model; `features` are what the
    last mask sees, mean over positions.

    Attributes:
        code: `module:function` whose modules these are, which errors name; "" if none of the code
            is the user's.
    """

    whole = True
    code = ""

    def of(self, models: Sequence[nn.Module]) -> Self:
        """The same code's, of other members."""
        made = super().of(models)
        made.code = self.code
        return made

    def failing(self) -> AbstractContextManager[None]:
        """Inside, an error of the user's own code becomes a `TurnoverError`, as in
        `failing_in_one_line`.
        """
        return failing_in_one_line(self.code) if self.code else super().failing()

    def features(self, x: Tensor) -> Tensor:
        """What each member's last mask sees of rows that all share: `(B, …)` → `(K, B, D)`."""
        with self.failing():
            return torch.stack([_last_masked(model, x) for model in self.models])

    def member_rows(self, x: Tensor) -> Tensor:
        """Logits `(K, B, classes)` of rows `(K, B, …)` of each member's own."""
        with self.failing():
            return super().member_rows(x)

    def find_leaks(self, inputs: Tensor, labels: Tensor) -> None:
        """Take as leaks what `found_leaks` tells of the first member."""
        with self.failing():
            self.leaks = found_leaks(self.models[0], inputs, labels)


def reading(model: str, checksum: str) -> str:
    """What a module for texts reads: `features` or `tokens`. Errors as `load_function`."""
    reads = getattr(load_function(model, checksum), "reads", FEATURES)
    if reads not in (FEATURES, TOKENS):
        raise TurnoverError(
            f"--model {model}: its function says that it reads {reads!r}; choose {FEATURES!r} or "
            f"{TOKENS!r}"
        )
    return str(reads)


def own_members(
    model: str,
    checksum: str,
    classes: int,
    shape: tuple[int, ...],
    *,
    members: int,
    seed: int,
    tokens: bool,
) -> OwnMembers:
    """K new modules of the user's own.

    Raises:
        TurnoverError: if the code may not be loaded or fails, gives no module with masks or other
            logits than `(B, classes)`, or two members share masks.
    """
    build = load_function(model, checksum)
    made = []
    for member in range(members):
        with failing_in_one_line(model), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + member)
            own = build(classes, shape, seed + member)
            _check(
                own,
                model,
                classes,
                torch.zeros(2, *shape, dtype=torch.int64 if tokens else torch.float32),
            )
        made.append(own)
    masks = [mask for own in made for mask in {layer._key() for layer in turnover_layers(own)}]
    if len(set(masks)) < len(masks):
        raise TurnoverError(
            f"--model {model}: two members would have the same masks; give TurnoverDropout the "
            "function's seed, seed=seed, or --members 1"
        )
    own_model = OwnMembers(made, classes, ())
    own_model.code = model
    return own_model


def _check(own: object, model: str, classes: int, rows: Tensor) -> None:
    """Run a new module on two rows, once plain and once under masks, which also numbers its mask
    layers.

    A module that cannot read the inputs as they come, but can in the type of its weights, reads
    them in that from now on.
    """
    if not isinstance(own, nn.Module):
        raise TurnoverError(
            f"--model {model}: the function returned a {type(own).__name__}; return a "
            "torch.nn.Module"
        )
    turnover_layers(own)
    own.eval()
    with torch.no_grad():
        try:
            plain = own(rows)
        except RuntimeError:
            if (
                (kind := _weights_type(own)) is None
                or not rows.is_floating_point()
                or kind == rows.dtype
            ):
                raise
            own.register_forward_pre_hook(_as_weights)
            plain = own(rows)
        with entered(MaskScope(torch.arange(2), False, expected=masks_of_training(own, rows))):
            masked = own(rows)
    check_savable(own, f"--model {model}")
    for made in (plain, masked):
        shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        if shape != (2, classes):
            raise TurnoverError(
                f"--model {model}: of inputs {tuple(rows.shape)} it makes {shape}; return logits of"
                f" shape (2, {classes}), one row an input"
            )


def _weights_type(module: nn.Module) -> torch.dtype | None:
    """The number type of a module's first weights that are not whole numbers."""
    return next((own.dtype for own in module.parameters() if own.is_floating_point()), None)


def _as_weights(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A module's inputs in the type of its weights."""
    return (inputs[0].to(_weights_type(module)), *inputs[1:])


def _last_masked(model: nn.Module, x: Tensor) -> Tensor:
    """Input of the last mask layer that runs, `(B, width)`, mean over positions."""
    seen: list[tuple[TurnoverDropout, Tensor]] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, TurnoverDropout)
        seen[:] = [(layer, inputs[0])]

    hooks = [layer.register_forward_pre_hook(keep) for layer in turnover_layers(model)]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    layer, hidden = seen[0]
    return hidden.movedim(layer.dim, -1).reshape(len(hidden), -1, layer.width).mean(1)


def found_leaks(model: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[str, ...]:
    """What instances share in spite of their masks, in words: parameters, by gradients on some
    rows, and the statistics of batch norms.
    """
    rows, right = inputs[:_ROWS], labels[:_ROWS]
    model.train()
    counted = [
        name
        for name, module in model.named_modules()
        if getattr(module, "track_running_stats", False) and module.training
    ]
    model.eval()
    trained = {name: own for name, own in model.named_parameters() if own.requires_grad}
    shared = {name: torch.ones_like(own, dtype=torch.bool) for name, own in trained.items()}
    for instance in range(_MASKS):
        with torch.enable_grad(), turnover([instance] * len(rows)):
            loss = nn.functional.cross_entropy(model(rows), right)
        for (name, _), gradient in zip(
            trained.items(),
            torch.autograd.grad(loss, list(trained.values()), allow_unused=True),
            strict=True,
        ):
            shared[name] &= torch.zeros_like(shared[name]) if gradient is None else gradient != 0
    leaking = [_share(name, part) for name, part in shared.items() if part.any()]
    return (
        *_few(leaking, "parameters"),
        *_few([f"the statistics of {name}" for name in counted], "statistics"),
    )


def _share(name: str, shared: Tensor) -> str:
    """A parameter's name, and how much of it leaks where that is not all of it."""
    part = math.floor(100 * float(shared.float().mean()))
    return name if part == 100 else f"{max(1, part)} % of {name}"


def _few(names: list[str], what: str) -> list[str]:
    """The first names, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return [*names[:_MOST_NAMED], *([f"{more} more {what}"] if more > 0 else [])]
