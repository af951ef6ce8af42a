"""A module of the user's own: trained, measured, opened only with the user's word, or refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.helpers.builders import names, randn, run_python, small_cnn, some_labels
from tests.helpers.own_modules import LEAKS, code_in, command, own_code, refused
from tests.helpers.token_builders import encoder_in, sst2_in
from turnover import Run, TurnoverDropout, TurnoverError, influence, turnover
from turnover.cli import main
from turnover.explain.facts import run_facts
from turnover.models import names as source
from turnover.models.families.own import Own
from turnover.models.names import ALLOW, allow, load_function, source_checksum
from turnover.models.own import OwnMembers, found_leaks, own_members
from turnover.models.registry import find_family
from turnover.runs.model import load_model, split_inputs
from turnover.runs.ranking import stored_estimator
from turnover.runs.run import RUN_FILES
from turnover.storage.artifacts import write_manifest
from turnover.training.fit import probabilities
from turnover.workflows.influence import compute_influence

__all__ = ["own_code"]
CPU, BUILD = torch.device("cpu"), "own_images:build"
IMAGES = ("--data", "digits", "--limit", 40, "--validation-limit", 20, "--epochs", 2)
TWO = ("--members", 2, "--seed", 3)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two members with influence, trained by naming the code."""
    folder = tmp_path_factory.mktemp("own")
    with code_in(folder):
        for told in (("train", *IMAGES, *TWO), ("influence",)):
            assert main([*map(str, told), "--run", str(folder / "run"), "--model", BUILD]) == 0
    return folder / "run"


@pytest.fixture
def trained(own_code: Path, shared: Path) -> Path:
    """A copy of that run beside the code; nothing is allowed."""
    return Path(shutil.copytree(shared, own_code / "run"))


def test_a_run_of_an_own_module_has_the_engine_s_influences(trained: Path) -> None:
    """Law 4 through the whole pipeline; members differ in masks and weights."""
    allow(BUILD)
    run = Run(trained)
    model, rows = load_model(run, CPU), split_inputs(run, "validation", list(range(20)), CPU)
    assert isinstance(model, OwnMembers)
    labels = torch.tensor(run.validation["label"].tolist())
    expected = influence(model, rows, labels, range(40), plain=True).values
    np.testing.assert_allclose(run.influence.array("truth_members"), expected, atol=1e-4)
    assert not torch.allclose(expected[0], expected[1])
    chances = run.validation[[f"probability_{number}" for number in range(10)]]
    np.testing.assert_allclose(probabilities(model, rows), chances, atol=1e-5)
    with torch.no_grad():
        bodies = [nn.Sequential(*list(own.children())[:8]) for own in model.models]
        seen = [body(rows) for body in bodies]
    np.testing.assert_allclose(run.features("validation"), torch.cat(seen, 1), atol=1e-5)
    assert run.manifest["leaks"] == LEAKS


def test_a_run_from_when_batch_norms_had_one_set_is_as_it_was(trained: Path) -> None:
    """Its statistics are those under masks and those without."""
    allow(BUILD)
    file, run = trained / "weights.safetensors", Run(trained)
    weights = load_file(file)
    save_file({name: own for name, own in weights.items() if "unmasked" not in name}, file)
    write_manifest(
        trained, {name: own for name, own in run.manifest.items() if name != "files"}, RUN_FILES
    )
    model, rows = load_model(Run(trained), CPU), split_inputs(run, "validation", [0, 1, 2], CPU)
    labels = torch.tensor(run.validation["label"].tolist()[:3])
    made = influence(model, rows, labels, range(40)).values
    np.testing.assert_allclose(run.influence.members("truth", [0, 1, 2]), made, atol=1e-6)
    for number, norm in enumerate(own[1] for own in model.models):
        for part in ("mean", "var"):
            kept = weights[f"models.{number}.1.running_{part}"]
            assert torch.equal(getattr(norm, f"unmasked_{part}"), kept)
            assert not torch.equal(weights[f"models.{number}.1.unmasked_{part}"], kept)


