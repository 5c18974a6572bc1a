"""Classes and numbers: metrics by hand, and the labels that data may have."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel
from pydantic import TypeAdapter
from torch import nn

from jointsearch.config.study import ModelSettings, StudyConfig
from jointsearch.config.task import TaskSettings
from jointsearch.errors import DataError
from jointsearch.training.model.architecture import load_config
from jointsearch.training.model.base_model import load_tokenizer
from jointsearch.training.tasks import build_task
from jointsearch.training.tasks.sequence_classification import SequenceClassification, find_labels

Build = Callable[..., Any]
Row = dict[str, Any]


SETTINGS: TypeAdapter[Any] = TypeAdapter(TaskSettings)


class Fixed(nn.Module):
    """Has the next of its logits for every example, whatever that is."""

    def __init__(self, logits: list[Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.logits = logits

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        now, self.logits = self.logits[: len(input_ids)], self.logits[len(input_ids) :]
        return SimpleNamespace(logits=torch.tensor(now))


def classes(values: Iterable[Any], word: str = "row") -> list[Row]:
    return [{"text": f"{word} {i} the red house", "label": value} for i, value in enumerate(values)]


CLASSES = {"type": "sequence-classification", "max_length": 16}


def test_metrics_of_two_classes(build: Build) -> None:
    """3 true positives, 2 false ones, 1 false negative, 4 true ones; logits of 1 for what is predicted."""
    truth = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    predicted = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    rows = classes(["yes" if value else "no" for value in truth])
    task = build("bert", rows, classes(["no", "yes"] * 5, "other"), **CLASSES, labels=["no", "yes"])
    logits = [[-1.0, 1.0] if value else [1.0, -1.0] for value in predicted]
    found = task.evaluate(Fixed(logits), "test", None, 4)
    assert found.metrics["accuracy"] == pytest.approx(0.7)
    assert found.metrics["f1"] == pytest.approx(6 / 9)  # 2 TP / (2 TP + FP + FN)
    assert found.metrics["f1_macro"] == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert found.metrics["matthews"] == pytest.approx((3 * 4 - 2 * 1) / math.sqrt(5 * 4 * 6 * 5))
    loss = (7 * math.log(1 + math.exp(-2)) + 3 * math.log(1 + math.exp(2))) / 10
    assert found.metrics["loss"] == pytest.approx(loss)
    share = 1 / (1 + math.exp(-2))
    assert [e.output for e in found.examples] == [
        f"{name} ({share:.2f})" for name in ("yes", "yes", "yes", "no")
    ]
    assert [e.reference for e in found.examples] == ["yes"] * 4
    assert found.examples[1].input == "row 1 the red house"

    first = task.evaluate(Fixed(logits), "test", 4, 4).metrics  # three of four positive ones
    assert first["accuracy"] == 0.75
    assert first["f1"] == pytest.approx(6 / 7)
    assert first["matthews"] == 0
    one = task.evaluate(Fixed(logits), "test", 3, 4).metrics  # one class, and all are right
    assert (one["accuracy"], one["f1"], one["f1_macro"], one["matthews"]) == (1, 1, 1, 0)
    none = task.evaluate(Fixed([[1.0, -1.0]] * 4), "test", 4, 4).metrics
    assert (none["accuracy"], none["f1"], none["f1_macro"], none["matthews"]) == (0, 0, 0, 0)


def test_metrics_of_three_classes(build: Build) -> None:
    truth, predicted = [0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 0]
    rows = classes(["abc"[value] for value in truth])
    task = build("bert", rows, classes("abcabc", "other"), **CLASSES, labels=["a", "b", "c"])
    found = task.evaluate(Fixed(np.eye(3)[predicted].tolist()), "test", None, 4).metrics
    assert set(found) == {"loss", "accuracy", "f1_macro", "matthews"}
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["f1_macro"] == pytest.approx((2 / 4 + 4 / 5 + 2 / 3) / 3)
    # Gorodkin (2004): hits · n - Σ t p over the roots of n² - Σ p² and n² - Σ t²
    assert found["matthews"] == pytest.approx((4 * 6 - (2 * 2 + 2 * 3 + 2 * 1)) / math.sqrt(22 * 24))
    right, wrong = math.log(math.e + 2) - 1, math.log(math.e + 2)
    assert found["loss"] == pytest.approx((4 * right + 2 * wrong) / 6)
    # of the first four, none is of the third class, nor said to be
    part = task.evaluate(Fixed(np.eye(3)[predicted].tolist()), "test", 4, 4).metrics
    assert part["f1_macro"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_metrics_of_a_regression(build: Build) -> None:
    values, outputs = [1.0, 3.0, 2.0, 4.5, 0.0], [1.5, 2.0, 2.0, 6.0, -1.0]
    rows, others = classes(values), classes([0.5 * i for i in range(10)], "other")
    task = build("bert", rows, others, **CLASSES, regression=True)
    found = task.evaluate(Fixed([[value] for value in outputs]), "test", None, 2)
    assert found.metrics["loss"] == pytest.approx((0.25 + 1 + 0 + 2.25 + 1) / 5)
    assert found.metrics["pearson"] == pytest.approx(np.corrcoef(values, outputs)[0, 1])
    ranks = np.corrcoef([2, 4, 3, 5, 1], [2, 3.5, 3.5, 5, 1])[0, 1]  # equal values share their ranks
    assert found.metrics["spearman"] == pytest.approx(ranks)
    assert [e.output for e in found.examples] == ["1.500", "2.000", "2.000", "6.000"]
    assert [e.reference for e in found.examples] == ["1", "3", "2", "4.5"]
    same = task.evaluate(Fixed([[2.0]] * 5), "test", None, 2).metrics
    assert (same["pearson"], same["spearman"]) == (0, 0)
    rounded = [[3 + 1e-6 * i] for i in range(5)]
    assert task.evaluate(Fixed(rounded), "test", None, 2).metrics["pearson"] == 0
    close = task.evaluate(Fixed([[3 + 1e-3 * value] for value in values]), "test", None, 2).metrics
    assert close["pearson"] == pytest.approx(1, abs=1e-4)
    single = task.evaluate(Fixed([[2.0]]), "test", 1, 2).metrics
    assert (single["pearson"], single["spearman"]) == (0, 0)
    assert task.batch("test", [0, 3])["labels"].dtype == torch.float32


def test_pairs_of_texts(build: Build) -> None:
    rows = [{"text": "the red house", "other": "the blue river " * 9, "label": 1}]
    others = [{"text": f"one {i}", "other": "two", "label": i % 2} for i in range(10)]
    task = build("bert", rows, others, **CLASSES, labels=[0, 1], text_pair_column="other")
    (row,) = task.features("test", [0])
    tokens = task.tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert tokens == ["[CLS]", "the", "red", "house", "[SEP]", *["the", "blue", "river"] * 3, "the", "[SEP]"]
    assert task.notes == ["test: 1 of 1 rows are cut to 16 tokens"]


@pytest.mark.parametrize(
    ("labels", "value", "position"),
    [
        (["no", "yes"], "yes", 1),
        (["no", "yes"], 0, 0),
        (["no", "yes"], 1, 1),
        ([1, 2], 1, 0),  # a class itself
        ([1, 2], "2", 1),
        ([2, 1], 1, 1),
        (["False", "True"], True, 1),
        (["no", "yes"], 1.0, 1),  # as tables with a missing value write whole numbers
        ([1, 2], 2.0, 1),
        (["no", "yes"], 0.5, None),
        (["no", "yes"], 2, None),
        (["no", "yes"], -1, None),
        (["no", "yes"], "maybe", None),
        (["no", "yes"], None, None),
        (["no", "yes"], True, None),
    ],
)
def test_labels_of_rows(build: Build, labels: list[Any], value: Any, position: int | None) -> None:
    rows, others = classes([value]), classes([value] * 10, "other")
    if position is None:
        if value in (None, -1):
            said = f"has nothing to learn: {'no value' if value is None else value} in 'label'"
        else:
            said = f"has {value!r} in 'label', which must be one of no, yes or its position"
        message = "at most 10% of the rows of the train split may be left out, but 10 of 10 cannot be used: "
        with pytest.raises(DataError, match=re.escape(f"row 1 of data0 {said}")) as caught:
            build("bert", rows, others, **CLASSES, labels=labels)
        assert str(caught.value).startswith(message)
    else:
        task = build("bert", rows, others, **CLASSES, labels=labels)
        assert task.features("test", [0])[0]["labels"] == position


@pytest.mark.parametrize("value", ["a", None, True, math.inf])
def test_labels_of_a_regression_are_numbers(build: Build, value: Any) -> None:
    with pytest.raises(DataError, match=r"row 1 of data0 has .* in 'label'"):
        build("bert", classes([value]), classes([value] * 10, "other"), **CLASSES, regression=True)


def test_texts_are_strings(build: Build) -> None:
    rows = [{"text": "a", "label": 0}, {"text": None, "label": 1}]
    task = build("bert", rows, classes([0, 1] * 5, "other"), **CLASSES, labels=[0, 1])
    assert task.notes == ["test: 1 of 2 rows is left out: row 2 of data0 has no value in 'text'"]
    assert task.num_examples("test") == 1


@pytest.mark.parametrize(("share", "is_enough"), [(0.5, True), (0.4, True), (0.39, False), (0, False)])
def test_too_many_rows_that_cannot_be_used(
    save: Callable[..., str], family_models: Path, share: float, is_enough: bool
) -> None:
    """Four of ten training rows, of which some are set aside as validation rows."""
    rows = classes([0, 1] * 5, "other")
    for position in (1, 3, 4, 9):
        rows[position]["text"] = None
    data = {"folder": save(classes([0, 1]), rows), "max_left_out": share}
    settings = SETTINGS.validate_python({**CLASSES, "data": data, "labels": [0, 1]})
    tokenizer = load_tokenizer(ModelSettings(id=str(family_models / "bert")))
    named = (
        "row 2 of data0 has no value in 'text', row 4 has no value in 'text', row 5 has no value in 'text', …"
    )
    if is_enough:
        task = SequenceClassification(settings, tokenizer, None)
        assert task.notes == [f"train: 4 of 10 rows are left out: {named}"]
        assert task.num_examples("train") + task.num_examples("validation") == 6
    else:
        with pytest.raises(DataError) as caught:
            SequenceClassification(settings, tokenizer, None)
        assert str(caught.value) == (
            f"at most {share:.0%} of the rows of the train split may be left out, "
            f"but 4 of 10 cannot be used: {named}; correct them, or raise task.data.max_left_out"
        )


def stated(names: list[str]) -> datasets.Features:
    return datasets.Features({"text": datasets.Value("string"), "label": ClassLabel(names=names)})


@pytest.mark.parametrize(
    ("values", "features", "found"),
    [
        (["yes", "no", "no"], None, ("no", "yes")),
        ([2, 0, 1, 10], None, (0, 1, 2, 10)),
        (["10", "9"], None, ("10", "9")),
        ([True, False], None, ("False", "True")),
        ([1.0, 0.0, None], None, (0, 1)),
        (["None", "Yes", "NA", "null", "nan"], None, ("NA", "None", "Yes", "nan", "null")),
        ([1, 0, 1], stated(["world", "sports", "business"]), ("world", "sports", "business")),
    ],
)
def test_classes_are_found(
    save: Callable[..., str], values: list[Any], features: Any, found: tuple[Any, ...]
) -> None:
    folder = save(classes(values[:1], "test"), classes(values * 10), features)
    settings = SETTINGS.validate_python({**CLASSES, "data": {"folder": folder}})
    assert find_labels(settings) == found
    # as they are stored in a study
    read = SETTINGS.validate_json(settings.model_copy(update={"labels": found}).model_dump_json())
    assert read.labels == found


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1.0], "must be texts or whole numbers, but got 0.5, 1; numbers to be predicted are"),
        (["a", None], "task.label_column must hold two or more classes, but the train split has 'a'"),
        ([None, None], "task.label_column must hold two or more classes, but the train split has no value"),
    ],
)
def test_columns_without_classes(save: Callable[..., str], values: list[Any], message: str) -> None:
    folder = save(classes(values[:1], "test"), classes(values * 10))
    settings = SETTINGS.validate_python({**CLASSES, "data": {"folder": folder}})
    with pytest.raises(DataError, match=re.escape(message)):
        find_labels(settings)


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["neg", "pos"], ["neg", "pos"], [0, 1]),
        (["neg", "pos"], ["pos", "neg"], [1, 0]),  # another order
        (["neg", "pos"], ["bad", "good"], [0, 1]),  # other names
        (["1", "2"], ["1", "2"], [0, 1]),  # names that are numbers are no positions
        (["1", "0"], ["1", "0"], [0, 1]),
    ],
)
def test_positions_are_those_of_the_data(
    save: Callable[..., str], family_models: Path, names: list[str], labels: list[str], expected: list[int]
) -> None:
    folder = save(classes([0, 1], "test"), classes([0, 1] * 10), stated(names))
    values = {**CLASSES, "data": {"folder": folder}, "labels": labels}
    tokenizer = load_tokenizer(ModelSettings(id=str(family_models / "bert")))
    task = SequenceClassification(SETTINGS.validate_python(values), tokenizer, None)
    assert [row["labels"] for row in task.features("test", [0, 1])] == expected


def test_rows_without_a_label(save: Callable[..., str], family_models: Path) -> None:
    """As the test splits of GLUE have: all of them are no test split, one of them is left out."""
    tokenizer = load_tokenizer(ModelSettings(id=str(family_models / "bert")))

    def task(test: list[Row], features: Any = None) -> SequenceClassification:
        folder = save(test, classes([0, 1] * 10, "other"), features)
        values = {**CLASSES, "data": {"folder": folder}, "labels": ["no", "yes"]}
        return SequenceClassification(SETTINGS.validate_python(values), tokenizer, None)

    some = task(classes([0, -1]), stated(["no", "yes"]))
    assert some.notes == ["test: 1 of 2 rows is left out: row 2 of data0 has nothing to learn: -1 in 'label'"]
    none = task(classes([-1, -1]), stated(["no", "yes"]))
    assert none.num_examples("test") == 0
    assert (none.num_examples("train"), none.num_examples("validation")) == (19, 1)
    assert none.notes == [
        "test: no row can be used (row 1 has nothing to learn: -1 in 'label'), "
        "so that nothing is measured on the test split"
    ]
    no_column = task([{"text": "a"}, {"text": "b"}])
    assert no_column.num_examples("test") == 0
    assert no_column.notes == [
        "test: no row can be used (data2 has no column for label_column), "
        "so that nothing is measured on the test split"
    ]


def test_numbers_and_words_in_one_column_of_a_file(tmp_path: Path, family_models: Path) -> None:
    """One cell that is no number costs its own row."""
    tokenizer = load_tokenizer(ModelSettings(id=str(family_models / "bert")))

    def task(written: list[str], **settings: Any) -> SequenceClassification:
        lines = (f"the stone {i},{label}\n" for i, label in enumerate(written))
        (tmp_path / "a.csv").write_text("text,label\n" + "".join(lines))
        values = {**CLASSES, "data": {"files": {"train": str(tmp_path / "a.csv")}}, **settings}
        return SequenceClassification(SETTINGS.validate_python(values), tokenizer, None)

    def left_out(found: SequenceClassification) -> str:
        (note,) = [note for note in found.notes if "left out" in note]
        return note

    ratings = [f"{i}.50" for i in range(20)]
    ratings[3] = "n/a"
    regression = task(ratings, regression=True)
    assert left_out(regression) == (
        "train: 1 of 20 rows is left out: line 5 of a.csv has 'n/a' in 'label', which must be a number"
    )
    found = [row for split in regression.splits.values() for row in split["labels"]]
    assert sorted(found) == [i + 0.5 for i in range(20) if i != 3]
    classes = task(["0.0", "1.0", "oops", *["1.0", "0.0"] * 10], labels=[0, 1])
    assert left_out(classes) == (
        "train: 1 of 23 rows is left out: line 4 of a.csv has 'oops' in 'label', which must be one of 0, 1"
    )
    assert sum(label for split in classes.splits.values() for label in split["labels"]) == 11


def test_a_class_of_one_row_is_said(build: Build) -> None:
    values = ["no", "yes"] * 12
    others = classes([*values, "oops"], "other")
    task = build("bert", classes(["no", "yes"]), others, **CLASSES, labels=["no", "oops", "yes"])
    assert task.notes == [
        "train: 1 of 3 classes have one row or none (oops); if they are mistakes, name the others with "
        "task.labels"
    ]


def test_a_second_worker_finds_everything_tokenized(check_tokenized_once: Callable[..., None]) -> None:
    check_tokenized_once("bert", classes("abab"), classes("ab" * 5, "other"), **CLASSES, labels=["a", "b"])


def test_what_is_longer_than_the_models_positions_is_said(
    save: Callable[..., str], family_models: Path
) -> None:
    rows = [*classes(["a", "b"]), {"text": "lamp " * 200, "label": "a"}]
    data = {"folder": save(rows, classes("ab" * 5, "other"))}
    study = {
        "name": "positions",
        "model": {"id": str(family_models / "bert")},
        "task": {"type": "sequence-classification", "data": data, "labels": ["a", "b"], "max_length": 512},
    }
    config = StudyConfig.model_validate(study)
    model_config = load_config(config.model, config.task.head)
    model_config.pad_token_id = None
    task = build_task(config, model_config)
    assert task.notes == [
        "task.max_length: the model has 128 positions, so 512 is cut to 128",
        "test: 1 of 3 rows are cut to 128 tokens",
    ]
    assert model_config.pad_token_id == task.tokenizer.pad_token_id == 0
    assert isinstance(task, SequenceClassification)
