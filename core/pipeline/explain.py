"""Explain a new input: what the run's model predicts, and which training items pushed it there or away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.data.images import fit_image, open_image, png_pixels
from core.data.tables import check_text
from core.device import choose_device
from core.errors import TurnoverError
from core.estimators.stored import stored_estimator
from core.influences import influence
from core.pipeline.architecture import ImageInputs, TextInputs
from core.pipeline.estimate import describe_targets
from core.pipeline.model import image_shape, item_features, load_model, run_settings
from core.ranking import ranking_entries, ranking_trust, training_entries
from core.runs import Ranked, Run
from core.training import Split, probabilities


class Explainer:
    """A run's model, loaded and ready for questions.

    Raises:
        TurnoverError: if the run has no influence yet (its estimator is needed), or its encoder cannot be loaded.
    """

    def __init__(self, run: Run, device_choice: str | None = None) -> None:
        self.run, self.device = run, choose_device(device_choice)
        self.estimator = stored_estimator(run)
        self.model = load_model(run, self.device)
        settings = run_settings(run)
        self.texts = TextInputs(settings, self.device) if run.kind == "text" else None
        self.images = ImageInputs(settings, self.device) if run.kind == "image" else None

    def warm_up(self) -> None:
        """Answer one question for nobody, so that the first real one finds every library loaded."""
        self._explain(self._texts(["warm"]) if self.texts else self._made(png_pixels(self.run.item("train", 0)["image"])), None, 1)

    def explain_text(self, text: str, label: str | None = None, top: int = 5, also: Sequence[int] = ()) -> dict[str, Any]:
        """Prediction and most influential training texts of a text; keys as `explain` describes, and `also` for these training items, wherever they rank.

        Raises:
            TurnoverError: for an image run, an empty or too long text, an unknown label or training item.
        """
        return self._explain(self._texts([text]), label, top, also)

    def explain_image(
        self, content: bytes, name: str, label: str | None = None, top: int = 5, also: Sequence[int] = (), fitted: bool = False
    ) -> dict[str, Any]:
        """Prediction and most influential training images of an image file; keys as for a text. A `fitted` one is in the form of the training images already.

        Raises:
            TurnoverError: for a text run, a file that is no whole image of sensible size, an unknown label or training item.
        """
        return self._explain(self._image(content, name, fitted), label, top, also)

    def predict_texts(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Each text's class probabilities. Errors as `explain_text`."""
        return self._predict(self._texts(texts))

    def predict_images(self, contents: Sequence[bytes]) -> list[dict[str, float]]:
        """Class probabilities of images that are in the form of the training images. Errors as `explain_image`."""
        return self._predict(torch.cat([self._image(content, "image", fitted=True) for content in contents]))

    def _texts(self, texts: Sequence[str]) -> Tensor:
        if self.texts is None:
            raise TurnoverError(f"{self.run.name} is an image run; give an image")
        return torch.from_numpy(self.texts([check_text(text, "your text") for text in texts]))

    def _image(self, content: bytes, name: str, fitted: bool) -> Tensor:
        if self.run.kind != "image":
            raise TurnoverError(f"{self.run.name} is a text run; give a text")
        channels, height, width = image_shape(self.run)
        image = open_image(content, name, colour=channels == 3)
        if fitted and image.size != (width, height):
            raise TurnoverError(f"{name}: {image.width} x {image.height} pixels instead of {width} x {height}; give it as it was fitted")
        return self._made(np.asarray(image) if fitted else fit_image(image, height, width))

    def _made(self, pixels: np.ndarray) -> Tensor:
        """Model input `(1, …)` of an image in the form of the training images."""
        assert self.images is not None
        return torch.from_numpy(self.images(pixels[None].copy()))

    def _predict(self, inputs: Tensor) -> list[dict[str, float]]:
        return [dict(zip(self.run.classes, row, strict=True)) for row in probabilities(self.model, inputs.to(self.device)).tolist()]

    def _explain(self, inputs: Tensor, label: str | None, top: int, also: Sequence[int] = ()) -> dict[str, Any]:
        begun = time.perf_counter()
        if unknown := [position for position in also if not 0 <= position < len(self.run.train)]:
            raise TurnoverError(f"no training item {unknown[0]}; there are {len(self.run.train):,}, counted from 0")
        classes = self.run.classes
        if label is not None and label not in classes:
            raise TurnoverError(f"unknown label {label!r}; choose one of {', '.join(classes)}")
        inputs = inputs.to(self.device)
        chances = probabilities(self.model, inputs)[0].tolist()
        predicted = int(np.argmax(chances))
        meant = predicted if label is None else classes.index(label)
        target = Split(inputs, torch.tensor([meant], device=self.device))
        members = influence(self.model, target.inputs, target.labels, np.arange(len(self.run.train))).values.numpy()
        described = describe_targets(self.model, target, item_features(self.model, inputs))
        estimate, error = self.estimator.apply(members, self.estimator.shape_of(described))
        ranked = Ranked(np.arange(members.shape[-1]), estimate[0], error[0])
        return {
            "predicted": classes[predicted],
            "probabilities": dict(zip(classes, chances, strict=True)),
            "meaning": "prediction" if label is None else "label",
            "label": classes[meant],
            "estimator": self.estimator.name,
            **ranking_entries(self.run, ranked, top),
            **({"also": training_entries(self.run, ranked, np.array(also), ranking_trust(self.run, ranked))} if also else {}),
            "seconds": round(time.perf_counter() - begun, 3),
        }


def read_user_file(path: Path) -> bytes:
    """The bytes of a file that a user named.

    Raises:
        TurnoverError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise TurnoverError(f"{path}: cannot be read ({error.strerror}); check the path") from None
