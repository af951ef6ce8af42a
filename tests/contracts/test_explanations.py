"""What is said of a text or an image of one's own, by the command, the worker and in pages."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import turnover.workflows.explain as explain_module
from tests.helpers.calling import answer
from tests.helpers.fake_runs import FakeRun
from turnover import TurnoverError, influence
from turnover.attribution.ensemble import Ensemble
from turnover.attribution.estimators.estimator import Estimator
from turnover.attribution.estimators.significance import NOISE, STRONG, WEAK
from turnover.cli import main, serve
from turnover.cli.explain import entry_lines
from turnover.cli.serve import _answer
from turnover.data.images import png_bytes, png_pixels
from turnover.runs.model import describe_targets, item_features
from turnover.runs.ranking import foreseen
from turnover.runs.run import Run
from turnover.training.fit import Split
from turnover.workflows.explain import Explainer

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def explainer(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Explainer:
    """Of images, on a copy, since explaining leaves thumbnails."""
    copy = shutil.copytree(small_run, tmp_path_factory.mktemp("explained") / "copy")
    return Explainer(Run(Path(copy)), "cpu")


@pytest.fixture(scope="module")
def of_texts(reviews_run: Path) -> Explainer:
    return Explainer(Run(reviews_run), "cpu")


def image(explainer: Explainer, position: int = 3) -> bytes:
    return bytes(explainer.run.item("validation", position)["image"])


# The command


def test_explaining_a_validation_text_gives_the_stored_influences(
    capsys: Capture, reviews_run: Path
) -> None:
    run = Run(reviews_run)
    position = run.misclassified_positions[0]
    item = run.item("validation", position)
    result = answer(capsys, "explain", "--run", reviews_run, "--text", item["text"], "--top", 4)
    assert result["predicted"] == run.classes[item["predicted"]]
    assert sum(result["probabilities"].values()) == pytest.approx(1)
    stored = run.influence.ranked(position, "prediction")
    places = stored.ends(4)[0]
    shown = result["proponents"]
    assert [entry["position"] for entry in shown] == list(places)
    for name, values in (("influence", stored.values), ("std_error", stored.std_errors)):
        assert [entry[name] for entry in shown] == pytest.approx(list(values[places]), abs=1e-4)
    common = foreseen(run, position, "prediction")
    mates = pytest.approx(list(run.influence.mates[places]))
    assert common is not None and [entry["mates"] for entry in shown] == mates
    assert [entry["common"] for entry in shown] == pytest.approx(list(common[places]), abs=1e-4)
    assert all(entry["trust"] in (STRONG, WEAK, NOISE) for entry in shown)
    assert set(result["trust"]) == {STRONG, WEAK}


def test_a_label_turns_the_question_round(of_texts: Explainer) -> None:
    predicted = of_texts.explain_text("a warm and funny film")["predicted"]
    other = next(name for name in of_texts.run.classes if name != predicted)
    result = of_texts.explain_text("a warm and funny film", other)
    told = (result["meaning"], result["label"], result["predicted"])
    assert told == ("label", other, predicted)


def test_each_line_of_an_explanation_says_how_much_it_counts_and_what_is_uncertain() -> None:
    known = {"id": "t1", "label": "positive", "influence": 0.5, "text": "fine"}
    known |= {"std_error": 0.1, "trust": STRONG, "strength": 5.21}
    unsure = known | {"trust": NOISE, "doubt": {"label": "negative", "probability": 0.9}}
    unknown = known | {"influence": -0.5, "std_error": None, "trust": None, "strength": None}
    lines = entry_lines({"proponents": [known, unsure], "opponents": [unknown]}, "positive")
    assert lines[1] == "  5 × a usual “positive” item  t1 [positive]  fine"
    assert lines[2].startswith("  5 × a usual “positive” item, uncertain  t1 [positive] label? neg")
    assert lines[4] == "  -0.5000 nats  t1 [positive]  fine"


def test_an_image_is_explained_with_thumbnails(
    capsys: Capture, explainer: Explainer, tmp_path: Path
) -> None:
    """A drawing, dark on white and of any size."""
    strokes = np.full((80, 80), 255, np.uint8)
    strokes[10:18, 15:65] = strokes[10:70, 45:55] = 0
    Image.fromarray(strokes).save(tmp_path / "seven.png")
    folder = explainer.run.folder
    result = answer(capsys, "explain", "--run", folder, "--image", tmp_path / "seven.png")
    assert result["proponents"]
    for entry in result["proponents"]:
        assert Image.open(entry["thumbnail"]).size == (8, 8)


# Images as they are, and given items


def test_a_fitted_image_gives_what_the_run_stored(explainer: Explainer) -> None:
    """Also one with a bright border, which as a drawing would be inverted."""
    run, position = explainer.run, explainer.run.influence.targets[0]
    label = run.classes[int(run.item("validation", position)["label"])]
    made = explainer.explain_image(image(explainer, position), "x", label, 5, fitted=True)
    stored = run.influence.ranked(position, "truth")
    shown = [entry["influence"] for entry in made["proponents"]]
    np.testing.assert_allclose(shown, stored.values[stored.ends(5)[0]], rtol=1e-2, atol=1e-4)
    bright = png_pixels(image(explainer)).copy()
    bright[[0, -1], :], bright[:, [0, -1]] = 200, 200
    as_it_is, as_a_drawing = (
        explainer.explain_image(png_bytes(bright), "x", fitted=fitted)["probabilities"]
        for fitted in (True, False)
    )
    assert as_it_is != as_a_drawing
    alone = explainer.predict_images([png_bytes(bright)])[0]
    assert alone == pytest.approx(as_it_is, abs=1e-5)


def test_given_items_are_told_wherever_they_rank(explainer: Explainer) -> None:
    total = len(explainer.run.train)
    whole = explainer.explain_image(image(explainer), "x", None, total, fitted=True)
    by_position = {entry["position"]: entry for entry in whole["proponents"] + whole["opponents"]}
    asked = [total - 1, 0, 5]
    also = explainer.explain_image(image(explainer), "x", None, 1, asked, fitted=True)["also"]
    assert also == [by_position[position] for position in asked]
    assert "also" not in whole


def test_ranks_and_shares_are_those_of_the_whole_side(explainer: Explainer) -> None:
    whole = explainer.explain_image(image(explainer), "x", None, 60, fitted=True)
    for side in ("proponents", "opponents"):
        total = sum(entry["influence"] for entry in whole[side])
        shares = [entry["influence"] / total for entry in whole[side]]
        assert [entry["rank"] for entry in whole[side]] == [*range(1, len(whole[side]) + 1)]
        assert [entry["share"] for entry in whole[side]] == pytest.approx(shares, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("🎬🎬🎬", "100%"),
        ("映画は面白い", ""),
        ("🎬 😀 fun", "67%"),
        ("a warm 😀 film", ""),
        ("…", ""),
    ],
)
def test_a_text_that_the_encoder_does_not_know_is_answered_with_a_warning(
    of_texts: Explainer, text: str, share: str
) -> None:
    warning = of_texts.explain_text(text, top=1)["warning"]
    assert warning == (
        share and f"The encoder does not know {share} of this text: the answer says little of it."
    )


def test_an_image_without_a_stroke_is_answered_with_a_warning(explainer: Explainer) -> None:
    for level in (0, 3, 255):
        blank = png_bytes(np.full((30, 40), level, np.uint8))
        assert "is blank" in explainer.explain_image(blank, "x", top=1)["warning"]
    strokes = np.zeros((9, 9, 4), np.uint8)
    strokes[2:7, 4] = 255  # white on transparent, which is white on white
    assert "is blank" in explainer.explain_image(png_bytes(strokes), "x", top=1)["warning"]
    strokes[..., 3] = 255
    assert not explainer.explain_image(png_bytes(strokes), "x", top=1)["warning"]


def test_predictions_alone_agree_with_explanations(explainer: Explainer) -> None:
    contents = [image(explainer, position) for position in range(6)]
    for content, chances in zip(contents, explainer.predict_images(contents), strict=True):
        whole = explainer.explain_image(content, "x", fitted=True)
        assert chances == pytest.approx(whole["probabilities"], abs=1e-5)


Refused = Callable[[Explainer, Explainer], Any]
REFUSED: dict[str, Refused] = {
    "no training item -1; there are 60": lambda own, _: own.explain_image(
        image(own), "x", also=[-1], fitted=True
    ),
    "no training item 60; there are 60": lambda own, _: own.explain_image(
        image(own), "x", also=[60], fitted=True
    ),
    "no training item -2": lambda own, _: own.influence_on([image(own)], own.run.classes[0], [-2]),
    "unknown label 'x'": lambda own, _: own.influence_on([image(own)], "x", [0]),
    "5 x 4 pixels instead of 8 x 8": lambda own, _: own.predict_images(
        [png_bytes(np.zeros((4, 5), np.uint8))]
    ),
    "is an image run": lambda own, _: own.predict_texts(["a text"]),
    "is a text run": lambda own, texts: texts.explain_image(image(own), "x"),
    "unknown label 'mild'": lambda _, texts: texts.explain_text("fine", "mild"),
    "the text is empty": lambda _, texts: texts.explain_text("  "),
    "100,000": lambda _, texts: texts.explain_text("x" * 100_000),
    "not an image that can be read": lambda own, _: own.explain_image(b"{}", "x"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_explained_is_said_in_one_line(
    explainer: Explainer, of_texts: Explainer, message: str
) -> None:
    with pytest.raises(TurnoverError, match=r"^[^\n]*$") as refusal:
        REFUSED[message](explainer, of_texts)
    assert message in str(refusal.value)


# Influence of given training items, for the regions of an error


def plain(
    explainer: Explainer, content: bytes, label: str, instances: list[int], estimator: Estimator
) -> np.ndarray:
    """Influences `(instances,)` on one image alone, by two forward passes per pair.

    Those of all training items where the estimator looks at them.
    """
    pixels = torch.tensor(png_pixels(content)[None, None] / 127.5 - 1, dtype=torch.float32)
    target = Split(pixels, torch.tensor([explainer.run.classes.index(label)]))
    described = describe_targets(
        explainer.model, target, item_features(explainer.model, target.inputs)
    )
    directions = estimator.directions
    ids = np.arange(len(explainer.run.train)) if directions else np.array(instances)
    members = influence(explainer.model, target.inputs, target.labels, ids, plain=True)
    found = estimator.apply(members.values.numpy(), estimator.coefficients_of(described))[0][0]
    return found[instances] if directions else found


@pytest.mark.parametrize("shown", ["best", "median", "deep"])
def test_influences_on_edits_are_those_of_the_plain_loop(
    explainer: Explainer, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    """What an influence falls by without a patch: the plain loop's fall between the images."""
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
    expected = np.stack([plain(explainer, one, label, instances, own) for one in contents])
    assert name == own.name and values.shape == (2, 3)
    fall = expected[0] - expected[1]
    np.testing.assert_allclose(values[0] - values[1], fall, rtol=1e-3, atol=1e-5)
    assert np.abs(fall).max() > 1e-3
    images = [base64.b64encode(content).decode() for content in contents]
    asked = {"images": images, "label": label, "instances": instances}
    reply = json.loads(json.dumps(_answer(explainer, asked)))
    assert reply["estimator"] == name and np.allclose(reply["influences"], values, atol=1e-6)


