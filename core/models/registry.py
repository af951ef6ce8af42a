"""Settings and recipes of runs, with their defaults. Needs no torch, so pages can check them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from turnover.data.tables.spec import OwnData, is_own
from turnover.errors import TurnoverError
from turnover.models.names import (
    DEFAULT_ENCODER,
    file_checksum,
    is_module,
    is_torchvision,
    source_checksum,
)

# Recipes: how a model is trained


@dataclass(frozen=True)
class Recipe:
    """How to train: AdamW on cross-entropy, with early stopping on the validation loss.

    With `decay` the learning rate falls to zero in a straight line over the `epochs`, step by step,
    and all of them are run. `masked` trains each row under its instance's mask; with `fresh` under
    a new random one at each step, which is ordinary dropout of the same rate. `augment` shifts and
    mirrors images. `keep` names the epoch that is kept: `learned`, the last one within one standard
    error of the best; `best` itself, for a model that is only meant to be accurate; or `last`, the
    end that a falling rate is planned for.
    """

    epochs: int = 30
    patience: int = 3
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0
    masked: bool = True
    fresh: bool = False
    augment: bool = False
    keep: Literal["learned", "best", "last"] = "learned"
    decay: bool = False

    def rate(self, epoch: float) -> float:
        """The learning rate after this many epochs, which may include a fraction."""
        return self.learning_rate * (1 - epoch / self.epochs) if self.decay else self.learning_rate


RECIPES = {
    "digits": Recipe(learning_rate=2e-3, batch=64),
    "reviews": Recipe(learning_rate=3e-4, batch=32, weight_decay=2.0),
    "sst2": Recipe(learning_rate=1e-3, batch=64, weight_decay=2.0),
    "sst2-phrases": Recipe(learning_rate=1e-3, batch=64, weight_decay=2.0),
    "imdb-checks": Recipe(learning_rate=1e-3, batch=64, weight_decay=2.0),
    "yahoo": Recipe(learning_rate=1e-3, batch=64, weight_decay=2.0),
    "cifar10": Recipe(learning_rate=1e-3, batch=64),
}
OWN_RECIPES = {
    "text": Recipe(learning_rate=1e-3, batch=32, weight_decay=2.0),
    "image": Recipe(learning_rate=1e-3, batch=64),
}
"""By the kind of a user's own data, and of named data sets without their own recipe."""
MODEL_RECIPES = {
    "adapters": Recipe(epochs=2, learning_rate=1.3e-3, batch=32, decay=True, keep="last"),
    "masked-encoder": Recipe(epochs=8, patience=2, learning_rate=5e-5, batch=32),
    "vgg19": Recipe(
        epochs=24,
        learning_rate=1e-3,
        batch=256,
        weight_decay=0.05,
        augment=True,
        decay=True,
        keep="last",
    ),
}
"""Recipes of the deep models, for any data; heads use the data's."""
OWN_RECIPE = Recipe(learning_rate=1e-3, batch=64)
"""The recipe of the user's own modules, for any data."""
FINE_TUNED_RECIPE = Recipe(epochs=10, patience=2, learning_rate=3e-4, batch=32)
"""The recipe of torchvision's networks that are fine-tuned."""

# Settings: what a user chooses

TEXT_MODELS = ("heads", "adapters", "masked-encoder")
IMAGE_MODELS = ("small-vgg", "vgg19", "heads")
DEEP_MODELS = ("adapters", "masked-encoder", "vgg19")
DEFAULT_NOISE = {"digits": 0.05}
DEFAULT_MEMBERS = {"text": 16, "image": 8}
"""By kind of data; deep models have one."""
DEFAULT_GROUPS = 16
VGG19_SIZE = 32


