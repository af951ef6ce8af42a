"""The house's rules, read from the import graph: what may import what, what loads without torch,
and no code in data.
"""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import turnover
from tests.helpers.builders import CORE, ROOT, run_python
from tests.helpers.fake_runs import FakeRun

DASHBOARD, TESTS = ROOT / "dashboard", ROOT / "tests"
PAGES = ("errors", "training_data", "cleanse", "runs", "shared")
HEAVY = {"torch", "torchvision", "transformers"}
ABOVE = {
    "core": {"streamlit", "plotly", "dashboard", "tests"},
    "dashboard": {*HEAVY, "sklearn", "scipy", "datasets"},
    **{
        f"dashboard/{room}": {"turnover.dashboard.app", "turnover.dashboard.app_pages"}
        for room in PAGES
    },
}
"""What the code below a folder never imports."""
IMPURE = {
    *HEAVY,
    *("streamlit", "plotly"),
    *(f"turnover.dashboard.{part}" for part in ("app", "app_pages", "state", "engine")),
}
"""What a view of a page never imports."""
ROOMS = (
    *(
        "errors",
        "storage",
        "attribution",
        "data",
        "models",
        "training",
        "runs",
        "jobs",
        "flags",
        "explain",
        "workflows",
    ),
    *("research.baselines", "research.evaluate", "research.paper", "research.bench", "cli"),
)
"""The rooms of the engine: each imports only those before it."""
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
RUNS_CODE = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "yaml.load",
    "pd.eval",
    "torch.jit.load",
    "torch.hub.load",
}
RUNS_CODE |= {"torch.load", "torch.save", "pd.read_pickle"}
NAMED_BY_THE_USER = {"core/models/names.py": ["exec", "compile"]}
ASSERTS = ("assert", "check", "pytest.raises", "pytest.warns", "expect(")
UNSAFE_HTML = ("unsafe_allow_html", "unsafe_allow_javascript", "use_container_width", "st.write(")
UNSAFE_SCRIPT = ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function(")
FAMILIES = sorted((CORE / "models" / "families").glob("[a-z]*.py"))
LIGHT = tuple(
    f"turnover{part}"
    for part in (
        *(
            "",
            ".errors",
            ".storage.atomic",
            ".storage.progress",
            ".storage.artifacts",
            ".runs.run",
            ".runs.maps",
            ".runs.ranking",
        ),
        *(
            ".runs.plan",
            ".flags",
            ".jobs",
            ".explain.flips",
            ".explain.report",
            ".attribution.estimators.estimator",
        ),
        *(
            ".models.names",
            ".models.registry",
            ".models.encoders",
            *(f".models.families.{file.stem}" for file in FAMILIES),
            ".workflows.cleansing_results",
            ".data.tables",
            ".data.tables.checks",
            ".data.images",
        ),
    )
)
"""Parts that pages need in the first second."""


def modules(folder: Path) -> dict[str, ast.Module]:
    """The code below a folder, by place."""
    found = {
        str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.py"))
    }
    assert found, folder
    return found


def imported(tree: ast.AST) -> set[str]:
    """Full names of all modules that some code imports, at its top or inside."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{name.name}" for name in node.names)}
    return names


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str, dict[str | None, str]]]:
    """All calls, with the name of what is called and the options that are given by name."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        yield (
            call,
            ast.unparse(call.func),
            {option.arg: ast.unparse(option.value) for option in call.keywords},
        )


def code_at_risk(tree: ast.AST) -> list[str]:
    """Calls that could run what was read."""
    found = []
    for _, name, options in calls(tree):
        safe = name == "torch.load" and options.get("weights_only") == "True"
        risky = (name in RUNS_CODE and not safe) or name.endswith(".to_pickle")
        risky |= any(
            options.get(option, "False") != "False"
            for option in ("shell", "allow_pickle", "trust_remote_code")
        )
        careless = (name == "np.load" and "allow_pickle" not in options) or (
            name == "AutoModel.from_pretrained" and options.get("use_safetensors") != "True"
        )
        found += [name] if risky or careless else []
    return found


@pytest.mark.parametrize("folder", ABOVE)
def test_arrows_run_one_way(folder: str) -> None:
    for place, tree in modules(ROOT / folder).items():
        wrong = {
            name
            for name in imported(tree)
            if any(name == above or name.startswith(f"{above}.") for above in ABOVE[folder])
        }
        assert not wrong, place


