"""From settings to models, and from items to model inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from turnover.attribution.ensemble import Ensemble, Members
from turnover.attribution.masks import derive_seed
from turnover.models.adapters import TokenRows, adapter_classifier, masked_everywhere
from turnover.models.heads import TextEncoder, load_encoder, pixel_heads, small_vgg, text_heads
from turnover.models.names import DEFAULT_ENCODER, is_module, is_torchvision
from turnover.models.own import TOKENS, OwnMembers, own_members, reading
from turnover.models.registry import TrainSettings, check_image_size
from turnover.models.torchvision import (
    LEAKS,
    FineTuned,
    ImageEncoder,
    check_weights,
    fine_tuned,
    hub_images,
    torchvision_images,
)
from turnover.models.vgg19 import vgg19
from turnover.storage.progress import Advance, silent

_MEMBER = 7
_DEEP_TOKENS = 128


def reads_features(settings: TrainSettings, kind: str) -> bool:
    """Whether the model of resolved settings reads features of a frozen encoder, which are computed
    once and kept in the run.
    """
    if kind == "image":
        return (is_torchvision(settings.model) and settings.from_layer is None) or (
            settings.model == "heads" and settings.encoder != DEFAULT_ENCODER
        )
    return settings.model == "heads" or (is_module(settings.model) and not _reads_tokens(settings))


def _reads_tokens(settings: TrainSettings) -> bool:
    assert settings.model is not None and settings.source is not None
    return reading(settings.model, settings.source) == TOKENS


def build_model(
    settings: TrainSettings,
    classes: int,
    shape: tuple[int, ...],
    numbers: Sequence[int] | None = None,
) -> Members:
    """The K-member model of resolved settings, for inputs of `shape`: (D,) features, (T,) tokens,
    or (C, H, W) images; of a deep model only the members with these `numbers`, if given.
    """
    assert settings.members is not None
    numbers = range(settings.members) if numbers is None else numbers
    if is_module(settings.model):
        assert settings.model is not None and settings.source is not None
        tokens = len(shape) == 1 and _reads_tokens(settings)
        return own_members(
            settings.model,
            settings.source,
            classes,
            shape,
            members=numbers,
            seed=settings.seed,
            tokens=tokens,
        )
    groups = settings.groups or None
    options: dict[str, Any] = {"members": settings.members, "groups": groups, "seed": settings.seed}
    if settings.from_layer is not None:
        seeds = [derive_seed(settings.seed, member, _MEMBER) for member in numbers]
        return OwnMembers([_fine_tuned(settings, classes, seed) for seed in seeds], classes, LEAKS)
    if settings.model == "heads" or is_torchvision(settings.model):
        return (
            text_heads(shape[0], classes, **options)
            if len(shape) == 1
            else pixel_heads(shape, classes, **options)
        )
    if settings.model == "small-vgg":
        channels, height, width = shape
        return small_vgg((channels, height, width), classes, **options)
    models = [
        _deep(settings, classes, shape, derive_seed(settings.seed, member, _MEMBER))
        for member in numbers
    ]
    return Ensemble(models, classes, models[0].leaks)


def _fine_tuned(settings: TrainSettings, classes: int, seed: int) -> FineTuned:
    assert settings.model is not None and settings.from_layer is not None
    if settings.weights is not None:
        check_weights(settings.weights, settings.source)
    return fine_tuned(
        settings.model,
        settings.from_layer,
        classes,
        weights=settings.weights,
        pretrained=settings.pretrained,
        groups=settings.groups or None,
        seed=seed,
    )


def _deep(settings: TrainSettings, classes: int, shape: tuple[int, ...], seed: int) -> Any:
    """One deep member."""
    groups = settings.groups or None
    if settings.model == "vgg19":
        check_image_size(settings, (*shape[1:], *shape[:1]))
        return vgg19(
            classes,
            groups=groups,
            seed=seed,
            dropout=settings.dropout,
            norm_after_mask=settings.late_norm,
        )
    if settings.model == "adapters":
        return TokenRows(
            adapter_classifier(
                settings.encoder, classes, layers=settings.layers, groups=groups, seed=seed
            )
        )
    return TokenRows(masked_everywhere(settings.encoder, classes, groups=groups, seed=seed))


class TextInputs:
    """Texts → inputs of a text model: features of the frozen encoder (`reads_features`), or token
    ids for deep models.

    Raises:
        TurnoverError: as `load_encoder`.
    """

    def __init__(self, settings: TrainSettings, device: torch.device) -> None:
        features = reads_features(settings, "text")
        self.make: Callable[..., np.ndarray] = (
            TextEncoder(settings.encoder, device).features
            if features
            else partial(_token_rows, load_encoder(settings.encoder)[0])
        )

    def __call__(self, texts: Sequence[str], progress: Advance = silent) -> np.ndarray:
        """Features float32 `(N, D)`, or token ids int64 `(N, T)`; `progress` is called with the
        number of texts of each batch.
        """
        return self.make(texts, progress)


def _token_rows(tokenizer: Any, texts: Sequence[str], progress: Advance = silent) -> np.ndarray:
    """Token ids `(N, T)`, truncated and padded to the same length in every call."""
    ids = tokenizer(
        list(texts),
        truncation=True,
        max_length=min(_DEEP_TOKENS, tokenizer.model_max_length),
        padding="max_length",
    )["input_ids"]
    progress(len(texts))
    return np.asarray(ids, np.int64)


class ImageInputs:
    """Images → inputs of an image model: pixels, or features of a frozen encoder
    (`reads_features`).

    Raises:
        TurnoverError: if the encoder cannot be loaded.
    """

    def __init__(self, settings: TrainSettings, device: torch.device) -> None:
        self.make: Callable[..., np.ndarray] = _pixels
        if reads_features(settings, "image"):
            self.make = _image_encoder(settings, device).features

    def __call__(self, images: np.ndarray, progress: Advance = silent) -> np.ndarray:
        """Pixels float32 `(N, C, H, W)` as `image_inputs`, or features float32 `(N, D)`; `progress`
        is called with the number of images of each batch.
        """
        return self.make(images, progress)


def _image_encoder(settings: TrainSettings, device: torch.device) -> ImageEncoder:
    if settings.model == "heads":
        return hub_images(settings.encoder, device)
    assert settings.model is not None
    return torchvision_images(
        settings.model,
        settings.weights,
        settings.source,
        settings.pretrained,
        settings.seed,
        device,
    )


def _pixels(images: np.ndarray, progress: Advance = silent) -> np.ndarray:
    progress(len(images))
    pixels: np.ndarray = image_inputs(images).numpy()
    return pixels


def image_inputs(images: np.ndarray) -> Tensor:
    """Images uint8, grey `(N, H, W)` or RGB `(N, H, W, 3)`, as model inputs float32 `(N, 1 or 3, H,
    W)` in [-1, 1].
    """
    pixels = torch.from_numpy(images)
    channels_first = pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2)
    return (
        channels_first.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)
    )
