"""A model that a user names, built once before anything is trained: what does not go together is said in seconds, not after the data are read."""

from __future__ import annotations

from dataclasses import replace

import torch

from turnover.models.encoders import needs_hub
from turnover.pipeline.architecture import ImageInputs, TextInputs, build_model, reads_features
from turnover.pipeline.plan import Plan


def try_model(plan: Plan) -> None:
    """Build a member or two for the form of the training items, on the CPU.

    What would have to be downloaded is left for the training: where that is the encoder, the function of a module of the user's own is loaded, not called.

    Raises:
        TurnoverError: if it cannot be built.
    """
    settings, items, cpu = replace(plan.settings, members=min(plan.settings.members or 1, 2), pretrained=False), plan.data.train, torch.device("cpu")
    if needs_hub(settings.encoder):
        reads_features(settings, plan.data.kind)  # loads a function of the user's own
        return
    if items.images is not None:
        row = ImageInputs(settings, cpu)(items.images[:1])
    else:
        assert items.texts is not None
        row = TextInputs(settings, cpu)(items.texts[:1])
    build_model(settings, len(plan.data.classes), row.shape[1:])
