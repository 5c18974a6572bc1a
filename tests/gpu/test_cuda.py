"""The whole road on a CUDA device: formats, round trips, memory, a study, a full run. Skipped without one."""

from __future__ import annotations

import gc
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from jointsearch.assemble import EMBEDDED
from jointsearch.config.space import SpaceSettings
from jointsearch.config.study import ModelSettings
from jointsearch.config.yaml_file import read_study
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.formats import FORMATS, QuantizationSettings
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import Plan
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.quantization.plugin import JointSearchConfig, save_model
from jointsearch.space import SearchSpace
from jointsearch.training.device_check import check_format
from jointsearch.training.model.architecture import model_class, read_layout
from jointsearch.training.model.base_model import load_base, load_quantized
from jointsearch.training.model.shared_bank import open_bank

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

CUDA = torch.device("cuda", 0)
TASK = "causal-lm"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    """A random Llama of 13 M parameters in bfloat16."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        vocab_size=8192,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return ModelSettings(id=str(folder))


@pytest.fixture(scope="module")
def layout(model: ModelSettings) -> ModelLayout:
    return read_layout(model, TASK)


def drawn_plan(layout: ModelLayout, seed: int) -> Plan:
    settings = SpaceSettings(group_by="module", ranks=(0, 4, 16))
    space = SearchSpace.build(layout, settings, QuantizationSettings(), LoraSettings())
    return space.plan(space.sample(random.Random(seed)))


def logits(model: Any) -> torch.Tensor:
    ids = torch.randint(1, 8192, (2, 48), generator=torch.Generator().manual_seed(1)).to(CUDA)
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits.float()


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_runs_forward_and_backward(name: str) -> None:
    assert check_format("cuda", name) == "works"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bank_quantizing_on_load_and_reloading_give_the_same_logits(
    model: ModelSettings, layout: ModelLayout, seed: int, tmp_path: Path
) -> None:
    plan = drawn_plan(layout, seed)
    base = load_base(model, TASK, layout.dtype, CUDA)
    bank = QuantizedBank(base, plan.quantization, torch.bfloat16)
    expected = logits(bank.assemble(plan.formats))
    loaded = load_quantized(model, TASK, JointSearchConfig.of(plan, layout), CUDA)
    assert torch.equal(logits(loaded), expected)
    save_model(loaded, tmp_path / "model")
    again = model_class(TASK).from_pretrained(tmp_path / "model", device_map={"": CUDA})
    assert torch.equal(logits(again), expected)


def test_the_device_holds_what_the_plan_weighs(model: ModelSettings, layout: ModelLayout) -> None:
    """Allocated bytes after loading, against the plan's.

    Allocations are rounded up, and every NF4 weight has some small tensors: a tenth is left for that.
    """
    plan = drawn_plan(layout, 3)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(CUDA)
    loaded = load_quantized(model, TASK, JointSearchConfig.of(plan, layout), CUDA)
    held = torch.cuda.memory_allocated(CUDA) - before
    assert loaded.device.type == "cuda"
    assert 1.0 <= held / plan_cost(layout, plan).base_bytes <= 1.1


def test_a_bank_on_disk_has_one_plan_on_the_device(
    model: ModelSettings, layout: ModelLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOINTSEARCH_CACHE", str(tmp_path))
    config = read_study(EMBEDDED["quickstart"]).model_copy(update={"model": model})
    base = load_base(model, TASK, layout.dtype, CUDA)
    expected = QuantizedBank(base, config.quantization, torch.bfloat16)
    plans = [drawn_plan(layout, seed) for seed in range(3)]
    wanted = [logits(expected.assemble(plan.formats)) for plan in plans]
    del base, expected
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(CUDA)
    bank = open_bank(config, layout, CUDA)
    for plan, equal in zip(plans, wanted, strict=True):
        assert torch.equal(logits(bank.assemble(plan.formats)), equal)
        gc.collect()
        held = torch.cuda.memory_allocated(CUDA) - before
        assert 1.0 <= held / plan_cost(layout, plan).base_bytes <= 1.15


def jointsearch(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "jointsearch", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_study_its_front_a_full_run_and_its_evaluation(tmp_path: Path) -> None:
    jointsearch(tmp_path, "study", "start", "quickstart", "--trials", "9")
    rows = json.loads(jointsearch(tmp_path, "front", "quickstart", "--format", "json"))
    rows = rows["points"] if isinstance(rows, dict) else rows
    assert len(rows) == 9
    losses = {row["label"]: row["loss"] for row in rows}
    # untrained the model has about 3.5 nats on this text; a random one would have log(vocabulary), 8.3
    assert 1.0 < losses["uniform 16-bit rank 16"] < losses["uniform 4-bit rank 0"] - 0.3 < 4.0
    jointsearch(tmp_path, "export", "quickstart", "-o", "plan.json")
    jointsearch(tmp_path, "train", "plan.json", "-o", "run")
    trained = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert trained["device"].startswith("cuda")
    measured = json.loads(
        jointsearch(tmp_path, "evaluate", "run", "--split", "validation", "--format", "json")
    )
    assert measured["loss"] == pytest.approx(trained["validation"]["loss"], abs=2e-3)
