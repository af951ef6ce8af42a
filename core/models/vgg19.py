"""VGG19 (Simonyan and Zisserman 2015) for 32 × 32 images, masked from the 12th convolution on.

Kobayashi et al. (2020) trained VGG19 on CIFAR-10. Here it is the 16 convolutions of torchvision's
`vgg19_bn`, each followed by batch norm and relu, and a classifier of three linear layers. VGG was
made for images of 224 × 224, which leave 7 × 7 positions of 512 channels for the classifier and its
hidden layers of 4096 units: 119 million weights. Images of 32 × 32 leave one position; for its 512
features hidden layers of 512 units are enough.

Masks are on the channels that the 12th and every later convolution reads, and on the units that
each linear layer reads. Where max pooling lies between a convolution and the next, the mask comes
after it: a mask keeps or drops a whole channel and pooling works inside a channel, so the order
makes no difference.

An instance whose mask switches a unit off cannot change any weight into or out of it; this includes
the convolution whose output is the first that is masked. Leaks (law 3) are the convolutions before
that one, the output bias, and batch norm, whose statistics every instance enters: through them, in
training, a loss even reaches the other rows of its batch. `norm_after_mask=False` omits batch norm
where channels are masked.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import partial

import torch
from torch import nn
from torchvision.models.vgg import cfgs, make_layers  # type: ignore[import-untyped]

from turnover.attribution.dropout import TurnoverDropout
from turnover.attribution.masks import derive_seed
from turnover.attribution.norms import split_norms

CONVOLUTIONS = 16
WIDTH = 512
FIRST = 12
"""Number of the first convolution whose input is masked."""
_INIT, _MASKS = 1, 2


class Vgg19(nn.Sequential):
    """Images `(B, 3, 32, 32)` → logits `(B, classes)`; children `features`, `pool`, `flatten` and
    `classifier`.

    Layers are numbered 1 to 19 from the image on: `features.conv12`, `classifier.linear17`; mask n
    comes before layer n.

    Attributes:
        leaks: what all instances share in spite of their masks, in words (law 3).
    """

    leaks: tuple[str, ...] = ()


def vgg19(
    classes: int,
    *,
    groups: int | None,
    seed: int,
    masks: int | None = None,
    width: int = WIDTH,
    dropout: float = 0.0,
    conv_dropout: float = 0.0,
    norm_after_mask: bool = True,
) -> Vgg19:
    """A new VGG19.

    Args:
        classes: number of classes.
        groups: mask this many groups of channels or units in each layer; None means single ones.
        seed: determines the masks and the weights.
        masks: how many masks the training instances share; None: every instance has its own.
        width: channels of the last convolutions and units of the hidden layers; the other layers
            are narrower in proportion.
        dropout: rate of ordinary dropout beside the masks of the classifier's hidden layers.
        conv_dropout: the same between the masked convolutions.
        norm_after_mask: keep batch norm after the first mask.

    Raises:
        TurnoverError: if `groups` does not divide a layer's width.
    """
    mask = partial(TurnoverDropout, groups=groups, seed=derive_seed(seed, _MASKS), masks=masks)
    with torch.device("meta"):  # no memory or random draws, since torchvision initialises weights
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            features=_features(width, norm_after_mask, conv_dropout, mask),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=_classifier(width, classes, dropout, mask),
        )
        model = Vgg19(parts)
    model.to_empty(device="cpu")
    _initialise(model, seed)
    split_norms(model)
    model.leaks = (
        f"convolutions 1 to {FIRST - 2} and their batch norms",
        f"the statistics of batch norms 1 to {CONVOLUTIONS if norm_after_mask else FIRST - 1} "
        "under masks and without",
        "the output bias",
    )
    return model


def _features(
    width: int, norm_after_mask: bool, dropout: float, mask: partial[TurnoverDropout]
) -> nn.Sequential:
    """torchvision's convolutions with masks between; relu is not in place, so that hooks may keep
    its input.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    number = 0
    plan = [part if part == "M" else part * width // WIDTH for part in cfgs["E"]]
    for layer in make_layers(plan, batch_norm=True):
        if isinstance(layer, nn.Conv2d):
            number += 1
            if number >= FIRST:
                layers[f"mask{number}"] = mask(layer.in_channels, layer=number, dim=1)
            layers[f"conv{number}"] = layer
        elif isinstance(layer, nn.ReLU):
            layers[f"relu{number}"] = nn.ReLU()
            if dropout and number >= FIRST:
                layers[f"dropout{number}"] = nn.Dropout(dropout)
        elif isinstance(layer, nn.MaxPool2d):
            layers[f"pool{number}"] = layer
        elif norm_after_mask or number < FIRST:
            layers[f"norm{number}"] = layer
    return nn.Sequential(layers)


def _classifier(
    width: int, classes: int, dropout: float, mask: partial[TurnoverDropout]
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, width_out in enumerate((width, width, classes), start=CONVOLUTIONS + 1):
        layers[f"mask{number}"] = mask(width, layer=number)
        layers[f"linear{number}"] = nn.Linear(width, width_out)
        if number < CONVOLUTIONS + 3:
            layers[f"relu{number}"] = nn.ReLU()
            if dropout:
                layers[f"dropout{number}"] = nn.Dropout(dropout)
    return nn.Sequential(layers)


def _initialise(model: nn.Module, seed: int) -> None:
    """He initialisation, each layer from its own seed; a mask doubles the mean square of the
    layer's input, so its weights get half the variance.
    """
    number, gain = 0, 2.0
    for module in model.modules():
        if isinstance(module, TurnoverDropout):
            gain = 2 * module.keep
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            number += 1
            generator = torch.Generator().manual_seed(derive_seed(seed, _INIT, number))
            nn.init.normal_(
                module.weight, std=math.sqrt(gain / module.weight[0].numel()), generator=generator
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)
