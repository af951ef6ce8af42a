"""Code of the user's own, `module:function`, that builds a PyTorch module: which may be run.

Naming `module:function` on the command line asks for that code to be run. A run folder remembers
the name, but opening a run that somebody else made must not run anything: its manifest could name
any function that can be imported. So the code of a run is loaded only if the same name was given in
this process (`--model` of a command, `allow`) or is in the environment variable
TURNOVER_ALLOW_MODULES; and only if its source file is, byte for byte, the one that the run was made
with. What that file imports is not checked.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from turnover.errors import TurnoverError

ALLOW = "TURNOVER_ALLOW_MODULES"
"""Environment variable with the names `module:function` that runs may load, comma-separated."""

_allowed: set[str] = set()


def allow(model: str | None) -> None:
    """Allow the code of a name that the user gave to run in this process; other model names change
    nothing.
    """
    if model:
        _allowed.add(model)


def names_allowed() -> list[str]:
    """All names whose code may run in this process, for others that do its work."""
    return sorted({*_allowed, *allowed_names()})


def allowed_names() -> tuple[str, ...]:
    """The names in TURNOVER_ALLOW_MODULES, whose code the program's user trusts."""
    return tuple(name for name in map(str.strip, os.environ.get(ALLOW, "").split(",")) if name)


def source_checksum(model: str) -> str:
    """SHA-256 of the source file of `module:function`.

    Raises:
        TurnoverError: if there is no such file.
    """
    return hashlib.sha256(_content(_path(model), model)).hexdigest()


def file_checksum(path: str, flag: str = "--weights") -> str:
    """SHA-256 of a file that an option names.

    Raises:
        TurnoverError: if it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TurnoverError(
            f"{flag} {path}: cannot be read ({error.strerror}); check the path"
        ) from None


def load_function(model: str, checksum: str) -> Callable[..., Any]:
    """The function that `module:function` names, from the source file with this SHA-256.

    Raises:
        TurnoverError: if the user has not allowed it, the file is missing or has changed, or
            running it fails.
    """
    if model not in _allowed and model not in allowed_names():
        raise TurnoverError(
            f"the model is code, {model}, and opening a run does not run code by itself; if you "
            f"trust it, give --model {model} again, or set {ALLOW}={model} for the dashboard"
        )
    path = _path(model)
    content = _content(path, model)
    if checksum not in (
        hashlib.sha256(known).hexdigest() for known in (content, _under_the_old_name(content))
    ):
        raise TurnoverError(
            f"{path}: changed since the run was made with {model}; put back the file as it was, or "
            "train again"
        )
    name, _, function = model.partition(":")
    with failing_in_one_line(model, path):
        module = _run(name, path, content)
    builder = getattr(module, function, None)
    if not callable(builder):
        raise TurnoverError(
            f"--model {model}: {path} has no function {function!r}; define it, or correct the name"
        )
    return builder


def _under_the_old_name(content: bytes) -> bytes:
    """A source file as it was when the package was called core: for a run from then, only that name
    may have changed since.
    """
    return re.sub(rb"\bturnover\b(?!\()", b"core", content)


@contextmanager
def failing_in_one_line(model: str, path: Path | None = None) -> Iterator[None]:
    """Inside, an error in the user's own code becomes a `TurnoverError` with its line."""
    try:
        yield
    except TurnoverError:
        raise
    except (Exception, SystemExit) as error:
        path = path or _path(model)
        trace = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in trace if Path(frame.filename) == path]
        message = " ".join(str(error).split())
        where = f"{path}{f', line {lines[-1]}' if lines else ''}"
        renamed = isinstance(error, ModuleNotFoundError) and error.name == "core"
        remedy = (
            "the package is called turnover now, so import turnover" if renamed else "correct it"
        )
        raise TurnoverError(
            f"--model {model}: {where}: {type(error).__name__}"
            f"{f': {message}' if message else ''}; {remedy}"
        ) from error


def _path(model: str) -> Path:
    """The source file of `module:function`: of a file `FOLDER/NAME.py:function`, or of a module
    that can be imported here.

    Raises:
        TurnoverError: if the name is not of this form, or there is no such source file.
    """
    name, _, function = model.partition(":")
    if not name or not function.isidentifier():
        raise TurnoverError(
            f"--model {model}: not of the form module:function; name a module in this folder, or a "
            "file.py, and a function in it"
        )
    if name.endswith(".py"):
        return Path(name).resolve()
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise TurnoverError(
            f"--model {model}: no module {name!r} with Python source can be imported in "
            f"{Path.cwd()}; go to its folder, or correct the name"
        )
    return Path(spec.origin).resolve()


def _content(path: Path, model: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TurnoverError(
            f"--model {model}: {path} cannot be read ({error.strerror}); the model is built by the "
            "code in that file"
        ) from None


@lru_cache(maxsize=16)
def _run(name: str, path: Path, content: bytes) -> ModuleType:
    """The module of this source: the bytes that were checked are the bytes that run."""
    if name.endswith(".py"):
        name = path.stem
    elif "." in name:
        importlib.import_module(name.rpartition(".")[0])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses, among others, look up their module there
    done = False
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
        done = True
    finally:
        if before is not None:  # a module that the user has imported stays unchanged
            sys.modules[name] = before
        elif not done:
            sys.modules.pop(name)
    return module
