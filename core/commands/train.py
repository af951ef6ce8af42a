"""`train`: a model with turn-over dropout, as a run folder."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_device, add_run
from turnover.commands.own_data import add_own_data, own_data
from turnover.models.source import is_module
from turnover.wording import counted

HELP = "train a classifier with turn-over dropout and write a run folder"
_MODELS = (
    "texts: heads (default), adapters, masked-encoder; images: small-vgg (default), vgg19, heads, torchvision:NAME; "
    "or module:function, code of your own that builds one"
)


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser, "folder to write the run to (it must not exist; an interrupted run is resumed)")
    known = "digits, reviews (both built in), sst2, sst2-phrases, imdb-checks, yahoo or cifar10; hub:NAME for one of the hub; your own files: --train"
    parser.add_argument("--data", metavar="NAME", help=known)
    parser.add_argument("--path", metavar="DIR", help="folder with the files of data that are not built in; without it: the hub (not imdb-checks)")
    parser.add_argument("--limit", type=int, metavar="N", help="train on N training items, drawn at random by the seed")
    parser.add_argument("--validation-limit", type=int, metavar="N", help="validate on N validation items, drawn at random by the seed")
    parser.add_argument("--keep", metavar="FILE", help="near duplicates that the limits must not drop: a CSV with test_index and train_index, or its folder")
    parser.add_argument("--label-noise", type=float, metavar="F", help="make this share of training labels wrong on purpose (default: digits .05, else 0)")
    parser.add_argument("--members", type=int, metavar="K", help="models with masks of their own, trained together (default: digits and cifar10 8, else 16)")
    parser.add_argument("--groups", type=int, metavar="G", help="mask G groups of units; 0 masks single units (default 16)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of masks, initialisation, batches and label noise (default 0)")
    parser.add_argument(
        "--encoder", metavar="NAME", help="frozen encoder, a hub name or a folder; images: for heads (default: texts all-MiniLM-L6-v2, packaged; images none)"
    )
    parser.add_argument("--weights", metavar="FILE", help="weights of torchvision:NAME, a safetensors file (default: random)")
    parser.add_argument("--pretrained", action="store_true", help="download torchvision's own weights of torchvision:NAME")
    parser.add_argument("--model", metavar="NAME", help=_MODELS)
    parser.add_argument("--from-layer", metavar="L", help="train torchvision:NAME from this layer on, with masks from there (default: frozen, heads on it)")
    parser.add_argument("--layers", type=int, metavar="L", help="adapters in the last L layers of the encoder (default: all)")
    parser.add_argument("--dropout", type=float, default=0.0, metavar="P", help="ordinary dropout beside the masks, for vgg19 (default 0)")
    parser.add_argument("--epochs", type=int, metavar="N", help="train for at most N epochs (default: the model's or the data set's own)")
    parser.add_argument("--check", action="store_true", help="only see whether settings and data go together, and say sizes and classes; train nothing")
    add_device(parser)
    add_own_data(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Train and return sizes, accuracies, losses, epochs, seconds and device; or check, and return sizes and classes."""
    from turnover.models.encoders import DEFAULT_ENCODER
    from turnover.pipeline.settings import TrainSettings

    data, own = own_data(arguments)
    chosen = {one.name: getattr(arguments, one.name) for one in fields(TrainSettings) if hasattr(arguments, one.name)}
    settings = TrainSettings(**{**chosen, "data": data, "own": own, "encoder": arguments.encoder or DEFAULT_ENCODER})
    if arguments.check:
        from turnover.pipeline.plan import plan_run, report

        plan = plan_run(settings, Path(arguments.run))
        if plan.settings.named_model:
            from turnover.pipeline.try_model import try_model

            try_model(plan)
        return report(plan)
    from turnover.pipeline.train import train_run
    from turnover.ranks import open_ranks

    with open_ranks() as ranks:
        return train_run(settings, Path(arguments.run), arguments.device, ranks=ranks)


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    if "classes" in result:
        return _describe_check(result)
    tested = f"test accuracy {result['test_accuracy']:.1%} on {result['test_size']} items, measured once\n" if "test_accuracy" in result else ""
    return (
        f"{result['run']}: {counted(result['members'], 'member')}, {result['train_size']} training and {result['validation_size']} validation items, "
        f"{counted(result['epochs'], 'epoch')} in {result['seconds']:.0f} s on {result['device']}\n"
        f"validation accuracy {result['validation_accuracy']:.1%} with turn-over dropout, {result['plain_accuracy']:.1%} without\n{tested}"
        f"losses in nats: masked {result['masked_loss']:.3f}, flipped {result['flipped_loss']:.3f}, "
        f"validation {result['validation_loss']:.3f}, under masks nobody owns {result['unowned_loss']:.3f}\n"
        f"next: turnover influence --run {result['run']}{' --model ' + result['model'] if is_module(result['model']) else ''}"
    )


def _describe_check(result: dict[str, Any]) -> str:
    """What would be trained on what, in words."""
    report = "".join(f"{line}\n" for line in result["data_report"])
    classes = ", ".join(f"{one['name']} {one['train']} and {one['validation']}" for one in result["classes"])
    return (
        f"{result['data']}: {result['train_size']} training and {result['validation_size']} validation {result['kind']}s\n"
        f"classes: {classes}\n{report}{result['planted_labels']} training labels made wrong on purpose\n"
        f"{result['model']} with {counted(result['members'], 'member')}, at most {counted(result['epochs'], 'epoch')}, into {result['run']}"
        f"{'; goes on with a training that was stopped' if result['resumes'] else ''}"
    )
