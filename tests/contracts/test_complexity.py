"""What methods cost: growth, storage to the byte, sizes that are not reached, and the experiment on tiny texts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import core.paper.complexity as complexity_module
import core.paper.costs as costs_module
import core.paper.subjects as subjects_module
from core import TurnoverError
from core.cli import main
from core.paper.complexity import complexity, contest_row, growth
from core.paper.costs import Cost, Costs, Trained, exponents, measure, model_bytes, repeated
from core.paper.row import PaperRow, paper_table
from core.paper.setup import Setup
from core.paper.subjects import FixedWidth, text_subject
from core.pipeline.settings import TrainSettings
from core.rivals.base import Problem, Schedule, Scores, Told, cross_entropy, silent
from core.rivals.catalog import METHODS, Method, methods
from core.rivals.hessian import CaptumInfluence, InfluenceFunction
from core.rivals.losses import RowLosses
from core.rivals.repeat import train_problem
from core.rivals.solvers import Lissa
from core.training import Split
from tests.contracts.test_rivals_problems import net, some_split
from tests.helpers.builders import some_labels
from tests.helpers.token_builders import PADDING, encoder_in, grown, sst2_in, token_member, token_rows

SGD = Schedule(epochs=2, batch=8, learning_rate=0.1, optimizer="sgd")
SIZES = (8, 16, 32)
WARM = 8
"""Training items of the problem that every method is warmed up on."""


def problems(sizes: Sequence[int] = SIZES, seconds: float = 0.0) -> list[Trained]:
    """A small net with more and more training items, and seconds that its training is said to have taken."""
    return [Trained(train_problem(net(), some_split(size), some_split(1, seed=1), SGD), seconds) for size in sizes]


@dataclass
class Clockwork:
    """A method of known cost: it spends N² seconds on training, 3 on estimation, and keeps 10 bytes an item asked for."""

    now: float = 0.0
    refuses: int = 10**9
    how: type[Exception] = TurnoverError
    calls: int = 0

    name = "clockwork"

    def scores(self, problem: Problem, instances: Tensor | None = None, progress: Told = silent) -> Scores:
        size, chosen = len(problem.train.labels), problem.chosen(instances)
        if size >= self.refuses:
            raise self.how(f"too many: {size}\nand more")
        self.now += size**2 + 3
        self.calls += size != WARM
        return Scores(torch.zeros(1, len(chosen)), chosen, 10 * len(chosen), size**2, 3.0)


def clocked(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Clockwork:
    """A clockwork whose time is the one that costs are measured by."""
    clockwork = Clockwork(**changes)
    monkeypatch.setattr(costs_module, "time", SimpleNamespace(perf_counter=lambda: clockwork.now))
    return clockwork


# Growth


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, -0.5])
def test_the_exponent_of_a_power_is_the_power(power: float) -> None:
    sizes = (100, 200, 400, 1200)
    made = exponents(sizes, [0.3 * size**power for size in sizes])
    assert made == pytest.approx([power] * 3)
    assert exponents((1, 2), (5.0, 7.0)) == [pytest.approx(math.log2(7 / 5))]
    assert all(math.isnan(exponent) for exponent in exponents((1, 2, 4), (0.0, 1.0, 0.0)))
    assert exponents((5,), (1.0,)) == []


def test_growth_in_words() -> None:
    assert growth((1, 2, 4), (0.5, 1.0, 4.0), "s") == "0.5, 1, 4 s; exponent 1.00, 2.00"
    assert growth((1, 2, 4), (0.0005, 1.0, 123.4), "s", 1e-3) == "< 0.001, 1, 123 s; exponent –, 6.95"
    assert growth((1, 2), (0.0, 0.0), "MB") == "0, 0 MB; exponent –"
    assert growth((1,), (1234.5,), "s") == "1,234 s"
    assert growth((), (), "s") == ""


# Measuring


def test_costs_are_those_of_a_method_of_known_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork = clocked(monkeypatch)
    made = measure(Method("clockwork", lambda _: clockwork), problems((10, 20)), SGD, 4, math.inf)
    assert made == Costs((Cost(10, 10, 103, 100, 100, 3), Cost(20, 20, 403, 400, 200, 3)), "")
    assert exponents((10, 20), [cost.training for cost in made.measured]) == [2.0]
    assert clockwork.calls == 2, "what takes long is called once"


def test_what_a_method_takes_from_the_problem_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork = clocked(monkeypatch)
    (trained,) = problems((10,), seconds=7.0)
    weights = 8 * sum(value.numel() for value in net().parameters())
    assert model_bytes(trained.problem) == weights
    for asks in (False, True):
        for keeps in (False, True):
            (cost,) = measure(Method("clockwork", lambda _: clockwork, asks, keeps), [trained], SGD, 4, math.inf).measured
            assert (cost.training, cost.storage) == (100 + 7 * asks, 100 + weights * keeps)


def test_a_cost_for_each_item_is_scaled_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork = clocked(monkeypatch)
    made = measure(Method("clockwork", lambda _: clockwork, each=True), problems((10, 20)), SGD, 4, math.inf).measured
    assert [(cost.size, cost.asked) for cost in made] == [(10, 4), (20, 4)]
    assert [(cost.training, cost.storage, cost.estimation) for cost in made] == [(250, 100, 7.5), (2000, 200, 15)]
    few = measure(Method("clockwork", lambda _: clockwork, each=True), problems((10,)), SGD, 64, math.inf).measured
    assert few[0].asked == 10, "there are no more"


def test_a_size_that_would_take_too_long_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork = clocked(monkeypatch)
    made = measure(Method("clockwork", lambda _: clockwork), problems((10, 20, 40)), SGD, 4, 805)
    assert [cost.size for cost in made.measured] == [10, 20]
    assert made.ended == "N = 40 not run: it would take about 806 s a call, more than 805 s"
    assert len(measure(Method("clockwork", lambda _: clockwork), problems((10, 20, 40)), SGD, 4, 806).measured) == 3
    assert len(measure(Method("clockwork", lambda _: clockwork), problems((10, 20)), SGD, 4, 0).measured) == 1, "the first size is always run"


@pytest.mark.parametrize("how", [TurnoverError, RuntimeError, NotImplementedError, MemoryError])
def test_a_refusal_is_told_in_a_line(how: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork = clocked(monkeypatch, refuses=20, how=how)
    made = measure(Method("clockwork", lambda _: clockwork), problems((10, 20, 40)), SGD, 4, math.inf)
    assert [cost.size for cost in made.measured] == [10]
    assert made.ended == "N = 20 refused: too many: 20"
    clockwork.refuses = 0
    assert measure(Method("clockwork", lambda _: clockwork), problems((10,)), SGD, 4, math.inf) == Costs((), "N = 10 refused: too many: 10")


def test_a_mistake_of_ours_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork = clocked(monkeypatch, refuses=0, how=KeyError)
    with pytest.raises(KeyError):
        measure(Method("clockwork", lambda _: clockwork), problems((10,)), SGD, 4, math.inf)


def test_quick_calls_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    for seconds, times in ((0.1, 5), (0.6, 2), (2.0, 1)):
        monkeypatch.setattr(costs_module, "time", SimpleNamespace(perf_counter=lambda each=seconds: next(now) * each))
        assert repeated(lambda: "x") == ["x"] * times


def test_a_method_that_knows_plain_sgd_gets_it_where_the_problem_s_is_another() -> None:
    adamw = train_problem(net(), some_split(8), some_split(1, seed=1), Schedule(epochs=1, batch=8, learning_rate=0.1))
    made = measure(METHODS["sgd-influence"], [Trained(adamw, 0.0)], SGD, 4, math.inf)
    assert made.ended == "" and made.measured[0].storage == (2 * WEIGHTS + 2 * 8 * 8 + WEIGHTS), "two steps of that schedule"


# Storage, to the byte

WEIGHTS = 8 * (4 * 6 + 6 + 6 * 3 + 3)
"""Bytes of the small net's parameters in float64."""


