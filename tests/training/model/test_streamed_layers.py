"""Streamed layers: the same losses and gradients to the bit, with one block on the device at a time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict
from pydantic import ValidationError
from torch import nn
from torch.profiler import ProfilerActivity, profile

from jointsearch.config.study import StudyConfig
from jointsearch.config.training import TrainingSettings
from jointsearch.errors import UnsupportedError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.memory import training_memory
from jointsearch.plan.plan import Plan
from jointsearch.space import SearchSpace
from jointsearch.training.memory.batches import example_batch
from jointsearch.training.memory.profile import memory_profile
from jointsearch.training.model.places import tensors_of
from jointsearch.training.model.setup import build_optimizer, forward_pass
from jointsearch.training.model.streamed_layers import StreamedLayers
from jointsearch.training.model.trial_model import TrialModels

CPU = torch.device("cpu")
WHOLE = TrainingSettings(gradient_checkpointing=True)
STREAMED = TrainingSettings(gradient_checkpointing=True, stream_layers=True)


@pytest.fixture(scope="module")
def models(config: StudyConfig, tiny_layout: ModelLayout) -> dict[bool, TrialModels]:
    """Without and with streaming."""
    made = {}
    for training in (WHOLE, STREAMED):
        study = config.model_copy(update={"training": training})
        made[training.stream_layers] = TrialModels(study, tiny_layout, CPU)
    return made


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StreamedLayers]]:
    """What has been made in a test."""
    made: list[StreamedLayers] = []
    init = StreamedLayers.__init__

    def remember(self: StreamedLayers, *arguments: Any) -> None:
        init(self, *arguments)
        made.append(self)

    monkeypatch.setattr(StreamedLayers, "__init__", remember)
    yield made


def batch_of(config: StudyConfig) -> dict[str, torch.Tensor]:
    batch = example_batch(config.task, {"input_ids": 16}, 2)
    batch["input_ids"] = torch.arange(2 * 16).reshape(2, 16)
    return batch


def trained(model: Any, seed: int = 0) -> Any:
    """With adapters that are not at their start: B = 0 would hide half of the gradients."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return model.train()


def numbers(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The loss of an evaluation, that of a step, and the step's gradients."""
    model.eval()
    with torch.no_grad():
        evaluated = model(**batch).loss
    model.train().zero_grad(set_to_none=True)
    torch.manual_seed(0)
    with forward_pass(model, STREAMED):
        loss = model(**batch).loss
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"evaluated": evaluated, "loss": loss.detach(), **gradients}


def plans_of(space: SearchSpace) -> dict[str, Plan]:
    """The random one has all formats, and modules without an adapter."""
    uniform = {name: space.plan(space.uniform(name, 4)) for name in ("nf4", "16bit")}
    return uniform | {"random": space.plan(space.sample(random.Random(3)))}


@pytest.mark.parametrize("name", ["nf4", "random"])
def test_no_number_changes(
    name: str, models: dict[bool, TrialModels], config: StudyConfig, space: SearchSpace
) -> None:
    plan, batch = plans_of(space)[name], batch_of(config)
    models[True].assemble(plan, 0)  # a trial before takes nothing from the bank
    whole, ours = (trained(models[key].assemble(plan, 0)) for key in (False, True))
    for _ in range(2):  # the second begins with another block there
        expected, found = numbers(whole, batch), numbers(ours, batch)
        assert found.keys() == expected.keys()
        assert not [key for key in expected if not torch.equal(found[key], expected[key])]


def test_a_dora_starts_with_the_norms_of_its_weights(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace, models: dict[bool, TrialModels]
) -> None:
    dora = LoraSettings(variant="dora")
    plan = space.plan(space.uniform("int8", 4)).model_copy(update={"lora": dora})
    found = [numbers(models[key].assemble(plan, 0), batch_of(config)) for key in (False, True)]
    assert not [key for key in found[0] if not torch.equal(found[0][key], found[1][key])]


