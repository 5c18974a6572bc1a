"""Streamed layers of a family: losses and gradients are those of a model that holds them all, bit for bit.

Of each kind of blocks one family; JOINTSEARCH_ATTACKS=full takes all.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from families.whole_study import study_of
from families.zoo import FAMILIES
from jointsearch.assemble import read_layout, with_labels
from jointsearch.config.space import SpaceSettings
from jointsearch.config.training import TrainingSettings
from jointsearch.config.yaml_file import read_study
from jointsearch.space import build_space
from jointsearch.training.model.setup import forward_pass
from jointsearch.training.model.trial_model import TrialModels
from jointsearch.training.tasks import build_task

KINDS = ("llama", "gpt2", "mixtral", "gpt-oss", "deberta-v2", "t5", "bart")
"""Tied and transposed weights, experts both ways, an encoder, two stacks."""
NAMES = list(FAMILIES) if os.environ.get("JOINTSEARCH_ATTACKS") == "full" else KINDS


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_streamed_layers_change_no_number(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOINTSEARCH_CACHE", str(tmp_path / "cache"))
    config = read_study(study_of(name, FAMILIES[name], tmp_path))
    mixed = SpaceSettings(bits=(4, 8, 16), ranks=(0, 4))  # type: ignore[call-arg]
    config = config.model_copy(update={"search_space": mixed})
    config = with_labels(config, None)
    layout = read_layout(config)
    space = build_space(config, layout)
    plans = [space.plan(space.sample(random.Random(seed))) for seed in range(3)]
    found: dict[bool, list[dict[str, Any]]] = {}
    for streamed in (False, True):
        training = TrainingSettings(gradient_checkpointing=True, stream_layers=streamed)
        study = config.model_copy(update={"training": training})
        models = TrialModels(study, layout, torch.device("cpu"))
        task = build_task(study, models.bank.config)
        batch = task.batch("train", range(2))
        found[streamed] = []
        for plan in plans:
            model = models.assemble(plan, 0).train()
            for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
                torch.manual_seed(number)  # B = 0 would hide half of the gradients
                torch.nn.init.normal_(parameter, std=0.1)
            torch.manual_seed(0)
            with forward_pass(model, training):
                loss = model(**batch).loss
            numbers = {"loss": loss.detach()}
            if loss.requires_grad:
                loss.backward()
                named = model.named_parameters()
                numbers |= {path: each.grad for path, each in named if each.grad is not None}
            found[streamed].append(numbers)
    for whole, ours in zip(found[False], found[True], strict=True):
        assert ours.keys() == whole.keys()
        assert not [path for path in whole if not torch.equal(ours[path], whole[path])]
