"""The paper's experiments except Table 1 (`turnover.research.paper.table1`), one function each.

- `side_effect`: what turn-over dropout costs in accuracy (section 4.1), and ordinary dropout of the
  same rate (footnote 6). The same model is trained without dropout, with turn-over dropout, and
  with a new random mask at each step. Masks over all layers without adapters are what the paper
  found unstable.
- `cleansing`: SST-2 cleansed for Elec (section 4.4, Table 2), retrained without turn-over dropout.
  Influences are averaged over 200 Elec validation reviews. The paper removes 1 %; here several
  fractions are tried, the one with the lowest validation loss is chosen, and the Elec test reviews
  measure it.
- `curves`: training losses (Figure 2) under the own mask, under the flipped mask, and on validation
  items. The sub-network that never saw an item must do no better on it than on a new item, so the
  flipped loss has to stay near the validation loss while the masked loss falls; where it falls too,
  something leaks. Beside the paper's curve stands the validation loss under unowned masks, which
  are to a new item what a flipped mask is. VGG19 is trained with batch norm everywhere and with
  none behind the first mask: its statistics there, over all instances of a batch, mix what the
  masks should keep apart.
- `footnote4`: the full network in place of the masked one. Equation (2) is L(f^m̃) − L(f^m); the
  footnote's other choice is L(f^m̃) − L(f). Both are measured by LDS.
- `errors_text`, `errors_images`: mistakes and the training items behind them (Figures 3 to 5), as a
  page beside the runs, and what the explanations have in common. At the small scale few sentences
  are explained: each costs two encoder passes for each of 5,000 training sentences, twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from turnover.attribution.device import choose_device
from turnover.attribution.engine import backend_for
from turnover.attribution.engine.naive import evaluating
from turnover.attribution.engine.tiling import Backend, tiles
from turnover.explain.explanation import rounded
from turnover.explain.facts import explained_pattern
from turnover.explain.report import write_report
from turnover.models.registry import TrainSettings
from turnover.research.evaluate.lds import halves_of, row_of
from turnover.research.evaluate.results import Figure
from turnover.research.evaluate.scores import (
    Evidence,
    Options,
    evidence_of,
    turnover_scores,
)
from turnover.research.evaluate.task import EvaluationTask
from turnover.research.paper.setup import PaperRow, Setup
from turnover.runs.model import run_settings, run_split
from turnover.runs.ranking import TOP
from turnover.runs.run import Run
from turnover.storage.progress import bar
from turnover.storage.schema import CURVES
from turnover.training.fit import fit
from turnover.workflows.cleanse import cleanse, prepare
from turnover.workflows.cleansing import CLEANSED, CONDITIONS, NONE, RANDOM, SHARES
from turnover.workflows.influence import compute_influence

# Side effect on accuracy (section 4.1)

_PAPER_ACCURACY = {5000: ("90.0 %", "88.3 %"), 20_000: ("90.5 %", "90.2 %")}
_SENTENCES = 6920
_PAPER_IMAGES = ("92.0 %", "86.2 %", "91.3 %")
_SMALL = {"limit": 2000, "validation_limit": 500, "epochs": 5}
"""What two cores can train VGG19 on in 15 minutes, including its plain twin."""


def text_settings(setup: Setup, size: int, model: str = "adapters") -> TrainSettings:
    """SST-2 of this size, more than all sentences from its phrases; masks of groups at the small
    scale, of single units at the paper's.
    """
    groups = 16 if setup.scale == "small" else 0
    data = "sst2" if size <= _SENTENCES else "sst2-phrases"
    return TrainSettings(
        data,
        path=setup.folder("sst2"),
        limit=size,
        model=model,
        options={"groups": groups, "encoder": setup.text_encoder},
    )


def image_settings(setup: Setup, dropout: float = 0.0, late_norm: bool = True) -> TrainSettings:
    """VGG19 on CIFAR-10, a subset and few epochs at the small scale; with or without batch norm
    behind the first mask.
    """
    size: dict[str, Any] = _SMALL if setup.scale == "small" else {}
    return TrainSettings(
        "cifar10",
        path=setup.folder("cifar10"),
        model="vgg19",
        options={"groups": 0, "masks": 0, "dropout": dropout, "late_norm": late_norm},
        **size,
    )


def side_effect(setup: Setup) -> Iterator[PaperRow]:
    """Accuracies on SST-2 and on CIFAR-10."""
    encoder = setup.encoder_name
    for size in (5000,) if setup.scale == "small" else (5000, 20_000):
        setting = f"SST-2, N = {size:,}, {encoder} with adapters"
        run = setup.run(f"sst2-adapters-{size}", text_settings(setup, size))
        yield from _pair(run, setting, *_PAPER_ACCURACY[size])
        yield PaperRow(
            "ordinary dropout of the same rate", setting, "", f"{_with_fresh_masks(run, setup):.1%}"
        )
    size, epochs = (2000, 2) if setup.scale == "small" else (5000, None)
    everywhere = setup.run(
        "sst2-masked-encoder", replace(text_settings(setup, size, "masked-encoder"), epochs=epochs)
    )
    yield from _pair(
        everywhere,
        f"SST-2, N = {size:,}, {encoder}, masks over all layers, no adapters",
        "",
        "unstable",
    )
    subset = (
        f", {_SMALL['limit']:,} images, {_SMALL['epochs']} epochs" if setup.scale == "small" else ""
    )
    setting = f"CIFAR-10{subset}, VGG19"
    yield from _pair(setup.run("cifar10-vgg19", image_settings(setup)), setting, *_PAPER_IMAGES[:2])
    beside = setup.run("cifar10-vgg19-dropout", image_settings(setup, dropout=0.5))
    yield PaperRow(
        "turn-over and ordinary dropout",
        setting,
        _PAPER_IMAGES[2],
        f"{beside.manifest['results']['validation_accuracy']:.1%}",
    )


def _pair(run: Run, setting: str, *papers: str) -> Iterator[PaperRow]:
    """Accuracy without and with turn-over dropout."""
    results = run.manifest["results"]
    whats = (("without", "plain_accuracy"), ("with turn-over", "validation_accuracy"))
    for (what, name), paper in zip(whats, papers, strict=True):
        yield PaperRow(f"accuracy {what} dropout", setting, paper, f"{results[name]:.1%}")


def _with_fresh_masks(run: Run, setup: Setup) -> float:
    """Validation accuracy of the run's model trained with a new mask for each row of each batch."""
    device, settings = choose_device(setup.device), run_settings(run)
    train, validation = (run_split(run, name, device) for name in ("train", "validation"))
    model = settings.build(len(run.classes), tuple(train.inputs.shape[1:])).to(device)
    recipe = replace(settings.recipe, fresh=True)
    with bar(recipe.epochs, f"{run.name}: ordinary dropout", "epochs") as advance:
        history = fit(model, train, validation, recipe, progress=lambda _: advance(1))
    return history.accuracy[history.kept]


