"""One member that several ranks train together is the one that a process trains alone (law 4): its
weights, statistics and curves.
"""

from __future__ import annotations

import copy
import signal
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.helpers.builders import LAW_4, member_heads, randn, some_labels
from tests.helpers.rank_testing import in_threads, run_left_alone, run_ranks
from tests.helpers.token_builders import encoder_in, sst2_in, token_ensemble, token_rows
from turnover import Run, TurnoverDropout
from turnover.attribution.ensemble import Ensemble, Members, some_members
from turnover.data.recipe import Recipe
from turnover.storage.schema import CURVES
from turnover.training.fit import History, Split, fit
from turnover.training.ranks import ALONE, Ranks
from turnover.training.teams import Team, shared_norms, team_of

ROWS, SEEN = 21, 5
RECIPE = Recipe(epochs=2, batch=8, seed=2, keep="last", learning_rate=1e-2, patience=9)
"""Of 21 rows: two batches of eight and one of five."""
SETTINGS = (
    "--model",
    "adapters",
    "--limit",
    21,
    "--members",
    1,
    "--seed",
    4,
    "--epochs",
    3,
    "--device",
    "cpu",
)
HEADS = (
    "train",
    "--data",
    "digits",
    "--model",
    "heads",
    "--limit",
    60,
    "--members",
    1,
    "--epochs",
    3,
    "--device",
    "cpu",
)


class Interruption(BaseException):
    """What a test throws into the middle of the work."""


class Normed(nn.Module):
    """Small images through two batch norms, of a convolution and of a linear layer; one weight is
    never used.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.before, self.after = (
                nn.Conv2d(1, 4, 3, bias=False),
                nn.Linear(4 * 36, 6, bias=False),
            )
            self.out, self.unused = nn.Linear(6, 3), nn.Parameter(torch.ones(2))
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm1d(6, momentum=None)])
        self.mask = TurnoverDropout(6, seed=seed, layer=0)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(
            self.norms[1](self.after(torch.relu(self.norms[0](self.before(x))).flatten(1)))
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(self.mask(self.features(x)))
        return logits


@cache
def a_model(kind: str, members: int = 1) -> Members:
    """Members of this kind in float64, without ordinary dropout; to be copied."""
    if kind == "heads":
        return member_heads(members=members)
    made = (
        Ensemble([Normed(seed) for seed in range(members)], 3, ())
        if kind == "normed"
        else token_ensemble(members, kind)
    )
    for module in made.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return made.double()


def splits(kind: str, dtype: torch.dtype = torch.float64) -> tuple[Split, Split]:
    """Training and validation rows that such a model reads."""
    if kind in ("adapters", "masked"):
        inputs = [token_rows(rows, seed=seed) for rows, seed in ((ROWS, 1), (SEEN, 2))]
    else:
        inputs = [
            randn(rows, *((8,) if kind == "heads" else (1, 8, 8)), seed=rows).to(dtype)
            for rows in (ROWS, SEEN)
        ]
    train, validation = (Split(rows, some_labels(len(rows), 3)) for rows in inputs)
    return train, validation


def trained(
    kind: str,
    recipe: Recipe,
    ranks: Ranks,
    members: int = 1,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> tuple[Members, History]:
    """The members of this rank's team after training, and their history."""
    team = team_of(ranks, members)
    model = some_members(a_model(kind, members), team.members).to(dtype)
    return model, fit(
        model, *splits(kind, dtype), recipe, options.get("kept"), options.get("progress"), team=team
    )


def check_same(
    made: tuple[Members, History],
    expected: tuple[Members, History],
    dtype: torch.dtype = torch.float64,
) -> None:
    """Check weights, statistics and curves against law 4."""
    for name, value in expected[0].state_dict().items():
        torch.testing.assert_close(
            made[0].state_dict()[name], value, rtol=0, atol=LAW_4[dtype], msg=name
        )
    for curve in CURVES:
        np.testing.assert_allclose(
            made[1].curves[curve], expected[1].curves[curve], atol=LAW_4[dtype], rtol=0
        )
    np.testing.assert_allclose(
        made[1].masked_items, expected[1].masked_items, atol=LAW_4[dtype], rtol=0
    )


