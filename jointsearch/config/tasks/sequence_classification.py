"""A class or a number for a text or a pair of texts."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from jointsearch.config.task import TaskBase, TaskKind, register_task


class SequenceClassificationSettings(TaskBase):
    """A class or a number for a text or a pair of texts."""

    type: Literal["sequence-classification"]
    text_column: str = "text"
    """The text, or the first of a pair."""
    text_pair_column: str | None = None
    """The second text of a pair."""
    label_column: str = "label"
    """The class, or the number of a regression."""
    labels: tuple[str | int, ...] | None = None
    """The classes in their order; by default those of the data set, or of its training rows, sorted.
    A row holds a class itself or its position. Of two classes the second is the positive one."""
    regression: bool = False
    """Labels are numbers, the loss is their mean squared error."""
    max_length: int = Field(default=128, ge=2)
    """Tokens of text or pair; longer ones are cut."""

    @field_validator("labels", mode="before")
    @classmethod
    def _texts_or_numbers(cls, labels: Any) -> Any:
        if isinstance(labels, list | tuple) and not all(type(label) in (str, int) for label in labels):
            raise ValueError(
                f"must be texts or whole numbers, but got {list(labels)}; quote words such as yes and true"
            )
        return labels

    @model_validator(mode="after")
    def _classes(self) -> Self:
        if self.regression and self.labels is not None:
            raise ValueError("labels must not be given for a regression")
        if self.labels is not None and len({str(label) for label in self.labels}) < max(2, len(self.labels)):
            raise ValueError(f"labels must be two or more different classes, but got {list(self.labels)}")
        return self

    @property
    def columns(self) -> dict[str, list[str]]:
        pair = {} if self.text_pair_column is None else {"text_pair_column": [self.text_pair_column]}
        return {"text_column": [self.text_column], **pair, "label_column": [self.label_column]}

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in self.columns if name != "label_column")

    @property
    def metrics(self) -> tuple[str, ...]:
        if self.regression:
            return ("loss", "pearson", "spearman")
        binary = ("f1",) if self.labels is None or len(self.labels) == 2 else ()
        return ("loss", "accuracy", *binary, "f1_macro", "matthews")

    @property
    def head(self) -> dict[str, Any]:
        if self.regression:
            return {"num_labels": 1, "problem_type": "regression"}
        names = [str(label) for label in self.labels or ("0", "1")]
        return {
            "id2label": dict(enumerate(names)),
            "label2id": {name: position for position, name in enumerate(names)},
            "problem_type": "single_label_classification",
        }


register_task(
    TaskKind(
        "sequence-classification",
        SequenceClassificationSettings,
        "jointsearch.training.tasks.sequence_classification:SequenceClassification",
        "transformers:AutoModelForSequenceClassification",
        "SEQ_CLS",
        example_model="distilbert/distilbert-base-uncased",
        tokens_per_example=128,
    )
)
