"""Register a model with turn-over dropout that was trained elsewhere as a run.

The model must have been trained with masks of its own (`turnover.turnover(ids)`), where the id of a
training item is its position in the data, 0 … N − 1, and on the inputs that a run gives it
(`turnover.models.own`). Its curves hold one epoch, with the losses measured now. Its plain twin is
unknown.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from turnover.attribution.device import choose_device, placed
from turnover.attribution.dropout import turnover_layers
from turnover.attribution.engine.naive import masks_of_training
from turnover.attribution.ensemble import shared_masks
from turnover.attribution.norms import with_both_sets
from turnover.attribution.state import tied_names
from turnover.data.base import Dataset, check_dataset
from turnover.errors import TurnoverError
from turnover.models.encoders import DEFAULT_ENCODER
from turnover.models.family import TOKENS
from turnover.models.names import allow
from turnover.models.own import OwnMembers
from turnover.models.registry import TrainSettings, find_family
from turnover.runs.plan import TrainingPlan, has_checkpoint, open_partial, plan_run
from turnover.runs.run import Run
from turnover.runs.write import results_of, write_run
from turnover.storage.atomic import check_free, disk_error
from turnover.storage.lock import alone
from turnover.training.fit import measured
from turnover.training.history import History
from turnover.workflows.train import model_inputs, splits_of

_ERRORS = 2
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_COMPILED = "_orig_mod."
"""Prefix that `torch.compile` adds to the names of a module's tensors."""


def register_run(
    settings: TrainSettings,
    weights: Sequence[Path],
    folder: Path,
    device_choice: str | None = None,
) -> dict[str, Any]:
    """Make a run of the weights in safetensors files, one a member; returns what `turnover register
    --json` prints.

    Raises:
        TurnoverError: for bad settings or data, a folder that exists or has an unfinished training,
            or weights that do not fit the settings' model.
    """
    device = choose_device(device_choice)
    _require_own(settings.model)
    plan = plan_run(replace(settings, members=len(weights), label_noise=0.0), folder)
    _check_named(settings, plan)
    states = {str(file): _read(file) for file in weights}
    if len(states) < len(weights):
        raise TurnoverError("--weights: a file is named twice; give every member its own")
    return _register(plan, states, device)


def save_run(
    folder: str | Path,
    data: Dataset,
    module: nn.Module | Sequence[nn.Module],
    model: str | Callable[..., nn.Module],
    *,
    seed: int = 0,
    encoder: str | Path | None = None,
    max_tokens: int | None = None,
    device: str | None = None,
    **recipe: Any,
) -> Run:
    """Write a run of a module that you have trained, and open it.

    Args:
        folder: of the new run; it must not exist.
        data: what it was trained and is validated on; the instance ids of the training were the
            positions in `data.train`.
        module: the trained module; or several, the members of the run.
        model: `module:function`, the code that builds the same architecture
            (`turnover.models.own`), or that function itself.
        seed: what the function was called with; with seed + k for member k.
        encoder: whose features or tokens a module for texts reads, or a tokenizer.json; one that
            reads tokens has no default.
        max_tokens: how many tokens of a text it reads; the default of training by default.
        device: to compute on; the best one by default.
        recipe: how it was trained, for every retraining: `epochs`, `learning_rate`, `batch`,
            `patience`, `weight_decay` and `optimizer` of `turnover train`.

    Raises:
        TurnoverError: for a folder that exists or has an unfinished training, data and module that
            do not fit, or a module with other masks than the function's.
    """
    several = isinstance(module, list | tuple | nn.ModuleList)
    modules: list[Any] = [
        each.module if isinstance(each, _PARALLEL) else each
        for each in (module if several else [module])  # type: ignore[union-attr]
    ]
    meant: list[tuple[str, Any, Any]] = [
        *(("folder", folder, str | Path), ("data", data, Dataset), ("seed", seed, Integral)),
        ("max_tokens", max_tokens, Integral | None),
        *(("module", each, nn.Module) for each in modules or [None]),
    ]
    for name, value, kind in meant:
        if not isinstance(value, kind):
            raise TurnoverError(
                f"save_run: {name} is a {type(value).__name__}; call save_run(folder, data, module,"
                " 'module:function', seed=0) with a turnover.Dataset and trained modules"
            )
    model = _named(model)
    _require_own(model)
    wanted = TrainSettings(
        data.name,
        model=model,
        members=len(modules),
        label_noise=0.0,
        seed=int(seed),
        epochs=recipe.pop("epochs", None),
        options={
            **(
                {"encoder": encoder and str(encoder), "max_tokens": max_tokens}
                if data.kind == "text"
                else {}
            ),
            **recipe,
        },
    )
    plan = TrainingPlan(wanted.resolved(data.kind), check_dataset(data), Path(folder))
    _check_named(wanted, plan)
    check_free(plan.folder, "another folder")
    where = ["the module"] if len(modules) == 1 else [f"module {k}" for k in range(len(modules))]
    states = dict(zip(where, (each.state_dict() for each in modules), strict=True))
    result = _register(plan, states, choose_device(device), trained=modules)
    if not result["learned"]:
        warnings.warn(UNLEARNED, stacklevel=2)
    return Run(plan.folder)


UNLEARNED = (
    "items do no better under their own masks than under the flipped ones: was the model trained "
    "under these masks, with positions as ids?"
)


def _named(model: str | Callable[..., nn.Module]) -> str:
    """A function's name as `module:function`.

    Raises:
        TurnoverError: for one that no file defines under that name.
    """
    if isinstance(model, str):
        return model
    name, function = (str(getattr(model, part, "")) for part in ("__module__", "__qualname__"))
    if name in ("", "__main__", "builtins") or not function.isidentifier():
        raise TurnoverError(
            f"model: a {type(model).__name__} that no file defines by its name; write the function "
            "to a file mine.py, and name it as 'mine:build'"
        )
    return f"{name}:{function}"


