"""Why an error happened: the parts of an item, what teachers share, doubts of labels, and the one
cause that is named.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import hypergeom

import turnover.explain.causes as causes_module
import turnover.workflows.effects as effects_module
from tests.helpers.calling import answer, call, lines_said
from tests.helpers.fake_runs import FakeRun, keep_ends, keep_targets, truncate
from tests.helpers.page_reader import page_of
from tests.helpers.storage_testing import READ_ONLY, failing_writes
from turnover import Run, TurnoverError
from turnover.attribution.estimators.significance import NOISE
from turnover.data.images import png_bytes, png_pixels
from turnover.explain.causes import OTHERS, causes, compute_causes, kept_causes
from turnover.explain.cues import MATTERS, Sharing, predicted_item, tail
from turnover.explain.doubt import NEIGHBOURS, SURE, Unseen, in_doubt, suspected
from turnover.explain.effects import Effect, Effects, keep_effects, kept_effects
from turnover.explain.explanation import error_items, explain_error, strength_words
from turnover.explain.parts import (
    GRID,
    blank_of,
    joined_words,
    patches,
    without_patches,
    without_words,
)
from turnover.explain.reasons import CLASS, CUE, LABEL, NAMES, NONE, TEACHERS
from turnover.explain.words import WORD, key_of
from turnover.runs.model import load_model, run_settings
from turnover.runs.ranking import strengths
from turnover.runs.run import PREDICTION, Ranked
from turnover.storage.artifacts import MANIFEST, write_manifest
from turnover.workflows.explain import Explainer

# Parts

TEXTS = st.lists(st.sampled_from(["Slow", "boat", "boat’s", "  ", "—", "A", "é", "\n"])).map(
    " ".join
)


@given(TEXTS.map(" ".join), st.sets(st.sampled_from(["slow", "boat", "boat's", "a", "é"])))
def test_a_word_is_left_out_wherever_it_stands_and_nothing_else(text: str, words: set[str]) -> None:
    rest = without_words(text, words)
    expected = [word for word in WORD.findall(text) if key_of(word) not in words]
    assert WORD.findall(rest) == expected and rest.strip()
    assert without_words(rest, words) == rest


@given(
    st.dictionaries(st.sampled_from("abcdefg"), st.sets(st.integers(0, 9), min_size=1), min_size=1)
)
def test_words_are_put_together_where_most_texts_with_one_have_both(
    documents: dict[str, set[int]],
) -> None:
    sorted_ones = {word: np.array(sorted(having)) for word, having in documents.items()}
    groups = joined_words([*documents], sorted_ones)
    assert sorted(word for words, _ in groups for word in words) == sorted(documents)
    for (first, *others), having in groups:
        assert set(having) == documents[first].union(*(documents[word] for word in others))
        for other in others:
            both = len(documents[first] & documents[other])
            assert min(len(documents[first]), len(documents[other])) >= 2
            assert both > len(documents[first] | documents[other]) / 2


@given(arrays(np.uint8, st.sampled_from([(8, 8), (5, 9), (9, 6, 3), (32, 32, 3)])))
def test_patches_cover_an_image_and_each_is_blanked_alone(pixels: np.ndarray) -> None:
    covered = np.zeros(pixels.shape[:2], int)
    for place, without in zip(patches(pixels), without_patches(pixels), strict=True):
        covered[place] += 1
        left = np.ones(pixels.shape[:2], bool)
        left[place] = False
        assert (without[left] == pixels[left]).all() and (without[place] == blank_of(pixels)).all()
    assert (covered == 1).all() and len(patches(pixels)) == GRID * GRID


# What teachers share


@given(st.integers(1, 20_000), st.data())
def test_the_chance_of_so_many_is_the_hypergeometric_one(items: int, data: st.DataObject) -> None:
    marked, drawn = (data.draw(st.integers(0, items)) for _ in range(2))
    found = data.draw(st.integers(0, min(marked, drawn)))
    expected = hypergeom.sf(found - 1, items, marked, drawn)
    assert tail(found, items, marked, drawn) == pytest.approx(expected, rel=1e-6, abs=1e-9)


WORDS = ("plot", "actor", "music", "slow", "warm", "silly", "story", "scene")
ERROR = 21
"""The error that is looked at, of class 1, taken for 0 at 87.5 %; every third item is an error."""


@dataclass(frozen=True)
class Made:
    """A run of 100 texts, of classes 0 and 1 in turn. 20 of the 50 texts of class 0 are the
    teachers of `ERROR`.

    Attributes:
        cue: which of the texts of class 0 have the error's cue, by number; 0 to 19 are teachers.
        without: the probability of the prediction without each word that was left out.
        like: the class whose texts the error is like.
        doubted: how many of the strongest teachers all models call class 1, and are like it.
        others: influence of the texts of class 0 that are no teachers.
        errors: the errors that are made so.
    """

    cue: Sequence[int] = range(20)
    without: Mapping[str, float] | None = field(default_factory=lambda: {"submarine": 0.2})
    like: int = 1
    doubted: int = 0
    others: float = 0.01
    errors: Sequence[int] = (ERROR,)

    def write(self, folder: Path) -> Run:
        path = FakeRun(train=100, validation=24).write(folder)
        rng, labels = np.random.default_rng(1), np.arange(100) % 2
        items = pd.read_parquet(path / "items.parquet")
        texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(124)]
        for number in self.cue:
            texts[2 * number] += " Submarine"
        for error in self.errors:
            texts[100 + error] = "A submarine: slow, warm"
        items["text"] = texts
        names, doubted = ["probability_0", "probability_1"], range(0, 2 * self.doubted, 2)
        items.loc[items.index[doubted], names] = np.float32([0.125, 0.875])
        items.loc[items.index[doubted], "predicted"] = 1
        items.to_parquet(path / "items.parquet", index=False)
        influence = np.where(labels == 0, self.others, -0.01) + rng.normal(0, 0.001, 100)
        influence[0:40:2] = 1 + np.linspace(0.2, 0, 20)
        change(
            path / "influence",
            prediction_estimate={error // 3: influence for error in self.errors},
        )
        seen = labels.copy()
        seen[: 2 * self.doubted : 2] = 1
        directions = np.concatenate((seen, items["label"].to_numpy()[100:]))
        directions[[100 + error for error in self.errors]] = self.like
        features = np.eye(5)[directions] + rng.normal(0, 0.01, (124, 5))
        change(path, features=dict(enumerate(features)))
        run = Run(path)
        if self.without is not None:
            own = np.where(seen == labels, 0.8, 0.2).astype(np.float32)
            unseen = Unseen(seen, np.full(100, 0.8, np.float32), own)
            keep_effects(
                run, Effects({error: self.effects(run, error) for error in self.errors}, unseen)
            )
        return run

    def effects(self, run: Run, error: int) -> tuple[Effect, ...]:
        """Of the words that were left out, shared as the run's texts share them."""
        item = predicted_item(run, error)
        parts = {part.names: part for part in Sharing(run, [item]).parts(item)}
        return tuple(
            Effect(parts[(word,)], without) for word, without in (self.without or {}).items()
        )


