"""`worker`: answers questions about a run, one JSON line each, for the dashboard's Try page.

The dashboard keeps torch out of its own process: it starts this one, waits for `{"ready": true}`,
and then sends requests `{"text": …, "label": …, "top": …}` or `{"image": base64, "name": …,
"label": …, "top": …}`. An answer is what `explain` returns (images as base64 instead of a path), or
`{"error": one line}`. With `"also": [positions]` it has the influence of these training items too,
wherever they rank; with `"fitted": true` an image is taken as it is. `{"texts": […]}` and
`{"images": [base64, …]}` (fitted ones) are answered by `{"probabilities": [class → probability,
…]}` alone. Images with a `"label"` and `"instances": [positions]` are answered by `{"influences":
images × instances, "estimator": …}`, in nats. The process ends with its standard input.

`dashboard`: serves the pages on the runs in a folder.

`job`: the process of a job, which runs its steps; started by `turnover.jobs`, not by hand.
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

from turnover.cli.options import DEFAULT_RUNS, Command, add_device, add_model, add_run
from turnover.errors import TurnoverError

if TYPE_CHECKING:
    from turnover.workflows.explain import Explainer


_MOST_SAID = 300


def add_worker(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    add_device(parser)
    add_model(parser)


def run_worker(arguments: Namespace) -> dict[str, Any]:
    """Serve until standard input ends; return how many requests were answered."""
    from turnover.runs.run import Run
    from turnover.workflows.explain import Explainer

    explainer = Explainer(Run(Path(arguments.run)), arguments.device)
    explainer.warm_up()
    _say({"ready": True})
    answered = 0
    for line in sys.stdin:
        _say(_answered(explainer, line))
        answered += 1
    return {"answered": answered}


def describe_worker(result: dict[str, Any]) -> str:
    """The result in words."""
    return f"{result['answered']} requests answered"


def _answered(explainer: Explainer, line: str) -> dict[str, Any]:
    """The answer to a request, or what went wrong: whatever it was, a module's own error or a full
    memory, the next request may go well.
    """
    try:
        return _answer(explainer, json.loads(line))
    except TurnoverError as error:
        return {"error": str(error)}
    except Exception as error:
        return {
            "error": (
                f"this request cannot be answered ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:_MOST_SAID]})"
            )
        }


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
    label, top, also = (
        request.get("label"),
        int(request.get("top", 5)),
        [int(position) for position in request.get("also", [])],
    )
    if "text" in request:
        return explainer.explain_text(str(request["text"]), label, top, also)
    content = base64.b64decode(request["image"], validate=True)
    answer = explainer.explain_image(
        content, str(request.get("name", "image")), label, top, also, bool(request.get("fitted"))
    )
    for entry in answer["proponents"] + answer["opponents"] + answer.get("also", []):
        entry["image"] = base64.b64encode(Path(entry.pop("thumbnail")).read_bytes()).decode()
    return answer


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer, ensure_ascii=True), flush=True)


def add_dashboard(parser: ArgumentParser) -> None:
    """Describe the options; PORT and TURNOVER_RUNS of the environment are their defaults."""
    runs = os.environ.get("TURNOVER_RUNS") or DEFAULT_RUNS
    parser.add_argument(
        "--runs",
        default=runs,
        metavar="DIR",
        help=f"folder that holds the runs (default TURNOVER_RUNS, else {DEFAULT_RUNS})",
    )
    parser.add_argument(
        "--port",
        default=os.environ.get("PORT") or "8501",
        metavar="N",
        help="port (default PORT, else 8501)",
    )


def run_dashboard(arguments: Namespace) -> dict[str, Any]:
    """Serve until stopped. The engine knows nothing of the pages, so they are found by name."""
    importlib.import_module("turnover.dashboard.launch").launch(arguments.port, arguments.runs)
    return {"runs": arguments.runs}


def describe_dashboard(_: dict[str, Any]) -> str:
    """Nothing: what there is to say, the server has said."""
    return ""


def add_job(parser: ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("--folder", required=True, metavar="DIR", help="the job's folder")


def run_job(arguments: Namespace) -> dict[str, Any]:
    """Run the steps and return what they printed."""
    from turnover.jobs.control import run_job

    return {"results": run_job(Path(arguments.folder))}


def describe_job(result: dict[str, Any]) -> str:
    """The result in words."""
    return f"{len(result['results'])} steps done"


COMMANDS = {
    "worker": Command(add_worker, run_worker, describe_worker),
    "dashboard": Command(add_dashboard, run_dashboard, describe_dashboard),
    "job": Command(add_job, run_job, describe_job),
}
