"""Deep members, trained one by one: a task is one epoch of one of them.

Members never mix, but they decide together: after each epoch the losses of all are joined, and
their mean says whether another epoch follows and which one is kept. In the work directory are

    masked.checkpoint               the history so far; plain.checkpoint that of the plain twin
    masked-MEMBER-EPOCH.checkpoint  a member after its last epoch, with all that the next one needs
    splits.checkpoint               inputs and labels, for other processes

A process keeps the members that it trained, and continues them where they are. One that did not
train a member's last epoch reads its file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from turnover.attribution.device import placed
from turnover.attribution.ensemble import Ensemble, some_members
from turnover.data.recipe import Recipe
from turnover.jobs.tasks import Task, Workers
from turnover.models.registry import TrainSettings
from turnover.storage.progress import Advance
from turnover.training.checkpoint import Trainee, load_checkpoint, save_checkpoint
from turnover.training.fit import Split, next_epoch
from turnover.training.history import HISTORY, LOSSES, History

_SPLITS = "splits.checkpoint"
_TENSORS = ("train_inputs", "train_labels", "validation_inputs", "validation_labels")


@dataclass
class _Member:
    """A member after so many epochs."""

    trainee: Trainee
    epochs: int = 0


_members: dict[tuple[str, bool, int], _Member] = {}
"""Members of one training that this process has, by work directory, masks or none, and number."""
_splits_here: dict[str, tuple[Split, Split]] = {}
"""Training and validation items of that training."""


def fit_members(
    whole: Ensemble,
    settings: TrainSettings,
    recipe: Recipe,
    splits: tuple[Split, Split],
    partial: Path,
    workers: Workers,
    advance: Advance,
) -> History:
    """As `turnover.training.fit.fit`, of each member by itself; resumes what is in `partial`. The
    random draws of a member do not depend on the others.
    """
    train, validation = splits
    if workers.elsewhere:
        _write_splits(partial / _SPLITS, splits)
    _splits_here.clear()
    _splits_here[str(partial)] = splits
    _members.clear()
    for number, model in enumerate(whole.models):
        trainee = Trainee(whole.of([model]), recipe, number)
        _members[str(partial), recipe.masked, number] = _Member(trainee)
    arguments = {
        "partial": str(partial),
        "settings": settings.saved,
        "kind": settings.kind,
        "classes": whole.classes,
        "masked": recipe.masked,
        "device": str(train.labels.device),
    }
    history = _follow(whole.members, recipe, validation, partial, workers, advance, arguments)
    for (_, _, number), member in _members.items():
        _catch_up(member, partial, number, history.epochs)
        if history.kept == history.epochs - 1:
            member.trainee.keep()
        member.trainee.finish()
    _members.clear()
    return history


def _follow(
    members: int,
    recipe: Recipe,
    validation: Split,
    partial: Path,
    workers: Workers,
    advance: Advance,
    arguments: Mapping[str, Any],
) -> History:
    """Run epochs, each after the decision on the one before."""
    history, made_with = History.of(recipe), {"recipe": asdict(recipe), "members": members}
    path = partial / f"{_name(recipe.masked)}.checkpoint"
    if path.exists():
        history.load(*load_checkpoint(path, made_with, HISTORY))
    while history.goes_on(recipe):
        epoch = history.epochs
        kept = history.kept if epoch else -1
        tasks = [
            Task(
                "train",
                {**arguments, "member": number, "epoch": epoch, "kept": kept},
                _file(partial, recipe.masked, number, epoch),
            )
            for number in range(members)
        ]
        for _ in workers.run([task for task in tasks if not task.result.exists()], advance):
            pass
        history.append(_joined(tasks), validation.labels.cpu())
        items, facts = history.saved()
        save_checkpoint(path, made_with, items, **facts)
        for number in range(members):
            _file(partial, recipe.masked, number, epoch - 1).unlink(missing_ok=True)
    return history


def _joined(tasks: Sequence[Task]) -> dict[str, torch.Tensor]:
    """The losses that the members' files hold, one member after the other."""
    parts = []
    for task, member in zip(tasks, _members.values(), strict=True):
        made_with = member.trainee.made_with
        parts.append(load_checkpoint(task.result, made_with, LOSSES, only=True)[0])
    return {name: torch.cat([part[name] for part in parts]) for name in LOSSES}


def train_member(arguments: Mapping[str, Any], advance: Advance) -> None:
    """Train a member for one epoch, and write its file."""
    partial, number, epoch = Path(arguments["partial"]), arguments["member"], arguments["epoch"]
    key = arguments["partial"], arguments["masked"], number
    for other in [other for other in _members if other[:2] != key[:2]]:
        del _members[other]
    if arguments["partial"] not in _splits_here:
        _splits_here.clear()
        _splits_here[arguments["partial"]] = _read_splits(partial / _SPLITS, arguments["device"])
    train, validation = _splits_here[arguments["partial"]]
    if key not in _members:
        settings = TrainSettings.read(arguments["settings"], arguments["kind"])
        recipe = replace(settings.recipe, masked=arguments["masked"])
        shape = tuple(train.inputs.shape[1:])
        model = some_members(settings.build(arguments["classes"], shape), [number])
        _members[key] = _Member(Trainee(placed(model, train.inputs.device), recipe, number))
    member = _members[key]
    _catch_up(member, partial, number, epoch)
    trainee = member.trainee
    if epoch and arguments["kept"] == epoch - 1:
        trainee.keep()
    member.epochs = -1  # until it is done
    owned = History.of(trainee.recipe).owned
    losses = next_epoch(trainee, train, validation, epoch, owned)
    file = _file(partial, arguments["masked"], number, epoch)
    save_checkpoint(file, trainee.made_with, trainee.tensors() | losses)
    member.epochs = epoch + 1
    advance(1)


def _catch_up(member: _Member, partial: Path, number: int, epochs: int) -> None:
    """Bring a member to where it was after so many epochs."""
    if member.epochs != epochs and epochs:
        file = _file(partial, member.trainee.recipe.masked, number, epochs - 1)
        member.trainee.load(load_checkpoint(file, member.trainee.made_with)[0])
        member.epochs = epochs


def _name(masked: bool) -> str:
    return "masked" if masked else "plain"


def _file(partial: Path, masked: bool, number: int, epoch: int) -> Path:
    return partial / f"{_name(masked)}-{number}-{epoch}.checkpoint"


def _write_splits(path: Path, splits: tuple[Split, Split]) -> None:
    if not path.exists():
        tensors = [tensor for split in splits for tensor in (split.inputs, split.labels)]
        named = zip(_TENSORS, tensors, strict=True)
        save_checkpoint(path, {}, {name: tensor.cpu() for name, tensor in named})


def _read_splits(path: Path, device: str) -> tuple[Split, Split]:
    tensors, _ = load_checkpoint(path, {}, _TENSORS)
    inputs, labels, *validation = (tensors[name].to(device) for name in _TENSORS)
    return Split(inputs, labels), Split(*validation)
