"""*New run* on the Runs page in every state, run in process; the check is the engine's."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.helpers.fake_jobs import at_work, fake_job
from tests.helpers.fake_runs import FakeRun
from tests.pages.app_testing import OpenPage, html_of
from turnover.dashboard import engine
from turnover.dashboard.runs import new_run
from turnover.models.families.own import Own
from turnover.models.families.torchvision import Torchvision
from turnover.models.names import ALLOW

pytestmark = pytest.mark.usefixtures("fresh")
FILES, HUB = "Your own file", "A data set of the hub"
NETWORK = Torchvision.title
WRONG = '<p class="to-quiet to-wrong-field">'


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine that tests allows."""
    monkeypatch.delenv(ALLOW, raising=False)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would have been started."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(new_run, "start_job", lambda *arguments: calls.append(arguments))
    return calls


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have looked at data; each would have taken too long."""
    asked: list[list[str]] = []

    def answer_of(command: list[str]) -> dict[str, Any]:
        asked.append(command)
        raise engine.TookTooLong("no answer; give the command in a terminal")

    monkeypatch.setattr(new_run, "answer_of", answer_of)
    return asked


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twenty texts of two classes, one of them twice, one without a label; the classes' names are
    markup.
    """
    rows = [
        f"{text} {row // 2},{label}"
        for row in range(20)
        for text, label in [(("fine", "<b>good</b>"), ("dull", "bad"))[row % 2]]
    ]
    (tmp_path / "films.csv").write_text(
        "\n".join(["review,verdict", *rows, rows[0], "no label,", ""])
    )
    return tmp_path / "films.csv"


def open_form(open_page: OpenPage, **query: str) -> AppTest:
    return open_page("runs", view="New run", **query)


def on_files(table: Path, **query: str) -> dict[str, str]:
    return {"own-train": str(table), "own-label-column": "verdict", **query}


def button(app: AppTest, label: str) -> Any:
    return next(one for one in app.button if one.label == label)


def press_start(app: AppTest) -> None:
    button(app, "Start training").click().run()
    assert not app.exception


def test_before_there_is_any_run_the_form_is_shown_and_nothing_is_wrong_yet(
    open_page: OpenPage,
) -> None:
    app = open_page("runs")
    shown = html_of(app)
    assert app.segmented_control(key="view").value == "New run" and "No runs yet" in shown
    assert "the model follow from the data" in shown and 'role="alert"' not in shown
    assert not [one for one in app.button if one.label in ("Start training", "Check again")]


def test_data_are_looked_at_at_once_and_the_model_follows_them(
    open_page: OpenPage, table: Path, started: list[Any], runs: Path
) -> None:
    """From a data set of images, whose model was shown, to a file of texts."""
    app = open_form(open_page, **{"train-data": "digits"})
    assert "1,200 training and 597 validation images in 10 classes." in html_of(app)
    assert app.dataframe[0].value["Training items"].sum() == 1200
    assert app.selectbox(key="train-model").value == "small-vgg"
    app.selectbox(key="train-data").select(FILES).run()
    app.text_input(key="own-train").set_value(str(table)).run()
    app.text_input(key="own-label-column").set_value("verdict").run()
    shown = html_of(app)
    assert "films.csv: text from column review (inferred), label from column verdict" in shown
    assert "films.csv, row 22: no label; 1 row skipped for that" in shown
    assert "no validation items were named: " in shown and "<b>good" not in shown
    assert list(app.dataframe[0].value["Class"]) == ["<b>good</b>", "bad"]
    assert app.selectbox(key="train-model").value == "heads" and WRONG not in shown
    assert "small-vgg" not in app.selectbox(key="train-model").options
    press_start(app)
    ((folder, steps, label),) = started
    assert folder == runs and label == "Train films-1: Your own file, heads"
    assert steps[0][:3] == ["train", "--train", str(table)] and "small-vgg" not in steps[0]
    assert steps[1] == ["influence", "--run", str(runs / "films-1")]
    assert list(runs.iterdir()) == []


def test_an_upload_is_kept_with_the_runs_and_found_again(
    open_page: OpenPage, table: Path, runs: Path
) -> None:
    app = open_form(open_page)
    app.file_uploader[0].upload("my films.csv", table.read_bytes()).run()
    path = Path(app.text_input(key="own-train").value)
    assert path.parents[1] == runs / ".uploads" and path.name == "my-films.csv"
    assert path.read_bytes() == table.read_bytes()
    assert "my-films.csv: " in html_of(app) and ".uploads" not in html_of(app)
    assert app.text_input(key="train-name").placeholder == "my-films-1"
    app = open_form(open_page)
    before = app.selectbox(key="train-uploaded")
    before.select(before.options[0]).run()
    assert app.text_input(key="own-train").value == str(path)


