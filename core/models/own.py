"""The user's own modules as members of a run (`turnover.models.names` loads their code).

The function that `--model module:function` names is called as `function(classes, shape, seed)` and
returns a module with `TurnoverDropout` inside, which maps a batch `(B, *shape)` to logits `(B,
classes)`. Images are float32 `(B, C, H, W)` in [-1, 1]; texts are features `(B, D)` of the frozen
encoder, or, where `function.reads = "tokens"`, token ids `(B, T)`. Member k of a run with seed S is
built with seed S + k, which also seeds what the function draws at random.

What all instances share in such a module is found by running it: a parameter leaks if some of its
elements get a gradient under the masks of each of 32 instances; what a mask guards is on under all
of them with probability 2⁻³².
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Self

import torch
from torch import Tensor, nn

from turnover.attribution.dropout import TurnoverDropout, turnover_layers
from turnover.attribution.engine.naive import logits_of, masks_of_training, weights_type
from turnover.attribution.ensemble import Ensemble
from turnover.attribution.norms import moving_norms, split_norms, two_sets
from turnover.attribution.scope import MaskScope, entered, turnover
from turnover.attribution.state import check_savable
from turnover.errors import TurnoverError
from turnover.models.family import FEATURES, TOKENS
from turnover.models.names import failing_in_one_line, load_function

_MASKS, _ROWS = 32, 4
_MOST_NAMED = 12


class OwnMembers(Ensemble):
    """Modules of the user's own, or of torchvision, as one K-member model; `features` are the
    inputs of the last mask, mean over positions.

    Attributes:
        code: `module:function` that built these modules, for errors; "" if none of the code is the
            user's.
    """

    whole = True
    code = ""

    def of(self, models: Sequence[nn.Module]) -> Self:
        """The same kind of model with other members."""
        ensemble = super().of(models)
        ensemble.code = self.code
        return ensemble

    def failing(self) -> AbstractContextManager[None]:
        """Inside, an error in the user's own code becomes a `TurnoverError`, as in
        `failing_in_one_line`.
        """
        return failing_in_one_line(self.code) if self.code else super().failing()

    def features(self, x: Tensor) -> Tensor:
        """The last mask's inputs for rows that all members share: `(B, …)` → `(K, B, D)`."""
        with self.failing():
            return torch.stack([_last_masked(model, x) for model in self.models])

    def member_rows(self, x: Tensor) -> Tensor:
        """Logits `(K, B, classes)` of rows `(K, B, …)` of each member's own."""
        with self.failing():
            return super().member_rows(x)

    def find_leaks(self, inputs: Tensor, labels: Tensor) -> None:
        """Set the leaks to those of the first member, by `found_leaks`."""
        with self.failing():
            self.leaks = found_leaks(self.models[0], inputs, labels)


def reading(model: str, checksum: str) -> str:
    """The input of a module for texts: `features` or `tokens`. Errors as `load_function`."""
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
        TurnoverError: if the code may not be loaded or fails, returns no module with masks or other
            logits than `(B, classes)`, or two members share masks.
    """
    build = load_function(model, checksum)
    modules = []
    for member in range(members):
        with failing_in_one_line(model), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + member)
            module = build(classes, shape, seed + member)
            _check(
                module,
                model,
                classes,
                torch.zeros(2, *shape, dtype=torch.int64 if tokens else torch.float32),
            )
        modules.append(module)
    masks = [
        mask for module in modules for mask in {layer._key() for layer in turnover_layers(module)}
    ]
    if len(set(masks)) < len(masks):
        raise TurnoverError(
            f"--model {model}: two members would have the same masks; give TurnoverDropout the "
            "function's seed, seed=seed, or --members 1"
        )
    ensemble = OwnMembers(modules, classes, ())
    ensemble.code = model
    return ensemble


def _check(module: object, model: str, classes: int, rows: Tensor) -> None:
    """Run a new module on two rows, once plain and once under masks, which also numbers its mask
    layers.

    A module that cannot read the inputs as they are, but can in the number type of its weights,
    gets them in that type from then on; one that returns more than logits returns these alone.
    """
    if not isinstance(module, nn.Module):
        raise TurnoverError(
            f"--model {model}: the function returned a {type(module).__name__}; return a "
            "torch.nn.Module"
        )
    turnover_layers(module)
    module.eval()
    with torch.no_grad():
        try:
            plain = module(rows)
        except RuntimeError:
            if (
                (kind := weights_type(module)) is None
                or not rows.is_floating_point()
                or kind == rows.dtype
            ):
                raise
            module.register_forward_pre_hook(_as_weights)
            plain = module(rows)
        if not isinstance(plain, Tensor):
            plain = logits_of(plain)
            module.register_forward_hook(_only_logits)
        with entered(MaskScope(torch.arange(2), False, expected=masks_of_training(module, rows))):
            masked = module(rows)
    split_norms(module)
    check_savable(module, f"--model {model}")
    for logits in (plain, masked):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if shape != (2, classes):
            raise TurnoverError(
                f"--model {model}: of inputs {tuple(rows.shape)} it makes {shape}; return logits of"
                f" shape (2, {classes}), one row an input"
            )


def _as_weights(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A module's inputs in the type of its weights."""
    return (inputs[0].to(weights_type(module)), *inputs[1:])


def _only_logits(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> Tensor:
    """Of a module that returns more than its logits."""
    return logits_of(output)


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
    """What instances share in spite of their masks, in words: parameters, from gradients on some
    rows, and the statistics of batch norms.
    """
    rows, right = inputs[:_ROWS], labels[:_ROWS]
    counted = [
        f"the statistics of {name}{' under masks and without' if two_sets(norm) else ''}"
        for name, norm in moving_norms(model).items()
    ]
    trained = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    shared = {
        name: torch.ones_like(parameter, dtype=torch.bool) for name, parameter in trained.items()
    }
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
        *_first_names(leaking, "parameters"),
        *_first_names(counted, "statistics"),
    )


def _share(name: str, shared: Tensor) -> str:
    """A parameter's name, with the share of it that leaks if that is not all of it."""
    part = math.floor(100 * float(shared.float().mean()))
    return name if part == 100 else f"{max(1, part)} % of {name}"


def _first_names(names: list[str], what: str) -> list[str]:
    """The first names, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return [*names[:_MOST_NAMED], *([f"{more} more {what}"] if more > 0 else [])]
