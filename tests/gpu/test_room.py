"""Options that make room on a CUDA device: the same numbers with less memory. Skipped without one."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from jointsearch.assemble import read_layout
from jointsearch.config.study import StudyConfig
from jointsearch.config.training import TrainingSettings
from jointsearch.space import build_space
from jointsearch.training.model.deferred_logits import deferred_logits
from jointsearch.training.model.setup import autocast, build_optimizer, forward_pass
from jointsearch.training.model.trial_model import TrialModels

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

CUDA = torch.device("cuda", 0)
VOCABULARY, TOKENS = 32768, 4096


def small_model_of_many_words() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
    )
    model = LlamaForCausalLM(config).to(CUDA, torch.bfloat16)
    adapters = LoraConfig(r=4, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    return get_peft_model(model, adapters).train()


def test_a_chunked_loss_has_the_same_gradients_in_less_memory() -> None:
    model = small_model_of_many_words()
    ids = torch.randint(VOCABULARY, (4, TOKENS // 4), device=CUDA)
    losses, gradients, peaks = {}, {}, {}
    for chunked in (False, True):
        model.zero_grad(set_to_none=True)
        torch.cuda.reset_peak_memory_stats(CUDA)
        before = torch.cuda.memory_allocated(CUDA)
        with autocast(CUDA), deferred_logits(model, chunked):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        losses[chunked] = loss.item()
        peaks[chunked] = torch.cuda.max_memory_allocated(CUDA) - before
        trained = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
        gradients[chunked] = torch.cat(trained)
        del loss
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)  # bfloat16 has three digits
    difference = (gradients[True] - gradients[False]).norm()
    assert difference < 0.02 * gradients[False].norm()
    assert peaks[False] - peaks[True] > TOKENS * VOCABULARY * 4  # logits in float32


def test_paged_states_are_not_on_the_device_and_have_the_same_numbers() -> None:
    weights = torch.randn(512, 512, generator=torch.Generator().manual_seed(0)).to(CUDA)
    trained, held = {}, {}
    for name in ("adamw", "paged_adamw"):
        parameter = trained[name] = nn.Parameter(weights.clone())
        optimizer = build_optimizer([{"params": [parameter]}], TrainingSettings(optimizer=name), 1e-2, 0.1)
        for step in range(5):
            gradient = torch.randn(512, 512, generator=torch.Generator().manual_seed(step))
            parameter.grad = gradient.to(CUDA)
            before = torch.cuda.memory_allocated(CUDA)
            optimizer.step()
            held.setdefault(name, torch.cuda.memory_allocated(CUDA) - before)
    assert torch.allclose(trained["paged_adamw"], trained["adamw"], rtol=0, atol=1e-5)
    assert held["adamw"] >= 2 * 4 * 512 * 512
    assert held["paged_adamw"] < 4 * 512 * 512


def test_streamed_layers_have_the_same_gradients_with_two_blocks_on_the_device() -> None:
    found, held = {}, {}
    for streamed in (False, True):
        training = TrainingSettings(gradient_checkpointing=True, stream_layers=streamed)
        config = StudyConfig.model_validate(
            {
                "name": "streamed",
                "model": {"id": "jointsearch:quickstart/model"},
                "task": {"type": "causal-lm", "data": {"package": "transformers"}, "sequence_length": 64},
                "search_space": {"ranks": [0, 4]},
                "training": training.model_dump(),
            }
        )
        layout = read_layout(config)
        space = build_space(config, layout)
        models = TrialModels(config, layout, CUDA)
        found[streamed] = []
        for plan in (space.plan(space.uniform("nf4", 4)), space.plan(space.sample(random.Random(3)))):
            before = torch.cuda.memory_allocated(CUDA)
            model: Any = models.assemble(plan, 0).train()
            held[streamed] = torch.cuda.memory_allocated(CUDA) - before
            for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
                torch.manual_seed(number)
                nn.init.normal_(parameter, std=0.1)
            ids = torch.arange(256, device=CUDA).reshape(4, 64)
            for _ in range(2):
                model.zero_grad(set_to_none=True)
                with autocast(CUDA), forward_pass(model, training):
                    loss = model(input_ids=ids, labels=ids).loss
                loss.backward()
            gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            found[streamed].append([loss.detach(), *gradients])
            del model, loss
            models.make_room(plan)
    for whole, ours in zip(found[False], found[True], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(whole, ours, strict=True))
    assert held[True] < held[False]


def test_offloaded_activations_have_the_same_gradients_in_less_memory() -> None:
    model = small_model_of_many_words()
    ids = torch.randint(VOCABULARY, (4, TOKENS // 4), device=CUDA)
    gradients, kept = {}, {}
    for offload in (False, True):
        model.zero_grad(set_to_none=True)
        before = torch.cuda.memory_allocated(CUDA)
        settings = TrainingSettings(offload_activations=offload)
        with autocast(CUDA), forward_pass(model, settings):
            loss = model(input_ids=ids, labels=ids).loss
        kept[offload] = torch.cuda.memory_allocated(CUDA) - before
        loss.backward()
        gradients[offload] = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        del loss
    pairs = zip(gradients[False], gradients[True], strict=True)
    assert all(torch.allclose(whole, found, rtol=1e-3, atol=1e-5) for whole, found in pairs)
    assert kept[True] < 0.5 * kept[False]
