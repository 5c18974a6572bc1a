"""A weight format that one file outside of the package adds goes where NF4 and int8 go."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from jointsearch import JointSearchConfig
from jointsearch.config.study import ModelSettings, StudyConfig
from jointsearch.errors import PlanError, UnsupportedError
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.formats import FORMATS, QuantizationSettings
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.plan.plan_file import PlanFile, read_plan, write_plan
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.quantization.formats.base import empty_module, fill, matrix_of, quantized
from jointsearch.quantization.plugin import save_model
from jointsearch.runner import Trial
from jointsearch.space import build_space
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.device_check import check_format
from jointsearch.training.full_run.evaluation import evaluate_run
from jointsearch.training.full_run.run import full_run
from jointsearch.training.model.architecture import model_class, read_layout
from jointsearch.training.model.base_model import load_base, load_quantized

NAME = "int4-fp16"
CPU = torch.device("cpu")
QUICKSTART = Path(__file__).parents[2] / "jointsearch" / "quickstart" / "model"


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The format, known to these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent / "outside")
        patch.setattr(FORMATS, "_items", dict(FORMATS._items))
        patch.delitem(sys.modules, "int4_groups", raising=False)
        importlib.import_module("int4_groups")
        yield


@pytest.fixture
def study() -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "name": "outside",
            "model": {"id": str(QUICKSTART)},
            "task": {"type": "causal-lm", "data": {"package": "click"}, "sequence_length": 64},
            "search_space": {"formats": [NAME, "int8", "16bit"], "ranks": [0, 4]},
            "calibration": {
                "steps": 6,
                "batch_size": 4,
                "validation_examples": 8,
                "warmup_steps": 1,
                "learning_rate": 0.01,
            },
            "full_run": {"max_steps": 4, "batch_size": 4, "evaluations": 1, "learning_rate": 0.01},
            "device": "cpu",
        }
    )


def by_hand(weight: torch.Tensor) -> torch.Tensor:
    """The nearest multiple of its group's scale for every weight, one group after the other."""
    rows = []
    for row in weight.float():
        groups = []
        for group in row.split(32):
            scale = (group.abs().max() / 7).half().float()
            groups.append((group / scale).round() * scale)
        rows.append(torch.cat(groups))
    return torch.stack(rows)


