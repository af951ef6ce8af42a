"""The benchmark prints what it measured; the figures themselves are nobody's law, but what they say is."""

from __future__ import annotations

import json
import mmap
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch

import core.bench.timing as timing
from core.bench import influence as bench_influence
from core.bench.contests import ENGINE, ENGINE_LOW, PART, PUBLISHED, Contest, Way, example_network, heads
from core.bench.influence import GrowthRow, PathRow, describe_influence, measure
from core.bench.timing import threads as threads_inside
from core.cli import main
from core.influences import influence
from core.runs import Run
from tests.helpers.builders import naive_influence, sequential_net, some_labels

CPU = torch.device("cpu")
IDS = list(range(30))


@pytest.fixture
def small_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products of 64 × 64 in place of 2048 × 2048."""
    monkeypatch.setattr(timing, "_SIZE", 64)


def test_mask_benchmark_measures_both_ways_and_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "masks", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    measures = [row["measure"] for row in result["rows"]]
    assert len(set(measures)) == len(measures) >= 3
    assert all(row["value"] > 0 for row in result["rows"])
    assert main(["bench", "masks"]) == 0
    table = capsys.readouterr().out
    assert all(f"| {measure} |" in table for measure in measures)


def test_sst2_benchmark_asks_for_its_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "sst2"]) == 2
    assert "--path" in capsys.readouterr().err


# Influence: one contest


def product() -> torch.Tensor:
    """One of 8 × 16 by 16 × 4: 1024 operations."""
    return torch.ones(8, 16) @ torch.ones(16, 4)


def a_contest() -> Contest:
    """The naive loop against the engine on a small network, and a way whose operations are known."""
    model, x, labels = sequential_net().float(), torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), some_labels(3, 3)

    def naive() -> torch.Tensor:
        return naive_influence(model, x, labels, IDS[:5])

    def engine() -> torch.Tensor:
        return influence(model, x, labels, IDS).values

    return Contest("a small network", {PUBLISHED: Way(15, naive, naive), ENGINE: Way(90, engine, lambda: engine()[..., :5]), PART: Way(7, product, naive)})


def test_a_contest_has_a_row_a_way(small_peaks: None) -> None:
    rows = list(measure(a_contest(), 1, CPU, 1))
    keys = {"case", "path", "threads", "pairs", "seconds", "pairs_per_second", "max_abs_difference", "peak_memory_mb", "flops_per_second"}
    assert {field.name for field in fields(PathRow)} == keys | {"matmul_peak_flops_per_second", "mask_seconds"}
    assert [(row.case, row.path, row.threads, row.pairs) for row in rows] == [
        ("a small network", way, 1, pairs) for way, pairs in ((PUBLISHED, 15), (ENGINE, 90), (PART, 7))
    ]
    for row in rows:
        assert row.max_abs_difference < 1e-4
        assert row.pairs_per_second == pytest.approx(row.pairs / row.seconds)
        assert row.flops_per_second > 0 and row.matmul_peak_flops_per_second > 0
        assert row.peak_memory_mb >= 0
    assert rows[0].max_abs_difference == 0
    assert [row.mask_seconds for row in rows] == [None] * 3
    assert rows[2].flops_per_second * rows[2].seconds == pytest.approx(1024)


@pytest.mark.parametrize("count", [1, 2])
def test_operations_of_a_known_product_are_counted_on_any_number_of_threads(count: int) -> None:
    with threads_inside(count):
        assert bench_influence._flops(Way(1, product, product)) == 2 * 8 * 16 * 4
        assert torch.get_num_threads() == count


@pytest.mark.parametrize("targets", [1, 3])
def test_the_ways_of_the_heads_agree(targets: int) -> None:
    contest = heads(targets, 32, CPU)
    assert list(contest.ways) == [PUBLISHED, PART, ENGINE, ENGINE_LOW]
    samples = {name: way.sample() for name, way in contest.ways.items()}
    for name, sample in samples.items():
        assert sample.shape == (1 if name == PUBLISHED else 16, min(targets, 2), 50)
        torch.testing.assert_close(sample[0], samples[PUBLISHED][0], rtol=0, atol=0.2 if name == ENGINE_LOW else 1e-4)
    torch.testing.assert_close(samples[ENGINE], samples[PART], rtol=0, atol=1e-4)
    assert samples[PUBLISHED].abs().max() > 1e-2
    assert [way.masks is not None for way in contest.ways.values()] == [False, False, True, True]
    assert [way.pairs for way in contest.ways.values()] == [100, 16 * targets * 500, 16 * targets * 5000, 16 * targets * 5000]


@pytest.mark.parametrize("groups", [32, None])
def test_the_ways_of_the_authors_example_agree(groups: int | None) -> None:
    contest = example_network(groups, CPU)
    samples = {name: way.sample() for name, way in contest.ways.items()}
    assert list(samples) == [PUBLISHED, PART, ENGINE]
    for sample in samples.values():
        torch.testing.assert_close(sample, samples[PUBLISHED], rtol=0, atol=1e-4)
    assert samples[PUBLISHED].abs().max() > 1e-2


# Growth and tables


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_an_exact_power_is_found(power: float) -> None:
    sizes = (10, 20, 40, 100)
    assert bench_influence._slope(sizes, tuple(3e-4 * size**power for size in sizes)) == pytest.approx(power, abs=1e-9)


def test_growth_runs_every_size() -> None:
    seen: list[int] = []
    row = bench_influence._growth("things", (1, 2, 4), seen.append, CPU)
    assert set(seen) == {1, 2, 4}
    assert (row.growing, row.sizes, len(row.seconds), len(row.peak_memory_mb)) == ("things", (1, 2, 4), 3, 3)
    assert all(value > 0 for value in row.seconds)


def test_medians_leave_the_first_round_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100, 0, 1, 0, 2, 0, 9])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.interleaved_medians({"one": lambda: None}, 3, CPU) == {"one": 2}


def test_peak_memory_sees_what_is_held_and_let_go() -> None:
    with timing.peak_memory(CPU) as peak, mmap.mmap(-1, 40 * 2**20) as held:  # not from the heap, which may have as much to spare
        for _ in range(40):
            held.write(bytes([1]) * 2**20)
        time.sleep(0.1)  # memory is looked at every few milliseconds
    assert 30 < peak[0] < 400


def test_a_result_becomes_two_tables() -> None:
    slow = PathRow("a case", PUBLISHED, 1, 100, 0.1, 1000.0, 0.0, 12.0, 5e9, 1e10, None)
    fast = PathRow("a case", ENGINE, 1, 10_000, 0.1, 250_000.0, 2e-6, 34.0, 9e9, 1e10, 0.02)
    growth = GrowthRow("things", (10, 2000), (0.1, 0.25), (1.0, 2.0), 1.5)
    result = {"rows": [asdict(slow), asdict(fast)], "growth": [asdict(growth)], "copy_bytes_per_second": 1.25e10}
    lines = describe_influence(json.loads(json.dumps(result))).split("\n")
    assert "| a case | 1 | (a) published | 1,000 | 1.0 | 0 | 12 | 50% |  |" in lines
    assert "| a case | 1 | (c) engine | 250,000 | 250.0 | 2e-06 | 34 | 90% | 20% |" in lines
    assert "| things | 10, 2,000 | 0.1, 0.25 | 1, 2 | 1.50 |" in lines
    assert lines[-1] == "A large copy moves 12.5 GB/s."


def test_the_whole_benchmark_through_the_command(small_peaks: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    makers: list[Callable[[], Contest]] = [a_contest]
    monkeypatch.setattr(bench_influence, "contests", lambda device: iter(makers))
    monkeypatch.setattr(bench_influence, "_GROWTH", (20, 40))
    monkeypatch.setattr(bench_influence, "_TARGET_GROWTH", (1, 2))
    monkeypatch.setattr(bench_influence, "choose_device", lambda: CPU)
    monkeypatch.setattr(timing, "_COPIED", 2**12)
    assert main(["bench", "influence", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["rows"]) == 3
    assert [row["sizes"] for row in result["growth"]] == [[20, 40], [1, 2]]
    assert result["copy_bytes_per_second"] > 0
    assert main(["bench", "influence"]) == 0
    assert "| a small network | 1 | (c) engine |" in capsys.readouterr().out


# Memory and precision of the command that the benchmark is about


def test_influences_in_little_memory_and_low_precision_say_how_far_they_are_off(run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: Run(run_copy).influence.array(name).copy() for name in ("truth_members", "self")}
    assert main(["influence", "--run", str(run_copy), "--memory", "64M", "--precision", "bfloat16", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["precision"] == "bfloat16"
    assert 0 < result["precision_error"] < 0.5
    part = Run(run_copy).influence
    difference = abs(part.array("truth_members") - before["truth_members"])
    assert 0 < difference.max() < 1
    assert main(["influence", "--run", str(run_copy), "--memory", "64M", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["precision"], again["precision_error"]) == ("float32", None)
    for name, values in before.items():
        torch.testing.assert_close(torch.tensor(Run(run_copy).influence.array(name)), torch.tensor(values), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", ["", "0", "-1", "64", "1K", "lots", "1.5.2G", "nan", "inf", "64 MM", "1e9"])
def test_a_size_that_is_none_is_one_line_and_code_2(size: str, small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["influence", "--run", str(small_run), f"--memory={size}"])
    except SystemExit as end:
        code = int(str(end.code))
    printed = capsys.readouterr()
    assert (code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert "--memory" in printed.err
