"""The Trainer with two processes (DistributedDataParallel over gloo) and with a compiled model ends
where one process with the same batches does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import turnover
from tests.helpers import trainers


def trained(folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    """The weights after two epochs."""
    model = trainers.network()
    trainer = trainers.trainer_of(model, folder, trainers.rows(), num_train_epochs=2, **options)
    turnover.prepare_trainer(trainer, trainers.LAYERS, seed=3).train()
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_two_processes_and_a_compiled_model_train_as_one_process_does(tmp_path: Path) -> None:
    """Each process has a batch of what one process accumulates."""
    alone = trained(tmp_path / "alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.nightly.test_trainer_processes",
                str(tmp_path / f"worker-{rank}"),
            ],
            env={**os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [worker.wait(300) for worker in workers] == [0, 0]
    compiled = trained(tmp_path / "compiled", torch_compile=True, torch_compile_backend="aot_eager")
    for other in (
        *(load_file(tmp_path / f"worker-{rank}.safetensors") for rank in range(2)),
        compiled,
    ):
        for name, value in alone.items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-12, msg=name)


if __name__ == "__main__":
    worker = Path(sys.argv[1])
    weights = trained(worker, gradient_accumulation_steps=1, ddp_backend="gloo")
    save_file(weights, worker.with_suffix(".safetensors"))
