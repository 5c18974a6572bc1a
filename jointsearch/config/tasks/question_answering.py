"""The answer to a question as a span of a context, in SQuAD's format."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from jointsearch.config.fields import Positive
from jointsearch.config.task import TaskBase, TaskKind, register_task


class QuestionAnsweringSettings(TaskBase):
    """The answer to a question as a span of a context, in SQuAD's format."""

    type: Literal["question-answering"]
    question_column: str = "question"
    """The question."""
    context_column: str = "context"
    """The text that holds the answer, if there is one."""
    answers_column: str = "answers"
    """``{text: [...], answer_start: [...]}``, with starts in characters; empty lists: no answer."""
    max_length: int = Field(default=384, ge=16)
    """Tokens of question and context; a longer context is read in overlapping windows."""
    stride: int = Field(default=128, ge=1)
    """Tokens by which two windows overlap."""
    max_answer_length: Positive = 30
    """Tokens of the longest answer."""
    num_best: Positive = 20
    """How many of the best starts and ends are combined."""

    @model_validator(mode="after")
    def _stride_fits(self) -> Self:
        if self.stride >= self.max_length // 2:
            raise ValueError(
                f"stride must be below half of max_length ({self.max_length}), but got {self.stride}"
            )
        return self

    @property
    def columns(self) -> dict[str, list[str]]:
        names = ("question_column", "context_column", "answers_column")
        return {name: [getattr(self, name)] for name in names}

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("question_column", "context_column")

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("loss", "exact_match", "f1")


register_task(
    TaskKind(
        "question-answering",
        QuestionAnsweringSettings,
        "jointsearch.training.tasks.question_answering:QuestionAnswering",
        "transformers:AutoModelForQuestionAnswering",
        "QUESTION_ANS",
        example_model="distilbert/distilbert-base-uncased",
        tokens_per_example=384,
    )
)
