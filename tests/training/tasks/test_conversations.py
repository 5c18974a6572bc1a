"""Conversations, of which what the assistant says is learned, and the chat templates that write them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

import pytest

from jointsearch.config.fields import with_former_defaults
from jointsearch.config.study import StudyConfig
from jointsearch.errors import DataError
from jointsearch.training.tasks.conversations import messages_of, up_to_the_last_answer

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


END = "<|endoftext|>"
SETTINGS = {"type": "causal-lm", "messages_column": "talk", "chat_template": CHAT}


def parts(task: Any, position: int = 0) -> list[tuple[bool, str]]:
    """The text of a test example, divided by whether it is learned."""
    (row,) = task.features("test", [position])
    pairs = zip(row["input_ids"], row["labels"], strict=True)
    assert all(label in (-100, token) for token, label in pairs)
    groups = groupby(zip(row["input_ids"], row["labels"], strict=True), lambda pair: pair[1] != -100)
    return [
        (is_learned, task.tokenizer.decode([token for token, _ in group])) for is_learned, group in groups
    ]


def test_all_that_the_assistant_says_is_learned(build: Build) -> None:
    task = build("llama", conversations(TALKS), conversations(OTHER_TALKS), **SETTINGS)
    assert parts(task) == [
        (False, f"system: be short{END}user: which?{END}assistant:"),
        (True, f" red{END}"),  # of the whole text, where the space is in one token with the word
        (False, f"user: sure?{END}assistant: "),
        (True, f"yes{END}"),
    ]
    # what follows the last answer is left out
    assert parts(task, 1) == [(False, f"user: the house?{END}assistant:"), (True, f" blue one{END}")]
    assert (
        task.features("test", [1])[0]["input_ids"]
        == (task.tokenizer(f"user: the house?{END}assistant: blue one{END}")["input_ids"])
    )


def test_the_last_answer_alone_is_learned_where_that_is_asked_for(build: Build) -> None:
    task = build(
        "llama", conversations(TALKS), conversations(OTHER_TALKS), **SETTINGS, assistant_turns="last"
    )
    assert parts(task) == [
        (False, f"system: be short{END}user: which?{END}assistant: red{END}user: sure?{END}assistant: "),
        (True, f"yes{END}"),
    ]


TAGGED = (
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
# As Qwen3 does: the thoughts of earlier answers are left out, the last has empty ones.
THINKING = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
# As R1's does: what asks for an answer begins thoughts.
OPENING = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>{% endif %}"
)
ENDED_ONCE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% else %}{{ eos_token }}{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "answers"),
    [
        (TAGGED, ["red", "yes"]),
        (THINKING, [f"red{END}", f"<think></think>yes{END}"]),
        (OPENING, [f"red{END}", f"yes{END}"]),
        (ENDED_ONCE, ["red\n", f"yes\n{END}"]),
    ],
)
def test_what_templates_make_of_answers(build: Build, template: str, answers: list[str]) -> None:
    values = {**SETTINGS, "chat_template": template}
    task = build("llama", conversations(TALKS[:1]), conversations(OTHER_TALKS), **values)
    found = parts(task)
    assert [text.lstrip(" ") for is_learned, text in found if is_learned] == answers
    last = build(
        "llama", conversations(TALKS[:1]), conversations(OTHER_TALKS), **values, assistant_turns="last"
    )
    assert [text.lstrip(" ") for is_learned, text in parts(last) if is_learned] == answers[-1:]
    assert "".join(text for _, text in parts(last)) == "".join(text for _, text in found)


def pair(question: Any, said: Any, *, role: str = "role", content: str = "content") -> Row:
    names = ("human", "gpt") if role == "from" else ("user", "assistant")
    return {"talk": [{role: names[0], content: question}, {role: names[1], content: said}]}


@pytest.mark.parametrize(
    "row",
    [
        pair(
            [{"type": "text", "text": "wh"}, {"type": "text", "text": "o?"}], [{"type": "text", "text": "me"}]
        ),
        pair([{"text": "who?"}], [{"text": "m"}, {"text": "e"}]),
        pair(["who?"], ["m", "e"]),
        pair("who?", "me", role="from", content="value"),
        {"talk": json.dumps(pair("who?", "me")["talk"])},
        {"talk": [{**message, "name": None} for message in pair("who?", "me")["talk"]]},
    ],
)
def test_other_ways_to_write_conversations(build: Build, row: Row) -> None:
    # of one type in a column
    others = [
        json.loads(json.dumps(row).replace("who?", f"who{i}?").replace("o?", f"o{i}?")) for i in range(9)
    ]
    task = build("llama", [row], others, **SETTINGS)
    assert parts(task) == [(False, f"user: who?{END}assistant: "), (True, f"me{END}")]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "does not fit the chat template ("),
        (
            "{% for m in messages %}{{ '' if loop.last else '<' }}{{ m.content }}{% endfor %}",
            "has a message before which the chat template changes what was said",
        ),
        (
            "{% for m in messages if m.role == 'assistant' %}{{ m.content }}{% endfor %}",
            "has a message of 'user' that the chat template leaves out; give one with task.chat_template",
        ),
        ("{% for m in messages %}", "does not fit the chat template ("),
        (
            "{{ raise_exception('only users') }}",
            "does not fit the chat template (only users); give one with task.chat_template",
        ),
    ],
)
def test_chat_templates_that_do_not_fit(build: Build, template: str | None, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        build(
            "llama",
            conversations(TALKS),
            conversations(OTHER_TALKS),
            type="causal-lm",
            messages_column="talk",
            chat_template=template,
        )
    assert str(caught.value).startswith(
        "at most 10% of the rows of the train split may be left out, but 10 of 10"
    )


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        ([{"role": "user", "content": "a"}], "has nothing to learn: no assistant's message after another"),
        (
            [{"role": "assistant", "content": "a"}],
            "has nothing to learn: no assistant's message after another",
        ),
        ([], "has nothing to learn: no assistant's message after another"),
        ("user: a", "has 'user: a' instead of a list of {role, content}"),
        (["a", "b"], "has ['a', 'b'] instead of a list of {role, content}"),
        (
            [{"who": "user", "content": "a"}] * 2,
            "has a message without a role: {'who': 'user', 'content': 'a'}",
        ),
        ([{"role": "user"}] * 2, "has a message without content: {'role': 'user'}"),
        ([{"role": "user", "content": 3}] * 2, "has a message whose content is no text: 3"),
        (
            [{"role": "user", "content": [{"type": "image", "url": "x"}]}] * 2,
            "has a message with a part that is no text: {'type': 'image', 'url': 'x'}",
        ),
    ],
)
def test_conversations_that_cannot_be_used(talk: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        up_to_the_last_answer(messages_of(talk))


@pytest.mark.parametrize(
    ("asks", "answers"),
    [
        ("User", "Assistant"),
        ("HUMAN", "AI"),
        ("prompter", "assistant "),
        (" user", "Bot"),
        ("human", "model"),
    ],
)
def test_other_names_of_roles(asks: str, answers: str) -> None:
    found = up_to_the_last_answer(
        messages_of([{"role": asks, "content": "a"}, {"from": answers, "text": "b", "name": None}])
    )
    assert found == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def test_roles_that_no_one_knows_are_named() -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "agent", "content": "b"}]
    with pytest.raises(ValueError, match=r"after another \(there are the roles agent\)$"):
        up_to_the_last_answer(messages_of(talk))


def test_keys_that_other_messages_have_are_no_part_of_a_call() -> None:
    call = {"function": {"name": "f", "arguments": {"city": "Rome", "days": None}}}
    (message,) = messages_of([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert message["tool_calls"] == [{"function": {"name": "f", "arguments": {"city": "Rome"}}}]


def test_what_a_template_leaves_out_is_said(build: Build) -> None:
    """As R1's does: no system, no thoughts; a tool's message that it does not know costs its row."""
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}{% endif %}"
        "{% if m.role == 'assistant' %}<a>{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    )
    talks = [
        [("system", "be short"), ("user", f"who {i}?"), ("assistant", "<think>hm</think>me")]
        for i in range(11)
    ]
    talks.append([("user", "when?"), ("tool", "12:00"), ("assistant", "now")])
    values = {**SETTINGS, "chat_template": template}
    task = build("llama", conversations(OTHER_TALKS), conversations(talks), **values)
    said = "if it is to be learned from, give one with task.chat_template"
    assert task.notes == [
        "train: 1 of 12 rows is left out: row 12 of data0 has a message of 'tool' that the chat template "
        "leaves out; give one with task.chat_template",
        f"the chat template leaves out what 'system' says; {said}",
        f"the chat template leaves out a part of the last answer, such as its thoughts; {said}",
    ]
    kept = build("llama", conversations(TALKS[1:]), conversations(OTHER_TALKS), **values)
    assert not any("leaves out" in note for note in kept.notes)


def test_one_conversation_without_an_answer_stops_nothing(build: Build) -> None:
    talks = conversations([*TALKS, [("user", "a")], *OTHER_TALKS])
    task = build(
        "llama", talks, conversations([[("user", f"t{i}"), ("assistant", "a")] for i in range(9)]), **SETTINGS
    )
    assert task.notes == [
        "test: 1 of 13 rows is left out: row 3 of data0 has nothing to learn: "
        "no assistant's message after another"
    ]
    assert task.num_examples("test") == 12


def test_a_test_split_without_answers_is_not_used(build: Build) -> None:
    talks = conversations([[("user", "a")], [("user", "b")]])
    task = build("llama", talks, conversations(OTHER_TALKS), **SETTINGS)
    assert task.num_examples("test") == 0
    assert task.num_examples("validation") == 3
    assert task.notes == [
        "test: no row can be used (row 1 has nothing to learn: no assistant's message after another), "
        "so that nothing is measured on the test split"
    ]


def test_what_was_stored_before_goes_on_with_the_last_answer() -> None:
    def config(**task: Any) -> StudyConfig:
        values = {"type": "causal-lm", "data": {"hub": "a/b"}, **task}
        return StudyConfig.model_validate({"name": "x", "model": {"id": "m"}, "task": values})

    given = config(messages_column="talk")
    assert given.task.assistant_turns == "all"  # type: ignore[attr-defined]
    stored = given.model_dump(mode="json")
    assert StudyConfig.model_validate(stored) == given
    del stored["task"]["assistant_turns"]  # as 0.1.0 stored it
    before = StudyConfig.model_validate(stored)
    assert before.task.assistant_turns == "last"  # type: ignore[attr-defined]
    assert with_former_defaults(given, before) == before
    # who says it anew is told that it was otherwise
    said = config(messages_column="talk", assistant_turns="all")
    assert with_former_defaults(said, before) != before
    plain = config().model_dump(mode="json")
    del plain["task"]["assistant_turns"]
    assert StudyConfig.model_validate(plain) == config()
