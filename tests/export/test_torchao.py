"""Runs as checkpoints of torchao's integers, which stock transformers loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import jointsearch
from jointsearch.errors import PlanError
from jointsearch.export.finished_run import FinishedRun
from jointsearch.plan.plan_file import read_plan

# not among the development tools: where it is installed, PEFT imports it in every process
pytest.importorskip("torchao")

FinishedRuns = Callable[..., Path]


@pytest.mark.parametrize(("family", "by_part"), [("llama", ("nf4", "int8")), ("qwen2", ("int8", "16bit"))])
def test_the_integers_are_the_nearest_to_the_merged_weights(
    family: str, by_part: Any, finished_run: FinishedRuns, tmp_path: Path
) -> None:
    """A tied head that stays in 16 bits, and one of its own with a format."""
    run, output = finished_run(family, by_part=by_part), tmp_path / "served"
    result = jointsearch.export_model(run, "torchao", output)
    assert result.verification is not None
    assert result.verification.expected.largest == 0
    assert 0 < result.verification.run.relative < 0.5
    plan = read_plan(run / "plan.json").plan
    merged = FinishedRun(run).merged()
    tensors = load_file(output / "model.safetensors")
    written = {name.removesuffix("._weight_qdata") for name in tensors if name.endswith("qdata")}
    linear = {name for name in plan.formats if "embed" not in name}
    assert written == linear and len(linear) > 3
    for name in linear:
        half = 7.5 if plan.formats[name] == "nf4" else 127.5
        numbers, scales = (tensors[f"{name}._weight_{part}"].float() for part in ("qdata", "scale"))
        scales = scales.view(len(numbers), -1).repeat_interleave(
            numbers.shape[1] // scales.view(len(numbers), -1).shape[1], dim=1
        )
        wanted = merged.get_submodule(name).weight
        inside = (wanted / scales).clamp(-half - 0.5, half - 0.5)
        assert (numbers - inside).abs().max() <= 0.5 + 0.04  # of 4 bits, products in bfloat16
        assert numbers.abs().max() >= half - 0.5
    plain = [value for name, value in tensors.items() if "_weight_" not in name]
    assert {value.dtype for value in plain} == {torch.bfloat16}
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        stock = AutoModelForCausalLM.from_pretrained(output)(
            tokens
        ).logits.float()  # by torchao's own products
        own = FinishedRun(run).model(input_ids=tokens).logits
    assert (stock - own).abs().max() < 0.5 * own.abs().max()
    method = json.loads((output / "config.json").read_text())["quantization_config"]["quant_method"]
    assert method == "torchao"


@pytest.mark.parametrize(
    ("family", "by_part", "says"),
    [
        ("llama", ("nf4", "nf4"), r"in_features are a multiple of 32, but .*down_proj has 176.*is int8"),
        ("gpt2", ("int8", "int8"), r"quantizes linear modules alone, but .* is conv1d .*nearest is 16bit"),
    ],
)
def test_what_the_checkpoint_cannot_have_is_refused_beforehand(
    family: str, by_part: Any, says: str, finished_run: FinishedRuns, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=says):
        jointsearch.export_model(finished_run(family, by_part=by_part), "torchao", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
