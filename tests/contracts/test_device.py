"""The device that is named, or the best there is; and the laws on each that is here."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from tests.helpers.builders import (
    KINDS,
    LAW_4,
    ODD_IDS,
    SMALL_RUN,
    a_case,
    checksums,
    naive_influence,
    randn,
    reference_mask,
    some_labels,
)
from tests.laws.conftest import many_targets_take_sub_networks
from turnover import TurnoverError, influence
from turnover.attribution.device import choose_device, device_name, exact_products
from turnover.attribution.masks import instance_masks
from turnover.models.registry import TrainSettings
from turnover.models.vgg19 import vgg19
from turnover.runs.run import Run
from turnover.workflows.explain import Explainer
from turnover.workflows.influence import compute_influence
from turnover.workflows.train import train_run

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
__all__ = ["many_targets_take_sub_networks"]  # a fixture, for the laws below
on_each_device = pytest.mark.parametrize("device", DEVICES)
KINDS_OF_PRODUCTS = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)

# Names


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_is_chosen_by_itself(
    cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device().type == expected
    assert choose_device("cpu").type == "cpu"
    assert device_name(torch.device("cpu")) == "cpu"


ABSENT = dict.fromkeys(("cuda", "cuda:0", "mps"), "there is no such device here; available: cpu")
UNKNOWN = dict.fromkeys(("gpu", "", "cuda:x", "tpu"), "unknown; choose cuda, mps or cpu")


def test_a_device_that_is_not_there_or_unknown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name, said in (ABSENT | UNKNOWN).items():
        with pytest.raises(TurnoverError, match=f"--device {name}: {said}"):
            choose_device(name)


# The laws on each


@on_each_device
@pytest.mark.parametrize("units", [2, 7, 64])
def test_law_1_a_mask_has_the_same_bits(device: str, units: int) -> None:
    made = instance_masks(torch.tensor(ODD_IDS, device=device), units, units // 2, seed=3, layer=2)
    on = {"on": units // 2, "seed": 3, "layer": 2}
    expected = [reference_mask(instance, units, **on) for instance in ODD_IDS]
    assert made.device.type == device
    assert made.cpu().tolist() == expected


@on_each_device
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_law_4_fast_and_plain_paths_equal_the_naive_loop_on_the_cpu(
    kind: str, dtype: torch.dtype, device: str
) -> None:
    model, x, labels, path = a_case(kind)
    model, x = model.to(dtype), x.to(dtype)
    expected = naive_influence(model, x, labels, ODD_IDS)
    there = [part.to(device) for part in (x, labels)]
    for plain in (False, True):
        made = influence(model.to(device), *there, ODD_IDS, plain=plain)
        assert plain or made.backend.startswith(path), made.backend
        torch.testing.assert_close(made.values, expected, rtol=0, atol=LAW_4[dtype])


@on_each_device
def test_law_4_for_vgg19_in_float32(device: str) -> None:
    """Convolutions too keep all bits of float32, whatever the device does by default."""
    model = vgg19(10, groups=None, seed=1).eval()
    images, labels = randn(2, 3, 32, 32).float(), some_labels(2, 10)
    expected = naive_influence(model, images, labels, [0, 5])
    made = influence(model.to(device), images.to(device), labels.to(device), [0, 5])
    assert made.backend.startswith("shared prefix"), made.backend
    torch.testing.assert_close(made.values, expected, rtol=0, atol=LAW_4[torch.float32])


@on_each_device
def test_a_run_is_trained_explained_and_the_same_each_time(device: str, tmp_path: Path) -> None:
    runs, settings = (
        [tmp_path / name for name in ("one", "two")],
        {**SMALL_RUN, "limit": 200, "epochs": 10},
    )
    for folder in runs:
        results = train_run(TrainSettings.of(**settings, validation_limit=50), folder, device)
        assert results["validation_accuracy"] > 0.3
        compute_influence(Run(folder), device_choice=device)
    for part in ("", "influence"):
        assert checksums(runs[0] / part) == checksums(runs[1] / part)
    run = Run(runs[0])
    picture = run.item("validation", 0)["image"]
    answer = Explainer(run, device).explain_image(picture, "image", None, 3)
    assert answer["proponents"][0]["influence"] > 0


# Exact products


def test_exact_products_last_until_the_last_thread_leaves_and_are_then_as_before() -> None:
    before = [kind.fp32_precision for kind in KINDS_OF_PRODUCTS]
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with exact_products():
            inside.set()
            leave.wait(10)

    with exact_products():
        thread = threading.Thread(target=stay)
        thread.start()
        assert inside.wait(10)
    assert [kind.fp32_precision for kind in KINDS_OF_PRODUCTS] == ["ieee"] * 2
    leave.set()
    thread.join()
    assert [kind.fp32_precision for kind in KINDS_OF_PRODUCTS] == before


def test_exact_products_matter_to_an_influence_only_while_it_is_computed() -> None:
    seen = []
    model, x, labels, _ = a_case("plain")
    conv = torch.backends.cudnn.conv
    model.register_forward_hook(lambda *_: seen.append(conv.fp32_precision))
    before = conv.fp32_precision
    influence(model, x, labels, [1, 2], plain=True)
    assert set(seen) == {"ieee"}
    assert conv.fp32_precision == before
    model(randn(1, 6))
    assert seen[-1] == before
