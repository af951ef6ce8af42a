"""The schema of a run folder: what manifests and kept facts say, what arrays and tables are, and
that no path leads out of it.

Checksums detect damage. They prove nothing about a folder that somebody else has made, on purpose
or by mistake, with valid checksums; whoever opens it shall read one line, not see a page break.
Facts are `Facts`: pydantic models that take a number for a number only, and a finite one. Needs no
torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from turnover.errors import TurnoverError

CURVES = ("masked", "flipped", "validation", "unowned")
"""The four losses of training (`turnover.training.fit`)."""

_NATS = 1e12
"""No loss is so high; squares of lower ones still fit in float32."""

_OF_THE_TWIN = {"plain_accuracy", "plain_loss", "plain_kept_epoch"}
"""Results that are None for a registered run without a plain twin."""

_MEANINGS = {"truth": "targets", "prediction": "errors"}


class Implausible(ValueError):
    """The invalid part, in a few words; the caller knows the file and the remedy."""


@contextmanager
def readable(path: Path, remedy: str) -> Iterator[None]:
    """Turn any failure to read or check a file into a one-line error that names it and ends with
    `remedy`.
    """
    try:
        yield
    except TurnoverError:
        raise
    except Implausible as error:
        raise TurnoverError(f"{path}: {error} cannot be as it says; {remedy}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "value_error":  # of a validator below
            what = f"{first['ctx']['error']} cannot be as it says"
        elif field := ".".join(map(str, first["loc"])):
            what = f"{' '.join(field.split())[:200]} cannot be as it says ({first['msg']})"
        else:
            what = f"not readable ({first['msg']})"
        raise TurnoverError(f"{path}: {what}; {remedy}") from None
    except Exception as error:  # what readers of files raise for damaged ones is of all kinds
        raise TurnoverError(
            f"{path}: not readable ({' '.join(str(error).split())[:200]}); {remedy}"
        ) from None


def first_link(folder: Path) -> Path | None:
    """A symbolic link anywhere below a folder, which could lead out of it, or None."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            # in the loop over all files of a run, where a Path costs five times as much
            if os.path.islink(os.path.join(parent, name)):  # noqa: PTH114, PTH118
                return Path(parent, name)
    return None


# Facts

Count = Annotated[int, Field(ge=1, lt=2**53)]
Position = Annotated[int, Field(ge=0, lt=2**53)]
Masks = Annotated[int, Field(ge=2, le=2**20)]
Share = Annotated[float, Field(ge=0, le=1)]


