"""Gradient accumulation: a step of eight examples is the same step in batches of eight and of two."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jointsearch.config.study import StudyConfig
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.plan.plan_file import PlanFile
from jointsearch.training.full_run.run import full_run
from jointsearch.training.model.architecture import read_layout

COMPLETIONS = {"type": "causal-lm", "prompt": "{question}", "completion": " {text} {german}"}
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-completions": ("llama", COMPLETIONS),
    "gpt2-completions": ("gpt2", COMPLETIONS),
    "gpt2-text": ("gpt2", {"type": "causal-lm", "sequence_length": 16}),
    "t5": ("t5", {"type": "seq2seq-lm", "source": "{text}", "target": "{german}"}),
    "bert-classes": ("bert", {"type": "sequence-classification"}),
    "bert-numbers": (
        "bert",
        {"type": "sequence-classification", "label_column": "score", "regression": True},
    ),
    "bert-answers": ("bert", {"type": "question-answering", "context_column": "text"}),
}


@pytest.mark.parametrize("name", TASKS)
def test_one_step_has_the_same_loss_and_gradient(
    name: str, family_models: Path, rows_file: Path, tmp_path: Path
) -> None:
    family, task = TASKS[name]
    folder = tmp_path / "model"
    shutil.copytree(family_models / family, folder)
    values = json.loads((folder / "config.json").read_text())
    without_dropout = {key: 0.0 for key in values if "drop" in key or key.endswith("_pdrop")}
    (folder / "config.json").write_text(json.dumps(values | without_dropout))
    found = []
    for batch_size, batches in ((8, 1), (2, 4)):
        study = StudyConfig.model_validate(
            {
                "name": "s",
                "model": {"id": str(folder)},
                "task": {
                    **task,
                    **({"labels": [0, 1]} if name == "bert-classes" else {}),
                    "data": {"files": {"train": str(rows_file)}, "validation_share": 0.1},
                },
                "full_run": {
                    "max_steps": 1,
                    "batch_size": batch_size,
                    "gradient_accumulation_steps": batches,
                    "evaluations": 1,
                },
                "device": "cpu",
            }
        )
        layout = read_layout(study.model, study.task.type, study.task.head)
        choices = {m.name: ModuleChoice(format="16bit", rank=4 * m.adaptable) for m in layout.modules}
        plan = PlanFile.build(Plan(modules=choices), layout, study)
        losses: list[float] = []

        def listen(step: int, total: int, values: dict[str, float], losses: list[float] = losses) -> None:
            losses += [values["loss"]] if "loss" in values else []

        run = full_run(plan, tmp_path / str(batches), listener=listen)
        found.append((losses[0], run.stability.largest_gradient_norm))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