# Teams


def teams(size: int, members: int) -> list[Team]:
    ranks = [Ranks() for _ in range(size)]
    for number, one in enumerate(ranks):
        one.rank, one.size = number, size
    return [team_of(one, members) for one in ranks]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("members", [1, 2, 3, 5])
def test_every_member_has_one_team_and_every_rank_a_place_in_it(size: int, members: int) -> None:
    made = teams(size, members)
    firsts = [team for team in made if team.rank == 0]
    assert [member for team in firsts for member in team.members] == list(range(members))
    assert [rank for team in firsts for rank in team.group] == list(range(size))
    assert all(
        team.group[team.rank] == rank and 1 in (len(team.members), team.size)
        for rank, team in enumerate(made)
    )
    assert max(len(team.members) for team in made) - min(len(team.members) for team in made) <= 1
    assert max(team.size for team in made) - min(team.size for team in made) <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 2, 6, 7, 20])
def test_parts_of_a_batch_count_every_row_once(size: int, count: int) -> None:
    weights = torch.zeros(count, dtype=torch.float64)
    for team in teams(size, 1):
        part = team.part(count)
        assert len(weights[part.rows])
        weights[part.rows] += part.weight
    torch.testing.assert_close(weights, torch.ones_like(weights), rtol=0, atol=1e-12)


# The same member


