"""K deep models as one: each member is the model that it would be alone, in the engine, in training and in files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from core import TurnoverError, influence, turnover
from core.models.adapters import TokenRows
from core.models.ensemble import Ensemble
from core.models.state import load_trained, trained_state
from core.recipe import Recipe
from core.training import History, Split, fit, item_losses, probabilities, validate
from tests.contracts.test_training import Interruption, same_history, same_weights
from tests.helpers.builders import member_heads, naive_influence, randn, sequential_net, some_labels
from tests.helpers.token_builders import PADDING, grown, token_ensemble, token_member, token_rows

BUILDS = ("adapters", "masked")
IDS = [0, 7, 2**53 + 1, 12]
RECIPE = Recipe(epochs=4, patience=10, batch=8, learning_rate=1e-2, seed=2)
TRAIN, VALIDATION = (Split(token_rows(rows, seed=seed), some_labels(rows, 3, seed)) for rows, seed in ((20, 3), (10, 4)))


class Featured(nn.Sequential):
    """A small network with `features`, its inputs."""

    def features(self, x: Tensor) -> Tensor:
        return x


def mlp_ensemble(members: int = 3) -> Ensemble:
    return Ensemble([Featured(*sequential_net(seed=member)) for member in range(members)], 3, ("the output bias",))


def cases(kind: str) -> tuple[Ensemble, Tensor]:
    """An ensemble in float64 and four inputs of it."""
    if kind == "mlp":
        return mlp_ensemble(), randn(4, 6)
    model = token_ensemble(build=kind)
    grown(model)
    return model, token_rows()


KINDS = ("mlp", *BUILDS)


# Each member alone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flipped", [None, False, True])
def test_an_ensemble_is_its_members_one_by_one(kind: str, flipped: bool | None) -> None:
    model, x = cases(kind)
    made, expected = [], []
    for one, store in ((model, made), *((member, expected) for member in model.models)):
        if flipped is None:
            store.append(one(x))
        else:
            with turnover(IDS, flipped):
                store.append(one(x))
    torch.testing.assert_close(made[0], torch.stack(expected), rtol=0, atol=1e-12)
    assert not torch.allclose(expected[0], expected[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flipped", [False, True])
def test_member_rows_run_under_ids_of_each_member_s_own(kind: str, flipped: bool) -> None:
    model, x = cases(kind)
    ids = torch.tensor([[5, 1, 2, 3], [9, 9, 0, 2**60], [1, 2, 3, 4]])
    rows = torch.stack([x, x.flip(0), x])
    with turnover(ids, flipped):
        made = model.member_rows(rows)
    for number, member in enumerate(model.models):
        with turnover(ids[number], flipped):
            torch.testing.assert_close(made[number], member(rows[number]), rtol=0, atol=1e-12)
    for number, logits in enumerate(model.member_rows(rows)):
        torch.testing.assert_close(logits, model.models[number](rows[number]), rtol=0, atol=1e-12)


def test_shared_rows_run_under_ids_of_each_member_s_own() -> None:
    """As `turnover` says of any K-member model."""
    ids = torch.tensor([[5, 1, 2, 3], [9, 9, 0, 2**60], [1, 2, 3, 4]])
    for model, x in ((member_heads(), randn(4, 8)), cases("mlp")):
        with turnover(ids):
            expected = model.member_rows(x.expand(3, *x.shape))
        with turnover(ids):
            torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_members_side_by_side(kind: str) -> None:
    model, x = cases(kind)
    features = model.features(x)
    assert features.shape == (3, 4, 6 if kind == "mlp" else 16)
    for number, member in enumerate(model.models):
        torch.testing.assert_close(features[number], member.features(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plain", [False, True])
def test_law_4_the_influence_of_an_ensemble_is_that_of_each_member(kind: str, plain: bool) -> None:
    model, x = cases(kind)
    labels = some_labels(4, 3)
    made = influence(model, x, labels, IDS, plain=plain).values
    alone = torch.cat([influence(member, x, labels, IDS).values for member in model.models])
    naive = torch.cat([naive_influence(member, x, labels, IDS) for member in model.models])
    torch.testing.assert_close(made, alone, rtol=0, atol=1e-9)
    torch.testing.assert_close(made, naive, rtol=0, atol=1e-9)
    assert naive.abs().max() > 1e-3


# Token rows


@pytest.mark.parametrize("build", BUILDS)
def test_columns_of_padding_change_nothing(build: str) -> None:
    model, tokens = token_member(0, build), token_rows()
    grown(model)
    wide = nn.functional.pad(tokens, (0, 40), value=PADDING)
    torch.testing.assert_close(model(wide), model(tokens), rtol=0, atol=1e-12)
    torch.testing.assert_close(model.features(wide), model.features(tokens), rtol=0, atol=1e-12)
    with turnover(IDS):
        torch.testing.assert_close(model(wide), model(tokens), rtol=0, atol=1e-12)
    torch.testing.assert_close(model(wide[1:2]), model(tokens)[1:2], rtol=0, atol=1e-9)


def test_rows_are_trimmed_to_the_longest_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model, widths = token_member(0), []
    real = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda ids, keep: (widths.append((ids.shape[1], keep.sum(1).tolist())), real(ids, keep))[1])
    wide = nn.functional.pad(token_rows(), (0, 40), value=PADDING)
    model(wide)
    model(wide[1:2])
    assert widths == [(9, [9, 5, 9, 5]), (5, [5])]


@pytest.mark.parametrize("flipped", [None, False, True])
def test_short_texts_are_measured_together_and_every_loss_stays_with_its_text(flipped: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = cases("adapters")
    split, ids, widths = Split(tokens, some_labels(4, 3)), None if flipped is None else torch.tensor(IDS), []
    together = item_losses(model, split, ids, bool(flipped))
    chances = probabilities(model, tokens, ids, bool(flipped))
    assert model.reading_order(tokens).tolist() == [1, 3, 0, 2]
    for member in model.models:
        real = member.model.forward
        monkeypatch.setattr(member.model, "forward", lambda ids, keep, real=real: (widths.append(ids.shape[1]), real(ids, keep))[1])
    monkeypatch.setattr("core.training._EVALUATION_ROWS", 2)
    torch.testing.assert_close(item_losses(model, split, ids, bool(flipped)), together, rtol=0, atol=1e-12)
    assert widths == [5] * model.members + [9] * model.members
    torch.testing.assert_close(probabilities(model, tokens, ids, bool(flipped)), chances, rtol=0, atol=1e-12)
    alone = torch.cat(
        [
            item_losses(model, Split(tokens[row : row + 1], split.labels[row : row + 1]), None if ids is None else ids[row : row + 1], bool(flipped))
            for row in range(4)
        ],
        1,
    )
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    if flipped is None:
        losses, share = validate(model, split)
        torch.testing.assert_close(losses, together, rtol=0, atol=1e-12)
        assert share == float((chances.argmax(1) == split.labels).double().mean())


@pytest.mark.parametrize("build", BUILDS)
def test_law_3_what_an_instance_changes_in_spite_of_its_flipped_mask_is_listed(build: str) -> None:
    """Every trained tensor that all instances change is named by a leak, and a member's leaks are the ensemble's."""
    model = token_ensemble(2, build)
    grown(model)
    touched: dict[str, Tensor] = {}
    for instance in range(24):
        model.zero_grad()
        with turnover([instance]):
            nn.functional.cross_entropy(model(token_rows(1)).flatten(0, 1), torch.tensor([0, 1])).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                touched[name] = touched.get(name, torch.zeros_like(parameter)) + (parameter.grad != 0)
    leaked = {name for name, count in touched.items() if (count == 24).any()}
    parts = {
        "adapters": (".up.bias", ".out.bias"),
        "masked": (".embeddings.", ".attention.self.", ".intermediate.dense.", ".LayerNorm.", ".out.bias"),
    }[build]
    assert len(parts) == len(model.leaks)
    assert not [name for name in leaked if not any(part in name for part in parts)]
    assert all(any(part in name for name in leaked) for part in parts)
    assert model.leaks == model.models[0].model.leaks
    assert isinstance(model.models[0], TokenRows)


# Training


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("epochs", [1, 3])
def test_resumed_training_gives_the_same_bits_ordinary_dropout_included(build: str, epochs: int, tmp_path: Path) -> None:
    whole, checkpoint = token_ensemble(2, build), tmp_path / "checkpoint"
    expected = fit(whole, TRAIN, VALIDATION, RECIPE)

    def stop(history: History) -> None:
        if history.epochs == epochs:
            raise Interruption

    with pytest.raises(Interruption):
        fit(token_ensemble(2, build), TRAIN, VALIDATION, RECIPE, checkpoint, stop)
    torch.manual_seed(99)
    resumed = token_ensemble(2, build)
    assert same_history(fit(resumed, TRAIN, VALIDATION, RECIPE, checkpoint), expected)
    assert same_weights(resumed, whole)
    assert any(module.p > 0 for module in whole.modules() if isinstance(module, nn.Dropout)) == (build == "masked")


def test_each_member_learns_and_frozen_weights_are_not_in_checkpoints(tmp_path: Path) -> None:
    model, checkpoint = token_ensemble(2), tmp_path / "checkpoint"
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, TRAIN, VALIDATION, Recipe(epochs=1, batch=8, learning_rate=1e-2), checkpoint)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])} == trained
    with safe_open(checkpoint, "pt") as file:
        saved = {name.removeprefix("model.") for name in file.keys() if name.startswith("model.")}  # noqa: SIM118
    assert saved == set(trained_state(model)) == trained
    assert all(".dropout.1." in name or name.endswith(("out.weight", "out.bias")) for name in saved)


def test_a_state_comes_back_and_that_of_another_model_is_refused_in_one_line() -> None:
    model, again = token_ensemble(2), token_ensemble(2)
    grown(model)
    state = {name: value.float() for name, value in trained_state(model).items()}
    load_trained(again, state)
    torch.testing.assert_close(again(token_rows()), model.float()(token_rows()))
    for other in (token_ensemble(3), token_ensemble(1), token_ensemble(2, "masked"), mlp_ensemble(2)):
        with pytest.raises(TurnoverError, match=r"^the weights are of another Ensemble: they differ at '[^\n]+; build it with the same settings$"):
            load_trained(other, state)
