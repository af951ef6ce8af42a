"""The settings of a run, and the families of models that they choose from. Needs no torch, so
pages can check them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from turnover.data.recipe import OWN, Recipe, Source
from turnover.data.sources import SOURCES
from turnover.data.tables.spec import OwnData, is_own
from turnover.errors import TurnoverError
from turnover.models import families as package
from turnover.models.family import Family, Reader
from turnover.models.options import Option, flag_of, option, options_of

if TYPE_CHECKING:
    import torch

    from turnover.attribution.ensemble import Members

# Families


def families(kind: str = "") -> tuple[type[Family], ...]:
    """The families for data of a kind, all by default: the default model first, the user's code
    last.
    """
    return tuple(
        sorted(
            (each for each in _defined(*package.__path__) if not kind or kind in each.kinds),
            key=lambda each: kind not in each.default_for if kind else not each.default_for,
        )
    )


@cache
def _defined(*folders: str) -> list[type[Family]]:
    """The families that the modules in these folders of the package define."""
    modules = [
        import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(folders)
    ]
    defined = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Family)
        and value.__module__ == module.__name__
    ]
    return sorted(defined, key=lambda family: (family.code, family.name))


def find_family(model: str) -> type[Family] | None:
    """The family that a value of `--model` names, if there is one."""
    return next((family for family in families() if family.matches(model)), None)


def family_options() -> dict[str, Option]:
    """The options of all families by name."""
    return {entry.name: entry for family in reversed(families()) for entry in family.options()}


def families_with(name: str, kind: str = "") -> list[str]:
    """The names of the families that have an option for data of a kind."""
    return [
        family.name
        for family in families(kind)
        if any(entry.name == name for entry in family.options(kind))
    ]


def source_of(data: str, kind: str) -> Source:
    """The data source of the settings' `data`, or that of a user's own data of this kind."""
    return SOURCES.get(data, OWN[kind])


# Settings


@dataclass(frozen=True)
class TrainSettings:
    """What a user chooses; None means the data set's or the model's own default.

    `options` are those of the model's family, by name. `keep` names a file of near duplicates
    (`turnover.data.sources.images`) that limits must not drop. `own` names the files or splits to
    read where `data` is `files` or `hub:NAME`. Resolved settings have every default filled in, the
    `kind` of the data, `text` or `image`, and `source`, the SHA-256 of a file that the family reads
    (`Family.checksum`).
    """

    data: str
    path: str | None = option(
        None,
        "folder with the files of data that are not built in; without it: the hub (not "
        "imdb-checks)",
        "DIR",
    )
    limit: int | None = option(
        None,
        "train on N training items, drawn at random by the seed",
        "N",
        label="Training items",
        empty="all",
        least=2,
    )
    validation_limit: int | None = option(
        None,
        "validate on N validation items, drawn at random by the seed",
        "N",
        label="Validation items",
        empty="all",
        least=1,
    )
    label_noise: float | None = option(
        None,
        "make this share of training labels wrong on purpose (default: digits .05, else 0)",
        "F",
        label="Share of labels to spoil on purpose, for tests",
        least=0,
        below=1,
    )
    members: int | None = option(
        None,
        "models with masks of their own, trained together (default: texts 16, images 8, deep "
        "models 1)",
        "K",
        label="Members",
        least=1,
        most=256,
    )
    seed: int = option(
        0,
        "seed of masks, initialisation, batches and label noise (default 0)",
        "S",
        label="Seed",
        least=0,
        most=2**31 - 1,
    )
    model: str | None = None
    epochs: int | None = option(
        None,
        "train for at most N epochs (default: the model's or the data set's own)",
        "N",
        label="Epochs at most",
        least=1,
        most=1000,
    )
    keep: str | None = option(
        None,
        "near duplicates that the limits must not drop: a CSV with test_index and train_index, or "
        "its folder",
        "FILE",
        needs=("limit", "validation_limit"),
    )
    own: OwnData | None = None
    source: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""

    @classmethod
    def of(cls, data: str, **chosen: Any) -> TrainSettings:
        """Settings from shared ones and options of a family, which are told apart by their
        names.
        """
        own = chosen.get("own")
        if isinstance(own, Mapping):
            chosen["own"] = OwnData(**own)
        shared = {name: chosen.pop(name) for name in _SHARED if name in chosen}
        return cls(data, **shared, options=chosen)

    @classmethod
    def read(cls, saved: Mapping[str, Any], kind: str) -> TrainSettings:
        """The resolved settings of a run, from its manifest; older ones have all families' options.

        Raises:
            TurnoverError: if they are of a version that knows other ones.
        """
        model = str(saved.get("model") or families(kind)[0].name)
        family = find_family(model)
        unknown = {*saved} - {*_SHARED, *family_options(), "data"}
        if family is None or unknown:
            what = f"model {model!r}" if family is None else f"setting {min(unknown)!r}"
            raise TurnoverError(
                f"the run's {what} is unknown to this version of turnover; open the run with the "
                "version that made it"
            )
        shared = {name: saved[name] for name in _SHARED if name in saved} | {"model": model}
        options = {
            entry.name: saved.get(
                entry.name, entry.default if entry.before is None else entry.before
            )
            for entry in family.options(kind)
        }
        return replace(cls.of(saved.get("data", ""), **shared), options=options, kind=kind)

    @property
    def saved(self) -> dict[str, Any]:
        """What a run's manifest keeps: one flat object."""
        chosen = asdict(self)
        options = chosen.pop("options")
        del chosen["kind"]
        return {**chosen, **options}

    def resolved(self, kind: str) -> TrainSettings:
        """The settings with every default filled in, for data of this kind.

        Raises:
            TurnoverError: if the settings do not fit together.
        """
        family = self._family(kind)
        model = self.model or family.name
        mine = family.options(kind)
        chosen = {name: value for name, value in self.options.items() if value is not None}
        for name in chosen:
            if name not in {entry.name for entry in mine}:
                raise TurnoverError(_misplaced(name, model, kind))
        for entry in (*options_of(TrainSettings), *mine):
            entry.check({**vars(self), **chosen})
        made, usual = family(**chosen).fitted(kind), source_of(self.data, kind)
        return replace(
            self,
            label_noise=usual.label_noise if self.label_noise is None else self.label_noise,
            members=self.members or (1 if made.deep else usual.members),
            model=model,
            own=replace(self.own or OwnData(), kind=kind) if is_own(self.data) else None,
            source=self.source or made.checksum(model),
            options={entry.name: getattr(made, entry.name) for entry in mine},
            kind=kind,
        )

    def _family(self, kind: str) -> type[Family]:
        """The family of the model, for data of this kind."""
        family = find_family(self.model) if self.model else families(kind)[0]
        if family is None or kind not in family.kinds:
            *known, last = (family.name for family in families(kind))
            raise TurnoverError(
                f"--model {self.model}: {self.data} is {kind} data; choose one of "
                f"{', '.join(known)}, or {last} of your own"
            )
        return family

    @property
    def family(self) -> Family:
        """The family of resolved settings, with its options."""
        return self._family(self.kind)(**self.options)

    def with_family(self, family: Family) -> TrainSettings:
        """The settings with other options of the same family."""
        return replace(self, options={name: getattr(family, name) for name in self.options})

    @property
    def recipe(self) -> Recipe:
        """The recipe of resolved settings."""
        known = self.family.recipe or source_of(self.data, self.kind).recipe
        return replace(
            self.family.trained_by(known), seed=self.seed, epochs=self.epochs or known.epochs
        )

    @property
    def reads(self) -> str:
        """What the model of resolved settings reads: `features`, `tokens` or `pixels`."""
        return self.family.reads(self)

    def reader(self, device: torch.device) -> Reader:
        """What makes the inputs of the model of resolved settings. Errors as `Family.reader`."""
        return self.family.reader(self, device)

    def build(self, classes: int, shape: tuple[int, ...]) -> Members:
        """The K-member model of resolved settings, for inputs of `shape`: (D,) features, (T,)
        tokens, or (C, H, W) images.
        """
        return self.family.build(self, classes, shape)


_SHARED = tuple(
    field.name for field in fields(TrainSettings) if field.name not in ("data", "options", "kind")
)


def _misplaced(name: str, model: str, kind: str) -> str:
    """Why an option cannot be given with a model."""
    others = families_with(name, kind) or families_with(name)
    if not others:
        return f"{flag_of(name)}: there is no such option; correct the name"
    flag = family_options()[name].flag
    return f"{flag} is for {', '.join(others)}, not {model}; leave it out"
