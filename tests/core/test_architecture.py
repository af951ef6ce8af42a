"""The house's rules, read from the import graph: what may import what, what loads without torch, and no pickle anywhere."""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import core
from tests.core.builders import CORE, ROOT, run_python

DASHBOARD = ROOT / "dashboard"
HEAVY = {"torch", "torchvision", "transformers"}
LIGHT = (
    "core",
    "core.errors",
    "core.paths",
    "core.atomic",
    "core.estimators.estimator",
    "core.estimators.smoothing",
    "core.estimators.stored",
    "core.groups.flip",
    "core.pipeline.groups",
    "core.runs",
    "core.flags",
    "core.progress",
    "core.pipeline.plan",
    "core.pipeline.settings",
    "core.models.source",
    "core.models.encoders",
    "core.models.networks",
    "core.jobs",
    "core.maps",
    "core.cleansing.results",
    "core.data.tables",
    "core.data.images",
)
"""Parts that pages need in the first second."""


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of all modules that some code imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported_on_loading(path: Path) -> Iterator[str]:
    """What a module imports when it is loaded: outside functions and outside `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if not is_type_checking(node)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += [child for child in ast.iter_child_nodes(node) if not (isinstance(child, ast.stmt) and is_type_checking(child))]


def roots(names: Iterator[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def named(paths: list[Path]) -> list[object]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


def test_there_is_something_to_look_at() -> None:
    assert {"masks.py", "dropout.py", "influences.py", "runs.py"} <= {path.name for path in modules(CORE)}


@pytest.mark.parametrize("path", named(modules(CORE)))
def test_core_knows_nothing_of_the_dashboard(path: Path) -> None:
    assert not roots(imported(ast.parse(path.read_text(encoding="utf-8")))) & {"streamlit", "plotly", "dashboard", "tests"}


@pytest.mark.parametrize("path", named(modules(CORE) + modules(DASHBOARD)))
def test_nothing_is_pickled(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not roots(imported(tree)) & {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        assert name not in ("torch.load", "torch.save", "pd.read_pickle") and not name.endswith(".to_pickle"), f"line {call.lineno}"
        if name == "np.load":
            allowed = {option.arg: ast.unparse(option.value) for option in call.keywords}
            assert allowed.get("allow_pickle", "False") == "False", f"line {call.lineno}"


RUNS_CODE = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "pd.eval", "torch.jit.load", "torch.hub.load"}


@pytest.mark.parametrize("path", named(modules(CORE) + modules(DASHBOARD) + modules(ROOT / ".ci")))
def test_no_data_is_ever_run_as_code(path: Path) -> None:
    """Neither by Python nor by a shell, nor is code run that comes with a model or a data set; but for a module that the user names."""
    found = code_at_risk(path.read_text(encoding="utf-8"))
    named_by_the_user = ["exec", "compile"] if path.name == "source.py" and path.parent.name == "models" else []
    assert [line.partition(": ")[2] for line in found] == named_by_the_user


def code_at_risk(code: str) -> list[str]:
    """Calls that could run what was read."""
    found = []
    for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
        name, options = ast.unparse(call.func), {option.arg: ast.unparse(option.value) for option in call.keywords}
        risky = name in RUNS_CODE or any(options.get(option, "False") != "False" for option in ("shell", "allow_pickle", "trust_remote_code"))
        careless = (name == "np.load" and "allow_pickle" not in options) or (name == "AutoModel.from_pretrained" and options.get("use_safetensors") != "True")
        found += [f"line {call.lineno}: {name}"] if risky or careless else []
    return found


def test_code_that_would_be_run_is_found() -> None:
    codes = ("eval(text)", "subprocess.run(text, shell=True)", "np.load(path)", "np.load(path, allow_pickle=True)", "AutoModel.from_pretrained(name)")
    assert all(code_at_risk(code) for code in codes)
    assert not code_at_risk("np.load(path, allow_pickle=False), subprocess.run(words), re.compile(text)")


@pytest.mark.parametrize("path", named(modules(DASHBOARD)))
def test_the_dashboard_imports_no_torch_at_the_top(path: Path) -> None:
    assert not roots(imported_on_loading(path)) & HEAVY


@pytest.mark.parametrize("path", named(modules(DASHBOARD / "views")))
def test_views_know_nothing_of_streamlit(path: Path) -> None:
    assert not roots(imported(ast.parse(path.read_text(encoding="utf-8")))) & {"streamlit"}


@pytest.mark.parametrize("path", named([path for layer in ("views", "components") for path in modules(DASHBOARD / layer)]))
def test_arrows_in_the_dashboard_run_one_way(path: Path) -> None:
    above = ["dashboard.app", "dashboard.app_pages"] + (["dashboard.components"] if path.parent.name == "views" else [])
    names = list(imported(ast.parse(path.read_text(encoding="utf-8"))))
    assert not [name for name in names if any(name == place or name.startswith(f"{place}.") for place in above)]


def there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@pytest.mark.parametrize("name", [name for name in LIGHT if there(name)])
def test_light_parts_load_without_torch(name: str) -> None:
    loaded = set(json.loads(run_python(f"import json, sys, {name}; print(json.dumps([name for name in sys.modules if '.' not in name]))")))
    assert "core" in loaded
    assert not loaded & HEAVY


def test_a_run_is_browsed_without_torch(small_run: Path) -> None:
    code = """
import json, sys
from pathlib import Path
import core
run = core.Run(Path(sys.argv[1]))
shown = run.influence.ranked(run.errors[0], "prediction").ends(3), run.curves, run.influence.mean_influence
print(json.dumps([name for name in sys.modules if "." not in name]))
"""
    assert not set(json.loads(run_python(code, small_run))) & HEAVY


def test_every_public_name_is_handed_out_whatever_was_imported_before() -> None:
    """`core.influence` is the function, also when a module of a like name has been imported."""
    code = """
import importlib, json, pkgutil, sys
import core
before = {name: getattr(core, name) for name in core.__all__}
for module in pkgutil.iter_modules(core.__path__):
    if module.name not in ("__main__", "cli"):
        importlib.import_module(f"core.{module.name}")
print(json.dumps([name for name in core.__all__ if not callable(before[name]) or getattr(core, name) is not before[name]]))
"""
    assert json.loads(run_python(code)) == []
    expected = {"TurnoverDropout", "turnover", "TurnoverError", "Influence", "influence", "self_influence", "mean_influence", "top_influences", "Run"}
    assert expected <= set(core.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'core' has no attribute 'nothing'"):
        _ = core.nothing


def test_tests_assert() -> None:
    """Every test here says what must hold, with an assertion or an expected error, and none is set aside."""
    silent = []
    for path in modules(ROOT / "tests" / "core"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                body = ast.unparse(node)
                if not any(word in body for word in ("assert", "check_", "pytest.raises", "pytest.warns")):
                    silent.append(f"{path.name}: {node.name}")
                if "pytest.mark.skip" in body or "pytest.skip(" in body or "xfail" in body:
                    silent.append(f"{path.name}: {node.name} is set aside")
    assert [name for name in silent if "test_tests_assert" not in name] == []
