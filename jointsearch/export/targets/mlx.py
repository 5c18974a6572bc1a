"""``mlx``: one checkpoint for MLX on Apple silicon, each module in its own bits, the adapter merged into it.

    nf4     4 bits, a scale and a bias for every 64 weights of a row
    int8    8 bits, a scale and a bias for every 64 weights of a row

(MLX's affine quantization, ``mlx.core.quantize``; 32 where a row is no multiple of 64.) mlx-lm converts the
merged model, and ``config.json`` names each quantized module. MLX's adapters have one rank, and so this has
none. Embeddings, and heads that are tied to them, have their formats too.
"""

from __future__ import annotations

import tempfile
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointsearch.errors import PlanError, UnsupportedError
from jointsearch.export.serving import ServingTarget, register_serving_target
from jointsearch.plan.plan_file import PlanFile

if TYPE_CHECKING:
    from torch import Tensor, nn

    from jointsearch.export.finished_run import FinishedRun

BITS = {"nf4": 4, "int8": 8}

SMALLEST_SCALE = 1e-7
"""MLX's, of a group that is all the same."""

USAGE = """\
```python
from mlx_lm import generate, load

model, tokenizer = load("{folder}")
print(generate(model, tokenizer, prompt="Once upon a time"))
```

It needs `pip install mlx-lm`; on Linux also `pip install 'mlx[cpu]'`.
"""


class Mlx(ServingTarget):
    name = "mlx"
    description = "a checkpoint for MLX, each module in its own bits, with the adapter merged in"
    formats = tuple(BITS)
    extra = "mlx"
    needs = ("mlx", "mlx_lm")
    runtime = ("mlx", "mlx_lm")
    tolerance = 1e-4
    usage = USAGE

    def check(self, plan: PlanFile) -> None:
        self.check_formats(plan)
        self.check_experts(plan)
        if plan.study.task.type != "causal-lm":
            raise PlanError(
                f"mlx has causal language models alone, but the run's task is {plan.study.task.type}; "
                "use --to merged"
            )
        for name, weight_format in plan.plan.formats.items():
            spec = plan.layout[name]
            if spec.kind == "conv1d" or spec.shape[1] % 32:
                what = "transposed" if spec.kind == "conv1d" else f"rows of {spec.shape[1]}"
                raise PlanError(
                    f"mlx quantizes rows that are a multiple of 32, but {name} has {what} and the plan gives "
                    f"it {weight_format}; the nearest is 16bit, or export to merged-quantized"
                )

    def write(self, run: FinishedRun, folder: Path) -> None:
        from mlx_lm.utils import load_model, quantize_model, save_config, save_model

        kind = run.model.config.model_type
        if find_spec(f"mlx_lm.models.{kind}") is None:
            raise UnsupportedError(f"mlx-lm has no models of type {kind}; use --to merged")
        formats = run.plan.plan.formats
        with tempfile.TemporaryDirectory(dir=folder.parent) as plain:
            run.merged().to(run.dtype).save_pretrained(plain)
            model, config = load_model(Path(plain))
        if unknown := formats.keys() - {name for name, _ in model.named_modules()}:
            raise UnsupportedError(
                f"mlx-lm has no module {min(unknown)} in models of type {kind}; use --to merged"
            )
        if formats:
            chosen = {
                name: {"group_size": _group(run.plan, name), "bits": BITS[of_module], "mode": "affine"}
                for name, of_module in formats.items()
            }
            with redirect_stdout(StringIO()):  # it prints what it has done, and that is for results
                model, config = quantize_model(
                    model, config, 32, 4, quant_predicate=lambda name, module: chosen.get(name, False)
                )
        save_model(folder, model)
        save_config(config, folder / "config.json")
        run.model.generation_config.save_pretrained(folder)
        run.tokenizer.save_pretrained(folder)

    def load(self, folder: Path, run: FinishedRun) -> nn.Module:
        return _in_torch(folder)

    def expected(self, run: FinishedRun) -> nn.Module:
        model = run.merged()
        for name, of_module in run.plan.plan.formats.items():
            weight = model.get_submodule(name).weight.data
            weight.copy_(rounded(weight, BITS[of_module], _group(run.plan, name), run.dtype))
        return model


def _group(plan: PlanFile, name: str) -> int:
    """Weights that share a scale and a bias."""
    return 32 if plan.layout[name].shape[1] % 64 else 64


def rounded(weight: Tensor, bits: int, group: int, dtype: Any) -> Tensor:
    """What MLX makes of a weight (out, in): w = q · s + b with 0 <= q < 2^bits.

    The end of a group that is farther from 0 is kept exactly (mlx/ops.cpp, ``affine_quantize``); ``dtype`` is
    that of scales and biases.
    """
    import torch

    groups = weight.float().unflatten(1, (-1, group))  # (out, groups, group)
    low, high = groups.aminmax(dim=2, keepdim=True)
    is_low = low.abs() > high.abs()
    steps = 2**bits - 1
    scales = ((high - low) / steps).clamp(min=SMALLEST_SCALE)
    scales = torch.where(is_low, scales, -scales)
    edge = torch.where(is_low, low, high)
    at_zero = (edge / scales).round()
    scales = torch.where(at_zero != 0, edge / at_zero, scales)
    biases = torch.where(at_zero != 0, edge, torch.zeros_like(edge))
    numbers = ((groups - biases) / scales).round().clamp(0, steps)
    found: Tensor = numbers * scales.to(dtype).float() + biases.to(dtype).float()
    return found.flatten(1)


def _in_torch(folder: Path) -> nn.Module:
    """What mlx-lm loads, in float32, as a module of torch that takes tokens and gives logits.

    Padding is on the right, where a causal model does not see it.
    """
    import mlx.core as mx
    import numpy as np
    import torch
    from mlx_lm.utils import load_model
    from torch import nn
    from transformers.modeling_outputs import CausalLMOutput

    model, _ = load_model(folder)
    model.set_dtype(mx.float32)

    class InTorch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # where a module is, is asked of its parameters
            self.place = nn.Parameter(torch.zeros(0), requires_grad=False)

        def forward(self, input_ids: torch.Tensor, **ignored: Any) -> CausalLMOutput:
            """``logits`` of (batch, time) tokens: (batch, time, vocabulary)."""
            logits = model(mx.array(input_ids.numpy()))
            return CausalLMOutput(logits=torch.from_numpy(np.array(logits)))

    return InTorch().eval()


register_serving_target(Mlx())
