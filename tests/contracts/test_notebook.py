"""The public face: a run's whole life from a notebook, and inputs as notebooks have them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import turnover
from tests.helpers.builders import randn, sequential_net, small_cnn, some_labels
from turnover.attribution.insert import insert_masks
from turnover.errors import EXTRAS, missing_package

IDS = range(9)


def a_model() -> tuple[nn.Module, Tensor, Tensor]:
    return sequential_net(), randn(4, 6), some_labels(4, 3)


class Named(Dataset[Any]):
    """Pairs as Hugging Face data sets give them: named inputs and a label."""

    def __init__(self, x: Tensor, labels: Tensor) -> None:
        self.x, self.labels = x, labels

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> tuple[dict[str, Tensor], Tensor]:
        return {"input": self.x[place]}, self.labels[place]


def test_inputs_and_labels_come_as_people_have_them() -> None:
    model, x, labels = a_model()
    expected = turnover.influence(model, x, labels, IDS).values
    pairs = TensorDataset(x, labels)
    forms: list[tuple[Any, Any]] = [
        (x.numpy(), labels.numpy()),
        (x.numpy(), labels.tolist()),
        (x.numpy(), labels.numpy().astype(np.uint8)),
        (pairs, None),
        (DataLoader(pairs, batch_size=3), None),
        (pairs, labels),
        ({"input": x}, labels),
        (Named(x, labels), None),
        (DataLoader(Named(x, labels), batch_size=3), None),
    ]
    for inputs, known in forms:
        assert torch.equal(turnover.influence(model, inputs, known, np.arange(9)).values, expected)
        assert torch.equal(turnover.mean_influence(model, inputs, known, IDS), expected.mean(1))
        assert torch.equal(
            turnover.top_influences(model, inputs, known, IDS, 2).proponents,
            expected[0].topk(2).values,
        )
        torch.testing.assert_close(
            turnover.self_influence(model, inputs, known, IDS[:4])[0], expected[0, :, :4].diag()
        )


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "no labels": (
        lambda model, x, labels: turnover.influence(model, x, None, IDS),
        "no labels are given",
    ),
    "words": (
        lambda model, x, labels: turnover.influence(model, "a text", labels, IDS),
        "inputs: a str cannot be read",
    ),
    "nothing": (
        lambda model, x, labels: turnover.influence(model, None, labels, IDS),
        "inputs: a NoneType cannot be read",
    ),
    "ragged": (
        lambda model, x, labels: turnover.influence(model, [[1.0], [2.0, 3.0]], labels, IDS),
        "inputs: a list cannot be read",
    ),
    "classes as words": (
        lambda model, x, labels: turnover.influence(model, x, ["a"] * 4, IDS),
        "labels: row 1, 'a', is not a whole number",
    ),
    "no pairs": (
        lambda model, x, labels: turnover.influence(model, TensorDataset(x), None, IDS),
        "gives pairs",
    ),
    "too few labels": (
        lambda model, x, labels: turnover.influence(model, x, labels[:2], IDS),
        "4 targets with 2 labels",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_one_line(kind: str) -> None:
    ask, reason = REFUSED[kind]
    with pytest.raises(turnover.TurnoverError, match=reason) as refusal:
        ask(*a_model())
    assert "\n" not in str(refusal.value)


def test_influences_say_what_they_are() -> None:
    model, x, labels = a_model()
    made = turnover.influence(model, x, labels, range(100, 109))
    assert repr(made).startswith("Influence(1 member, 4 targets, 9 training instances; ")
    top = made.top(3)
    for end, streamed in zip(
        vars(top).values(),
        vars(turnover.top_influences(model, x, labels, range(100, 109), 3)).values(),
        strict=True,
    ):
        torch.testing.assert_close(end, streamed, equal_nan=True)
    table = top.to_pandas()
    assert (
        list(table) == ["target", "role", "instance", "influence", "std_error"]
        and len(table) == 4 * 2 * 3
    )
    assert (
        table["influence"].iloc[0] == pytest.approx(float(made.mean[0].max()))
        and "<table" in made._repr_html_()
    )


# Masks put into a network


def test_inserted_masks_guard_the_columns_that_read_their_units() -> None:
    """Law 3 for a network that was built without masks."""
    model = insert_masks(
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double(), ["0", "2"], seed=5
    )
    with turnover.turnover([7] * 4):
        nn.functional.cross_entropy(model(randn(4, 6)), some_labels(4, 3)).backward()
    for layer, mask in ((model[0][1], model[0][0]), (model[2][1], model[2][0])):
        off = mask.mask([7])[0] == 0
        assert (
            off.sum() == len(off) // 2
            and layer.weight.grad[:, off].abs().max() == 0 < layer.weight.grad[:, ~off].abs().max()
        )
    assert [(mask.layer, mask.seed) for mask in (model[0][0], model[2][0])] == [(0, 5), (1, 5)]


def test_masks_are_inserted_on_channels_and_by_groups_where_these_divide() -> None:
    model = insert_masks(small_cnn(3).body, ["4"], groups=4)
    assert (model[4][0].dim, model[4][0].width, model[4][0].groups) == (1, 8, 4)
    assert insert_masks(nn.Sequential(nn.Linear(6, 3)), "0", groups=4)[0][0].groups is None


NOT_MASKED = {
    "9": "has no layer '9'; its parts are 0, 1",
    "": "has no layer ''",
    "0": "is a ReLU",
    "1.out_proj": "lies inside attention",
}


@pytest.mark.parametrize("name", NOT_MASKED)
def test_where_no_mask_can_be_is_one_line(name: str) -> None:
    model = nn.Sequential(nn.ReLU(), nn.MultiheadAttention(8, 2))
    with pytest.raises(turnover.TurnoverError, match=NOT_MASKED[name]):
        insert_masks(model, [name])


def test_masks_are_inserted_once() -> None:
    model = insert_masks(nn.Sequential(nn.Linear(6, 3)), ["0"])
    with pytest.raises(turnover.TurnoverError, match="has a mask already"):
        insert_masks(model, ["0.1"])


# A run


def test_a_run_lives_in_a_notebook(run_copy: Path) -> None:
    run = turnover.Run(str(run_copy))
    table = run.misclassified
    assert (
        list(table["position"]) == run.misclassified_positions
        and (table["label"] != table["predicted"]).all()
    )
    assert (
        f"{len(run.misclassified_positions)} misclassified" in repr(run)
        and "<table" in run._repr_html_()
    )
    first = str(table.index[0])
    made = run.explain(first, top=2)
    assert (
        made
        == run.explain(run.misclassified_positions[0], top=2)
        == run.explain(table["position"].iloc[0], top=2)
        and len(made["proponents"]) == 2
    )
    best = run.influence.ranked(run.misclassified_positions[0], "prediction").ends(2)[0]
    assert [entry["position"] for entry in made["proponents"]] == list(best)
    run.flags.put(int(best[0]), "drop")
    assert list(run.flags.current()) == [int(best[0])]
    with pytest.raises(
        turnover.TurnoverError, match="'nobody' is no misclassified validation item"
    ):
        run.explain("nobody")


def test_training_from_a_notebook_is_the_command_s(tmp_path: Path) -> None:
    run = turnover.train(
        "digits", tmp_path / "run", limit=40, members=2, epochs=1, validation_limit=20
    )
    assert (len(run.train), run.manifest["results"]["members"]) == (40, 2)
    for wrong, reason in (
        ({"mebers": 2}, "unrecognized arguments: --mebers"),
        ({"members": "two"}, "invalid int value"),
    ):
        with pytest.raises(turnover.TurnoverError, match=reason):
            turnover.train("digits", tmp_path / "other", **wrong)
    with pytest.raises(turnover.TurnoverError, match=r"nothing\.csv: no such file"):
        turnover.train(tmp_path / "nothing.csv", tmp_path / "other")


# The package


def test_every_public_name_is_listed() -> None:
    assert {*turnover.__all__, "__version__"} == set(dir(turnover))
    assert (
        all(hasattr(turnover, name) for name in dir(turnover))
        and turnover.__version__.count(".") == 2
    )


@pytest.mark.parametrize("package", EXTRAS)
def test_what_an_extra_brings_is_named_where_it_is_missing(package: str) -> None:
    """Said of whatever of it was asked for; a module that no extra brings is another matter."""
    missing = missing_package(ModuleNotFoundError(name=f"{package}.part"))
    assert (
        str(missing) == f"{package} is not installed, and this needs it; pip install "
        f"'turnover[{EXTRAS[package]}]'"
    )
    assert missing_package(ModuleNotFoundError(name="mine")) is None


def test_a_command_that_needs_more_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        turnover.TurnoverError,
        match=r"^datasets is not installed, and this needs it; pip install 'turnover\[hub\]'$",
    ):
        turnover.train("hub:some/set", tmp_path / "run")
