"""Models beyond the built-in ones on the Train page: the fields that each needs, what is refused at
the field, and what is sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.app_testing import OpenPage, html_of
from turnover.cli import build_parser
from turnover.dashboard.components import train_form
from turnover.dashboard.views.train import (
    DEEP_TARGETS,
    SUITS,
    TrainingRequest,
    arguments,
    models_of,
    problem_of,
    steps,
    usual_values,
    what_follows,
)
from turnover.dashboard.views.train_model import (
    MODULE,
    NETWORK,
    NOT_OFFERED,
    OF_FILE,
    PRETRAINED,
    Details,
    cleaned,
    fields_of,
    notes,
    problems,
)
from turnover.models.names import ALLOW

pytestmark = pytest.mark.usefixtures("fresh", "nothing_allowed")
FULL = Details("some/encoder", 2, "resnet18", OF_FILE, "/w.safetensors", "layer4", "/mine.py:build")
WRONG = '<p class="to-quiet to-wrong-field">'
OPTIONS = {
    "encoder": "encoder",
    "layers": "layers",
    "weights": "weights",
    "from_layer": "from_layer",
}


@pytest.fixture
def module(tmp_path: Path) -> str:
    """A module that says so if it is run."""
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\n")
    return f"{tmp_path / 'mine.py'}:build"


@pytest.fixture
def nothing_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine that tests allows."""
    monkeypatch.delenv(ALLOW, raising=False)


# Views


@pytest.mark.parametrize("data", ["digits", "sst2", "cifar10", "files"])
def test_only_what_a_model_needs_is_sent(data: str, tmp_path: Path) -> None:
    kind = {"digits": "image", "cifar10": "image", "sst2": "text", "files": ""}[data]
    for model in models_of(data, own_code=True):
        if model == SUITS:
            continue
        sent = build_parser().parse_args(
            arguments(
                TrainingRequest(data, model, "x", details=cleaned(FULL, model, kind)), tmp_path
            )
        )
        needed = fields_of(model, kind)
        assert {name for name, option in OPTIONS.items() if getattr(sent, option)} == set(
            needed
        ) & set(OPTIONS)
        assert sent.model == {NETWORK: "torchvision:resnet18", MODULE: "/mine.py:build"}.get(
            model, model
        )
        assert not sent.pretrained and (sent.groups is None) == (model == MODULE)


def test_weights_of_a_file_are_not_sent_with_others(tmp_path: Path) -> None:
    details = cleaned(
        Details(network="resnet18", source=PRETRAINED, weights="/w.safetensors"), NETWORK, "image"
    )
    sent = build_parser().parse_args(
        arguments(TrainingRequest("digits", NETWORK, "x", details=details), tmp_path)
    )
    assert sent.pretrained and sent.weights is None and problems(NETWORK, details) == {}
    assert "Downloaded" in notes(details)["source"]


def test_networks_are_for_images_and_own_code_only_where_it_may_be_run() -> None:
    assert (
        NETWORK not in models_of("sst2")
        and NETWORK in models_of("digits")
        and NETWORK in models_of("files")
    )
    assert all(
        MODULE in models_of(data, own_code=True) and MODULE not in models_of(data)
        for data in ("sst2", "digits", "files")
    )


def test_own_code_that_was_not_allowed_is_refused_whatever_the_form_says(
    module: str, tmp_path: Path
) -> None:
    wish = TrainingRequest("digits", MODULE, "x", details=Details(module=module))
    assert (
        problem_of(wish, tmp_path / "runs")
        == problem_of(wish, tmp_path / "runs", ["another:build"])
        == NOT_OFFERED
    )
    assert (
        problem_of(wish, tmp_path / "runs", [module]) == "" and not (tmp_path / "was run").exists()
    )


def test_a_module_is_named_to_both_steps_and_few_errors_are_explained(
    module: str, tmp_path: Path
) -> None:
    wish = TrainingRequest("digits", MODULE, "x", details=Details(module=module))
    trained, influence = (build_parser().parse_args(step) for step in steps(wish, tmp_path))
    assert trained.model == influence.model == module and influence.most == DEEP_TARGETS
    assert f"was started with {ALLOW}={module}, as this one, retrains it" in what_follows(wish)
    assert usual_values("digits", MODULE)["members"] == "1"


@pytest.mark.parametrize(
    ("first", "members", "most"), [("", "8", None), ("layer4", "1", DEEP_TARGETS)]
)
def test_a_network_trained_from_a_layer_on_is_deep(
    first: str, members: str, most: int | None, tmp_path: Path
) -> None:
    details = Details(network="resnet18", from_layer=first)
    wish = TrainingRequest("digits", NETWORK, "x", details=details)
    assert (
        usual_values("digits", NETWORK, details)["members"] == members
        and problem_of(wish, tmp_path) == ""
    )
    assert build_parser().parse_args(steps(wish, tmp_path)[1]).most == most
    assert wish.title == f"Train x: digits, torchvision:resnet18{' from layer4' if first else ''}"


