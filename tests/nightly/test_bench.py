"""What benchmarks and cost measurements say; the figures themselves are nobody's law."""

from __future__ import annotations

import json
import mmap
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import turnover.research.bench.timing as timing
from tests.helpers.builders import naive_influence, sequential_net, some_labels
from tests.helpers.calling import answer, call
from turnover.attribution.influence import influence
from turnover.explain.explanation import error_items
from turnover.research.bench import growth as bench_growth
from turnover.research.bench import influence as bench_influence
from turnover.research.bench import random_run
from turnover.research.bench.contests import (
    ENGINE,
    ENGINE_LOW,
    PART,
    PUBLISHED,
    Contest,
    Way,
    example_network,
    heads,
)
from turnover.research.bench.growth import GrowthRow
from turnover.research.bench.influence import BackendRow, describe_influence, measure
from turnover.research.bench.million import measure_million
from turnover.research.bench.networks import convolutions, trunk
from turnover.research.bench.random_run import RandomRun
from turnover.research.paper.table1 import exponents
from turnover.runs.run import Run, find_runs

CPU = torch.device("cpu")
IDS = list(range(30))
Patch, Capture = pytest.MonkeyPatch, pytest.CaptureFixture[str]
Maker = Callable[..., Contest]


# Through the command


@pytest.fixture
def small_peaks(monkeypatch: Patch) -> None:
    """Matrix products of 64 × 64 in place of 2048 × 2048."""
    monkeypatch.setattr(timing, "_SIZE", 64)


def test_mask_benchmark_measures_both_ways_and_prints_them(capsys: Capture) -> None:
    result = answer(capsys, "bench", "masks")
    measures = [row["measure"] for row in result["rows"]]
    assert len(set(measures)) == len(measures) >= 3
    assert all(row["value"] > 0 for row in result["rows"])
    code, table, _ = call(capsys, "bench", "masks")
    assert code == 0 and all(f"| {measure} |" in table for measure in measures)
    code, _, error = call(capsys, "bench", "sst2")
    assert code == 2 and "--path" in error


@pytest.mark.usefixtures("small_peaks")
def test_the_whole_benchmark_through_the_command(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(bench_influence, "contests", lambda device: iter([a_contest]))
    monkeypatch.setattr(bench_growth, "_GROWTH", (20, 40))
    monkeypatch.setattr(bench_growth, "_TARGET_GROWTH", (1, 2))
    monkeypatch.setattr(bench_growth, "_SHARED_GROWTH", (30, 60))
    for module in (bench_influence, bench_growth):
        monkeypatch.setattr(module, "_REPEATS", 1)
        monkeypatch.setattr(module, "choose_device", lambda: CPU)
    monkeypatch.setattr(timing, "COPY_BYTES", 2**13)
    result = answer(capsys, "bench", "influence")
    assert len(result["rows"]) == 3 and result["copy_bytes_per_second"] > 0
    assert [row["sizes"] for row in result["growth"]] == [[20, 40], [1, 2], *[[30, 60]] * 3]
    assert "| a small network | 1 | (c) engine |" in call(capsys, "bench", "influence")[1]
    for only, count in (("small", 3), ("large", 0)):
        chosen = answer(capsys, "bench", "influence", "--only", only)
        assert len(chosen["rows"]) == count and "growth" not in chosen


def test_little_memory_and_low_precision_say_how_far_off(run_copy: Path, capsys: Capture) -> None:
    names, command = ("truth_members", "self"), ("influence", "--run", run_copy, "--memory", "64M")
    before = {name: Run(run_copy).influence.array(name).copy() for name in names}
    result = answer(capsys, *command, "--precision", "bfloat16")
    assert result["precision"] == "bfloat16" and 0 < result["precision_error"] < 0.5
    low = Run(run_copy).influence.array("truth_members")
    assert 0 < abs(low - before["truth_members"]).max() < 1
    again = answer(capsys, *command)
    assert (again["precision"], again["precision_error"]) == ("float32", None)
    for name, values in before.items():
        made = Run(run_copy).influence.array(name)
        np.testing.assert_allclose(made, values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", ["", "0", "-1", "64", "1K", "lots", "1.5.2G", "nan", "inf", "1e9"])
def test_a_size_that_is_none_is_one_line(size: str, small_run: Path, capsys: Capture) -> None:
    code, out, err = call(capsys, "influence", "--run", small_run, f"--memory={size}")
    assert (code, out, err.count("\n")) == (2, "", 1) and "--memory" in err


# One contest


def product() -> Tensor:
    """One of 8 × 16 by 16 × 4: 1024 operations."""
    return torch.ones(8, 16) @ torch.ones(16, 4)


def a_contest() -> Contest:
    """The naive loop against the engine on a small network; operations of one way are known."""
    model, labels = sequential_net().float(), some_labels(3, 3)
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))

    def naive() -> Tensor:
        return naive_influence(model, x, labels, IDS[:5])

    def engine() -> Tensor:
        return influence(model, x, labels, IDS).values

    ways = {PUBLISHED: Way(15, naive, naive), PART: Way(7, product, naive)}
    ways[ENGINE] = Way(90, engine, lambda: engine()[..., :5])
    return Contest("a small network", {name: ways[name] for name in (PUBLISHED, ENGINE, PART)})


