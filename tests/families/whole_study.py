"""One family through everything: layout, a study of three trials, a full run, loading back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from families.zoo import CLASSES, LANGUAGE, PAIRS, VOCABULARY, Family
from jointsearch.config.yaml_file import read_study
from jointsearch.starting import Audience, start_study
from jointsearch.study.plans import export_plan
from jointsearch.training.full_run.evaluation import evaluate_run
from jointsearch.training.full_run.run import full_run
from jointsearch.training.model.architecture import model_class

TASKS: dict[str, dict[str, Any]] = {
    LANGUAGE: {"type": LANGUAGE, "sequence_length": 24},
    CLASSES: {"type": CLASSES, "max_length": 24},
    PAIRS: {
        "type": PAIRS,
        "source": "{text}",
        "target": "{target}",
        "generation": {"max_new_tokens": 4, "max_examples": 4},
    },
}


@dataclass(frozen=True)
class Outcome:
    """What has become of a family."""

    searched_share: float
    notes: tuple[str, ...]
    losses: tuple[float, ...]
    """Of the trials."""
    trained: float
    """Validation loss of the full run."""
    loaded: float
    """The same of what was loaded back."""


def study_of(name: str, family: Family, folder: Path) -> Path:
    """The file of a study of a small random model of the family, with its tokenizer and data."""
    torch.manual_seed(0)
    model_class(family.task).from_config(family.config()).save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    rows = [{"text": _text(number), "target": _text(7 * number), "label": number % 2} for number in range(48)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study_file = folder / "study.yaml"
    study_file.write_text(
        yaml.safe_dump(
            {
                "name": name,
                "model": {"id": str(folder / "model")},
                "task": {
                    **TASKS[family.task],
                    "data": {"files": {"train": str(folder / "rows.jsonl")}, "validation_share": 0.2},
                },
                "search_space": {"bits": [4, 8], "ranks": [4]},
                "calibration": {
                    "steps": 2,
                    "batch_size": 4,
                    "warmup_steps": 0,
                    "validation_examples": 8,
                    "learning_rate": 1e-3,
                },
                "full_run": {"max_steps": 2, "batch_size": 4, "evaluations": 1},
                "search": {"sampler": "random", "trials": 3},
                "device": "cpu",
            }
        )
    )
    return study_file


def run(name: str, family: Family, folder: Path) -> Outcome:
    """Raises where anything of it fails."""
    study_file = study_of(name, family, folder)
    study = start_study(read_study(study_file), f"sqlite:///{folder}/studies.db", Audience())
    records = study.records()
    assert not records.failed, records.failed[0].failure
    last = records.complete[-1]  # a mixed plan
    trained = full_run(export_plan(study, last.number), folder / "run")
    loaded = evaluate_run(folder / "run", "validation")
    return Outcome(
        round(study.layout.searched_share, 3),
        tuple(study.layout.notes),
        tuple(trial.values["loss"] for trial in records.complete),
        trained.validation["loss"],
        loaded["loss"],
    )


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs, as any of the families' own classes read them."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<pad>", "<s>", "</s>", "<unk>"], show_progress=False
    )
    made.train_from_iterator([_text(number) for number in range(200)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _text(number: int) -> str:
    letters = [chr(97 + (number + 3 * place) % 26) + chr(97 + place % 4) for place in range(20)]
    return " ".join(letters)
