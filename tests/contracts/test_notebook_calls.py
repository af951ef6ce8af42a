"""What notebooks give is accepted with its one meaning, or refused in one line; nothing is raw."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import turnover
from tests.contracts.test_registered import MODEL, SEED, built, few
from tests.helpers.builders import names, randn, sequential_net, some_labels
from tests.helpers.own_modules import command, own_code, refused
from turnover import Dataset, Items, TurnoverError, insert_masks
from turnover.attribution.forms import whole_numbers

__all__ = ["own_code"]
LABELS, TEXTS, NAMES = [0, 1, 0, 1, 0, 1], list("uvwxyz"), list("ababab")
GREY = np.random.default_rng(0).integers(0, 256, (6, 8, 4)).astype(np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (6, 8, 4, 3)).astype(np.uint8)
FIRST = torch.from_numpy(RGB).permute(0, 3, 1, 2)
PILLOW = [Image.fromarray(image) for image in RGB]


def items(**changes: Any) -> Items:
    return Items(**{"ids": TEXTS, "labels": LABELS, "images": GREY, **changes})


def texts(values: Any) -> Items:
    return items(images=None, texts=values)


def data(classes: Any = ("a", "b"), labels: Any = LABELS, **changes: Any) -> Dataset:
    given = {"train": items(labels=labels), "validation": items(labels=labels), **changes}
    return Dataset("mine", "a notebook", classes, **given)


ACCEPTED: dict[str, tuple[Callable[[], Any], Any]] = {
    **{
        f"labels as {kind}": (lambda given=given: items(labels=given).labels, LABELS)
        for kind, given in {
            "a Series with an index of its own": pd.Series(LABELS, index=range(6, 0, -1)),
            "a nullable Series": pd.Series(LABELS, dtype="Int64"),
            "a frame": pd.DataFrame({"label": LABELS}),
            "int32": torch.tensor(LABELS, dtype=torch.int32),
            "uint8": np.array(LABELS, np.uint8),
            "uint64": np.array(LABELS, np.uint64),
            "whole floats": torch.tensor(LABELS, dtype=torch.bfloat16),
            "a tensor with gradient": torch.tensor(LABELS).float().requires_grad_(),
            "booleans": np.array(LABELS, bool),
            "objects": np.array(LABELS, object),
            "a list of tensors": [torch.tensor(label) for label in LABELS],
        }.items()
    },
    **{
        f"labels as names in {kind}": (lambda given=given: data(labels=given).train.labels, LABELS)
        for kind, given in {
            "a list": NAMES,
            "an array": np.array(NAMES),
            "a category": pd.Series(NAMES, dtype="category"),
            "digits": list("010101"),
        }.items()
    },
    **{
        f"classes as {kind}": (lambda given=given: data(*given).classes, expected)
        for kind, given, expected in (
            ("a list", (["a", "b"],), ("a", "b")),
            ("an Index", (pd.Index(["a", "b"]),), ("a", "b")),
            ("an array", (np.array(["a", "b"]),), ("a", "b")),
            ("id2label", ({0: "a", "1": "b"},), ("a", "b")),
            ("label2id", ({"b": 1, "a": 0},), ("a", "b")),
            ("a number", (np.int64(2),), ("0", "1")),
            ("numbers", (range(2),), ("0", "1")),
            ("None", (None,), ("0", "1")),
            ("None, of names", (None, ["9", "10", "9", "10", "9", "9"]), ("9", "10")),
        )
    },
    "labels that are their classes' numbers": (
        lambda: data(np.array([3, 7]), [3, 7, 3, 7, 3, 7]).train.labels,
        LABELS,
    ),
    **{
        f"images as {kind}": (lambda given=given: items(images=given).images, expected)
        for kind, given, expected in (
            ("fractions of white", GREY / 255, GREY),
            ("floats to 255", GREY.astype(np.float32), GREY),
            ("int64", GREY.astype(np.int64), GREY),
            ("booleans", GREY > 127, (GREY > 127) * 255),
            ("channels first", FIRST, RGB),
            ("one channel first", torch.from_numpy(GREY)[:, None], GREY),
            ("one channel last", GREY[..., None], GREY),
            ("a list", list(RGB), RGB),
            ("a Series", pd.Series(list(GREY)), GREY),
            ("Pillow's", PILLOW, RGB),
            ("Pillow's, transparent", [image.convert("RGBA") for image in PILLOW], RGB),
            ("Pillow's, grey", [Image.fromarray(image) for image in GREY], GREY),
        )
    },
    **{
        f"texts as {type(given).__name__}": (lambda given=given: texts(given).texts, TEXTS)
        for given in (pd.Series(TEXTS), np.array(TEXTS), tuple(TEXTS), iter(TEXTS))
    },
    "ids as numbers": (lambda: items(ids=pd.Series([1.0, 2, 3, 4, 5, 6])).ids, list("123456")),
    "ids as a tensor": (lambda: items(ids=torch.arange(6)).ids, list("012345")),
    "no ids": (lambda: items(ids=None).ids, list("012345")),
    "a mask of rows": (lambda: items().take(np.array(LABELS) == 1).ids, TEXTS[1::2]),
    "a list of rows": (lambda: items().take([2, 0]).ids, ["w", "u"]),
    "a slice of rows": (lambda: items().take(slice(2)).ids, ["u", "v"]),
}


@pytest.mark.parametrize("call", ACCEPTED)
def test_items_in_any_usual_form_are_one_thing(call: str) -> None:
    make, expected = ACCEPTED[call]
    np.testing.assert_array_equal(make(), expected)


X, Y, IDS = randn(4, 6), some_labels(4, 3), range(7)


class Wrapped(nn.Module):
    """A model with named inputs and an output of another form."""

    def __init__(self, output: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.output = sequential_net(), output

    def forward(self, x: Tensor) -> Any:
        return self.output(self.body(x))


class Named(TensorDataset):
    """Items as Hugging Face data sets give them."""

    def __getitem__(self, index: int) -> Any:
        return {"x": X[index], "labels": Y[index]}


class Stream(IterableDataset[Any]):
    """Items of an unknown number."""

    def __iter__(self) -> Any:
        return zip(X, Y, strict=True)


def influence(model: Any = None, x: Any = X, y: Any = Y, ids: Any = IDS, *more: Any) -> Tensor:
    return turnover.influence(model or sequential_net(), x, y, ids, *more).values


ALIKE: dict[str, Callable[[], Tensor]] = {
    "numpy floats": lambda: influence(x=X.float().double().numpy()),
    "a frame": lambda: influence(x=pd.DataFrame(X.numpy())),
    "lists": lambda: influence(x=X.tolist(), y=Y.tolist(), ids=[*IDS]),
    "lists of tensors": lambda: influence(x=list(X), y=list(Y), ids=list(torch.arange(7))),
    "labels in a column": lambda: influence(y=Y[:, None]),
    "labels as floats": lambda: influence(y=Y.float()),
    "labels as a Series": lambda: influence(y=pd.Series(Y.numpy(), index=range(4, 0, -1))),
    "ids as an Index": lambda: influence(ids=pd.RangeIndex(7)),
    "training mode": lambda: influence(sequential_net().train()),
    "named inputs": lambda: influence(Wrapped(lambda out: out), {"x": X}),
    "labels among the inputs": lambda: influence(
        Wrapped(lambda out: out), {"x": X, "labels": Y}, None
    ),
    "a data set of names": lambda: influence(Wrapped(lambda out: out), Named(X), None),
    "a loader of names": lambda: influence(Wrapped(lambda out: out), DataLoader(Named(X), 3), None),
    "a mapping out": lambda: influence(Wrapped(lambda out: {"logits": out})),
    "a tuple out": lambda: influence(Wrapped(lambda out: (out, None))),
    "a loss before the logits": lambda: influence(Wrapped(lambda out: (out.sum(), out))),
}


@pytest.mark.parametrize("call", ALIKE)
def test_influences_do_not_depend_on_the_form_of_what_is_given(call: str) -> None:
    torch.testing.assert_close(ALIKE[call](), influence(), check_dtype=False)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "too few ids": (lambda: items(ids=["a"]), "1 ids for 6 labels"),
    "a missing id": (lambda: items(ids=[*TEXTS[:5], None]), "ids: row 6, None, is no id"),
    "ids as one string": (lambda: items(ids="uvwxyz"), "ids: a str"),
    "a missing label": (lambda: items(labels=[0, np.nan, 1, 0, 1, 0]), "labels: row 2, nan"),
    "no labels": (lambda: items(labels=None), "labels: a NoneType cannot be read"),
    "half a label": (lambda: items(labels=[0.5] * 6), "row 1, 0.5, is not a whole number"),
    "one-hot labels": (lambda: items(labels=np.eye(2)[LABELS]), r"\.argmax\(1\)"),
    "a label above": (lambda: data(labels=[0, 1, 2, 0, 1, 0]), "train, labels: row 3, 2, is none"),
    "a label below": (lambda: data(labels=[0, -1, 0, 0, 1, 0]), "train, labels: row 2, -1"),
    "an unknown name": (lambda: data(labels=list("abcaba")), "row 3, 'c', is none of the 2"),
    "classes twice": (lambda: data(["a", "a"]), "classes: 'a' is there twice"),
    "a set of classes": (lambda: data({"a", "b"}), "classes: a set"),
    "classes as one string": (lambda: data("ab"), "classes: a str"),
    "classes from 1": (lambda: data({1: "a", 2: "b"}), "classes: nothing is named number 0"),
    "a missing class": (lambda: data(["a", None]), "classes: row 2, None"),
    "no validation items": (lambda: data(validation=None), "validation: a NoneType"),
    "arrays to validate on": (lambda: data(validation=(GREY, LABELS)), "validation: a tuple"),
    "texts to validate on": (lambda: data(validation=texts(TEXTS)), "validation: texts, but"),
    "sizes": (
        lambda: data(validation=items(images=GREY[:, :4])),
        r"validation: images of \(4, 4\)",
    ),
    "a name that is none": (lambda: Dataset(None, "", None, items(), items()), "name: None"),  # type: ignore[arg-type]
    "neither texts nor images": (lambda: items(images=None), "here neither"),
    "texts and images": (lambda: items(texts=TEXTS), "here both"),
    "images from -1": (lambda: items(images=GREY / 127.5 - 1), "levels from -1 to 1"),
    "missing levels": (lambda: items(images=GREY * np.nan), "levels from nan"),
    "an alpha channel": (lambda: items(images=np.zeros((6, 8, 8, 4))), "alpha channel"),
    "flat images": (lambda: items(images=np.zeros((6, 64))), r"of shape \(6, 64\)"),
    "images of many sizes": (lambda: items(images=[*RGB[:5], RGB[5][:3]]), "of one shape"),
    "paths": (lambda: items(images=["a.png"] * 6), "open the files first"),
    "no images": (lambda: items(images=[]), r"of shape \(0,\)"),
    "text pairs": (lambda: texts([("a", "b")] * 6), "of pairs, join both"),
    "a missing text": (lambda: texts([*TEXTS[:5], None]), "texts: row 6, None"),
    "half a character": (lambda: texts(["\ud800"] * 6), "texts: row 1"),
    "a frame of texts": (lambda: texts(pd.DataFrame({"text": TEXTS})), "texts: a DataFrame"),
    "rows that are not there": (lambda: items().take([9]), "there are 6 items"),
    "labels above": (lambda: influence(y=Y + 9), "row 1, .*, is none of the model's 3 classes"),
    "labels of another number": (lambda: influence(y=Y[:2]), "4 targets with 2 labels"),
    "one row": (lambda: influence(x=X[0], y=Y[:1]), "6 targets with 1 labels"),
    "one label": (lambda: influence(y=1), "labels: a int cannot be read"),
    "how many ids": (lambda: influence(ids=7), r"are their ids, range\(N\)"),
    "names as ids": (lambda: influence(ids=TEXTS), "give the positions"),
    "ragged ids": (lambda: influence(ids=[[1], [2, 3]]), "instance ids: a list cannot be read"),
    "wide inputs": (lambda: influence(x=randn(4, 7)), "the model does not run on inputs of shape"),
    "unreadable device": (lambda: influence(x=X.to("meta")), "the model does not run on inputs"),
    "inputs of another name": (lambda: influence(x={"y": X}), "does not run on inputs of shape y"),
    "a model that fails": (lambda: influence(Wrapped(lambda out: 1 / 0)), "division by zero"),
    "no logits": (lambda: influence(Wrapped(lambda out: {"out": out})), "a dict without logits"),
    "one answer for all": (lambda: influence(Wrapped(lambda out: out[0])), "one row of logits"),
    "tokens' logits": (lambda: influence(Wrapped(lambda out: out[:, None])), "one row of logits"),
    "no module": (lambda: influence(len), "give a torch.nn.Module and a function"),
    "a loss by name": (lambda: influence(None, X, Y, IDS, "mse"), "and str; give a torch"),
    "a loader that shuffles": (
        lambda: influence(x=DataLoader(TensorDataset(X, Y), shuffle=True), y=None),
        "shuffle=False",
    ),
    "a stream": (lambda: influence(x=Stream(), y=None), "give inputs and labels instead"),
    "no mask": (lambda: influence(nn.Linear(6, 3).double()), "has no TurnoverDropout layer"),
    "fewer than none": (
        lambda: turnover.top_influences(sequential_net(), X, Y, IDS, -1),
        "top -1",
    ),
    "layers by number": (lambda: insert_masks(nn.Sequential(nn.Linear(2, 2)), [0]), "by a int"),  # type: ignore[list-item]
    "no layers": (lambda: insert_masks(nn.Sequential(nn.Linear(2, 2)), []), "names of one or more"),
    "no network": (lambda: insert_masks("net", ["0"]), "torch.nn.Module"),  # type: ignore[type-var]
    "half a unit": (lambda: turnover.TurnoverDropout(8.5), "whole numbers"),  # type: ignore[arg-type]
    "a frame to train on": (
        lambda: turnover.train(pd.DataFrame({"text": TEXTS}), "run"),  # type: ignore[arg-type]
        "df.to_csv",
    ),
    "a module to train": (
        lambda: turnover.train("digits", "run", model=nn.Linear(1, 1)),
        "model: a Linear",
    ),
    "a run that is none": (lambda: turnover.Run(None), "opened by its folder"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_has_no_one_meaning_is_refused_in_one_line(call: str) -> None:
    make, reason = REFUSED[call]
    with pytest.raises(TurnoverError, match=reason) as refusal:
        make()
    assert "\n" not in str(refusal.value)


def test_no_mask_is_inserted_where_one_of_the_layers_cannot_have_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(TurnoverError, match="is a ReLU"):
        insert_masks(model, ["0", "1"])
    assert isinstance(model[0], nn.Linear)


def test_whole_numbers_are_int64_and_not_copied_where_they_are() -> None:
    known = np.arange(3)
    assert whole_numbers(known, "labels") is known


# A run

SAVED: dict[str, tuple[dict[str, Any], str | None]] = {
    "in training mode": ({"module": lambda: built().train()}, None),
    "with its function": ({"model": lambda: _function()}, None),
    "in parallel": ({"module": lambda: nn.DataParallel(built())}, None),
    "with a numpy seed": ({"seed": lambda: np.int64(SEED)}, None),
    "images as floats": ({"data": lambda: _as_floats()}, None),
    "one validation item": (
        {"data": lambda: replace(few(), validation=few().validation.take([0]))},
        None,
    ),
    "a function of the notebook": ({"model": lambda: lambda *_: built()}, "write the function to"),
    "no function": ({"model": lambda: None}, "a NoneType that no file defines"),
    "a state dict": ({"module": lambda: built().state_dict()}, "module is a OrderedDict"),
    "no modules": ({"module": list}, "module is a NoneType"),
    "items": ({"data": lambda: few().train}, "data is a Items"),
    "a seed in words": ({"seed": lambda: "4"}, "seed is a str"),
    "no folder": ({"folder": lambda: None}, "folder is a NoneType"),
    "weights that are nowhere": ({"module": lambda: built().to("meta")}, "are in memory"),
    "the same ids": (
        {"data": lambda: replace(few(), train=replace(few().train, ids=["same"] * 60))},
        "row 2 of the training split repeats the id 'same'",
    ),
    "no validation items": (
        {"data": lambda: replace(few(), validation=few().validation.take([]))},
        "the validation split is empty",
    ),
    "one training item": (
        {"data": lambda: replace(few(), train=few().train.take([0]))},
        "needs two classes",
    ),
}


def _function() -> Any:
    import own_images  # type: ignore[import-not-found]

    return own_images.build


def _as_floats() -> Dataset:
    whole = few()
    train, validation = (
        replace(split, images=split.images[:, None] / 255)
        for split in (whole.train, whole.validation)
        if split.images is not None
    )
    return replace(whole, train=train, validation=validation)


@pytest.mark.parametrize("call", SAVED)
def test_a_run_is_saved_and_opens_or_nothing_is_written(call: str, own_code: Path) -> None:
    changes, reason = SAVED[call]
    usual: dict[str, Any] = {
        "folder": lambda: "run",
        "data": few,
        "module": built,
        "model": lambda: MODEL,
        "seed": lambda: SEED,
    }
    given = {name: make() for name, make in (usual | changes).items()}
    before = names(own_code)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # none of them has learned anything
        if reason is None:
            turnover.save_run(**given)
            assert len(turnover.Run("run").validation) == len(given["data"].validation)
            return
        with pytest.raises(TurnoverError, match=reason) as refusal:
            turnover.save_run(**given)
    left = {*names(own_code)} - {*before} - {"__pycache__", ".run.lock"}
    assert "\n" not in str(refusal.value) and not left


@pytest.mark.filterwarnings("ignore:items do no better")
def test_several_modules_are_the_members_of_a_run(
    own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their influences are each module's own, and their spread gives errors."""
    from turnover.models import names as source

    source.allow(MODEL)
    build = source.load_function(MODEL, source.source_checksum(MODEL))
    modules = [build(10, (1, 8, 8), SEED + member).eval() for member in range(4)]
    run = turnover.save_run(own_code / "run", few(), modules, MODEL, seed=SEED)
    turnover.compute_influence(run.folder)
    whole, inputs = few(), torch.from_numpy(few().validation.images[:, None]) / 127.5 - 1
    values = turnover.Run(run.folder).influence.array("truth_members")
    for member, module in enumerate(modules):
        own = turnover.influence(module, inputs, whole.validation.labels, range(60)).values[0]
        np.testing.assert_allclose(values[member], own, atol=1e-4)
    measured = command(
        capsys, "evaluate", "--run", run.folder, "--model", MODEL, "--measure", "agreement"
    )
    by_name = {row["method"]: row for row in measured["rows"]}
    assert measured["members"] == 4 and by_name["turn-over, as shown"]["figures"]
    assert "trained elsewhere" in by_name["signed cosine similarity"]["note"]
    with pytest.raises(TurnoverError, match="module k of several has seed"):
        turnover.save_run(own_code / "other", few(), modules[::-1], MODEL, seed=SEED)
    files = [own_code / f"{member}.safetensors" for member in range(2)]
    for file, module in zip(files, modules, strict=False):
        save_file(module.state_dict(), file)
    asked = ("register", "--model", MODEL, "--seed", SEED, "--data", "digits", "--weights")
    made = command(capsys, *asked, *files, "--run", own_code / "two")
    assert made["members"] == 2
    twice = refused(capsys, *asked, files[0], files[0], "--run", own_code / "twice")
    assert "a file is named twice" in twice