def test_every_view_of_a_page_is_pure() -> None:
    views = {place: tree for place, tree in modules(DASHBOARD).items() if "_view.py" in place}
    assert views
    for place, tree in views.items():
        wrong = {
            name
            for name in imported(tree)
            if any(name == above or name.startswith(f"{above}.") for above in IMPURE)
            or (name.startswith("turnover.dashboard.") and "_view" not in name)
        }
        assert not wrong, place


@pytest.mark.parametrize("room", PAGES)
def test_a_page_imports_of_the_dashboard_what_all_share_and_no_other_page(room: str) -> None:
    others = [f"turnover.dashboard.{other}" for other in PAGES if other not in (room, "shared")]
    for place, tree in modules(DASHBOARD / room).items():
        assert not {name for name in imported(tree) if name.startswith(tuple(others))}, place


def test_each_room_of_the_engine_imports_only_those_before_it() -> None:
    for number, room in enumerate(ROOMS):
        below = ROOMS[number + 1 :]
        found = modules(CORE / room.replace(".", "/")) if room != "errors" else {}
        for place, tree in found.items():
            names = {
                name.removeprefix("turnover.")
                for name in imported(tree)
                if name.startswith("turnover.")
            }
            assert not {
                name
                for name in names
                for later in below
                if name == later or name.startswith(f"{later}.")
            }, place
    folders = {path.parent for path in CORE.rglob("*.py")} - {CORE, CORE / "research"}
    assert all(
        any(folder.is_relative_to(CORE / room.replace(".", "/")) for room in ROOMS)
        for folder in folders
    )


def test_no_data_is_ever_run_as_code() -> None:
    """Neither by Python nor by a shell, nor unpickled, nor code that comes with a model; but for a
    module that the user names.
    """
    for folder in (CORE, DASHBOARD, ROOT / ".ci"):
        for place, tree in modules(folder).items():
            assert not {name.split(".")[0] for name in imported(tree)} & PICKLES, place
            assert code_at_risk(tree) == NAMED_BY_THE_USER.get(place, []), place


def test_code_that_would_be_run_is_found() -> None:
    codes = (
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name)",
    )
    assert all(
        code_at_risk(ast.parse(code))
        for code in (
            *(*codes, "torch.load(path)", "torch.load(path, weights_only=False)"),
            "frame.to_pickle(path)",
        )
    )
    assert not code_at_risk(
        ast.parse(
            "np.load(path, allow_pickle=False), torch.load(path, weights_only=True), "
            "subprocess.run(words), re.compile(text)"
        )
    )


def test_no_page_writes_html_unsafely() -> None:
    for place in modules(DASHBOARD):
        text = (ROOT / place).read_text(encoding="utf-8")
        assert not [word for word in UNSAFE_HTML if word in text], place


def test_scripts_set_texts_and_never_markup() -> None:
    scripts = sorted(DASHBOARD.rglob("*.js"))
    assert scripts
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert not [word for word in UNSAFE_SCRIPT if word in text], script


def test_every_test_says_what_must_hold_and_none_is_set_aside() -> None:
    for place, tree in modules(TESTS).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                body = ast.unparse(node)
                assert any(word in body for word in ASSERTS), f"{place}: {node.name}"
                aside = [
                    ast.unparse(mark)
                    for mark in node.decorator_list
                    if "skip" in ast.unparse(mark) or "xfail" in ast.unparse(mark)
                ]
                assert not aside, f"{place}: {node.name}"


# What is loaded


def loaded_by(code: str, *arguments: object) -> set[str]:
    """Names of all modules that a new process has after some code."""
    said = run_python(
        f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))", *arguments
    )
    return set(json.loads(said.splitlines()[-1]))


def test_what_pages_need_loads_without_torch() -> None:
    loaded = loaded_by("\n".join(f"import {name}" for name in LIGHT))
    assert set(LIGHT) <= loaded and not loaded & HEAVY


def test_a_run_is_browsed_without_torch(small_run: Path) -> None:
    code = """
from pathlib import Path
import turnover
run = turnover.Run(Path(sys.argv[1]))
shown = run.influence.ranked(run.misclassified_positions[0], "prediction").ends(3)
shown = shown, run.curves, run.influence.mean_influence"""
    assert not loaded_by(code, small_run) & HEAVY