def test_one_block_is_there_at_a_time(
    models: dict[bool, TrialModels],
    config: StudyConfig,
    space: SearchSpace,
    streamed: list[StreamedLayers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = trained(models[True].assemble(plans_of(space)["nf4"], 0))
    blocks = streamed[-1]._blocks
    assert list(blocks) == list(dict.fromkeys(s.block for s in models[True].layout.modules if s.block))
    assert not any(block.storage.nbytes() for block in blocks.values())
    seen: list[list[str]] = []
    send = StreamedLayers._send

    def watched(self: StreamedLayers, block: Any) -> None:
        send(self, block)
        seen.append([name for name, each in blocks.items() if each.storage.nbytes()])

    monkeypatch.setattr(StreamedLayers, "_send", watched)
    with forward_pass(model, STREAMED):
        loss = model(**batch_of(config)).loss
    loss.backward()
    there = list(blocks)
    assert seen == [[name] for name in (*there, *there[-2::-1])]  # the last need not come again


def test_adapters_are_saved_while_the_weights_are_away(
    models: dict[bool, TrialModels], space: SearchSpace, streamed: list[StreamedLayers]
) -> None:
    plan = plans_of(space)["nf4"]  # of its scales numbers are read for every state dict
    whole, ours = (trained(models[key].assemble(plan, 0)) for key in (False, True))
    expected, found = (get_peft_model_state_dict(model) for model in (whole, ours))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert sum(block.storage.nbytes() > 0 for block in streamed[-1]._blocks.values()) == 1


def held_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    states = [value for state in optimizer.state.values() for value in state.values()]
    tensors = [*tensors_of(model), *(value for value in states if isinstance(value, torch.Tensor))]
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.slow
def test_foretold_is_what_a_step_takes(
    models: dict[bool, TrialModels],
    config: StudyConfig,
    tiny_layout: ModelLayout,
    space: SearchSpace,
    streamed: list[StreamedLayers],
) -> None:
    plan = plans_of(space)["16bit"]
    calibration = config.calibration.model_copy(update={"batch_size": 1})
    study = config.model_copy(update={"training": STREAMED, "calibration": calibration})
    found = memory_profile(study, tiny_layout, "cpu")
    assert found is not None
    foretold = training_memory(found, tiny_layout, plan)
    assert foretold is not None
    by_block: Counter[str] = Counter()
    for spec in tiny_layout.modules:
        by_block[spec.block] += spec.num_weights + spec.has_bias * spec.shape[0]
    outside = by_block.pop("")
    assert foretold.weight_bytes == 4 * (outside + max(by_block.values())) + found.other_bytes
    on_cuda = training_memory(found.model_copy(update={"num_streamed": 2}), tiny_layout, plan)
    assert on_cuda is not None  # all blocks are alike
    assert on_cuda.weight_bytes == foretold.weight_bytes + 4 * max(by_block.values())

    model = models[True].assemble(plan, 0).train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = build_optimizer([{"params": weights}], STREAMED, 1e-3, 0.0)
    batch = example_batch(config.task, found.lengths, 1)

    def step() -> None:
        with forward_pass(model, STREAMED):
            loss = model(**batch).loss
        loss.backward()
        del loss
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    with streamed[-1].all_there():  # and none afterwards: the profiler counts what has begun
        pass
    held = held_bytes(model, optimizer)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    lives = peak = 0
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        lives += event.nbytes()
        peak = max(peak, lives)
    assert held + peak <= foretold.total_bytes <= 1.05 * (held + peak)


def mapped_bytes() -> int:
    """Of safetensors files, in this process's memory."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line[0].isupper():
            counts = line.endswith(".safetensors")
        elif counts and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


def test_what_was_read_of_a_file_is_let_go(
    models: dict[bool, TrialModels], config: StudyConfig, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = mapped_bytes()
    model = trained(models[True].assemble(plans_of(space)["16bit"], 0))
    numbers(model, batch_of(config))
    let_go = mapped_bytes() - before
    monkeypatch.setattr("jointsearch.training.model.streamed_layers._let_go", lambda pages: None)
    numbers(model, batch_of(config))
    assert let_go < 0.5 * (mapped_bytes() - before)


def test_weights_that_no_backward_pass_would_bring_are_refused(
    models: dict[bool, TrialModels], config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    plan, batch = plans_of(space)["nf4"], batch_of(config)
    model = models[True].assemble(plan, 0).eval()
    with pytest.raises(UnsupportedError, match=r"needs training mode where .* call train\(\)"):
        model(**batch)
    whole = models[False].assemble(plan, 0)
    whole.activation_checkpointing_disable()
    with pytest.raises(UnsupportedError, match="gradient checkpointing runs again, but those of"):
        StreamedLayers(whole, tiny_layout, CPU)


def test_settings_that_do_not_go_together(config: StudyConfig) -> None:
    with pytest.raises(ValidationError, match="stream_layers needs gradient_checkpointing: true"):
        TrainingSettings(stream_layers=True)
    values = config.model_dump(mode="json")
    values["lora"]["init"] = "pissa"
    values["training"] |= {"gradient_checkpointing": True, "stream_layers": True}
    with pytest.raises(ValidationError, match=r"lora\.init: pissa changes them; use init: default or loftq"):
        StudyConfig.model_validate(values)
