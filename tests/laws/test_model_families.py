"""One contract for every family of models: what items reach, leaks, influences and members."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor
from transformers import BertTokenizerFast

from tests.helpers.builders import LAW_4, naive_influence, randn
from tests.helpers.model_families import (
    CASES,
    CLOSE,
    IDS,
    LABELS,
    ROWS,
    Family,
    backward,
    build,
    chains,
    grown,
    touched,
)
from tests.helpers.own_modules import IMAGES
from tests.helpers.tiny_encoders import tiny_encoder, unmasked
from turnover import TurnoverDropout, TurnoverError, influence, turnover
from turnover.attribution.dropout import turnover_layers
from turnover.attribution.ensemble import Ensemble, Members, member_cohorts, shared_masks
from turnover.attribution.norms import moving_norms, two_sets
from turnover.attribution.state import load_trained, trained_state
from turnover.models.names import allow
from turnover.models.own import OwnMembers
from turnover.models.registry import families, find_family


@pytest.fixture(scope="module", autouse=True)
def small_images() -> Iterator[None]:
    """torchvision at 32 × 32: the laws are those of 224 × 224, at a fiftieth of the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnover.models.torchvision._SIDE", 32)
        patch.setattr(sys, "path", list(sys.path))
        yield


@pytest.fixture(scope="module", params=CASES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    case, folder = CASES[request.param], tmp_path_factory.mktemp("family")
    settings = dict(case.settings)
    if case.encoder:
        words = folder / "words.txt"
        words.write_text(
            "\n".join(("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")), encoding="utf-8"
        )
        BertTokenizerFast(vocab_file=str(words)).save_pretrained(folder)
        tiny_encoder(case.encoder).save_pretrained(folder)  # type: ignore[operator]
        settings["encoder"] = str(folder)
    if settings.get("model") == "own":
        (folder / "family_module.py").write_text(IMAGES, encoding="utf-8")
        settings["model"] = f"{folder / 'family_module.py'}:build"
        allow(settings["model"])
    model = grown(build(settings, case, case.members), case.dtype)
    x = randn(ROWS, *case.shape).to(case.dtype)
    if case.encoder:
        x = torch.randint(3, 50, (ROWS, 9), generator=torch.Generator().manual_seed(1))
        x[1:, 5:] = 1
    elif case.settings.get("from_layer"):
        x = x.clamp(-1, 1)
    if isinstance(model, OwnMembers) and not model.leaks:
        model.find_leaks(x, LABELS)
    return Family(case, settings, model, x)


# What an instance's loss can reach


def test_every_family_is_a_case() -> None:
    named = {find_family(case.settings["model"]) for case in CASES.values()}
    assert {*families()} - named == {family for family in families() if family.code}


def test_law_3_no_gradient_where_a_mask_is_off(family: Family) -> None:
    """Exactly none; and some in every part that a mask leaves on."""
    model = copy.deepcopy(family.model)
    layers = {name for before, _, after in chains(model) for name in (*before, after) if name}
    masks = [name for name, own in model.named_modules() if isinstance(own, TurnoverDropout)]
    assert sorted(masks) == sorted(mask for _, mask, _ in chains(model))
    reached = set()
    for instance in (0, 2**62):
        backward(model, family.x, [instance] * ROWS)
        off, on = touched(model, instance)
        assert not off and on
        reached |= on
    assert reached == layers


def test_law_3_in_training_a_row_of_a_batch_keeps_to_its_own_units(family: Family) -> None:
    """But where batch norm lies behind a mask, as the leaks say."""
    model = copy.deepcopy(family.model).train()
    backward(model, family.x, [3, 4], slice(0, 1))
    assert bool(touched(model, 3)[0]) == family.stray


def test_leaks_are_what_every_instance_changes_and_no_more(family: Family) -> None:
    model = copy.deepcopy(family.model)
    assert model.leaks == tuple(family.case.leaks)
    shared = {
        name: torch.ones_like(own, dtype=torch.bool) for name, own in model.named_parameters()
    }
    x = family.x[: 1 if family.case.members == 1 else ROWS]
    for instance in range(12 if family.case.members == 1 else 24):
        backward(model, x, [instance] * len(x))
        for name, own in model.named_parameters():
            shared[name] &= torch.zeros_like(shared[name]) if own.grad is None else own.grad != 0
    leaked = {name for name, part in shared.items() if part.any()}
    before = {name: value.clone() for name, value in model.named_buffers()}
    with torch.random.fork_rng():
        model.train()(torch.cat((family.x, family.x)))
    leaked |= {name for name, own in model.named_buffers() if not torch.equal(own, before[name])}
    assert all(map(two_sets, moving_norms(model).values()))
    assert not {name for name in leaked if not family.leak(name)}
    for words, place in family.case.leaks.items():
        assert any(re.search(place, name) for name in leaked), words


@pytest.mark.parametrize("frozen", [True, False])
def test_a_step_reaches_the_flipped_half_by_leaks_alone(frozen: bool, family: Family) -> None:
    model = copy.deepcopy(family.model)
    for name, own in model.named_parameters():
        own.requires_grad_(own.requires_grad and not (frozen and family.leak(name)))
    logits = []
    for _ in range(2):
        for flipped in (False, True):
            with torch.no_grad(), turnover([5] * ROWS, flipped):
                logits.append(model(family.x))
        backward(model, family.x, [5] * ROWS)
        torch.optim.SGD([own for own in model.parameters() if own.grad is not None], lr=0.1).step()
    assert not torch.allclose(logits[0], logits[2])
    assert torch.equal(logits[1], logits[3]) == frozen


# Shared masks


@pytest.fixture(scope="module")
def sharing(family: Family) -> Members:
    """The family with four masks, in the number type of exact laws."""
    found = find_family(family.settings["model"])
    assert found is not None
    if "masks" not in {option.name for option in found.options()}:
        pytest.skip("the code of one's own makes the masks")
    settings = {**family.settings, "masks": 4}
    return grown(build(settings, family.case, family.case.members), torch.float64)


def test_law_4_with_shared_masks(sharing: Members, family: Family) -> None:
    """Four passes a target give what the plain loop over all instances gives, in every family."""
    x = family.x if family.case.encoder else family.x.double()
    expected = torch.cat(
        [naive_influence(own, x, LABELS, IDS) for own in getattr(sharing, "models", [sharing])]
    )
    made = influence(sharing, x, LABELS, IDS)
    assert made.by_mask.shape == (sharing.members, ROWS, 4) and shared_masks(sharing) == 4
    torch.testing.assert_close(made.values, expected, rtol=0, atol=LAW_4[torch.float64])
    assert expected.abs().max() > 1e-4


def test_law_3_with_shared_masks(sharing: Members, family: Family) -> None:
    """A cohort's loss reaches no unit that its mask switches off, and so nothing of the cohort
    with the complementary mask but the leaks.
    """
    model, ids = copy.deepcopy(sharing), torch.arange(60)
    x, cohorts = family.x if family.case.encoder else family.x.double(), member_cohorts(model, ids)
    assert cohorts is not None
    for cohort in range(4):
        instance = cohorts[0].tolist().index(cohort)
        backward(model, x, [instance] * ROWS)
        off, on = touched(model, instance)
        assert not off and on


# Influences, and no masks


def test_law_4_influence_is_that_of_each_member_s_naive_loop(family: Family) -> None:
    model, x, case_type = family.model, family.x, family.case.dtype
    whole = naive_influence(model, x, LABELS, IDS) if not isinstance(model, Ensemble) else None
    alone = [naive_influence(own, x, LABELS, IDS) for own in getattr(model, "models", [])]
    expected = torch.cat(alone) if whole is None else whole
    assert expected.abs().amax((1, 2)).min() > 1e-4
    for plain in (False, True):
        made = influence(model, x, LABELS, IDS, plain=plain)
        assert plain or made.backend.startswith(family.case.path), made.backend
        torch.testing.assert_close(made.values, expected, rtol=0, atol=LAW_4[case_type])


def test_law_6_without_a_context_it_is_the_model_without_masks(family: Family) -> None:
    ordinary, plain = family.model(family.x), unmasked(family.model)
    assert torch.equal(ordinary, plain(family.x))
    assert not any(isinstance(module, TurnoverDropout) for module in plain.modules())
    with turnover([1, 2]):
        masked = family.model(family.x)
    assert not any(torch.allclose(one, other) for one, other in zip(masked, ordinary, strict=True))


# Members


@pytest.mark.parametrize("flipped", [False, True])
def test_members_run_side_by_side_as_each_would_alone(flipped: bool, family: Family) -> None:
    """With rows and instances of each member's own, with shared ones, and without masks."""
    model, x = family.model, family.x
    ids = torch.tensor([[5, 2**60], [9, 9]])[: model.members]
    rows = torch.stack([x, x.flip(0)])[: model.members]
    with turnover(ids, flipped):
        made, shared = model.member_rows(rows), model(x)
    for number in range(model.members):
        with turnover(ids[number], flipped):
            own = [model(part)[number] for part in (rows[number], x)]
        for one, other in zip((made[number], shared[number]), own, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=CLOSE[family.case.dtype])
        if isinstance(model, Ensemble):
            with turnover(ids[number], flipped):
                torch.testing.assert_close(made[number], model.models[number](rows[number]))
            torch.testing.assert_close(model(x)[number], model.models[number](x))
    assert model.features(x).shape[:2] == (model.members, ROWS)
    torch.testing.assert_close(model.member_rows(x.expand(model.members, *x.shape)), model(x))


def per_member(model: Members) -> list[dict[str, Tensor]]:
    """What each member has of its own: trained weights and, for some instances, masks."""
    found = []
    for k in range(model.members):
        single = isinstance(model, Ensemble)
        own = model.models[k] if single else model
        trained = {name: value for name, value in own.named_parameters() if value.requires_grad}
        state = {name: value if single else value[k] for name, value in trained.items()}
        for number, layer in enumerate(turnover_layers(own)):
            masks = layer.mask(range(100))
            state[f"mask {number}"] = masks if single else masks[k]
        found.append(state)
    return found


def test_members_and_runs_differ_and_k_changes_no_member(family: Family) -> None:
    """The seed decides all that is drawn; the global random state decides nothing and stays."""
    case, settings = family.case, family.settings
    torch.manual_seed(8)
    before = torch.get_rng_state()
    one = per_member(build(settings, case, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    again = per_member(build(settings, case, 3))
    other = per_member(build(settings, case, 1, seed=100))
    for k, (first, second) in enumerate(zip(one, again, strict=False)):
        assert all(torch.equal(first[name], second[name]) for name in first), k
    new = re.compile(r"^(?!.*encoder\.)|\.(up|down)\.")  # an encoder is the same for all
    drawn = [name for name, value in one[0].items() if value.dim() > 1 and new.search(name)]
    if (kind := find_family(settings["model"])) and kind.trained_before:
        drawn = []  # members start from the same weights, and differ in masks and batches
    for first, second in combinations([*again, *other], 2):
        for name in (name for name in drawn if name.endswith("weight")):
            assert not torch.equal(first[name], second[name]), name
        for name in (name for name in first if name.startswith("mask")):
            assert 0.35 < (first[name] == second[name]).double().mean() < 0.65, name
    masks = [value for name, value in one[0].items() if name.startswith("mask")]
    for mask, following in pairwise(masks):
        assert mask.shape != following.shape or not torch.equal(mask, following)


def test_what_is_trained_is_kept_and_another_s_is_refused(family: Family) -> None:
    model, case, settings = family.model, family.case, family.settings
    state = {name: value.clone() for name, value in trained_state(model).items()}
    trained = {name for name, own in model.named_parameters() if own.requires_grad}
    assert trained <= {*state} <= {*model.state_dict()}
    if not getattr(model, "whole", False):
        assert {*state} - trained <= {name for name, _ in model.named_buffers()}
    again = build(settings, case, case.members).to(case.dtype).eval()
    load_trained(again, state)
    logits = []
    for one in (model, again):
        with turnover([3, 8]):
            logits.append(one(family.x))
    assert torch.equal(*logits)
    other = build(settings, case, case.members + 1)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(
        TurnoverError, match=r"^the weights are of another \w+: they differ at '[^\n]+"
    ):
        load_trained(other, state)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
