"""Batch norms have statistics under masks and without, and the scope chooses (laws 3, 4 and 6)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from tests.helpers.builders import (
    HALVES,
    PLAIN,
    SHARED,
    check_law_4,
    randn,
    small_chain,
    small_cnn,
    some_labels,
)
from tests.helpers.tiny_encoders import unmasked
from turnover import TurnoverDropout, influence, turnover
from turnover.attribution.ensemble import Ensemble
from turnover.attribution.norms import split_norms, two_sets, with_both_sets
from turnover.attribution.state import load_trained, trained_state
from turnover.data.recipe import Recipe
from turnover.models.own import OwnMembers
from turnover.training.checkpoint import Trainee
from turnover.training.fit import Split, fit, next_epoch

ROWS = 24


def normed_chain(seed: int = 0) -> nn.Sequential:
    """A chain with a batch norm before the first mask and one between the masks."""
    torch.manual_seed(seed)
    masks = [TurnoverDropout(8, seed=seed + 5, layer=number) for number in range(2)]
    before = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), masks[0]
    behind = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), masks[1]
    return nn.Sequential(*before, *behind, nn.Linear(8, 3)).double().eval()


def norms_of(model: nn.Module) -> list[Any]:
    return [norm for norm in model.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]


def apart(model: nn.Module) -> nn.Module:
    """The model with two sets that differ."""
    split_norms(model)
    generator = torch.Generator().manual_seed(2)
    for norm in norms_of(model):
        for kind in ("running", "unmasked"):
            getattr(norm, f"{kind}_mean").normal_(generator=generator)
            getattr(norm, f"{kind}_var").uniform_(0.5, 2, generator=generator)
    return model


def ordinary(model: nn.Module, kind: str) -> nn.Module:
    """The model with torch's own norms, whose statistics are one of the two sets."""
    state, plain = model.state_dict(), copy.deepcopy(model)
    for name, norm in plain.named_modules():
        if two_sets(norm):
            theirs = type(norm).__bases__[1](norm.num_features).double().eval()
            plain.set_submodule(name, theirs)
    names = plain.state_dict()
    plain.load_state_dict({name: state[name.replace("running_", f"{kind}_")] for name in names})
    return plain


def under_masks(model: nn.Module, x: Tensor, flipped: bool = False) -> Tensor:
    with turnover(range(ROWS), flipped):
        logits: Tensor = model(x)
    return logits


CASES = {"chain": (normed_chain, (6,)), "prefix": (lambda: small_cnn(3), (1, 6, 6))}
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def made(case: str) -> Iterator[tuple[nn.Module, Tensor]]:
    build, shape = CASES[case]
    yield apart(build()), randn(ROWS, *shape)


# The scope chooses


@every_case
def test_under_masks_one_set_and_without_the_other(made: tuple[nn.Module, Tensor]) -> None:
    """The same bits as of torch's own norms (law 6: without masks an ordinary network)."""
    model, x = made
    assert torch.equal(model(x), unmasked(ordinary(model, "unmasked"))(x))
    for flipped in (False, True):
        assert torch.equal(
            under_masks(model, x, flipped), under_masks(ordinary(model, "running"), x, flipped)
        )


@every_case
def test_training_moves_the_set_under_masks_as_torch_does(made: tuple[nn.Module, Tensor]) -> None:
    model, x = made
    theirs = ordinary(model, "running")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for one in (model, theirs):
        with turnover(range(ROWS)):
            one.train()(x).square().sum().backward()
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
        if "unmasked" in name:
            assert torch.equal(model.state_dict()[name], before[name])
    for one, other in zip(model.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]


# Influences


@pytest.mark.parametrize(
    ("case", "targets", "path"),
    [("chain", 2, SHARED), ("chain", 24, HALVES), ("prefix", 4, SHARED)],
)
def test_law_4_with_two_sets(made: tuple[nn.Module, Tensor], targets: int, path: str) -> None:
    """Whatever the backend, influences are those of the set under masks, to the bit."""
    model, x = made
    x, labels = x[:targets], some_labels(targets, 3)
    values = check_law_4(model, x, labels, path).values
    check_law_4(model, x, labels, PLAIN, plain=True)
    ids = range(0, 300, 7)
    expected = influence(ordinary(model, "running"), x, labels, ids)
    for norm in norms_of(model):
        norm.unmasked_mean.fill_(torch.nan)
    made_of_masks = influence(model, x, labels, ids)
    assert torch.equal(made_of_masks.values, expected.values)
    assert made_of_masks.backend == expected.backend and values.isfinite().all()


