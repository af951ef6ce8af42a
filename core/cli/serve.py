"""Commands that serve the dashboard.

- `worker`: answers questions about a run for the pages, one JSON line each.
- `dashboard`: serves the pages on the runs in a folder.
- `job`: the process of a job, which runs its steps; started by `turnover.jobs`, not by hand.

The dashboard keeps torch out of its own process. It starts a worker, waits for `{"ready": true}`,
and sends one request per line; `{"error": one line}` answers what fails. The worker ends with its
standard input. Requests and their answers:

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
import importlib
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnover.cli.options import Command, add_model, add_run, add_runs, run_of
from turnover.errors import TurnoverError

if TYPE_CHECKING:
    from turnover.workflows.explain import Explainer


_MOST_SAID = 300


def _add_worker(parser: ArgumentParser) -> None:
    add_run(parser)
    add_model(parser)


def run_worker(arguments: Namespace) -> dict[str, Any]:
    """Serve until standard input ends; return how many requests were answered."""
    from turnover.workflows.explain import Explainer

    explainer = Explainer(run_of(arguments), arguments.device)
    explainer.warm_up()
    _say({"ready": True})
    answered = 0
    for line in sys.stdin:
        _say(_answered(explainer, line))
        answered += 1
    return {"answered": answered}


def _answered(explainer: Explainer, line: str) -> dict[str, Any]:
    """The answer to a request, or its error, whatever it was: the next request may succeed."""
    try:
        return _answer(explainer, json.loads(line))
    except TurnoverError as error:
        return {"error": str(error)}
    except Exception as error:
        message = " ".join(str(error).split())[:_MOST_SAID]
        return {"error": f"this request cannot be answered ({type(error).__name__}: {message})"}


def _answer(explainer: Explainer, request: dict[str, Any]) -> dict[str, Any]:
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


def run_dashboard(arguments: Namespace) -> dict[str, Any]:
    """Serve until stopped. The engine does not depend on the pages, so they are imported by
    name.
    """
    importlib.import_module("turnover.dashboard.launch").launch(arguments.port, arguments.runs)
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
