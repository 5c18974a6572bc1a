"""The bank on disk: the numbers of one in memory, whatever happens while it is made."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file
from transformers import PreTrainedModel

from jointsearch.banks import banks_folder, clear_banks, stored_banks
from jointsearch.config.study import ModelSettings, StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.model.architecture import read_layout
from jointsearch.training.model.base_model import load_base
from jointsearch.training.model.shared_bank import open_bank

CPU = torch.device("cpu")
QUERY = "model.layers.0.self_attn.q_proj"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("JOINTSEARCH_CACHE", str(folder))
    return folder


@pytest.fixture
def study(config: StudyConfig) -> Callable[[ModelSettings, str], StudyConfig]:
    """The tiny study of another model; its data are not read."""

    def of(settings: ModelSettings, task: str) -> StudyConfig:
        kind = config.task.model_copy(update={"type": task})
        return config.model_copy(update={"model": settings, "task": kind})

    return of


def formats_of(layout: ModelLayout, seed: int) -> dict[str, str]:
    """A format for every module, 16 bits left out."""
    chance = random.Random(seed)
    drawn = {s.name: chance.choice(("nf4", "int8", "16bit")) for s in layout.modules if s.quantizable}
    return {name: name_of_format for name, name_of_format in drawn.items() if name_of_format != "16bit"}


def outputs(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.arange(1, 33).view(2, 16)
    words = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model.eval()(input_ids=ids, **words).logits


def in_memory(config: StudyConfig, layout: ModelLayout) -> QuantizedBank:
    base = load_base(config.model, config.task.type, layout.dtype, CPU, config.task.head)
    return QuantizedBank(base, config.quantization, getattr(torch, layout.dtype))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_models_are_bit_for_bit_those_of_a_bank_in_memory(
    family: tuple[ModelSettings, str], dtype: str, study: Callable[..., StudyConfig]
) -> None:
    settings, task = family
    config = study(settings.model_copy(update={"dtype": dtype}), task)
    layout = read_layout(config.model, task)
    told: list[str] = []
    bank, expected = open_bank(config, layout, CPU, told.append), in_memory(config, layout)
    assert [line.split()[:4] for line in told] == [["making", "the", "bank", "of"]]
    for seed in range(3):
        formats = formats_of(layout, seed)
        ours, theirs = bank.assemble(formats), expected.assemble(formats)
        named = dict(theirs.named_parameters()) | dict(theirs.named_buffers())
        found = dict(ours.named_parameters()) | dict(ours.named_buffers())
        assert found.keys() == named.keys()
        for name, tensor in named.items():
            assert found[name].dtype == tensor.dtype, name
            assert torch.equal(found[name], tensor), name
        assert ours.config.to_dict() == theirs.config.to_dict()
        assert ours.__dict__.keys() == theirs.__dict__.keys()  # no trace of how it was loaded
        assert torch.equal(outputs(ours), outputs(theirs))
    for spec in layout.modules:
        assert torch.equal(bank.get_submodule(spec.name).weight, expected.get_submodule(spec.name).weight), (
            spec.name
        )


def test_trials_have_the_losses_of_a_bank_in_memory(
    config: StudyConfig,
    tiny_layout: ModelLayout,
    space: SearchSpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(0)
    plans = [space.plan(space.sample(chance)) for _ in range(3)]
    shared = CalibrationRunner(config, tiny_layout)
    losses = [shared.run(plan, Trial(seed=0)).metrics for plan in plans]
    told: list[str] = []
    (tmp_path / "file").touch()
    monkeypatch.setenv("JOINTSEARCH_CACHE", str(tmp_path / "file" / "cache"))  # which cannot be there
    alone = CalibrationRunner(config, tiny_layout, told.append)
    assert len(told) == 1
    assert told[0].startswith("the weights are kept in the memory of each worker: ")
    assert [alone.run(plan, Trial(seed=0)).metrics for plan in plans] == losses


def test_the_second_worker_makes_nothing(
    config: StudyConfig, tiny_layout: ModelLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_bank(config, tiny_layout, CPU)
    monkeypatch.setattr("jointsearch.quantization.stored_weights.quantized", pytest.fail)
    monkeypatch.setattr("jointsearch.quantization.bank_files.BankFiles.write", pytest.fail)
    monkeypatch.setattr("jointsearch.quantization.bank_files.BankFiles.locked", pytest.fail)
    bank = open_bank(config, tiny_layout, CPU, pytest.fail)
    outputs(bank.assemble({QUERY: "nf4"}))


def test_a_model_holds_the_weights_of_its_plan_alone(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    bank = open_bank(config, tiny_layout, CPU)
    model = bank.assemble({QUERY: "nf4"})
    kept = model.get_submodule(QUERY)
    wide = weakref.ref(model.model.layers[1].mlp.up_proj.weight)
    still = weakref.ref(model.model.layers[1].mlp.down_proj.weight)
    del model
    gc.collect()
    assert wide() is not None  # a plan after it may use it
    second = bank.assemble({QUERY: "nf4", "model.layers.1.mlp.up_proj": "int8"})
    assert wide() is None
    assert still() is second.model.layers[1].mlp.down_proj.weight
    assert second.get_submodule(QUERY) is kept
    narrow = weakref.ref(kept.weight)
    del second, kept
    bank.keep({})
    assert narrow() is None


def test_what_a_trial_changes_stays_its_own(config: StudyConfig, tiny_layout: ModelLayout) -> None:
    bank = open_bank(config, tiny_layout, CPU)
    name = f"{QUERY}.weight"
    before = bank.get_submodule(QUERY).weight.clone()
    bank.assemble({}, lambda parameter: parameter == name).get_parameter(name).data.zero_()
    assert torch.equal(bank.assemble({}).get_parameter(name), before)


@pytest.mark.parametrize("kind", ["16bit", "nf4", "int8"])
@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_damaged_file_is_made_again(
    config: StudyConfig, tiny_layout: ModelLayout, kind: str, harm: str
) -> None:
    formats = {} if kind == "16bit" else {QUERY: kind}
    expected = outputs(in_memory(config, tiny_layout).assemble(formats))
    open_bank(config, tiny_layout, CPU)
    (path,) = banks_folder().glob(f"*/{QUERY}.weight.{kind}*.safetensors")
    content, whole = path.read_bytes(), load(path.read_bytes())
    told: list[str] = []
    bank = open_bank(config, tiny_layout, CPU, told.append)
    if harm == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    assert torch.equal(outputs(bank.assemble(formats)), expected)
    assert any("made again" in line for line in told) or harm == "gone"
    assert load_file(path).keys() == whole.keys()
    assert all(torch.equal(tensor, whole[key]) for key, tensor in load_file(path).items())


def test_a_bank_that_is_cleared_is_made_again(config: StudyConfig, tiny_layout: ModelLayout) -> None:
    bank = open_bank(config, tiny_layout, CPU)
    expected = outputs(bank.assemble({QUERY: "int8"}))
    bank.keep(dict.fromkeys((s.name for s in tiny_layout.modules if s.quantizable), "nf4"))
    assert [found.model for found in clear_banks()] == [config.model.id]
    assert torch.equal(outputs(bank.assemble({QUERY: "int8"})), expected)
    assert [found.is_whole for found in stored_banks()] == [True]


def test_a_checkpoint_that_has_changed_has_a_bank_of_its_own(
    family_folder: Path, tmp_path: Path, study: Callable[..., StudyConfig]
) -> None:
    """Also where its time has not: archives, ``rsync -t`` and ``cp -p`` set it back."""
    folder = tmp_path / "llama"
    folder.mkdir()
    for path in (family_folder / "llama").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    checkpoint = folder / "model.safetensors"
    config = study(ModelSettings(id=str(folder)), "causal-lm")
    layout = read_layout(config.model, "causal-lm")
    open_bank(config, layout, CPU)
    before = checkpoint.stat()
    tensors = load_file(checkpoint)
    tensors[f"{QUERY}.weight"] = -tensors[f"{QUERY}.weight"]
    save_file(tensors, checkpoint, {"format": "pt"})
    os.utime(checkpoint, ns=(before.st_atime_ns, before.st_mtime_ns))
    bank = open_bank(config, layout, CPU)
    assert torch.equal(bank.get_submodule(QUERY).weight, tensors[f"{QUERY}.weight"].bfloat16().float())
    assert len(stored_banks()) == 2


def test_a_new_head_is_the_same_as_in_memory(
    family_folder: Path, config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no part of the bank, which heads of all sizes share."""
    settings = ModelSettings(id=str(family_folder / "bert"))
    for num_labels in (2, 5):
        head = {"num_labels": num_labels}
        monkeypatch.setattr(type(config.task), "head", head)
        task = config.task.model_copy(update={"type": "sequence-classification"})
        of_task = config.model_copy(update={"model": settings, "task": task})
        layout = read_layout(settings, task.type, head)
        ours = open_bank(of_task, layout, CPU).assemble({})
        theirs = in_memory(of_task, layout).assemble({})
        assert ours.classifier.weight.shape[0] == num_labels
        assert torch.equal(ours.classifier.weight, theirs.classifier.weight)
    assert len(stored_banks()) == 1


