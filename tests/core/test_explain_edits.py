"""What the Try page asks about edits: given training items, fitted images, and predictions alone."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from core import TurnoverError
from core.commands.worker import _answer
from core.data.images import png_bytes, png_pixels
from core.pipeline.explain import Explainer
from core.runs import Run


@pytest.fixture(scope="module")
def explainer(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Explainer:
    """On a copy, since explaining leaves thumbnails."""
    return Explainer(Run(Path(shutil.copytree(small_run, tmp_path_factory.mktemp("explained") / "copy"))), "cpu")


def image(explainer: Explainer, position: int = 3) -> bytes:
    return bytes(explainer.run.item("validation", position)["image"])


def test_a_fitted_image_gives_what_the_run_stored(explainer: Explainer) -> None:
    """Also one with a bright border, which as a drawing would be inverted."""
    run, position = explainer.run, explainer.run.influence.targets[0]
    label = run.classes[int(run.item("validation", position)["label"])]
    made = explainer.explain_image(image(explainer, position), "x", label, 5, fitted=True)
    stored = run.influence.ranked(position, "truth")
    np.testing.assert_allclose([entry["influence"] for entry in made["proponents"]], stored.values[stored.ends(5)[0]], rtol=1e-2, atol=1e-4)
    bright = png_pixels(image(explainer)).copy()
    bright[[0, -1], :], bright[:, [0, -1]] = 200, 200
    as_it_is, as_a_drawing = (explainer.explain_image(png_bytes(bright), "x", fitted=fitted)["probabilities"] for fitted in (True, False))
    assert as_it_is != as_a_drawing
    assert explainer.predict_images([png_bytes(bright)])[0] == pytest.approx(as_it_is, abs=1e-5)


def test_given_items_are_told_wherever_they_rank(explainer: Explainer) -> None:
    total = len(explainer.run.train)
    whole = explainer.explain_image(image(explainer), "x", None, total, fitted=True)
    by_position = {entry["position"]: entry for entry in whole["proponents"] + whole["opponents"]}
    asked = [total - 1, 0, 5]
    also = explainer.explain_image(image(explainer), "x", None, 1, asked, fitted=True)["also"]
    assert [entry["position"] for entry in also] == asked
    for entry in also:
        assert entry == by_position[entry["position"]]
    assert "also" not in whole
    for wrong in (-1, total):
        with pytest.raises(TurnoverError, match=f"no training item {wrong}; there are {total}"):
            explainer.explain_image(image(explainer), "x", also=[wrong], fitted=True)


def test_an_image_of_another_size_is_not_fitted(explainer: Explainer) -> None:
    with pytest.raises(TurnoverError, match="5 x 4 pixels instead of 8 x 8"):
        explainer.predict_images([png_bytes(np.zeros((4, 5), np.uint8))])


def test_predictions_alone_agree_with_explanations(explainer: Explainer) -> None:
    contents = [image(explainer, position) for position in range(6)]
    for content, chances in zip(contents, explainer.predict_images(contents), strict=True):
        assert chances == pytest.approx(explainer.explain_image(content, "x", fitted=True)["probabilities"], abs=1e-5)
    with pytest.raises(TurnoverError, match="is an image run"):
        explainer.predict_texts(["a text"])


def test_the_worker_answers_all_of_it_in_json(explainer: Explainer) -> None:
    encoded = base64.b64encode(image(explainer)).decode()
    reply = json.loads(json.dumps(_answer(explainer, {"image": encoded, "label": None, "top": 2, "fitted": True, "also": [7]})))
    assert [entry["position"] for entry in reply["also"]] == [7]
    assert base64.b64decode(reply["also"][0]["image"]) == explainer.run.item("train", 7)["image"]
    (alone,) = json.loads(json.dumps(_answer(explainer, {"images": [encoded]})))["probabilities"]
    assert alone == pytest.approx(reply["probabilities"], abs=1e-5)
