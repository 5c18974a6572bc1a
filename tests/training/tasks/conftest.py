"""Tasks on rows by hand, with the tokenizers of small models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict
from pydantic import TypeAdapter

from jointsearch.config.study import ModelSettings
from jointsearch.config.task import TaskSettings
from jointsearch.training.model.base_model import load_tokenizer
from jointsearch.training.tasks.causal_lm import CausalLM
from jointsearch.training.tasks.question_answering import QuestionAnswering
from jointsearch.training.tasks.seq2seq_lm import Seq2SeqLM
from jointsearch.training.tasks.sequence_classification import SequenceClassification

Build = Callable[..., Any]
Row = dict[str, Any]


SETTINGS: TypeAdapter[Any] = TypeAdapter(TaskSettings)
KINDS = {
    "causal-lm": CausalLM,
    "seq2seq-lm": Seq2SeqLM,
    "sequence-classification": SequenceClassification,
    "question-answering": QuestionAnswering,
}


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., str]:
    """A folder with the rows of ``test``, which keep their order, and others to train on."""

    def saved(test: list[Row], train: list[Row], features: datasets.Features | None = None) -> str:
        folder = tmp_path / f"data{len(list(tmp_path.iterdir()))}"
        parts = {"train": train, "test": test}
        DatasetDict(
            {split: Dataset.from_list(rows, features=features) for split, rows in parts.items()}
        ).save_to_disk(folder)
        return str(folder)

    return saved


@pytest.fixture
def build(family_models: Path, save: Callable[..., str]) -> Build:
    """A task with the tokenizer of a family."""

    def built(
        family: str, test: list[Row], train: list[Row], *, positions: int | None = None, **settings: Any
    ) -> Any:
        values = {"data": {"folder": save(test, train), "validation_share": 0.3}} | settings
        tokenizer = load_tokenizer(ModelSettings(id=str(family_models / family)))
        return KINDS[values["type"]](SETTINGS.validate_python(values), tokenizer, positions)

    return built


@pytest.fixture
def check_tokenized_once(
    save: Callable[..., str], family_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Of a task that is built three times, as by three workers, the rows are tokenized once."""

    def check(family: str, test: list[Row], train: list[Row], **settings: Any) -> None:
        # a cache of its own: other processes that run tests write into the usual one
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        cache = tmp_path / "cache" / "jointsearch"

        def cached() -> dict[str, int]:
            return {path.name: path.stat().st_mtime_ns for path in cache.glob("*.arrow")}

        values = SETTINGS.validate_python({**settings, "data": {"folder": save(test, train)}})
        found = []
        for _ in range(3):
            tokenizer = load_tokenizer(ModelSettings(id=str(family_models / family)))
            KINDS[settings["type"]](values, tokenizer, None)
            found.append(cached())
        assert len(found[0]) >= 3
        assert found[0] == found[1] == found[2]

    return check
