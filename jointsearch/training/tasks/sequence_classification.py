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
from jointsearch.errors import DataError
from jointsearch.measurement import Example
from jointsearch.training.data import TRUNCATED, load_rows, tokenize, truncation_notes
from jointsearch.training.tasks.base import NUM_SHOWN, Evaluation, TokenizedTask, evaluating, shown


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
        self._rows = rows.splits
        feature = self._rows["train"].features[settings.label_column]
        self._stated = feature.names if isinstance(feature, ClassLabel) else None
        depends_on = settings.model_dump(mode="json", exclude={"data"}) | {"length": self._length}
        tokenized = {
            split: tokenize(part, self._tokenized, tokenizer, depends_on)
            for split, part in rows.splits.items()
        }
        self.notes = rows.notes + truncation_notes(tokenized, self._length)
        self.splits = {split: part.remove_columns(TRUNCATED) for split, part in tokenized.items()}

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
            constant = np.ptp(outputs) == 0 or np.ptp(labels) == 0
            metrics["pearson"] = 0.0 if constant else float(stats.pearsonr(outputs, labels).statistic)
            metrics["spearman"] = 0.0 if constant else float(stats.spearmanr(outputs, labels).statistic)
            texts = [f"{value:.3f}" for value in outputs]
        else:
            predicted = outputs.argmax(-1)
            num_labels = outputs.shape[-1]
            metrics["accuracy"] = float(accuracy_score(labels, predicted))
            if num_labels == 2:
                metrics["f1"] = float(f1_score(labels, predicted, zero_division=0))
            every = list(range(num_labels))
            metrics["f1_macro"] = float(
                f1_score(labels, predicted, labels=every, average="macro", zero_division=0)
            )
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
        texts = [rows[self._settings.columns[name][0]] for name in self._settings.inputs]
        for name, column in zip(self._settings.inputs, texts, strict=True):
            for index, text in zip(indices, column, strict=True):
                if not isinstance(text, str):
                    raise DataError(f"the texts of task.{name} must be strings, but row {index} has {text!r}")
        lengths = [len(ids) for ids in self.tokenizer(*texts, verbose=False)["input_ids"]]
        columns = dict(self.tokenizer(*texts, truncation=True, max_length=self._length))
        values = rows[self._settings.label_column]
        columns["labels"] = [self._label(value, index) for value, index in zip(values, indices, strict=True)]
        columns[TRUNCATED] = [length > self._length for length in lengths]
        return columns

    def _label(self, value: Any, index: int) -> int | float:
        if self._settings.regression:
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                raise DataError(f"task.label_column must hold numbers, but row {index} has {value!r}")
            return float(value)
        labels = self._settings.labels
        assert labels is not None
        names = [str(label) for label in labels]
        if self._stated is not None and not set(names).isdisjoint(self._stated):
            # a position among the names that the data states, which can be numbers too
            if value in range(len(self._stated)) and self._stated[value] in names:
                return names.index(self._stated[value])
        elif str(value) in names:
            return names.index(str(value))
        elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(labels):
            return value
        raise DataError(
            f"task.label_column must hold one of {', '.join(names)} or its position, "
            f"but row {index} has {value!r}"
        )


def find_labels(settings: SequenceClassificationSettings) -> tuple[str | int, ...]:
    """The classes of the data: those it states, or the sorted values of its training rows."""
    rows: Dataset = load_rows(settings.data, settings.columns, settings.inputs).splits["train"]
    feature = rows.features[settings.label_column]
    if isinstance(feature, ClassLabel):
        return tuple(feature.names)
    values = {str(value) if isinstance(value, bool) else value for value in rows[settings.label_column]}
    if not all(isinstance(value, str | int) for value in values):
        raise DataError(
            "the classes of task.label_column must be texts or whole numbers, "
            f"but got {sorted(map(str, values))[:5]}; numbers to be predicted are a regression: true"
        )
    if len(values) < 2:
        raise DataError(f"task.label_column must hold two or more classes, but the train split has {values}")
    return tuple(sorted(values, key=lambda value: (isinstance(value, str), value)))
