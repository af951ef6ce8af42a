"""The device that is named, or the best there is."""

from __future__ import annotations

import pytest
import torch

from core import TurnoverError
from core.device import choose_device, device_name


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device_is_chosen_by_itself(cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device().type == expected
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(TurnoverError, match=f"--device {name}: there is no such device here; available: cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "tpu"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(TurnoverError, match=f"--device {name}: unknown; choose cuda, mps or cpu"):
        choose_device(name)


def test_the_cpu_is_called_so() -> None:
    assert device_name(torch.device("cpu")) == "cpu"
