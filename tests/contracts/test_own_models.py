"""A module of the user's own: trained, opened only with the user's word, its influences, its leaks, and errors in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from core import Run, TurnoverDropout, TurnoverError, influence, turnover
from core.cli import main
from core.models import source
from core.models.own import OwnMembers, found_leaks, own_members
from core.models.source import ALLOW, allow, is_module, load_function, source_checksum
from core.pipeline.model import load_model, split_inputs
from core.training import probabilities
from tests.helpers.builders import ROOT, names, randn, run_python, small_cnn, some_labels
from tests.helpers.own_modules import own_code
from tests.helpers.token_builders import encoder_in, sst2_in

__all__ = ["own_code"]
CPU = torch.device("cpu")
IMAGES = ("--data", "digits", "--limit", 40, "--validation-limit", 20, "--epochs", 2)


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code = main([*map(str, arguments), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return dict(json.loads(said.out))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command is refused with."""
    assert main([*map(str, arguments), "--json"]) == 2
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("python -m core")]
    assert said.out == "" and len(lines) == 1 and "Traceback" not in said.err
    return lines[0]


@pytest.fixture
def trained(own_code: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run of two members, trained by naming the code; nothing is allowed any more."""
    command(capsys, "train", *IMAGES, "--model", "own_images:build", "--members", 2, "--seed", 3, "--run", own_code / "run")
    source._allowed.clear()
    return own_code / "run"


def test_a_run_of_an_own_module_has_the_engine_s_influences(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Law 4 through the whole pipeline; members differ in masks and weights."""
    command(capsys, "influence", "--run", trained, "--model", "own_images:build")
    run = Run(trained)
    model, rows = load_model(run, CPU), split_inputs(run, "validation", list(range(20)), CPU)
    assert isinstance(model, OwnMembers)
    expected = influence(model, rows, torch.tensor(run.validation["label"].tolist()), range(40), plain=True).values
    np.testing.assert_allclose(run.influence.array("truth_members"), expected, atol=1e-4)
    assert not torch.allclose(expected[0], expected[1])
    np.testing.assert_allclose(probabilities(model, rows), run.validation[[f"probability_{number}" for number in range(10)]], atol=1e-5)
    with torch.no_grad():
        seen = [nn.Sequential(*list(own)[:8])(rows) for own in model.models]  # type: ignore[call-overload]
    np.testing.assert_allclose(run.features("validation"), torch.cat(seen, 1), atol=1e-5)


def test_member_k_is_what_the_function_builds_with_seed_s_plus_k(own_code: Path) -> None:
    allow("own_images:build")
    checksum = source_checksum("own_images:build")
    model = own_members("own_images:build", checksum, 10, (1, 8, 8), members=3, seed=5, tokens=False)
    torch.manual_seed(7)
    alone = load_function("own_images:build", checksum)(10, (1, 8, 8), 7)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, model.models[2].state_dict()[name])
    assert model.models[2][5].seed == 7  # type: ignore[index]


def test_naming_the_file_is_naming_the_module(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "train", *IMAGES, "--model", "own_images.py:build", "--members", 2, "--seed", 3, "--run", trained.parent / "file")
    same = [(folder / "weights.safetensors").read_bytes() for folder in (trained, trained.parent / "file")]
    assert same[0] == same[1]