def test_start_checks_all_settings_and_says_what_the_data_refuse(
    open_page: OpenPage, started: list[Any]
) -> None:
    app = open_form(open_page, **{"train-data": "digits", "train-limit": "5000"})
    press_start(app)
    assert "This cannot be trained" in html_of(app) and not started
    assert "choose a number from 2 to the 1200 training items" in html_of(app)
    app.number_input(key="train-limit").set_value(100).run()
    assert "This cannot be trained" not in html_of(app)


def test_data_that_cannot_be_trained_on_offer_no_model(open_page: OpenPage, table: Path) -> None:
    app = open_form(open_page, **on_files(table, **{"own-validation": str(table.parent)}))
    assert "This cannot be trained" in html_of(app)
    assert "no folders with images in it" in html_of(app)
    assert not [one for one in app.button if one.label == "Start training"]
    app.text_input(key="own-validation").set_value("").run()
    assert "This cannot be trained" not in html_of(app)
    assert button(app, "Start training") and button(app, "Check again")


def test_a_start_shows_the_curves_of_the_training(
    open_page: OpenPage, started: list[Any], runs: Path
) -> None:
    FakeRun().write(runs)
    app = open_form(open_page, **{"train-data": "reviews", "train-name": "mine"})
    step = ["train", "--data", "reviews", "--run", str(runs / "mine")]
    with at_work(fake_job(runs, [step], "Train mine", begun=True)):
        press_start(app)
        assert started and app.segmented_control(key="view").value == "Curves"
        assert app.selectbox(key="training").value == "mine"
        assert "It has not begun yet." in html_of(app)


def test_data_that_take_long_are_trained_on_and_their_job_says_what_is_wrong(
    open_page: OpenPage, table: Path, started: list[Any], unread: list[list[str]]
) -> None:
    app = open_form(open_page, **on_files(table))
    assert "Looking at the data takes long" in html_of(app)
    assert app.selectbox(key="train-model").value == "what suits the data"
    press_start(app)
    assert [label for _, _, label in started] == [
        "Train films-1: Your own file, what suits the data"
    ]


def test_a_command_that_takes_too_long_is_shown_as_a_terminal_takes_it() -> None:
    asked = ["train", "--train", "my $(films).csv"]
    with pytest.raises(engine.TookTooLong) as told:
        engine.answer_of(asked, seconds=0.01)
    assert shlex.split(str(told.value).split("`")[1])[1:] == asked


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"train-data": "reviews", "train-name": "../up"}, "A run&#x27;s name has letters"),
        ({"train-data": "imdb-checks"}, "Name the folder"),
        (
            {"own-train": "/nowhere/<b>x</b>"},
            "/nowhere/&lt;b&gt;x&lt;/b&gt;: no such file or folder",
        ),
        ({"train-data": HUB, "own-hub": "a b"}, "write hub:NAME"),
    ],
)
def test_what_is_wrong_at_sight_is_said_at_its_field_and_nothing_can_start(
    open_page: OpenPage, query: dict[str, str], words: str
) -> None:
    app = open_form(open_page, **query)
    assert WRONG in html_of(app) and words in html_of(app) and "<b>x" not in html_of(app)
    assert all(one.disabled for one in app.button if one.label == "Start training")


def test_other_data_have_other_models(open_page: OpenPage, unread: list[list[str]]) -> None:
    app = open_form(open_page, **{"train-data": "digits", "train-model": "vgg19"})
    assert app.selectbox(key="train-model").value == "vgg19"
    app.selectbox(key="train-data").select("sst2").run()
    assert not app.exception and app.selectbox(key="train-model").value == "heads"
    assert app.text_input(key="train-path").placeholder == "Empty: from the hub"
    assert not [one for one in app.text_input if (one.key or "").startswith("own-")]


def test_data_of_the_hub_are_looked_at_only_when_asked_to(
    open_page: OpenPage, unread: list[list[str]], started: list[Any]
) -> None:
    app = open_form(open_page, **{"train-data": HUB, "own-hub": "a/b:c", "own-train-split": "s"})
    assert not unread
    button(app, "Check the data").click().run()
    assert unread[0][:5] == ["train", "--data", "hub:a/b:c", "--train-split", "s"]
    press_start(app)
    assert started[0][2].startswith("Train a-b-c-1: hub:a/b:c")


