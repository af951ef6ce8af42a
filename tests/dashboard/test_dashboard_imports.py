"""Arrows run one way, and nothing heavy is loaded: imports decide the first seconds."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fake_runs import FakeRun

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "transformers", "sklearn", "scipy", "datasets")
FILES = sorted((ROOT / "dashboard").rglob("*.py"))
_LAYERS = {"views": ("streamlit", "dashboard.components", "dashboard.state", "dashboard.engine", "dashboard.app_pages", "plotly")}
_LAYERS["components"] = ("dashboard.app_pages", "dashboard.app")


def imported(file: Path) -> set[str]:
    """Names of all modules that a file imports, at its top or inside."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_imports_what_is_above_it_or_heavy(file: Path) -> None:
    forbidden = (*HEAVY, *_LAYERS.get(file.parent.name, ()))
    found = {name for name in imported(file) if any(name == root or name.startswith(f"{root}.") for root in forbidden)}
    assert not found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_writes_html_unsafely_or_is_too_long(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not [word for word in ("unsafe_allow_html", "unsafe_allow_javascript", "use_container_width", "st.write(") if word in text]
    assert text.count("\n") <= 300


def test_no_page_loads_anything_heavy(tmp_path: Path) -> None:
    folder = FakeRun().write(tmp_path)
    script = f"""
        import sys
        from streamlit.testing.v1 import AppTest
        from core.flags import Flags
        from core.pipeline.export import export_csv
        from core.runs import Run
        from pathlib import Path
        from dashboard import engine
        engine.worker_command = lambda folder: [sys.executable, "-c", "input()"]
        app = AppTest.from_file({str(ROOT / "dashboard" / "app.py")!r}, default_timeout=60).run()
        for page in ("errors", "curves", "trust", "try_own", "train", "cleanse"):
            app.switch_page(f"app_pages/{{page}}.py").run()
            assert app.title[0].value and not app.exception
        Flags(Path({str(folder)!r})).put(1, "drop")
        assert export_csv(Run(Path({str(folder)!r}))).count("\\n") == 2
        print("heavy:", sorted(set(sys.modules) & {set(HEAVY)!r}))
    """
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TURNOVER_RUNS": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_the_first_words_need_no_pandas() -> None:
    script = "import sys, streamlit; before = set(sys.modules); import dashboard.components.notice; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert not {"pandas", "pyarrow", "numpy"} & set(ast.literal_eval(done.stdout))
    tops = {name for node in ast.parse((ROOT / "dashboard" / "app.py").read_text()).body if isinstance(node, ast.ImportFrom) for name in [node.module]}
    assert tops == {"__future__", "pathlib", "dashboard.components.notice"}
