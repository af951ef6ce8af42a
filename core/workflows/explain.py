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
from turnover.data.images import fit_image, open_image, png_bytes
from turnover.data.tables.checks import check_text
from turnover.errors import TurnoverError
from turnover.explain.causes import causes
from turnover.explain.cues import Predicted, teachers_of
from turnover.explain.reasons import Evidence, Reasons
from turnover.runs.model import describe_targets, item_features, load_model, run_settings
from turnover.runs.ranking import ranking_entries, ranking_trust, stored_estimator, training_entries
from turnover.runs.run import Ranked, Run
from turnover.training.fit import Split, probabilities
from turnover.workflows.effects import part_effects, parts_to_leave


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
        prediction, which takes as many predictions as the text has words.

        Raises:
            TurnoverError: for an image run, an empty or too long text, an unknown label or training
                item.
        """
        return self._explain(self._texts([text]), label, top, also, text if why else None)

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
        return self._explain(inputs, label, top, also, png_bytes(pixels) if why else None)

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
            "why": None if content is None or meant != predicted else self._why(content, evidence),
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
        return answer | {"seconds": round(time.perf_counter() - begun, 3)}

    def _why(self, content: str | bytes, evidence: Evidence) -> str:
        """The cause of a prediction, in a sentence."""
        item = Predicted(content, evidence.label, teachers_of(self.run, evidence.ranked))
        left = parts_to_leave(self.run, [item])
        (effects,) = part_effects(self.model, self.read, [item], left)
        reasons = Reasons(self.run, {}, causes(self.run).doubts, {})
        return reasons.reason(evidence, effects).sentence

    def _evidence(self, targets: Split) -> tuple[np.ndarray, np.ndarray]:
        """What estimates of all training items' influences on some targets are made of, as for
        `Estimator.apply`.
        """
        members = influence(
            self.model, targets.inputs, targets.labels, np.arange(len(self.run.train))
        ).values.numpy()
        described = describe_targets(self.model, targets, item_features(self.model, targets.inputs))
        return members, self.estimator.coefficients_of(described)
