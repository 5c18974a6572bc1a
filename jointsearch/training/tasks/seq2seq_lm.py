"""Text to text with an encoder and a decoder, measured on what the model generates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from torch import nn
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from jointsearch.config.tasks.seq2seq_lm import Seq2SeqLMSettings
from jointsearch.config.template import fill
from jointsearch.measurement import Example
from jointsearch.training.data import (
    FAULT,
    TRUNCATED,
    UNLABELLED,
    load_rows,
    tokenize_splits,
    truncation_notes,
)
from jointsearch.training.tasks.answers import exact_match
from jointsearch.training.tasks.base import IGNORED, NUM_SHOWN, Batch, Evaluation, TokenizedTask, shown
from jointsearch.training.tasks.language import generate, score_tokens
from jointsearch.training.tasks.scripts import WordsOfAnyScript, bleu_tokenizer

NUM_LOOKED_AT = 200
"""Targets that say in which script a task is written."""

ROUGE = ("rouge1", "rouge2", "rougeL")


class Seq2SeqLM(TokenizedTask):
    """Translation, summaries, and whatever else is text to text."""

    def __init__(
        self, settings: Seq2SeqLMSettings, tokenizer: PreTrainedTokenizerBase, max_length: int | None
    ) -> None:
        self.tokenizer = tokenizer
        self.collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
        self._settings = settings
        self._max_source = min(settings.max_source_length, max_length or settings.max_source_length)
        self._max_target = min(settings.max_target_length, max_length or settings.max_target_length)
        rows = load_rows(settings.data, settings.columns, settings.inputs)
        depends_on = settings.model_dump(mode="json", exclude={"data", "generation"}) | {
            "lengths": [self._max_source, self._max_target]
        }
        tokenized = tokenize_splits(rows, self._tokenized, tokenizer, depends_on)
        self._rows = rows.splits
        limit = f"{self._max_source} (source) or {self._max_target} (target)"
        self.notes = rows.notes + truncation_notes(tokenized, limit)
        some = self._rows["validation"].select(range(min(NUM_LOOKED_AT, len(self._rows["validation"]))))
        self._bleu_tokenizer = bleu_tokenizer(fill(settings.target, row) for row in some)
        if self._bleu_tokenizer != "13a":
            self.notes.append(
                "bleu: the targets are written without spaces, so sacreBLEU's tokenizer "
                f"{self._bleu_tokenizer} parts their characters"
            )
        self.splits = {split: part.remove_columns(TRUNCATED) for split, part in tokenized.items()}

    def num_tokens(self, batch: Batch) -> int:
        """Those of the source and of the target."""
        return super().num_tokens(batch) + int((batch["labels"] != IGNORED).sum())

    def loss(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> float:
        return score_tokens(model, self.batches(model, split, limit, batch_size), shift=0).metrics["loss"]

    def evaluate(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> Evaluation:
        """Token metrics with the reference given, text metrics of what is generated without it.

        ROUGE: mean F measures of rouge-score, with its stemmer, on words of any script. BLEU: sacreBLEU over
        the whole split.
        """
        metrics = score_tokens(model, self.batches(model, split, limit, batch_size), shift=0).metrics
        settings = self._settings.generation
        written = generate(
            model,
            self._sources(model, split, _least(limit, settings.max_examples), batch_size),
            settings,
            self.tokenizer,
            settings.max_new_tokens,
        )
        rows = self._rows[split].select(range(len(written.texts)))
        references = [fill(self._settings.target, row) for row in rows]
        scorer = RougeScorer(list(ROUGE), tokenizer=WordsOfAnyScript())
        scores = [scorer.score(r, text) for r, text in zip(references, written.texts, strict=True)]
        for name in ROUGE:
            metrics[name] = sum(score[name].fmeasure for score in scores) / len(scores)
        metrics["bleu"] = sacrebleu.corpus_bleu(
            written.texts, [references], tokenize=self._bleu_tokenizer
        ).score
        metrics["exact_match"] = exact_match(written.texts, references, settings.answer_pattern)
        examples = tuple(
            Example(
                input=shown(fill(self._settings.source, row)), output=shown(text), reference=shown(reference)
            )
            for row, text, reference in zip(
                rows.select(range(min(NUM_SHOWN, len(rows)))), written.texts, references, strict=False
            )
        )
        return Evaluation(metrics, examples, written.tokens_per_second)

    def _sources(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> Iterator[Batch]:
        for batch in self.batches(model, split, limit, batch_size, "writing"):
            yield {name: batch[name] for name in ("input_ids", "attention_mask")}

    def _tokenized(self, rows: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        sources, targets, faults = [], [], []
        for position in range(len(indices)):
            row = {name: values[position] for name, values in rows.items()}
            source, target, fault = "", "", ""
            try:
                source, target = fill(self._settings.source, row), fill(self._settings.target, row)
            except KeyError as error:
                fault = f"{UNLABELLED}: no value for {error}"
            except ValueError as error:
                fault = str(error)
            sources.append(source)
            targets.append(target)
            faults.append(fault)
        whole = self.tokenizer(sources, verbose=False)["input_ids"]
        whole_targets = self.tokenizer(text_target=targets, verbose=False)["input_ids"]
        inputs = self.tokenizer(sources, truncation=True, max_length=self._max_source)
        labels = self.tokenizer(text_target=targets, truncation=True, max_length=self._max_target)
        faults = [
            fault or ("" if ids else UNLABELLED)
            for fault, ids in zip(faults, labels["input_ids"], strict=True)
        ]
        return {
            "input_ids": inputs["input_ids"],
            "attention_mask": inputs["attention_mask"],
            "labels": labels["input_ids"],
            TRUNCATED: [
                len(source) > self._max_source or len(target) > self._max_target
                for source, target in zip(whole, whole_targets, strict=True)
            ],
            FAULT: faults,
        }


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