# Cleansing (section 4.4)

_PAPER_CLEANSING = {
    NONE: ("77.0 ± .9 %", ".536"),
    RANDOM: ("76.8 ± 1.1 %", ""),
    CLEANSED: ("78.3 ± .2 %", ".484"),
}
_REPEATS = 8


def cleansing(setup: Setup) -> Iterator[PaperRow]:
    """Accuracy and loss on Elec, mean ± standard deviation over seeds, at 1 % and at the fraction
    that validation chooses.
    """
    run = _run(setup)
    prepared = prepare(run, "elec", setup.folder("elec"), setup.device)
    tried = cleanse(prepared, SHARES, _REPEATS)
    conditions = {(row["condition"], row["share"]): row for row in tried["conditions"]}
    model = (
        f"heads on {setup.encoder_name}"
        if setup.scale == "small"
        else f"{setup.encoder_name} with adapters"
    )
    for fraction in dict.fromkeys((SHARES[0], tried["chosen"])):
        chosen = ", chosen by validation loss" if fraction == tried["chosen"] else ""
        setting = f"SST-2 to Elec, {model}, {fraction:.0%} removed{chosen}, {_REPEATS} seeds"
        for name in CONDITIONS:
            result = conditions[name, 0.0 if name == NONE else fraction]
            papers = _PAPER_CLEANSING[name] if fraction == SHARES[0] else ("", "")
            for what, form, paper in zip(("accuracy", "loss"), (".1%", ".3f"), papers, strict=True):
                measured = f"{result[what]:{form}} ± {result[f'{what}_sd']:{form}}"
                yield PaperRow(
                    f"{name}: {what}", setting, paper, measured + _against(result, what, f"+{form}")
                )


