"""Extractive question answering in SQuAD's format: the answer is a span of the context, or none.

A context that is too long is read in overlapping windows; the best span over all of them is the
answer, as in BERT's SQuAD code (Devlin et al., arXiv 1810.04805, sections 4.2 and 4.3).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional.text import squad
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from jointsearch.config.tasks.question_answering import QuestionAnsweringSettings
from jointsearch.errors import UnsupportedError, one_line
from jointsearch.measurement import Example
from jointsearch.training.data import FAULT, ROW, TRUNCATED, load_rows, tokenize_splits, truncation_notes
from jointsearch.training.tasks.base import NUM_SHOWN, Evaluation, TokenizedTask, evaluating, shown

OUTSIDE = -1
"""The offset of tokens that are not in the context."""


class QuestionAnswering(TokenizedTask):
    """Examples are windows; ``limit`` counts questions."""

    def __init__(
        self, settings: QuestionAnsweringSettings, tokenizer: PreTrainedTokenizerBase, max_length: int | None
    ) -> None:
        if not tokenizer.is_fast:
            raise UnsupportedError(
                "question answering needs a fast tokenizer, with offsets, but the model has none"
            )
        self.tokenizer = tokenizer
        self.collator = DataCollatorWithPadding(tokenizer)
        self._settings = settings
        self._length = min(settings.max_length, max_length or settings.max_length)
        self._stride = min(settings.stride, self._length // 2 - 1)  # of a model with few positions
        rows = load_rows(settings.data, settings.columns, settings.inputs)
        depends_on = settings.model_dump(mode="json", exclude={"data"}) | {"length": self._length}
        self._windows = tokenize_splits(rows, self._tokenized, tokenizer, depends_on)
        self._rows = rows.splits
        self.notes = rows.notes + [
            note.replace(" rows are cut", " windows have a question that is cut")
            for note in truncation_notes(self._windows, self._length)
        ]
        own = (ROW, "starts", "ends", TRUNCATED)
        self.splits = {split: part.remove_columns(list(own)) for split, part in self._windows.items()}
        self._may_be_unanswerable = not all(self._answers(row)[0] for row in self._rows["train"])

    def loss(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> float:
        return self._predict(model, split, limit, batch_size)[0]

    def evaluate(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> Evaluation:
        """Exact match and F1 as SQuAD defines them (torchmetrics), as shares; loss per window."""
        num_questions = min(limit or len(self._rows[split]), len(self._rows[split]))
        start = time.perf_counter()
        loss, starts, ends = self._predict(model, split, limit, batch_size)
        spans = self._spans(split, starts, ends)
        seconds = time.perf_counter() - start
        rows = self._rows[split].select(range(num_questions))
        answers = [self._answers(row)[0] for row in rows]
        predicted = [
            row[self._settings.context_column][slice(*spans[position])] for position, row in enumerate(rows)
        ]
        scores = squad(
            [{"id": str(i), "prediction_text": text} for i, text in enumerate(predicted)],
            [
                {"id": str(i), "answers": {"text": texts or [""], "answer_start": [0] * max(1, len(texts))}}
                for i, texts in enumerate(answers)
            ],
        )
        metrics = {
            "loss": loss,
            "exact_match": scores["exact_match"].item() / 100,
            "f1": scores["f1"].item() / 100,
        }
        examples = tuple(
            Example(
                input=shown(f"{row[self._settings.question_column]} / {row[self._settings.context_column]}"),
                output=shown(predicted[i] or "(no answer)"),
                reference=shown(" | ".join(dict.fromkeys(answers[i])) or "(no answer)"),
            )
            for i, row in enumerate(rows.select(range(min(NUM_SHOWN, num_questions))))
        )
        return Evaluation(metrics, examples, num_questions / seconds)

    def _predict(
        self, model: nn.Module, split: str, limit: int | None, batch_size: int
    ) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
        """Mean loss of starts and ends per window; logits of starts and ends by window."""
        total_loss = 0.0
        starts: list[np.ndarray] = []
        ends: list[np.ndarray] = []
        num_windows = int(np.sum(self._window_rows(split) < limit)) if limit is not None else None
        with evaluating(model):
            for batch in self.batches(model, split, num_windows, batch_size):
                output = model(**{n: t for n, t in batch.items() if not n.endswith("_positions")})
                for name, kept in (("start", starts), ("end", ends)):
                    logits = getattr(output, f"{name}_logits").float()  # (batch, time)
                    total_loss += (
                        F.cross_entropy(logits, batch[f"{name}_positions"], reduction="sum").item() / 2
                    )
                    masks = batch["attention_mask"].bool()
                    kept += [row[mask].cpu().numpy() for row, mask in zip(logits, masks, strict=True)]
        return total_loss / len(starts), starts, ends

    def _spans(
        self, split: str, starts: list[np.ndarray], ends: list[np.ndarray]
    ) -> dict[int, tuple[int, int]]:
        """The best span of every question, in characters of its context; (0, 0) where there is none."""
        best: dict[int, tuple[float, tuple[int, int]]] = {}
        no_answer: dict[int, float] = {}
        windows = self._windows[split].select(range(len(starts)))
        for window, start_logits, end_logits in zip(windows, starts, ends, strict=True):
            row, none_at = window[ROW], self._none_position(window["input_ids"])
            none_score = float(start_logits[none_at] + end_logits[none_at])
            no_answer[row] = min(no_answer.get(row, np.inf), none_score)
            for score, span in self._candidates(window, start_logits, end_logits):
                if row not in best or score > best[row][0]:
                    best[row] = score, span
        nothing = (-np.inf, (0, 0))
        return {
            row: (0, 0)
            if self._may_be_unanswerable and none_score > best.get(row, nothing)[0]
            else best.get(row, nothing)[1]
            for row, none_score in no_answer.items()
        }

    def _candidates(
        self, window: dict[str, Any], start_logits: np.ndarray, end_logits: np.ndarray
    ) -> Iterator[tuple[float, tuple[int, int]]]:
        """Spans of the best starts and ends that lie in the context, with their scores."""
        num_best = self._settings.num_best
        for start in np.argsort(-start_logits)[:num_best]:
            for end in np.argsort(-end_logits)[:num_best]:
                fits = 0 <= end - start < self._settings.max_answer_length
                if fits and window["starts"][start] != OUTSIDE and window["ends"][end] != OUTSIDE:
                    span = window["starts"][start], window["ends"][end]
                    yield float(start_logits[start] + end_logits[end]), span

    def _window_rows(self, split: str) -> np.ndarray:
        return self._windows[split].with_format("numpy")[ROW][:]

    def _none_position(self, input_ids: list[int]) -> int:
        """Where a window says that it has no answer: its [CLS] token, or the first."""
        token = self.tokenizer.cls_token_id
        return input_ids.index(token) if token in input_ids else 0

    def _answers(self, row: dict[str, Any]) -> tuple[list[str], list[int]]:
        """Texts and starts, from a mapping of lists or from a list of mappings; raises ``ValueError``."""
        answers = row[self._settings.answers_column]
        try:
            if isinstance(answers, dict):
                texts, starts = list(answers["text"]), list(answers["answer_start"])
            else:
                texts = [a["text"] for a in answers or []]
                starts = [a["answer_start"] for a in answers or []]
            starts = [int(start) if isinstance(start, float) else start for start in starts]
            if not all(isinstance(text, str) for text in texts) or not all(map(_is_position, starts)):
                raise TypeError
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(
                f"has {one_line(repr(answers), 80)} in '{self._settings.answers_column}', "
                "which must hold {text: [...], answer_start: [...]}"
            ) from None
        if len(starts) != len(texts):
            raise ValueError(f"has {len(texts)} answers and {len(starts)} starts")
        return texts, starts

    def _fault(self, row: dict[str, Any]) -> str:
        """Why a row cannot be used; empty where it can."""
        for name in (self._settings.question_column, self._settings.context_column):
            if not isinstance(row[name], str):
                return f"has no text in '{name}'"
        try:
            texts, starts = self._answers(row)
        except ValueError as error:
            return str(error)
        context = row[self._settings.context_column]
        if texts and (not texts[0] or context[starts[0] :][: len(texts[0])] != texts[0] or starts[0] < 0):
            return (
                f"has the answer {one_line(repr(texts[0]), 60)}, "
                f"which its context of {len(context)} characters does not have at {starts[0]}"
            )
        return ""

    def _tokenized(self, rows: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        settings = self._settings
        given = [{name: rows[name][position] for name in rows} for position in range(len(indices))]
        faults = [self._fault(row) for row in given]
        columns_read = (settings.question_column, settings.context_column)
        questions, contexts = (
            ["" if fault else row[name] for row, fault in zip(given, faults, strict=True)]
            for name in columns_read
        )
        questions, cut = self._cut_questions(questions)
        windows = self.tokenizer(
            questions,
            contexts,
            truncation="only_second",
            max_length=self._length,
            stride=self._stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        columns: dict[str, list[Any]] = {
            name: windows[name]
            for name in ("input_ids", "attention_mask", "token_type_ids")
            if name in windows
        }
        added = ("start_positions", "end_positions", ROW, "starts", "ends", TRUNCATED, FAULT)
        columns |= {name: [] for name in added}
        for window, position in enumerate(windows["overflow_to_sample_mapping"]):
            in_context = [part == 1 for part in windows.sequence_ids(window)]
            offsets = windows["offset_mapping"][window]
            starts = [s if inside else OUTSIDE for (s, _), inside in zip(offsets, in_context, strict=True)]
            ends = [e if inside else OUTSIDE for (_, e), inside in zip(offsets, in_context, strict=True)]
            answers = ([], []) if faults[position] else self._answers(given[position])
            first, last = _answer_tokens(*answers, starts, ends)
            none_at = self._none_position(windows["input_ids"][window])
            columns["start_positions"].append(none_at if first is None else first)
            columns["end_positions"].append(none_at if last is None else last)
            columns[ROW].append(indices[position])
            columns["starts"].append(starts)
            columns["ends"].append(ends)
            columns[TRUNCATED].append(cut[position])
            columns[FAULT].append(faults[position])
        return columns

    def _cut_questions(self, questions: list[str]) -> tuple[list[str], list[bool]]:
        """The questions, which leave room for a window's context and special tokens; and which are cut."""
        longest = self._length - self._stride - 8
        questions = [question.strip() for question in questions]
        encoded = self.tokenizer(
            questions, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        cut = [len(ids) > longest for ids in encoded["input_ids"]]
        for position, offsets in enumerate(encoded["offset_mapping"]):
            if cut[position]:
                questions[position] = questions[position][: offsets[longest - 1][1]]
        return questions, cut


def _is_position(start: Any) -> bool:
    return isinstance(start, int) and not isinstance(start, bool)


def _answer_tokens(
    texts: list[str], positions: list[int], starts: list[int], ends: list[int]
) -> tuple[int | None, int | None]:
    """The first and last token of the first answer, if the window holds all of it."""
    if not texts:
        return None, None
    begin, end = positions[0], positions[0] + len(texts[0])
    inside = [
        i for i, (s, e) in enumerate(zip(starts, ends, strict=True)) if s != OUTSIDE and e > begin and s < end
    ]
    if not inside or starts[inside[0]] > begin or ends[inside[-1]] < end:
        return None, None
    return inside[0], inside[-1]
