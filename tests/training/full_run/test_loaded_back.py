"""A run that is finished can be loaded, and is what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf

from jointsearch.config.study import StudyConfig
from jointsearch.errors import OutputError
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.plan.plan_file import PlanFile
from jointsearch.training.full_run import run as module
from jointsearch.training.full_run.evaluation import evaluate_run
from jointsearch.training.full_run.run import full_run
from jointsearch.training.model.architecture import read_layout

SIZE = {
    "vocab_size": 320,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}
CONFIGS = {
    "roberta": hf.RobertaConfig,
    "electra": hf.ElectraConfig,
    "mpnet": hf.MPNetConfig,
    "xlm-roberta": hf.XLMRobertaConfig,
}


def plan_for(folder: Path, rows_file: Path) -> PlanFile:
    study = StudyConfig.model_validate(
        {
            "name": "s",
            "model": {"id": str(folder)},
            "task": {
                "type": "sequence-classification",
                "labels": [0, 1],
                "max_length": 32,
                "data": {"files": {"train": str(rows_file)}, "validation_share": 0.1},
            },
            "full_run": {"max_steps": 2, "batch_size": 4, "evaluations": 1},
            "device": "cpu",
        }
    )
    layout = read_layout(study.model, study.task.type, study.task.head)
    choices = {
        spec.name: ModuleChoice(format="nf4" if spec.quantizable else "16bit", rank=4 * spec.adaptable)
        for spec in layout.modules
    }
    return PlanFile.build(Plan(modules=choices), layout, study)


@pytest.fixture
def folder(request: pytest.FixtureRequest, family_models: Path, tmp_path: Path) -> Path:
    """A random model of a family, with BERT's tokenizer."""
    torch.manual_seed(0)
    config = CONFIGS[request.param](**SIZE)
    hf.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "model")
    hf.AutoTokenizer.from_pretrained(family_models / "bert").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("folder", CONFIGS, indirect=True)
def test_heads_of_several_layers_are_saved_once(folder: Path, rows_file: Path, tmp_path: Path) -> None:
    plan = plan_for(folder, rows_file)
    assert plan.peft["modules_to_save"] == ["classifier"]
    result = full_run(plan, tmp_path / "run")
    found = evaluate_run(tmp_path / "run", "validation")
    assert found["loss"] == pytest.approx(result.validation["loss"], rel=1e-6)


@pytest.mark.parametrize("folder", ["roberta"], indirect=True)
def test_a_run_that_is_saved_wrongly_is_not_finished(
    folder: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = module.save_adapter

    def save_another(model: torch.nn.Module, output: Path) -> None:
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1
        save(model, output)

    monkeypatch.setattr(module, "save_adapter", save_another)
    with pytest.raises(OutputError, match=r"must be saved as it was trained, but what .* has the loss"):
        full_run(plan_for(folder, rows_file), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()
