"""Every model family through a whole study: trials, front, full run, save, load, evaluate.

Tiny configurations of the real architectures, with tokenizers of their kinds trained on the spot.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from jointsearch.config.study import ModelSettings
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import ModelError
from jointsearch.starting import Audience, start_study
from jointsearch.study.full_runs import select_trial
from jointsearch.study.plans import export_plan
from jointsearch.training.full_run.evaluation import evaluate_run
from jointsearch.training.full_run.run import full_run
from jointsearch.training.model.base_model import load_base, load_tokenizer

PLAIN = {"type": "causal-lm", "sequence_length": 32}
PROMPTS = {
    "type": "causal-lm",
    "prompt": "{question}",
    "completion": " {answers.text.0}",
    "sequence_length": 48,
    "generation": {"max_new_tokens": 6, "answer_pattern": r"(\w+)"},
}
CONVERSATIONS = {
    "type": "causal-lm",
    "messages_column": "messages",
    "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}",
    "sequence_length": 48,
    "generation": {"max_new_tokens": 6},
}
CLASSES = {"type": "sequence-classification", "max_length": 32}
PAIRS = {**CLASSES, "text_pair_column": "question", "labels": ["cold", "warm"]}
REGRESSION = {**CLASSES, "label_column": "score", "regression": True}
ANSWERS = {"type": "question-answering", "context_column": "text", "max_length": 40, "stride": 8}
TRANSLATION = {
    "type": "seq2seq-lm",
    "source": "in German: {text}",
    "target": "{german}",
    "generation": {"max_new_tokens": 8},
}

CASES = {
    "llama": ("llama", PLAIN, "loss"),
    "llama-prompts": ("llama", PROMPTS, "exact_match"),
    "llama-classes": ("llama", CLASSES, "loss"),
    "qwen2-chat": ("qwen2", CONVERSATIONS, "accuracy"),
    "gpt2": ("gpt2", PLAIN, "bits_per_byte"),
    "gpt2-classes": ("gpt2", PAIRS, "f1"),
    "dialogpt": ("gpt2", CONVERSATIONS, "perplexity"),
    "gpt_neo": ("gpt_neo", PROMPTS, "loss"),
    "bert": ("bert", PAIRS, "matthews"),
    "bert-regression": ("bert", REGRESSION, "spearman"),
    "distilbert": ("distilbert", CLASSES, "f1_macro"),
    "distilbert-answers": ("distilbert", ANSWERS, "f1"),
    "bert-answers": ("bert", ANSWERS, "loss"),
    "t5": ("t5", TRANSLATION, "rougeL"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, family_models: Path, rows_file: Path, tmp_path: Path) -> Path:
    """A study file."""
    model, task, quality = CASES[request.param]
    source = {"files": {"train": str(rows_file)}, "validation_share": 0.1}
    study = {
        "name": request.param,
        "model": {"id": str(family_models / model)},
        "task": {**task, "data": source},
        "search_space": {"bits": [4, 8, 16], "ranks": [0, 4]},
        "calibration": {"steps": 3, "batch_size": 4, "warmup_steps": 1, "validation_examples": 8},
        "full_run": {"max_steps": 4, "batch_size": 4, "evaluations": 2},
        "objectives": [quality, "model_bytes"],
        "search": {"sampler": "random", "trials": 7},
        "device": "cpu",
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


@pytest.mark.slow
def test_whole_study(
    case: Path, tmp_path: Path, tensor_bytes: Callable[[Path], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # foretelling memory has tests of its own, and takes longer than all of this
    monkeypatch.setattr("jointsearch.creating.read_memory", lambda config, layout: None)
    url = f"sqlite:///{tmp_path}/studies.db"
    study = start_study(read_study(case), url, Audience())
    records = study.records()
    # every bits × rank is tried first, and one random plan
    assert [len(records.complete), len(records.failed)] == [7, 0], [t.failure for t in records.failed]
    assert {trial.origin.name for trial in records.baselines} == {
        f"uniform {bits}-bit rank {rank}" for bits in (4, 8, 16) for rank in (0, 4)
    }
    assert records.front
    for trial in records.complete:
        found = trial.measurement
        assert set(study.config.task.metrics) == set(found.metrics)
        assert len(found.examples) == 4
        assert found.inference_rate > 0
        assert found.bytes_per_parameter == pytest.approx(found.model_bytes / study.layout.num_parameters)
    inputs = {tuple(e.input for e in trial.measurement.examples) for trial in records.complete}
    assert len(inputs) == 1  # outputs can be read side by side

    best = max(records.complete, key=lambda trial: (trial.plan.bits != {}, trial.measurement.model_bytes))
    select_trial(study.optuna_study, best.number)
    plan = export_plan(study)
    metrics = full_run(plan, tmp_path / "run")
    assert metrics.steps == 4
    assert metrics.stability.nonfinite_steps == 0
    assert metrics.tokens_per_second > 0
    on_disk = sum(tensor_bytes(tmp_path / "run" / part) for part in ("model", "adapter"))
    assert on_disk == plan.cost.model_bytes == best.measurement.model_bytes

    evaluated = evaluate_run(tmp_path / "run", "validation")
    for name, value in metrics.validation.items():
        assert evaluated[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert math.isfinite(evaluate_run(tmp_path / "run")["loss"])


def test_a_checkpoint_of_another_kind_is_refused(family_models: Path, tmp_path: Path) -> None:
    """Weights that are not there would be random, and a study of them worth nothing."""
    settings = ModelSettings(id=str(family_models / "llama"))
    with pytest.raises(ModelError, match=r"must have every weight of LlamaForQuestionAnswering .* it lacks"):
        load_base(settings, "question-answering", "bfloat16", torch.device("cpu"))
    shutil.copytree(family_models / "bert", tmp_path / "bert")
    for path in (tmp_path / "bert").glob("token*"):
        path.unlink()
    with pytest.raises(ModelError, match="must come with its tokenizer"):
        load_tokenizer(ModelSettings(id=str(tmp_path / "bert")))
