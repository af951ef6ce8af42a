"""Members trained by several ranks are those that one process trains, and a training goes on with
any number of ranks.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.builders import checksums, member_heads, names, randn, some_labels
from tests.helpers.rank_testing import run_ranks
from tests.helpers.token_builders import encoder_in, sst2_in, token_ensemble, token_rows
from turnover import Run, TurnoverDropout, turnover
from turnover.attribution.ensemble import (
    Members,
    cut_tensors,
    descriptions,
    joined_tensors,
    some_members,
)
from turnover.attribution.state import trained_state
from turnover.data.recipe import Recipe
from turnover.models.heads import small_vgg
from turnover.models.own import OwnMembers
from turnover.training.fit import Split, fit
from turnover.training.ranks import Ranks
from turnover.training.teams import team_of

HEADS = (
    "train",
    "--data",
    "digits",
    "--model",
    "heads",
    "--limit",
    60,
    "--members",
    3,
    "--seed",
    3,
    "--epochs",
    5,
    "--device",
    "cpu",
)


def models(kind: str) -> tuple[Members, torch.Tensor]:
    """Three members and inputs of theirs."""
    if kind == "heads":
        return member_heads(groups=4), randn(6, 8)
    if kind == "vgg":
        return small_vgg((1, 8, 8), 3, members=3, groups=4, seed=1).double(), randn(6, 1, 8, 8)
    if kind == "frozen":
        return OwnMembers([partly_frozen(seed) for seed in range(3)], 3, ()), randn(6, 8)
    return token_ensemble(3, kind).eval(), token_rows(6)


def partly_frozen(seed: int) -> nn.Module:
    """A module with a layer that is never trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(8, 6).requires_grad_(False),
            nn.ReLU(),
            TurnoverDropout(6, seed=seed, layer=0),
            nn.Linear(6, 3),
        ).double()


KINDS = ("heads", "vgg", "adapters", "masked", "frozen")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("members", [range(0, 1), range(1, 3), range(0, 3)])
def test_a_part_is_these_members_of_the_whole(kind: str, members: range) -> None:
    whole, x = models(kind)
    part = some_members(whole, members)
    assert part.members == len(members) and type(part) is type(whole)

    def logits(model: Members, flipped: bool) -> torch.Tensor:
        with torch.no_grad(), turnover(range(6), flipped=flipped):
            return model(x)

    for flipped in (False, True):
        expected = logits(whole, flipped)[members.start : members.stop]
        torch.testing.assert_close(logits(part, flipped), expected, rtol=0, atol=1e-6)
    assert descriptions(part) == descriptions(whole)[members.start : members.stop]


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_cut_and_joined_without_a_trace(kind: str) -> None:
    whole, _ = models(kind)
    state = {f"best.{name}": value for name, value in trained_state(whole).items()} | {
        "adamw.step": torch.tensor(3.0)
    }
    if kind in ("adapters", "masked", "frozen"):
        del state["adamw.step"]
    shares = [range(0, 1), range(1, 3)]
    parts = [cut_tensors(some_members(whole, share), state, share) for share in shares]
    for part, share in zip(parts, shares, strict=True):
        own = trained_state(some_members(whole, share))
        assert all(torch.equal(part[f"best.{name}"], value) for name, value in own.items())
    joined = joined_tensors(whole, parts, [1, 2])
    assert joined.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in joined.items())


@pytest.mark.parametrize(
    "recipe", [Recipe(epochs=3, batch=8, seed=2), Recipe(epochs=3, batch=8, seed=2, fresh=True)]
)
def test_members_trained_in_parts_have_the_bits_of_members_trained_together(recipe: Recipe) -> None:
    """Random masks and all; decisions are those of each part's own history here, so all epochs are
    run and the last is kept.
    """
    recipe = replace(recipe, patience=10, keep="last", learning_rate=1e-2)
    train, validation = (Split(randn(rows, 8).float(), some_labels(rows, 3)) for rows in (20, 10))
    whole = member_heads(groups=4).float()
    parts = [some_members(whole, share) for share in (range(0, 1), range(1, 3))]
    fit(whole, train, validation, recipe)
    for rank, part in enumerate(parts):
        ranks = Ranks()
        ranks.rank, ranks.size = rank, 2
        fit(part, train, validation, recipe, team=team_of(ranks, 3))
    for name, value in whole.state_dict().items():
        assert torch.equal(torch.cat([part.state_dict()[name] for part in parts]), value), name


