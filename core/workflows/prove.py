"""Prove claims: train again without the named training items, and without as many random ones.

What is trained and how it is judged is in `turnover.runs.proofs`. From one seed the models without
the items and without random ones have one start and the same batches, except that they meet one
another's items in the same places: they differ by these alone. Claims on the same items share their
models, and all claims of a run share those that are trained on everything, which the run keeps. A
stopped proof goes on with the models that are missing.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from turnover.attribution.device import choose_device
from turnover.attribution.masks import derive_seed
from turnover.errors import TurnoverError
from turnover.explain.claims import Claim
from turnover.runs.proofs import SEEDS, Proof, interval
from turnover.runs.run import PREDICTION, Run
from turnover.storage.artifacts import Parts
from turnover.workflows.subsets import retrained
from turnover.workflows.targets import Targets

_RANDOM = 17
_WHOLE, _WITHOUT, _DRAWN = "whole", "without", "random"
_DIGITS = 16


def prove(
    run: Run, claims: Sequence[Claim], device: str | None = None, cluster: str | None = None
) -> list[Proof]:
    """Test claims by retraining; their proofs in the same order.

    Models are trained on this machine, or on the Ray `cluster` at an address.

    Raises:
        TurnoverError: for a claim on no item, or on all items of a class; for a run that was
            trained elsewhere; if training diverges.
    """
    begun, labels = time.perf_counter(), run.train["label"].to_numpy()
    for claim in claims:
        _check(run, claim, labels)
    targets = Targets(run, choose_device(device), run.misclassified_positions, PREDICTION, cluster)
    settings = {**targets.asked, "seeds": SEEDS, "epochs": targets.epochs()}
    sets, rows = _sets(claims, labels, targets.settings.seed)
    seen = retrained(targets, sets, SEEDS, ("proofs", settings), "log probabilities")
    _forget(targets.store("proofs", settings))
    seconds = (time.perf_counter() - begun) / max(1, len(set(rows)))
    return [
        _proof(
            run,
            claim,
            (seen[_WHOLE][:, 0], seen[without][:, place], seen[random][:, place]),
            seconds,
        )
        for claim, (without, random, place) in zip(claims, rows, strict=True)
    ]


def _check(run: Run, claim: Claim, labels: np.ndarray) -> None:
    """Check that something is left out, and that something else could be."""
    if not len(claim.items):
        raise TurnoverError(f"{run.folder}: there is nothing to leave out: the claim names no item")
    gone, there = (
        np.bincount(rows, minlength=len(run.classes)) for rows in (labels[claim.items], labels)
    )
    if whole := np.flatnonzero((gone == there) & (there > 0)).tolist():
        raise TurnoverError(
            f"{run.folder}: these are all training items of class {run.classes[whole[0]]!r}, so "
            "there are no random ones to compare with; name fewer"
        )


def _forget(store: Parts) -> None:
    """Remove the models of single claims, of which the proofs are kept."""
    for name in store.names:
        if not name.startswith(_WHOLE):
            store.path(name).unlink(missing_ok=True)


# What is trained on


def _sets(
    claims: Sequence[Claim], labels: np.ndarray, seed: int
) -> tuple[dict[str, np.ndarray], list[tuple[str, str, int]]]:
    """The sets of training positions by name, as `retrained` takes them; and for each claim the
    names of its sets, without its items and without random ones, and its row in these.
    """
    by_size: dict[int, dict[bytes, np.ndarray]] = defaultdict(dict)
    keys = [_bytes(claim.items) for claim in claims]
    for claim, key in zip(claims, keys, strict=True):
        by_size[len(claim.items)][key] = claim.items
    sets = {_WHOLE: np.arange(len(labels))[None]}
    where: dict[bytes, tuple[str, str, int]] = {}
    for different in by_size.values():
        digest = hashlib.sha256(b"".join(different)).hexdigest()[:_DIGITS]
        names = f"{digest}-{_WITHOUT}", f"{digest}-{_DRAWN}"
        pairs = [_pair(items, labels, seed) for items in different.values()]
        for name, arrays in zip(names, zip(*pairs, strict=True), strict=True):
            sets[name] = np.stack(arrays)
        where |= {key: (*names, place) for place, key in enumerate(different)}
    return sets, [where[key] for key in keys]


def _pair(items: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The training positions without some items `(n,)`; and without as many random ones of the same
    labels, another draw for each seed, `(SEEDS, n)`: those that come back stand where those that go
    stood.
    """
    rest = np.setdiff1d(np.arange(len(labels)), items)
    key = int.from_bytes(hashlib.sha256(_bytes(items)).digest()[:4], "big")
    others = []
    for member in range(SEEDS):
        rng, swapped = np.random.default_rng(derive_seed(seed, _RANDOM, member, key)), rest.copy()
        for label in np.unique(labels[items]):
            named = items[labels[items] == label]
            drawn = rng.permutation(np.flatnonzero(labels == label))[: len(named)]
            going, coming = np.setdiff1d(drawn, named), np.setdiff1d(named, drawn)
            swapped[np.searchsorted(rest, going)] = rng.permutation(coming)
        others.append(swapped)
    return rest, np.stack(others)


def _bytes(items: np.ndarray) -> bytes:
    return np.ascontiguousarray(items, "<i8").tobytes()


# What it showed


def _proof(run: Run, claim: Claim, seen: Sequence[np.ndarray], seconds: float) -> Proof:
    """The proof of a claim, from the log-probabilities `(S, E, C)` of all errors after training on
    everything, without its items, and without random ones.
    """
    row = run.misclassified_positions.index(claim.error)
    label = int(run.item("validation", claim.error)["predicted"])
    whole, without, random = (-each[:, row, label].astype(float) for each in seen)
    stood, stands = (each[:, row].argmax(-1) == label for each in seen[:2])
    ranked = run.influence.ranked(claim.error, PREDICTION)
    difference, low, high = interval(whole, without, random)
    return Proof(
        error=claim.error,
        items=tuple(claim.items.tolist()),
        claim=claim.words,
        why=claim.why,
        whole=tuple(whole.tolist()),
        without=tuple(without.tolist()),
        random=tuple(random.tolist()),
        made=int(stood.sum()),
        gone=int((stood & ~stands).sum()),
        predicted=float(ranked.values[np.isin(ranked.instances, claim.items)].sum()),
        difference=difference,
        low=low,
        high=high,
        seconds=round(seconds, 2),
    )
