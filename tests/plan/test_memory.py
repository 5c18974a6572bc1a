"""Bytes of optimizer states: those that the optimizers hold, and which a GPU need not hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from jointsearch.config.training import TrainingSettings
from jointsearch.plan.memory import state_bytes
from jointsearch.training.model.setup import build_optimizer

SIZES = (100, 5000, 150_000)


@pytest.mark.parametrize("name", ["adamw", "paged_adamw", "adamw_8bit", "paged_adamw_8bit"])
def test_states_on_a_cpu_are_those_of_the_optimizer(name: str) -> None:
    for size in SIZES:
        parameter = nn.Parameter(torch.zeros(size))
        optimizer = build_optimizer([{"params": [parameter]}], TrainingSettings(optimizer=name), 1e-3, 0.0)
        parameter.grad = torch.ones(size)
        optimizer.step()
        state = optimizer.state[parameter]
        maps = sum(tensor.nbytes for key, tensor in state.items() if key.startswith("qmap"))  # of all tensors
        held = sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
        assert state_bytes(size, name, 4, "cpu") == held - maps


def test_a_gpu_need_not_hold_large_states_that_are_paged() -> None:
    # bitsandbytes pages the states of tensors of 100 000 numbers and more
    assert [state_bytes(size, "paged_adamw", 4, "cuda") for size in SIZES] == [800, 40_000, 0]
    eight_bit = 2 * 5000 + 2 * 4 * 20  # a scale for every 256 numbers
    assert [state_bytes(size, "paged_adamw_8bit", 4, "cuda") for size in SIZES] == [800, eight_bit, 0]
    assert state_bytes(150_000, "adamw_8bit", 4, "cuda") > 0