FROZEN = """
from torch import nn
from turnover import TurnoverDropout

def build(classes, shape, seed):
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16))
    frozen.requires_grad_(False)
    return nn.Sequential(frozen, TurnoverDropout(16, seed=seed, layer=0), nn.Linear(16, classes))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of heads that one process trained in one go."""
    folder = tmp_path_factory.mktemp("alone")
    assert run_ranks(folder, *HEADS, "--run", folder / "run", ranks=1).code == 0
    return folder / "run"


def test_two_ranks_train_the_run_of_one_process(tmp_path: Path, alone: Path) -> None:
    done = run_ranks(tmp_path, *HEADS, "--run", tmp_path / "run")
    assert done.code == 0, done.said
    assert done.result["members"] == 3
    assert checksums(tmp_path / "run") == checksums(alone)
    assert names(tmp_path) == ["ranks.py", "run"]


def test_a_rank_that_dies_is_named_and_another_number_of_ranks_goes_on(
    tmp_path: Path, alone: Path
) -> None:
    died = run_ranks(tmp_path, *HEADS, "--run", tmp_path / "run", kill="1", moment=4)
    assert died.code != 0
    assert (
        "rank 1 of 2 (epoch 4, members 2 to 3) has died; start the same command again: what is "
        "finished is kept" in died.said
    )
    assert names(tmp_path) == ["ranks.py", "run.partial"]
    done = run_ranks(tmp_path, *HEADS, "--run", tmp_path / "run", ranks=1)
    assert done.code == 0, done.said
    assert checksums(tmp_path / "run") == checksums(alone)


def test_members_with_frozen_layers_are_shared_and_go_on_alone(tmp_path: Path) -> None:
    """What is frozen is part of a run's weights, as it is of a checkpoint's."""
    (tmp_path / "frozen.py").write_text(FROZEN, encoding="utf-8")
    few = (
        "--data",
        "digits",
        "--limit",
        12,
        "--validation-limit",
        4,
        "--members",
        2,
        "--epochs",
        3,
        "--device",
        "cpu",
    )
    command = ("train", *few, "--model", f"{tmp_path / 'frozen.py'}:build")
    died = run_ranks(tmp_path, *command, "--run", tmp_path / "resumed", kill="1", moment=3)
    assert died.code != 0 and (tmp_path / "resumed.partial" / "masked.checkpoint").exists()
    for name, ranks in (("resumed", 1), ("two", 2)):
        done = run_ranks(tmp_path, *command, "--run", tmp_path / name, ranks=ranks)
        assert done.code == 0, done.said
    resumed, two = (
        Run(tmp_path / name).manifest["files"]["weights.safetensors"] for name in ("resumed", "two")
    )
    assert resumed == two


def test_deep_members_and_texts_are_shared_too(tmp_path: Path) -> None:
    encoder, data = encoder_in(tmp_path / "encoder"), sst2_in(tmp_path / "sst2")
    settings = (
        "--model",
        "adapters",
        "--limit",
        20,
        "--members",
        2,
        "--seed",
        4,
        "--epochs",
        2,
        "--device",
        "cpu",
    )
    for ranks in (1, 2):
        done = run_ranks(
            tmp_path,
            "train",
            "--data",
            "sst2",
            "--path",
            data,
            "--encoder",
            encoder,
            *settings,
            "--run",
            tmp_path / f"run{ranks}",
            ranks=ranks,
        )
        assert done.code == 0, done.said
    one, two = (Run(tmp_path / f"run{ranks}") for ranks in (1, 2))
    assert (
        one.manifest["files"]["weights.safetensors"] == two.manifest["files"]["weights.safetensors"]
    )
    np.testing.assert_allclose(one.array("item_losses"), two.array("item_losses"), atol=1e-4)