@pytest.mark.parametrize("kind", ["adapters", "masked", "normed", "heads"])
@pytest.mark.parametrize(("size", "batch"), [(2, 8), (3, 8), (3, 19)])
def test_a_team_trains_the_member_of_one_process(kind: str, size: int, batch: int) -> None:
    """Also where the last batch cannot be shared evenly, and where it holds two rows for three
    ranks.
    """
    recipe = replace(RECIPE, batch=batch)
    expected = trained(kind, recipe, ALONE)
    made = in_threads(size, lambda ranks: trained(kind, recipe, ranks))
    for one in made:
        check_same(one, expected)
    start = a_model(kind).state_dict()
    assert (
        max(
            float((value - start[name]).abs().max())
            for name, value in expected[0].state_dict().items()
        )
        > 1e-2
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_batch_norm_never_meets_a_batch_of_one_item_if_there_are_more(size: int) -> None:
    """21 rows in batches of ten: the last one joins the batch before it, on one process and on
    several ranks.
    """
    recipe = replace(RECIPE, batch=10)
    expected = trained("normed", recipe, ALONE)
    for one in in_threads(size, lambda ranks: trained("normed", recipe, ranks)):
        check_same(one, expected)


def test_one_row_a_batch_and_two_ranks() -> None:
    recipe = replace(RECIPE, batch=1, epochs=1)
    expected = trained("heads", recipe, ALONE)
    for one in in_threads(2, lambda ranks: trained("heads", recipe, ranks)):
        check_same(one, expected)


def test_in_float32_up_to_its_rounding() -> None:
    recipe = replace(RECIPE, learning_rate=1e-3)
    expected = trained("adapters", recipe, ALONE, dtype=torch.float32)
    for one in in_threads(2, lambda ranks: trained("adapters", recipe, ranks, dtype=torch.float32)):
        check_same(one, expected, torch.float32)


@pytest.mark.parametrize("change", [{"augment": True}, {"fresh": True}, {"masked": False}])
def test_what_is_drawn_at_random_is_drawn_for_the_whole_batch(change: dict[str, bool]) -> None:
    """Moved images and new masks are those of one process; the twin without masks too."""
    recipe = replace(RECIPE, **change)
    expected = trained("normed", recipe, ALONE)
    for one in in_threads(3, lambda ranks: trained("normed", recipe, ranks)):
        check_same(one, expected)


def test_ranks_of_a_team_draw_ordinary_dropout_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else rows of two ranks would have the same units dropped."""
    seeds: list[int] = []
    monkeypatch.setattr("turnover.training.fit.torch.manual_seed", seeds.append)
    in_threads(3, lambda ranks: trained("heads", replace(RECIPE, epochs=1), ranks))
    assert len(set(seeds)) == 3


@pytest.mark.parametrize(("kind", "size"), [("normed", 3), ("heads", 5)])
def test_members_with_teams_of_different_sizes(kind: str, size: int) -> None:
    """Two members: of three ranks one trains alone; heads are trained one by one as well as side by
    side.
    """
    (whole, history), made = (
        trained(kind, RECIPE, ALONE, 2),
        in_threads(size, lambda ranks: trained(kind, RECIPE, ranks, 2)),
    )
    for rank, team in enumerate(teams(size, 2)):
        check_same(made[rank], (some_members(whole, team.members), history))


@pytest.mark.parametrize("then", [1, 2, 3])
def test_a_stopped_training_goes_on_with_any_number_of_ranks(
    then: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many as before to the same bits."""
    whole = in_threads(2, lambda ranks: trained("normed", RECIPE, ranks))[0]

    def stop(_: History) -> None:
        raise Interruption

    with pytest.raises(Interruption):
        in_threads(
            2,
            lambda ranks: trained(
                "normed", RECIPE, ranks, kept=tmp_path / "checkpoint", progress=stop
            ),
        )
    for one in in_threads(
        then, lambda ranks: trained("normed", RECIPE, ranks, kept=tmp_path / "checkpoint")
    ):
        check_same(one, whole)
        if then == 2:
            assert all(
                torch.equal(value, whole[0].state_dict()[name])
                for name, value in one[0].state_dict().items()
            )


def test_norms_are_as_they_were_after_a_training_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    team, model = teams(2, 1)[0], copy.deepcopy(a_model("normed")).train()
    with pytest.raises(Interruption), shared_norms(model, team, 1.0):
        assert all("forward" in vars(norm) for norm in model.models[0].norms)
        raise Interruption
    assert not any("forward" in vars(norm) for norm in model.models[0].norms)


# Processes of their own


def settings(folder: Path) -> tuple[object, ...]:
    """What trains one deep member, of texts and an encoder in a folder."""
    return (
        "train",
        "--data",
        "sst2",
        "--path",
        sst2_in(folder / "sst2"),
        "--encoder",
        encoder_in(folder / "encoder"),
        *SETTINGS,
    )


def test_two_processes_one_of_which_is_killed_on_the_way_train_the_run_of_one(
    tmp_path: Path,
) -> None:
    command = settings(tmp_path)
    died = run_ranks(tmp_path, *command, "--run", tmp_path / "two", kill="1", moment=2)
    assert died.code != 0
    assert (
        "rank 1 of 2 (epoch 2, members 1 to 1) has died; start the same command again: what is "
        "finished is kept" in died.said
    )
    assert (tmp_path / "two.partial" / "masked.checkpoint").exists() and not (
        tmp_path / "two"
    ).exists()
    for name, ranks in (("two", 2), ("one", 1)):
        done = run_ranks(tmp_path, *command, "--run", tmp_path / name, ranks=ranks)
        assert done.code == 0, done.said
    one, two = (Run(tmp_path / name) for name in ("one", "two"))
    weights = [load_file(run.folder / "weights.safetensors") for run in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-4, msg=name)
    np.testing.assert_allclose(two.array("item_losses"), one.array("item_losses"), atol=1e-4)
    assert one.manifest["results"]["plain_accuracy"] == two.manifest["results"]["plain_accuracy"]


@pytest.mark.parametrize(
    ("end", "what"),
    [(signal.SIGKILL, "has died"), (signal.SIGSTOP, "was not heard for 5 s and is lost")],
)
def test_a_rank_that_leaves_in_the_middle_of_a_step_is_named(
    end: signal.Signals, what: str, tmp_path: Path
) -> None:
    """With nobody to look after the ranks: the other one waits for its gradients."""
    done = run_left_alone(tmp_path, *HEADS, "--run", tmp_path / "run", moment=2, end=end)
    assert done.code == 2
    line = done.said.strip().splitlines()[-1]
    assert (
        line
        == f"turnover train: rank 1 of 2 (epoch 2, members 1 to 1) {what}; start the same command "
        "again: what is finished is kept"
    )