def test_member_k_is_what_the_function_builds_with_seed_s_plus_k(own_code: Path) -> None:
    allow(BUILD)
    checksum = source_checksum(BUILD)
    model = own_members(BUILD, checksum, 10, (1, 8, 8), members=3, seed=5, tokens=False)
    torch.manual_seed(7)
    alone = load_function(BUILD, checksum)(10, (1, 8, 8), 7).state_dict()
    state = model.models[2].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in alone.items())
    assert model.models[2][5].seed == 7  # type: ignore[index]


def test_naming_the_file_is_naming_the_module(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = trained.parent / "file"
    command(capsys, "train", *IMAGES, *TWO, "--model", "own_images.py:build", "--run", file)
    same = [(folder / "weights.safetensors").read_bytes() for folder in (trained, file)]
    assert same[0] == same[1]
    known = ("mine:build", "a/b.py:f", "vgg19", "torchvision:resnet18")
    assert [(find_family(name) or Own).code for name in known] == [True, True, False, False]
    loads = run_python("import turnover.models.names, sys; print('torch' in sys.modules)")
    assert loads.strip() == "False"


def test_an_own_module_is_explained_and_serves_the_dashboard(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command, and by the worker, which the environment variable allows."""
    run, picture = Run(trained), trained.parent / "digit.png"
    picture.write_bytes(run.item("validation", 0)["image"])
    asked = ("--run", trained, "--model", BUILD, "--image", picture, "--top", 3)
    made = command(capsys, "explain", *asked)
    assert made["predicted"] == run.classes[int(run.validation["predicted"].iloc[0])]
    best = run.influence.ranked(0, "prediction").ends(3)[0]
    assert [entry["position"] for entry in made["proponents"]] == list(best)
    source._allowed.clear()
    monkeypatch.setattr("sys.stdin", iter(()))
    asked = ("worker", "--run", trained)
    assert "opening a run does not run code" in refused(capsys, *asked)
    monkeypatch.setenv(ALLOW, f"other:name,{BUILD}")
    assert main([*map(str, asked)]) == 0
    assert '{"ready": true}' in capsys.readouterr().out


def test_an_own_module_for_texts_reads_features_or_tokens(
    own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, encoder = sst2_in(own_code / "sst2"), encoder_in(own_code / "encoder")
    data = ("--data", "sst2", "--path", path, "--encoder", encoder, "--epochs", 2)
    for name, width in (("features", 32), ("tokens", 8)):
        own = ("--run", own_code / name, "--model", f"own_texts:{name}")
        command(capsys, "train", *data, *own)
        command(capsys, "influence", *own)
        run = Run(own_code / name)
        assert run.features("train").shape == (24, width)
        text, chance = run.validation[["text", "probability_0"]].iloc[0]
        made = command(capsys, "explain", *own, "--text", text)
        assert made["probabilities"][run.classes[0]] == pytest.approx(float(chance), abs=1e-5)


def test_a_module_reads_the_tokens_of_a_file_and_never_others(
    own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, encoder = sst2_in(own_code / "sst2"), encoder_in(own_code / "encoder")
    file, tokens = own_code / "mine.json", ("--model", "own_texts:tokens")
    shutil.copy(Path(encoder, "tokenizer.json"), file)
    data = ("--data", "sst2", "--path", path, "--epochs", 2, "--max-tokens", 128)
    weights = []
    for name in (encoder, file):
        run = own_code / f"run-{len(weights)}"
        command(capsys, "train", *data, *tokens, "--encoder", name, "--run", run)
        weights.append((run / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]
    told = ("--run", own_code / "run-1", *tokens)
    command(capsys, "influence", *told)
    command(capsys, "errors", "--run", own_code / "run-1")
    save_file(load_model(Run(own_code / "run-1"), CPU).models[0].state_dict(), "mine.safetensors")
    known = ("register", *data[:4], *data[6:], *tokens, "--weights", "mine.safetensors")
    assert "name its tokenizer.json" in refused(capsys, *known, "--run", "other")
    made = command(capsys, *known, "--encoder", file, "--run", "other")
    assert made["validation_accuracy"] == Run(told[1]).manifest["results"]["validation_accuracy"]
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")
    assert "the tokenizer changed since the run was made" in refused(capsys, "influence", *told)
    asked = ("train", *data, "--check", "--run", "x", "--encoder", file, "--model")
    assert "gives no features" in refused(capsys, *asked, "own_texts:features")
    for family in ("heads", "adapters", "masked-encoder"):
        assert str(file) in refused(capsys, *asked, family)
    del content["model"]["vocab"]["[PAD]"]
    padless = {**content, "padding": None, "added_tokens": [], "post_processor": None}
    for text, reason in (("{", "no tokenizer that"), (json.dumps(padless), "no token to pad")):
        file.write_text(text, encoding="utf-8")
        assert reason in refused(capsys, *asked, "own_texts:tokens")
    file.unlink()
    assert str(file) in refused(capsys, *asked, "own_texts:tokens")


# Whose code is run


def test_opening_a_run_imports_nothing_that_the_user_did_not_name(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The threat: a run folder made by somebody else, whose manifest names code."""
    stolen = trained.parent / "stolen"
    evil = f"open({str(stolen)!r}, 'w').write('x')\ndef build(*_): pass\n"
    (trained.parent / "evil.py").write_text(evil, encoding="utf-8")
    manifest = json.loads((trained / "manifest.json").read_text(encoding="utf-8"))
    manifest["settings"] |= {"model": "evil:build", "source": source_checksum("evil:build")}
    (trained / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    asked = [("influence",), ("explain", "--text", "x"), ("cleanse",), ("worker",)]
    asked += [("evaluate", "--measure", "injected")]  # type: ignore[list-item]
    for told in ((), ("--model", BUILD)):
        for one in asked:
            line = refused(capsys, *one, "--run", trained, *told)
            assert "evil:build, and opening a run does not run code by itself" in line
            assert "--model evil:build" in line and ALLOW in line
    for one in (("errors",), ("groups",), ("export", "--out", str(trained.parent / "flags.csv"))):
        assert main([*one, "--run", str(trained)]) == 0
    with pytest.raises(TurnoverError, match=ALLOW):
        load_model(Run(trained), CPU)
    assert not stolen.exists() and not {"evil", "own_images"} & {*sys.modules}


def test_a_module_from_when_the_package_was_called_core_is_told_and_opens_once_it_is_renamed(
    own_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run remembers the sum of the file as it was; nothing but the name may differ."""
    monkeypatch.setitem(sys.modules, "core", None)  # as anywhere but in this repository
    old = own_code / "old.py"
    new = (own_code / "own_images.py").read_text(encoding="utf-8")
    old.write_text(new.replace("from turnover import", "from core import"), encoding="utf-8")
    checksum = source_checksum("old:build")
    allow("old:build")
    with pytest.raises(
        TurnoverError,
        match=(
            r"old\.py, line 4: ModuleNotFoundError: .*; the package is called turnover now, so "
            r"import turnover$"
        ),
    ):
        load_function("old:build", checksum)
    old.write_text(new, encoding="utf-8")
    assert callable(load_function("old:build", checksum))
    old.write_text(new + "x = 1\n", encoding="utf-8")
    with pytest.raises(TurnoverError, match="changed since the run was made"):
        load_function("old:build", checksum)


def test_a_source_that_changed_or_is_gone_is_refused_before_it_runs(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, asked = trained.parent / "own_images.py", ("influence", "--run", trained)
    allow(BUILD)
    load_function(BUILD, source_checksum(BUILD))
    source._allowed.clear()
    code.write_text(code.read_text(encoding="utf-8") + "\nopen('ran', 'w')\n", encoding="utf-8")
    line = refused(capsys, *asked, "--model", BUILD)
    assert f"{code}: changed since the run was made" in line
    assert f"{BUILD} was begun" not in line and not (trained.parent / "ran").exists()
    code.unlink()
    assert f"{code} cannot be read" in refused(capsys, *asked, "--model", BUILD)


# What can be a model

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
WRONG_IN_TRAINING = {
    "own_images:odd_mode": "own_images.py, line 51: AssertionError; correct it",
    "own_images:odd_forward": "line 56: RuntimeError: only to be looked at; correct it",
    "own_images:odd_backward": "own_images.py: RuntimeError: one of the variables needed for",
    "own_images:untrained": "own_images.py: ValueError: optimizer got an empty parameter list",
}


@pytest.mark.parametrize("cases", [BAD, WRONG_IN_TRAINING], ids=["built", "trained"])
def test_what_cannot_be_a_model_is_refused_in_one_line(
    cases: dict[str, str], own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(own_code)
    for model, said in cases.items():
        line = refused(capsys, "train", *IMAGES, "--model", model, "--run", own_code / "run")
        assert said in line
    assert [name for name in names(own_code) if name != "__pycache__"] == before


REFUSED = {
    "passed_by": (
        "mask layer 'late' (TurnoverDropout(width=10, p=0.5, groups=None, seed=0, layer=7, dim=-1))"
        " runs in training but did not"
    ),
    "sparse": "'table' is sparse, so the trained model could not be saved",
}


@pytest.mark.parametrize("model", REFUSED)
def test_what_could_not_be_measured_or_kept_is_found_by_the_check(
    model: str, own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--model", f"own_images:{model}", "--run", own_code / "run", "--check")
    assert REFUSED[model] in refused(capsys, "train", *IMAGES, *asked)


SERVED = ("normed", "half", "tied", "one_trunk", "checkpointed", "shared")


@pytest.mark.parametrize("model", SERVED)
def test_modules_of_every_sort_train_are_kept_and_measured(
    model: str, own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 65 training items in batches of 64 the last one joins the others.

    Opened again, a module has the weights and influences that it was left with.
    """
    own = ("--model", f"own_images:{model}", "--run", own_code / "run")
    few = ("--data", "digits", "--limit", 65, "--validation-limit", 20, "--epochs", 2)
    command(capsys, "train", *few, "--members", 2, *own, "--check")
    command(capsys, "train", *few, "--members", 2, *own)
    command(capsys, "influence", *own)
    run = Run(own_code / "run")
    members, rows = load_model(run, CPU), split_inputs(run, "validation", list(range(20)), CPU)
    assert isinstance(members, OwnMembers)
    chances = run.validation[[f"probability_{number}" for number in range(10)]]
    np.testing.assert_allclose(probabilities(members, rows), chances, atol=1e-5)
    labels = torch.tensor(run.validation["label"].tolist())
    kept = run.influence.members("truth", list(range(20)))
    shared = {"shared": 4}.get(model)
    assert run.influence.manifest["masks"] == shared
    assert run.influence.array("truth_members").shape[2] == (shared or 65)
    for number, member in enumerate(members.models):
        halves = []
        for flipped in (False, True):
            with torch.no_grad(), turnover([7] * 20, flipped):
                logits = member(rows).float()
            halves.append(nn.functional.cross_entropy(logits, labels, reduction="none"))
        close = 0.05 if model == "half" else 1e-4
        np.testing.assert_allclose(kept[number][:, 7], halves[1] - halves[0], atol=close)
    assert float(np.abs(kept).max()) > 1e-2
    if shared:  # the ends of the rankings are kept beside the values by mask, not in their place
        compute_influence(run, device_choice="cpu", full_bytes=0)
        ends = Run(run.folder).influence
        assert ends.manifest["layout"] == "top"
        np.testing.assert_allclose(ends.members("truth", list(range(20))), kept, atol=1e-5)
        known, made = stored_estimator(Run(run.folder)), ends.ranked(3, "truth")
        values, errors = known.apply(*ends.evidence(3, "truth"))
        for every, some in ((values, made.values), (errors, made.std_errors)):
            np.testing.assert_allclose(every[0, made.instances], some, rtol=1e-3, atol=1e-5)


def test_a_module_that_comes_back_with_other_shared_masks_is_refused(
    own_code: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that a run remembers is as it was; what it reads elsewhere may not be."""
    source_of, own = own_code / "mine.py", ("--run", own_code / "run", "--model", "mine:build")
    shared = "import os\nfrom own_images import shared\n\ndef build(*facts):\n    made = shared"
    shared += (
        "(*facts)\n    for layer in (made[3], made[6]):\n        layer.masks = int(os.environ['M'])"
    )
    source_of.write_text(f"{shared}\n    return made\n", encoding="utf-8")
    monkeypatch.setenv("M", "4")
    assert command(capsys, "train", *IMAGES, *own)["masks"] == 4
    assert Run(own_code / "run").manifest["masks"] == 4
    assert ", its own masks, 4 that items share" in run_facts(Run(own_code / "run"), False)["Model"]
    monkeypatch.setenv("M", "6")
    for asked in (("influence", *own), ("cleanse", *own)):
        assert "trained with masks=4, but mine:build now builds" in refused(capsys, *asked)


def test_a_module_that_fails_is_named_wherever_it_is_asked(own_code: Path) -> None:
    name, shape = "own_images:odd_backward", (1, 8, 8)
    allow(name)
    checksum = source_checksum(name)
    members = own_members(name, checksum, 10, shape, members=2, seed=0, tokens=False)
    rows, right, labels = torch.zeros(3, 7), torch.zeros(4, *shape), some_labels(4, 10)
    said = rf"^--model {name}: .*own_images\.py.*: RuntimeError: .*; correct it$"
    for own in (members, members.of(members.models[:1])):
        asked = (own, own.features, lambda _, own=own: own.find_leaks(right, labels))
        for ask in asked:
            with pytest.raises(TurnoverError, match=said):
                ask(rows)


def test_members_with_the_same_masks_and_settings_of_other_models_are_refused(
    own_code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(model: str, *more: object) -> tuple[object, ...]:
        return ("train", *IMAGES, "--model", model, "--run", own_code / "run", *more)

    same = refused(capsys, *asked("own_images:unseeded", "--members", 2))
    assert "same masks" in same and "seed=seed" in same
    assert command(capsys, *asked("own_images:unseeded", "--check"))["members"] == 1
    assert "--groups is for" in refused(capsys, *asked(BUILD, "--groups", 4))
    (own_code / "own_images.py").write_text("def build(:\n", encoding="utf-8")
    assert "SyntaxError" in refused(capsys, *asked(BUILD))


# Leaks


class Half(nn.Module):
    """A mask on half of the units, which leaves the other half to all."""

    def __init__(self) -> None:
        super().__init__()
        self.mask, self.out = TurnoverDropout(4, layer=0), nn.Linear(8, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cat((self.mask(x[:, :4]), x[:, 4:]), 1))


def test_leaks_are_found_by_part_and_looking_for_them_changes_nothing() -> None:
    """Law 3 for what is no leak is tested with all families of models."""
    labels, model, x = some_labels(4, 3), small_cnn(3), randn(4, 1, 6, 6)
    assert found_leaks(Half(), torch.randn(4, 8), labels) == ("50 % of out.weight",)
    layers = (nn.Linear(6, 8), nn.ReLU(), TurnoverDropout(8, seed=2, layer=0), nn.Linear(8, 3))
    assert found_leaks(nn.Sequential(*layers), torch.randn(4, 6), labels) == ("3.bias",)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found_leaks(model, x, labels)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(own.grad is None for own in model.parameters()) and not model.training