@pytest.mark.usefixtures("small_peaks")
def test_a_contest_has_a_row_a_way() -> None:
    rows = list(measure(a_contest(), 1, CPU, 1))
    said = {"case", "backend", "threads", "pairs", "seconds", "pairs_per_second", "peak_memory_mb"}
    said |= {"max_abs_difference", "flops_per_second", "matmul_peak_flops_per_second"}
    assert {field.name for field in fields(BackendRow)} == said | {"mask_seconds"}
    found = [(row.case, row.backend, row.threads, row.pairs) for row in rows]
    known = ((PUBLISHED, 15), (ENGINE, 90), (PART, 7))
    assert found == [("a small network", way, 1, pairs) for way, pairs in known]
    for row in rows:
        assert row.max_abs_difference < 1e-4 and row.peak_memory_mb >= 0
        assert row.pairs_per_second == pytest.approx(row.pairs / row.seconds)
        assert row.flops_per_second > 0 and row.matmul_peak_flops_per_second > 0
    assert rows[0].max_abs_difference == 0 and {row.mask_seconds for row in rows} == {None}
    assert rows[2].flops_per_second * rows[2].seconds == pytest.approx(1024)
    for count in (1, 2):
        with timing.threads(count):
            assert bench_influence._flops(Way(1, product, product)) == 2 * 8 * 16 * 4
            assert torch.get_num_threads() == count


@pytest.mark.parametrize("targets", [1, 3])
def test_the_ways_of_the_heads_agree(targets: int) -> None:
    ways = heads(targets, 32, CPU).ways
    assert list(ways) == [PUBLISHED, PART, ENGINE, ENGINE_LOW]
    samples = {name: way.sample() for name, way in ways.items()}
    for name, sample in samples.items():
        assert sample.shape == (1 if name == PUBLISHED else 16, min(targets, 2), 50)
        bound = 0.2 if name == ENGINE_LOW else 1e-4
        torch.testing.assert_close(sample[0], samples[PUBLISHED][0], rtol=0, atol=bound)
    torch.testing.assert_close(samples[ENGINE], samples[PART], rtol=0, atol=1e-4)
    assert samples[PUBLISHED].abs().max() > 1e-2
    assert [way.masks is not None for way in ways.values()] == [False, False, True, True]
    pairs = 16 * targets * 5000
    assert [way.pairs for way in ways.values()] == [100, pairs / 10, pairs, pairs]


@pytest.mark.parametrize("groups", [32, None])
def test_the_ways_of_the_authors_example_agree(groups: int | None) -> None:
    ways = example_network(groups, CPU).ways
    samples = {name: way.sample() for name, way in ways.items()}
    assert list(samples) == [PUBLISHED, PART, ENGINE]
    for sample in samples.values():
        torch.testing.assert_close(sample, samples[PUBLISHED], rtol=0, atol=1e-4)
    assert samples[PUBLISHED].abs().max() > 1e-2


@pytest.mark.parametrize("masks", [None, 8])
@pytest.mark.parametrize("make", [trunk, convolutions])
def test_the_ways_of_one_s_own_networks_agree(make: Maker, masks: int | None) -> None:
    """Both halves' losses are the same whether the engine knows the order of the layers or not."""
    for opaque in (False, True):
        contest = make(2, True, opaque, masks, CPU)
        assert list(contest.ways) == [PUBLISHED, ENGINE]
        assert ("8 shared" in contest.case) == bool(masks)
        samples = {name: way.sample() for name, way in contest.ways.items()}
        torch.testing.assert_close(samples[ENGINE], samples[PUBLISHED], rtol=0, atol=1e-4)
        assert samples[PUBLISHED].abs().max() > 1e-2


# Growth, clocks and tables


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, -0.5])
def test_the_exponent_of_a_power_is_the_power(power: float) -> None:
    sizes = (10, 20, 40, 120)
    values = tuple(0.3 * size**power for size in sizes)
    assert bench_growth._slope(sizes, values) == pytest.approx(power, abs=1e-9)
    assert exponents(sizes, values) == pytest.approx([power] * 3)