# The worker


def served(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, run: Run, requests: list[str]
) -> list[dict[str, Any]]:
    """A worker's answers; it ends with its standard input."""
    monkeypatch.setattr("sys.stdin", iter(requests))
    capsys.readouterr()
    assert main(["worker", "--run", str(run.folder)]) == 0
    ready, *answers, _ = capsys.readouterr().out.splitlines()
    assert json.loads(ready) == {"ready": True} and len(answers) == len(requests)
    return [json.loads(line) for line in answers]


def test_the_worker_answers_all_of_it_in_json(explainer: Explainer) -> None:
    encoded = base64.b64encode(image(explainer)).decode()
    asked = {"image": encoded, "label": None, "top": 2, "fitted": True, "also": [7]}
    reply = json.loads(json.dumps(_answer(explainer, asked)))
    assert [entry["position"] for entry in reply["also"]] == [7]
    content = base64.b64decode(reply["also"][0]["image"])
    assert content == explainer.run.item("train", 7)["image"]
    alone = json.loads(json.dumps(_answer(explainer, {"images": [encoded]})))["probabilities"]
    assert alone == [pytest.approx(reply["probabilities"], abs=1e-5)]


def test_the_worker_answers_line_by_line_and_survives_nonsense(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, of_texts: Explainer
) -> None:
    requests = ['{"text": "a fine film", "top": 2}', "nonsense", '{"text": ""}', '{"image": "!!"}']
    requests += ["[]", '{"texts": ["dull"]}', '{"text": "dull", "label": "positive"}']
    first, *refused, texts, last = served(capsys, monkeypatch, of_texts.run, requests)
    assert len(first["proponents"]) == 2
    assert all(set(reply) == {"error"} for reply in refused)
    assert texts["probabilities"] == [pytest.approx(last["probabilities"], abs=1e-5)]
    assert last["label"] == "positive"


