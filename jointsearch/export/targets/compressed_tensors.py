"""``compressed-tensors``: one checkpoint of integers with 16-bit scales, the adapter merged into it.

    int4-g32, int4-g128, nf4    4 bits, a scale for every 32 (of int4-g128: 128) weights of a row
                                w = q · s, -8 <= q <= 7, s = max |w| / 7.5
    int8-channel, int8          8 bits, a scale per row
                                w = q · s, -128 <= q <= 127, s = max |w| / 127.5

Stock transformers and vLLM read it. What has int4-g32, int4-g128 or int8-channel and no adapter keeps its
very integers. There is no NF4: four bits are integers here, and the figures have what that changes.
Embeddings, and heads that are tied to them, stay in 16 bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointsearch.errors import PlanError
from jointsearch.export.serving import ServingTarget, register_serving_target
from jointsearch.export.targets._integers import check_integers, integer_formats
from jointsearch.export.targets._usage import by_transformers
from jointsearch.plan.formats import by_precision
from jointsearch.plan.plan_file import PlanFile

if TYPE_CHECKING:
    from torch import Tensor, nn

    from jointsearch.export.finished_run import FinishedRun

SCHEMES: dict[str, tuple[int, int | None]] = {
    "nf4": (4, 32),
    "int8": (8, None),
    "int4-g32": (4, 32),
    "int4-g128": (4, 128),
    "int8-channel": (8, None),
}
"""What each format becomes: bits, and the weights of a row that share a scale; None for all."""

OWN = ("int4-g32", "int4-g128", "int8-channel")
"""Formats that are compressed-tensors' own."""

FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Modules of one parent that vLLM multiplies by at once, in one format."""

USAGE = f"""\
{by_transformers()}

It needs `pip install compressed-tensors`. With vLLM:

```
vllm serve {{folder}}
```
"""


class CompressedTensors(ServingTarget):
    name = "compressed-tensors"
    description = "a checkpoint of 4-bit and 8-bit integers with the adapter merged into it"
    formats = tuple(SCHEMES)
    extra = "compressed-tensors"
    needs = ("compressed_tensors",)
    runtime = ("transformers", "compressed_tensors")
    tolerance = 1e-5
    usage = USAGE

    def check(self, plan: PlanFile) -> None:
        self.check_formats(plan)
        self.check_experts(plan)
        check_integers(self.name, plan, SCHEMES)
        _check_fused(plan)

    def write(self, run: FinishedRun, folder: Path) -> None:
        import torch
        from compressed_tensors.compressors import ModelCompressor
        from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config

        from jointsearch.training.quiet import without_bars

        model = run.merged()
        with without_bars():
            apply_quantization_config(model, QuantizationConfig(**_config(run.plan)))
            for name, scales in _scales(run, model).items():
                module: Any = model.get_submodule(name)
                module.weight_scale.data.copy_(scales)
            compressor = ModelCompressor.from_pretrained_model(model)
            compressor.compress_model(model)
        compressor.quantization_config.ignore = _config(run.plan)["ignore"]
        model.config.use_cache = True
        model.config.dtype = run.dtype
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dtype == torch.float32:
                tensor.data = tensor.data.to(run.dtype)
        model.save_pretrained(folder)
        compressor.update_config(str(folder))
        run.tokenizer.save_pretrained(folder)

    def load(self, folder: Path, run: FinishedRun) -> nn.Module:
        import torch

        from jointsearch.training.quiet import without_bars

        with without_bars():
            model = run.auto_class.from_pretrained(folder.resolve(), dtype=torch.float32)
            model.hf_quantizer.compressor.decompress_model(model)  # as its first forward pass would
        loaded: nn.Module = model.eval()
        return loaded

    def expected(self, run: FinishedRun) -> nn.Module:
        model = run.merged()
        formats = integer_formats(run.plan)
        for name, scales in _scales(run, model).items():
            weight = model.get_submodule(name).weight.data
            half = 2 ** (SCHEMES[formats[name]][0] - 1)
            groups = weight.unflatten(1, (scales.shape[1], -1))  # (out, groups, group)
            numbers = (groups / scales[..., None]).round().clamp(-half, half - 1)
            weight.copy_((numbers * scales[..., None]).flatten(1))
        return model


def _scales(run: FinishedRun, merged: nn.Module) -> dict[str, Tensor]:
    """By module one for each group of a row, float32 with values of the model's 16-bit type: (out, groups).

    What has its own integers and no adapter keeps the scales that the run has.
    """
    formats, ranks = integer_formats(run.plan), run.plan.plan.ranks
    found: dict[str, Tensor] = {}
    base = run.base() if any(name in OWN for name in formats.values()) else None
    for name, weight_format in formats.items():
        if base is not None and weight_format in OWN and name not in ranks:
            found[name] = base.get_submodule(name).scales.float()
            continue
        bits, group = SCHEMES[weight_format]
        weight = merged.get_submodule(name).weight.data
        largest = weight.unflatten(1, (-1, group or weight.shape[1])).abs().amax(2)
        scales = (largest / (2 ** (bits - 1) - 0.5)).to(run.dtype).float()
        found[name] = scales.clamp(min=2**-24)  # a row of nothing
    return found


def _config(plan: PlanFile) -> dict[str, Any]:
    """``config.json``'s ``quantization_config``."""
    formats = integer_formats(plan)
    groups: dict[str, Any] = {}
    for bits, group in dict.fromkeys(SCHEMES.values()):
        sharing = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
        weights = {"type": "int", "symmetric": True, "num_bits": bits, **sharing}
        if names := [name for name in formats if SCHEMES[formats[name]] == (bits, group)]:
            groups[f"group_{len(groups)}"] = {
                "targets": names,
                "weights": weights,
                "format": "pack-quantized",
            }
    others = [
        name
        for spec in plan.layout.modules
        if spec.name not in formats
        for name in (spec.name, *spec.tied)
        if spec.kind in ("linear", "embedding")
    ]
    return {"config_groups": groups, "ignore": others}


def _check_fused(plan: PlanFile) -> None:
    """Raise ``PlanError`` where modules that vLLM fuses have formats of their own."""
    formats = integer_formats(plan)
    for name in plan.plan.modules:
        parent, _, last = name.rpartition(".")
        for fused in FUSED:
            if last != fused[0]:
                continue
            names = [f"{parent}.{other}" for other in fused if f"{parent}.{other}" in plan.plan.modules]
            found = {other: formats.get(other, "16bit") for other in names}
            if len(set(found.values())) > 1:
                shown = ", ".join(f"{other} {of_it}" for other, of_it in found.items())
                finest = by_precision(found.values())[-1]
                raise PlanError(
                    f"vLLM wants one format in modules that it fuses, but the plan has {shown}; the nearest "
                    f"gives them all {finest}, as group_by: part does, or export to merged-quantized"
                )


register_serving_target(CompressedTensors())
