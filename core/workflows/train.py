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
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from turnover.attribution.device import choose_device, placed
from turnover.attribution.ensemble import Ensemble, Members, shared_masks
from turnover.data.base import Dataset, Items
from turnover.data.recipe import Recipe
from turnover.errors import TurnoverError
from turnover.jobs.tasks import Workers, open_workers
from turnover.models.family import PIXELS
from turnover.models.names import allow
from turnover.models.own import OwnMembers
from turnover.models.registry import TrainSettings
from turnover.runs.plan import TrainingPlan, has_checkpoint, open_partial, plan_run
from turnover.runs.write import results_of, write_run
from turnover.storage.atomic import disk_error, write_atomic
from turnover.storage.lock import alone
from turnover.storage.progress import bar
from turnover.training.fit import Split, accuracy, fit
from turnover.training.history import History
from turnover.workflows.members import fit_members


def train_run(
    settings: TrainSettings,
    folder: Path,
    device_choice: str | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Train a run and write it to `folder`; returns what `turnover train --json` prints.

    Members of a deep model are trained in processes of this machine, or on the Ray `cluster` at an
    address (`turnover.jobs.tasks`).

    Raises:
        TurnoverError: for bad settings or data, a folder that exists, or a partial run that has
            other settings or is in use by another process.
    """
    device = choose_device(device_choice)
    allow(settings.model)
    plan = plan_run(settings, folder)
    with alone(plan.lock, f"training {folder}"):
        return _made(plan, device, cluster)


def _made(plan: TrainingPlan, device: torch.device, cluster: str | None) -> dict[str, Any]:
    """The result of `train_run`, under the run's lock."""
    partial, begun = open_partial(plan), time.perf_counter()
    try:
        with ExitStack() as stack:

            @cache
            def workers(count: int) -> Workers:
                return stack.enter_context(open_workers(count, device, cluster))

            return _train(plan, partial, device, begun, workers)
    except (TurnoverError, OSError) as error:
        if not has_checkpoint(partial):
            shutil.rmtree(partial, ignore_errors=True)
        raise disk_error(partial, error) if isinstance(error, OSError) else error from None


def _train(
    plan: TrainingPlan,
    partial: Path,
    device: torch.device,
    begun: float,
    workers: Callable[[int], Workers],
) -> dict[str, Any]:
    settings, data, folder = plan.settings, plan.data, plan.folder
    inputs = model_inputs(data, settings, partial, device)
    featured = time.perf_counter()
    splits, recipe = splits_of(data, inputs, device), settings.recipe
    before = _accuracy_before(data, settings, splits)
    model, history = fitted(data, settings, splits, recipe, partial, workers)
    if isinstance(model, OwnMembers) and not model.leaks:
        model.find_leaks(splits[0].inputs, splits[0].labels)
    trained = time.perf_counter()
    plain, twin = fitted(data, settings, splits, replace(recipe, masked=False), partial, workers)
    timings = {
        "features": featured - begun,
        "training": trained - featured,
        "twin": time.perf_counter() - trained,
    }
    results = results_of(data, model, history, twin, time.perf_counter() - begun, device)
    if before is not None:
        results["accuracy_before"] = before
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
    write_run(partial, folder, data, settings, model, history, inputs, facts, plain)
    return {
        "run": str(folder),
        "model": settings.model,
        "caution": settings.family.caution,
        "masks": shared_masks(model),
        **results,
    }


def _accuracy_before(
    data: Dataset, settings: TrainSettings, splits: tuple[Split, Split]
) -> float | None:
    """Validation accuracy of a model that was trained before, without masks; None for a new one."""
    if not settings.family.trained_before:
        return None
    shape = tuple(splits[0].inputs.shape[1:])
    model = replace(settings, members=1).build(len(data.classes), shape)
    return accuracy(placed(model, splits[1].inputs.device).eval(), splits[1])


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


def fitted(
    data: Dataset,
    settings: TrainSettings,
    splits: tuple[Split, Split],
    recipe: Recipe,
    partial: Path,
    workers: Callable[[int], Workers] | None = None,
) -> tuple[Members, History]:
    """The trained members and their history; several of a deep model are trained by `workers`."""
    label = f"{data.name}: training" if recipe.masked else f"{data.name}: plain twin"
    inputs = splits[0].inputs
    model = placed(settings.build(len(data.classes), tuple(inputs.shape[1:])), inputs.device)
    apart = isinstance(model, Ensemble) and model.members > 1 and workers is not None
    each = model.members if apart else 1
    with bar(each * recipe.epochs, label, "epochs") as advance:
        if isinstance(model, Ensemble) and apart and workers:
            ready = workers(model.members)
            history = fit_members(model, settings, recipe, splits, partial, ready, advance)
        else:
            path = partial / f"{'masked' if recipe.masked else 'plain'}.checkpoint"
            history = fit(model, *splits, recipe, path, lambda _: advance(1))
        advance(each * (recipe.epochs - history.epochs))
    return model, history


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