def test_whatever_a_request_meets_the_next_one_is_answered(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, explainer: Explainer
) -> None:
    """A memory that is full, code of the user's own, and requests that are none."""
    good = json.dumps({"images": [base64.b64encode(image(explainer)).decode()]})
    full = torch.OutOfMemoryError("CUDA out of memory.\nTry less")
    real, errors = Explainer.predict_images, iter((full, MemoryError(), AttributeError("own")))

    def predict(self: Explainer, images: list[bytes]) -> list[dict[str, float]]:
        if error := next(errors, None):
            raise error
        return real(self, images)

    monkeypatch.setattr(Explainer, "predict_images", predict)
    requests = [good, good, good, '{"images": []}', good]
    told = served(capsys, monkeypatch, explainer.run, requests)
    said = "this request cannot be answered (OutOfMemoryError: CUDA out of memory. Try less)"
    assert told[0] == {"error": said}
    assert all(set(reply) == {"error"} for reply in told[:-1]) and "probabilities" in told[-1]


def test_the_worker_holds_two_runs_loads_changed_ones_again_and_lets_go_of_idle_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    class Loaded:
        def __init__(self, run: Run, device: str | None) -> None:
            loaded.append(run.name)

        def warm_up(self) -> None:
            pass

    monkeypatch.setattr("turnover.workflows.explain.Explainer", Loaded)
    a, b, c = (str(FakeRun(name).write(tmp_path)) for name in "abc")
    held = serve._Held(None)
    for folder in (a, a, b, a, c):
        held.explainer(folder)
    assert loaded == ["a", "b", "c"] and [*held.runs] == [a, c]
    os.utime(Path(a, "influence", "manifest.json"), ns=(1, 1))
    held.explainer(a)
    assert loaded == ["a", "b", "c", "a"] and [*held.runs] == [c, a]
    held.let_go()
    assert len(held.runs) == 2
    monkeypatch.setattr(serve, "_IDLE_SECONDS", 0)
    held.let_go()
    assert not held.runs


def test_a_worker_that_nobody_asks_ends(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    monkeypatch.setattr(serve, "_IDLE_SECONDS", 0.04)
    with os.fdopen(read) as silent:
        monkeypatch.setattr("sys.stdin", silent)
        assert main(["worker"]) == 0
        os.close(write)
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == {"ready": True}
