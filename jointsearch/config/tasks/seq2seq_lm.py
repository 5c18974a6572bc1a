"""Text to text with an encoder and a decoder: translation, summaries."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jointsearch.config.generation import GenerationSettings
from jointsearch.config.task import TaskBase, TaskKind, register_task
from jointsearch.config.template import Template, template_columns


class Seq2SeqLMSettings(TaskBase):
    """Text to text with an encoder and a decoder: translation, summaries."""

    type: Literal["seq2seq-lm"]
    source: Template
    """The encoder's text."""
    target: Template
    """What the decoder is to write."""
    max_source_length: int = Field(default=256, ge=2)
    """Tokens; longer texts are cut."""
    max_target_length: int = Field(default=128, ge=2)
    """Tokens; longer texts are cut."""
    generation: GenerationSettings = GenerationSettings(max_new_tokens=128)
    """How outputs are written while a plan is measured."""

    @property
    def columns(self) -> dict[str, list[str]]:
        return {"source": template_columns(self.source), "target": template_columns(self.target)}

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("source",)

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("loss", "perplexity", "accuracy", "rouge1", "rouge2", "rougeL", "bleu", "exact_match")


register_task(
    TaskKind(
        "seq2seq-lm",
        Seq2SeqLMSettings,
        "jointsearch.training.tasks.seq2seq_lm:Seq2SeqLM",
        "transformers:AutoModelForSeq2SeqLM",
        "SEQ_2_SEQ_LM",
        example_model="google-t5/t5-small",
    )
)
