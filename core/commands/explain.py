"""`explain`: the training items behind the prediction for a text or an image of your own."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from turnover.commands.arguments import add_device, add_model, add_run, add_top

ESTIMATORS = {"best": "estimate from all members", "median": "median over members", "raw": "one member"}
HELP = "explain the prediction for your own text or image by training items"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the options."""
    add_run(parser)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", metavar="T", help="the text to explain")
    given.add_argument("--image", metavar="FILE", help="the image to explain (PNG, JPEG, WebP, BMP or GIF)")
    parser.add_argument("--label", metavar="L", help="influence on the loss of this class (default: the predicted one)")
    add_top(parser)
    add_device(parser)
    add_model(parser)


def execute(arguments: Namespace) -> dict[str, Any]:
    """Return predicted, probabilities, trust, proponents, opponents (influence in nats) and seconds."""
    from turnover.pipeline.explain import Explainer, read_user_file
    from turnover.runs import Run

    content = read_user_file(Path(arguments.image)) if arguments.image else b""
    explainer = Explainer(Run(Path(arguments.run)), arguments.device)
    if arguments.image:
        return explainer.explain_image(content, arguments.image, arguments.label, arguments.top)
    return explainer.explain_text(arguments.text, arguments.label, arguments.top)


def describe(result: dict[str, Any]) -> str:
    """The result in words."""
    lines = [f"predicted: {result['predicted']} ({result['probabilities'][result['predicted']]:.1%})"]
    return "\n".join(lines + entry_lines(result, result["label"], result["estimator"]))


def entry_lines(result: dict[str, Any], label: str, estimator: str) -> list[str]:
    """Proponents and opponents, one line each."""
    lines = []
    for name, does in (("proponents", "helped"), ("opponents", "hurt")):
        made = ESTIMATORS.get(estimator, estimator)
        lines.append(f"{name}: training items that {does} the label {label} ({made}, nats ± standard error)")
        for entry in result[name]:
            error = "error not known" if entry["standard_error"] is None else f"± {entry['standard_error']:.4f} {entry['trust']}"
            lines.append(f"  {entry['influence']:+.4f} {error}  {entry['id']} [{entry['label']}]  {entry.get('text', entry.get('thumbnail'))}")
    return lines
