"""Explain a new input: the prediction, and the training items that pushed it there or away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from turnover.attribution.device import choose_device
from turnover.attribution.ensemble import MemberModel
from turnover.attribution.estimators import MEDIAN
from turnover.attribution.estimators.estimator import Estimator
from turnover.attribution.influence import influence
from turnover.data.images import fit_image, is_blank, open_image, png_bytes
from turnover.data.tables.checks import check_text
from turnover.errors import TurnoverError
from turnover.explain.causes import causes
from turnover.explain.cues import Predicted, teachers_of
from turnover.explain.listing import add_doubts, cause_facts
from turnover.explain.reasons import Evidence, Reasons
from turnover.explain.words import run_pieces
from turnover.runs.model import describe_targets, item_features, load_model, run_settings
from turnover.runs.ranking import ranking_entries, ranking_trust, stored_estimator, training_entries
from turnover.runs.run import Ranked, Run
from turnover.training.fit import Split, probabilities
from turnover.workflows.effects import part_effects, parts_to_leave

_UNKNOWN = 0.5
"""The share of a text's pieces that the encoder does not know from which on an answer warns."""


class Explainer:
    """A run's model, loaded and ready for questions.

    Raises:
        TurnoverError: if the run has no influence yet (its estimator is needed), or its encoder
            cannot be loaded.
    """

    def __init__(self, run: Run, device_choice: str | None = None) -> None:
        self.run, self.device = run, choose_device(device_choice)
        self.estimator = stored_estimator(run)
        self.model = load_model(run, self.device)
        self.read = run_settings(run).reader(self.device)

    def warm_up(self) -> None:
        """Answer a dummy question, so that all libraries are loaded before the first real one."""
        if self.run.kind == "text":
            self.explain_text("warm", top=1)
        else:
            self.explain_image(self.run.item("train", 0)["image"], "image", top=1, fitted=True)

    def explain_text(
        self,
        text: str,
        label: str | None = None,
        top: int = 5,
        also: Sequence[int] = (),
        why: bool = False,
    ) -> dict[str, Any]:
        """Prediction and most influential training texts of a text; keys as `explain` describes,
        `also` for these training items, wherever they rank, and `why` for the cause of the
        prediction, which takes as many predictions as the text has words. `warning` says why the
        answer means little, "" where nothing speaks against it.

        Raises:
            TurnoverError: for an image run, an empty or too long text, an unknown label or training
                item.
        """
        answer = self._explain(self._texts([text]), label, top, also, text if why else None)
        return answer | {"warning": self._unknown(text)}

    def explain_image(
        self,
        content: bytes,
        name: str,
        label: str | None = None,
        top: int = 5,
        also: Sequence[int] = (),
        fitted: bool = False,
        why: bool = False,
    ) -> dict[str, Any]:
        """Prediction and most influential training images of an image file; keys as for a text. A
        `fitted` one is in the form of the training images already.

        Raises:
            TurnoverError: for a text run, a file that is no whole image of sensible size, an
                unknown label or training item.
        """
        pixels = self._pixels(content, name, fitted)
        inputs = torch.from_numpy(self.read(pixels[None]))
        answer = self._explain(inputs, label, top, also, png_bytes(pixels) if why else None)
        blank = "As the model sees it, this image is blank: the answer is not about what it shows."
        return answer | {"warning": blank * is_blank(pixels)}

    def predict_texts(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Each text's class probabilities. Errors as `explain_text`."""
        return self._predict(self._texts(texts))

    def predict_images(self, contents: Sequence[bytes]) -> list[dict[str, float]]:
        """Class probabilities of images that are in the form of the training images. Errors as
        `explain_image`.
        """
        return self._predict(torch.cat([self._image(content) for content in contents]))

    def influence_on(
        self, contents: Sequence[bytes], label: str, instances: Sequence[int]
    ) -> tuple[np.ndarray, str]:
        """Influence of some training items on the loss of `label` for images in the form of the
        training images, and the estimator it comes from.

        `best` estimates an item's influence from those of all training items. Deep models would
        take minutes for these, so theirs comes from the given items alone, as the median over
        members.

        Returns:
            `(images, instances)` in nats, and one of `turnover.attribution.estimators.SHOWN`.

        Raises:
            TurnoverError: as `explain_image`.
        """
        self._check(instances, label)
        images = [self._image(content) for content in contents]
        inputs = torch.cat(images).to(self.device)
        labels = torch.full((len(inputs),), self.run.classes.index(label), device=self.device)
        targets = Split(inputs, labels)
        if self.estimator.directions and isinstance(self.model, MemberModel):
            estimate = self.estimator.apply(*self._evidence(targets))[0]
            return estimate[:, list(instances)], self.estimator.name
        alone = Estimator(MEDIAN, {}) if self.estimator.directions else self.estimator
        chosen = np.array(instances, np.int64)
        members = influence(self.model, inputs, labels, chosen).values.numpy()
        return alone.apply(members, np.zeros((len(inputs), 0)))[0], alone.name

    def _texts(self, texts: Sequence[str]) -> Tensor:
        if self.run.kind != "text":
            raise TurnoverError(f"{self.run.name} is an image run; give an image")
        return torch.from_numpy(self.read([check_text(text, "your text") for text in texts]))

    def _unknown(self, text: str) -> str:
        """A warning if the encoder does not know half of a text or more."""
        pieces = run_pieces(self.run)
        share = pieces.share_unknown(text) if pieces else 0.0
        if share < _UNKNOWN:
            return ""
        return f"The encoder does not know {share:.0%} of this text: the answer says little of it."

    def _image(self, content: bytes) -> Tensor:
        """Model inputs of an image in the form of the training images."""
        return torch.from_numpy(self.read(self._pixels(content, "image", fitted=True)[None]))

    def _pixels(self, content: bytes, name: str, fitted: bool) -> np.ndarray:
        if self.run.kind != "image":
            raise TurnoverError(f"{self.run.name} is a text run; give a text")
        height, width, *channels = self.run.image_shape
        image = open_image(content, name, colour=bool(channels))
        if fitted and image.size != (width, height):
            raise TurnoverError(
                f"{name}: {image.width} x {image.height} pixels instead of {width} x {height}; give"
                " it as it was fitted"
            )
        return np.array(image) if fitted else fit_image(image, height, width)

    def _predict(self, inputs: Tensor) -> list[dict[str, float]]:
        return [
            dict(zip(self.run.classes, row, strict=True))
            for row in probabilities(self.model, inputs.to(self.device)).tolist()
        ]

    def _check(self, positions: Sequence[int], label: str | None) -> None:
        """Raise a TurnoverError for an unknown training item or label."""
        total = len(self.run.train)
        if unknown := [position for position in positions if not 0 <= position < total]:
            raise TurnoverError(
                f"no training item {unknown[0]}; there are {total:,}, counted from 0"
            )
        if label is not None and label not in self.run.classes:
            raise TurnoverError(
                f"unknown label {label!r}; choose one of {', '.join(self.run.classes)}"
            )

    def _explain(
        self,
        inputs: Tensor,
        label: str | None,
        top: int,
        also: Sequence[int],
        content: str | bytes | None,
    ) -> dict[str, Any]:
        begun = time.perf_counter()
        self._check(also, label)
        classes, inputs = self.run.classes, inputs.to(self.device)
        chances = probabilities(self.model, inputs)[0].tolist()
        predicted = int(np.argmax(chances))
        meant = predicted if label is None else classes.index(label)
        target = Split(inputs, torch.tensor([meant], device=self.device))
        influences = self._evidence(target)
        estimate, error = self.estimator.apply(*influences)
        foreseen = self.estimator.foreseen(*influences)
        common = None if foreseen is None else foreseen[0]
        ranked = Ranked(np.arange(estimate.shape[-1]), estimate[0], error[0])
        evidence = Evidence(self.run, predicted, chances[predicted], ranked)
        answer = {
            "cause": None,
            "predicted": classes[predicted],
            "probabilities": dict(zip(classes, chances, strict=True)),
            "meaning": "prediction" if label is None else "label",
            "label": classes[meant],
            "estimator": self.estimator.name,
            **ranking_entries(self.run, ranked, top, common),
        }
        if also:
            words = ranking_trust(self.run, ranked)
            answer["also"] = training_entries(self.run, ranked, np.array(also), words, common)
        entries = [*answer["proponents"], *answer["opponents"], *answer.get("also", ())]
        for entry in entries:
            entry |= _standing(ranked.values, entry["position"])
        if content is not None:
            reasons = Reasons(self.run, {}, causes(self.run).doubts, {})
            add_doubts(entries, reasons.doubts)
            if meant == predicted:
                answer["cause"] = self._cause(content, evidence, reasons)
        return answer | {"seconds": round(time.perf_counter() - begun, 3)}

    def _cause(self, content: str | bytes, evidence: Evidence, reasons: Reasons) -> dict[str, Any]:
        """The cause of a prediction."""
        item = Predicted(content, evidence.label, teachers_of(self.run, evidence.ranked))
        left = parts_to_leave(self.run, [item])
        (effects,) = part_effects(self.model, self.read, [item], left)
        return cause_facts(reasons.reason(evidence, effects))

    def _evidence(self, targets: Split) -> tuple[np.ndarray, np.ndarray]:
        """What estimates of all training items' influences on some targets are made of, as for
        `Estimator.apply`.
        """
        members = influence(
            self.model, targets.inputs, targets.labels, np.arange(len(self.run.train))
        ).values.numpy()
        described = describe_targets(self.model, targets, item_features(self.model, targets.inputs))
        return members, self.estimator.coefficients_of(described)


def _standing(values: np.ndarray, position: int) -> dict[str, Any]:
    """Where a training item stands among all that have its sign, `values` `(N,)` in nats: its rank,
    from 1, and its share of their sum. Unlike nats they can be compared across losses.
    """
    side = values * (1 if values[position] >= 0 else -1)
    total = float(side.sum(where=side > 0))
    return {
        "rank": 1 + int((side > side[position]).sum()),
        "share": float(side[position]) / total if total else 0.0,
    }
