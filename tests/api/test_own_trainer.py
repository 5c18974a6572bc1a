"""A model, data, metric and Trainer of one's own: transformers' and TRL's, really trained."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

import jointsearch as js
from jointsearch.errors import StudyError

LANDED = Path(__file__).parents[1] / "landed" / "model"
WORDS = ["red", "green", "blue", "white", "house", "tree", "river", "stone", "the", "a", "stands", "beside"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    loaded = AutoTokenizer.from_pretrained(LANDED)
    loaded.pad_token = loaded.eos_token
    return loaded


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=320,
            pad_token_id=0,
        )
    )


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [" ".join(pair) for pair in itertools.islice(itertools.product(WORDS, WORDS, WORDS), 0, 640, 10)]


def wrong_share(prediction: Any) -> dict[str, float]:
    """Of the next tokens."""
    guesses = np.argmax(prediction.predictions, axis=-1)[:, :-1]
    labels = prediction.label_ids[:, 1:]
    asked = labels != -100
    return {"wrong": float((guesses != labels)[asked].mean())}


def tokenized(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Dataset:
    rows = [tokenizer(text)["input_ids"][:8] for text in texts]
    rows = [row + [0] * (8 - len(row)) for row in rows]
    return Dataset.from_dict({"input_ids": rows, "labels": rows})


def arguments(kind: type[TrainingArguments], folder: Path, **others: Any) -> TrainingArguments:
    return kind(
        output_dir=str(folder),
        max_steps=4,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        use_cpu=True,
        **others,
    )


def test_transformers_trainer_with_a_metric_of_its_own(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, texts: list[str], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def create(**others: Any) -> js.Study:
        return js.create_study(
            storage=url,
            name="own",
            model=model,
            tokenizer=tokenizer,
            train_dataset=tokenized(tokenizer, texts),
            eval_dataset=tokenized(tokenizer, texts[:8]),
            compute_metrics=wrong_share,
            objectives=[js.Objective("wrong", "minimize"), "model_bytes"],
            args=arguments(TrainingArguments, tmp_path / "out"),
            search_space=js.SearchSpace(formats=["nf4", "int8"], ranks=[0, 4]),
            **others,
        )

    study = create()
    study.optimize(n_trials=4)
    trials = study.trials
    assert [trial.state.name for trial in trials[:4]] == ["COMPLETE"] * 4
    assert all(0 <= trial.values[0] <= 1 for trial in trials[:4])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    # the plan that trains nothing is what the model computes without training
    untrained = study.plan(0)
    assert untrained.ranks == {}
    measured = [trial.user_attrs["measurement"]["metrics"]["loss"] for trial in trials[:4]]
    assert measured[1] < measured[0] - 0.1  # rank 4 has learned
    assert measured[0] == pytest.approx(math.log(320), abs=0.3)  # a random model's

    again = create(load_if_exists=True)
    again.optimize(n_trials=1)
    assert len(again.get_trials(states=None)) >= 5
    with pytest.raises(StudyError, match="made from another study file"):
        js.create_study(
            storage=url,
            name="own",
            load_if_exists=True,
            model=model,
            tokenizer=tokenizer,
            train_dataset=tokenized(tokenizer, texts[:20]),
            eval_dataset=tokenized(tokenizer, texts[:8]),
            compute_metrics=wrong_share,
            objectives=[js.Objective("wrong", "minimize"), "model_bytes"],
            args=arguments(TrainingArguments, tmp_path / "out"),
            search_space=js.SearchSpace(formats=["nf4", "int8"], ranks=[0, 4]),
        )
    read = js.load_study("own", url)
    assert [row["wrong"] for row in _rows(read.front())]
    with pytest.raises(StudyError, match="run by its own Python code"):
        js.train(read.plan(1), tmp_path / "run")


def _rows(front: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = front if isinstance(front, list) else front.to_dict("records")
    return found


def test_the_same_plan_gives_the_same_numbers_as_the_trainer_alone(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, texts: list[str], tmp_path: Path
) -> None:
    """A trial against the same Trainer on ``get_plan_model``'s model."""
    rows = tokenized(tokenizer, texts)
    study = js.create_study(
        storage=f"sqlite:///{tmp_path}/studies.db",
        model=model,
        tokenizer=tokenizer,
        train_dataset=rows,
        eval_dataset=rows.select(range(8)),
        args=arguments(TrainingArguments, tmp_path / "out"),
        search_space=js.SearchSpace(formats=["int8"], ranks=[4]),
    )
    study.optimize(n_trials=1)
    plan = study.plan(0)
    made = js.get_plan_model(model, plan, seed=0)
    args = arguments(TrainingArguments, tmp_path / "alone", seed=0, data_seed=0, save_strategy="no")
    args.report_to = []
    trainer = Trainer(model=made, args=args, train_dataset=rows, eval_dataset=rows.select(range(8)))
    trainer.train()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(study.trials[0].values[0], rel=1e-5)


def test_trl_s_trainer(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, texts: list[str], tmp_path: Path
) -> None:
    study = js.create_study(
        storage=f"sqlite:///{tmp_path}/studies.db",
        model=model,
        tokenizer=tokenizer,
        train_dataset=Dataset.from_dict({"text": texts}),
        eval_dataset=Dataset.from_dict({"text": texts[:8]}),
        trainer_cls=SFTTrainer,
        args=arguments(SFTConfig, tmp_path / "out", max_length=16),
        search_space=js.SearchSpace(formats=["nf4", "16bit"], ranks=[0, 4]),
    )
    study.optimize(n_trials=2)
    untrained, trained = (trial.values[0] for trial in study.trials[:2])
    assert study.plan(0).ranks == {}
    assert study.plan(0).modules["lm_head"].format == "16bit"  # TRL multiplies by its weight itself
    assert study.plan(0).modules["model.embed_tokens"].format == "nf4"
    assert untrained == pytest.approx(math.log(320), abs=0.3)
    assert trained < untrained - 0.1


def test_a_model_comes_with_data(model: LlamaForCausalLM, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="train_dataset and eval_dataset"):
        js.create_study(storage=f"sqlite:///{tmp_path}/studies.db", model=model)
    assert not (tmp_path / "studies.db").exists()
