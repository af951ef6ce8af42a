"""Commands that find wrong labels and decide on training items, without a browser.

- `label-errors`: the training items whose label is in doubt, with the label that is proposed.
- `flag`: drop, relabel or keep training items, or take flags away; `export` and `apply` use them.
"""

from __future__ import annotations

import csv
import io
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnover.cli.options import Command, add_counts, add_run, add_values, run_of
from turnover.errors import TurnoverError, counted

if TYPE_CHECKING:
    from turnover.runs.run import Run

_COLUMNS = ("id", "label", "proposed", "probability", "flipped_loss", "flag")


def _add_label_errors(parser: ArgumentParser) -> None:
    add_run(parser)
    add_counts(parser, top=(20, "list the N most doubtful items"))
    add_values(parser, out="FILE: also write all of them as CSV (replaced if it exists)")


def run_label_errors(arguments: Namespace) -> dict[str, Any]:
    """Return the training items for which another label is more probable, and write them."""
    from turnover.explain.doubt import SURE
    from turnover.storage.atomic import write_atomic

    run = run_of(arguments)
    if run.scored:
        raise TurnoverError(
            f"{run.folder}: made of {run.scored}, and no model was asked about training items; use "
            "a run of `turnover train`"
        )
    items = _suspects(run)
    if arguments.out:
        text = _csv(items, run.kind)
        write_atomic(
            Path(arguments.out), lambda beside: beside.write_text(text, encoding="utf-8-sig")
        )
    return {
        "run": str(run.folder),
        "train_size": len(run.train),
        "suspected": len(items),
        "in_doubt": sum(item["probability"] >= SURE for item in items),
        **({"out": arguments.out} if arguments.out else {}),
        "items": items[: arguments.top],
    }


def _suspects(run: Run) -> list[dict[str, Any]]:
    """The training items for which another label is more probable, the most doubtful first, with
    what the models that never saw them lose on them, in nats.
    """
    from turnover.explain.causes import suspected_training_items
    from turnover.explain.effects import kept_effects
    from turnover.flags import Flags
    from turnover.runs.ranking import content_of

    suspects = suspected_training_items(run, kept_effects(run) if run.has_influence else None)
    flipped = run.array("item_losses")[1, run.manifest["results"]["kept_epoch"] - 1]
    flags = Flags(run.folder).current()
    order = sorted(suspects, key=lambda position: -suspects[position].probability)
    return [
        {
            "position": position,
            "id": str(run.item("train", position)["id"]),
            "label": run.classes[int(run.item("train", position)["label"])],
            "proposed": suspects[position].label,
            "probability": suspects[position].probability,
            "flipped_loss": float(flipped[position]),
            "flag": flags[position].action if position in flags else "",
            **content_of(run, position),
        }
        for position in order
    ]


def _csv(items: list[dict[str, Any]], kind: str) -> str:
    from turnover.flags.export import safe_cell

    columns = (*_COLUMNS, "text" if kind == "text" else "thumbnail")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([safe_cell(item[name]) for name in columns] for item in items)
    return buffer.getvalue()


def _describe_label_errors(result: dict[str, Any]) -> str:
    from turnover.explain.words import snippet
    from turnover.research.evaluate.results import markdown_table

    rows = (
        (
            item["id"],
            snippet(item["label"], 30),
            snippet(item["proposed"], 30),
            f"{item['probability']:.0%}",
            f"{item['flipped_loss']:.2f}",
            item["flag"],
            snippet(item["text"], 60) if "text" in item else item["thumbnail"],
        )
        for item in result["items"]
    )
    head = ("id", "label", "rather", "probability", "loss if not learned, nats", "flag", "")
    words = (
        f"{result['suspected']:,} of {result['train_size']:,} training items have a more probable "
        f"label, {result['in_doubt']:,} of them with 80 % or more"
    )
    written = [f"all of them: {result['out']}"] if "out" in result else []
    table = [markdown_table(head, rows, right=[3, 4])] if result["items"] else []
    return "\n\n".join([words, *table, *written])


def _add_flag(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--item", required=True, nargs="+", metavar="ID", help="ids of training items"
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--drop", action="store_true", help="they are to go")
    add_values(which, relabel="CLASS: they are to get this label")
    which.add_argument("--keep", action="store_true", help="they are right as they are")
    which.add_argument("--clear", action="store_true", help="take their flags away")
    add_values(parser, note="TEXT: kept with the flag")


def run_flag(arguments: Namespace) -> dict[str, Any]:
    """Store the decisions in one step and return them."""
    from turnover.explain.words import snippet
    from turnover.flags import Flags
    from turnover.flags.store import CLEARED

    run = run_of(arguments)
    positions = {str(name): position for position, name in enumerate(run.train["id"])}
    if missing := [name for name in arguments.item if name not in positions]:
        raise TurnoverError(
            f"--item {snippet(missing[0], 60)}: {run.folder} has no training item of this id; "
            "`turnover label-errors` and `turnover errors` print ids"
        )
    label = arguments.relabel or ""
    if arguments.relabel is not None and label not in run.classes:
        raise TurnoverError(
            f"--relabel {snippet(label, 60)}: the classes of {run.folder} are "
            f"{snippet(', '.join(run.classes), 200)}; choose one"
        )
    given = {"drop": arguments.drop, "relabel": label, "keep": arguments.keep}
    action = next((name for name, named in given.items() if named), CLEARED)
    chosen = [positions[name] for name in arguments.item]
    verdicts = dict.fromkeys(chosen, (action, label))
    flags = Flags(run.folder).put_each(verdicts, arguments.note or "")
    return {
        "run": str(run.folder),
        "action": action,
        "new_label": label,
        "items": arguments.item,
        "by": flags[0].by,
        "flagged": len(Flags(run.folder).current()),
    }


def _describe_flag(result: dict[str, Any]) -> str:
    label = f" to {result['new_label']}" if result["new_label"] else ""
    items = counted(len(result["items"]), "training item")
    return (
        f"{items}: {result['action']}{label}, by {result['by']}; "
        f"{result['flagged']} of {result['run']} are flagged"
    )


COMMANDS = {
    "label-errors": Command(_add_label_errors, run_label_errors, _describe_label_errors),
    "flag": Command(_add_flag, run_flag, _describe_flag),
}