def _against(condition: dict[str, Any], what: str, form: str) -> str:
    """How a condition compares with those before it, in brackets; with paired p-values."""
    parts = []
    for comparison in condition["against"]:
        p_value = comparison[f"{what}_p"]
        parts.append(
            f"{comparison[what]:{form}} against {comparison['other']}"
            + ("" if p_value is None else f", paired p = {p_value:.2g}")
        )
    return f" ({'; '.join(parts)})" if parts else ""


def _run(setup: Setup) -> Run:
    small = setup.scale == "small"
    settings = (
        TrainSettings(
            "sst2",
            path=setup.folder("sst2"),
            limit=5000,
            options={"encoder": setup.text_encoder, "masks": 0},
        )
        if small
        else text_settings(setup, 20_000)
    )
    run = setup.run("sst2-cleansing", settings)
    if not run.has_influence:
        compute_influence(run, "validation" if small else "errors", setup.device)
    return Run(run.folder)


# Losses of training (Figure 2)


def curves(setup: Setup) -> Iterator[PaperRow]:
    """Losses of each epoch, and how near the flipped loss is to the validation loss at the kept
    epoch.
    """
    runs = {
        "sst2-adapters-5000": text_settings(setup, 5000),
        "cifar10-vgg19": image_settings(setup),
        "cifar10-vgg19-no-late-norm": image_settings(setup, late_norm=False),
    }
    for name, settings in runs.items():
        run = setup.run(name, settings)
        kept_epoch = int(run.manifest["results"]["kept_epoch"])
        for epoch in run.curves.to_dict("records"):
            losses = ", ".join(f"{curve} {epoch[curve]:.3f}" for curve in CURVES)
            yield PaperRow(
                f"epoch {epoch['epoch']}{' (kept)' if epoch['epoch'] == kept_epoch else ''}",
                run.name,
                "",
                f"{losses}; accuracy {epoch['accuracy']:.1%}",
            )
        last = run.curves.iloc[kept_epoch - 1]
        for curve, paper in (("flipped", "about 1"), ("masked", "far below 1")):
            yield PaperRow(
                f"{curve} over validation loss, kept epoch",
                run.name,
                paper,
                f"{last[curve] / last['validation']:.2f}",
            )


# Footnote 4

_MEMBERS, _OPTIONS = 16, Options()
MASKED, FULL = "L(f^m̃) − L(f^m), equation (2)", "L(f^m̃) − L(f), footnote 4"


def footnote4(setup: Setup) -> Iterator[PaperRow]:
    """Scores of both choices, estimator by estimator, on digits, and on SST-2 if there is a folder
    of data.
    """
    runs = {"footnote4-digits": TrainSettings("digits", model="heads", members=_MEMBERS)}
    if setup.data is not None:
        runs["footnote4-sst2"] = TrainSettings(
            "sst2", path=setup.folder("sst2"), limit=5000, label_noise=0.1, members=_MEMBERS
        )
    for name, settings in runs.items():
        run = setup.run(name, settings)
        if not run.has_influence:
            compute_influence(run, device_choice=setup.device)
            run = Run(run.folder)
        yield from _rows(EvaluationTask.of(run, setup.device))


def _rows(task: EvaluationTask) -> Iterator[PaperRow]:
    evidence, seconds = evidence_of(task)
    against_full = replace(evidence, values=full_influence(evidence))
    inside, losses = halves_of(task, _OPTIONS)
    facts = task.run.manifest
    data = f"{facts['data']['name']}, N = {len(task.run.train):,}, {evidence.model.members} members"
    for first, second in zip(
        turnover_scores(evidence, seconds), turnover_scores(against_full, seconds), strict=True
    ):
        for what, scored in ((MASKED, first), (FULL, second)):
            figures = row_of(scored, inside, losses).figures
            way = scored.method.removeprefix("turn-over, ") + f" ({scored.note})" * bool(
                scored.note
            )
            yield PaperRow(f"LDS of {what}", f"{data}, {way}", "", _measured(figures))


