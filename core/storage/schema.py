"""The schema of a run folder: manifests, tables and arrays are consistent, no path leads out of it.

Checksums detect damage. They prove nothing about a folder that somebody else has made, on purpose
or by mistake, with valid checksums; whoever opens it shall read one line, not see a page break.
Needs no torch.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from turnover.errors import TurnoverError

KINDS = ("text", "image")
CURVES = ("masked", "flipped", "validation", "unowned")
"""The four losses of training (`turnover.training.fit`)."""

_OF_THE_TWIN = ("plain_accuracy", "plain_loss", "plain_kept_epoch")
_TEXT_FACTS = ("created", "device")
_ORIGIN = ("path", "sha256", "content", "label")
_LAYOUTS = ("full", "top")
_NATS = 1e12
"""No loss is so high; squares of lower ones still fit in float32."""

_MEANINGS = {"truth": "targets", "prediction": "errors"}


class Implausible(ValueError):
    """The invalid part, in a few words; the caller knows the file and the remedy."""


UNREADABLE: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    EOFError,
    NotImplementedError,
    MemoryError,
    RecursionError,
    SyntaxError,  # this and the next: of the head of a .npy file
    TokenError,
    BadZipFile,  # this and the next: of .npz
    zlib.error,
)
"""What NumPy, pandas and pyarrow raise for files that they cannot read."""


@contextmanager
def told_of(path: Path, remedy: str) -> Iterator[None]:
    """Turn any failure to read or check a file into a one-line error that names it and ends with
    `remedy`.
    """
    try:
        yield
    except TurnoverError:
        raise
    except Implausible as error:
        raise TurnoverError(f"{path}: {error} cannot be as it says; {remedy}") from None
    except UNREADABLE as error:
        raise TurnoverError(
            f"{path}: not readable ({' '.join(str(error).split())[:200]}); {remedy}"
        ) from None


def finite_number(value: Any) -> float:
    """A finite number from a JSON file.

    Raises:
        ValueError, TypeError, OverflowError: for anything else.
    """
    number = float(value)
    if isinstance(value, str) or not math.isfinite(number):
        raise ValueError(value)
    return number


def first_link(folder: Path) -> Path | None:
    """A symbolic link anywhere below a folder, which could lead out of it, or None."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            # in the loop over all files of a run, where a Path costs five times as much
            if os.path.islink(os.path.join(parent, name)):  # noqa: PTH114, PTH118
                return Path(parent, name)
    return None


def check_run_facts(facts: Mapping[str, Any]) -> None:
    """Check that a run's manifest is valid.

    Raises:
        Implausible: if it does not.
    """
    classes, results = facts["classes"], facts["results"]
    _require(facts["kind"] in KINDS, "kind")
    _require(
        _are(classes, str)
        and 0 < len(classes) == len(set(classes))
        and all(map(_writable, classes)),
        "classes",
    )
    for name in ("data", "settings", "recipe", "results", "versions", "timings"):
        _require(isinstance(facts.get(name, {}), dict), name)
    for name in _TEXT_FACTS:
        _require(isinstance(facts.get(name, ""), str), name)
    for name in ("name", "source", "fingerprint"):
        _require(
            isinstance(facts["data"].get(name, ""), str)
            and (name in facts["data"] or name == "fingerprint"),
            f"data: {name}",
        )
    origin = facts["data"].get("origin", {"path": ""})
    _require(
        isinstance(origin, dict)
        and all(isinstance(origin.get(name, ""), str) for name in _ORIGIN)
        and isinstance(origin.get("size", 0), int),
        "data: origin",
    )
    _require(_are(facts.get("leaks", []), str), "leaks")
    _require(_are(list(facts.get("versions", {}).values()), str), "versions")
    for name in ("train_size", "validation_size", "members", "epochs", "kept_epoch"):
        _require(_is_count(results.get(name), 1), f"results: {name}")
    _require(results["kept_epoch"] <= results["epochs"], "results: kept_epoch")
    unknown = {name for name in _OF_THE_TWIN if "adopted" in facts and results.get(name, 0) is None}
    for name in {"validation_accuracy", "plain_accuracy"} - unknown:
        _require(_is_number(results.get(name)) and 0 <= results[name] <= 1, f"results: {name}")
    _require(
        all(
            isinstance(value, str) or _is_number(value) or name in unknown
            for name, value in results.items()
        ),
        "results",
    )