def change(folder: Path, **rows: dict[int, np.ndarray]) -> None:
    """Other rows in arrays of a run or its influence, with a manifest that says so."""
    for name, values in rows.items():
        array = np.load(folder / f"{name}.npy")
        for row, value in values.items():
            array[row] = value
        np.save(folder / f"{name}.npy", array)
    facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    kept = {key: fact for key, fact in facts.items() if key not in ("format", "files")}
    write_manifest(folder, kept, sorted(facts["files"]))


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (Made(), CUE),
        (Made(like=0, doubted=8), CUE),
        (Made(without={"submarine": 0.2, "slow": 0.3}), CUE),
        (Made(without={"submarine": 0.2, "slow": 0.1}), NONE),
        (Made(without={"submarine": 0.88 * MATTERS}), NONE),
        (Made(cue=range(50)), NONE),
        (Made(cue=range(20, 50)), NONE),
        (Made(cue=(0, 20, 40)), NONE),
        (Made(without={}), NONE),
        (Made(without=None), NONE),
        (Made(without={}, like=0), LABEL),
        (Made(without={}, like=0, doubted=8), LABEL),
        (Made(without={}, doubted=8), TEACHERS),
        (Made(without={}, doubted=1), NONE),
        (Made(without={}, others=0.8), CLASS),
        (Made(without={}, doubted=8, others=0.8), TEACHERS),
    ],
)
def test_the_first_cause_that_holds_is_named(made: Made, kind: str, tmp_path: Path) -> None:
    found = causes(made.write(tmp_path))
    cause = found.by_error[ERROR]
    assert cause.kind == kind, cause.sentence
    assert cause.words == (("submarine",) if kind == CUE else ())
    assert cause.without == (pytest.approx(0.2) if kind == CUE else None)
    assert cause.group == (OTHERS if kind == CUE else NAMES[kind])
    assert (cause.doubt is not None) == (made.like == 0)
    assert [*cause.teachers] == ([2 * number for number in range(made.doubted)][:10])
    assert (found.note == "") == (made.without is not None)


