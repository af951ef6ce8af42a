"""A tiny BERT, rows for it, and a Trainer with accumulation, clipping and a strict collator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

N, BATCH, ACCUMULATED, CLIP = 12, 3, 2, 0.05
LAYERS = ["bert.encoder.layer.1.output.dense", "classifier"]


def network() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=3,
        max_position_embeddings=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForSequenceClassification(config).double()


def rows(count: int = N) -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 30, (count, 5), generator=draw)
    return [
        {"input_ids": tokens[row], "labels": row % 3, "text": "no column of the model"}
        for row in range(count)
    ]


def collated(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A collator that knows its columns and drops all others."""
    return {
        "input_ids": torch.stack([item["input_ids"] for item in items]),
        "labels": torch.tensor([item["labels"] for item in items]),
    }


def trainer_of(model: nn.Module, folder: Path, data: Any, **options: Any) -> Trainer:
    usual: dict[str, Any] = {
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": ACCUMULATED,
        "max_grad_norm": CLIP,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    arguments = TrainingArguments(str(folder), **usual | options)
    sgd = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    steady = torch.optim.lr_scheduler.LambdaLR(sgd, lambda _: 1.0)
    return Trainer(
        model,
        arguments,
        collated,
        data,
        eval_dataset=rows(4),
        compute_loss_func=mean_loss,  # a BERT's own loss would be summed over accumulated batches
        optimizers=(sgd, steady),
    )


def mean_loss(output: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
    total = nn.functional.cross_entropy(output.logits, labels, reduction="sum")
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)