def stored(name: str, size: int) -> int:
    """What a method must keep for the small net, two epochs of batches of 8, by how it works."""
    steps = 2 * size // 8
    return {
        "turnover": WEIGHTS,
        "turnover-plain": WEIGHTS,
        "retraining": (size + 1) * WEIGHTS,
        "sgd-influence": (steps + 1) * WEIGHTS + 2 * size * 8,
        "influence-cg": WEIGHTS,
        "influence-lissa": WEIGHTS,
        "influence-captum": (3 + 1) * WEIGHTS,
        "tracin-last": 2 * WEIGHTS,
        "tracin-all": 2 * WEIGHTS,
        "similarity": 0,
        "loss": 8 * size,
        "random": 0,
    }[name]


def quick(name: str, method: Method) -> Method:
    """The method with fewer steps."""
    few = {"influence-lissa": InfluenceFunction(Lissa(depth=3)), "influence-captum": CaptumInfluence("arnoldi", directions=3)}
    return replace(method, make=lambda _: few[name]) if name in few else method


@pytest.mark.parametrize("name", METHODS)
def test_storage_is_what_a_method_must_keep(name: str) -> None:
    made = measure(quick(name, METHODS[name]), problems(), SGD, 4, math.inf)
    assert made.ended == ""
    assert [cost.storage for cost in made.measured] == [stored(name, size) for size in SIZES]
    assert all(cost.training >= 0 and cost.estimation >= 0 and cost.call > 0 for cost in made.measured)


