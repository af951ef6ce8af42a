"""Commands that serve the dashboard.

- `worker`: answers questions about runs for the dashboard, one JSON line each.
- `dashboard`: serves the pages on the runs in a folder.
- `job`: the process of a job, which runs its steps; started by `turnover.jobs`, not by hand.

The dashboard keeps torch out of its own process. It starts one worker for all runs, waits for
`{"ready": true}`, and sends one request per line; `{"error": one line}` answers what fails. The
worker holds the runs that were asked last, and lets go of those that nobody asks any more; it ends
when none is left, or with its standard input. Each request names its `"run"` (else `--run`).
Requests and their answers:

    {}                                                    {"loaded": true}, so that others are quick
    {"text": …, "label": …, "top": …}                     as `explain` returns, images as base64,
                                                           a cause only with `"why": true`
    {"image": base64, "name": …, "label": …, "top": …}    instead of a path
    {"texts": […]} or {"images": [base64, …]}             {"probabilities": [{class: p, …}, …]}
    {"images": […], "label": …, "instances": [position]}  {"influences": images × instances in nats,
                                                           "estimator": …}

Single texts and images take `"also": [positions]`, for the influence of these training items
wherever they rank; a single image `"fitted": true` if it is already in the form of the training
images, as those of `"images"` are.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import gc
import importlib
import json
import os
import queue
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnover.cli.options import (
    Command,
    add_model,
    add_runs,
    add_switches,
    add_values,
)
from turnover.errors import TurnoverError
from turnover.storage.atomic import identity

if TYPE_CHECKING:
    from turnover.workflows.explain import Explainer


_MOST_SAID = 300
_MOST_HELD = 2
_IDLE_SECONDS = 300.0
"""After which a run that nobody asks is let go."""


def _add_worker(parser: ArgumentParser) -> None:
    add_values(parser, run="DIR: run of the requests that name none; it is loaded at once")
    add_model(parser)


def run_worker(arguments: Namespace) -> dict[str, Any]:
    """Serve until standard input ends, or no run is left that somebody asks; return how many
    requests were answered.
    """
    held, answered = _Held(arguments.device), 0
    if arguments.run:
        held.explainer(arguments.run)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    _say({"ready": True})
    while True:
        try:
            line = lines.get(timeout=_IDLE_SECONDS / 4)
        except queue.Empty:
            held.let_go()
            if not held.runs:
                break
            continue
        if not line:
            break
        _say(_answered(held, arguments.run, line))
        answered += 1
    return {"answered": answered}


def _read(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    lines.put("")


class _Held:
    """The runs that a worker holds by folder, the one that was asked last at the end."""

    def __init__(self, device: str | None) -> None:
        self._device = device
        self.runs: dict[str, tuple[float, Any, Explainer]] = {}

    def explainer(self, folder: str) -> Explainer:
        """The model of a run, loaded again if its files are others by now.

        Raises:
            TurnoverError: if the run cannot be opened, or its model cannot be loaded.
        """
        from turnover.runs.run import Run
        from turnover.workflows.explain import Explainer

        part, manifest = Path(folder), "manifest.json"
        files = identity(part / manifest), identity(part / "influence" / manifest)
        _, loaded, explainer = self.runs.pop(folder, (0.0, None, None))
        if explainer is None or loaded != files:
            explainer = None
            self.let_go(_MOST_HELD - 1)
            explainer = Explainer(Run(part), self._device)
            explainer.warm_up()
        self.runs[folder] = time.monotonic(), files, explainer
        return explainer

    def let_go(self, most: int = _MOST_HELD) -> None:
        """Keep at most so many runs, and none that is idle; give their memory back."""
        before = len(self.runs)
        for folder, (asked, _, _) in [*self.runs.items()]:
            if len(self.runs) > most or time.monotonic() - asked > _IDLE_SECONDS:
                del self.runs[folder]
        if len(self.runs) < before:
            gc.collect()
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)  # Linux alone has it


def _answered(held: _Held, run: str | None, line: str) -> dict[str, Any]:
    """The answer to a request, or its error, whatever it was: the next request may succeed."""
    try:
        request = json.loads(line)
        return _answer(held.explainer(str(request.pop("run", run))), request)
    except TurnoverError as error:
        return {"error": str(error)}
    except Exception as error:
        message = " ".join(str(error).split())[:_MOST_SAID]
        return {"error": f"this request cannot be answered ({type(error).__name__}: {message})"}


def _answer(explainer: Explainer, request: dict[str, Any]) -> dict[str, Any]:
    if not request:
        return {"loaded": True}
    if "texts" in request:
        return {"probabilities": explainer.predict_texts([str(text) for text in request["texts"]])}
    if "images" in request:
        images = [base64.b64decode(image, validate=True) for image in request["images"]]
        if "instances" in request:
            instances = [int(position) for position in request["instances"]]
            values, estimator = explainer.influence_on(images, str(request["label"]), instances)
            return {"influences": values.tolist(), "estimator": estimator}
        return {"probabilities": explainer.predict_images(images)}
    label, top = request.get("label"), int(request.get("top", 5))
    also, why = [int(position) for position in request.get("also", [])], bool(request.get("why"))
    if "text" in request:
        return explainer.explain_text(str(request["text"]), label, top, also, why)
    content = base64.b64decode(request["image"], validate=True)
    name, fitted = str(request.get("name", "image")), bool(request.get("fitted"))
    answer = explainer.explain_image(content, name, label, top, also, fitted, why)
    for entry in answer["proponents"] + answer["opponents"] + answer.get("also", []):
        entry["image"] = base64.b64encode(Path(entry.pop("thumbnail")).read_bytes()).decode()
    return answer


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer, ensure_ascii=True), flush=True)


def _add_dashboard(parser: ArgumentParser) -> None:
    add_runs(parser, "--runs", "folder that holds the runs")
    port = os.environ.get("PORT") or "8501"
    parser.add_argument("--port", default=port, metavar="N", help="port (default PORT, else 8501)")
    add_switches(
        parser,
        measure_demos="then measure, at low priority, cleansing and trust of the demo runs",
    )


def run_dashboard(arguments: Namespace) -> dict[str, Any]:
    """Serve until stopped. The engine does not depend on the pages, so they are imported by
    name.
    """
    importlib.import_module("turnover.dashboard.launch").launch(
        arguments.port, arguments.runs, arguments.measure_demos
    )
    return {"runs": arguments.runs}


def _add_job(parser: ArgumentParser) -> None:
    parser.add_argument("--folder", required=True, metavar="DIR", help="the job's folder")


def run_job(arguments: Namespace) -> dict[str, Any]:
    """Run the steps and return what they printed."""
    from turnover.jobs.control import run_job

    return {"results": run_job(Path(arguments.folder))}


COMMANDS = {
    "worker": Command(
        _add_worker, run_worker, lambda result: f"{result['answered']} requests answered"
    ),
    "dashboard": Command(_add_dashboard, run_dashboard, lambda _: ""),
    "job": Command(_add_job, run_job, lambda result: f"{len(result['results'])} steps done"),
}
