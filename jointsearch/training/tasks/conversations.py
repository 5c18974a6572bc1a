"""Conversations as a chat template writes them, and the parts of that text which are the assistant's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from transformers import PreTrainedTokenizerBase

from jointsearch.errors import first_line, one_line
from jointsearch.training.data import UNLABELLED
from jointsearch.training.tasks.learned import Span, learned_tokens, shared_length

Message = dict[str, Any]

_USUAL_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_ROLES = {role: role for role in _USUAL_ROLES} | {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "ai": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
}
"""What files call roles, in lower case."""

_CONTENT = ("value", "text")
"""Other keys of what a message says."""

_TAG = re.compile(r"{%-?\s*generation\s*-?%}")

_MARK = "\N{WHITE SQUARE}jointsearch\N{WHITE SQUARE}"
"""Stands for a message's content, to find out where a template puts it."""


NUM_LOOKED_AT = 20
"""Conversations in which what a chat template leaves out is looked for."""


class Conversations:
    """What ``template`` (None: the tokenizer's own) makes of conversations."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        own = template or tokenizer.chat_template
        self._has_tags = isinstance(own, str) and bool(_TAG.search(own)) and tokenizer.is_fast

    def tokens(self, value: Any, *, last_only: bool) -> tuple[list[int], list[bool]]:
        """The tokens of a conversation and whether each is learned: those of the assistant's messages.

        Raises ``ValueError`` with what is wrong with the row.
        """
        messages = up_to_the_last_answer(messages_of(value))
        for at in self._unwritten(messages):
            if messages[at]["role"] not in ("system", "developer"):
                raise ValueError(
                    f"has a message of '{messages[at]['role']}' that the chat template leaves out; "
                    "give one with task.chat_template"
                )
        found = self._by_tags(messages) if self._has_tags else None
        if found is None:
            whole = self._written(messages)
            answers = [at for at, message in enumerate(messages) if message["role"] == "assistant" and at]
            spans = [self._span(messages, at, whole) for at in (answers[-1:] if last_only else answers)]
            return learned_tokens(self._tokenizer, whole, spans, special=False)
        ids, learned = found
        start = start_of_last(learned) if last_only else 0
        return ids, [is_learned and at >= start for at, is_learned in enumerate(learned)]

    def notes(self, values: Sequence[Any]) -> list[str]:
        """What usable conversations lose by the template: a system's messages, a part of the last answer."""
        lost = {}
        for value in islice(values, NUM_LOOKED_AT):
            messages = up_to_the_last_answer(messages_of(value))
            for at in self._unwritten(messages):
                lost[f"what '{messages[at]['role']}' says"] = True
            if _letters(messages[-1].get("content", "")) not in _letters(self._written(messages)):
                lost["a part of the last answer, such as its thoughts"] = True
        return [
            f"the chat template leaves out {what}; "
            "if it is to be learned from, give one with task.chat_template"
            for what in lost
        ]

    def _unwritten(self, messages: list[Message]) -> list[int]:
        """The messages to the assistant of which nothing is written: another role than the template knows."""
        marks = {
            at: f"{_MARK}{at}{_MARK}"
            for at, message in enumerate(messages)
            if message["role"] != "assistant" and message.get("content", "").strip()
        }
        marked = [
            {**message, "content": marks[at]} if at in marks else message
            for at, message in enumerate(messages)
        ]
        text = self._written(marked).lower()
        return [at for at, mark in marks.items() if mark not in text]

    def _by_tags(self, messages: list[Message]) -> tuple[list[int], list[bool]] | None:
        """By what the template has within ``{% generation %}``; None where it has no such tags."""
        encoded = self._applied(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        learned = [bool(mark) for mark in encoded["assistant_masks"]]
        return (encoded["input_ids"], learned) if any(learned) else None

    def _span(self, messages: list[Message], at: int, whole: str) -> Span:
        """Where the answer of the message ``at`` is: after what asks for it, up to the end of its turn.

        A template can write a message in another way once others follow it, as those do that leave
        thoughts out: then its content is found by putting a mark in its place.
        """
        before = self._written(messages[:at], add_generation_prompt=True)
        start = shared_length(before, whole)
        if start < len(before) and not whole.startswith(self._written(messages[:at])):
            raise ValueError("has a message before which the chat template changes what was said")
        if at == len(messages) - 1:
            return start, len(whole)
        after = self._written(messages[: at + 1])
        if whole.startswith(after):
            return start, len(after)
        rest = self._after_content(messages, at)
        # what ends every answer follows the content of this one and of the last
        end_of_turn = shared_length(rest, self._after_content(messages, len(messages) - 1))
        return start, len(whole) - len(rest) + end_of_turn

    def _after_content(self, messages: list[Message], at: int) -> str:
        """What the conversation has after the content of the message ``at``."""
        marked = [*messages[:at], {**messages[at], "content": _MARK}, *messages[at + 1 :]]
        text = self._written(marked)
        if _MARK not in text:
            raise ValueError("has a message that the chat template leaves out")
        return text[text.rindex(_MARK) + len(_MARK) :]

    def _written(self, messages: list[Message], **options: Any) -> str:
        return str(self._applied(messages, tokenize=False, **options))

    def _applied(self, messages: list[Message], **options: Any) -> Any:
        try:
            return self._tokenizer.apply_chat_template(messages, chat_template=self._template, **options)
        except Exception as error:  # Jinja's, or the template's own
            raise ValueError(
                f"does not fit the chat template ({first_line(error)}); give one with task.chat_template"
            ) from None


def messages_of(value: Any) -> list[Message]:
    """A conversation as ``{role, content}`` with texts; raises ``ValueError`` with what is wrong with it."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError):  # said below
            value = json.loads(value)
    if not isinstance(value, list) or not all(isinstance(message, Mapping) for message in value):
        raise ValueError(f"has {one_line(repr(value), 80)} instead of a list of {{role, content}}")
    return [_message(message) for message in value]


def _message(given: Mapping[str, Any]) -> Message:
    message: Message = _without_missing(given)
    if "role" not in message and "from" in message:
        message["role"] = message.pop("from")
    for key in _CONTENT:
        if "content" not in message and key in message:
            message["content"] = message.pop(key)
    if not isinstance(message.get("role"), str):
        raise ValueError(f"has a message without a role: {one_line(repr(dict(given)), 80)}")
    message["role"] = _ROLES.get(message["role"].strip().lower(), message["role"])
    if "content" in message:
        message["content"] = _text(message["content"])
    elif "tool_calls" not in message:
        raise ValueError(f"has a message without content: {one_line(repr(dict(given)), 80)}")
    return message


def _without_missing(value: Any) -> Any:
    """Without the keys that have no value: tables give every mapping of a column the keys of all."""
    if isinstance(value, Mapping):
        return {name: _without_missing(of) for name, of in value.items() if of is not None}
    return [_without_missing(of) for of in value] if isinstance(value, list) else value


def _text(content: Any) -> str:
    """A text, or the texts of its parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, list):
        texts = [part if isinstance(part, str) else _text_of_part(part) for part in content]
        return "".join(texts)
    raise ValueError(f"has a message whose content is no text: {one_line(repr(content), 80)}")


def _text_of_part(part: Any) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
    if not isinstance(text, str):
        raise ValueError(f"has a message with a part that is no text: {one_line(repr(part), 80)}")
    return text


def up_to_the_last_answer(messages: list[Message]) -> list[Message]:
    """Raises ``ValueError`` where the assistant does not answer anything."""
    last = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=0)
    if last == 0:
        unusual = {str(message["role"]) for message in messages} - set(_USUAL_ROLES)
        roles = f" (there are the roles {', '.join(sorted(unusual))})" if unusual else ""
        raise ValueError(f"{UNLABELLED}: no assistant's message after another{roles}")
    return messages[: last + 1]


def start_of_last(learned: list[bool]) -> int:
    """Where the last learned tokens that follow each other begin; the length where none is learned."""
    at = len(learned)
    while at and not learned[at - 1]:
        at -= 1
    if not at:
        return len(learned)
    while at and learned[at - 1]:
        at -= 1
    return at


def _letters(text: str) -> str:
    """Without what templates change: space and case."""
    return "".join(text.split()).casefold()
