"""Language modelling: on plain text, on prompts and completions, or on conversations."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from jointsearch.config.fields import Formerly
from jointsearch.config.generation import GenerationSettings
from jointsearch.config.task import TaskBase, TaskKind, register_task
from jointsearch.config.template import Template, template_columns


class CausalLMSettings(TaskBase):
    """Language modelling: on plain text, on prompts and completions, or on conversations."""

    type: Literal["causal-lm"]
    sequence_length: int = Field(default=256, ge=8)
    """Tokens per example: text is packed into examples of this length, others are cut to it."""
    text_column: str | None = None
    """Plain text; the column ``text`` unless there are prompts or messages."""
    prompt: Template | None = None
    """With ``completion``: the loss is on the completion alone, which ends with the end-of-text token."""
    completion: Template | None = None
    """With ``prompt``: what the model is to write after it."""
    messages_column: str | None = None
    """Conversations, lists of ``{role, content}``, in the tokenizer's chat template; ``{from, value}``
    and contents in parts are read too. The loss is on what the assistant says."""
    assistant_turns: Annotated[Literal["all", "last"], Formerly("last")] = "all"
    """Whether all messages of the assistant are learned, or the last alone; what follows that is left out."""
    chat_template: str | None = None
    """A Jinja template instead of the tokenizer's own."""
    generation: GenerationSettings = GenerationSettings()
    """How outputs are written while a plan is measured."""

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, values: Any) -> Any:
        """What a study or a plan of 0.1.0 holds, which names every setting, learned the last answer."""
        if isinstance(values, dict) and "assistant_turns" not in values:
            others = set(cls.model_fields) - {"assistant_turns"}
            if others <= values.keys() and values["messages_column"] is not None:
                return {**values, "assistant_turns": "last"}
        return values

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
        if self.assistant_turns == "last" and self.messages_column is None:
            raise ValueError("assistant_turns needs a messages_column")
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
        return ("prompt",) if self.prompt is not None else tuple(self.columns)

    @property
    def metrics(self) -> tuple[str, ...]:
        with_answer = ("exact_match",) if self.generation.answer_pattern is not None else ()
        return ("loss", "perplexity", "bits_per_byte", "accuracy", *with_answer)


register_task(
    TaskKind(
        "causal-lm",
        CausalLMSettings,
        "jointsearch.training.tasks.causal_lm:CausalLM",
        "transformers:AutoModelForCausalLM",
        "CAUSAL_LM",
        example_model="openai-community/gpt2",
    )
)
