"""``torchao``: one checkpoint of torchao's integers, for stock transformers, the adapter merged into it.

    nf4     4 bits, a scale for every 32 weights of a row    w = q · s, -8 <= q <= 7, s = max |w| / 7.5
    int8    8 bits, a scale per row                          w = q · s, -128 <= q <= 127, s = max |w| / 127.5

(torchao's ``IntxWeightOnlyConfig`` and ``Int8WeightOnlyConfig``, by ``FqnToConfig`` for each weight by its
full name.) It has no NF4: four bits are integers here, and lie in a byte each. What is named in no config
stays in 16 bits, as do embeddings and the heads that are tied to them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointsearch.export.serving import ServingTarget, register_serving_target
from jointsearch.export.targets._integers import check_integers, integer_formats
from jointsearch.export.targets._usage import by_transformers
from jointsearch.plan.plan_file import PlanFile

if TYPE_CHECKING:
    from torch import Tensor, nn

    from jointsearch.export.finished_run import FinishedRun

GROUP = 32
"""Weights that share a scale in 4 bits."""

SCHEMES = {"nf4": (4, GROUP), "int8": (8, None)}
"""What each format becomes: bits, and the weights of a row that share a scale; None for all."""

USAGE = f"""\
{by_transformers()}

It needs `pip install torchao`.
"""


class TorchAo(ServingTarget):
    name = "torchao"
    description = "a checkpoint of torchao's 4-bit and 8-bit integers with the adapter merged in"
    formats = tuple(SCHEMES)
    extra = "torchao"
    needs = ("torchao",)
    runtime = ("transformers", "torchao")
    tolerance = 1e-6
    usage = USAGE

    def check(self, plan: PlanFile) -> None:
        self.check_formats(plan)
        self.check_experts(plan)
        check_integers(self.name, plan, SCHEMES)

    def write(self, run: FinishedRun, folder: Path) -> None:
        from transformers import TorchAoConfig

        with tempfile.TemporaryDirectory(dir=folder.parent) as plain:
            run.merged().to(run.dtype).save_pretrained(plain)
            model = run.auto_class.from_pretrained(
                plain,
                dtype=run.dtype,
                quantization_config=TorchAoConfig(_config(run.plan), include_input_output_embeddings=True),
                device_map={"": "cpu"},
            )
        model.config.use_cache = True
        model.save_pretrained(folder)
        run.tokenizer.save_pretrained(folder)

    def load(self, folder: Path, run: FinishedRun) -> nn.Module:
        """In float32: what torchao makes of its numbers, without the rounding of its 16-bit products."""
        import torch
        from torch import nn

        model = run.auto_class.from_pretrained(folder.resolve(), device_map={"": "cpu"})
        for name, weight_format in integer_formats(run.plan).items():
            module = model.get_submodule(name)
            if weight_format == "int8":
                weight = module.weight.dequantize(torch.float32)  # (out, in)
            else:
                weight = module.weight.to(torch.float32).dequantize()
            module.weight = nn.Parameter(weight, requires_grad=False)
        return nn.Module.float(model).eval()  # transformers' own refuses quantized models

    def expected(self, run: FinishedRun) -> nn.Module:
        model = run.merged()
        for name, weight_format in integer_formats(run.plan).items():
            weight = model.get_submodule(name).weight.data
            weight.copy_(_rounded(weight.to(run.dtype), weight_format))
        return model


def _config(plan: PlanFile) -> Any:
    """Which module has which of torchao's configs."""
    import torch
    from torchao.quantization import FqnToConfig, Int8WeightOnlyConfig, IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerGroup

    of_format = {
        "nf4": IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(GROUP)),
        "int8": Int8WeightOnlyConfig(),
    }
    # by the name of the parameter: by that of its module, transformers would have biases quantized too
    return FqnToConfig({f"{name}.weight": of_format[found] for name, found in integer_formats(plan).items()})


def _rounded(weight: Tensor, weight_format: str) -> Tensor:
    """What a weight (out, in) of a 16-bit type becomes, float32: torchao computes 4 bits in that type."""
    groups = weight.unflatten(1, (-1, GROUP if weight_format == "nf4" else weight.shape[1]))
    smallest, largest = (-8, 7) if weight_format == "nf4" else (-128, 127)
    scales = (groups.abs().amax(2, keepdim=True) / ((largest - smallest) / 2)).to(weight.dtype)
    if weight_format == "int8":
        groups, scales = groups.float(), scales.float()
    numbers = (groups * (1.0 / scales)).round().clamp(smallest, largest)
    rounded: Tensor = (numbers.float() * scales.float()).flatten(1)
    return rounded


register_serving_target(TorchAo())
