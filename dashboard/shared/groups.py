"""The section on groups of an error: the group that flips it, and the influences of groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from turnover.dashboard.shared.groups_view import GroupRow, Groups, Removed, build_groups, number
from turnover.dashboard.shared.notice import heading, problem, quiet, said
from turnover.dashboard.shared.prove import prove_button
from turnover.errors import TurnoverError
from turnover.explain.explanation import ErrorItem, rounded
from turnover.explain.groups import Sum
from turnover.explain.html import chip_html, image_html, safe, trust_html
from turnover.runs.run import Run


def show_groups(run: Run, item: ErrorItem, changed: Callable[[], None]) -> None:
    """The section on groups of one error; `changed` is called when its words change."""
    heading(
        "Groups",
        "Many training items together, which often stand out of the noise where single ones "
        "cannot.",
    )
    flip, words = st.container(), ""
    if run.kind == "text":
        words = (
            st.text_input(
                "Sum all training texts that contain",
                key="containing",
                on_change=changed,
                max_chars=200,
                placeholder="A word or a name",
            )
            or ""
        )
    try:
        groups = build_groups(run, item, words)
    except TurnoverError as error:
        problem("Groups cannot be summed", str(error))
        return
    with flip:
        said(groups.flip)
        if groups.caution:
            quiet(groups.caution)
        if groups.removed:
            st.html(_removed_html(groups))
            prove_button(run, item.id, "Prove it", ["--items", *groups.ids], "prove-flip")
    if groups.missing:
        quiet(groups.missing)
    show_sums(
        run,
        groups.rows,
        (f"On the prediction, “{item.predicted}”", f"On the truth, “{item.label}”"),
    )
    with st.container(horizontal=True, gap="small"):
        for number, row in enumerate(groups.rows):
            if row.option and not row.proof:
                name = f"Prove {row.name}"
                prove_button(run, item.id, name, row.option, f"prove-group-{number}")


def show_sums(run: Run, groups: Sequence[GroupRow], heads: tuple[str, str]) -> None:
    """A table of groups with their influences on two losses."""
    st.html(_table_html(groups, heads))
    units = "the units of the scores" if run.scored else "nats, ± one standard error"
    quiet(
        f"In {units}. A random group has as many items of each label; its ± is "
        "the standard deviation over such groups."
    )


def _removed_html(groups: Groups) -> str:
    """The items that flip the error, collapsed."""
    items = "".join(f"<li>{_item_html(item)}</li>" for item in groups.removed)
    more = (
        f"<p>… and {len(groups.ids) - len(groups.removed):,} more</p>"
        if len(groups.ids) > len(groups.removed)
        else ""
    )
    return (
        '<details class="to-more"><summary>Show the items, what counts most first</summary><ol '
        f'class="to-removed">{items}</ol>{more}</details>'
    )


def _item_html(item: Removed) -> str:
    content = (
        image_html(item.image, 40, f"training image labelled {item.label}")
        if item.image
        else f'<span dir="auto">{safe(item.text)}</span>'
    )
    return f'{chip_html(item.label)} {content} <span class="to-id">{safe(item.id)}</span>'


def _table_html(groups: Sequence[GroupRow], heads: tuple[str, str]) -> str:
    """A row for each group, with its influence on the predicted and on the true label."""
    head = "".join(f'<th scope="col">{safe(text)}</th>' for text in ("Group", "Items", *heads))
    rows = "".join(
        '<tr><th scope="row" '
        f'dir="auto">{safe(row.name)}{_verdict_html(row)}</th><td>{row.size:,}</td><td>{_sum_html(row.prediction)}</td><td>{_sum_html(row.truth)}</td></tr>'
        for row in groups
    )
    return f'<table class="to-groups"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _verdict_html(row: GroupRow) -> str:
    """What retraining without a group showed, if that was tried."""
    if row.proof is None:
        return ""
    return (
        f'<br><span class="to-trust" title="{safe(row.proof.numbers)}">retraining: '
        f"{safe(row.proof.verdict)}</span>"
    )


def _sum_html(total: Sum) -> str:
    """Influence ± standard error, trust word, and the influence of random groups."""
    side = "for" if total.influence > 0 else "against"
    error = "error not known" if total.std_error is None else f"± {rounded(total.std_error)}"
    usual = (
        ""
        if total.random is None
        else (
            f'<br><span class="to-trust">random: {number(total.random[0])} ± '
            f"{rounded(total.random[1])}</span>"
        )
    )
    return (
        f'<span class="to-number to-{side}">{number(total.influence)}</span> <span '
        f'class="to-error">{error}</span>{trust_html(total.trust or "")}{usual}'
    )
