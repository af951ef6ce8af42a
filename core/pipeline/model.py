"""A run's model and the inputs it was trained on, rebuilt from its folder."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from core.data.images import png_pixels
from core.models.members import MemberModel
from core.pipeline.train import TrainSettings, build_model, image_inputs
from core.runs import Run


def run_settings(run: Run) -> TrainSettings:
    """The settings that the run was trained with."""
    return TrainSettings(**run.manifest["settings"])


def input_shape(run: Run) -> tuple[int, ...]:
    """Shape of one model input: `(D,)` features of a text, or an image `(C, H, W)`."""
    if run.kind == "text":
        return run.array("features").shape[1:]
    return (1, *png_pixels(run.item("train", 0)["image"]).shape)


def load_model(run: Run, device: torch.device) -> MemberModel:
    """The trained members, in evaluation mode."""
    model = build_model(run.kind, run_settings(run), len(run.classes), input_shape(run))
    model.load_state_dict(load_file(run.folder / "weights.safetensors"))
    return model.to(device).eval()


def split_inputs(run: Run, split: str, rows: list[int], device: torch.device) -> Tensor:
    """Model inputs `(n, …)` of some items of `train` or `validation`."""
    if run.kind == "image":
        images = run.split(split)["image"].loc[rows]
        return image_inputs(np.stack([png_pixels(content) for content in images])).to(device)
    return torch.from_numpy(np.asarray(run.features(split)[rows])).to(device)