def test_without_room_the_weights_stay_in_memory(
    config: StudyConfig, tiny_layout: ModelLayout, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOINTSEARCH_CACHE", str(small_disk))  # 16 MB, and 64 are to stay free
    told: list[str] = []
    bank = open_bank(config, tiny_layout, CPU, told.append)
    assert len(told) == 1
    assert told[0].endswith("are free; JOINTSEARCH_CACHE can name another folder")
    assert not list(small_disk.rglob("*.safetensors"))
    expected = in_memory(config, tiny_layout).assemble({QUERY: "nf4"})
    assert torch.equal(outputs(bank.assemble({QUERY: "nf4"})), outputs(expected))


@pytest.mark.parametrize("taken", [0.1, 0.9])
def test_a_disk_that_fills_up_meanwhile(
    config: StudyConfig,
    tiny_layout: ModelLayout,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    taken: float,
) -> None:
    """Whether among the 16-bit weights or among the others: one line, and no wrong weight."""
    monkeypatch.setenv("JOINTSEARCH_CACHE", str(small_disk))
    monkeypatch.setattr("jointsearch.training.model.shared_bank.SPARE_BYTES", -(1 << 40))
    bank_bytes = 5_300_000  # of the tiny model
    with (small_disk / "filler").open("wb") as file:
        file.write(bytes((16 << 20) - int(bank_bytes * taken)))
    told: list[str] = []
    bank = open_bank(config, tiny_layout, CPU, told.append)
    assert len(told) == 2, told
    assert "No space left" in told[1]
    for formats in ({}, {QUERY: "nf4"}, {QUERY: "int8"}):
        expected = outputs(in_memory(config, tiny_layout).assemble(formats))
        assert torch.equal(outputs(bank.assemble(formats)), expected)


MAKER = """
import os, sys, time
from pathlib import Path
import torch
from jointsearch.config.yaml_file import read_study
from jointsearch.quantization import bank_files
from jointsearch.training.model.architecture import read_layout
from jointsearch.training.model.shared_bank import open_bank

config = read_study(Path(sys.argv[1]))
stops_after = int(sys.argv[2])
saved, written = bank_files._save, []

def save(tensors, path, about):
    written.append(path)
    if len(written) == stops_after:
        path.write_bytes(b"half")
        print("stopped", flush=True)
        time.sleep(3600)
    saved(tensors, path, about)

bank_files._save = save
layout = read_layout(config.model, config.task.type)
bank = open_bank(config, layout, torch.device("cpu"), lambda line: print(line, flush=True))
print(len(written), flush=True)
"""


def maker(study_file: Path, stops_after: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAKER, str(study_file), str(stops_after)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("stops_after", [3, 60])
def test_a_bank_whose_maker_was_killed_is_finished(
    config: StudyConfig, tiny_layout: ModelLayout, study_file: Path, stops_after: int
) -> None:
    """In the midst of a file: of the 16-bit weights, and of the quantized ones."""
    with maker(study_file, stops_after) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("making the bank of ")
        assert process.stdout.readline() == "stopped\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = {path: path.stat().st_mtime_ns for path in banks_folder().rglob("*.safetensors")}
    assert len(before) == stops_after - 1
    bank = open_bank(config, tiny_layout, CPU)
    assert not list(banks_folder().rglob(".*.partial"))
    assert {path: path.stat().st_mtime_ns for path in before} == before  # none is made twice
    for seed in range(2):
        formats = formats_of(tiny_layout, seed)
        expected = outputs(in_memory(config, tiny_layout).assemble(formats))
        assert torch.equal(outputs(bank.assemble(formats)), expected)


@pytest.mark.slow
def test_two_makers_at_once_write_every_file_once(
    config: StudyConfig, tiny_layout: ModelLayout, study_file: Path
) -> None:
    both = [maker(study_file) for _ in range(2)]
    lines = [process.communicate()[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    num_files = len(list(banks_folder().rglob("*.safetensors")))
    assert sum(int(each[-1]) for each in lines) == num_files
    assert [line.split()[0] for each in lines for line in each].count("making") >= 1
    bank = open_bank(config, tiny_layout, CPU, pytest.fail)
    formats = formats_of(tiny_layout, 0)
    expected = outputs(in_memory(config, tiny_layout).assemble(formats))
    assert torch.equal(outputs(bank.assemble(formats)), expected)
