"""What turn-over dropout costs in accuracy (section 4.1), and what ordinary dropout of the same rate does (footnote 6).

The same model is trained without dropout, with turn-over dropout, and with a new random mask at each step. Masks over all
layers without adapters are what the paper found unstable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from turnover.device import choose_device
from turnover.paper.row import PaperRow
from turnover.paper.setup import Setup
from turnover.pipeline.architecture import build_model
from turnover.pipeline.model import run_settings, run_split
from turnover.pipeline.settings import TrainSettings
from turnover.progress import bar
from turnover.runs import Run
from turnover.training import fit

_PAPER = {5000: ("90.0 %", "88.3 %"), 20_000: ("90.5 %", "90.2 %")}
_SENTENCES = 6920
_PAPER_IMAGES = ("92.0 %", "86.2 %", "91.3 %")
_SMALL = {"limit": 2000, "validation_limit": 500, "epochs": 5}
"""What two cores train VGG19 on in a quarter of an hour, its plain twin included."""


def text_settings(setup: Setup, size: int, model: str = "adapters") -> TrainSettings:
    """SST-2 of this size, more than all sentences from its phrases; masks of groups at the small scale, of single units at the paper's."""
    groups = 16 if setup.scale == "small" else 0
    data = "sst2" if size <= _SENTENCES else "sst2-phrases"
    return TrainSettings(data, path=setup.folder("sst2"), limit=size, model=model, groups=groups, encoder=setup.text_encoder)


def image_settings(setup: Setup, dropout: float = 0.0, late_norm: bool = True) -> TrainSettings:
    """VGG19 on CIFAR-10, a subset and few epochs at the small scale; with or without batch norm behind the first mask."""
    size: dict[str, Any] = _SMALL if setup.scale == "small" else {}
    return TrainSettings("cifar10", path=setup.folder("cifar10"), model="vgg19", groups=0, dropout=dropout, late_norm=late_norm, **size)


def side_effect(setup: Setup) -> Iterator[PaperRow]:
    """Accuracies on SST-2 and on CIFAR-10."""
    encoder = setup.encoder_name
    for size in (5000,) if setup.scale == "small" else (5000, 20_000):
        setting = f"SST-2, N = {size:,}, {encoder} with adapters"
        run = setup.run(f"sst2-adapters-{size}", text_settings(setup, size))
        yield from _pair(run, setting, *_PAPER[size])
        yield PaperRow("ordinary dropout of the same rate", setting, "", f"{_with_fresh_masks(run, setup):.1%}")
    size, epochs = (2000, 2) if setup.scale == "small" else (5000, None)
    everywhere = setup.run("sst2-masked-encoder", replace(text_settings(setup, size, "masked-encoder"), epochs=epochs))
    yield from _pair(everywhere, f"SST-2, N = {size:,}, {encoder}, masks over all layers, no adapters", "", "unstable")
    subset = f", {_SMALL['limit']:,} images, {_SMALL['epochs']} epochs" if setup.scale == "small" else ""
    setting = f"CIFAR-10{subset}, VGG19"
    yield from _pair(setup.run("cifar10-vgg19", image_settings(setup)), setting, *_PAPER_IMAGES[:2])
    beside = setup.run("cifar10-vgg19-dropout", image_settings(setup, dropout=0.5))
    yield PaperRow("turn-over and ordinary dropout", setting, _PAPER_IMAGES[2], f"{beside.manifest['results']['validation_accuracy']:.1%}")


def _pair(run: Run, setting: str, without: str, with_masks: str) -> Iterator[PaperRow]:
    """Accuracy without and with turn-over dropout."""
    results = run.manifest["results"]
    yield PaperRow("accuracy without dropout", setting, without, f"{results['plain_accuracy']:.1%}")
    yield PaperRow("accuracy with turn-over dropout", setting, with_masks, f"{results['validation_accuracy']:.1%}")


def _with_fresh_masks(run: Run, setup: Setup) -> float:
    """Validation accuracy of the run's model trained with a new mask for each row of each batch."""
    device, settings = choose_device(setup.device), run_settings(run)
    train, validation = (run_split(run, name, device) for name in ("train", "validation"))
    model = build_model(settings, len(run.classes), tuple(train.inputs.shape[1:])).to(device)
    recipe = replace(settings.recipe, fresh=True)
    with bar(recipe.epochs, f"{run.name}: ordinary dropout", "epochs") as advance:
        history = fit(model, train, validation, recipe, progress=lambda _: advance(1))
    return history.accuracy[history.kept]