def test_an_own_module_is_explained_and_serves_the_dashboard(trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command and by the worker, which the environment variable allows, since the dashboard starts it."""
    command(capsys, "influence", "--run", trained, "--model", "own_images:build")
    run = Run(trained)
    (trained.parent / "digit.png").write_bytes(run.item("validation", 0)["image"])
    made = command(capsys, "explain", "--run", trained, "--model", "own_images:build", "--image", trained.parent / "digit.png", "--top", 3)
    assert made["predicted"] == run.classes[int(run.validation["predicted"].iloc[0])]
    best = run.influence.ranked(0, "prediction").ends(3)[0]
    assert [entry["position"] for entry in made["proponents"]] == list(best)
    source._allowed.clear()
    monkeypatch.setattr("sys.stdin", iter(()))
    assert "opening a run does not run code" in refused(capsys, "worker", "--run", trained)
    monkeypatch.setenv(ALLOW, "other:name,own_images:build")
    assert main(["worker", "--run", str(trained)]) == 0
    assert '{"ready": true}' in capsys.readouterr().out


def test_an_own_module_for_texts_reads_features_or_tokens(own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ("--data", "sst2", "--path", sst2_in(own_code / "sst2"), "--encoder", encoder_in(own_code / "encoder"), "--epochs", 2)
    for name, width in (("features", 32), ("tokens", 8)):
        folder, model = own_code / name, f"own_texts:{name}"
        command(capsys, "train", *data, "--model", model, "--run", folder)
        command(capsys, "influence", "--run", folder, "--model", model)
        run = Run(folder)
        assert run.features("train").shape == (24, width)
        made = command(capsys, "explain", "--run", folder, "--model", model, "--text", run.validation["text"].iloc[0])
        assert made["probabilities"][run.classes[0]] == pytest.approx(float(run.validation["probability_0"].iloc[0]), abs=1e-5)
    assert "reads 'letters'" in refused(capsys, "train", *data, "--model", "own_texts:letters", "--run", own_code / "letters")
    assert not (own_code / "letters").exists()


# Whose code is run


def test_opening_a_run_imports_nothing_that_the_user_did_not_name(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The threat: a run folder made by somebody else, whose manifest names code. Nothing of it may happen, not even the import."""
    command(capsys, "influence", "--run", trained, "--model", "own_images:build")
    source._allowed.clear()
    (trained.parent / "evil.py").write_text("open('stolen', 'w').write('x')\ndef build(*_): pass\n", encoding="utf-8")
    manifest = json.loads((trained / "manifest.json").read_text(encoding="utf-8"))
    manifest["settings"] |= {"model": "evil:build", "source": source_checksum("evil:build")}
    (trained / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    for told in ((), ("--model", "own_images:build")):
        for one in (("influence",), ("explain", "--text", "x"), ("cleanse",), ("worker",), ("evaluate", "--measure", "planted")):
            line = refused(capsys, *one, "--run", trained, *told)
            assert "evil:build, and opening a run does not run code by itself" in line and "--model evil:build" in line and ALLOW in line
    for one in (("errors",), ("groups",), ("export", "--out", str(trained.parent / "flags.csv"))):
        assert main([*one, "--run", str(trained)]) == 0
    assert not (trained.parent / "stolen").exists()
    with pytest.raises(TurnoverError, match=ALLOW):
        load_model(Run(trained), CPU)


def test_a_source_that_changed_or_is_gone_is_refused_before_it_runs(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = trained.parent / "own_images.py"
    code.write_text(code.read_text(encoding="utf-8") + "\nopen('ran', 'w')\n", encoding="utf-8")
    line = refused(capsys, "influence", "--run", trained, "--model", "own_images:build")
    assert f"{code}: changed since the run was made" in line
    assert "own_images:build was begun" not in line and not (trained.parent / "ran").exists()
    code.unlink()
    assert f"{code} cannot be read" in refused(capsys, "influence", "--run", trained, "--model", "own_images:build")


def test_a_run_is_browsed_without_its_code(trained: Path) -> None:
    """Pages and `core.Run` read the folder only."""
    told = run_python("import sys, core; from pathlib import Path; print(len(core.Run(Path(sys.argv[1])).errors), 'own_images' in sys.modules)", trained)
    assert told.split()[1] == "False"


BAD = {
    "own_images:nothing": "has no function 'nothing'",
    "own_images:number": "has no function 'number'",
    "own_images:maskless": "has no TurnoverDropout layer",
    "own_images:one_too_many": r"makes (2, 11); return logits of shape (2, 10)",
    "own_images:text": "returned a str; return a torch.nn.Module",
    "own_images:failing": "own_images.py, line 32: ValueError: not today",
    "own_images:mute": "own_images.py, line 36: SystemExit",
    "nowhere:build": "no module 'nowhere'",
    "nowhere.py:build": "cannot be read (No such file or directory)",
    "os.nowhere:build": "no module 'os.nowhere'",
    "sys:exit": "no module 'sys' with Python source",
    ":build": "not of the form module:function",
    "own_images:": "not of the form module:function",
    "own_images:a:b": "not of the form module:function",
}


@pytest.mark.parametrize("model", BAD)
def test_what_cannot_be_a_model_is_refused_in_one_line(model: str, own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(own_code)
    assert BAD[model] in refused(capsys, "train", *IMAGES, "--model", model, "--run", own_code / "run")
    assert [name for name in names(own_code) if name != "__pycache__"] == before


SERVED = ("normed", "half", "tied", "one_trunk", "checkpointed")


@pytest.mark.parametrize("model", SERVED)
def test_modules_of_every_sort_train_are_kept_and_measured(model: str, own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 65 training items in batches of 64 the last one joins the others; opened again, a module has the weights and influences that it was left with."""
    named, run = ("--model", f"own_images:{model}"), own_code / "run"
    few = ("--data", "digits", "--limit", 65, "--validation-limit", 20, "--epochs", 2, "--members", 2)
    command(capsys, "train", *few, *named, "--run", run, "--check")
    command(capsys, "train", *few, *named, "--run", run)
    command(capsys, "influence", "--run", run, *named)
    opened = Run(run)
    members, rows = load_model(opened, CPU), split_inputs(opened, "validation", list(range(20)), CPU)
    assert isinstance(members, OwnMembers)
    np.testing.assert_allclose(probabilities(members, rows), opened.validation[[f"probability_{number}" for number in range(10)]], atol=1e-5)
    labels, kept = torch.tensor(opened.validation["label"].tolist()), opened.influence.array("truth_members")
    for number, member in enumerate(members.models):
        halves = []
        for flipped in (False, True):
            with torch.no_grad(), turnover([7] * 20, flipped):
                halves.append(nn.functional.cross_entropy(member(rows).float(), labels, reduction="none"))
        np.testing.assert_allclose(kept[number][:, 7], halves[1] - halves[0], atol=0.05 if model == "half" else 1e-4)
    assert float(np.abs(kept).max()) > 1e-2


REFUSED = {
    "passed_by": "mask layer 'late' (TurnoverDropout(width=10, p=0.5, groups=None, seed=0, layer=7, dim=-1)) runs in training but did not",
    "sparse": "'table' is sparse, so the trained model could not be saved",
}


@pytest.mark.parametrize("model", REFUSED)
def test_what_could_not_be_measured_or_kept_is_found_by_the_check(model: str, own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert REFUSED[model] in refused(capsys, "train", *IMAGES, "--model", f"own_images:{model}", "--run", own_code / "run", "--check")


WRONG_IN_TRAINING = {
    "odd_mode": "own_images.py, line 51: AssertionError; correct it",
    "odd_forward": "own_images.py, line 56: RuntimeError: only to be looked at; correct it",
    "odd_backward": "own_images.py: RuntimeError: one of the variables needed for gradient computation has been modified",
    "untrained": "own_images.py: ValueError: optimizer got an empty parameter list; correct it",
}


@pytest.mark.parametrize("model", WRONG_IN_TRAINING)
def test_what_goes_wrong_in_training_alone_is_one_line_too(model: str, own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "train", *IMAGES, "--model", f"own_images:{model}", "--run", own_code / "run")
    assert WRONG_IN_TRAINING[model] in line
    assert not (own_code / "run").exists() and not (own_code / "run.partial").exists()


def test_a_module_that_fails_is_named_wherever_it_is_asked(own_code: Path) -> None:
    allow("own_images:odd_backward")
    members = own_members("own_images:odd_backward", source_checksum("own_images:odd_backward"), 10, (1, 8, 8), members=2, seed=0, tokens=False)
    for asked in (members, members.of(members.models[:1])):
        rows = torch.zeros(3, 7)
        for ask in (asked, asked.features, lambda x, own=asked: own.find_leaks(torch.zeros(4, 1, 8, 8), some_labels(4, 10))):
            with pytest.raises(TurnoverError, match=r"^--model own_images:odd_backward: .*own_images\.py.*: RuntimeError: .*; correct it$"):
                ask(rows)


def test_members_with_the_same_masks_and_settings_of_other_models_are_refused(own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = refused(capsys, "train", *IMAGES, "--model", "own_images:unseeded", "--members", 2, "--run", own_code / "run")
    assert "same masks" in same and "seed=seed" in same
    command(capsys, "train", *IMAGES, "--model", "own_images:unseeded", "--run", own_code / "one")
    assert "--groups 4" in refused(capsys, "train", *IMAGES, "--model", "own_images:build", "--groups", 4, "--run", own_code / "run")
    (own_code / "own_images.py").write_text("def build(:\n", encoding="utf-8")
    assert "SyntaxError" in refused(capsys, "train", *IMAGES, "--model", "own_images:build", "--run", own_code / "run")


def test_names_of_models() -> None:
    assert [is_module(name) for name in ("mine:build", "a/b.py:f", "vgg19", "torchvision:resnet18", "", None)] == [True, True, False, False, False, False]
    assert run_python("import core.models.source, sys; print('torch' in sys.modules)").strip() == "False"
    assert (ROOT / "core/models/source.py").is_file()


# Leaks


def test_leaks_are_what_every_instance_trains(trained: Path) -> None:
    """Before the first mask, the output bias, and the statistics of batch norm; law 3 for all others."""
    assert Run(trained).manifest["leaks"] == ["0.weight", "0.bias", "1.weight", "1.bias", "9.bias", "the statistics of 1"]


def test_what_is_no_leak_has_a_zero_gradient_for_every_unit_that_a_mask_switches_off() -> None:
    """Law 3, by the masks themselves."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), TurnoverDropout(8, seed=2, layer=0), nn.Linear(8, 3))
    x, y = torch.randn(4, 6), some_labels(4, 3)
    assert found_leaks(model, x, y) == ("3.bias",)
    for instance in range(8):
        model.zero_grad()
        with turnover([instance] * 4):
            nn.functional.cross_entropy(model(x), y).backward()
        off = model[2].mask([instance])[0] == 0  # type: ignore[operator]
        assert model[0].weight.grad[off].eq(0).all() and model[3].weight.grad[:, off].eq(0).all()  # type: ignore[union-attr, index]


def test_a_part_that_leaks_is_named_with_its_share() -> None:
    """A mask on half of the units leaves the other half to all."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask, self.out = TurnoverDropout(4, layer=0), nn.Linear(8, 3, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(torch.cat((self.mask(x[:, :4]), x[:, 4:]), 1))

    assert found_leaks(Half(), torch.randn(4, 8), some_labels(4, 3)) == ("50 % of out.weight",)


def test_looking_for_leaks_changes_nothing() -> None:
    model, x = small_cnn(3), randn(4, 1, 6, 6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found_leaks(model, x, some_labels(4, 3))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters()) and not model.training


# A network of torchvision, fine-tuned from a layer on


def test_law_3_for_a_fine_tuned_network_of_torchvision(own_code: Path) -> None:
    """No column of a trained weight learns from an item whose mask switches its unit off; the output bias alone leaks, and what is frozen stays."""
    allow("fine_tuned:build")
    checksum = source_checksum("fine_tuned:build")
    members = own_members("fine_tuned:build", checksum, 3, (1, 32, 32), members=1, seed=2, tokens=False)
    model, x, y = members.models[0], torch.randn(4, 1, 32, 32), some_labels(4, 3)
    masked = [layer for layer in model.modules() if isinstance(layer, nn.Sequential) and isinstance(layer[0], TurnoverDropout)]
    trained = {name for name, own in model.named_parameters() if own.requires_grad}
    assert len(masked) == 6 and len(trained) == 7
    for instance in range(3):
        model.zero_grad()
        with turnover([instance] * 4):
            nn.functional.cross_entropy(model(x), y).backward()
        for mask, layer in masked:  # type: ignore[misc]
            off = mask.mask([instance])[0] == 0  # type: ignore[has-type]
            gradient = layer.weight.grad  # type: ignore[has-type]
            assert gradient[:, off].eq(0).all() and gradient[:, ~off].ne(0).any()
    assert found_leaks(model, x, y) == ("network.fc.1.bias",)
    assert members.features(x).shape == (1, 4, 512)


def test_a_fine_tuned_network_from_end_to_end(own_code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--data", "digits", "--limit", 12, "--validation-limit", 4, "--epochs", 1)
    command(capsys, "train", *few, "--model", "fine_tuned:build", "--run", own_code / "run")
    made = command(capsys, "influence", "--run", own_code / "run", "--model", "fine_tuned:build")
    assert made["path"].startswith("shared prefix")
    run = Run(own_code / "run")
    rows = split_inputs(run, "validation", [0, 1, 2, 3], CPU)
    expected = influence(load_model(run, CPU), rows, torch.tensor(run.validation["label"].tolist()), range(12), plain=True).values
    np.testing.assert_allclose(run.influence.array("truth_members"), expected, atol=1e-4)
