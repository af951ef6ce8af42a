"""What methods cost: growth, storage to the byte, sizes not reached, the experiment on texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import turnover.research.paper.table1 as table1
from tests.contracts.test_baselines_problems import net, some_split
from tests.helpers.builders import some_labels
from tests.helpers.calling import answer, call
from tests.helpers.token_builders import (
    PADDING,
    encoder_in,
    grown,
    sst2_in,
    token_member,
    token_rows,
)
from turnover import TurnoverError
from turnover.models.registry import TrainSettings
from turnover.research.baselines.base import Baseline, Problem, Schedule, Scores
from turnover.research.baselines.catalog import METHODS, methods
from turnover.research.baselines.losses import RowLosses
from turnover.research.baselines.retraining import train_problem
from turnover.research.paper.setup import PaperRow, Setup, paper_table
from turnover.research.paper.table1 import (
    Cost,
    Costs,
    FixedWidth,
    Trained,
    complexity,
    contest_row,
    exponents,
    growth,
    model_bytes,
    repeated,
    text_case,
)
from turnover.research.paper.table1 import measure as measure_costs
from turnover.storage.progress import Advance, silent
from turnover.training.fit import Split

Patch, Capture = pytest.MonkeyPatch, pytest.CaptureFixture[str]

SGD = Schedule(2, 8, learning_rate=0.1, optimizer="sgd")
SIZES, WARM = (8, 16, 32), 8
WEIGHTS = 8 * (4 * 6 + 6 + 6 * 3 + 3)
"""Bytes of the small net's parameters in float64."""


def problems(sizes: Sequence[int] = SIZES, seconds: float = 0.0) -> list[Trained]:
    """A small net with more and more training items, trained in so many seconds."""
    target = some_split(1, seed=1)
    return [Trained(train_problem(net(), some_split(n), target, SGD), seconds) for n in sizes]


@dataclass
class Clockwork(Baseline):
    """It spends N² seconds on training, 3 on estimation, and keeps 10 bytes an item asked for."""

    now: float = 0.0
    refuses: int = 10**9
    how: type[Exception] = TurnoverError
    calls: int = 0

    name = "clockwork"

    def scores(
        self, problem: Problem, instances: Tensor | None = None, _: Advance = silent
    ) -> Scores:
        size, chosen = len(problem.train.labels), problem.chosen(instances)
        if size >= self.refuses:
            raise self.how(f"too many: {size}\nand more")
        self.now += size**2 + 3
        self.calls += size != WARM
        return Scores(torch.zeros(1, len(chosen)), chosen, 10 * len(chosen), size**2, 3.0)

    def values(self, *_: Any) -> Any:
        """`scores` has its own."""

    def costs(self, made: list[Trained], limit: float = math.inf, **facts: bool) -> Costs:
        for name in ("asks", "keeps", "each"):
            setattr(self, name, facts.get(name, False))
        return measure_costs(self, made, 4, limit)


@pytest.fixture
def clockwork(monkeypatch: Patch) -> Clockwork:
    """A clockwork whose time is the one that costs are measured by."""
    made = Clockwork()
    monkeypatch.setattr(table1, "time", SimpleNamespace(perf_counter=lambda: made.now))
    return made


def test_costs_are_those_of_a_method_of_known_cost(clockwork: Clockwork) -> None:
    """What takes long is called once; what a method takes from the problem counts."""
    made = clockwork.costs(problems((10, 20)))
    known = Cost(10, 10, 103, 100, 100, 3), Cost(20, 20, 403, 400, 200, 3)
    assert made == Costs(known, "") and clockwork.calls == 2
    (trained,) = problems((10,), seconds=7.0)
    assert model_bytes(trained.problem) == WEIGHTS
    for asks, keeps in ((0, 0), (0, 1), (1, 0), (1, 1)):
        (cost,) = clockwork.costs([trained], asks=bool(asks), keeps=bool(keeps)).measured
        assert (cost.training, cost.storage) == (100 + 7 * asks, 100 + WEIGHTS * keeps)
    each = clockwork.costs(problems((10, 20)), each=True).measured
    assert [(cost.size, cost.asked) for cost in each] == [(10, 4), (20, 4)], "scaled to all"
    scaled = [(cost.training, cost.storage, cost.estimation) for cost in each]
    assert scaled == [(250, 100, 7.5), (2000, 200, 15)]
    few = measure_costs(clockwork, [trained], 64, math.inf)
    assert few.measured[0].asked == 10, "there are no more"


def test_a_size_that_would_take_too_long_is_not_run(clockwork: Clockwork) -> None:
    made = clockwork.costs(problems((10, 20, 40)), 805)
    assert [cost.size for cost in made.measured] == [10, 20]
    assert made.ended == "N = 40 not run: it would take about 806 s a call, more than 805 s"
    assert len(clockwork.costs(problems((10, 20, 40)), 806).measured) == 3
    assert len(clockwork.costs(problems((10, 20)), 0).measured) == 1, "the first is always run"


