"""Law 4 for text encoders of transformers, whatever they read; and what a shared prefix saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaModel,
)

from tests.helpers.builders import ODD_IDS, SHARED, check_law_4, randn, some_labels
from turnover import TurnoverDropout, influence, mean_influence, top_influences
from turnover.models.adapters import AdapterClassifier, MaskedClassifier

PADDING = 1
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "max_position_embeddings": 32,
}
ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: BertModel(BertConfig(**SIZES, initializer_range=0.5, pad_token_id=PADDING)),
    "bert in eager mode": lambda: BertModel(
        BertConfig(
            **SIZES, initializer_range=0.5, pad_token_id=PADDING, attn_implementation="eager"
        )
    ),
    "roberta": lambda: RobertaModel(
        RobertaConfig(**SIZES, initializer_range=0.5, pad_token_id=PADDING)
    ),
    "electra": lambda: ElectraModel(
        ElectraConfig(**SIZES, initializer_range=0.5, pad_token_id=PADDING, embedding_size=8)
    ),
}


@pytest.fixture(autouse=True)
def unset_memory_is_nan() -> Iterator[None]:
    """So that a value that was not computed shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def grown(model: nn.Module) -> nn.Module:
    """The model in float64, its new weights as large as after much training, in evaluation mode."""
    for number, (name, parameter) in enumerate(model.double().named_parameters()):
        if ".down." in name or ".up." in name or name.startswith("out."):
            parameter.data = randn(*parameter.shape, seed=number) / 2
    return model.eval()


def adapters(
    kind: str = "bert", layers: int | None = 1, classes: int = 3, groups: int | None = None
) -> nn.Module:
    torch.manual_seed(0)
    return grown(
        AdapterClassifier(
            ENCODERS[kind](), classes, layers=layers, groups=groups, seed=0, bottleneck=8
        )
    )


def texts(rows: int = 4) -> dict[str, Tensor]:
    """Token ids of texts of 9, 5, 1 and 9 tokens."""
    ids = torch.randint(3, 50, (rows, 9), generator=torch.Generator().manual_seed(1))
    keep = torch.ones_like(ids)
    for row, length in ((1, 5), (2, 1)):
        ids[row : row + 1, length:], keep[row : row + 1, length:] = PADDING, 0
    return {"input_ids": ids, "attention_mask": keep}


class Bare(nn.Module):
    """A classifier in the shape of transformers' own: named inputs, an output with logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutput

        return SequenceClassifierOutput(logits=self.model(**inputs))


CASES = [
    *(("bert", 1, None), ("bert", None, 4), ("bert in eager mode", 1, 4)),
    *(("roberta", 1, 4), ("roberta", None, None), ("electra", 1, None), ("electra", None, 4)),
]


@pytest.mark.parametrize(("kind", "layers", "groups"), CASES)
def test_law_4_with_adapters_in_the_last_layer_and_in_all(
    kind: str, layers: int | None, groups: int | None
) -> None:
    """Padding in some targets; float64."""
    check_law_4(Bare(adapters(kind, layers, groups=groups)), texts(), some_labels(4, 3), SHARED)


def test_law_4_in_single_precision() -> None:
    check_law_4(Bare(adapters("electra").float()), texts(), some_labels(4, 3), SHARED)


def test_law_4_with_masks_everywhere() -> None:
    torch.manual_seed(0)
    check_law_4(
        Bare(grown(MaskedClassifier(ENCODERS["bert"](), 10, groups=None, seed=0))),
        texts(),
        some_labels(4, 10),
        SHARED,
    )


@pytest.mark.parametrize("keep", [None, torch.int64, torch.bool, torch.float64])
def test_law_4_without_an_attention_mask_and_with_any_number_type_of_it(
    keep: torch.dtype | None,
) -> None:
    inputs = texts()
    mask = inputs.pop("attention_mask")
    if keep is not None:
        inputs["attention_mask"] = mask.to(keep)
    check_law_4(Bare(adapters()), inputs, some_labels(4, 3), SHARED)


def test_law_4_for_token_ids_as_one_tensor() -> None:
    """More of them than it takes to look for chains."""
    check_law_4(adapters(), texts(17)["input_ids"], some_labels(17, 3), SHARED, ODD_IDS[:3])


def test_law_4_in_several_tiles() -> None:
    """The last of one row."""
    model, inputs, labels = Bare(adapters()), texts(3), some_labels(3, 3)
    made = influence(model, inputs, labels, range(129))
    alone = check_law_4(model, inputs, labels, SHARED, [0, 127, 128])
    assert made.backend == alone.backend
    torch.testing.assert_close(made.values[..., [0, 127, 128]], alone.values, rtol=0, atol=1e-12)


def masked_bert(classes: int) -> BertForSequenceClassification:
    """A classifier of transformers with masks on tokens (3-D) and before the output (2-D)."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(**SIZES, num_labels=classes, initializer_range=0.5)
    )
    for number, layer in enumerate(model.bert.encoder.layer):
        layer.intermediate = nn.Sequential(
            layer.intermediate, TurnoverDropout(32, groups=8, layer=number)
        )
    model.classifier = nn.Sequential(TurnoverDropout(16, layer=3), model.classifier)
    return model.double().eval()