@pytest.mark.parametrize("shape", [(8, 64), (5, 77), (3, 32)])
def test_its_layer_multiplies_by_its_weight_and_has_a_gradient(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(shape[1], shape[0])
    module = empty_module(linear, NAME, QuantizationSettings(), torch.float32)
    fill(module, quantized(module, linear.weight.data, torch.float16))
    module.bias = linear.bias
    expected = by_hand(linear.weight.data.half())
    assert torch.allclose(matrix_of(module), expected, atol=1e-6)
    x = torch.randn(2, 3, shape[1], requires_grad=True)
    y = module(x)
    assert torch.allclose(y, x @ expected.T + linear.bias, atol=1e-5)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(gradient, expected.sum(dim=0).expand_as(x), atol=1e-5)


def mixed(layout: ModelLayout) -> Plan:
    """Every second module in the new format, embeddings too; the others in int8, NF4 and 16 bits."""
    formats = [NAME, "int8", NAME, "nf4", NAME, "16bit"]
    return Plan(
        modules={
            spec.name: ModuleChoice(
                format=formats[position % 6] if spec.quantizable else "16bit",
                rank=4 if spec.adaptable and position % 4 else 0,
            )
            for position, spec in enumerate(layout.modules)
        }
    )


def test_bytes_and_logits_survive_saving(
    family: tuple[ModelSettings, str], tmp_path: Path, tensor_bytes: Callable[[Path], int]
) -> None:
    settings, task = family
    layout = read_layout(settings, task)
    plan = mixed(layout)
    assert NAME in {plan.modules[spec.name].format for spec in layout.modules if spec.kind == "embedding"}
    ids = torch.randint(1, 256, (2, 24), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if task == "seq2seq-lm" else {})
    bank = QuantizedBank(load_base(settings, task, layout.dtype, CPU), plan.quantization, torch.bfloat16)
    on_load = load_quantized(settings, task, JointSearchConfig.of(plan, layout), CPU).eval()
    save_model(on_load, tmp_path)
    loaded = model_class(task).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = bank.assemble(plan.formats).eval()(**inputs).logits
        assert torch.equal(on_load(**inputs).logits, expected)
        assert torch.equal(loaded(**inputs).logits, expected)
    assert tensor_bytes(tmp_path) == plan_cost(layout, plan).base_bytes


def test_a_trial_the_plan_file_and_a_full_run(
    study: StudyConfig, tmp_path: Path, tensor_bytes: Callable[[Path], int]
) -> None:
    layout = read_layout(study.model, study.task.type)
    space = build_space(study, layout)
    runner = CalibrationRunner(study, layout)
    plan = space.plan(space.uniform(NAME, 4))
    assert set(plan.formats.values()) == {NAME}
    measured = runner.run(plan, Trial(seed=0))
    untrained = runner.run(space.plan(space.uniform(NAME, 0)), Trial(seed=0))
    assert measured.metrics["loss"] < untrained.metrics["loss"]

    write_plan(PlanFile.build(plan, layout, study), tmp_path / "plan.json")
    stored = json.loads((tmp_path / "plan.json").read_text())
    assert find(stored, "model.layers.0.mlp.up_proj") == {"format": NAME, "rank": 4}
    read = read_plan(tmp_path / "plan.json")
    assert read.plan == plan

    trained = full_run(read, tmp_path / "run")
    again = evaluate_run(tmp_path / "run", "validation")
    assert again["loss"] == pytest.approx(trained.validation["loss"], rel=1e-5)
    saved = sum(tensor_bytes(tmp_path / "run" / part) for part in ("model", "adapter"))
    assert saved == measured.model_bytes == read.cost.model_bytes


def find(value: Any, name: str) -> Any:
    """What a JSON document has under that name, wherever it is."""
    if not isinstance(value, dict):
        return None
    return value.get(name) or next(filter(None, (find(v, name) for v in value.values())), None)


def test_its_errors_are_measured(study: StudyConfig) -> None:
    layout = read_layout(study.model, study.task.type)
    runner = CalibrationRunner(study, layout)
    base = load_base(study.model, study.task.type, layout.dtype, CPU)
    found = runner.sensitivities(layout, rank=2)
    for spec in layout.modules:
        weight = base.get_submodule(spec.name).weight.data
        error = (weight - by_hand(weight)).norm() / weight.norm()
        measured = found.modules[spec.name]
        assert set(measured.weight_error) == set(measured.output_error) == {"nf4", NAME, "int8"}
        assert measured.weight_error[NAME] == pytest.approx(error.item(), rel=1e-3)


def test_peft_adapts_what_the_plug_in_loads() -> None:
    """As a person does it: no part of jointsearch but the config."""
    names = [f"model.layers.0.self_attn.{part}_proj" for part in "qkvo"]
    model = AutoModelForCausalLM.from_pretrained(
        QUICKSTART, quantization_config=JointSearchConfig(dict.fromkeys(names, NAME))
    )
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    ids = torch.arange(5, 37).view(2, 16)
    adapted(input_ids=ids, labels=ids).loss.backward()
    trained = {name: value for name, value in adapted.named_parameters() if value.requires_grad}
    assert all(".lora_" in name for name in trained)
    gradients = [value.grad for name, value in trained.items() if "lora_B" in name]
    assert all(gradient is not None and gradient.norm() > 0 for gradient in gradients)


def test_a_device_is_tried_with_it() -> None:
    assert check_format("cpu", NAME) == "works"


def test_dora_is_refused_beside_what_peft_cannot_dequantize(study: StudyConfig) -> None:
    layout = read_layout(study.model, study.task.type)
    dora = study.model_copy(update={"lora": study.lora.model_copy(update={"variant": "dora"})})
    with pytest.raises(UnsupportedError, match=r"PEFT can dequantize, but not .* Int4Groups"):
        CalibrationRunner(dora, layout)


def test_a_checkpoint_in_a_format_that_is_not_known_is_refused() -> None:
    config = JointSearchConfig({"model.layers.0.mlp.up_proj": "int4-fp17"})
    with pytest.raises(PlanError, match="got 'int4-fp17'; did you mean 'int4-fp16'"):
        AutoModelForCausalLM.from_pretrained(QUICKSTART, quantization_config=config)
