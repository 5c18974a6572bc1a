"""AdaLoRA on 16-bit, 4-bit and mixed bases: it ends at its budget, and its bytes are what is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jointsearch.config.study import ModelSettings, StudyConfig
from jointsearch.errors import PlanError
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.plan_file import PlanFile
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.runner import Trial
from jointsearch.strategies.registry import STRATEGIES
from jointsearch.strategies.settings import StrategySettings
from jointsearch.testing import FakeRunner
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.methods.adalora import ADALORA
from jointsearch.training.methods.base import Adaptation
from jointsearch.training.model.architecture import read_layout
from jointsearch.training.model.base_model import load_base

STEPS = 20


@pytest.fixture(scope="module")
def runner(config: StudyConfig, tiny_layout: ModelLayout) -> CalibrationRunner:
    values = config.model_dump(mode="json")
    values["calibration"]["steps"] = STEPS
    return CalibrationRunner(StudyConfig.model_validate(values), tiny_layout)


def adaptive(name: str, layout: ModelLayout, rank: int = 4) -> Plan:
    settings = StrategySettings(rank=rank, sensitivities=FakeRunner().sensitivities(layout, rank))
    return STRATEGIES[name].plan(layout, settings)


@pytest.mark.parametrize("name", ["adalora", "adalora-4bit", "adalora-mixed"])
def test_it_ends_at_its_budget(runner: CalibrationRunner, tiny_layout: ModelLayout, name: str) -> None:
    plan = adaptive(name, tiny_layout)
    assert len({choice.bits for choice in plan.modules.values()}) == (2 if name == "adalora-mixed" else 1)
    found = runner.run(plan, Trial(seed=0))
    # 42 modules with an initial rank of 6 and a target of 4
    assert found.ranks.keys() == plan.ranks.keys()
    assert sum(found.ranks.values()) == 4 * 42
    assert max(found.ranks.values()) <= 6
    assert len(set(found.ranks.values())) > 1
    ended = plan_cost(tiny_layout, plan.ending_with(found.ranks))
    assert found.model_bytes == ended.model_bytes
    assert found.trainable_parameters == ended.trainable_parameters
    assert found.metrics["loss"] < 3.6
    assert found.stability.nonfinite_steps == 0


def test_the_same_seed_gives_the_same_ranks(runner: CalibrationRunner, tiny_layout: ModelLayout) -> None:
    plan = adaptive("adalora-4bit", tiny_layout)
    first, again, other = (runner.run(plan, Trial(seed=seed)) for seed in (0, 0, 1))
    assert (again.ranks, again.metrics) == (first.ranks, first.metrics)
    assert (other.ranks, other.metrics) != (first.ranks, first.metrics)


def test_its_ranks_make_a_plan_of_plain_lora(runner: CalibrationRunner, tiny_layout: ModelLayout) -> None:
    plan = adaptive("adalora-4bit", tiny_layout)
    ranks = runner.run(plan, Trial(seed=0)).ranks
    settings = StrategySettings(rank=4, distilled_ranks=ranks)
    distilled = STRATEGIES["adalora-distilled"].plan(tiny_layout, settings)
    found = runner.run(distilled, Trial(seed=0))
    assert not found.ranks
    assert distilled.ranks == {name: rank for name, rank in ranks.items() if rank}
    # without AdaLoRA's singular values, one float32 for each rank
    assert found.model_bytes == plan_cost(tiny_layout, plan.ending_with(ranks)).model_bytes - 4 * 4 * 42
    narrower = replace(settings, distilled_ranks={**ranks, next(iter(ranks)): 0})
    assert next(iter(ranks)) not in STRATEGIES["adalora-distilled"].plan(tiny_layout, narrower).ranks
    PlanFile.build(distilled, tiny_layout, runner._config)


@pytest.mark.filterwarnings("ignore:Adapter 'default'")  # PEFT takes rank 0, which is AdaLoRA's, for damage
@pytest.mark.parametrize("name", ["adalora", "adalora-4bit"])
def test_families_train_and_save_the_bytes_that_are_counted(
    family: tuple[ModelSettings, str], name: str, tmp_path: Path, tensor_bytes: Callable[[Path], int]
) -> None:
    settings, task = family
    layout = read_layout(settings, task)
    base = load_base(settings, task, layout.dtype, torch.device("cpu"))
    plan = adaptive(name, layout, rank=2)
    bank = QuantizedBank(base, plan.quantization, getattr(torch, layout.dtype))
    quantized = bank.assemble(plan.formats)
    wanted = Adaptation(plan, layout, task, num_steps=8, seed=0)
    model = ADALORA.attach(quantized, wanted, ADALORA.starts(quantized, wanted))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    tokens = torch.randint(5, 300, (4, 16), generator=torch.Generator().manual_seed(0))
    labels = tokens[:, 0] % 2 if task == "sequence-classification" else tokens
    model.train()
    for step in range(1, 9):
        model(input_ids=tokens, labels=labels).loss.backward()
        optimizer.step()
        ADALORA.after_step(model, step, finite=True)
        optimizer.zero_grad()
    ranks = ADALORA.final_ranks(model)
    assert ranks.keys() == plan.ranks.keys()
    assert sum(ranks.values()) == 2 * len(ranks)
    for module, rank in ranks.items():
        values = model.get_submodule(f"base_model.model.{module}").lora_E["default"]
        assert int((values != 0).sum()) <= rank  # what was pruned stays at nothing
    model.save_pretrained(tmp_path)
    assert tensor_bytes(tmp_path) == plan_cost(layout, plan.ending_with(ranks)).adapter_bytes


def test_what_it_cannot_do_is_said(config: StudyConfig, tiny_layout: ModelLayout) -> None:
    base = load_base(config.model, "causal-lm", "float16", torch.device("cpu"))
    plan = adaptive("adalora", tiny_layout)
    with pytest.raises(PlanError, match="at least 2 steps to choose ranks in, but got 1"):
        ADALORA.attach(base, Adaptation(plan, tiny_layout, "causal-lm", num_steps=1, seed=0), {})
    uneven = plan.ending_with(plan.ranks | {next(iter(plan.ranks)): 1})
    with pytest.raises(PlanError, match=r"one mean rank for all modules, but the plan has \[1, 4\]"):
        ADALORA.attach(base, Adaptation(uneven, tiny_layout, "causal-lm", num_steps=20, seed=0), {})


def test_a_step_that_was_left_out_counts_nothing_as_important(
    config: StudyConfig, tiny_layout: ModelLayout
) -> None:
    base = load_base(config.model, "causal-lm", "float16", torch.device("cpu"))
    plan = adaptive("adalora", tiny_layout)
    wanted = Adaptation(plan, tiny_layout, "causal-lm", STEPS, seed=0)
    model = ADALORA.attach(base, wanted, ADALORA.starts(base, wanted))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, torch.nan)
    ADALORA.after_step(model, 1, finite=False)
    allocator = model.base_model.rankallocator
    assert len(allocator.ipt) == 3 * 42
    assert all(importance.eq(0).all() for importance in allocator.ipt.values())
