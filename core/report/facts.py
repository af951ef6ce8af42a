"""What a run is, in words; and what the explanations of its errors have in common, in numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from turnover.models.encoders import DEFAULT_ENCODER
from turnover.models.source import is_module
from turnover.ranking import TOP
from turnover.report.explanation import PREDICTION, estimate_words
from turnover.report.words import snippet
from turnover.runs import Run

_MOST_CLASSES, _NAME = 20, 60


@dataclass(frozen=True)
class Pattern:
    """What explanations by influence on the prediction show, over the errors that have them; influences in nats.

    Attributes:
        errors: how many errors there are influences for.
        proponents: share of the `TOP` proponents that carry the predicted label, mean over errors; 0 for an error that has none.
        proponents_error: its standard error over errors; None for one error.
        opponents: the same share of the `TOP` opponents.
        chance: the share of all training items that carry the predicted label, mean over errors.
        strongest: influence of the strongest proponent, median over errors.
        spread: standard deviation over all training items, median over errors; None where a run keeps the ends only.
    """

    errors: int
    proponents: float
    proponents_error: float | None
    opponents: float
    chance: float
    strongest: float
    spread: float | None


def explained_pattern(run: Run) -> Pattern | None:
    """The pattern of a run with influence; None if no error has any.

    Raises:
        TurnoverError: if the run has no usable influence.
    """
    part, labels = run.influence, run.train["label"].to_numpy()
    if not part.errors:
        return None
    shares: list[list[float]] = []
    strongest, spreads = [], []
    for position in part.errors:
        ranked = part.ranked(position, PREDICTION)
        same = labels == int(run.item("validation", position)["predicted"])
        sides = [same[ranked.instances[places]] for places in ranked.ends(TOP)]
        shares.append([float(side.mean()) if len(side) else 0.0 for side in (*sides, same)])
        strongest.append(float(ranked.values.max()))
        spreads.append(float(ranked.values.std()))
    proponents, opponents, chance = np.mean(shares, axis=0)
    deviation = float(np.std(shares, axis=0, ddof=1)[0]) if len(shares) > 1 else None
    return Pattern(
        errors=len(shares),
        proponents=float(proponents),
        proponents_error=None if deviation is None else deviation / len(shares) ** 0.5,
        opponents=float(opponents),
        chance=float(chance),
        strongest=float(np.median(strongest)),
        spread=float(np.median(spreads)) if part.manifest["layout"] == "full" else None,
    )


def run_facts(run: Run, with_influence: bool = True) -> dict[str, str]:
    """What a run is: data, model, members and seed, accuracy, estimator, device and the rest, as far as its manifests say.

    Raises:
        TurnoverError: `with_influence`, if the run has none that can be used.
    """
    return {name: value for name, value in _facts(run, with_influence) if value}


def _facts(run: Run, with_influence: bool) -> Iterator[tuple[str, str]]:
    manifest, results, settings = run.manifest, run.manifest["results"], run.manifest["settings"]
    data, versions = manifest["data"], manifest.get("versions", {})
    yield "Data", f"{data.get('name', '')}: {data.get('source', '')}"
    yield "Items", f"{results['train_size']:,} training and {results['validation_size']:,} validation {run.kind}s"
    names, more = [snippet(name, _NAME) for name in run.classes[:_MOST_CLASSES]], len(run.classes) - _MOST_CLASSES
    yield "Classes", ", ".join(names) + (f" and {more} more" if more > 0 else "")
    yield "Model", _model(run)
    yield "Members", f"{results['members']}{'' if 'seed' not in settings else ', from seed ' + str(settings['seed'])}"
    without = "unknown" if results["plain_accuracy"] is None else f"{results['plain_accuracy']:.1%}"
    yield "Accuracy", f"{results['validation_accuracy']:.1%} with turn-over dropout, {without} without"
    yield "Test", f"{results['test_accuracy']:.1%} of {results['test_size']:,} test items" if "test_accuracy" in results else ""
    yield "Estimator", _estimator(run) if with_influence else ""
    yield "Device", str(manifest.get("device", ""))
    trained = "elsewhere, made a run on " if "adopted" in manifest else ""
    yield "Trained", f"{trained}{str(manifest.get('created', ''))[:10]}{', torch ' + versions['torch'] if 'torch' in versions else ''}"
    yield "Leaks", ", ".join(map(str, manifest.get("leaks", [])))


def _model(run: Run) -> str:
    settings = run.manifest["settings"]
    if "model" not in settings:
        return ""
    groups, own, where = settings.get("groups"), is_module(settings["model"]), ""
    if run.kind == "text":
        layers = settings.get("layers")
        link = "on" if own or settings["model"] == "heads" else "in"
        where = f" {link} {settings.get('encoder')}{f', last {layers} layers' if layers else ''}"
    elif settings["model"] == "heads" and settings.get("encoder") not in (None, DEFAULT_ENCODER):
        where = f" on {settings['encoder']}"
    masks = "its own masks" if own else f"masks of {f'{groups} groups of units' if groups else 'single units'}"
    return f"{settings['model']}{where}, {masks}"


def _estimator(run: Run) -> str:
    part = run.influence.manifest
    made = estimate_words(str(part["estimator"]), int(run.manifest["results"]["members"]))
    return made + (f", computed in {part['precision']}" if "precision" in part else "")