@pytest.mark.parametrize(
    ("model", "details", "field", "words"),
    [
        ("heads", Details(encoder="/nowhere/<b>"), "encoder", "no such folder"),
        ("heads", Details(encoder="."), "encoder", "the folder lacks config.json"),
        (
            NETWORK,
            Details(network="resnet18", source=OF_FILE),
            "weights",
            "Name the safetensors file",
        ),
        (
            NETWORK,
            Details(network="resnet18", source=OF_FILE, weights="/nowhere"),
            "weights",
            "no such file",
        ),
        (
            NETWORK,
            Details(network="resnet18", source=OF_FILE, weights="~nobody-here/w"),
            "weights",
            "nobody here has this home folder",
        ),
        ("heads", Details(encoder="x" * 5000), "encoder", "File name too long"),
        (
            NETWORK,
            Details(network="resnet18", from_layer="--pretrained"),
            "from_layer",
            "A layer's name has letters",
        ),
        (
            MODULE,
            Details(module="/nowhere.py:build"),
            "module",
            "/nowhere.py: no such file; check the path.",
        ),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    model: str, details: Details, field: str, words: str, tmp_path: Path
) -> None:
    assert words in problems(model, details)[field] and words in problem_of(
        TrainingRequest("digits", model, "x", details=details), tmp_path, [details.module]
    )


# The page


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been started, all that is checked being right."""
    calls: list[Any] = []
    monkeypatch.setattr(train_form, "start_job", lambda runs, steps, title: calls.append(steps))
    monkeypatch.setattr(train_form, "_checked", lambda wish, runs: True)
    return calls


def press_start(app: AppTest) -> None:
    next(one for one in app.button if one.label == "Start training").click().run()
    assert not app.exception


def test_a_network_of_torchvision_from_the_url(open_page: OpenPage, started: list[Any]) -> None:
    query = {
        "train-model": NETWORK,
        "train-network": "vgg19_bn",
        "train-from-layer": "classifier",
        "train-weights": PRETRAINED,
    }
    app = open_page("train", **query)
    assert (
        "Downloaded from PyTorch" in html_of(app)
        and app.number_input(key="train-members").placeholder == "1"
    )
    press_start(app)
    assert started[0][0][:9] == [
        "train",
        "--data",
        "digits",
        "--model",
        "torchvision:vgg19_bn",
        "--from-layer",
        "classifier",
        "--pretrained",
        "--groups",
    ]


def test_an_encoder_of_the_hub_is_said_to_be_downloaded_and_one_that_cannot_be_is_refused(
    open_page: OpenPage,
) -> None:
    app = open_page(
        "train",
        **{"train-data": "reviews", "train-model": "adapters", "train-encoder": "nobody/nothing"},
    )
    assert (
        "asks the Hugging Face hub" in html_of(app)
        and app.number_input(key="train-layers").placeholder == "all"
    )
    app.text_input(key="train-encoder").set_value("/nowhere/<b>x</b>").run()
    assert (
        WRONG in html_of(app)
        and "<b>x" not in html_of(app)
        and "asks the Hugging Face hub" not in html_of(app)
    )
    assert next(one for one in app.button if one.label == "Start training").disabled


def test_own_code_is_chosen_among_what_was_allowed_and_a_link_names_no_other(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, started: list[Any], module: str
) -> None:
    monkeypatch.setenv(ALLOW, f"{module}, mine:build")
    app = open_page("train", **{"train-model": MODULE, "train-module": "evil.py:build"})
    assert (
        app.selectbox(key="train-module").options == [module, "mine:build"]
        and app.selectbox(key="train-module").value == module
    )
    assert (
        WRONG not in html_of(app)
        and "is offered if" not in html_of(app)
        and not [one for one in app.selectbox if one.key == "train-groups"]
    )
    press_start(app)
    assert started[0][0][3:5] == started[0][1][-2:] == ["--model", module]


@pytest.mark.parametrize("allowed", [None, "", "resnet18,torchvision:resnet18"])
def test_own_code_is_not_offered_unless_the_dashboard_was_started_with_it(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, allowed: str | None
) -> None:
    if allowed is not None:
        monkeypatch.setenv(ALLOW, allowed)
    app = open_page("train", **{"train-model": MODULE, "train-module": "evil.py:build"})
    assert (
        MODULE not in app.selectbox(key="train-model").options
        and app.selectbox(key="train-model").value == "small-vgg"
    )
    assert f"if the dashboard is started with {ALLOW}=" in html_of(app) and not [
        one for one in app.selectbox if one.key == "train-module"
    ]
