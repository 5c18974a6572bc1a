"""Language modelling: packed plain text, prompts with completions, or conversations."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from jointsearch.config.data import SPLITS
from jointsearch.config.tasks.causal_lm import CausalLMSettings
from jointsearch.config.template import as_text, fill
from jointsearch.errors import DataError
from jointsearch.measurement import Example
from jointsearch.training.data import (
    FAULT,
    TRUNCATED,
    UNLABELLED,
    load_rows,
    tokenize,
    tokenize_splits,
    truncation_notes,
)
from jointsearch.training.tasks.answers import before_next_prompt, exact_match
from jointsearch.training.tasks.base import IGNORED, NUM_SHOWN, Batch, Evaluation, TokenizedTask, shown
from jointsearch.training.tasks.conversations import (
    Conversations,
    messages_of,
    start_of_last,
    up_to_the_last_answer,
)
from jointsearch.training.tasks.language import generate, score_tokens
from jointsearch.training.tasks.learned import learned_tokens

PROMPT_LENGTH = "prompt_length"
"""A column of tokenized rows: the tokens before the last completion or answer."""

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
        self._conversations = Conversations(tokenizer, settings.chat_template)
        depends_on = settings.model_dump(mode="json", exclude={"data", "generation"}) | {
            "length": self._length
        }
        if settings.is_text:
            rows.leave_out_what_is_no_text(settings.text_column or "text")
            rows.check_faults()
            self.splits = {
                split: tokenize(part, self._packed, tokenizer, depends_on)
                for split, part in rows.splits.items()
            }
            self._divide_examples()
        else:
            self.splits = tokenize_splits(rows, self._with_completions, tokenizer, depends_on)
        self._rows = rows.splits
        self.notes = rows.notes
        if not settings.is_text:
            self.notes += truncation_notes(self.splits, self._length)
            self._note_missing_space()
            if settings.messages_column is not None:
                self.notes += self._conversations.notes(self._rows["train"][settings.messages_column])
        if self._max_new_tokens < settings.generation.max_new_tokens:
            self.notes.append(
                f"task.generation.max_new_tokens: {settings.generation.max_new_tokens} is cut to "
                f"{self._max_new_tokens}, half of the model's positions"
            )

    def _note_missing_space(self) -> None:
        """A tokenizer that puts a space before every text hides that there is none in the whole text."""
        settings, row = self._settings, self._rows["train"][0]
        if settings.prompt is not None and settings.completion is not None:
            prompt, completion = fill(settings.prompt, row), fill(settings.completion, row)
            if re.search(r"[\w.,:;!?]$", prompt, re.ASCII) and re.match(r"\w", completion, re.ASCII):
                self.notes.append(
                    f"completions follow their prompts without a space ({prompt[-12:] + completion[:12]!r}); "
                    f"if there is to be one, write completion: {' ' + settings.completion!r}"
                )

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
                "input_ids": row["input_ids"],
                "attention_mask": [1] * len(row["input_ids"]),
                "labels": row["labels"],
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
        padded = self.told(
            "writing",
            num_written,
            batch_size,
            lambda start: self._padded_left(prompts[start : start + batch_size], device),
        )
        written = generate(model, padded, self._settings.generation, self.tokenizer, self._max_new_tokens)
        if with_answers:
            pattern = self._settings.generation.answer_pattern
            solutions = [
                before_next_prompt(text, self._settings.prompt or "", reference)
                for text, reference in zip(written.texts, references, strict=True)
            ]
            metrics["exact_match"] = exact_match(solutions, references, pattern)
        inputs = self.tokenizer.batch_decode(prompts[:NUM_SHOWN], skip_special_tokens=True)
        examples = tuple(
            Example(input=shown(given, end=True), output=shown(text), reference=shown(reference))
            for given, text, reference in zip(inputs, written.texts, references, strict=False)
        )
        return Evaluation(metrics, examples, written.tokens_per_second)

    def _predicted_texts(self, split: str, num_examples: int) -> list[str]:
        rows = self.splits[split][:num_examples]
        if self._settings.is_text:
            predicted = [row[1:] for row in rows["input_ids"]]
        else:
            predicted = [[token for token in row if token != IGNORED] for row in rows["labels"]]
        return self.tokenizer.batch_decode(predicted, skip_special_tokens=True)

    def _prompts(self, split: str, num_examples: int) -> tuple[list[list[int]], list[str]]:
        """What the model is to go on with, and what the data has there."""
        rows = self.splits[split][:num_examples]
        if not self._settings.is_text:
            pairs = zip(rows["input_ids"], rows[PROMPT_LENGTH], strict=True)
            prompts = [row[:length][-self._max_prompt :] for row, length in pairs]
            return prompts, [self._reference(self._rows[split][i]) for i in range(num_examples)]
        cut = min(SHOWN_TOKENS, self._length // 2, self._max_prompt)
        after = [row[cut : cut + self._max_new_tokens] for row in rows["input_ids"]]
        return [row[:cut] for row in rows["input_ids"]], self.tokenizer.batch_decode(after)

    def _reference(self, row: dict[str, Any]) -> str:
        """What the data has as the completion, uncut."""
        if self._settings.completion is not None:
            return fill(self._settings.completion, row)
        said = up_to_the_last_answer(messages_of(row[self._settings.messages_column or ""]))
        return str(said[-1].get("content", ""))

    def _padded_left(self, prompts: list[list[int]], device: torch.device) -> Batch:
        batch = self.tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        return {name: tensor.to(device) for name, tensor in batch.items()}

    def _packed(self, rows: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        """Documents joined by the end-of-text token and cut into examples; the last piece is dropped.

        Where the tokenizer begins a text with a token of its own, as Llama's and Gemma's do, documents and
        examples begin with it.
        """
        values = (as_text(value) for value in rows[self._settings.text_column or "text"])
        texts = [text for text in values if text and not text.isspace()]
        begin = self._begin_of_text()
        end = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        tokens: list[int] = []
        if texts:
            for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]:
                tokens += begin + ids + end
        examples: list[list[int]] = []
        start, width = 0, self._length - len(begin)
        while start + width <= len(tokens):
            if begin and tokens[start : start + len(begin)] == begin:
                start += len(begin)
                continue
            examples.append(begin + tokens[start : start + width])
            start += width
        return {"input_ids": examples}

    def _begin_of_text(self) -> list[int]:
        """What the tokenizer puts before every text."""
        ids, learned = learned_tokens(self.tokenizer, "a", [(0, 1)], special=True)
        return ids[: learned.index(True)] if True in learned else []

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
        """Whole texts as tokens and labels, cut to the length: from the left before the last completion or
        answer, so that its beginning stays."""
        columns: dict[str, list[Any]] = {
            name: [] for name in ("input_ids", "labels", PROMPT_LENGTH, TRUNCATED, FAULT)
        }
        for position in range(len(indices)):
            row = {name: values[position] for name, values in rows.items()}
            fault, ids, learned = "", [0], [False]
            try:
                ids, learned = self._conversation(row) if self._settings.messages_column else self._pair(row)
            except KeyError as error:
                fault = f"{UNLABELLED}: no value for {error}"
            except ValueError as error:
                fault = str(error)
            start = start_of_last(learned)
            end = min(len(ids), start + self._length - 1)
            begin = max(0, end - self._length)
            labels = [
                token if is_learned else IGNORED for token, is_learned in zip(ids, learned, strict=True)
            ]
            columns["input_ids"].append(ids[begin:end])
            columns["labels"].append(labels[begin:end])
            columns[PROMPT_LENGTH].append(start - begin)
            columns[TRUNCATED].append(end - begin < len(ids))
            # the first token of a text is given, not predicted
            is_empty = all(label == IGNORED for label in labels[begin + 1 : end])
            columns[FAULT].append(fault or (UNLABELLED if is_empty else ""))
        return columns

    def _pair(self, row: dict[str, Any]) -> tuple[list[int], list[bool]]:
        """A prompt with its completion, of which the end of text is a part."""
        prompt, completion = (
            fill(self._settings.prompt or "", row),
            fill(self._settings.completion or "", row),
        )
        text = prompt + completion
        ids, learned = learned_tokens(self.tokenizer, text, [(len(prompt), len(text))], special=True)
        end = self.tokenizer.eos_token_id
        if not ids or learned[0]:  # something must be before what is predicted
            first = self.tokenizer.bos_token_id
            first = end if first is None else first
            if first is not None:
                ids, learned = [first, *ids], [False, *learned]
        if end is not None and not (ids and learned[-1] and ids[-1] == end):
            ids, learned = [*ids, end], [*learned, True]
        return ids, learned

    def _conversation(self, row: dict[str, Any]) -> tuple[list[int], list[bool]]:
        return self._conversations.tokens(
            row[self._settings.messages_column or ""], last_only=self._settings.assistant_turns == "last"
        )