def test_a_network_of_torchvision_from_the_url(
    open_page: OpenPage, started: list[Any], unread: list[list[str]]
) -> None:
    query = {
        "train-data": "digits",
        "train-model": NETWORK,
        "train-named": "torchvision:vgg19_bn",
        "train-from-layer": "classifier",
        "train-pretrained": "true",
    }
    app = open_form(open_page, **query)
    assert "Downloaded from PyTorch" in html_of(app)
    assert app.number_input(key="train-members").placeholder == "1"
    press_start(app)
    sent = ["--model", "torchvision:vgg19_bn", "--pretrained", "--from-layer", "classifier"]
    assert started[0][1][0][:8] == ["train", "--data", "digits", *sent]


def test_another_family_starts_with_its_own_first_choice(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, unread: list[list[str]]
) -> None:
    monkeypatch.setenv(ALLOW, "mine:build")
    query = {"train-data": "digits", "train-model": NETWORK}
    app = open_form(open_page, **query, **{"train-named": "torchvision:vgg19_bn"})
    assert app.selectbox(key="train-named").value == "torchvision:vgg19_bn"
    app.selectbox(key="train-model").set_value(Own.title).run()
    assert not app.exception and app.selectbox(key="train-named").value == "mine:build"


def test_an_encoder_of_the_hub_is_said_to_be_downloaded_and_one_that_cannot_be_is_refused(
    open_page: OpenPage, unread: list[list[str]]
) -> None:
    app = open_form(
        open_page,
        **{"train-data": "reviews", "train-model": "adapters", "train-encoder": "nobody/nothing"},
    )
    assert "asks the Hugging Face hub" in html_of(app)
    assert app.number_input(key="train-layers").placeholder == "all"
    app.text_input(key="train-encoder").set_value("/nowhere/<b>x</b>").run()
    assert WRONG in html_of(app) and "<b>x" not in html_of(app)
    assert "asks the Hugging Face hub" not in html_of(app)
    assert button(app, "Start training").disabled


@pytest.fixture
def module(tmp_path: Path) -> str:
    """A module that says so if it is run."""
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\n")
    return f"{tmp_path / 'mine.py'}:build"


def test_own_code_is_chosen_among_what_was_allowed_and_a_link_names_no_other(
    open_page: OpenPage,
    monkeypatch: pytest.MonkeyPatch,
    started: list[Any],
    unread: list[list[str]],
    module: str,
) -> None:
    monkeypatch.setenv(ALLOW, f"{module}, mine:build")
    query = {"train-data": "digits", "train-model": Own.title, "train-named": "evil.py:build"}
    app = open_form(open_page, **query)
    named = app.selectbox(key="train-named")
    assert named.options == [module, "mine:build"] and named.value == module
    assert WRONG not in html_of(app) and "is offered if" not in html_of(app)
    assert not [one for one in app.number_input if one.key == "train-groups"]
    press_start(app)
    steps = started[0][1]
    assert steps[0][3:5] == steps[1][-2:] == ["--model", module]
    assert not (Path(module).parent / "was run").exists()


@pytest.mark.parametrize("allowed", [None, "", "resnet18,torchvision:resnet18"])
def test_own_code_is_not_offered_unless_the_dashboard_was_started_with_it(
    open_page: OpenPage,
    monkeypatch: pytest.MonkeyPatch,
    unread: list[list[str]],
    allowed: str | None,
) -> None:
    if allowed is not None:
        monkeypatch.setenv(ALLOW, allowed)
    query = {"train-data": "digits", "train-model": Own.title, "train-named": "evil.py:build"}
    app = open_form(open_page, **query)
    model = app.selectbox(key="train-model")
    assert Own.title not in model.options and model.value == "small-vgg"
    assert f"if the dashboard is started with {ALLOW}=" in html_of(app)
    assert not [one for one in app.selectbox if one.key == "train-named"]


FIELDS = (
    ("runs", "train-seed"),
    ("runs", "train-members"),
    ("runs", "train-label-noise"),
    ("cleanse", "share"),
    ("cleanse", "repeats"),
)


@pytest.mark.parametrize("value", ["1" + "0" * 400, "-1e999", "inf", "nan"])
@pytest.mark.parametrize(("page", "field"), FIELDS)
def test_a_number_in_the_url_that_no_float_holds_is_ignored_or_told_of(
    open_page: OpenPage,
    runs: Path,
    unread: list[list[str]],
    page: str,
    field: str,
    value: str,
) -> None:
    FakeRun().write(runs)
    app = open_page(page, **{"view": "New run", "train-data": "digits", field: value})
    assert app.title[0].value.casefold() == page
    assert page == "cleanse" or app.button or "This address cannot be read" in html_of(app)
