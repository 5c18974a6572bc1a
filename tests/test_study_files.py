"""Every study file in the repository loads, and the README shows what there is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from jointsearch.assemble import EMBEDDED
from jointsearch.cli import cli
from jointsearch.config import load_study
from jointsearch.study.studies import build_space
from jointsearch.training.architecture import layout_of

ROOT = Path(__file__).parents[1]
STUDY_FILES = [*sorted((ROOT / "studies").glob("*.yaml")), *EMBEDDED.values()]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", STUDY_FILES, ids=lambda path: path.name)
def test_a_study_file_loads(path: Path) -> None:
    assert load_study(path).search.trials >= 24


def test_the_readmes_study_file_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "study.yaml"
    path.write_text(block)
    config = load_study(path)
    assert config.name == "my-study"
    assert config.search_space.overrides[0].bits == (8,)
    with torch.device("meta"):
        gpt2 = layout_of(GPT2LMHeadModel(GPT2Config()), "bfloat16")
    space = build_space(config, gpt2)
    assert "transformer.wpe" in space.fixed


def test_the_readmes_commands_exist() -> None:
    (block,) = re.findall(r"## The commands\n\n```\n(.*?)```", README, re.DOTALL)
    lines = re.findall(r"^jointsearch (.*?)(?:\s+#.*)?$", block, re.MULTILINE)
    assert len(lines) >= 9
    for line in lines:
        command: click.Command = cli
        words = line.split()
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, line


def test_the_readmes_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