@pytest.mark.parametrize("classes", [2, 10])
def test_law_4_for_a_classifier_of_transformers(classes: int) -> None:
    check_law_4(masked_bert(classes), texts(), some_labels(4, classes), SHARED)


def test_bert_is_evaluated_without_its_own_dropout() -> None:
    model, inputs, labels = masked_bert(2).train(), texts(), some_labels(4, 2)
    first, second = (influence(model, inputs, labels, ODD_IDS).values for _ in range(2))
    assert torch.equal(first, second)
    assert all(module.training for module in model.modules())


def test_mean_and_top_influences_of_named_inputs() -> None:
    model, inputs, labels = Bare(adapters()), texts(), some_labels(4, 3)
    whole = influence(model, inputs, labels, range(40)).values
    torch.testing.assert_close(
        mean_influence(model, inputs, labels, range(40)), whole.mean(1), rtol=0, atol=1e-9
    )
    torch.testing.assert_close(
        top_influences(model, inputs, labels, range(40), 5).proponents,
        whole.mean(0).topk(5).values,
        rtol=0,
        atol=1e-9,
    )


# What is saved


def flops(model: nn.Module, inputs: Any, count: int, plain: bool = False) -> int:
    """Floating-point operations of the large products for so many instances."""
    with FlopCounterMode(display=False) as counter:
        influence(model, inputs, some_labels(4, 3), range(count), plain=plain)
    return int(counter.get_total_flops())


def per_instance(model: nn.Module, inputs: Any, plain: bool = False) -> float:
    """What one more instance costs, on top of what is done once a target."""
    return (flops(model, inputs, 7, plain) - flops(model, inputs, 3, plain)) / 4


def test_the_work_before_the_first_mask_does_not_grow_with_the_instances() -> None:
    """An instance costs exactly two passes through the tail for each target."""
    width, depth = 32, 7
    prefix = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
    tail = [TurnoverDropout(width, layer=0), nn.Linear(width, 3)]
    model, x = nn.Sequential(*prefix, *tail).double(), randn(4, width)
    one_row = 2 * width * 3
    assert per_instance(model, x) == 4 * 2 * one_row
    assert per_instance(model, x, plain=True) == 4 * 2 * (one_row + depth * 2 * width * width)


def test_convolutions_before_the_first_mask_are_run_once_a_target() -> None:
    prefix, tail = (
        (nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()),
        (TurnoverDropout(8, layer=0, dim=1), nn.Conv2d(8, 3, 8), nn.Flatten()),
    )
    model, x = nn.Sequential(*prefix, *tail).double(), randn(4, 1, 8, 8)
    assert per_instance(model, x) == 4 * 2 * (2 * 8 * 8 * 8 * 3)


def test_adapters_in_the_last_layer_cost_less_than_half_of_a_pass() -> None:
    """In the last of three layers; with adapters in all, nearly all is after the first mask."""
    shares = []
    for layers in (1, None):
        model, inputs = Bare(adapters(layers=layers)), texts()
        shares.append(per_instance(model, inputs) / per_instance(model, inputs, plain=True))
    assert shares[0] < 0.35
    assert 0.7 < shares[1] < 1
