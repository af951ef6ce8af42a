"""`adopt`: a run of a model with turn-over dropout that was trained elsewhere."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_device, add_run
from turnover.commands.own_data import add_own_data, own_data
from turnover.errors import TurnoverError

HELP = "write a run folder of your own model that was trained with turn-over dropout elsewhere"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser, "folder to write the run to (it must not exist)")
    parser.add_argument("--model", required=True, metavar="M:F", help="module:function that builds the model, called with (classes, shape, seed)")
    parser.add_argument("--weights", required=True, metavar="FILE", help="its trained weights, a safetensors file")
    parser.add_argument("--data", metavar="NAME", help="what it was trained on, the position of a training item being its instance id")
    parser.add_argument("--path", metavar="DIR", help="folder with the files of data that are not built in")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed that the function was called with (default 0)")
    parser.add_argument("--encoder", metavar="NAME", help="text encoder whose features or tokens it reads (default: the packaged all-MiniLM-L6-v2)")
    add_own_data(parser)
    add_device(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Measure and write; return sizes, accuracy and losses, and whether the model `learned` its items under these masks."""
    from turnover.models.encoders import DEFAULT_ENCODER
    from turnover.pipeline.adopt import adopt_run
    from turnover.pipeline.settings import TrainSettings

    data, own = own_data(arguments)
    if own is not None and own.train and not own.validation:
        raise TurnoverError("--validation: name the validation items; drawing them from --train would change the positions that are instance ids")
    chosen = {name: getattr(arguments, name) for name in ("path", "seed", "model")}
    settings = TrainSettings(data, **chosen, own=own, encoder=arguments.encoder or DEFAULT_ENCODER)
    return adopt_run(settings, Path(arguments.weights), Path(arguments.run), arguments.device)


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    from turnover.pipeline.adopt import UNLEARNED

    return (
        f"{result['run']}: {result['train_size']} training and {result['validation_size']} validation items\n"
        f"validation accuracy {result['validation_accuracy']:.1%}; losses in nats: masked {result['masked_loss']:.3f}, flipped {result['flipped_loss']:.3f}, "
        f"validation {result['validation_loss']:.3f}, under masks nobody owns {result['unowned_loss']:.3f}\n"
        f"{'' if result['learned'] else f'warning: {UNLEARNED}{chr(10)}'}next: turnover influence --run {result['run']} --model {result['model']}"
    )
