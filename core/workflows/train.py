"""Train a run: data → features → K turn-over members and their plain twin → a run folder.

The twin has the same architecture, seeds and batches but no masks; it shows what turn-over dropout
costs in accuracy. The work directory is `RUN.partial`: it holds the features and a checkpoint after
every epoch, so the same command, given again after Ctrl-C or a crash, resumes where it stopped.
Once complete the folder is renamed to RUN.

`try_model` builds a user's own model before anything is trained, so that a mismatch is reported in
seconds.
"""

from __future__ import annotations

import shutil
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from turnover.attribution.device import choose_device, placed
from turnover.attribution.ensemble import Members, some_members
from turnover.attribution.state import load_trained, trained_state
from turnover.data.base import Dataset, Items
from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.models.family import PIXELS
from turnover.models.names import allow
from turnover.models.own import OwnMembers
from turnover.models.registry import TrainSettings
from turnover.runs.plan import TrainingPlan, has_checkpoint, open_partial, plan_run
from turnover.runs.write import results_of, write_run
from turnover.storage.atomic import disk_error, write_atomic
from turnover.storage.lock import alone
from turnover.storage.progress import bar
from turnover.training.checkpoint import whole_tensors
from turnover.training.fit import History, Split, accuracy, fit
from turnover.training.ranks import ALONE, Ranks
from turnover.training.teams import team_of


def train_run(
    settings: TrainSettings, folder: Path, device_choice: str | None = None, *, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Train a run and write it to `folder`; returns what `turnover train --json` prints, nothing on
    ranks but the first.

    Of several ranks each trains some members, or a part of each batch of one
    (`turnover.training.teams`); the first one encodes texts, and writes.

    Raises:
        TurnoverError: for bad settings or data, a folder that exists, or a partial run that has
            other settings or is in use by another process.
    """
    device = choose_device(device_choice)
    allow(settings.model)
    plan = plan_run(settings, folder)
    ranks.barrier()  # all ranks check before anything is written
    with alone(plan.lock, f"training {folder}") if ranks.is_first else nullcontext():
        return _made(plan, device, ranks)


def _made(plan: TrainingPlan, device: torch.device, ranks: Ranks) -> dict[str, Any]:
    """The result of `train_run`, under the run's lock."""
    partial, begun = plan.partial, time.perf_counter()
    if ranks.is_first:
        open_partial(plan)
    try:
        return _train(plan, partial, device, begun, ranks)
    except (TurnoverError, OSError) as error:
        if ranks.size == 1 and not has_checkpoint(partial):
            shutil.rmtree(partial, ignore_errors=True)
        raise disk_error(partial, error) if isinstance(error, OSError) else error from None


def _train(
    plan: TrainingPlan, partial: Path, device: torch.device, begun: float, ranks: Ranks
) -> dict[str, Any]:
    settings, data, folder = plan.settings, plan.data, plan.folder
    ranks.at("the features of all items")
    if not ranks.is_first:
        ranks.barrier()
    inputs = model_inputs(data, settings, partial, device)
    if ranks.is_first:
        ranks.barrier()
    featured = time.perf_counter()
    train, validation = splits_of(data, inputs, device)
    recipe = settings.recipe
    model, history = _fit(data, settings, train, validation, recipe, partial, ranks)
    if isinstance(model, OwnMembers) and not model.leaks:
        model.find_leaks(train.inputs, train.labels)
    trained = time.perf_counter()
    _, twin = _fit(data, settings, train, validation, replace(recipe, masked=False), partial, ranks)
    if not ranks.is_first:
        return {}
    timings = {
        "features": featured - begun,
        "training": trained - featured,
        "twin": time.perf_counter() - trained,
    }
    results = results_of(data, model, history, twin, time.perf_counter() - begun, device)
    if data.test is not None:
        results |= {
            "test_size": len(data.test),
            "test_accuracy": _test_accuracy(model, data.test, settings, device),
        }
    seconds = {name: round(seconds, 2) for name, seconds in timings.items()}
    facts = {
        "recipe": asdict(recipe),
        "results": results,
        "timings": seconds,
        "data_report": plan.data_report,
    }
    write_run(partial, folder, data, settings, model, history, inputs, facts)
    return {"run": str(folder), "model": settings.model, **results}


def _test_accuracy(
    model: Members, items: Items, settings: TrainSettings, device: torch.device
) -> float:
    """Accuracy of the finished model on some items."""
    inputs = torch.from_numpy(settings.reader(device)(items.readable)).to(device)
    return accuracy(model, Split(inputs, torch.from_numpy(items.labels).to(device)))


def model_inputs(
    data: Dataset, settings: TrainSettings, partial: Path, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Model inputs of both splits; a frozen encoder runs once, and its features are kept for a
    resumed run.
    """
    splits = data.train, data.validation
    cache = partial / "inputs.npz"
    if settings.reads == PIXELS:
        read = settings.reader(device)
        train, validation = (read(items.readable) for items in splits)
        return train, validation
    if not cache.exists():
        read = settings.reader(device)
        with bar(sum(map(len, splits)), f"{data.name}: features", f"{data.kind}s") as advance:
            train, validation = (read(items.readable, advance) for items in splits)

        def write(beside: Path) -> None:
            with beside.open("wb") as file:
                np.savez(file, train=train, validation=validation)

        write_atomic(cache, write)
    with np.load(cache, allow_pickle=False) as arrays:
        return arrays["train"], arrays["validation"]


def splits_of(
    data: Dataset, inputs: tuple[np.ndarray, np.ndarray], device: torch.device
) -> tuple[Split, Split]:
    """Training and validation rows on the device."""
    train, validation = (
        Split(torch.as_tensor(rows).to(device), torch.from_numpy(items.labels).to(device))
        for rows, items in zip(inputs, (data.train, data.validation), strict=True)
    )
    return train, validation


def _fit(
    data: Dataset,
    settings: TrainSettings,
    train: Split,
    validation: Split,
    recipe: Recipe,
    partial: Path,
    ranks: Ranks,
) -> tuple[Members, History]:
    """Train this rank's members; the model of all members on the first rank, and their history on
    every one.
    """
    name = "masked" if recipe.masked else "plain"
    label = f"{data.name}: training" if recipe.masked else f"{data.name}: plain twin"
    device = train.inputs.device
    whole = settings.build(len(data.classes), tuple(train.inputs.shape[1:]))
    team = team_of(ranks, settings.members or 1)
    alone = len(team.members) == whole.members
    model = placed(whole if alone else some_members(whole, team.members), device)
    with bar(recipe.epochs, label, "epochs") as advance:
        history = fit(
            model,
            train,
            validation,
            recipe,
            partial / f"{name}.checkpoint",
            lambda _: advance(1),
            team=team,
        )
        advance(recipe.epochs - history.epochs)
    weights = whole_tensors(model, trained_state(model), team) if ranks.size > 1 else {}
    if not weights:
        return model, history
    load_trained(whole, weights)
    return placed(whole, device).eval(), history


def try_model(plan: TrainingPlan) -> None:
    """Build a member or two for the form of the training items, on the CPU.

    Nothing is downloaded: where the encoder would be, a user's own function is loaded but not
    called.

    Raises:
        TurnoverError: if it cannot be built.
    """
    settings = replace(plan.settings, members=min(plan.settings.members or 1, 2))
    family = settings.family.offline()
    if family is None:
        _ = settings.reads  # loads a function of the user's own
        return
    settings = settings.with_family(family)
    row = settings.reader(torch.device("cpu"))(plan.data.train.readable[:1])
    settings.build(len(plan.data.classes), row.shape[1:])
