"""The losses of training (Figure 2): under the own mask, under the flipped mask, and on validation items.

The half of the network that never saw an item must do on it no better than on any new item, so the flipped training loss
has to stay near the validation loss, while the masked loss falls. Where it falls as well, something leaks. Next to the
paper's curve stands the validation loss under masks that nobody owns, which is what a flipped mask is to a new item.

VGG19 is trained with batch norm everywhere and with none behind the first mask: there its statistics, which all instances
of a batch enter, carry what the masks should keep apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from turnover.paper.row import PaperRow
from turnover.paper.setup import Setup
from turnover.paper.side_effect import image_settings, text_settings

_CURVES = ("masked", "flipped", "validation", "unowned")


def curves(setup: Setup) -> Iterator[PaperRow]:
    """Losses of each epoch, and how near the flipped loss is to the validation loss where training was stopped."""
    runs = {
        "sst2-adapters-5000": text_settings(setup, 5000),
        "cifar10-vgg19": image_settings(setup),
        "cifar10-vgg19-no-late-norm": image_settings(setup, late_norm=False),
    }
    for name, settings in runs.items():
        run = setup.run(name, settings)
        kept = int(run.manifest["results"]["kept_epoch"])
        for epoch in run.curves.to_dict("records"):
            losses = ", ".join(f"{curve} {epoch[curve]:.3f}" for curve in _CURVES)
            yield PaperRow(f"epoch {epoch['epoch']}{' (kept)' if epoch['epoch'] == kept else ''}", run.name, "", f"{losses}; accuracy {epoch['accuracy']:.1%}")
        last = run.curves.iloc[kept - 1]
        yield PaperRow("flipped over validation loss, kept epoch", run.name, "about 1", f"{last['flipped'] / last['validation']:.2f}")
        yield PaperRow("masked over validation loss, kept epoch", run.name, "far below 1", f"{last['masked'] / last['validation']:.2f}")