@pytest.mark.parametrize("how", [TurnoverError, RuntimeError, NotImplementedError, MemoryError])
def test_a_refusal_is_told_in_a_line(how: type[Exception], clockwork: Clockwork) -> None:
    clockwork.refuses, clockwork.how = 20, how
    made = clockwork.costs(problems((10, 20, 40)))
    assert [cost.size for cost in made.measured] == [10]
    assert made.ended == "N = 20 refused: too many: 20"
    clockwork.refuses = 0
    assert clockwork.costs(problems((10,))) == Costs((), "N = 10 refused: too many: 10")
    clockwork.how = KeyError
    with pytest.raises(KeyError):  # a mistake of ours is no refusal
        clockwork.costs(problems((10,)))


def test_quick_calls_are_repeated(monkeypatch: Patch) -> None:
    now = iter(range(100))
    for seconds, times in ((0.1, 5), (0.6, 2), (2.0, 1)):
        clock = SimpleNamespace(perf_counter=lambda each=seconds: next(now) * each)
        monkeypatch.setattr(table1, "time", clock)
        assert repeated(lambda: "x") == ["x"] * times


ONE_MODEL = ("turnover", "turnover-plain", "turnover-shared", "influence-cg", "influence-lissa")
STORED = {
    **dict.fromkeys(ONE_MODEL, (0, WEIGHTS)),
    **dict.fromkeys(("tracin-last", "tracin-all"), (0, 2 * WEIGHTS)),
    **dict.fromkeys(("similarity", "random"), (0, 0)),
    "retraining": (WEIGHTS, WEIGHTS),
    "sgd-influence": (WEIGHTS / 4 + 16, WEIGHTS),
    "loss": (8, 0),
}
"""Bytes an item and bytes at all that a method must keep, for two epochs of batches of 8."""


@pytest.fixture(autouse=True)
def few_terms(monkeypatch: Patch) -> None:
    """LiSSA in three terms."""
    monkeypatch.setattr("turnover.research.baselines.hessian._LISSA_TERMS", 3)


@pytest.mark.parametrize("name", METHODS)
def test_storage_is_what_a_method_must_keep(name: str) -> None:
    made = measure_costs(METHODS[name], problems(), 4, math.inf)
    each, fixed = STORED[name]
    assert made.ended == ""
    assert [cost.storage for cost in made.measured] == [each * size + fixed for size in SIZES]
    assert all(min(cost.training, cost.estimation) >= 0 < cost.call for cost in made.measured)


def test_a_method_that_knows_plain_sgd_gets_it_where_the_problem_s_is_another() -> None:
    schedule = Schedule(1, 8, learning_rate=0.1)
    adamw = train_problem(net(), some_split(8), some_split(1, seed=1), schedule)
    made = measure_costs(methods(sgd=SGD)["sgd-influence"], [Trained(adamw, 0.0)], 4, math.inf)
    assert made.ended == "" and made.measured[0].storage == 3 * WEIGHTS + 2 * 8 * 8, "two steps"


# The experiment


def test_growth_in_words() -> None:
    assert growth((1, 2, 4), (0.5, 1.0, 4.0), "s") == "0.5, 1, 4 s; exponent 1.00, 2.00"
    few = growth((1, 2, 4), (0.0005, 1.0, 123.4), "s", 1e-3)
    assert few == "< 0.001, 1, 123 s; exponent –, 6.95"
    assert growth((1, 2), (0.0, 0.0), "MB") == "0, 0 MB; exponent –"
    assert growth((1,), (1234.5,), "s") == "1,234 s" and growth((), (), "s") == ""
    assert exponents((1, 2), (5.0, 7.0)) == [pytest.approx(math.log2(7 / 5))]
    assert all(math.isnan(one) for one in exponents((1, 2, 4), (0.0, 1.0, 0.0)))
    assert exponents((5,), (1.0,)) == []


def test_the_contest_is_at_the_greatest_size_that_all_reached() -> None:
    case: Any = SimpleNamespace(setting="texts")
    reached = {"influence-cg": 2, "turnover-plain": 3, "turnover": 3, "turnover-shared": 3}
    made = tuple(Cost(size, size, 0, 0, 0, 1.5 * size) for size in (10, 20, 40))
    costs = {name: Costs(made[:count], "") for name, count in reached.items()}
    row = contest_row(case, costs)
    ways = ("conjugate gradients", "two passes a pair", "engine", "shared masks")
    assert row.measured == " → ".join(f"30 s ({way})" for way in ways)
    assert (row.setting, row.paper[:14]) == ("texts, N = 20", "10 min → 35 s ")
    row = contest_row(case, {**costs, "influence-cg": Costs((), "N = 10 refused: so")})
    assert (row.setting, row.measured) == ("texts, no N that all ran at", "")