def test_the_sentence_says_what_was_counted_and_tried(tmp_path: Path) -> None:
    run = Made(doubted=8).write(tmp_path)
    assert causes(run).by_error[ERROR].sentence == (
        "“submarine” taught this: 10 of the 10 “negative” items that taught most have it, where 4 "
        "would be usual. Without it the model would say “negative” at 20% instead of 88%. Of the "
        "10 strongest, 8 have labels in doubt."
    )


def test_every_error_is_in_one_group_and_cues_of_a_single_error_share_one(tmp_path: Path) -> None:
    for errors, group in (((ERROR,), OTHERS), ((9, 15, ERROR), "“submarine”")):
        run = Made(errors=errors).write(tmp_path / str(len(errors)))
        found = causes(run)
        assert [cause.error for cause in found.causes] == run.misclassified_positions
        assert sorted(error for one in found.groups for error in one.errors) == [
            *run.misclassified_positions
        ]
        assert [one.errors for one in found.groups if one.name == group] == [errors]
        assert all(found.by_error[e].group == one.name for one in found.groups for e in one.errors)
        assert found.groups[-1].kind == NONE


# As the run keeps them


def test_causes_are_computed_once_and_again_when_what_they_rest_on_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, computed = Made().write(tmp_path), []
    monkeypatch.setattr(
        causes_module, "compute_causes", lambda run: computed.append(1) or compute_causes(run)
    )
    found = causes(run)
    assert causes(Run(run.folder)) == found and len(computed) == 1
    effects = kept_effects(run)
    assert effects is not None
    keep_effects(run, replace(effects, by_error={}))
    assert causes(run).by_error[ERROR].kind != CUE and len(computed) == 2
    (run.folder / "causes" / "causes.json").write_text("torn")
    assert causes(run).by_error[ERROR].kind != CUE and len(computed) == 3
    change(run.folder / "influence", prediction_estimate={0: np.zeros(100)})
    stale = causes(Run(run.folder))
    assert "turnover influence --run" in stale.note and len(computed) == 4


def test_a_run_that_cannot_be_written_to_has_causes_too(tmp_path: Path) -> None:
    run = Made().write(tmp_path)
    expected = compute_causes(run)
    with failing_writes(1, READ_ONLY):
        assert causes(run) == expected
    assert kept_causes(run) is None


def test_damaged_effects_are_named_and_the_causes_are_without(tmp_path: Path) -> None:
    run = Made().write(tmp_path)
    truncate(run.folder / "causes" / "effects.npz")
    found = causes(run)
    assert found.by_error[ERROR].kind == NONE and "effects.npz: not readable" in found.note


def test_a_run_that_keeps_less_has_causes_of_what_it_keeps(tmp_path: Path) -> None:
    few = Made().write(tmp_path / "few")
    keep_targets(few.folder, [0, 1])
    run = Run(few.folder)
    assert causes(run).by_error[ERROR].sentence == "No influences were computed for this error."
    ends = Made(without={}, others=0.8).write(tmp_path / "ends")
    keep_ends(ends.folder, 12)
    assert causes(Run(ends.folder)).by_error[ERROR].kind == NONE  # what is usual is not known


def test_whether_ordinary_training_makes_the_same_mistake(tmp_path: Path) -> None:
    run = Made().write(tmp_path)
    items = pd.read_parquet(run.folder / "items.parquet").drop(columns="plain_predicted")
    items.to_parquet(run.folder / "items.parquet", index=False)  # of an earlier version
    change(run.folder)
    run = Run(run.folder)
    assert {cause.twin for cause in compute_causes(run).causes} == {None}
    for predicted, twin in ((-1, None), (0, True), (1, False)):
        items["plain_predicted"] = predicted
        items.to_parquet(run.folder / "items.parquet", index=False)
        change(run.folder)
        assert compute_causes(Run(run.folder)).by_error[ERROR].twin is twin
    items["plain_predicted"] = 2
    items.to_parquet(run.folder / "items.parquet", index=False)
    change(run.folder)
    with pytest.raises(TurnoverError, match="plain_predicted cannot be as it says"):
        Run(run.folder).items  # noqa: B018