# What measures the set without masks


def trained(model: nn.Module, train: Split, **changes: Any) -> tuple[Ensemble, Recipe]:
    recipe = Recipe(epochs=1, batch=8, **changes)
    members = OwnMembers([model], 3, ())
    next_epoch(Trainee(members, recipe), train, train, 0, owned=recipe.masked)
    return members, recipe


@every_case
def test_after_an_epoch_it_is_torch_s_own_measurement_without_masks(
    made: tuple[nn.Module, Tensor],
) -> None:
    """And nothing else of the model is changed by measuring."""
    model, x = made
    train = Split(x, some_labels(ROWS, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnover.training.fit.settle_norms", lambda *_: None)
        alone = trained(copy.deepcopy(model), train)[0].models[0]
    trained(model, train)
    plain = unmasked(ordinary(alone, "running"))
    update_bn([x], plain)
    for ours, theirs, unmeasured in zip(*map(norms_of, (model, plain, alone)), strict=True):
        assert not torch.equal(ours.unmasked_mean, unmeasured.unmasked_mean)
        for part in ("mean", "var"):
            measured, expected = (
                getattr(one, f"{kind}_{part}")
                for one, kind in ((ours, "unmasked"), (theirs, "running"))
            )
            torch.testing.assert_close(measured, expected, rtol=1e-9, atol=1e-12)
        assert (ours.momentum, ours.training) == (0.1, False)
    kept = {name for name in model.state_dict() if "unmasked" not in name}
    assert all(torch.equal(model.state_dict()[name], alone.state_dict()[name]) for name in kept)


def test_batches_count_by_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first norm, whose inputs no other norm changes, gets the exact mean of all rows."""
    monkeypatch.setattr("turnover.training.fit._MEASURED", 10)
    model, x = apart(normed_chain()), randn(ROWS, 6)
    trained(model, Split(x, some_labels(ROWS, 3)))
    expected = model.get_submodule("0")(x).mean(0)
    torch.testing.assert_close(norms_of(model)[0].unmasked_mean, expected, rtol=1e-9, atol=1e-12)


def test_without_masks_training_measures_it_by_itself() -> None:
    """A plain twin is an ordinary network: both sets are what training moved, bit for bit."""
    x, labels = randn(ROWS, 6), some_labels(ROWS, 3)
    model, theirs = normed_chain(), normed_chain()
    split_norms(model)
    for one in (model, theirs):
        trained(one, Split(x, labels), masked=False)
    for norm in norms_of(model):
        assert torch.equal(norm.unmasked_mean, norm.running_mean)
        assert torch.equal(norm.unmasked_var, norm.running_var)
    assert torch.equal(model(x), theirs(x))


def test_members_measure_their_own_rows() -> None:
    """A member of several is the one that is trained alone."""
    x, labels = randn(ROWS, 6), some_labels(ROWS, 3)
    models = [apart(normed_chain(seed)) for seed in (1, 2)]
    alone, recipe = trained(copy.deepcopy(models[0]), Split(x, labels))
    together = OwnMembers(models, 3, ())
    fit(together, Split(x, labels), Split(x, labels), recipe)
    one, other = (norms_of(model.models[0]) for model in (together, alone))
    for first, second in zip(one, other, strict=True):
        torch.testing.assert_close(first.unmasked_mean, second.unmasked_mean, rtol=0, atol=1e-12)


# What is kept


@every_case
def test_a_state_has_both_sets_and_an_earlier_one_is_both(
    made: tuple[nn.Module, Tensor], case: str
) -> None:
    model, x = made
    again, state = CASES[case][0](), trained_state(model)
    assert sum("unmasked" in name for name in state) == 2 * len(norms_of(model))
    split_norms(again)
    for load in (lambda: load_trained(again, state), lambda: again.load_state_dict(state)):
        load()
        assert torch.equal(again(x), model(x))
        assert torch.equal(under_masks(again, x), under_masks(model, x))
    earlier = {name: value for name, value in state.items() if "unmasked" not in name}
    load_trained(again, earlier)
    assert torch.equal(again(x), unmasked(ordinary(model, "running"))(x))
    assert {*with_both_sets(model, earlier)} == {*state}


def test_norms_that_training_does_not_move_have_one_set() -> None:
    """And a model without batch norm is not looked at."""

    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self[1].eval()
            return self

    model = Frozen(*normed_chain())
    split_norms(model)
    assert [two_sets(norm) for norm in norms_of(model)] == [False, True]
    chain = small_chain().train()
    split_norms(chain)
    assert chain.training
