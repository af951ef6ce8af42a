"""The benchmark prints what it measured; the figures themselves are nobody's law."""

import json

import pytest

from core.cli import main


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
