"""Attacks by a model that comes with code: a plan and a database that ask for it to run do not get it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from transformers import AutoConfig

from jointsearch.config.study import ModelSettings, StudyConfig, model_source
from jointsearch.config.trust import TRUST_REMOTE_CODE
from jointsearch.errors import ModelError
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan_file import PlanFile, read_plan, write_plan
from jointsearch.space import SearchSpace
from jointsearch.training.full_run.run import full_run
from jointsearch.training.model.architecture import read_layout
from jointsearch.training.model.base_model import load_tokenizer

CODE = """
import os
os.environ["ATTACKED"] = "1"
from transformers import LlamaConfig
class AttackConfig(LlamaConfig):
    model_type = "attack"
"""


@pytest.fixture
def attack(config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSettings:
    """What a plan or a database may hold: a model whose code shows that it ran, and that it be trusted."""
    content = AutoConfig.from_pretrained(model_source(config.model.id)).to_dict()
    content |= {"model_type": "attack", "auto_map": {"AutoConfig": "attack.AttackConfig"}}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "attack.py").write_text(CODE)
    tokenizer = {"tokenizer_class": "Attack", "auto_map": {"AutoTokenizer": ["attack.Attack", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    monkeypatch.setenv("ATTACKED", "0")
    monkeypatch.delenv(TRUST_REMOTE_CODE, raising=False)
    return ModelSettings.model_construct(id=str(folder), trust_remote_code=True)


def test_code_of_a_model_does_not_run_unasked(attack: ModelSettings) -> None:
    for load in (lambda: read_layout(attack, "causal-lm"), lambda: load_tokenizer(attack)):
        with pytest.raises(
            ModelError, match="comes with code that must run; give --trust-remote-code"
        ) as caught:
            load()
        assert "\n" not in str(caught.value)
    assert os.environ["ATTACKED"] == "0"


def test_a_plan_that_asks_for_it_is_not_trained(
    attack: ModelSettings, config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace, tmp_path: Path
) -> None:
    study = config.model_copy(update={"model": attack})
    plan = space.plan(space.uniform("nf4", 0))
    write_plan(PlanFile.build(plan, tiny_layout, study), tmp_path / "plan.json")
    assert '"trust_remote_code": true' in (tmp_path / "plan.json").read_text()  # and the checksum fits
    content = read_plan(tmp_path / "plan.json")
    assert content.study.model == ModelSettings(id=attack.id)  # what else it says is not taken
    with pytest.raises(ModelError, match="comes with code that must run"):
        full_run(content, tmp_path / "run")
    assert os.environ["ATTACKED"] == "0"
    assert not (tmp_path / "run").exists()


def test_on_a_machine_that_trusts_it_runs(attack: ModelSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUST_REMOTE_CODE, "1")
    with pytest.raises(ModelError, match="has no class for causal-lm"):  # only its config is its own
        read_layout(attack, "causal-lm")
    assert os.environ["ATTACKED"] == "1"
