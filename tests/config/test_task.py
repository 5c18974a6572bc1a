from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError
from transformers import BertConfig

from jointsearch.config.data import DataSettings
from jointsearch.config.task import TaskSettings
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import StudyFileError
from jointsearch.front.objectives import qualities

TASKS: TypeAdapter[Any] = TypeAdapter(TaskSettings)
DATA = {"hub": "some/data"}
CAUSAL = {"type": "causal-lm", "data": DATA}
PROMPTS = {**CAUSAL, "prompt": "{q}", "completion": "{a}"}
CHAT = {**CAUSAL, "messages_column": "messages"}
CLASSES = {"type": "sequence-classification", "data": DATA}
TRANSLATION = {"type": "seq2seq-lm", "data": DATA, "source": "{t.en}", "target": "{t.de}"}
ANSWERS = {"type": "question-answering", "data": DATA}


def with_pattern(pattern: str) -> dict[str, Any]:
    return {"generation": {"answer_pattern": pattern}}


def problem(values: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        TASKS.validate_python(values)
    (only,) = caught.value.errors()
    return str(only["msg"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (CAUSAL | {"prompt": "{q}"}, "prompt and completion must be given together"),
        (CAUSAL | {"completion": "{q}"}, "prompt and completion must be given together"),
        (
            PROMPTS | {"text_column": "t"},
            "text_column, prompt or messages_column must be given, but got ['text_column', 'prompt']",
        ),
        (CHAT | {"text_column": "t"}, "but got ['text_column', 'messages_column']"),
        (CHAT | {"prompt": "{q}", "completion": "{a}"}, "but got ['prompt', 'messages_column']"),
        (CAUSAL | {"chat_template": "{{ messages }}"}, "chat_template needs a messages_column"),
        (PROMPTS | {"chat_template": "{{ messages }}"}, "chat_template needs a messages_column"),
        (PROMPTS | {"data": {"package": "json"}}, "a package has the column text alone"),
        (CHAT | {"data": {"package": "json"}}, "a package has the column text alone"),
        (CAUSAL | {"text_column": "code", "data": {"package": "json"}}, "a package has the column text"),
        (CAUSAL | with_pattern("(a)"), "generation.answer_pattern needs prompts or messages"),
        (PROMPTS | with_pattern("a"), "must have one group, the answer, but 'a' has 0"),
        (PROMPTS | with_pattern("(a)(b)"), "must have one group, the answer, but '(a)(b)' has 2"),
        (PROMPTS | with_pattern("(?:a)"), "must have one group, the answer, but '(?:a)' has 0"),
        (TRANSLATION | with_pattern("((a))"), "has 2"),
        (PROMPTS | with_pattern("(a"), "must be a regular expression, but got '(a' (missing )"),
        (CLASSES | {"labels": ["a"]}, "labels must be two or more different classes, but got ['a']"),
        (CLASSES | {"labels": []}, "labels must be two or more different classes, but got []"),
        (CLASSES | {"labels": ["a", "b", "a"]}, "labels must be two or more different classes"),
        (CLASSES | {"labels": [1, "1"]}, "labels must be two or more different classes"),
        (CLASSES | {"labels": ["a", "b"], "regression": True}, "labels must not be given for a regression"),
        (CLASSES | {"labels": [False, True]}, "must be texts or whole numbers, but got [False, True]; quote"),
        (ANSWERS | {"max_length": 100, "stride": 50}, "stride must be below half of max_length (100)"),
        (ANSWERS | {"max_length": 256}, "stride must be below half of max_length (256), but got 128"),
        (TRANSLATION | {"source": "en"}, "must name a column as {column}, but got 'en'"),
        (PROMPTS | {"completion": "{a"}, "must be a text with {column} in it"),
    ],
)
def test_rules_between_settings(values: dict[str, Any], message: str) -> None:
    assert message in problem(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "exactly one of hub, files, folder and package must be given, but got []"),
        ({"hub": "a", "package": "json"}, "but got ['hub', 'package']"),
        ({"files": {"train": "a"}, "folder": "b"}, "but got ['files', 'folder']"),
        ({"folder": "a", "config": "b"}, "config belongs to hub, but the data is from folder"),
        ({"package": "json", "revision": "b"}, "revision belongs to hub, but the data is from package"),
        ({"hub": "a", "max_bytes": 5}, "max_bytes belongs to package, but the data is from hub"),
        (
            {"files": {"train": "a"}, "splits": {"train": "a"}},
            "splits belongs to hub and folder, but the data is from files",
        ),
        ({"folder": "a", "splits": {"test": "b"}}, "splits must name a train split, but got ['test']"),
        ({"files": {"test": "b"}}, "files must name a train split, but got ['test']"),
        (
            {"folder": "a", "splits": {"train": "all", "test": "all"}},
            "splits must differ, so that no row is in two splits, but got {'train': 'all', 'test': 'all'}",
        ),
        ({"files": {"train": "a.txt", "validation": "a.txt"}}, "files must differ, so that no row"),
    ],
)
def test_rules_of_data(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DataSettings.model_validate(values)
    assert message in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("values", "metrics"),
    [
        (CAUSAL, {"loss", "perplexity", "bits_per_byte", "accuracy"}),
        (PROMPTS, {"loss", "perplexity", "bits_per_byte", "accuracy"}),
        (PROMPTS | with_pattern("(a)"), {"loss", "perplexity", "bits_per_byte", "accuracy", "exact_match"}),
        (
            TRANSLATION,
            {"loss", "perplexity", "accuracy", "rouge1", "rouge2", "rougeL", "bleu", "exact_match"},
        ),
        (CLASSES, {"loss", "accuracy", "f1", "f1_macro", "matthews"}),
        (CLASSES | {"labels": ["a", "b"]}, {"loss", "accuracy", "f1", "f1_macro", "matthews"}),
        (CLASSES | {"labels": [1, 2, 3]}, {"loss", "accuracy", "f1_macro", "matthews"}),
        (CLASSES | {"regression": True}, {"loss", "pearson", "spearman"}),
        (ANSWERS, {"loss", "exact_match", "f1"}),
    ],
)
def test_metrics_of_tasks(values: dict[str, Any], metrics: set[str]) -> None:
    found = TASKS.validate_python(values).metrics
    assert set(found) == metrics
    assert len(found) == len(metrics)
    assert metrics <= set(qualities())


