"""`prove`: train again without the training items that are said to have taught a mistake."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from turnover.cli.options import (
    Command,
    add_groups,
    add_retraining,
    add_run,
    groups_of,
    positive,
    retrained_run,
)

if TYPE_CHECKING:
    from turnover.explain.claims import Claim
    from turnover.runs.proofs import Proof
    from turnover.runs.run import Run


def _add_prove(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--error",
        action="append",
        required=True,
        metavar="ID",
        help="a misclassified validation item; may be repeated",
    )
    items = "training items that taught it, by id (default: those that its cause names)"
    parser.add_argument("--items", nargs="+", metavar="ID", help=items)
    top = "its N strongest proponents instead"
    parser.add_argument("--top", type=positive, metavar="N", help=top)
    add_groups(parser)
    add_retraining(parser)


def run_prove(arguments: Namespace) -> dict[str, Any]:
    """Prove, keep and return proofs: each with its verdict, `claim`, `difference` and 95 % interval
    in nats, and losses by seed.
    """
    from turnover.explain.flips import error_position
    from turnover.runs.proofs import keep_proof
    from turnover.storage.lock import alone
    from turnover.workflows.prove import prove

    run = retrained_run(arguments)
    errors = [error_position(run, name) for name in arguments.error]
    claims = [claim for error in errors for claim in _claims(run, error, arguments)]
    with alone(run.folder / ".prove.lock", f"proving {run.folder}"):
        proofs = prove(run, claims, arguments.device, arguments.cluster)
        for proof in proofs:
            keep_proof(run, proof)
    return {"run": str(run.folder), "proofs": [_entry(run, proof) for proof in proofs]}


def _entry(run: Run, proof: Proof) -> dict[str, Any]:
    """A proof with ids in place of positions, and its words."""
    item = run.item("validation", proof.error)
    items = run.train["id"].astype(str).iloc[list(proof.items)].tolist()
    return {
        "id": str(item["id"]),
        **proof.facts,
        "items": items,
        "sentence": proof.words(run.classes[int(item["predicted"])]),
        "numbers": proof.numbers,
    }


def _claims(run: Run, error: int, arguments: Namespace) -> list[Claim]:
    """What the options say about an error."""
    from turnover.explain.causes import causes
    from turnover.explain.claims import group_claim, items_claim, top_claim, why_claim

    claims = [group_claim(error, group) for group in groups_of(run, arguments)]
    if arguments.items:
        claims.append(items_claim(run, error, arguments.items))
    if arguments.top:
        claims.append(top_claim(run, error, arguments.top))
    return claims or [why_claim(run, causes(run), error)]


def _describe_prove(result: dict[str, Any]) -> str:
    return "\n".join(
        f"{proof['id']}: {proof['sentence']}\n  {proof['numbers']}" for proof in result["proofs"]
    )


COMMANDS = {"prove": Command(_add_prove, run_prove, _describe_prove)}
