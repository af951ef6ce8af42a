"""A run of colour images, from parquet files to the dashboard: nothing makes them grey."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from turnover.cli import main
from turnover.dashboard.errors.answer_view import Question, build_answer
from turnover.dashboard.errors.own_view import image_as_seen
from turnover.data.images import png_bytes, png_pixels
from turnover.models.inputs import pixels
from turnover.runs.model import input_shape, split_inputs
from turnover.runs.ranking import content_of
from turnover.runs.run import Run

NAMES = ("red", "blue", *(f"other {number}" for number in range(8)))


def photos(count: int, seed: int) -> np.ndarray:
    """Noise in two colours of the same grey, red (even) and blue (odd): only colour tells them."""
    images = np.random.default_rng(seed).integers(0, 60, (count, 32, 32, 3), np.uint8)
    images[::2, :, :, 0] += 78
    images[1::2, :, :, 2] += 195
    return images


def write(path: Path, images: np.ndarray) -> None:
    numbers = list(range(len(images)))
    made = {"index": numbers, "label": [row % 2 for row in numbers]}
    pq.write_table(pa.table({**made, "image": [png_bytes(pixels) for pixels in images]}), path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of fifty training and ten validation images, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("colours")
    write(folder / "train.parquet", photos(60, 1))
    write(folder / "test.parquet", photos(12, 2))
    lines = ["label,name", *(f"{number},{name}" for number, name in enumerate(NAMES))]
    (folder / "classes.csv").write_text("\n".join(lines))
    options = ["--members", "2", "--limit", "50", "--validation-limit", "10", "--epochs", "4"]
    options += ["--label-noise", "0.1", "--device", "cpu", "--run", str(folder / "run")]
    assert main(["train", "--data", "cifar10", "--path", str(folder), *options]) == 0
    assert main(["influence", "--run", str(folder / "run")]) == 0
    return Run(folder / "run")


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A user's file: a large blue photograph, wider than high, with a bright plain border."""
    pixels = np.full((300, 500, 3), 255, np.uint8)
    pixels[20:-20, 20:-20] = (30, 30, 230)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_the_run_holds_the_images_in_colour(run: Run) -> None:
    made, planted = photos(60, 1), run.train["planted"] != ""
    assert (run.kind, run.classes) == ("image", list(NAMES))
    assert (len(run.train), len(run.validation), input_shape(run)) == (50, 10, (3, 32, 32))
    for _, item in run.train.iterrows():
        row = int(str(item["id"]).removeprefix("train-"))
        assert np.array_equal(png_pixels(item["image"]), made[row])
        assert item["true_label"] == row % 2
    assert planted.sum() == (run.train["label"] != run.train["true_label"]).sum() == 5


def test_model_inputs_are_its_channels_between_minus_one_and_one(run: Run) -> None:
    images = np.array([[[[0, 51, 255], [255, 204, 0]]]], np.uint8)
    expected = torch.tensor([[[[-1.0, 1.0]], [[-0.6, 0.6]], [[1.0, -1.0]]]])
    torch.testing.assert_close(torch.from_numpy(pixels(images)), expected)
    inputs = split_inputs(run, "validation", [3, 0], torch.device("cpu"))
    assert inputs.shape == (2, 3, 32, 32) and inputs.is_contiguous()
    stored = png_pixels(run.item("validation", 3)["image"])
    np.testing.assert_allclose(inputs[0], stored.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)


def test_colour_alone_tells_the_classes(run: Run) -> None:
    assert run.manifest["results"]["validation_accuracy"] == 1
    shown = [Image.fromarray(png_pixels(content)) for content in run.validation["image"]]
    assert np.ptp([np.asarray(image.convert("L")).mean() for image in shown]) < 5


def test_thumbnails_are_in_colour(run: Run) -> None:
    shown = png_pixels(Path(content_of(run, 2)["thumbnail"]).read_bytes())
    assert np.array_equal(shown, png_pixels(run.item("train", 2)["image"]))
    assert shown.shape == (32, 32, 3)


def check_answer(reply: dict[str, Any]) -> None:
    assert (reply["predicted"], {*reply["probabilities"]}) == ("blue", {*NAMES})
    assert [entry["label"] for entry in reply["proponents"]] == ["blue"] * 3


def test_explain_sees_an_image_file_in_colour(
    run: Run, photo: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.jpg").write_bytes(photo)
    asked = ["--image", str(tmp_path / "mine.jpg"), "--top", "3", "--json"]
    assert main(["explain", "--run", str(run.folder), *asked]) == 0
    reply = json.loads(capsys.readouterr().out)
    check_answer(reply)
    thumbnail = Path(reply["proponents"][0]["thumbnail"]).read_bytes()
    assert png_pixels(thumbnail).shape == (32, 32, 3)


def test_the_dashboard_s_worker_sees_it_in_colour(
    run: Run, photo: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    question = Question(image=image_as_seen(run, photo, "mine.jpg"), top=3)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(question.request) + "\n"))
    assert main(["worker", "--run", str(run.folder)]) == 0
    ready, line, *_ = capsys.readouterr().out.splitlines()
    reply = json.loads(line)
    assert json.loads(ready) == {"ready": True}
    check_answer(reply)
    image = build_answer(run, reply).explanation.proponents[0].image
    assert png_pixels(image).shape == (32, 32, 3)
    assert image == base64.b64decode(reply["proponents"][0]["image"])


def test_an_item_of_ones_own_is_shown_as_the_model_sees_it(run: Run, photo: bytes) -> None:
    seen = png_pixels(image_as_seen(run, photo, "mine.jpg"))
    assert seen.shape == (32, 32, 3) and (seen[0, :] > 200).any()
    assert np.abs(seen[16, 16].astype(int) - (30, 30, 230)).max() < 8
