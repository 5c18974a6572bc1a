"""Formats of compressed-tensors and GGUF: their bytes are those libraries', their gradients autograd's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.utils import calculate_qparams
from torch import nn

from jointsearch.config.study import StudyConfig
from jointsearch.plan.formats import FORMATS, QuantizationSettings
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.plan.plan_file import PlanFile
from jointsearch.quantization.formats.base import empty_module, fill, matrix_of, quantized
from jointsearch.runner import Trial
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.full_run.evaluation import evaluate_run
from jointsearch.training.full_run.run import full_run
from jointsearch.training.model.architecture import read_layout

NAMES = ("int4-g32", "int4-g128", "int8-channel", "q4_0", "q8_0")
GROUPS = {"int4-g32": (4, 32), "int4-g128": (4, 128), "int8-channel": (8, None)}
QUICKSTART = Path(__file__).parents[2] / "jointsearch" / "quickstart" / "model"


def in_format(module: nn.Module, name: str) -> nn.Module:
    empty = empty_module(module, name, QuantizationSettings(), torch.float32)
    fill(empty, quantized(empty, module.weight.data, torch.bfloat16))
    return empty


def some_weight(rows: int, columns: int) -> torch.Tensor:
    """With a group of zeros, and one whose largest weights are equal but for their sign."""
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    weight[0, :32] = 0
    weight[1, 3], weight[1, 7] = 6.0, -6.0
    return weight


@pytest.mark.parametrize("name", ["q4_0", "q8_0"])
def test_bytes_are_those_of_gguf(name: str) -> None:
    weight = some_weight(6, 96)
    linear = nn.Linear(96, 6, bias=False)
    linear.weight.data = weight
    kind = gguf.GGMLQuantizationType[name.upper()]
    expected = gguf.quants.quantize(weight.numpy(), kind)
    module = in_format(linear, name)
    assert module.weight.numpy().tobytes() == expected.tobytes()
    assert matrix_of(module).tolist() == gguf.quants.dequantize(expected, kind).tolist()


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("columns", [128, 256])
def test_integers_and_scales_are_those_of_compressed_tensors(name: str, columns: int) -> None:
    bits, group = GROUPS[name]
    weight = some_weight(4, columns)
    linear = nn.Linear(columns, 4, bias=False)
    linear.weight.data = weight
    module = in_format(linear, name)
    groups = weight.view(4, -1, group or columns)
    arguments = QuantizationArgs(num_bits=bits, symmetric=True)
    scales, _ = calculate_qparams(groups.amin(2), groups.amax(2), arguments)
    some = groups.abs().amax(2) > 0  # of a group of zeros any scale is right
    assert torch.equal(module.scales[some], scales.bfloat16()[some])
    half = 2 ** (bits - 1)
    numbers = (groups / module.scales.float()[..., None]).round().clamp(-half, half - 1).view(4, columns)
    assert torch.equal(module.weight, pack_to_int32(numbers.to(torch.int8), bits))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(6, 128), (5, 77)])
def test_layers_multiply_by_their_weight_and_have_its_gradient(name: str, shape: tuple[int, int]) -> None:
    linear = nn.Linear(shape[1], shape[0])
    linear.weight.data = some_weight(*shape)
    module = in_format(linear, name)
    module.bias = linear.bias
    weight = matrix_of(module)
    error = (weight - linear.weight.data).norm() / linear.weight.data.norm()
    assert error < (0.15 if "4" in name.replace("-channel", "") else 0.02)
    stored = sum(tensor.nbytes for tensor in (module.weight.data, *module.buffers()))
    assert stored == FORMATS[name].weight_bytes(shape, QuantizationSettings())
    x = torch.randn(2, 3, shape[1], requires_grad=True)
    expected = x @ weight.T + linear.bias
    assert torch.allclose(module(x), expected, atol=1e-6)
    towards = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(module(x), x, towards)
    (by_autograd,) = torch.autograd.grad(expected, x, towards)
    assert torch.allclose(gradient, by_autograd, atol=1e-6)

    table = nn.Embedding(*shape)
    table.weight.data = linear.weight.data
    ids = torch.tensor([[0, 3], [1, 1]])
    assert torch.equal(in_format(table, name)(ids), weight[ids])


def test_a_trial_a_full_run_and_its_checkpoint(tmp_path: Path, tensor_bytes: Callable[[Path], int]) -> None:
    """Of a plan that has them all in turn, the embeddings and the head that is tied to them among them."""
    study = StudyConfig.model_validate(
        {
            "name": "formats",
            "model": {"id": str(QUICKSTART)},
            "task": {"type": "causal-lm", "data": {"package": "click"}, "sequence_length": 32},
            "search_space": {"group_by": "module", "formats": [*NAMES, "16bit"], "ranks": [0, 4]},
            "calibration": {
                "steps": 2,
                "batch_size": 2,
                "validation_examples": 4,
                "warmup_steps": 1,
                "learning_rate": 0.01,
            },
            "full_run": {"max_steps": 2, "batch_size": 2, "evaluations": 1, "learning_rate": 0.01},
            "device": "cpu",
        }
    )
    layout = read_layout(study.model, study.task.type)
    modules = {
        spec.name: ModuleChoice(
            format=NAMES[number % 5] if spec.quantizable else "16bit",
            rank=4 if spec.adaptable and number % 3 else 0,
        )
        for number, spec in enumerate(layout.modules)
    }
    assert {choice.format for choice in modules.values()} >= set(NAMES)
    plan = Plan(modules=modules, quantization=study.quantization, lora=study.lora)
    measured = CalibrationRunner(study, layout).run(plan, Trial(seed=0))
    file = PlanFile.build(plan, layout, study)
    trained = full_run(file, tmp_path / "run")
    again = evaluate_run(tmp_path / "run", "validation")
    assert again["loss"] == pytest.approx(trained.validation["loss"], rel=1e-5)
    saved = sum(tensor_bytes(tmp_path / "run" / part) for part in ("model", "adapter"))
    assert saved == measured.model_bytes == file.cost.model_bytes