def _require_own(model: str | None) -> None:
    family = find_family(model or "")
    if family is None or not family.code:
        raise TurnoverError(
            f"--model {model}: a model that was trained elsewhere is named by the code that builds "
            "it, module:function"
        )
    allow(model)


def _check_named(wanted: TrainSettings, plan: TrainingPlan) -> None:
    """Check that nobody has to guess whose tokens a trained module read.

    Raises:
        TurnoverError: if it reads tokens, and no encoder was named.
    """
    if plan.settings.reads == TOKENS and not wanted.options.get("encoder"):
        raise TurnoverError(
            f"--model {plan.settings.model}: it reads tokens, and another vocabulary would be "
            f"nonsense to it; name its tokenizer.json with --encoder, or {DEFAULT_ENCODER} if it "
            "was trained on the packaged encoder's tokens"
        )


def _read(weights: Path) -> dict[str, Tensor]:
    try:
        return load_file(weights)
    except (OSError, SafetensorError) as error:
        raise TurnoverError(
            f"{weights}: no weights that can be read ({error}); give a safetensors file"
        ) from None


def _register(
    plan: TrainingPlan,
    states: Mapping[str, Mapping[str, Tensor]],
    device: torch.device,
    trained: Sequence[nn.Module] = (),
) -> dict[str, Any]:
    """Make a run of members' weights, by where they are from, and of their modules if these are
    there.
    """
    begun = time.perf_counter()
    with making(plan) as partial:
        inputs = model_inputs(plan.data, plan.settings, partial, device)
        train, validation = splits_of(plan.data, inputs, device)
        model = plan.settings.build(len(plan.data.classes), tuple(train.inputs.shape[1:]))
        assert isinstance(model, OwnMembers)
        for member, (where, state) in zip(model.models, states.items(), strict=True):
            _fill(member, state, where)
        for member, module in zip(model.models, trained, strict=False):
            masks_of_training(module, train.inputs)
            _check_masks(module, member, str(plan.settings.model))
        placed(model, device)
        history = measured(model, train, validation)
        model.find_leaks(train.inputs, train.labels)
        seconds = time.perf_counter() - begun
        results = results_of(plan.data, model, history, None, seconds, device)
        facts = {"recipe": {}, "results": results, "adopted": ", ".join(states)}
        write_run(partial, plan.folder, plan.data, plan.settings, model, history, inputs, facts)
    return {
        "run": str(plan.folder),
        "model": plan.settings.model,
        "masks": shared_masks(model),
        **results,
        "learned": _learned(history),
    }


@contextmanager
def making(plan: TrainingPlan) -> Iterator[Path]:
    """The work directory of a run that is written in one go; it is gone afterwards.

    Raises:
        TurnoverError: if there is a stopped training, another process makes this run, or the disk
            is full.
    """
    with alone(plan.lock, f"making {plan.folder}"):
        if has_checkpoint(plan.partial):
            raise TurnoverError(
                f"{plan.partial} is a training that was stopped; finish it, delete it, or choose "
                "another folder for this run"
            )
        partial = open_partial(plan)
        try:
            yield partial
        except OSError as error:
            raise disk_error(partial, error) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _check_masks(trained: nn.Module, built: nn.Module, model: str) -> None:
    """Check that two modules have the same mask layers; a layer that never ran has no number yet.

    Raises:
        TurnoverError: if they do not.
    """
    trained_layers, built_layers = turnover_layers(trained), turnover_layers(built)
    alike = (
        (mine.width, mine.units, mine.on, mine.seed, mine.masks, mine.dim)
        == (theirs.width, theirs.units, theirs.on, theirs.seed, theirs.masks, theirs.dim)
        and mine.layer in (None, theirs.layer)
        for mine, theirs in zip(trained_layers, built_layers, strict=False)
    )
    if len(trained_layers) != len(built_layers) or not all(alike):
        raise TurnoverError(
            f"{model} makes other masks than the module has; give the seed and the masks= that it "
            "was built with (module k of several has seed + k), and fixed layer= numbers"
        )


def _fill(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load weights into a new module; tied ones under any of their names.

    Raises:
        TurnoverError: if they do not match by name and shape.
    """
    plain = {name.replace(_COMPILED, ""): name for name in module.state_dict()}
    tensors = {plain.get(name.replace(_COMPILED, ""), name): value for name, value in state.items()}
    tied = tied_names(module)
    by_first = {tied[name]: value for name, value in tensors.items() if name in tied}
    tensors |= {
        name: by_first[first]
        for name, first in tied.items()
        if name not in tensors and first in by_first
    }
    tensors = with_both_sets(module, tensors)
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            has = f"is of shape {given[name]}" if name in given else "is missing"
            needs = (
                f"the model that the function builds has {wanted[name]}"
                if name in wanted
                else "the model that the function builds has no such tensor"
            )
            raise TurnoverError(
                f"{where}: {name!r} {has}, but {needs}; give the weights and the function of one "
                "model"
            )
    try:
        module.load_state_dict(tensors)
    except (RuntimeError, NotImplementedError) as error:
        raise TurnoverError(
            f"{where}: the weights cannot be read ({' '.join(str(error).split())[-120:]}); give "
            "tensors that are in memory"
        ) from None


def _learned(history: History) -> bool:
    """Whether training items have lower losses under their masks than under the flipped ones, by
    two standard errors.
    """
    gain = history.flipped_items[0] - history.masked_items[0]
    return bool(gain.mean() > _ERRORS * gain.std(ddof=1) / np.sqrt(len(gain)))
