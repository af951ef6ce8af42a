"""Models beyond the built-in ones in a new run: the fields that each needs, what is refused at the
field, and what is sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from turnover.cli import build_parser
from turnover.dashboard.runs.train_model_view import (
    NOT_OFFERED,
    SHARED,
    cleaned,
    fields_of,
    notes,
    problems,
    titles_of,
)
from turnover.dashboard.runs.train_view import (
    DEEP_TARGETS,
    TrainingRequest,
    arguments,
    problem_of,
    steps,
    usual_values,
    what_follows,
)
from turnover.data.sources import SOURCES
from turnover.models.families.own import Own
from turnover.models.families.torchvision import Torchvision
from turnover.models.names import ALLOW
from turnover.models.options import Option
from turnover.models.registry import families

pytestmark = pytest.mark.usefixtures("nothing_allowed")
NETWORK, RESNET = Torchvision.title, "torchvision:resnet18"


def some_value(own: Option) -> Any:
    """A value of an option that is not its default."""
    return {bool: not own.default, int: 9, float: 0.5, str: "some.thing"}[own.type]


@pytest.fixture
def module(tmp_path: Path) -> str:
    """A module that says so if it is run."""
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\n")
    return f"{tmp_path / 'mine.py'}:build"


@pytest.fixture
def nothing_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine that tests allows."""
    monkeypatch.delenv(ALLOW, raising=False)


@pytest.mark.parametrize("data", ["digits", "sst2", "cifar10", "files"])
def test_all_options_of_a_model_and_no_others_are_sent(
    data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(ALLOW, "mine:build")
    kind = SOURCES[data].kind if data in SOURCES else ""
    shown = {own.name: own for family in families() for own in family.options() if own.label}
    values = {name: some_value(own) for name, own in shown.items()}
    for family in titles_of(kind).values():
        if family is None:
            continue
        model = family.choices()[0]
        chosen = cleaned(values, fields_of(model, kind))
        request = TrainingRequest(data, model, "x", options=chosen)
        parsed = build_parser().parse_args(arguments(request, tmp_path))
        needed = {own.name for own in family.options(kind) if own.label}
        assert {name for name in shown if getattr(parsed, name) is not None} == needed
        assert parsed.model == model
        assert all(getattr(parsed, own.name) is None for own in SHARED)


def test_networks_are_for_images_and_own_code_only_where_it_may_be_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert NETWORK not in titles_of("text") and NETWORK in titles_of("image")
    assert NETWORK in titles_of("")
    assert not any(Own.title in titles_of(kind) for kind in ("text", "image", ""))
    monkeypatch.setenv(ALLOW, "mine:build")
    assert all(Own.title in titles_of(kind) for kind in ("text", "image", ""))


def test_own_code_that_was_not_allowed_is_refused_whatever_the_form_says(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wish = TrainingRequest("digits", module, "x")
    for allowed in ("", "another:build"):
        monkeypatch.setenv(ALLOW, allowed)
        assert problem_of(wish, tmp_path / "runs") == NOT_OFFERED
    monkeypatch.setenv(ALLOW, module)
    assert problem_of(wish, tmp_path / "runs") == "" and not (tmp_path / "was run").exists()


def test_a_module_is_named_to_both_steps_and_few_errors_are_explained(
    module: str, tmp_path: Path
) -> None:
    wish = TrainingRequest("digits", module, "x")
    trained, influence = (build_parser().parse_args(step) for step in steps(wish, tmp_path))
    assert trained.model == influence.model == module and influence.most == DEEP_TARGETS
    assert f"was started with {ALLOW}={module}, as this one, retrains it" in what_follows(wish)
    assert usual_values("digits", module, {})["members"] == "1"


@pytest.mark.parametrize(
    ("options", "members", "most"),
    [({}, "8", None), ({"from_layer": "layer4"}, "1", DEEP_TARGETS)],
)
def test_a_network_trained_from_a_layer_on_is_deep(
    options: dict[str, Any], members: str, most: int | None, tmp_path: Path
) -> None:
    wish = TrainingRequest("digits", RESNET, "x", options=options)
    assert (
        usual_values("digits", RESNET, options)["members"] == members
        and problem_of(wish, tmp_path) == ""
    )
    assert build_parser().parse_args(steps(wish, tmp_path)[1]).most == most
    start = " --from-layer layer4" if options else ""
    assert wish.title == f"Train x: digits, torchvision:resnet18{start}"


@pytest.mark.parametrize(
    ("model", "options", "field", "words"),
    [
        ("heads", {"encoder": "/nowhere/<b>"}, "encoder", "no such folder"),
        ("heads", {"encoder": "."}, "encoder", "the folder lacks config.json"),
        (RESNET, {"weights": "/nowhere"}, "weights", "no such file"),
        (
            RESNET,
            {"weights": "~nobody-here/w"},
            "weights",
            "nobody here has this home folder",
        ),
        (RESNET, {"weights": __file__, "pretrained": True}, "weights", "exclude each other"),
        ("heads", {"encoder": "x" * 5000}, "encoder", "File name too long"),
        (RESNET, {"from_layer": "--pretrained"}, "from_layer", "letters, digits and dots"),
        ("vgg19", {"dropout": 1.5}, "dropout", "choose a number from 0 up to"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    model: str, options: dict[str, Any], field: str, words: str, tmp_path: Path
) -> None:
    assert words in problems(model, options, "image")[field]
    assert words in problem_of(TrainingRequest("cifar10", model, "x", options=options), tmp_path)


def test_a_file_of_code_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(ALLOW, "/nowhere.py:build")
    request = TrainingRequest("digits", "/nowhere.py:build", "x")
    assert problem_of(request, tmp_path) == "/nowhere.py: no such file; check the path."


def test_weights_of_torchvision_are_said_to_be_downloaded() -> None:
    assert "Downloaded" in notes(RESNET, {"pretrained": True})["pretrained"]
    assert notes(RESNET, {}) == {}
