"""A storage, a study that a runner without torch has run, and a tiny model with its data."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jointsearch as js

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

LANDED = Path(__file__).parents[1] / "landed" / "model"
WORDS = ["red", "green", "blue", "white", "house", "tree", "river", "stone", "the", "a", "stands", "beside"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def study(url: str) -> js.Study:
    """Sixteen trials of the double that the package ships, the 12 uniform plans among them."""
    made = js.create_study({"name": "small"}, url, runner=js.testing.FakeRunner(noise=0.001))
    made.optimize(16)
    return made


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(LANDED)
    loaded.pad_token = loaded.eos_token
    return loaded


@pytest.fixture
def model() -> LlamaForCausalLM:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

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


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [" ".join(words) for words in itertools.islice(itertools.product(WORDS, WORDS, WORDS), 0, 640, 10)]


@pytest.fixture(scope="session")
def rows(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Any:
    """The texts as eight tokens each, with labels."""
    from datasets import Dataset

    tokens = [tokenizer(text)["input_ids"][:8] for text in texts]
    tokens = [row + [0] * (8 - len(row)) for row in tokens]
    return Dataset.from_dict({"input_ids": tokens, "labels": tokens})


Create = Callable[..., js.Study]


@pytest.fixture
def create_own(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, rows: Any, tmp_path: Path, url: str
) -> Create:
    """A study of the model on the rows, with a metric of its own; or of other objects."""
    from transformers import TrainingArguments

    from fixtures.trainers import arguments, wrong_share

    given = {
        "storage": url,
        "name": "own",
        "model": model,
        "tokenizer": tokenizer,
        "train_dataset": rows,
        "eval_dataset": rows.select(range(8)),
        "compute_metrics": wrong_share,
        "objectives": [js.Objective("wrong", "minimize"), "model_bytes"],
        "args": arguments(TrainingArguments, tmp_path / "out"),
    }
    return lambda **others: js.create_study(**{**given, **others})


@pytest.fixture
def create_on_texts(create_own: Create, texts: list[str]) -> Create:
    """A study of the model on texts, which TRL's Trainers tokenize."""
    from datasets import Dataset

    given = {
        "train_dataset": Dataset.from_dict({"text": texts}),
        "eval_dataset": Dataset.from_dict({"text": texts[:8]}),
        "compute_metrics": None,
        "objectives": None,
    }
    return lambda **others: create_own(**{**given, **others})
