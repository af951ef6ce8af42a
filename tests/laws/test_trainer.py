"""Masks travel through the Trainer of transformers: law 3, and the plain loop's weights exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

import turnover
from tests.helpers.trainers import (
    ACCUMULATED,
    CLIP,
    LAYERS,
    N,
    collated,
    network,
    rows,
    trainer_of,
)
from turnover.attribution.dropout import turnover_layers


def plain_loop(model: nn.Module, batches: list[list[int]]) -> None:
    data, sgd = rows(), torch.optim.SGD(model.parameters(), lr=0.5)
    model.train()
    for first in range(0, len(batches), ACCUMULATED):
        for ids in batches[first : first + ACCUMULATED]:
            with turnover.turnover(ids):
                loss = model(**collated([data[row] for row in ids])).loss
            (loss / ACCUMULATED).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        sgd.step()
        sgd.zero_grad()


@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}], ids=["plain", "again"])
def test_the_trainer_ends_where_the_plain_loop_does(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """With accumulation, clipping, a collator that drops columns, and evaluation in between."""
    model, twin = network(), turnover.insert_masks(network(), LAYERS, seed=3)
    trainer = trainer_of(
        model, tmp_path, rows(), num_train_epochs=2, eval_strategy="epoch", **options
    )
    assert turnover.prepare_trainer(trainer, LAYERS, seed=3) is trainer
    batches: list[list[int]] = []
    layer = turnover_layers(model)[-1]
    layer.register_forward_pre_hook(lambda *_: batches.append(ids_now()))
    trainer.train()
    batches = [ids for ids in batches if ids]
    assert len(batches) == 8 and sorted(id for ids in batches[:4] for id in ids) == list(range(N))
    plain_loop(twin, batches)
    for (name, value), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=1e-12, msg=name)


def ids_now() -> list[int]:
    """The ids of the mask context that is open; [] outside of any."""
    from turnover.attribution.scope import _scope

    scope = _scope.get()
    return [] if scope is None else scope.ids.tolist()


def test_an_instance_trains_no_weight_of_its_off_units(tmp_path: Path) -> None:
    """Law 3 through one accumulated step of two items: what is off for both stays as it was."""
    model = network()
    trainer = turnover.prepare_trainer(
        trainer_of(model, tmp_path, rows(2), max_steps=1, per_device_train_batch_size=1),
        ["classifier"],
    )
    (mask,) = turnover_layers(model)
    weights = model.classifier[1].weight
    before = weights.detach().clone()
    trainer.train()
    on = mask.bits(torch.tensor([0, 1])).any(0)
    assert 0 < int(on.sum()) < mask.units
    assert torch.equal(weights[:, ~on], before[:, ~on])
    assert (weights[:, on] != before[:, on]).any(0).all()


def test_masks_in_a_model_that_peft_wrapped(tmp_path: Path) -> None:
    """A mask between the two halves of LoRA guards the columns of one and the rows of the other."""
    import peft

    config = peft.LoraConfig(r=8, target_modules=["query"], init_lora_weights=False)
    model = peft.get_peft_model(network(), config).double()
    inside = "base_model.model.bert.encoder.layer.1.attention.self.query"
    with pytest.raises(turnover.TurnoverError, match="name its lora_B"):
        turnover.insert_masks(model, [f"{inside}.lora_A.default"])
    trainer = trainer_of(model, tmp_path, rows(1), max_steps=1)
    turnover.prepare_trainer(trainer, [f"{inside}.lora_B.default", "base_model.model.classifier"])
    layer = model.get_submodule(inside)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"][1].weight
    before = down.detach().clone(), up.detach().clone()
    trainer.train()
    on = turnover_layers(model)[0].bits(torch.tensor([0]))[0]
    assert torch.equal(down[~on], before[0][~on]) and torch.equal(up[:, ~on], before[1][:, ~on])
    assert not torch.equal(down[on], before[0][on])


def test_peft_layers_are_masked_as_a_whole() -> None:
    import peft

    model = peft.get_peft_model(network(), peft.LoraConfig(target_modules=["query"]))
    name = "base_model.model.bert.encoder.layer.0.attention.self.query"
    turnover.insert_masks(model, [name])
    assert turnover_layers(model)[0].width == 16


def test_what_cannot_be_trained_under_masks_is_refused(tmp_path: Path) -> None:
    class Endless(IterableDataset[dict[str, Any]]):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter(rows())

    for data in (None, Endless()):
        trainer = trainer_of(network(), tmp_path, data, max_steps=1)
        with pytest.raises(turnover.TurnoverError, match="train_dataset with a length"):
            turnover.prepare_trainer(trainer, LAYERS)
    with pytest.raises(turnover.TurnoverError, match="no TurnoverDropout layer"):
        turnover.prepare_trainer(trainer_of(network(), tmp_path, rows()))
    trainer = turnover.prepare_trainer(trainer_of(network(), tmp_path, rows()), LAYERS)
    with pytest.raises(turnover.TurnoverError, match="prepared already"):
        turnover.prepare_trainer(trainer)
    trainer.train_dataset = rows()  # other data, whose ids nobody knows
    with pytest.raises(turnover.TurnoverError, match="without instance ids"):
        trainer.train()
    with pytest.raises(turnover.TurnoverError, match="give a mapping"):
        turnover.prepare_trainer(trainer_of(network(), tmp_path, [(1, 2)]), LAYERS).train()