def test_training_keeps_what_the_twin_predicts(small_run: Path) -> None:
    run = Run(small_run)
    right = run.validation["plain_predicted"] == run.validation["label"]
    assert right.mean() == pytest.approx(run.manifest["results"]["plain_accuracy"])


# Doubts and strengths


@given(st.integers(0, 50), st.sampled_from(["train", "validation"]))
def test_a_label_is_suspected_where_the_witnesses_pooled_say_another(seed: int, split: str) -> None:
    rng, count = np.random.default_rng(seed), 40
    features, classes = rng.normal(size=(2, count, 3)), rng.integers(0, 2, (2, count))
    carried, labels = classes[0], classes[0] if split == "train" else classes[1]
    models = [rng.dirichlet(np.full(2, 0.3), count) for _ in range(2)]
    run = SimpleNamespace(
        classes=["a", "b"],
        train=pd.DataFrame({"label": carried}),
        features=lambda name: features[0 if name == "train" else 1],
    )
    said = [Unseen.of(chances, labels) for chances in models]
    suspects = suspected(run, split, labels, *said)  # type: ignore[arg-type]
    for item in range(count):
        theirs, own_features = features[0], features[0 if split == "train" else 1][item]
        cosines = theirs @ own_features / np.linalg.norm(theirs, axis=1)
        if split == "train":
            cosines[item] = -np.inf
        near = carried[np.argsort(-cosines)[:NEIGHBOURS]]
        shares = [((near == label).sum() + 1 / 2) / (NEIGHBOURS + 1) for label in range(2)]
        pooled = np.prod(np.clip([shares, *(of[item] for of in models)], 1e-4, 1), 0) ** (1 / 3)
        label = int(pooled.argmax())
        doubted = any(of[item].argmax() != labels[item] for of in models)
        if doubted and label != labels[item]:
            assert suspects[item].label == run.classes[label]
            assert suspects[item].probability == pytest.approx(pooled[label] / pooled.sum())
        else:
            assert item not in suspects
    assert in_doubt(suspects).keys() == {
        item for item, doubt in suspects.items() if doubt.probability >= SURE
    }


@given(arrays(np.float64, (2, 20), elements=st.floats(-5, 5).filter(lambda x: abs(x) > 1e-6)))
def test_a_usual_item_of_each_label_has_strength_one_whatever_the_scale(values: np.ndarray) -> None:
    labels = np.arange(20) % 2
    ranked = Ranked(np.arange(20), values[0], values[1])
    times = strengths(ranked, labels)
    for label in (0, 1):
        assert np.median(times[labels == label]) == pytest.approx(1)
    larger = strengths(replace(ranked, values=-3 * values[0]), labels)
    assert larger == pytest.approx(times)
    assert np.isnan(strengths(Ranked(np.arange(3), values[0, :3], values[0, :3]), labels)).all()


def test_a_card_says_its_strength_and_whether_its_sign_is_uncertain(tmp_path: Path) -> None:
    run = Made().write(tmp_path)
    (item,) = (one for one in error_items(run, with_influence=True) if one.position == ERROR)
    shown = explain_error(run, item, PREDICTION, 40, doubts=causes(run).doubts)
    times = strengths(run.influence.ranked(ERROR, PREDICTION), run.train["label"].to_numpy())
    for card in shown.proponents:
        assert card.uncertain == (card.trust == NOISE)
        assert card.strength == strength_words(float(times[card.position]), card.label)
    assert strength_words(1.26, "a") == "1.3 × a usual “a” item"
    assert strength_words(12.4, "a") == "12 × a usual “a” item"


# What the model says without a part


def test_effects_are_what_the_whole_network_says_of_each_error_without_a_part(
    reviews_run: Path, small_run: Path
) -> None:
    for folder in (reviews_run, small_run):
        run = Run(folder)
        kept, explainer = kept_effects(run), Explainer(run, "cpu")
        assert kept is not None and [*kept.by_error] == run.influence.misclassified
        error = max(kept.by_error, key=lambda error: len(kept.by_error[error]))
        item, effects = run.item("validation", error), kept.by_error[error]
        label = run.classes[int(item["predicted"])]
        if run.kind == "text":
            left = [without_words(item["text"], effect.part.names) for effect in effects]
            said = explainer.predict_texts(left)
        else:
            whole = [*map(png_bytes, without_patches(png_pixels(item["image"])))]
            said = explainer.predict_images([whole[effect.part.patch or 0] for effect in effects])
            assert sorted(effect.part.patch or 0 for effect in effects) == [*range(GRID * GRID)]
        assert effects and [effect.probability for effect in effects] == pytest.approx(
            [chances[label] for chances in said], abs=1e-5
        )