@dataclass(frozen=True)
class TrainSettings:
    """What a user chooses; None means the data set's own default.

    `groups` = 0 masks single units. `late_norm` keeps the batch norms after the first mask of
    vgg19, whose statistics leak. `keep` names a file of near duplicates
    (`turnover.data.sources.images`) that limits must not drop. `own` names the files or splits to
    read where `data` is `files` or `hub:NAME`. `source` is the SHA-256 of the file that builds a
    model of the user's own, or of `weights`. `weights` (a safetensors file) and `pretrained` are
    for torchvision's networks, which are frozen, or trained from the layer `from_layer` on.
    """

    data: str
    path: str | None = None
    limit: int | None = None
    validation_limit: int | None = None
    label_noise: float | None = None
    members: int | None = None
    groups: int | None = None
    seed: int = 0
    encoder: str = DEFAULT_ENCODER
    model: str | None = None
    layers: int | None = None
    dropout: float = 0.0
    epochs: int | None = None
    late_norm: bool = True
    keep: str | None = None
    own: OwnData | None = None
    source: str | None = None
    weights: str | None = None
    pretrained: bool = False
    from_layer: str | None = None

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> TrainSettings:
        """The settings from a run's manifest."""
        own = saved.get("own")
        return cls(**{**saved, "own": OwnData(**own) if own else None})

    def resolved(self, kind: str) -> TrainSettings:
        """The settings with every default filled in, for data of this kind, `text` or `image`.

        Raises:
            TurnoverError: if the settings do not fit together.
        """
        models = TEXT_MODELS if kind == "text" else IMAGE_MODELS
        model = self.model or models[0]
        module = is_module(model)
        if model not in models and not module and not (kind == "image" and is_torchvision(model)):
            known = [*models, *(["torchvision:NAME"] if kind == "image" else [])]
            raise TurnoverError(
                f"--model {model}: {self.data} is {kind} data; choose one of {', '.join(known)}, or"
                " module:function of your own"
            )
        if kind == "image" and self.encoder != DEFAULT_ENCODER and model != "heads":
            raise TurnoverError(
                f"--encoder {self.encoder}: {model} reads pixels; an image encoder goes with "
                "--model heads"
            )
        if (self.weights or self.pretrained) and not is_torchvision(model):
            raise TurnoverError(
                f"--weights and --pretrained are for torchvision's networks, not {model}; leave "
                "them out"
            )
        if self.from_layer and not is_torchvision(model):
            raise TurnoverError(
                f"--from-layer {self.from_layer} is for torchvision's networks, not {model}; leave "
                "it out"
            )
        if self.weights and self.pretrained:
            raise TurnoverError("--weights names a file, --pretrained downloads; give one of them")
        if module and self.groups is not None:
            raise TurnoverError(
                f"--groups {self.groups}: {model} makes its own masks; leave it out"
            )
        if self.layers is not None and model != "adapters":
            raise TurnoverError(
                f"--layers says how many layers have adapters; {model} has none, so leave it out"
            )
        if self.dropout and model != "vgg19":
            raise TurnoverError(
                "--dropout is ordinary dropout beside the masks of vgg19; leave it out"
            )
        if not 0 <= self.dropout < 1:
            raise TurnoverError(
                f"--dropout {self.dropout}: choose a rate from 0 up to, but not including, 1"
            )
        if not self.late_norm and model != "vgg19":
            raise TurnoverError(f"late_norm is about the batch norms of vgg19; {model} has none")
        if self.epochs is not None and self.epochs < 1:
            raise TurnoverError(f"--epochs {self.epochs}: choose 1 or more")
        if self.keep and self.limit is None and self.validation_limit is None:
            raise TurnoverError(
                "--keep names items that --limit and --validation-limit must not drop; there is no "
                "limit, so leave it out"
            )
        noise = DEFAULT_NOISE.get(self.data, 0.0) if self.label_noise is None else self.label_noise
        members = (
            (1 if model in DEEP_MODELS or module or self.from_layer else DEFAULT_MEMBERS[kind])
            if self.members is None
            else self.members
        )
        groups = DEFAULT_GROUPS if self.groups is None and not module else self.groups
        if members < 1:
            raise TurnoverError(f"--members {members}: choose 1 or more")
        own = replace(self.own or OwnData(), kind=kind) if is_own(self.data) else None
        source = self.source or (
            source_checksum(model)
            if module
            else file_checksum(self.weights)
            if self.weights
            else None
        )
        return replace(
            self,
            label_noise=noise,
            members=members,
            groups=groups,
            model=model,
            own=own,
            source=source,
        )

    @property
    def named_model(self) -> bool:
        """Whether resolved settings name a model that only building it can check
        (`turnover.workflows.train`).
        """
        return (
            is_torchvision(self.model)
            or is_module(self.model)
            or self.encoder != DEFAULT_ENCODER
            or self.layers is not None
        )

    @property
    def kind(self) -> str:
        """The kind of data of resolved settings: `text` or `image`."""
        if self.own:
            return self.own.kind or "text"
        from turnover.data.sources import SOURCES

        return SOURCES[self.data].kind

    @property
    def recipe(self) -> Recipe:
        """The recipe of resolved settings."""
        if is_module(self.model):
            known = OWN_RECIPE
        elif self.from_layer:
            known = FINE_TUNED_RECIPE
        else:
            known = (
                MODEL_RECIPES.get(self.model or "")
                or RECIPES.get(self.data)
                or OWN_RECIPES[self.kind]
            )
        return replace(known, seed=self.seed, epochs=self.epochs or known.epochs)


def check_image_size(settings: TrainSettings, shape: tuple[int, ...]) -> None:
    """Check that the model of resolved settings reads images of `shape`, (H, W) or (H, W, 3).

    Raises:
        TurnoverError: if it does not.
    """
    if settings.model == "vgg19" and tuple(shape) != (VGG19_SIZE, VGG19_SIZE, 3):
        raise TurnoverError(
            f"--model vgg19 reads RGB images of {VGG19_SIZE} x {VGG19_SIZE} pixels, not "
            f"{settings.data}'s; choose small-vgg"
        )
