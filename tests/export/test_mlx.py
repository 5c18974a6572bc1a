"""Runs as checkpoints of MLX, loaded by mlx-lm on the CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import jointsearch
from fixtures.facts import byte_level, facts
from jointsearch.errors import PlanError
from jointsearch.plan.plan_file import read_plan

mx: Any = pytest.importorskip("mlx.core", reason="MLX is for macOS and Linux")

FinishedRuns = Callable[..., Path]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 64 and of 160, which is a multiple of 32 alone."""
    folder = tmp_path_factory.mktemp("model") / "llama"
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=320,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    byte_level([row["text"] for row in facts()]).save_pretrained(folder)
    return folder


def test_mlx_lm_answers_as_the_merged_weights_do(
    llama: Path, finished_run: FinishedRuns, tmp_path: Path
) -> None:
    """Three formats in turn, the tied head in one of them."""
    run, output = finished_run(str(llama)), tmp_path / "served"
    result = jointsearch.export_model(run, "mlx", output)
    assert result.verification is not None
    assert result.verification.expected.relative < 1e-5
    assert result.verification.expected.same_continuations == result.verification.num_prompts > 10
    assert 0 < result.verification.run.relative < 0.5
    plan = read_plan(run / "plan.json").plan
    config = json.loads((output / "config.json").read_text())["quantization"]
    tensors = mx.load(str(output / "model.safetensors"))
    for name, choice in plan.modules.items():
        assert (f"{name}.scales" in tensors) == (name in config) == (choice.format != "16bit"), name
        if choice.format == "16bit":
            continue
        group, bits = config[name]["group_size"], config[name]["bits"]
        assert bits == (4 if choice.format == "nf4" else 8)
        packed, scales = tensors[f"{name}.weight"], tensors[f"{name}.scales"]
        assert packed.shape[1] * 32 // bits == scales.shape[1] * group
        assert group == (32 if "down_proj" in name else 64)
        assert scales.dtype == mx.bfloat16
    assert {choice.format for choice in plan.modules.values()} == {"nf4", "int8", "16bit"}


def test_what_mlx_cannot_have_is_refused_beforehand(finished_run: FinishedRuns, tmp_path: Path) -> None:
    run = finished_run("llama", by_part=("int8", "int8"))
    says = r"mlx quantizes rows that are a multiple of 32, but .*down_proj has rows of 176 .*nearest is 16bit"
    with pytest.raises(PlanError, match=says):
        jointsearch.export_model(run, "mlx", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