class Facts(BaseModel):
    """Facts of a file; those that no field names are left out, or kept with `extra="allow"`."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class _File(Facts):
    bytes: Position
    sha256: str


class Manifest(Facts):
    """What every manifest has; `files` by name."""

    format: int
    files: dict[str, _File]


class _Origin(Facts):
    path: str
    sha256: str = ""
    size: Position = 0
    content: str = ""
    label: str = ""


class _Data(Facts):
    name: str
    source: str
    fingerprint: str = ""
    origin: _Origin | None = None


class _Results(Facts, extra="allow"):
    __pydantic_extra__: dict[str, str | float | None]
    train_size: Count
    validation_size: Count
    members: Count
    epochs: Count
    kept_epoch: Count
    validation_accuracy: Share
    plain_accuracy: Share | None


class RunManifest(Manifest):
    """The manifest of a run; `masks` is how many masks its training items share."""

    kind: Literal["text", "image"]
    classes: Annotated[list[str], Field(min_length=1)]
    data: _Data
    settings: dict[str, Any]
    recipe: dict[str, Any]
    results: _Results
    leaks: list[str] = []
    masks: Masks | None = None
    versions: dict[str, str] = {}
    timings: dict[str, Any] = {}
    created: str = ""
    device: str = ""
    adopted: Any = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        require(len(set(self.classes)) == len(self.classes), "classes")
        require(self.results.kept_epoch <= self.results.epochs, "results: kept_epoch")
        unknown = {name for name, value in self.results if value is None}
        require(unknown <= (_OF_THE_TWIN if self.adopted is not None else set()), "results")
        return self


class InfluenceManifest(Manifest):
    """The manifest of a run's influence; `errors` are the misclassified ones of its targets,
    `masks` is how many masks its training items share.
    """

    run: str
    targets: Annotated[list[Position], Field(min_length=1)]
    errors: list[Position]
    layout: Literal["full", "top"]
    estimator: str
    agreement: dict[str, float]
    precision: str = ""
    masks: Masks | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for name, positions in (("targets", self.targets), ("errors", self.errors)):
            require(len(set(positions)) == len(positions), name)
        require(set(self.errors) <= set(self.targets), "errors")
        return self


# Tables and arrays


def check_items(items: pd.DataFrame, facts: Mapping[str, Any]) -> None:
    """Check that a run's table of items matches its manifest.

    Raises:
        Implausible: if it does not.
    """
    kind, classes = facts["kind"], len(facts["classes"])
    chances = [f"probability_{number}" for number in range(classes)]
    for name in ("split", "position", "id", "label", "predicted", "planted", *chances, kind):
        require(name in items.columns, name)
    sizes = {split: facts["results"][f"{split}_size"] for split in ("train", "validation")}
    require(len(items) == sum(sizes.values()), "split")
    require((items["split"] == np.repeat([*sizes], [*sizes.values()])).all(), "split")
    known = {"row", "plain_predicted"} & {*items.columns}  # of earlier versions not all
    for name in ("position", "label", "predicted", *sorted(known)):
        require(items[name].dtype.kind in "iu", name)
    positions = np.concatenate([np.arange(size) for size in sizes.values()])
    require((items["position"] == positions).all(), "position")
    for name in ("label", "predicted"):
        require(items[name].between(0, classes - 1).all(), name)
    if "plain_predicted" in known:
        require(items["plain_predicted"].between(-1, classes - 1).all(), "plain_predicted")
    for name in map(str, items.columns):
        if name in ("id", "planted", kind) or not pd.api.types.is_numeric_dtype(items[name]):
            require(set(map(type, items[name])) <= {bytes if name == "image" else str}, name)
    require(not items.duplicated(["split", "id"]).any(), "id")
    for name in chances:
        require(items[name].dtype.kind == "f" and items[name].between(0, 1.001).all(), name)


def check_curves(curves: pd.DataFrame, facts: Mapping[str, Any]) -> None:
    """Check that a run's curves match its manifest.

    Raises:
        Implausible: if they do not.
    """
    require(len(curves) == facts["results"]["epochs"], "epochs")
    for name in ("epoch", *CURVES, "accuracy"):
        require(name in curves.columns and curves[name].dtype.kind in "fi", name)


def check_array(array: np.ndarray, *shape: int | None, kind: str = "f") -> None:
    """Check an array's kind of numbers (`dtype.kind`) and its shape; None stands for any length.

    Raises:
        Implausible: if it does not.
    """
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
    )
    require(array.dtype.kind == kind and fits, f"{array.dtype} {array.shape}")


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
    require(max(facts["targets"]) < validation, "targets")
    require(set(facts["errors"]) == set(wrong) & set(facts["targets"]), "errors")
    own = () if facts["estimator"] == "scores" else ("self",)  # another engine's have none
    for name in (*own, "mean_members"):
        check_array(array(name), members, train)
        require((np.abs(array(name)) < _NATS).all(), name)
    masks = facts.get("masks")
    if masks is not None:
        cohorts = array("cohorts")
        check_array(cohorts, members, train, kind="i")
        require(((cohorts >= 0) & (cohorts < masks)).all(), "cohorts")
    for meaning, named in _MEANINGS.items():
        count, full = len(facts[named]), facts["layout"] == "full"
        width = train if full else array(f"{meaning}_estimate").shape[-1]
        for name in ("estimate", "error"):
            check_array(array(f"{meaning}_{name}"), count, width)
        estimates, spread = array(f"{meaning}_estimate"), array(f"{meaning}_error")
        require((np.abs(estimates) < _NATS).all(), f"{meaning}_estimate")
        # one member has no error: it is NaN
        require(not ((spread < 0) | (spread > _NATS)).any(), f"{meaning}_error")
        if f"{meaning}_shape.npy" in facts["files"]:
            check_array(array(f"{meaning}_shape"), count, None)
        if full or f"{meaning}_members.npy" in facts["files"]:
            check_array(array(f"{meaning}_members"), members, count, masks or train)
        if full:
            continue
        instances = array(f"{meaning}_instances")
        check_array(instances, count, width, kind="i")
        require(((instances >= 0) & (instances < train)).all(), f"{meaning}_instances")


def require(holds: object, what: str) -> None:
    """Check a part of a schema that types cannot say.

    Raises:
        Implausible: with `what`, if it does not hold.
    """
    if not holds:
        raise Implausible(what)