def test_a_model_of_fixed_width_computes_the_same_and_has_derivatives_of_rows() -> None:
    rows = grown(token_member(3))
    tokens = torch.cat((token_rows(4), torch.full((4, 2), PADDING)), 1)
    model = FixedWidth(rows).eval()  # type: ignore[arg-type]
    (cut,) = model.cut(tokens)
    assert cut.shape == (4, 9)
    for own in (tokens, cut):
        torch.testing.assert_close(model(own), rows(tokens), rtol=0, atol=1e-10)
    assert not any(isinstance(one, nn.Dropout) and one.p for one in model.modules())
    losses, split = RowLosses(model), Split(cut, some_labels(4, 3))
    vector, direction = losses.vector, torch.randn_like(losses.vector)
    slopes = losses.along(vector, direction[None], split)[0]
    known = losses.gradients(vector, split) @ direction
    torch.testing.assert_close(slopes, known, rtol=0, atol=1e-9)
    moved = (vector + sign * 1e-5 * direction for sign in (1, -1))
    ahead, behind = (losses.gradients(point, split).mean(0) for point in moved)
    bent = losses.hessian(vector, direction[None], split)[0]
    torch.testing.assert_close(bent, (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_every_method_has_its_rows(scale: str, tiny: Setup) -> None:
    """There are 20 texts, too few for 32."""
    rows = list(complexity(replace(tiny, scale=scale)))
    parts = ("training", "storage", "estimation")
    whats = [f"{method.name}: {what}" for method in METHODS.values() for what in parts]
    contest = "one target: Koh and Liang's method → turn-over dropout"
    assert [row.what for row in rows] == [*whats, contest] * (1 if scale == "small" else 2)
    assert not any("refused" in row.measured or "not run" in row.measured for row in rows)
    assert all("N = 8, 16" in row.setting for row in rows[: len(whats)])
    for row in rows:
        one_by_one = row.what.startswith("leave-one-out")
        assert ("items asked for, scaled to all" in row.setting) == one_by_one
        assert not any("|" in cell for cell in vars(row).values()), "a bar would end the cell"
    stored = {row.what: row.measured for row in rows[: len(whats)]}
    weights = 4 * (32 * 384 + 384 + 384 * 2 + 2) / 2**20
    constant = f"{weights:.3g}, {weights:.3g} MB; exponent 0.00"
    assert stored[f"{METHODS['turnover'].name}: storage"] == constant
    retrained = stored[f"{METHODS['retraining'].name}: storage"]
    assert retrained.endswith(f"exponent {math.log2(17 / 9):.2f}")


def test_at_the_paper_s_scale_models_have_adapters_and_texts_must_suffice(tiny: Setup) -> None:
    case = text_case(replace(tiny, scale="paper"), "adapters", (4, 8), 2)
    assert isinstance(case.model, FixedWidth)
    assert (case.schedule.optimizer, case.sgd.optimizer) == ("adamw", "sgd")
    lengths = [(own.inputs != 0).sum(1).max() for own in (case.train, case.target)]
    assert case.train.inputs.shape[1] == max(map(int, lengths))
    sizes = (len(case.target.labels), case.sizes, case.groups)
    assert sizes == (1, (4, 8), 16) and len(case.problem(4).train.labels) == 4
    message = "20 training sentences; growth wants two sizes, so give 64 or more"
    with pytest.raises(TurnoverError, match=rf"^[^\n]*sst2: {message}$"):
        text_case(tiny, "heads", (16, 64), 2)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: Patch) -> Setup:
    """SST-2 of a few texts, a tiny encoder, two sizes, methods with fewer steps."""
    sst2_in(tmp_path / "data" / "sst2", 20, 4)
    encoder = encoder_in(tmp_path / "encoder")

    def settings(setup: Setup, size: int, model: str) -> TrainSettings:
        some = {"limit": size, "model": model, "encoder": encoder, "groups": 16}
        return TrainSettings.of("sst2", path=setup.folder("sst2"), **some)

    small, paper = (("heads", (8, 16, 32), 3),), (("heads", (8, 16), 3), ("adapters", (4, 8), 2))
    monkeypatch.setattr(table1, "CASES", {"small": small, "paper": paper})
    monkeypatch.setattr(table1, "text_settings", settings)
    monkeypatch.setattr(table1, "_REPEATS", 1)
    monkeypatch.setattr("turnover.research.baselines.hessian._LANCZOS_STEPS", 8)
    return Setup("small", tmp_path / "data", tmp_path / "runs", "cpu")


def test_the_command_prints_json_and_a_table(
    tiny: Setup,
    monkeypatch: Patch,
    capsys: Capture,
) -> None:
    made = Cost(8, 8, 1, 1.5, 2**20, 0), Cost(16, 16, 1, 3, 2**21, 0)
    monkeypatch.setattr(table1, "measure", lambda *_: Costs(made, ""))
    arguments = ("paper", "complexity", "--path", tiny.data, "--runs", tiny.runs, "--device", "cpu")
    result = answer(capsys, *arguments)
    assert {"experiment": "complexity", "scale": "small"}.items() <= result.items()
    assert len(result["rows"]) == 3 * len(METHODS) + 1
    measured = [row["measured"] for row in result["rows"][:3]]
    assert measured[:2] == ["1.5, 3 s; exponent 1.00", "1, 2 MB; exponent 1.00"]
    assert measured[2] == "< 0.001, < 0.001 s; exponent –"
    code, table, _ = call(capsys, *arguments)
    assert code == 0 and paper_table([PaperRow(**row) for row in result["rows"]]) in table
