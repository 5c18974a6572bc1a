"""Which task a data set is for, and the settings that name its columns, by their names and values."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from jointsearch.errors import DataError

Columns = dict[str, list[Any]]
"""The first values of every column."""
Settings = dict[str, Any]

PROMPTS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("input", "output"),
)
TRANSLATED = (
    ("source", "target"),
    ("document", "summary"),
    ("dialogue", "summary"),
    ("article", "highlights"),
    ("article", "summary"),
    ("text", "summary"),
)
TEXT_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
)
TEXTS = ("text", "sentence", "content", "body", "document", "review", "comment")
LABELS = ("label", "labels", "class", "category", "sentiment", "target", "score", "rating", "stars")

MAX_CLASSES = 20
"""A column of so few different values can be that of classes, whatever its name."""


def proposed_task(columns: Columns) -> str:
    """The task that the columns look like: plain text where nothing else fits."""
    for task, look in _LOOKS:
        if look(columns) is not None:
            return task
    return "causal-lm"


def settings_for(task: str, columns: Columns) -> Settings:
    """The settings of ``task`` that name its columns; raises ``DataError`` where the data lacks them.

    Of data that could not be looked at they are the names that such data often has. Of a task that another
    package brings only its defaults are known.
    """
    if task not in _USUAL:
        return {}
    if not columns:
        return dict(_USUAL[task])
    looks = [look for name, look in (*_LOOKS, *_FALLBACKS) if name == task]
    found = next((settings for look in looks if (settings := look(columns)) is not None), None)
    if found is None:
        raise DataError(f"{task} must have {_NEEDS[task]}, but the data has the columns {', '.join(columns)}")
    return found


def _messages(columns: Columns) -> Settings | None:
    names = (name for name, values in columns.items() if _is_conversation(values[0]))
    name = next(names, None)
    return None if name is None else {"messages_column": name}


def _is_conversation(value: Any) -> bool:
    turns = value if isinstance(value, list) and value else [None]
    return all(isinstance(turn, dict) and {"role", "content"} <= set(turn) for turn in turns)


def _spans(columns: Columns) -> Settings | None:
    usual = _USUAL["question-answering"]
    return dict(usual) if set(usual.values()) <= set(columns) else None


def _prompts(columns: Columns) -> Settings | None:
    for prompt, completion in PROMPTS:
        if prompt in columns and completion in columns:
            return {"prompt": f"{{{prompt}}}\n", "completion": f"{{{completion}}}"}
    return None


def _translated(columns: Columns) -> Settings | None:
    for source, target in TRANSLATED:
        if source in columns and target in columns:
            return {"source": f"{{{source}}}", "target": f"{{{target}}}"}
    first = columns.get("translation", [None])[0]
    if isinstance(first, dict) and len(first) == 2:
        source, target = first
        return {"source": f"{{translation.{source}}}", "target": f"{{translation.{target}}}"}
    return None


def _labelled(columns: Columns) -> Settings | None:
    label = next((name for name in LABELS if name in columns), None)
    return None if label is None else _with_label(columns, label)


def _few_classes(columns: Columns) -> Settings | None:
    for name, values in columns.items():
        if len({str(value) for value in values}) <= min(MAX_CLASSES, len(values) // 2):
            return _with_label(columns, name)
    return None


def _with_label(columns: Columns, label: str) -> Settings | None:
    others = {name: values for name, values in columns.items() if name != label}
    pair = next(((a, b) for a, b in TEXT_PAIRS if a in others and b in others), None)
    text = pair[0] if pair else _text_column(others)
    if text is None:
        return None
    settings: Settings = {"text_column": text}
    if pair:
        settings["text_pair_column"] = pair[1]
    settings["label_column"] = label
    if any(_is_number(value) and not float(value).is_integer() for value in columns[label]):
        settings["regression"] = True
    return settings


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _two_texts(columns: Columns) -> Settings | None:
    plain = (name for name, values in columns.items() if name.isidentifier() and _is_text(values))
    for source, target in pairwise(plain):  # other names mean something else in a template
        return {"source": f"{{{source}}}", "target": f"{{{target}}}"}
    return None


def _plain_text(columns: Columns) -> Settings | None:
    text = _text_column(columns)
    return None if text is None else {"text_column": text}


def _text_column(columns: Columns) -> str | None:
    """By its name, else the one with the longest values."""
    texts = [name for name, values in columns.items() if _is_text(values)]
    named = next((name for name in TEXTS if name in texts), None)
    return named or max(texts, key=lambda name: sum(map(len, columns[name])), default=None)


def _is_text(values: list[Any]) -> bool:
    """Words: in a CSV file numbers are texts, too."""
    return all(isinstance(value, str) for value in values) and not all(map(_is_number, values))


Look = Callable[[Columns], Settings | None]

_LOOKS: tuple[tuple[str, Look], ...] = (
    ("causal-lm", _messages),
    ("question-answering", _spans),
    ("causal-lm", _prompts),
    ("seq2seq-lm", _translated),
    ("sequence-classification", _labelled),
    ("causal-lm", _plain_text),
)
"""What is looked for, in this order; the first that fits is proposed."""

_FALLBACKS: tuple[tuple[str, Look], ...] = (
    ("seq2seq-lm", _two_texts),
    ("sequence-classification", _few_classes),
)
"""For a task that a person has chosen."""

_USUAL: dict[str, Settings] = {
    "causal-lm": {"text_column": "text"},
    "seq2seq-lm": {"source": "{source}", "target": "{target}"},
    "sequence-classification": {"text_column": "text", "label_column": "label"},
    "question-answering": {
        "question_column": "question",
        "context_column": "context",
        "answers_column": "answers",
    },
}

_NEEDS = {
    "causal-lm": "a column of text, of messages, or two of prompts and completions",
    "seq2seq-lm": "two columns of text, the source and the target",
    "sequence-classification": "a column of text and one of labels",
    "question-answering": "the columns question, context and answers, as SQuAD has them",
}