def _measured(figures: dict[str, Figure]) -> str:
    return "; ".join(
        str(figure) if name == "LDS" else f"{name} {figure}" for name, figure in figures.items()
    )


class _AgainstFull:
    """A backend whose masked logits are the full network's."""

    def __init__(self, backend: Backend, full: Tensor) -> None:
        self.backend, self.full, self.members = backend, full, backend.members
        self.name, self.tiling = backend.name, backend.tiling

    def tile(self, targets: slice, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Full and flipped logits, each `(K, targets, ids, classes)`."""
        _, flipped = self.backend.tile(targets, ids)
        return self.full[:, targets, None].to(flipped).expand_as(flipped), flipped


def full_influence(evidence: Evidence) -> np.ndarray:
    """L(f^m̃) − L(f) in nats, `(K, T, N)`."""
    model, targets, run = evidence.model, evidence.task.targets, evidence.task.run
    ids = torch.arange(len(run.train))
    values = np.empty(evidence.values.shape, np.float32)
    with (
        evaluating(model),
        bar(values.size, f"{run.name}: against the full network", "pairs") as advance,
    ):
        backend = _AgainstFull(backend_for(model, targets.inputs), model(targets.inputs))
        for rows, columns, (tile,) in tiles(backend, (targets.labels,), ids, None, advance):
            values[:, rows, columns] = tile.numpy()
    return values


# Mistakes (Figures 3 to 5)


def explain_mistakes(setup: Setup, run: Run, page: str, most: int) -> Iterator[PaperRow]:
    """Rows on the mistakes of a run; `page` is the file written beside the runs.

    Args:
        setup: where runs are kept, and the device.
        run: whose influences are computed on at most `most` random mistakes, unless it has
            influences.
        page: name of the file.
        most: 1 or more.

    Raises:
        TurnoverError: if the run makes no mistake.
    """
    if not run.has_influence:
        compute_influence(run, "errors", setup.device, most=most)
    run = Run(run.folder)
    written = write_report(run, setup.runs / page)
    results = run.manifest["results"]
    setting = (
        f"{run.name}, N = {results['train_size']:,}, members: {results['members']}, estimator: "
        f"{run.influence.estimator}"
    )
    measured = {
        "misclassified validation items": (
            f"{written['misclassified']:,} of {len(run.validation):,}"
        ),
        "of them explained": f"{written['explained']:,}",
        "page": written["report"],
    }
    if pattern := explained_pattern(run):
        error = "" if pattern.proponents_error is None else f" ± {pattern.proponents_error:.1%}"
        measured |= {
            f"{TOP} strongest proponents of the prediction that carry the predicted label": (
                f"{pattern.proponents:.1%}{error} (of all training items {pattern.chance:.1%})"
            ),
            f"{TOP} strongest opponents that carry it": f"{pattern.opponents:.1%}",
            "influence of the strongest proponent, median": f"{rounded(pattern.strongest)} nats",
        }
        if pattern.spread is not None:
            measured["influence of a training item, standard deviation, median"] = (
                f"{rounded(pattern.spread)} nats"
            )
    yield from (PaperRow(what, setting, "", value) for what, value in measured.items())


_MOST_IMAGES = 50


def errors_images(setup: Setup) -> Iterator[PaperRow]:
    """How many mistakes there are, the page that explains them, and whose labels their proponents
    carry.
    """
    run = setup.run("cifar10-vgg19", image_settings(setup))
    yield from explain_mistakes(setup, run, "errors-images.html", _MOST_IMAGES)


_MOST_TEXTS = {"small": 6, "paper": 50}


def errors_text(setup: Setup) -> Iterator[PaperRow]:
    """How many mistakes there are, the page that explains them, and whose labels their proponents
    carry.
    """
    run = setup.run("sst2-adapters-5000", text_settings(setup, 5000))
    yield from explain_mistakes(setup, run, "errors-text.html", _MOST_TEXTS[setup.scale])