def test_the_contest_is_at_the_greatest_size_that_all_reached() -> None:
    subject: Any = SimpleNamespace(setting="texts")
    reached = {"influence-cg": (10, 20), "turnover-plain": (10, 20, 40), "turnover": (10, 20, 40)}
    costs = {name: Costs(tuple(Cost(size, size, 0, 0, 0, 1.5 * size) for size in sizes), "") for name, sizes in reached.items()}
    row = contest_row(subject, costs)
    assert row.measured == "30 s (conjugate gradients) → 30 s (two passes a pair) → 30 s (engine)"
    assert (row.setting, row.paper) == ("texts, N = 20", "10 min → 35 s (BERT-base, N = 10,000)")
    row = contest_row(subject, {**costs, "influence-cg": Costs((), "N = 10 refused: so")})
    assert (row.setting, row.measured) == ("texts, no N that all ran at", "")


# Models of token ids that can be differentiated twice


def test_a_model_of_fixed_width_computes_the_same_and_has_derivatives_of_rows() -> None:
    rows, tokens = grown(token_member(3)), torch.cat((token_rows(4), torch.full((4, 2), PADDING)), 1)
    expected = rows(tokens)
    model = FixedWidth(rows).eval()
    torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-10)
    (cut,) = model.cut(tokens)
    assert cut.shape == (4, 9)
    torch.testing.assert_close(model(cut), expected, rtol=0, atol=1e-10)
    assert not any(isinstance(module, nn.Dropout) and module.p for module in model.modules())
    losses, split = RowLosses(model, cross_entropy), Split(cut, some_labels(4, 3))
    gradients = losses.gradients(losses.vector, split)
    direction = torch.randn_like(losses.vector)
    torch.testing.assert_close(losses.along(losses.vector, direction[None], split)[0], gradients @ direction, rtol=0, atol=1e-9)
    step = 1e-5 * direction
    ahead, behind = (losses.gradients(losses.vector + sign * step, split).mean(0) for sign in (1, -1))
    torch.testing.assert_close(losses.hessian(losses.vector, direction[None], split)[0], (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-6)


# The experiment on tiny texts


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """SST-2 of a few texts, a tiny encoder, two sizes, methods with fewer steps."""
    sst2_in(tmp_path / "data" / "sst2", 20, 4)
    encoder = encoder_in(tmp_path / "encoder")

    def settings(setup: Setup, size: int, model: str) -> TrainSettings:
        return TrainSettings("sst2", path=setup.folder("sst2"), limit=size, model=model, encoder=encoder, groups=16)

    monkeypatch.setattr(subjects_module, "text_settings", settings)
    monkeypatch.setattr(costs_module, "_REPEATS", 1)
    monkeypatch.setattr("core.rivals.solvers._LANCZOS_STEPS", 8)
    monkeypatch.setattr(complexity_module, "SUBJECTS", {"small": (("heads", (8, 16, 32), 3),), "paper": (("heads", (8, 16), 3), ("adapters", (4, 8), 2))})
    monkeypatch.setattr(complexity_module, "methods", lambda **options: {name: quick(name, method) for name, method in methods(**options).items()})
    return Setup("small", tmp_path / "data", tmp_path / "runs", "cpu")


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_every_method_has_its_rows(scale: str, tiny: Setup) -> None:
    rows = list(complexity(replace(tiny, scale=scale)))
    whats = [f"{method.name}: {what}" for method in METHODS.values() for what in ("training", "storage", "estimation")]
    subjects = 1 if scale == "small" else 2
    assert [row.what for row in rows] == [*whats, "one target: Koh and Liang's method → turn-over dropout"] * subjects
    assert not any("refused" in row.measured or "not run" in row.measured for row in rows)
    assert all("N = 8, 16" in row.setting for row in rows[: len(whats)]), "there are 20 texts, too few for 32"
    asked = [row for row in rows if row.what.startswith("leave-one-out")]
    assert all("items asked for, scaled to all" in row.setting for row in asked)
    assert all("scaled" not in row.setting for row in rows if row not in asked)
    assert not any("|" in cell for row in rows for cell in vars(row).values()), "a bar would end the table's cell"
    by_what = {row.what: row for row in rows[: len(whats)]}
    weights = 4 * (32 * 384 + 384 + 384 * 2 + 2) / 2**20
    assert by_what[f"{METHODS['turnover'].name}: storage"].measured == f"{weights:.3g}, {weights:.3g} MB; exponent 0.00"
    assert by_what[f"{METHODS['retraining'].name}: storage"].measured.endswith(f"exponent {math.log2(17 / 9):.2f}")


def test_at_the_paper_s_scale_its_models_have_adapters(tiny: Setup) -> None:
    subject = text_subject(replace(tiny, scale="paper"), "adapters", (4, 8), 2)
    assert isinstance(subject.model, FixedWidth) and subject.schedule.optimizer == "adamw" and subject.sgd.optimizer == "sgd"
    assert subject.train.inputs.shape[1] == max(int((rows != 0).sum(1).max()) for rows in (subject.train.inputs, subject.target.inputs))
    assert (len(subject.target.labels), subject.sizes, subject.groups) == (1, (4, 8), 16)
    assert len(subject.problem(4).train.labels) == 4


def test_too_few_texts_are_one_line(tiny: Setup) -> None:
    with pytest.raises(TurnoverError, match=r"^[^\n]*sst2: 20 training sentences; growth wants two sizes, so give 64 or more$"):
        text_subject(tiny, "heads", (16, 64), 2)


def test_the_command_prints_json_and_a_table(tiny: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(complexity_module, "measure", lambda *_: Costs((Cost(8, 8, 1, 1.5, 2**20, 0), Cost(16, 16, 1, 3, 2**21, 0)), ""))
    arguments = ["paper", "complexity", "--path", str(tiny.data), "--runs", str(tiny.runs), "--device", "cpu"]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"experiment": "complexity", "scale": "small"}.items() <= result.items()
    assert len(result["rows"]) == 3 * len(METHODS) + 1
    assert [row["measured"] for row in result["rows"][:3]] == ["1.5, 3 s; exponent 1.00", "1, 2 MB; exponent 1.00", "< 0.001, < 0.001 s; exponent –"]
    assert main(arguments) == 0
    assert paper_table([PaperRow(**row) for row in result["rows"]]) in capsys.readouterr().out
