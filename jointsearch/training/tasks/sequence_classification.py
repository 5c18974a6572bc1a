"""A class or a number for a text or a pair of texts."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from torch import nn
from torch.nn import functional as F
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from jointsearch.config.tasks.sequence_classification import SequenceClassificationSettings
from jointsearch.config.template import as_text
from jointsearch.errors import one_line, some
from jointsearch.measurement import Example
from jointsearch.training.data import (
    FAULT,
    TRUNCATED,
    UNLABELLED,
    load_rows,
    tokenize_splits,
    truncation_notes,
)
from jointsearch.training.tasks.base import NUM_SHOWN, Evaluation, TokenizedTask, evaluating, shown
from jointsearch.training.tasks.class_labels import Class, ClassLabels, as_class, classes_of, number_of

OFTEN = 5
"""Rows that classes have where one with a single row is remarkable."""


class SequenceClassification(TokenizedTask):
    """``labels`` of the settings must be given, unless it is a regression."""

    def __init__(
        self,
        settings: SequenceClassificationSettings,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None,
    ) -> None:
        self.tokenizer = tokenizer
        self.collator = DataCollatorWithPadding(tokenizer)
        self._settings = settings
        self._length = min(settings.max_length, max_length or settings.max_length)
        rows = load_rows(settings.data, settings.columns, settings.inputs)
        feature = rows.splits["train"].features[settings.label_column]
        stated = feature.names if isinstance(feature, ClassLabel) else None
        self._labels = None if settings.labels is None else ClassLabels(settings.labels, stated)
        depends_on = settings.model_dump(mode="json", exclude={"data"}) | {"length": self._length}
        tokenized = tokenize_splits(rows, self._tokenized, tokenizer, depends_on)
        self._rows = rows.splits
        self.notes = rows.notes + truncation_notes(tokenized, self._length)
        self.splits = {split: part.remove_columns(TRUNCATED) for split, part in tokenized.items()}
        if self._labels is not None:
            self._note_rare_classes()

    def loss(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> float:
        return self._predict(model, split, limit, batch_size)[0]

    def evaluate(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> Evaluation:
        """scikit-learn's metrics of classes; of two, the second is the positive one. SciPy's correlations,
        0 where the model says the same of all."""
        start = time.perf_counter()
        loss, outputs, labels = self._predict(model, split, limit, batch_size)
        seconds = time.perf_counter() - start
        metrics = {"loss": loss}
        if self._settings.regression:
            constant = _is_constant(outputs) or _is_constant(labels)
            metrics["pearson"] = 0.0 if constant else float(stats.pearsonr(outputs, labels).statistic)
            metrics["spearman"] = 0.0 if constant else float(stats.spearmanr(outputs, labels).statistic)
            texts = [f"{value:.3f}" for value in outputs]
        else:
            predicted = outputs.argmax(-1)
            metrics["accuracy"] = float(accuracy_score(labels, predicted))
            if outputs.shape[-1] == 2:
                metrics["f1"] = float(f1_score(labels, predicted, zero_division=0))
            # over the classes that are there or predicted, as is scikit-learn's default
            metrics["f1_macro"] = float(f1_score(labels, predicted, average="macro", zero_division=0))
            is_one_class = len(np.union1d(labels, predicted)) == 1
            metrics["matthews"] = 0.0 if is_one_class else float(matthews_corrcoef(labels, predicted))
            shares = np.exp(outputs - outputs.max(-1, keepdims=True))
            shares /= shares.sum(-1, keepdims=True)
            texts = [
                f"{self._name(label)} ({share[label]:.2f})"
                for label, share in zip(predicted, shares, strict=True)
            ]
        rows = self._rows[split]
        examples = tuple(
            Example(
                input=shown(
                    " / ".join(
                        str(rows[i][self._settings.columns[name][0]]) for name in self._settings.inputs
                    )
                ),
                output=texts[i],
                reference=f"{labels[i]:g}" if self._settings.regression else self._name(labels[i]),
            )
            for i in range(min(NUM_SHOWN, len(labels)))
        )
        return Evaluation(metrics, examples, len(labels) / seconds)

    def _name(self, label: int) -> str:
        assert self._settings.labels is not None
        return str(self._settings.labels[label])

    def _predict(
        self, model: nn.Module, split: str, limit: int | None, batch_size: int
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Mean loss per example; logits (examples, classes) or values (examples,); labels (examples,)."""
        outputs, labels = [], []
        with evaluating(model):
            for batch in self.batches(model, split, limit, batch_size):
                labels.append(batch.pop("labels").cpu())
                outputs.append(model(**batch).logits.float().cpu())
        logits, targets = torch.cat(outputs), torch.cat(labels)
        if self._settings.regression:
            logits = logits.squeeze(-1)
            loss = F.mse_loss(logits, targets)
        else:
            loss = F.cross_entropy(logits, targets)
        return loss.item(), logits.numpy(), targets.numpy()

    def _tokenized(self, rows: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        names = [self._settings.columns[name][0] for name in self._settings.inputs]
        texts = [[as_text(value) for value in rows[name]] for name in names]
        faults = ["" for _ in indices]
        for name, of_column in zip(names, texts, strict=True):
            for position, text in enumerate(of_column):
                if text is None:
                    faults[position] = f"has {_no_text(rows[name][position])} in '{name}'"
        texts = [[text or "" for text in of_column] for of_column in texts]
        lengths = [len(ids) for ids in self.tokenizer(*texts, verbose=False)["input_ids"]]
        columns = dict(self.tokenizer(*texts, truncation=True, max_length=self._length))
        columns["labels"] = []
        for position, value in enumerate(rows[self._settings.label_column]):
            label = self._label(value)
            columns["labels"].append(label if label is not None else 0.0 if self._settings.regression else 0)
            if label is None:
                faults[position] = self._no_label(value)
        columns[TRUNCATED] = [length > self._length for length in lengths]
        columns[FAULT] = faults
        return columns

    def _label(self, value: Any) -> int | float | None:
        """None where ``value`` is no label."""
        return number_of(value) if self._labels is None else self._labels.position(value)

    def _no_label(self, value: Any) -> str:
        """What is wrong with a row that has ``value`` for its label."""
        name = self._settings.label_column
        label = as_class(value)
        if label is None or number_of(label) == -1:  # as the labels of GLUE's test splits are
            return f"{UNLABELLED}: {'no value' if label is None else value} in '{name}'"
        wanted = "a number"
        if self._labels is not None:
            position = " or its position" if self._labels.may_be_positions else ""
            wanted = f"one of {some(self._settings.labels or ())}{position}"
        return f"has {one_line(repr(value), 60)} in '{name}', which must be {wanted}"

    def _note_rare_classes(self) -> None:
        """A word that is no class at all makes one where classes are found in the data."""
        counts = np.bincount(self.splits["train"]["labels"][:], minlength=len(self._settings.labels or ()))
        rare = [self._name(label) for label in np.flatnonzero(counts <= 1).tolist()]
        if rare and np.median(counts) > OFTEN:
            self.notes.append(
                f"train: {len(rare)} of {len(counts)} classes have one row or none ({some(rare)}); "
                "if they are mistakes, name the others with task.labels"
            )


def _is_constant(values: np.ndarray) -> bool:
    """Whether values differ by no more than the rounding of float32, of which nothing can be told."""
    return bool(np.ptp(values) <= 1e-5 * np.abs(values).max())


def _no_text(value: Any) -> str:
    return "no value" if value is None else f"{one_line(repr(value), 60)}, which is no text,"


def find_labels(settings: SequenceClassificationSettings) -> tuple[Class, ...]:
    """The classes of the data: those it states, or the sorted values of its training rows."""
    rows: Dataset = load_rows(settings.data, settings.columns, settings.inputs).splits["train"]
    feature = rows.features[settings.label_column]
    if isinstance(feature, ClassLabel):
        return tuple(feature.names)
    return classes_of(rows[settings.label_column][:])
