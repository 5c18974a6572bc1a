"""What a study file says about its task: the data, the columns, and what is measured.

One class per ``task.type``; each knows the metrics that it measures (``metrics``), the columns that
it reads (``columns``) and the arguments that its head gives to the model's config (``head``).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from jointsearch.config.template import Template, template_columns
from jointsearch.plan.record import Record

Positive = Annotated[int, Field(gt=0)]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class DataSettings(Record):
    """Where the rows come from: exactly one of ``hub``, ``files``, ``folder`` and ``package``."""

    hub: str | None = None
    """A data set id of the Hugging Face Hub."""
    config: str | None = None
    """The configuration of a Hub data set."""
    revision: str | None = None
    files: dict[Split, str] | None = None
    """Files by split: .txt (plain text), .jsonl, .json, .csv, .tsv or .parquet."""
    folder: str | None = None
    """A data set saved by ``datasets`` (``save_to_disk``), with or without splits."""
    package: str | None = None
    """An installed Python package: the rows are its own source files, in the column ``text``."""
    max_bytes: Positive | None = None
    """Read at most so much text (``package`` only)."""
    splits: dict[Split, str] | None = None
    """The names of the splits in a Hub data set or a folder; by default their own."""
    max_rows: dict[Split, Positive] = {}
    """Read at most so many rows of a split, drawn with ``split_seed`` before other splits are set aside."""
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the training rows set aside where a validation or test split is missing."""
    split_by: str | None = None
    """A column: rows that share its value are set aside together."""
    split_seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        names = ("hub", "files", "folder", "package")
        sources = [name for name in names if getattr(self, name) is not None]
        if len(sources) != 1:
            raise ValueError(
                f"exactly one of {', '.join(names[:-1])} and {names[-1]} must be given, but got {sources}"
            )
        belongs = {
            "config": ("hub",),
            "revision": ("hub",),
            "max_bytes": ("package",),
            "splits": ("hub", "folder"),
        }
        for name, owners in belongs.items():
            if getattr(self, name) is not None and sources[0] not in owners:
                raise ValueError(
                    f"{name} belongs to {' and '.join(owners)}, but the data is from {sources[0]}"
                )
        for name in ("files", "splits"):
            splits = getattr(self, name)
            if splits is None:
                continue
            if "train" not in splits:
                raise ValueError(f"{name} must name a train split, but got {sorted(splits)}")
            if len(set(splits.values())) != len(splits):
                raise ValueError(f"{name} must differ, so that no row is in two splits, but got {splits}")
        return self


class GenerationSettings(Record):
    """How outputs are generated, greedily or by beam search."""

    max_new_tokens: Positive = 32
    num_beams: Positive = 1
    max_examples: Positive | None = None
    """Generate for at most so many of the examples that are measured; by default for all."""
    answer_pattern: str | None = None
    """A regular expression with one group, the answer; of several matches the last counts.

    For causal language models it turns on ``exact_match``, for others it is what is compared.
    """

    @field_validator("answer_pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        try:
            groups = 1 if pattern is None else re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"must be a regular expression, but got {pattern!r} ({error})") from None
        if groups != 1:
            raise ValueError(f"must have one group, the answer, but {pattern!r} has {groups}")
        return pattern


