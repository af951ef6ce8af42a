"""What the Try page asks about edits: given training items, fitted images, and predictions alone."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import core.pipeline.explain as explain_module
from core import TurnoverError, influence
from core.cli import main
from core.commands.worker import _answer
from core.data.images import png_bytes, png_pixels
from core.estimators.estimator import Estimator
from core.models.ensemble import Ensemble
from core.pipeline.estimate import describe_targets
from core.pipeline.explain import Explainer
from core.pipeline.model import item_features
from core.runs import Run
from core.training import Split


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


# Influence of given training items, for the regions of an error


def plain(explainer: Explainer, content: bytes, label: str, instances: list[int], estimator: Estimator) -> np.ndarray:
    """Influences `(instances,)` on one image alone, by two forward passes per pair: all training items where the estimator looks at them."""
    target = Split(torch.tensor(png_pixels(content)[None, None] / 127.5 - 1, dtype=torch.float32), torch.tensor([explainer.run.classes.index(label)]))
    described = describe_targets(explainer.model, target, item_features(explainer.model, target.inputs))
    ids = np.arange(len(explainer.run.train)) if estimator.directions else np.array(instances)
    members = influence(explainer.model, target.inputs, target.labels, ids, plain=True).values.numpy()
    found = estimator.apply(members, estimator.shape_of(described))[0][0]
    return found[instances] if estimator.directions else found


@pytest.mark.parametrize("shown", ["best", "median", "deep"])
def test_influences_on_edits_are_those_of_the_plain_loop(explainer: Explainer, monkeypatch: pytest.MonkeyPatch, shown: str) -> None:
    """So what an influence falls by without a patch is the plain loop's on the image as it is, less that on the edited one."""
    if shown == "median":
        monkeypatch.setattr(explainer, "estimator", Estimator("median", {}))
    if shown == "deep":
        monkeypatch.setattr(explain_module, "MemberModel", Ensemble)
    assert explainer.estimator.directions or shown == "median"
    label, instances = explainer.run.classes[3], [9, 0, 4]
    edited = png_pixels(image(explainer)).copy()
    edited[2:4, 2:6] = 0
    contents = [image(explainer), png_bytes(edited)]
    values, name = explainer.influence_on(contents, label, instances)
    own = explainer.estimator if shown == "best" else Estimator("median", {})
    expected = np.stack([plain(explainer, content, label, instances, own) for content in contents])
    assert name == own.name and values.shape == (2, 3)
    np.testing.assert_allclose(values[0] - values[1], expected[0] - expected[1], rtol=1e-3, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    asked = {"images": [base64.b64encode(content).decode() for content in contents], "label": label, "instances": instances}
    reply = json.loads(json.dumps(_answer(explainer, asked)))
    assert reply["estimator"] == name and np.allclose(reply["influences"], values, atol=1e-6)


def test_influences_of_nobody_or_on_no_label_are_refused(explainer: Explainer) -> None:
    with pytest.raises(TurnoverError, match="no training item -1"):
        explainer.influence_on([image(explainer)], explainer.run.classes[0], [-1])
    with pytest.raises(TurnoverError, match="unknown label 'x'"):
        explainer.influence_on([image(explainer)], "x", [0])


def test_whatever_a_request_meets_the_next_one_is_answered(explainer: Explainer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A memory that is full, code of the user's own, and requests that are none."""
    good = json.dumps({"images": [base64.b64encode(image(explainer)).decode()]})
    real, errors = Explainer.predict_images, iter((torch.OutOfMemoryError("CUDA out of memory.\nTry less"), MemoryError(), AttributeError("own"), None, None))

    def predict(self: Explainer, images: list[bytes]) -> list[dict[str, float]]:
        if error := next(errors):
            raise error
        return real(self, images)

    monkeypatch.setattr(Explainer, "predict_images", predict)
    monkeypatch.setattr("sys.stdin", iter([good, good, good, '{"images": []}', "no JSON", "[]", good]))
    capsys.readouterr()
    assert main(["worker", "--run", str(explainer.run.folder)]) == 0
    ready, *answers, _ = capsys.readouterr().out.splitlines()
    told = [json.loads(line) for line in answers]
    assert json.loads(ready) == {"ready": True} and len(told) == 7
    assert told[0] == {"error": "this request cannot be answered (OutOfMemoryError: CUDA out of memory. Try less)"}
    assert all("error" in answer for answer in told[:-1]) and "probabilities" in told[-1]
