"""The chosen training item: flag, ranks, effects, losses, neighbours, and its part in errors."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from turnover.dashboard.runs.curves import losses_figure
from turnover.dashboard.shared.address import errors_link
from turnover.dashboard.shared.cards import flag_html
from turnover.dashboard.shared.flag_form import flag_control
from turnover.dashboard.shared.notice import chart, heading, notice, quiet, said
from turnover.dashboard.shared.tables import go_to
from turnover.dashboard.state import Opened
from turnover.dashboard.training_data.training_view import (
    Neighbour,
    Proposal,
    Target,
    TrainingItem,
    build_effects,
    nearest,
    own_losses,
    proposals,
    standing,
)
from turnover.explain.explanation import ErrorItem, decimals_of
from turnover.explain.html import (
    chip_html,
    image_html,
    mark_html,
    marked_html,
    safe,
    signed,
    trust_html,
)
from turnover.explain.words import mark, run_pieces, snippet
from turnover.flags import Flag
from turnover.runs.ranking import TOP
from turnover.runs.run import PREDICTION, TRUTH, Run

_LISTED = 24


def show_training_item(opened: Opened, item: TrainingItem, flag: Flag | None) -> None:
    """The item with its flag, its ranks, and evidence for another label."""
    run = opened.run
    st.html(_item_html(run, item))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if flag:
            st.html(flag_html(flag))
        flag_control(run, item, flag)
    quiet(*standing(run, item, with_influence=not opened.influence_problem))
    near = nearest(run, opened.training, item.position)
    _show_proposals(item, proposals(item, near))


def show_effects(opened: Opened, item: TrainingItem) -> None:
    """The validation items that it helps and hurts most, for either meaning."""
    heading("What it did to validation items")
    meaning = st.segmented_control(
        "Influence on the",
        [TRUTH, PREDICTION],
        default=TRUTH,
        required=True,
        key="effect",
        bind="query-params",
    )
    effects = build_effects(opened.run, item.position, meaning or TRUTH)
    said(effects.sentence)
    quiet(effects.units, effects.known)
    numbers = {error.position: error.rank + 1 for error in opened.misclassified}
    decimals = decimals_of([target.influence for target in (*effects.positive, *effects.negative)])
    for column, title, targets in zip(
        st.columns(2, gap="medium"),
        effects.headings,
        (effects.positive, effects.negative),
        strict=True,
    ):
        with column:
            st.html(f'<h3 class="to-side">{safe(title)}</h3>')
            if not targets:
                quiet("No influence of this sign is known.")
            for target in targets:
                with st.container(border=True, gap="xsmall"):
                    st.html(_target_html(target, decimals))
                    if target.position in numbers:
                        errors_link(
                            opened.run, f"Open error {numbers[target.position]:,}", item=target.id
                        )


def show_part_in_errors(opened: Opened, item: TrainingItem) -> None:
    """The errors among whose strongest proponents it is."""
    ids = set(opened.taught.get(item.position, ()))
    errors = [error for error in opened.misclassified if error.id in ids]
    heading(
        "Its part in errors",
        f"Errors among whose {TOP} strongest proponents (of the prediction) it is.",
    )
    if not errors:
        said(f"It is among the {TOP} strongest proponents of no error.")
        return
    with st.grid("auto", min_column_width=220, gap="small"):
        for error in errors[:_LISTED]:
            with st.container(border=True, gap="xsmall"):
                st.html(_error_html(error))
                errors_link(opened.run, f"Open error {error.rank + 1:,}", item=error.id)
    if len(errors) > _LISTED:
        quiet(f"… and {len(errors) - _LISTED:,} more.")


def show_losses(run: Run, item: TrainingItem) -> None:
    """Its loss per epoch under both masks."""
    losses = own_losses(run, item.position)
    heading(
        "Its own loss in training",
        "Under its own mask works the half that learns it, under the flipped one the half that "
        "never sees it; mean over members.",
    )
    figure = losses_figure(losses.epochs, losses.series, losses.kept, height=300)
    chart(figure, losses.alt)


def show_neighbours(opened: Opened, item: TrainingItem) -> None:
    """The training items nearest to it."""
    heading(
        "Most like it",
        "The nearest training items by the cosine of what the model’s heads see. Near 1 is a near "
        "duplicate.",
    )
    near = nearest(opened.run, opened.training, item.position)
    with st.grid("auto", min_column_width=180, gap="small"):
        for number, neighbour in enumerate(near, start=1):
            with st.container(border=True, gap="xsmall"):
                st.html(_neighbour_html(neighbour, item.label))
                st.button(
                    f"Open neighbour {number}",
                    type="tertiary",
                    on_click=go_to,
                    args=(neighbour.item.id,),
                )


def _show_proposals(item: TrainingItem, alternatives: Sequence[Proposal]) -> None:
    if not alternatives:
        quiet(
            f"Nothing in this run speaks for another label: the full network gives “{item.label}” "
            f"{item.probability:.0%}."
        )
    for proposal in alternatives:
        notice(
            f"Proposed label: {proposal.label}",
            " ".join(proposal.evidence) + " This is evidence, not proof: look at the item.",
        )


def _item_html(run: Run, item: TrainingItem) -> str:
    body = (
        image_html(item.image, 144, f"training image labelled {item.label}")
        if item.image
        else marked_html(mark(item.text, (), pieces=run_pieces(run)))
    )
    facts = (
        f"<span>label {chip_html(item.label)}</span>{mark_html(item.injected)}<span "
        f'class="to-id">{safe(item.id)}</span>'
    )
    return f'<div class="to-target">{body}<div class="to-facts">{facts}</div></div>'


def _target_html(target: Target, decimals: int) -> str:
    side = "for" if target.influence > 0 else "against"
    error = (
        ""
        if target.std_error is None
        else f'<span class="to-error"> ± {target.std_error:.{decimals}f}</span>'
    )
    number = (
        '<span class="to-number '
        f'to-{side}">{signed(target.influence, decimals)}{error}{trust_html(target.trust)}</span>'
    )
    chips = chip_html(target.label) + (
        f' <span class="to-arrow">→</span> {chip_html(target.predicted, "wrong")}'
        if target.wrong
        else ""
    )
    return (
        f'<div class="to-line"><span>{chips}</span>{number}</div>'
        f"{_content_html(target.text, target.image, target.label, target.id)}"
    )


def _error_html(error: ErrorItem) -> str:
    chips = (
        f'{chip_html(error.label)} <span class="to-arrow">→</span> '
        f"{chip_html(error.predicted, 'wrong')}"
    )
    return (
        f"<div>{chips}</div>"
        f"{_content_html(snippet(error.text, 90), error.image, error.label, error.id)}"
    )


def _neighbour_html(neighbour: Neighbour, label: str) -> str:
    item = neighbour.item
    same = "same label" if item.label == label else "another label"
    chip = chip_html(item.label, "label" if item.label == label else "wrong")
    head = (
        f'<div class="to-line"><span>{chip} <span class="to-trust">{same}</span></span><span '
        f'class="to-number">{neighbour.cosine:.3f}</span></div>'
    )
    return head + _content_html(snippet(item.text), item.image, item.label, item.id)


def _content_html(text: str, image: bytes, label: str, name: str) -> str:
    body = (
        image_html(image, 56, f"image of class {label}")
        if image
        else f'<div class="to-text" dir="auto">{safe(text)}</div>'
    )
    return f'{body}<span class="to-id">{safe(name)}</span>'