def check_items(items: pd.DataFrame, facts: Mapping[str, Any]) -> None:
    """Check that a run's table of items matches its manifest.

    Raises:
        Implausible: if it does not.
    """
    kind, classes = facts["kind"], len(facts["classes"])
    chances = [f"probability_{number}" for number in range(classes)]
    for name in ("split", "position", "id", "label", "predicted", "planted", *chances, kind):
        _require(name in items.columns, name)
    sizes = [facts["results"][f"{split}_size"] for split in ("train", "validation")]
    _require(
        len(items) == sum(sizes)
        and items["split"].tolist() == ["train"] * sizes[0] + ["validation"] * sizes[1],
        "split",
    )
    _require(
        _whole(items["position"])
        and items["position"].tolist() == [*range(sizes[0]), *range(sizes[1])],
        "position",
    )
    for name in ("label", "predicted"):
        _require(_whole(items[name]) and items[name].between(0, classes - 1).all(), name)
    _require("row" not in items or _whole(items["row"]), "row")
    for name in (
        column for column in items.columns if not pd.api.types.is_numeric_dtype(items[column])
    ):
        _require(set(map(type, items[name])) <= {bytes if name == "image" else str}, name)
    for name in ("id", "planted", kind):
        _require(not pd.api.types.is_numeric_dtype(items[name]), name)
    _require(not items.duplicated(["split", "id"]).any(), "id")
    for name in chances:
        _require(items[name].dtype.kind == "f" and items[name].between(0, 1.001).all(), name)


def check_curves(curves: pd.DataFrame, facts: Mapping[str, Any]) -> None:
    """Check that a run's curves match its manifest.

    Raises:
        Implausible: if they do not.
    """
    _require(len(curves) == facts["results"]["epochs"], "epochs")
    for name in ("epoch", *CURVES, "accuracy"):
        _require(name in curves.columns and curves[name].dtype.kind in "fi", name)


def check_array(array: np.ndarray, *shape: int | None, kind: str = "f") -> None:
    """Check an array's kind of numbers (`dtype.kind`) and its shape; None stands for any length.

    Raises:
        Implausible: if it does not.
    """
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
    )
    _require(array.dtype.kind == kind and fits, f"{array.dtype} {array.shape}")


def check_influence_facts(facts: Mapping[str, Any]) -> None:
    """Check that the manifest of a run's influence is valid.

    Raises:
        Implausible: if it does not.
    """
    targets, errors = facts["targets"], facts["errors"]
    for name, positions in (("targets", targets), ("errors", errors)):
        _require(
            isinstance(positions, list)
            and all(_is_count(position, 0) for position in positions)
            and len(set(positions)) == len(positions),
            name,
        )
    _require(bool(targets) and set(errors) <= set(targets), "targets")
    _require(facts["layout"] in _LAYOUTS, "layout")
    _require(isinstance(facts["estimator"], str), "estimator")
    _require(
        isinstance(facts["agreement"], dict) and all(map(_is_number, facts["agreement"].values())),
        "agreement",
    )
    _require(isinstance(facts.get("precision", ""), str), "precision")


def check_influence(
    facts: Mapping[str, Any],
    array: Callable[[str], np.ndarray],
    sizes: tuple[int, int, int],
    wrong: Iterable[int],
) -> None:
    """Check that the arrays of a run's influence match its manifest and the run.

    Args:
        facts: the manifest.
        array: one of its arrays by name.
        sizes: members, training and validation items.
        wrong: the misclassified validation items.

    Raises:
        Implausible: if they do not; TurnoverError: if an array cannot be read.
    """
    members, train, validation = sizes
    _require(max(facts["targets"]) < validation, "targets")
    _require(set(facts["errors"]) == set(wrong) & set(facts["targets"]), "errors")
    for name in ("self", "mean_members"):
        check_array(array(name), members, train)
        _require((np.abs(array(name)) < _NATS).all(), name)
    for meaning, named in _MEANINGS.items():
        count, full = len(facts[named]), facts["layout"] == "full"
        width = train if full else array(f"{meaning}_estimate").shape[-1]
        for name in ("estimate", "error"):
            check_array(array(f"{meaning}_{name}"), count, width)
        estimates, spread = array(f"{meaning}_estimate"), array(f"{meaning}_error")
        _require((np.abs(estimates) < _NATS).all(), f"{meaning}_estimate")
        # one member has no error: it is NaN
        _require(not ((spread < 0) | (spread > _NATS)).any(), f"{meaning}_error")
        if f"{meaning}_shape.npy" in facts["files"]:
            check_array(array(f"{meaning}_shape"), count, None)
        if full:
            check_array(array(f"{meaning}_members"), members, count, train)
            continue
        instances = array(f"{meaning}_instances")
        check_array(instances, count, width, kind="i")
        _require(((instances >= 0) & (instances < train)).all(), f"{meaning}_instances")


def _require(holds: object, what: str) -> None:
    if not holds:
        raise Implausible(what)


def _are(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**53


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < 2**1023
        and math.isfinite(value)
    )


def _whole(column: pd.Series) -> bool:
    return column.dtype.kind in "iu"


def _writable(text: str) -> bool:
    """Whether UTF-8 can encode it: a JSON file can hold lone surrogates."""
    return text.encode("utf-8", "replace").decode() == text