class CausalLMSettings(Record):
    """Language modelling: on plain text, on prompts and completions, or on conversations."""

    type: Literal["causal-lm"]
    data: DataSettings
    sequence_length: int = Field(default=256, ge=8)
    """Tokens per example: text is packed into examples of this length, others are cut to it."""
    text_column: str | None = None
    """Plain text; the column ``text`` unless there are prompts or messages."""
    prompt: Template | None = None
    """With ``completion``: the loss is on the completion alone, which ends with the end-of-text token."""
    completion: Template | None = None
    messages_column: str | None = None
    """Conversations, lists of ``{role, content}``, in the tokenizer's chat template; the loss is on the
    last message, the assistant's."""
    chat_template: str | None = None
    """A Jinja template instead of the tokenizer's own."""
    generation: GenerationSettings = GenerationSettings()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.prompt is None) != (self.completion is None):
            raise ValueError("prompt and completion must be given together")
        given = [
            name for name in ("text_column", "prompt", "messages_column") if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"text_column, prompt or messages_column must be given, but got {given}")
        if self.chat_template is not None and self.messages_column is None:
            raise ValueError("chat_template needs a messages_column")
        if self.is_text and self.data.split_by is not None:
            raise ValueError("data.split_by is for rows, but plain text is packed and divided by examples")
        if self.data.package is not None and (given and self.text_column != "text"):
            raise ValueError("a package has the column text alone")
        if self.generation.answer_pattern is not None and self.is_text:
            raise ValueError(
                "generation.answer_pattern needs prompts or messages, but the data is plain text"
            )
        return self

    @property
    def is_text(self) -> bool:
        """Whether the rows are plain text, to be packed."""
        return self.prompt is None and self.messages_column is None

    @property
    def columns(self) -> dict[str, list[str]]:
        """The columns that each setting names."""
        if self.prompt is not None and self.completion is not None:
            return {
                "prompt": template_columns(self.prompt),
                "completion": template_columns(self.completion),
            }
        if self.messages_column is not None:
            return {"messages_column": [self.messages_column]}
        return {"text_column": [self.text_column or "text"]}

    @property
    def inputs(self) -> tuple[str, ...]:
        """The settings whose columns are what the model is given; rows that share them are the same."""
        return ("prompt",) if self.prompt is not None else tuple(self.columns)

    @property
    def metrics(self) -> tuple[str, ...]:
        with_answer = ("exact_match",) if self.generation.answer_pattern is not None else ()
        return ("loss", "perplexity", "bits_per_byte", "accuracy", *with_answer)

    @property
    def head(self) -> dict[str, Any]:
        return {}


class Seq2SeqLMSettings(Record):
    """Text to text with an encoder and a decoder: translation, summaries."""

    type: Literal["seq2seq-lm"]
    data: DataSettings
    source: Template
    target: Template
    max_source_length: int = Field(default=256, ge=2)
    max_target_length: int = Field(default=128, ge=2)
    generation: GenerationSettings = GenerationSettings(max_new_tokens=128)

    @property
    def columns(self) -> dict[str, list[str]]:
        return {"source": template_columns(self.source), "target": template_columns(self.target)}

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("source",)

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("loss", "perplexity", "accuracy", "rouge1", "rouge2", "rougeL", "bleu", "exact_match")

    @property
    def head(self) -> dict[str, Any]:
        return {}


class SequenceClassificationSettings(Record):
    """A class or a number for a text or a pair of texts."""

    type: Literal["sequence-classification"]
    data: DataSettings
    text_column: str = "text"
    text_pair_column: str | None = None
    label_column: str = "label"
    labels: tuple[str | int, ...] | None = None
    """The classes in their order; by default those of the data set, or of its training rows, sorted.
    A row holds a class itself or its position. Of two classes the second is the positive one."""
    regression: bool = False
    """Labels are numbers, the loss is their mean squared error."""
    max_length: int = Field(default=128, ge=2)

    @field_validator("labels", mode="before")
    @classmethod
    def _no_booleans(cls, labels: Any) -> Any:
        if isinstance(labels, list | tuple) and any(isinstance(label, bool) for label in labels):
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


class QuestionAnsweringSettings(Record):
    """The answer to a question as a span of a context, in SQuAD's format."""

    type: Literal["question-answering"]
    data: DataSettings
    question_column: str = "question"
    context_column: str = "context"
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

    @property
    def head(self) -> dict[str, Any]:
        return {}


TaskSettings = Annotated[
    CausalLMSettings | Seq2SeqLMSettings | SequenceClassificationSettings | QuestionAnsweringSettings,
    Field(discriminator="type"),
]
