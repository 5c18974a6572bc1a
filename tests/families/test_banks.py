"""The bank of a family on disk: bit for bit the weights of one in memory.

Of each kind of weights one family; JOINTSEARCH_ATTACKS=full takes all.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import torch

from families.whole_study import study_of
from families.zoo import FAMILIES
from jointsearch.assemble import read_layout
from jointsearch.config.yaml_file import read_study
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.training.model.base_model import load_base
from jointsearch.training.model.shared_bank import open_bank

CPU = torch.device("cpu")

KINDS = (
    "llama",
    "gpt2",
    "falcon",
    "mixtral",
    "gpt-oss",
    "gemma3",
    "mamba2",
    "deberta-v2",
    "roberta",
    "t5",
    "bart",
)
"""Tied and transposed weights, experts both ways, scaled tables, kept weights, new heads, two stacks."""
NAMES = list(FAMILIES) if os.environ.get("JOINTSEARCH_ATTACKS") == "full" else KINDS


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_bank_on_disk_has_the_weights_of_one_in_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOINTSEARCH_CACHE", str(tmp_path / "cache"))
    config = read_study(study_of(name, FAMILIES[name], tmp_path))
    layout = read_layout(config)
    base = load_base(config.model, config.task.type, layout.dtype, CPU, config.task.head)
    in_memory = QuantizedBank(base, config.quantization, getattr(torch, layout.dtype))
    on_disk = open_bank(config, layout, CPU)
    chance = random.Random(0)
    for formats in (("16bit",), ("nf4", "int8", "16bit")):
        drawn = {spec.name: chance.choice(formats) for spec in layout.modules if spec.quantizable}
        plan = {module: chosen for module, chosen in drawn.items() if chosen != "16bit"}
        ours, theirs = on_disk.assemble(plan), in_memory.assemble(plan)
        assert ours.__dict__.keys() == theirs.__dict__.keys()
        expected = {**dict(theirs.named_parameters()), **dict(theirs.named_buffers())}
        found = {**dict(ours.named_parameters()), **dict(ours.named_buffers())}
        assert found.keys() == expected.keys()
        for tensor, value in expected.items():
            assert found[tensor].dtype == value.dtype, tensor
            assert torch.equal(found[tensor], value), tensor
