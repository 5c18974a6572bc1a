"""Weights that a model reads beside its modules' forward, on small models made for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM, FSMTConfig, LlamaConfig, LlamaForCausalLM, PreTrainedConfig
from transformers.models.llama import modeling_llama

from families.zoo import FAMILIES
from jointsearch.training.model.architecture import model_class
from jointsearch.training.model.weight_reads import weights_read


class Odd(modeling_llama.LlamaMLP):
    """Reads weights in every way that there is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.down_proj.weight.dtype) + self.config.used
        if self.up_proj.weight.device != x.device or self.up_proj.weight.shape[0] == 0:
            raise AssertionError
        gate = x @ self.gate_proj.weight.T if self.config.used else self.gate_proj(x)
        return self.down_proj(self.act_fn(gate) * self.up_proj(x))


def config(**others: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        **others,
    )


def made(config: PreTrainedConfig) -> LlamaForCausalLM:
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        layer.mlp.__class__ = Odd
    return model


@pytest.mark.parametrize("used", [0, 1])
def test_multiplying_by_a_weight_and_asking_for_its_type_are_reads(used: int) -> None:
    names = [
        f"model.layers.{number}.mlp.{name}_proj" for number in range(3) for name in ("gate", "up", "down")
    ]
    found = weights_read(made, config(used=used), names)
    expected = {f"model.layers.{number}.mlp.down_proj": {"dtype"} for number in range(3)}
    if used:
        expected |= {f"model.layers.{number}.mlp.gate_proj": {"T"} for number in range(3)}
    assert found == expected


def test_what_cannot_run_on_the_meta_device_runs_small_and_holds_for_all_layers() -> None:
    class Stubborn(LlamaForCausalLM):
        def forward(self, input_ids: torch.Tensor, **others: Any) -> Any:
            input_ids.tolist()  # there are no values on the meta device
            return super().forward(input_ids, **others)

    def stubborn(config: PreTrainedConfig) -> LlamaForCausalLM:
        model = made(config)
        model.__class__ = Stubborn
        sizes.append(len(model.model.layers))
        return model

    sizes: list[int] = []
    names = [f"model.layers.{number}.mlp.down_proj" for number in range(3)]
    assert weights_read(stubborn, config(used=0), names) == {name: {"dtype"} for name in names}
    assert sizes == [3, 2]


@pytest.mark.parametrize(
    ("name", "module", "read"),
    [
        ("deberta-v2", "deberta.encoder.rel_embeddings", {"layer_norm"}),
        ("mamba", "backbone.layers.1.mixer.dt_proj", {"matmul"}),
        ("mamba2", "lm_head", {"dtype"}),
        ("switch", "encoder.block.1.layer.1.mlp.experts.expert_1.wo", {"dtype"}),
        ("prophetnet", "prophetnet.decoder.ngram_embeddings", {"__getitem__"}),
        ("rwkv", "rwkv.blocks.1.attention.output", {"div_", "mul_"}),
    ],
)
def test_the_families_that_do(name: str, module: str, read: set[str]) -> None:
    family = FAMILIES[name]
    assert weights_read(model_class(family.task).from_config, family.config(), [module]) == {module: read}


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "bart", "mixtral", "gemma3"])
def test_the_families_that_do_not(name: str) -> None:
    family = FAMILIES[name]
    with torch.device("meta"):
        model = model_class(family.task).from_config(family.config())
    names = [n for n, module in model.named_modules() if isinstance(module, nn.Linear | nn.Embedding)]
    assert weights_read(model_class(family.task).from_config, family.config(), names) == {}


def test_what_is_read_without_a_cache_of_keys_and_values() -> None:
    """As in training: FSMT then makes a mask of the type of its embedding."""
    sizes = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
    small = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in sizes.items()}
    config = FSMTConfig(langs=["en", "de"], src_vocab_size=40, tgt_vocab_size=40, d_model=16, **small)
    names = ["model.encoder.embed_tokens", "model.decoder.embed_tokens", "model.decoder.layers.0.fc1"]
    assert config.use_cache
    assert weights_read(AutoModelForSeq2SeqLM.from_config, config, names) == {names[1]: {"dtype"}}
    assert config.use_cache