def test_growth_runs_every_size() -> None:
    seen: list[int] = []
    row = bench_growth._growth("things", (1, 2, 4), seen.append, CPU)
    assert set(seen) == {1, 2, 4} and min(row.seconds) > 0
    found = (row.growing, row.sizes, len(row.seconds), len(row.peak_memory_mb))
    assert found == ("things", (1, 2, 4), 3, 3)


def test_medians_leave_the_first_round_out(monkeypatch: Patch) -> None:
    clock = iter([100, 0, 1, 0, 2, 0, 9])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.interleaved_medians({"one": lambda: None}, 3, CPU) == {"one": 2}


def test_peak_memory_sees_what_is_held_and_let_go() -> None:
    """Not from the heap, which may have as much to spare; looked at every few milliseconds."""
    with timing.peak_memory(CPU) as peak, mmap.mmap(-1, 40 * 2**20) as held:
        for _ in range(40):
            held.write(bytes([1]) * 2**20)
        time.sleep(0.1)
    assert 30 < peak[0] < 400


def test_a_result_becomes_two_tables() -> None:
    slow = BackendRow("a case", PUBLISHED, 1, 100, 0.1, 1000.0, 0.0, 12.0, 5e9, 1e10, None)
    fast = BackendRow("a case", ENGINE, 1, 10_000, 0.1, 250_000.0, 2e-6, 34.0, 9e9, 1e10, 0.02)
    growth = asdict(GrowthRow("things", (10, 2000), (0.1, 0.25), (1.0, 2.0), 1.5))
    result = {"rows": [asdict(slow), asdict(fast)], "growth": [growth]}
    result["copy_bytes_per_second"] = 1.25e10  # type: ignore[assignment]
    lines = describe_influence(json.loads(json.dumps(result))).split("\n")
    assert "| a case | 1 | (a) published | 100 | 0.1 | 1,000 | 1.0 | 0 | 12 | 50% |  |" in lines
    fast_line = "(c) engine | 10,000 | 0.1 | 250,000 | 250.0 | 2e-06 | 34 | 90% | 20% |"
    assert f"| a case | 1 | {fast_line}" in lines
    assert "| things | 10, 2,000 | 0.1, 0.25 | 1, 2 | 1.50 | 1.25e+05 |" in lines
    assert lines[-1] == "A large copy moves 12.5 GB/s."


# Runs of random numbers are runs like others


def test_a_run_like_the_million_s_keeps_each_mask_s_values_and_opens(tmp_path: Path) -> None:
    rows = list(measure_million(tmp_path / "run", 300, 40))
    assert len({row.measure for row in rows}) == len(rows) and all(row.value >= 0 for row in rows)
    run = Run(tmp_path / "run")
    part, errors = run.influence, run.misclassified_positions
    assert part.array("truth_members").shape == (16, 40, 64)
    assert len(error_items(run, with_influence=True)) == len(errors) > 0
    for position in errors[:3]:
        ranked = part.ranked(position, "prediction")
        values = part.members("prediction", [part.misclassified.index(position)])[:, 0]
        mean, error = values.mean(0), values.std(0, ddof=1) / 4
        np.testing.assert_allclose(ranked.values, mean[ranked.instances], atol=1e-6)
        np.testing.assert_allclose(ranked.std_errors, error[ranked.instances], atol=1e-6)
        np.testing.assert_allclose(ranked.values[:100], -np.sort(-mean)[:100], atol=1e-6)
        np.testing.assert_allclose(ranked.values[100:], -np.sort(-mean)[-100:], atol=1e-6)


LAYOUTS = [(2**31, "full", 300), (0, "top", 200)]


@pytest.mark.parametrize(("full_bytes", "layout", "known"), LAYOUTS)
def test_a_random_run_opens_explains_its_errors_and_is_written_once(
    full_bytes: int,
    layout: str,
    known: int,
    tmp_path: Path,
    monkeypatch: Patch,
) -> None:
    monkeypatch.setattr(random_run, "FULL_BYTES", full_bytes)
    run = Run(RandomRun(300, 40).write(tmp_path))
    assert find_runs(tmp_path) == [run.folder] and run.influence.manifest["layout"] == layout
    assert len(error_items(run, with_influence=True)) == len(run.misclassified_positions) == 14
    ranked = run.influence.ranked(run.misclassified_positions[3], "prediction")
    assert len(ranked.values) == known and np.isfinite(ranked.std_errors).all()
    assert ranked.values.max() > 0 > ranked.values.min()
    before = (run.folder / "manifest.json").stat().st_mtime_ns
    assert RandomRun(300, 40).write(tmp_path) == run.folder
    assert (run.folder / "manifest.json").stat().st_mtime_ns == before
