"""Answers in texts that are longer than a window: spans, scores of SQuAD, and rows that cannot be used."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from jointsearch.errors import DataError

Build = Callable[..., Any]
Row = dict[str, Any]


class Pointer(nn.Module):
    """Starts and ends at words, each with a logit; 0 for all others."""

    def __init__(self, tokenizer: Any, starts: dict[str, float], ends: dict[str, float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        ids = tokenizer.convert_tokens_to_ids
        self.starts, self.ends = ({ids(word): v for word, v in d.items()} for d in (starts, ends))
        assert tokenizer.unk_token_id not in {*self.starts, *self.ends}

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        start, end = (
            sum((value * (input_ids == token) for token, value in points.items()), torch.zeros(()))
            for points in (self.starts, self.ends)
        )
        return SimpleNamespace(start_logits=start, end_logits=end)


ANSWERS = {"type": "question-answering", "max_length": 32, "stride": 8}


def asked(context: str, *answers: str, question: str = "which boat ?", at: int | None = None) -> Row:
    starts = [context.lower().index(text.lower()) if at is None else at for text in answers]
    return {"question": question, "context": context, "answers": {"text": answers, "answer_start": starts}}


KNOWN = [asked(f"a green tree {'lamp ' * i}", "green", question=f"which road {i} ?") for i in range(10)]
UNKNOWN = {**asked("a green tree"), "question": "which bird ?"}
# 30 words, the answer, 20 words; a window has [CLS], three words, [SEP], 26 words of context, [SEP]
LONG = "tree river stone " * 10 + "red house " + "stone tree " * 10


def test_an_answer_in_the_second_of_three_windows(build: Build) -> None:
    task = build("bert", [asked(LONG, "red house")], KNOWN, **ANSWERS)
    windows = task.features("test", [0, 1, 2])
    assert task.num_examples("test") == 3
    assert [len(window["input_ids"]) for window in windows] == [32, 32, 5 + 16 + 1]
    # the second window starts at word 26 - 8, the third at 36; no answer: the position of [CLS]
    assert [(w["start_positions"], w["end_positions"]) for w in windows] == [(0, 0), (5 + 12, 5 + 13), (0, 0)]
    pointer = Pointer(task.tokenizer, {"red": 10}, {"house": 10})
    found = task.evaluate(pointer, "test", None, 1)
    assert found.examples[0].output == "red house"
    assert (found.metrics["exact_match"], found.metrics["f1"]) == (1, 1)
    loss = (math.log(32) + math.log(math.exp(10) + 31) - 10 + math.log(22)) / 3
    assert found.metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert task.loss(pointer, "test", None, 1) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_questions_without_an_answer(build: Build, batch_size: int) -> None:
    rows = [asked(LONG, "red house"), asked("stone " * 30), asked("one blue lamp", "blue")]
    learned = build(
        "bert", rows, [*KNOWN, UNKNOWN, *({**UNKNOWN, "question": f"{i}"} for i in range(9))], **ANSWERS
    )
    pointer = Pointer(learned.tokenizer, {"red": 10, "[CLS]": 3}, {"house": 10, "[CLS]": 3})
    found = learned.evaluate(pointer, "test", None, batch_size)
    assert [example.output for example in found.examples] == ["red house", "(no answer)", "(no answer)"]
    assert [example.reference for example in found.examples] == ["red house", "(no answer)", "blue"]
    assert found.metrics["exact_match"] == pytest.approx(2 / 3)
    assert found.metrics["f1"] == pytest.approx(2 / 3)
    # a limit is of questions: the first has three windows
    two = learned.evaluate(pointer, "test", 2, batch_size)
    assert len(two.examples) == 2
    assert two.metrics["exact_match"] == 1
    # where all that is learned has an answer, one is always given
    always = build("bert", rows, KNOWN, **ANSWERS).evaluate(pointer, "test", None, batch_size)
    assert "(no answer)" not in {example.output for example in always.examples}


@pytest.mark.parametrize(
    ("longest", "output"), [(7, "red house beside tree stone river bird"), (6, "red house beside tree")]
)
def test_the_longest_answer(build: Build, longest: int, output: str) -> None:
    rows = [asked("one red house beside tree stone river bird", "red")]
    task = build("bert", rows, KNOWN, **ANSWERS, max_answer_length=longest)
    pointer = Pointer(task.tokenizer, {"red": 10}, {"bird": 10, "tree": 4, "one": 11})
    assert task.evaluate(pointer, "test", None, 1).examples[0].output == output


@pytest.mark.parametrize(
    ("start", "end", "answers", "exact", "f1"),
    [
        ("the", "house", ["red house"], 1, 1),  # articles do not count
        ("red", "house", ["red house,", "RED"], 1, 1),  # nor does punctuation
        ("red", "stands", ["red house"], 0, 0.8),  # precision 2/3, recall 1
        ("red", "red", ["red house, stands"], 0, 0.5),  # precision 1, recall 1/3
        ("red", "house", ["stands", "red house", "red"], 1, 1),  # the best of several
        ("red", "house", ["stands", "Red House"], 1, 1),  # nor do capitals
        ("stands", "stands", ["red"], 0, 0),
    ],
)
def test_exact_match_and_f1_of_squad(
    build: Build, start: str, end: str, answers: list[str], exact: float, f1: float
) -> None:
    rows = [asked("The red house, stands beside", *answers), asked("green tree", "tree")]
    task = build("bert", rows, KNOWN, **ANSWERS)
    pointer = Pointer(task.tokenizer, {start: 10, "tree": 10}, {end: 10, "tree": 10})
    found = task.evaluate(pointer, "test", None, 2).metrics
    assert found["exact_match"] == pytest.approx((exact + 1) / 2)
    assert found["f1"] == pytest.approx((f1 + 1) / 2)


def test_a_model_with_fewer_positions_than_a_window(build: Build) -> None:
    """64 positions: windows overlap by 31 tokens, and a question has 25."""
    long = "lamp " * 70 + "red"
    rows = [asked(long, "red"), asked(long, "red", question="stone " * 40)]
    task = build("bert", rows, KNOWN, type="question-answering", positions=64)
    windows = task.splits["test"].to_list()
    assert all(len(window["input_ids"]) <= 64 for window in windows)
    red = task.tokenizer.convert_tokens_to_ids("red")
    answered = [w for w in windows if w["start_positions"]]
    assert len(answered) >= 2
    assert {w["input_ids"][w["start_positions"]] for w in answered} == {red}
    assert task.notes and "windows have a question that is cut to 64 tokens" in task.notes[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            asked("red house", "red", at=7),
            "row 1 of data0 has the answer 'red', which its context of 9 characters does not have at 7",
        ),
        (asked("red house", "red", at=2), "does not have at 2"),
        (asked("red house", "red", at=-1), "does not have at -1"),
        ({**asked("red"), "context": None}, "row 1 of data0 has no text in 'context'"),
        (
            {**asked("red"), "answers": {"text": ["red"], "answer_start": []}},
            "row 1 of data0 has 1 answers and 0 starts",
        ),
    ],
)
def test_answers_that_cannot_be_used(build: Build, row: Row, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        build("bert", [row], KNOWN, **ANSWERS)


def test_answers_as_a_list_of_mappings(build: Build) -> None:
    def listed(row: Row) -> Row:
        pairs = zip(*row["answers"].values(), strict=True)
        return {**row, "answers": [{"text": text, "answer_start": start} for text, start in pairs]}

    rows = [asked(LONG, "red house"), asked("one blue lamp", "blue")]
    task = build("bert", [listed(row) for row in rows], [listed(row) for row in KNOWN], **ANSWERS)
    same = build("bert", rows, KNOWN, **ANSWERS)
    assert task.features("test", [0, 1, 2, 3]) == same.features("test", [0, 1, 2, 3])


def test_answers_of_another_kind(build: Build) -> None:
    texts = [{**row, "answers": "green"} for row in KNOWN]
    with pytest.raises(DataError, match=r"has 'green' in 'answers', which must hold \{text: "):
        build("bert", texts[:1], [{**row, "question": f"{i}"} for i, row in enumerate(texts)], **ANSWERS)


def test_a_second_worker_finds_everything_tokenized(check_tokenized_once: Callable[..., None]) -> None:
    check_tokenized_once("bert", [asked(LONG, "red house")], KNOWN, **{**ANSWERS, "max_length": 48})
