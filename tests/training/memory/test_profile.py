"""Foretold memory against what torch's allocator has given: its profiler counts every byte."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from jointsearch.assemble import read_layout
from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.memory import serving_memory, training_memory
from jointsearch.plan.plan import Plan
from jointsearch.space import build_space
from jointsearch.training.memory.batches import example_batch
from jointsearch.training.memory.profile import memory_profile
from jointsearch.training.model import chunked_loss
from jointsearch.training.model.base_model import load_base
from jointsearch.training.model.deferred_logits import deferred_logits
from jointsearch.training.model.setup import build_optimizer
from jointsearch.training.model.trial_model import TrialModels

CPU = torch.device("cpu")


def study(batch_size: int = 2, length: int = 64, **training: Any) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "name": "memory",
            "model": {"id": "jointsearch:quickstart/model"},
            "task": {
                "type": "causal-lm",
                "data": {"package": "transformers"},
                "sequence_length": length,
            },
            "search_space": {"ranks": [0, 4, 16]},
            "calibration": {"batch_size": batch_size, "learning_rate": 1e-3},
            "training": training,
        }
    )


def measured_peak(config: StudyConfig, layout: ModelLayout, plan: Plan, lengths: dict[str, int]) -> int:
    """Of the allocator during the second of two real steps, beyond what lives before it."""
    models = TrialModels(config, layout, CPU, load_base(config.model, config.task.type, layout.dtype, CPU))
    model = models.assemble(plan, 0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = build_optimizer([{"params": trained}], config.training, 1e-3, 0.0)
    batch = example_batch(config.task, lengths, config.calibration.batch_size)

    def step() -> None:
        with deferred_logits(model, config.training.chunked_loss):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    model.train()
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    lives = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        lives += event.nbytes()
        peak = max(peak, lives)
    return peak


CASES = [
    {},
    {"batch_size": 1, "length": 256},
    {"gradient_checkpointing": True},
    {"optimizer": "adamw_8bit"},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_foretold_is_what_the_allocator_gives(case: dict[str, Any]) -> None:
    config = study(**case)
    layout = read_layout(config)
    found = memory_profile(config, layout, "cpu")
    assert found is not None
    space = build_space(config, layout)
    rng = random.Random(1)
    for plan in [space.plan(space.sample(rng)) for _ in range(3)]:
        foretold = training_memory(found, layout, plan)
        assert foretold is not None
        step = foretold.gradient_bytes + foretold.activation_bytes
        measured = measured_peak(config, layout, plan, found.lengths)
        assert measured <= step
        assert step <= 1.02 * measured


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_a_chunked_loss_takes(checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "MIN_ROWS", 32)
    monkeypatch.setattr(chunked_loss, "CHUNK_BYTES", 0)
    foretold, measured = {}, {}
    for chunked in (False, True):
        config = study(8, 64, chunked_loss=chunked, gradient_checkpointing=checkpointing)
        layout = read_layout(config)
        found = memory_profile(config, layout, "cpu")
        assert found is not None
        space = build_space(config, layout)
        plan = space.plan(space.sample(random.Random(2)))
        seen = training_memory(found, layout, plan)
        assert seen is not None
        foretold[chunked] = seen.gradient_bytes + seen.activation_bytes
        measured[chunked] = measured_peak(config, layout, plan, found.lengths)
        assert measured[chunked] <= foretold[chunked] <= 1.02 * measured[chunked]
    # 8 x 64 tokens of 512 logits in float32, twice: as they are and as a gradient
    assert measured[False] - measured[True] > (1.5 if checkpointing else 0.5) * 8 * 64 * 512 * 4


def test_what_is_held_is_the_tensors_own_bytes() -> None:
    config = study()
    layout = read_layout(config)
    found = memory_profile(config, layout, "cpu")
    assert found is not None
    space = build_space(config, layout)
    plan = space.plan(space.uniform("16bit", 4))
    base = load_base(config.model, config.task.type, layout.dtype, CPU)
    frozen = sum(p.numel() * p.element_size() for p in base.parameters())
    model = TrialModels(config, layout, CPU, base).assemble(plan, 0)
    trained = [p for p in model.parameters() if p.requires_grad]
    adapters = sum(p.numel() * p.element_size() for p in trained)
    optimizer = build_optimizer([{"params": trained}], config.training, 1e-3, 0.0)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    states = sum(v.numel() * v.element_size() for s in optimizer.state.values() for v in s.values())
    foretold = training_memory(found, layout, plan)
    assert foretold is not None
    assert foretold.adapter_bytes == adapters
    assert foretold.optimizer_bytes == states
    # beside the parameters there are the frequencies of the rotary embedding, and constants
    assert frozen <= foretold.weight_bytes <= frozen + 10_000


def test_the_cache_of_a_context() -> None:
    config = study()
    layout = read_layout(config)
    found = memory_profile(config, layout, "cpu")
    assert found is not None
    # 6 layers, keys and values of 2 heads of 32 numbers, 2 bytes each
    per_token = 6 * 2 * 64 * 2
    assert serving_memory(found, 1000, 50) == 1000 + 50 * per_token
