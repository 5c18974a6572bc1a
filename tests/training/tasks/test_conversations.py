"""Conversations, which are learned by their last message, and the chat templates that write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from jointsearch.errors import DataError

Build = Callable[..., Any]
Row = dict[str, Any]


CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TALKS = [
    [
        ("system", "be short"),
        ("user", "which?"),
        ("assistant", "red"),
        ("user", "sure?"),
        ("assistant", "yes"),
    ],
    [("user", "the house?"), ("assistant", "blue one"), ("user", "thanks")],
]
OTHER_TALKS = [[("user", f"u{i}"), ("assistant", "a")] for i in range(10)]


def conversations(talks: Iterable[list[tuple[str, str]]]) -> list[Row]:
    return [{"talk": [{"role": role, "content": text} for role, text in talk]} for talk in talks]


def test_conversations_are_learned_by_their_last_message(build: Build) -> None:
    settings = {"type": "causal-lm", "messages_column": "talk", "chat_template": CHAT}
    task = build("llama", conversations(TALKS), conversations(OTHER_TALKS), **settings)
    end = "<|endoftext|>"
    expected = [
        (
            f"system: be short{end}user: which?{end}assistant: red{end}user: sure?{end}assistant: ",
            f"yes{end}",
        ),
        (f"user: the house?{end}assistant: ", f"blue one{end}"),  # what follows it is left out
    ]
    for (before, last), found in zip(expected, task.features("test", [0, 1]), strict=True):
        prompt, completion = (task.tokenizer(text)["input_ids"] for text in (before, last))
        assert completion[-1] == 0
        assert found["input_ids"] == prompt + completion
        assert found["labels"] == [-100] * len(prompt) + completion


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "the chat template must fit the conversations, but: "),
        (
            "{% for m in messages %}{{ m.content if loop.last else 'cut' }}{% endfor %}",
            "must put the last message after the prompt, but it changes what is before",
        ),
        ("{% for m in messages %}", "the chat template must fit the conversations, but: "),
        ("{{ raise_exception('only users') }}", "must fit the conversations, but: only users; give one with"),
    ],
)
def test_chat_templates_that_do_not_fit(build: Build, template: str | None, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        build(
            "llama",
            conversations(TALKS),
            conversations(OTHER_TALKS),
            type="causal-lm",
            messages_column="talk",
            chat_template=template,
        )


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        ([{"role": "user", "content": "a"}], "must have an assistant's message after another"),
        ([{"role": "assistant", "content": "a"}], "must have an assistant's message after another"),
        ([], "must have an assistant's message after another"),
        ("user: a", "task.messages_column must hold lists of {role, content}, but got 'user: a'"),
        (["a", "b"], "task.messages_column must hold lists of {role, content}, but got ['a', 'b']"),
        ([{"from": "user", "value": "a"}] * 2, "row 0 of the data has no value for 'role'"),
    ],
)
def test_conversations_that_cannot_be_used(build: Build, talk: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        build(
            "llama",
            [{"talk": talk}],
            conversations(OTHER_TALKS),
            type="causal-lm",
            messages_column="talk",
            chat_template=CHAT,
        )