@pytest.mark.parametrize(
    ("values", "columns", "inputs"),
    [
        (CAUSAL, {"text_column": ["text"]}, ["text"]),
        (CAUSAL | {"text_column": "code"}, {"text_column": ["code"]}, ["code"]),
        (
            CAUSAL | {"prompt": "{q} {c.x}", "completion": "{a}"},
            {"prompt": ["q", "c"], "completion": ["a"]},
            ["q", "c"],
        ),
        (CHAT, {"messages_column": ["messages"]}, ["messages"]),
        (TRANSLATION, {"source": ["t"], "target": ["t"]}, ["t"]),
        (
            CLASSES | {"text_pair_column": "other"},
            {"text_column": ["text"], "text_pair_column": ["other"], "label_column": ["label"]},
            ["text", "other"],
        ),
        (
            ANSWERS,
            {
                "question_column": ["question"],
                "context_column": ["context"],
                "answers_column": ["answers"],
            },
            ["question", "context"],
        ),
    ],
)
def test_columns_of_tasks(values: dict[str, Any], columns: dict[str, list[str]], inputs: list[str]) -> None:
    task = TASKS.validate_python(values)
    assert task.columns == columns
    assert [column for setting in task.inputs for column in task.columns[setting]] == inputs


@pytest.mark.parametrize(
    ("values", "names", "kind"),
    [
        ({}, ["0", "1"], "single_label_classification"),
        ({"labels": ["no", "yes"]}, ["no", "yes"], "single_label_classification"),
        ({"labels": [30, 10, 20]}, ["30", "10", "20"], "single_label_classification"),
        ({"regression": True}, ["LABEL_0"], "regression"),
    ],
)
def test_head_of_a_classifier(values: dict[str, Any], names: list[str], kind: str) -> None:
    config = BertConfig(**TASKS.validate_python(CLASSES | values).head)
    assert config.num_labels == len(names)
    assert [config.id2label[position] for position in range(len(names))] == names
    assert config.problem_type == kind


@pytest.mark.parametrize(
    ("task", "quality", "valid"),
    [
        (CAUSAL, "f1", "causal-lm (loss, perplexity, bits_per_byte, accuracy)"),
        (PROMPTS, "exact_match", "causal-lm (loss, perplexity, bits_per_byte, accuracy)"),
        (
            TRANSLATION,
            "bits_per_byte",
            "seq2seq-lm (loss, perplexity, accuracy, rouge1, rouge2, rougeL, bleu, exact_match)",
        ),
        (
            CLASSES | {"labels": [1, 2, 3]},
            "f1",
            "sequence-classification (loss, accuracy, f1_macro, matthews)",
        ),
        (CLASSES | {"regression": True}, "accuracy", "sequence-classification (loss, pearson, spearman)"),
        (ANSWERS, "accuracy", "question-answering (loss, exact_match, f1)"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_study_file_says_which_metrics_its_task_has(
    tmp_path: Path, task: dict[str, Any], quality: str, valid: str, is_first: bool
) -> None:
    path = tmp_path / "study.yaml"
    objectives = [quality, "model_bytes"] if is_first else ["loss", quality]
    path.write_text(
        "model: {id: some/model}\n" + yaml.safe_dump({"task": task}) + f"objectives: {objectives}\n"
    )
    with pytest.raises(StudyFileError) as caught:
        read_study(path)
    line = path.read_text().splitlines().index(f"objectives: {objectives}") + 1
    assert str(caught.value) == f"{path}:{line}: objectives: '{quality}' is no metric of this {valid}"


def test_a_study_file_with_words_that_yaml_reads_as_booleans(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    text = "model: {id: m}\ntask:\n  type: sequence-classification\n  data: {hub: d}\n  labels: [no, yes]\n"
    path.write_text(text)
    with pytest.raises(StudyFileError, match=r":5: task\.labels: must be texts or whole numbers"):
        read_study(path)
    path.write_text(text.replace("[no, yes]", "['no', 'yes']"))
    assert read_study(path).task.labels == ("no", "yes")
