"""Language modelling: packed plain text, prompts with completions, or conversations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from jointsearch.config.data import SPLITS
from jointsearch.config.tasks.causal_lm import CausalLMSettings
from jointsearch.config.template import fill
from jointsearch.errors import DataError, first_line
from jointsearch.measurement import Example
from jointsearch.training.data import TRUNCATED, load_rows, tokenize, truncation_notes
from jointsearch.training.tasks.base import IGNORED, NUM_SHOWN, Batch, Evaluation, TokenizedTask, shown
from jointsearch.training.tasks.language import exact_match, generate, score_tokens

SHOWN_TOKENS = 64
"""Tokens of plain text that a model is given to go on with."""


class CausalLM(TokenizedTask):
    """Every token is predicted in plain text, those of the completion after a prompt."""

    def __init__(
        self, settings: CausalLMSettings, tokenizer: PreTrainedTokenizerBase, max_length: int | None
    ) -> None:
        self.tokenizer = tokenizer
        self.collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
        if settings.chat_template is not None:
            tokenizer.chat_template = settings.chat_template  # and so it is saved with the model
        self._settings = settings
        self._length = min(settings.sequence_length, max_length or settings.sequence_length)
        self._max_new_tokens = min(settings.generation.max_new_tokens, (max_length or 2**30) // 2)
        self._max_prompt = (max_length or 2**30) - self._max_new_tokens
        rows = load_rows(settings.data, settings.columns, settings.inputs, whole=not settings.is_text)
        self._rows = rows.splits
        self.notes = rows.notes
        if self._max_new_tokens < settings.generation.max_new_tokens:
            self.notes.append(
                f"task.generation.max_new_tokens: {settings.generation.max_new_tokens} is cut to "
                f"{self._max_new_tokens}, half of the model's positions"
            )
        depends_on = settings.model_dump(mode="json", exclude={"data", "generation"}) | {
            "length": self._length
        }
        make = self._packed if settings.is_text else self._with_completions
        self.splits = {
            split: tokenize(part, make, tokenizer, depends_on) for split, part in rows.splits.items()
        }
        if settings.is_text:
            self._divide_examples()
        else:
            self.notes += truncation_notes(self.splits, self._length)

    def num_tokens(self, batch: Batch) -> int:
        mask = batch.get("attention_mask")
        return batch["input_ids"].numel() if mask is None else int(mask.sum())

    def batch(self, split: str, indices: list[int]) -> Batch:
        if self._settings.is_text:
            rows = self.splits[split].with_format("numpy")[indices]["input_ids"]
            input_ids = torch.from_numpy(np.stack(rows).astype(np.int64))  # (batch, length)
            labels = input_ids.clone()
            labels[:, 0] = IGNORED  # nothing is before it: what counts labels must not count it
            return {"input_ids": input_ids, "labels": labels}
        return super().batch(split, indices)

    def features(self, split: str, indices: list[int]) -> list[dict[str, Any]]:
        return [
            {
                "input_ids": row["prompt"] + row["completion"],
                "attention_mask": [1] * (len(row["prompt"]) + len(row["completion"])),
                "labels": [IGNORED] * len(row["prompt"]) + row["completion"],
            }
            for row in super().features(split, indices)
        ]

    def loss(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> float:
        return score_tokens(model, self.batches(model, split, limit, batch_size), shift=1).metrics["loss"]

    def evaluate(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> Evaluation:
        """bits per byte = loss · predicted tokens / (ln 2 · UTF-8 bytes of the predicted text)."""
        score = score_tokens(model, self.batches(model, split, limit, batch_size), shift=1)
        metrics = score.metrics
        num_examples = min(limit or self.num_examples(split), self.num_examples(split))
        num_bytes = sum(len(text.encode()) for text in self._predicted_texts(split, num_examples))
        metrics["bits_per_byte"] = score.total_loss / (math.log(2) * max(1, num_bytes))

        with_answers = self._settings.generation.answer_pattern is not None
        wanted = self._settings.generation.max_examples if with_answers else NUM_SHOWN
        num_written = min(wanted or num_examples, num_examples)
        prompts, references = self._prompts(split, num_written)
        device = next(model.parameters()).device
        padded = (
            self._padded_left(prompts[start : start + batch_size], device)
            for start in range(0, num_written, batch_size)
        )
        written = generate(model, padded, self._settings.generation, self.tokenizer, self._max_new_tokens)
        if with_answers:
            pattern = self._settings.generation.answer_pattern
            metrics["exact_match"] = exact_match(written.texts, references, pattern)
        inputs = self.tokenizer.batch_decode(prompts[:NUM_SHOWN], skip_special_tokens=True)
        examples = tuple(
            Example(input=shown(given, end=True), output=shown(text), reference=shown(reference))
            for given, text, reference in zip(inputs, written.texts, references, strict=False)
        )
        return Evaluation(metrics, examples, written.tokens_per_second)

    def _predicted_texts(self, split: str, num_examples: int) -> list[str]:
        if self._settings.is_text:
            return self.tokenizer.batch_decode(
                [row[1:] for row in self.splits[split][:num_examples]["input_ids"]], skip_special_tokens=True
            )
        return self.tokenizer.batch_decode(
            self.splits[split][:num_examples]["completion"], skip_special_tokens=True
        )

    def _prompts(self, split: str, num_examples: int) -> tuple[list[list[int]], list[str]]:
        """What the model is to go on with, and what the data has there."""
        rows = self.splits[split][:num_examples]
        if not self._settings.is_text:
            prompts = [prompt[-self._max_prompt :] for prompt in rows["prompt"]]
            return prompts, [self._reference(self._rows[split][i]) for i in range(num_examples)]
        cut = min(SHOWN_TOKENS, self._length // 2, self._max_prompt)
        after = [row[cut : cut + self._max_new_tokens] for row in rows["input_ids"]]
        return [row[:cut] for row in rows["input_ids"]], self.tokenizer.batch_decode(after)

    def _reference(self, row: dict[str, Any]) -> str:
        """What the data has as the completion, uncut."""
        if self._settings.completion is not None:
            return fill(self._settings.completion, row)
        said = [m for m in row[self._settings.messages_column or ""] if m["role"] == "assistant"]
        return str(said[-1]["content"])

    def _padded_left(self, prompts: list[list[int]], device: torch.device) -> Batch:
        batch = self.tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        return {name: tensor.to(device) for name, tensor in batch.items()}

    def _packed(self, rows: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        """Documents joined by the end-of-text token and cut into examples; the last piece is dropped."""
        texts = [text for text in rows[self._settings.text_column or "text"] if text is not None]
        if wrong := next((text for text in texts if not isinstance(text, str)), None):
            raise DataError(f"the texts of task.text_column must be strings, but got {wrong!r}")
        texts = [text for text in texts if text and not text.isspace()]
        end = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        tokens: list[int] = []
        if texts:
            for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]:
                tokens += ids + end
        starts = range(0, len(tokens) - self._length + 1, self._length)
        return {"input_ids": [tokens[start : start + self._length] for start in starts]}

    def _divide_examples(self) -> None:
        """Cut missing splits off the training examples: one document can be all there is."""
        data = self._settings.data
        missing = [split for split in SPLITS if split not in self.splits]
        train = self.splits["train"]
        if missing:
            generator = torch.Generator().manual_seed(data.split_seed)
            order = torch.randperm(len(train), generator=generator)
            num_held_out = max(1, round(len(train) * data.validation_share))
            for split in missing:
                self.splits[split], order = train.select(order[:num_held_out]), order[num_held_out:]
            self.splits["train"] = train.select(order.sort().values)
        for split in SPLITS:
            if not len(self.splits[split]):
                raise DataError(
                    f"the {split} split must hold an example of {self._length} tokens, but it is too "
                    "short; give more text or lower task.sequence_length"
                )

    def _with_completions(self, rows: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        """Prompts and completions as tokens, cut to the length: a prompt from the left, so that its end
        and the completion stay."""
        columns: dict[str, list[Any]] = {"prompt": [], "completion": [], TRUNCATED: []}
        for position in range(len(indices)):
            row = {name: values[position] for name, values in rows.items()}
            try:
                prompt, completion = (
                    self._conversation(row) if self._settings.messages_column else self._pair(row)
                )
            except KeyError as error:
                raise DataError(f"row {indices[position]} of the data has no value for {error}") from None
            longer = len(prompt) + len(completion) > self._length
            completion = completion[: self._length - 1]
            columns["prompt"].append(prompt[-(self._length - len(completion)) :])
            columns["completion"].append(completion)
            columns[TRUNCATED].append(longer)
        return columns

    def _pair(self, row: dict[str, Any]) -> tuple[list[int], list[int]]:
        assert self._settings.prompt is not None
        assert self._settings.completion is not None
        end = self.tokenizer.eos_token_id
        prompt = self.tokenizer(fill(self._settings.prompt, row), verbose=False)["input_ids"]
        if prompt and prompt[-1] == end:
            prompt = prompt[:-1]
        completion = self.tokenizer(
            fill(self._settings.completion, row), add_special_tokens=False, verbose=False
        )["input_ids"]
        start = (
            []
            if prompt
            else [self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else end]
        )
        return start + prompt, completion + ([] if end is None else [end])

    def _conversation(self, row: dict[str, Any]) -> tuple[list[int], list[int]]:
        column = self._settings.messages_column
        assert column is not None
        messages = row[column] or []
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise DataError(
                f"task.messages_column must hold lists of {{role, content}}, but got {messages!r}"
            )
        messages = list(messages)
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
        if len(messages) < 2:
            raise DataError(
                f"the conversations of task.messages_column must have an assistant's message after another, "
                f"but got {row[column]!r}"
            )
        try:
            before, whole = (
                self.tokenizer.apply_chat_template(
                    part,
                    chat_template=self._settings.chat_template,
                    add_generation_prompt=len(part) < len(messages),
                    tokenize=False,
                )
                for part in (messages[:-1], messages)
            )
        except Exception as error:  # Jinja's, or the template's own
            raise DataError(
                f"the chat template must fit the conversations, but: {first_line(error)}; "
                "give one with task.chat_template"
            ) from None
        if not whole.startswith(before):
            raise DataError(
                "the chat template must put the last message after the prompt, "
                "but it changes what is before; "
                "give another with task.chat_template"
            )
        ids = [
            self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            for text in (before, whole[len(before) :])
        ]
        return ids[0], ids[1]