def test_a_command_is_imported_when_it_is_called() -> None:
    code = "import contextlib\nfrom turnover.cli import main\nwith contextlib.suppress(SystemExit):"
    loaded = loaded_by(f"{code}\n    main(['runs', '--help'])")
    assert {name for name in loaded if name.startswith("turnover.cli.")} == {
        "turnover.cli.options",
        "turnover.cli.runs",
    }
    assert not loaded & {*HEAVY, "pandas", "numpy", "pydantic"}


def test_no_page_loads_anything_heavy(tmp_path: Path) -> None:
    folder = FakeRun().write(tmp_path)
    code = f"""
import os
from pathlib import Path
from streamlit.testing.v1 import AppTest
from turnover.flags import Flags
from turnover.flags.export import export_csv
from turnover.runs.run import Run
from turnover.dashboard import engine
os.environ["TURNOVER_RUNS"] = {str(tmp_path)!r}
engine.worker_command = lambda: [sys.executable, "-c", "input()"]
app = AppTest.from_file({str(DASHBOARD / "app.py")!r}, default_timeout=60).run()
for page in {[page.stem for page in sorted((DASHBOARD / "app_pages").glob("*.py"))]!r}:
    app.switch_page(f"app_pages/{{page}}.py").run()
    assert app.title[0].value and not app.exception
Flags(Path({str(folder)!r})).put(1, "drop")
assert export_csv(Run(Path({str(folder)!r}))).count("\\n") == 2"""
    assert not loaded_by(code) & ABOVE["dashboard"]


def test_the_first_words_need_no_pandas() -> None:
    before = loaded_by("import streamlit")
    assert not {"pandas", "pyarrow", "numpy"} & (
        loaded_by("import streamlit, turnover.dashboard.shared.notice") - before
    )
    body = ast.parse((DASHBOARD / "app.py").read_text(encoding="utf-8")).body
    tops = {node.module for node in body if isinstance(node, ast.ImportFrom)}
    standard = {"__future__", "collections.abc", "pathlib", "urllib.parse"}
    assert tops == standard | {"turnover.dashboard.shared.notice"}


# The package


def test_the_wheel_has_every_package_and_imports_go_by_one_name() -> None:
    """Two names for one module would be two mask contexts and two classes of error."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]
    folders = {
        ".".join(("turnover", *path.parent.relative_to(CORE).parts)) for path in CORE.rglob("*.py")
    }
    folders |= {
        ".".join(("turnover.dashboard", *path.parent.relative_to(DASHBOARD).parts))
        for path in DASHBOARD.rglob("*.py")
    }
    assert sorted(folders | {"turnover.assets"}) == described["packages"]
    for folder in (CORE, DASHBOARD, TESTS):
        for place, tree in modules(folder).items():
            assert not {name.partition(".")[0] for name in imported(tree)} & {
                "core",
                "dashboard",
            }, place


def test_the_wheel_has_every_file_beside_the_code() -> None:
    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]
    folders = {"turnover": CORE, "turnover.dashboard": DASHBOARD}
    folders |= {
        package: CORE.joinpath(*package.split(".")[1:])
        for package in described["packages"]
        if not package.startswith(("turnover.dashboard", "turnover.assets"))
    }
    carried = {
        path
        for package, patterns in described["package-data"].items()
        if package != "turnover.assets"
        for pattern in patterns
        for path in folders[package].glob(pattern)
    }
    beside = {
        path
        for folder in (CORE, DASHBOARD)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert beside == carried


# Public names


def test_every_public_name_is_handed_out_whatever_was_imported_before() -> None:
    """`turnover.influence` is the function, also when a module of a like name has been imported."""
    code = """
import importlib, json, pkgutil
import turnover
before = {name: getattr(turnover, name) for name in turnover.__all__}
for module in pkgutil.iter_modules(turnover.__path__):
    if module.name not in ("__main__", "cli"):
        importlib.import_module(f"turnover.{module.name}")
print(json.dumps([
    name
    for name in turnover.__all__
    if not callable(before[name]) or getattr(turnover, name) is not before[name]
]))
"""
    assert json.loads(run_python(code)) == []
    expected = {
        "TurnoverDropout",
        "turnover",
        "TurnoverError",
        "Influence",
        "influence",
        "self_influence",
        "mean_influence",
        "top_influences",
        "Run",
    }
    assert expected <= set(turnover.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'turnover' has no attribute 'nothing'"):
        _ = turnover.nothing
