"""Turn-over dropout in the `Trainer` of Hugging Face transformers.

    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collator)
    turnover.prepare_trainer(trainer, layers=["classifier"])
    trainer.train()
    turnover.save_run("runs/mine", data, trainer.model, "mine:build")

An item's id, its position in the training data, joins the item before the columns that the model
does not read are removed, stays out of the collator's sight, and opens the mask context around the
loss of its batch: outside the model, so accumulation, clipping, checkpointing, `torch.compile` and
DistributedDataParallel see an ordinary model. Evaluation runs without masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch.utils.data import Dataset, IterableDataset

from turnover.attribution.dropout import turnover_layers
from turnover.attribution.insert import insert_masks
from turnover.attribution.scope import turnover
from turnover.errors import TurnoverError

AnyTrainer = TypeVar("AnyTrainer", bound=Any)
IDS = "turnover_instance_ids"
"""The column of a batch that holds the ids."""


def prepare_trainer(trainer: AnyTrainer, layers: Sequence[str] = (), **masks: Any) -> AnyTrainer:
    """Let a Trainer train under the masks of its training items; it is changed in place and
    returned.

    Args:
        trainer: a `transformers.Trainer`, or one of its subclasses, before `train()`.
        layers: put a mask before each of these layers of its model, as `insert_masks` does; by
            default the model has masks of its own.
        masks: `p`, `groups`, `seed` and `masks` of `insert_masks`.

    Raises:
        TurnoverError: for training data without positions, a model without masks, a trainer that
            was prepared before, and as `insert_masks`.
    """
    rows = trainer.train_dataset
    if rows is None or isinstance(rows, IterableDataset) or not hasattr(rows, "__len__"):
        raise TurnoverError(
            "prepare_trainer needs a train_dataset with a length and positions, which are the "
            f"instance ids; it is a {type(rows).__name__}"
        )
    if isinstance(rows, Numbered):
        raise TurnoverError("this trainer was prepared already; call prepare_trainer once")
    if layers:
        insert_masks(trainer.model, layers, **masks)
    turnover_layers(trainer.model)
    trainer.train_dataset = Numbered(rows)
    trainer.data_collator = _Collator(trainer.data_collator)
    trainer._set_signature_columns_if_needed()  # what is not among these is removed
    trainer._signature_columns.append(IDS)
    trainer.compute_loss = _under_masks(trainer.compute_loss)
    return trainer


class Numbered(Dataset[dict[str, Any]]):
    """Data whose items, mappings of columns, know their position."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        row = self.rows[position]
        if not isinstance(row, Mapping):
            raise TurnoverError(
                f"item {position} of the train_dataset is a {type(row).__name__}; give a mapping of"
                " the model's inputs, as the Trainer's collators read"
            )
        return {**row, IDS: int(position)}


class _Collator:
    """A collator that hands on the ids of its rows."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, rows: list[Any]) -> Any:
        import torch

        if not all(isinstance(row, Mapping) and IDS in row for row in rows):
            return self.collate(rows)
        ids = torch.tensor([row[IDS] for row in rows])
        batch = self.collate([{k: v for k, v in row.items() if k != IDS} for row in rows])
        return {**batch, IDS: ids}


def _under_masks(compute_loss: Callable[..., Any]) -> Callable[..., Any]:
    """The trainer's loss, in training under the masks of the batch."""

    def masked(model: Any, inputs: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        batch = dict(inputs)
        ids = batch.pop(IDS, None)
        if ids is not None and model.training:
            with turnover(ids):
                return compute_loss(model, batch, *args, **options)
        if model.training:
            raise TurnoverError(
                "a training batch without instance ids: prepare_trainer numbers the train_dataset "
                "that the trainer has when it is called; set it before, and call it again"
            )
        return compute_loss(model, batch, *args, **options)

    return masked