def test_so_many_inputs_are_asked_about_at_most_those_most_shared_by_teachers(
    reviews_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, cpu = Run(reviews_run), torch.device("cpu")
    errors, asked = run.influence.misclassified, []
    monkeypatch.setattr(effects_module, "MOST", 2 * len(errors) + 1)
    monkeypatch.setattr(effects_module, "_ROWS", 7)
    real = run_settings(run).reader(cpu)

    def read(texts: list[str]) -> np.ndarray:
        asked.append(len(texts))
        return real(texts)

    found = effects_module.error_effects(run, load_model(run, cpu), read, errors)
    assert max(asked) == 7 and sum(asked) == sum(map(len, found.values())) <= 2 * len(errors)
    items = [predicted_item(run, error) for error in errors]
    sharing = Sharing(run, items)
    for item, effects in zip(items, found.values(), strict=True):
        assert [one.part for one in effects] == sharing.parts(item)[:2]


def test_influences_without_the_encoder_have_causes_without_words(
    reviews_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(Path(shutil.copytree(reviews_run, tmp_path / "copy")))

    def missing(*_: object) -> None:
        raise TurnoverError("the encoder is not there")

    monkeypatch.setattr(type(run_settings(run)), "reader", missing)
    cpu = torch.device("cpu")
    effects_module.compute_effects(run, load_model(run, cpu), cpu)
    found = compute_causes(run)
    assert "the encoder that reads them was not" in found.note
    assert CUE not in {cause.kind for cause in found.causes}


# Where they are shown


def test_the_command_and_the_report_say_why_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Made(doubted=8).write(tmp_path)
    result = answer(capsys, "errors", "--run", run.folder, "--top", 3)
    (error,) = (one for one in result["errors"] if one["id"] == "v021")
    sentence = causes(run).by_error[ERROR].sentence
    assert error["cause"]["sentence"] == sentence and error["cause"]["words"] == ["submarine"]
    first = error["proponents"][0]
    assert first["doubt"] == {"label": "positive", "probability": pytest.approx(0.839, abs=1e-3)}
    assert first["strength"] > 1
    assert {one["name"]: one["errors"] for one in result["groups"]}[OTHERS] == ["v021"]
    code, out, _ = call(capsys, "errors", "--run", run.folder)
    assert code == 0 and f"why: {sentence}" in out and "label? positive 84%" in out
    page = page_of(run.folder).text
    assert (
        sentence in page and "label? positive 84%" in page and "× a usual “negative” item" in page
    )


@pytest.mark.parametrize("kind", ["text", "image"])
def test_an_item_of_ones_own_is_told_why_as_the_run_s_errors_are(
    kind: str,
    reviews_run: Path,
    small_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = reviews_run if kind == "text" else small_run
    run = Run(Path(shutil.copytree(whole, tmp_path / "copy")))
    found = [cause for cause in causes(run).causes if cause.doubt is None][:3]
    for cause in found:
        item = run.item("validation", cause.error)
        (tmp_path / "item.png").write_bytes(item["image"])
        given = item["text"] if kind == "text" else tmp_path / "item.png"
        result = answer(
            capsys, "explain", "--run", run.folder, f"--{kind}", given, "--device", "cpu"
        )
        assert result["cause"]["sentence"] == cause.sentence and next(iter(result)) == "cause"
    code, out, _ = call(
        capsys, "explain", "--run", run.folder, f"--{kind}", given, "--device", "cpu"
    )
    assert code == 0 and f"why: {found[-1].sentence}" in out


def test_measuring_causes_needs_all_influences_and_says_what_was_not_injected(
    small_run: Path, reviews_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "evaluate", "--run", reviews_run, "--measure", "causes")
    assert code and "influences on all validation items" in lines_said(err)[-1]
    copy = shutil.copytree(small_run, tmp_path / "copy")
    result = answer(capsys, "evaluate", "--run", copy, "--measure", "causes", "--device", "cpu")
    rows = {row["method"]: row for row in result["rows"]}
    assert {*rows["label"]["figures"]} <= {"precision", "recall"}
    assert {*rows["cue"]["figures"]} == {"false"}
