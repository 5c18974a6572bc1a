"""What a search reaches of a model, and what a person is told of the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from transformers import CanineConfig, Gemma3nTextConfig, LlamaConfig, LlamaForCausalLM

from families.whole_study import tokenizer
from families.zoo import FAMILIES
from jointsearch.cli import cli
from jointsearch.config.study import ModelSettings
from jointsearch.errors import ModelError
from jointsearch.training.methods.base import cast_trained
from jointsearch.training.model.architecture import model_class, read_layout
from jointsearch.training.model.base_model import load_base

Save = Callable[[str], ModelSettings]


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    def save(name: str) -> ModelSettings:
        family = FAMILIES[name]
        model_class(family.task).from_config(family.config()).save_pretrained(tmp_path / name)
        tokenizer().save_pretrained(tmp_path / name)
        return ModelSettings(id=str(tmp_path / name))

    return save


def test_falcons_blocks_are_searched(saved: Save) -> None:
    layout = read_layout(saved("falcon"), "causal-lm")
    assert layout.searched_share > 0.99
    inside = [spec for spec in layout.modules if spec.block]
    assert len(inside) == 8
    assert all(spec.quantizable and spec.adaptable for spec in inside)


def test_experts_are_searched_and_their_router_is_named(saved: Save) -> None:
    layout = read_layout(saved("mixtral"), "causal-lm")
    # by hand: all but the routers' 2 · 4 · 64 weights and the 5 norms of 64
    left = 2 * 4 * 64 + 5 * 64
    assert layout.searched_share == pytest.approx(1 - left / layout.num_parameters)
    assert layout.notes == [
        "left at 16 bits: model.layers.*.mlp.gate, 2 modules "
        "(MixtralTopKRouter with weights of shape (4, 64) is no nn.Linear or Conv1D)"
    ]


def test_a_small_share_is_said(saved: Save) -> None:
    layout = read_layout(saved("xlnet"), "sequence-classification")
    assert layout.notes[-1] == f"the search reaches {layout.searched_share:.0%} of the model's weights"
    assert layout.searched_share < 0.5


def test_what_peft_has_no_adapter_for_has_none(saved: Save) -> None:
    mamba = read_layout(saved("mamba"), "causal-lm").by_name()
    assert mamba["backbone.layers.0.mixer.out_proj"].quantizable
    assert not mamba["backbone.layers.0.mixer.out_proj"].adaptable
    assert mamba["backbone.layers.0.mixer.in_proj"].adaptable
    # PEFT would take it for one of the experts of an older checkpoint
    deepseek = read_layout(saved("deepseek-v3"), "causal-lm").by_name()
    assert not deepseek["model.layers.0.mlp.gate_proj"].adaptable
    assert deepseek["model.layers.1.mlp.experts.gate_up_proj"].adaptable
    assert deepseek["model.layers.0.self_attn.o_proj"].adaptable


def test_a_model_without_blocks_that_can_be_searched_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LlamaForCausalLM(
        LlamaConfig(vocab_size=96, hidden_size=64, num_hidden_layers=0, num_attention_heads=4)
    ).save_pretrained(tmp_path / "none")
    with pytest.raises(ModelError, match=r"must have blocks with linear layers .* LlamaForCausalLM has none"):
        read_layout(ModelSettings(id=str(tmp_path / "none")), "causal-lm")


def test_a_model_without_a_table_of_tokens_is_refused(tmp_path: Path) -> None:
    config = CanineConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=128)
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="CanineForSequenceClassification has none"):
        read_layout(ModelSettings(id=str(tmp_path)), "sequence-classification")


def test_what_is_read_in_training_alone_is_found(tmp_path: Path) -> None:
    """Gemma 3n clamps the coefficients of its streams while it trains."""
    config = Gemma3nTextConfig(
        vocab_size=96,
        vocab_size_per_layer_input=96,
        hidden_size=64,
        hidden_size_per_layer_input=16,
        intermediate_size=[128] * 2,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        laurel_rank=8,
        num_kv_shared_layers=0,
        altup_num_inputs=2,
        layer_types=["sliding_attention", "full_attention"],
        activation_sparsity_pattern=[0.0] * 2,
    )
    config.save_pretrained(tmp_path)
    layout = read_layout(ModelSettings(id=str(tmp_path)), "causal-lm")
    name = "model.layers.0.altup.prediction_coefs"
    assert "reads its weight beside its forward" in layout.left_out[name]
    assert not layout[name].quantizable


def test_pickled_weights_are_said_to_be_so(saved: Save) -> None:
    settings = saved("llama")
    folder = Path(settings.id)
    model = LlamaForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"must be safetensors, .* save_pretrained it to a folder"):
        load_base(settings, "causal-lm", "bfloat16", torch.device("cpu"))


def test_a_new_head_may_be_bfloat16_on_a_cpu() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8).requires_grad_(False), nn.Linear(8, 2))
    x = torch.randn(3, 4)
    whole = model(x)
    cast_trained(model, torch.bfloat16)
    found = model(x)
    assert model[1].weight.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert torch.allclose(found, whole, atol=0.02)
    found.sum().backward()
    assert model[1].weight.grad is not None


def test_doctor_shows_a_model(saved: Save) -> None:
    settings = saved("mamba2")
    result = CliRunner().invoke(cli, ["doctor", "--model", settings.id, "--format", "json"])
    found: dict[str, Any] = json.loads(result.stdout)
    layout = read_layout(settings, "causal-lm")
    assert found["architecture"] == "Mamba2ForCausalLM"
    assert found["parameters"] == layout.num_parameters
    assert sum(row["parameters"] for row in found["parts"]) == layout.num_parameters
    assert found["notes"] == layout.notes
    assert found["tokenizer"]["tokens"] == found["tokenizer"]["embeddings"] == 96
    text = CliRunner().invoke(cli, ["doctor", "--model", settings.id]).stdout
    assert "left at 16 bits: lm_head (the model reads its weight beside its forward (dtype))" in text
    wrong = CliRunner().invoke(cli, ["doctor", "--model", settings.id, "--task", "causal-ml"])
    assert "did you mean 'causal-lm'" in str(wrong.exception)
