"""Activations that wait elsewhere: the same gradients to the bit, and less that lives at once."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from jointsearch.config.study import StudyConfig
from jointsearch.config.training import TrainingSettings
from jointsearch.errors import UnsupportedError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.memory import training_memory
from jointsearch.space import SearchSpace
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.memory.batches import example_batch
from jointsearch.training.memory.profile import memory_profile
from jointsearch.training.model.base_model import load_base
from jointsearch.training.model.offloading import Offloaded, OffloadedActivations
from jointsearch.training.model.trial_model import TrialModels

CPU = torch.device("cpu")


class InNumpy(OffloadedActivations):
    """A CPU's activations in memory that torch has not allocated, as a host's is beside a GPU's."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model)
        self.moved: Counter[tuple[int, ...]] = Counter()

    def moves(self, tensor: torch.Tensor) -> bool:
        return tensor.is_floating_point()

    def to_host(self, tensor: torch.Tensor) -> Any:
        self.moved[tuple(tensor.shape)] += 1
        return tensor.numpy().copy()

    def to_device(self, offloaded: Offloaded) -> torch.Tensor:
        made = torch.empty_strided(offloaded.shape, offloaded.stride, dtype=offloaded.dtype)
        return made.copy_(torch.from_numpy(offloaded.copy))


def trial_model(config: StudyConfig, layout: ModelLayout, plan: Any) -> Any:
    base = load_base(config.model, "causal-lm", layout.dtype, CPU)
    return TrialModels(config, layout, CPU, base).assemble(plan, 0).train()


def step(model: Any, batch: dict[str, torch.Tensor], hooks: Any) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    with hooks:
        loss = model(**batch).loss
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("weight_format", ["nf4", "int8", "16bit"])
def test_gradients_are_equal_and_weights_stay(
    weight_format: str, config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    model = trial_model(config, tiny_layout, space.plan(space.uniform(weight_format, 8)))
    for parameter in model.parameters():  # B = 0 would hide half of the gradients
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    batch = example_batch(config.task, {"input_ids": 64}, 4)
    batch["input_ids"] = torch.arange(4 * 64).reshape(4, 64) % 500
    whole = step(model, batch, torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t))
    hooks = InNumpy(model)
    found = step(model, batch, hooks)
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    shapes = {tuple(parameter.shape) for parameter in model.parameters()}
    assert hooks.moved
    assert not shapes & set(hooks.moved)


def test_a_tensor_that_is_saved_twice_is_copied_once() -> None:
    first = torch.randn(256, 128, requires_grad=True)
    given = first * 1.0
    second, third = (torch.randn(128, 256, requires_grad=True) for _ in range(2))
    hooks = InNumpy(torch.nn.Identity())
    with hooks:
        result = (given @ second + given @ third).sum()
    assert hooks.moved[256, 128] == 1
    result.backward()
    assert torch.allclose(second.grad, given.detach().T @ torch.ones(256, 256))


def test_what_waits_elsewhere_is_not_foretold(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    calibration = config.calibration.model_copy(update={"batch_size": 8})
    plan = space.plan(space.sample(random.Random(3)))
    foretold = {}
    for offload in (False, True):
        training = TrainingSettings(offload_activations=offload)
        study = config.model_copy(update={"training": training, "calibration": calibration})
        found = memory_profile(study, tiny_layout, "cpu")
        assert found is not None
        taken = training_memory(found, tiny_layout, plan)
        assert taken is not None
        foretold[offload] = taken.gradient_bytes + taken.activation_bytes
    model = trial_model(config, tiny_layout, plan)
    batch = example_batch(config.task, found.lengths, 8)
    step(model, batch, InNumpy(model))
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step(model, batch, InNumpy(model))
    lives = peak = 0
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        lives += event.nbytes()
        peak = max(peak, lives)
    assert peak <= foretold[True] <= 1.05 * peak
    assert foretold[True] < 0.5 * foretold[False]


def test_a_cpu_has_no_other_memory(config: StudyConfig, tiny_layout: ModelLayout) -> None:
    study = config.model_copy(update={"training": TrainingSettings(offload_activations=True)})
    with pytest.raises(UnsupportedError, match=r"offload_activations must be false on cpu, .* leave it out"):
        CalibrationRunner(study, tiny_layout)
