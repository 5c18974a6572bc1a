"""Answers that are found in generated texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from jointsearch.config.generation import GenerationSettings
from jointsearch.training.tasks.answers import answer, before_next_prompt, exact_match, is_same
from jointsearch.training.tasks.language import generate


@pytest.mark.parametrize(
    ("text", "pattern", "found"),
    [
        (" as it is\n", None, "as it is"),
        ("it is 3", r"is (\d+)", "3"),
        ("is 3, no, is 4", r"is (\d+)", "4"),
        ("#### 1,234,567", r"#### ([\d,]+)", "1234567"),
        ("#### -1,000.50", r"#### (-?[\d.,]+)", "-1000.50"),
        ("#### 1,2", r"#### ([\d,]+)", "1,2"),
        ("is red, blue", r"is (.*)", "red, blue"),
        ("nothing", r"is (\d+)", None),
        ("", r"is (\d+)", None),
    ],
)
def test_the_answer_of_a_text(text: str, pattern: str | None, found: str | None) -> None:
    assert answer(text, pattern) == found


def test_a_text_without_an_answer_is_wrong() -> None:
    pattern = r"is (\d+)"
    assert exact_match(["is 1", "is 2", "none", "none"], ["is 1", "is 3", "is 4", "none"], pattern) == 0.25
    assert exact_match(["a ", "b", ""], ["a", "c", ""], None) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("18", "18.00", True),
        ("$1,234".replace(",", ""), "1234", True),
        ("0.5", ".5", True),
        ("5.", "5", True),
        ("-$5", "-5", True),
        ("\N{MINUS SIGN}5", "-5", True),
        ("50 %", "50", True),
        ("50%.", "50", True),
        ("$18.00.", "18", True),
        ("5 €", "+5", True),
        ("1e3", "1000", True),
        ("3/4", "0.75", True),
        ("6 / 8", "3/4", True),
        ("3/4", "3", False),
        ("1/0", "1/0", True),  # as texts
        ("1/0", "2/0", False),
        ("18", "18.01", False),
        ("-5", "5", False),
        ("red", "Red", False),
        ("5 apples", "5", False),
        (None, None, False),
        (None, "5", False),
        ("", "", True),
        ("nan", "nan", True),
        ("inf", "Infinity", False),
    ],
)
def test_answers_are_equal_as_texts_or_numbers(one: str | None, other: str | None, same: bool) -> None:
    assert is_same(one, other) == is_same(other, one) == same


def test_without_a_pattern_texts_are_compared_as_they_are() -> None:
    assert exact_match(["18", "18.0"], ["18", "18"], None) == 0.5


def test_a_text_ends_where_another_prompt_begins() -> None:
    template = "Question: {question}\nAnswer:"
    assert before_next_prompt(" 4\n#### 4\n\nQuestion: more?\nAnswer: #### 5", template) == " 4\n#### 4\n"
    assert before_next_prompt(" 4 Question: more?", template) == " 4 Question: more?"
    for other in ("{question}", "", "\n\n{a}: "):
        assert before_next_prompt(" 4\n#### 4\n\nQ", other) == " 4\n#### 4\n\nQ"
    assert before_next_prompt("x\nBelow is y", "Below is\nan {a}") == "x"


def test_a_next_prompt_that_begins_with_a_value() -> None:
    """Found by what its template has after it, unless solutions have that, too."""
    text = " 4\n#### 4\n\nHow many?\nAnswer: 5\n#### 5"
    assert before_next_prompt(text, "{q}\nAnswer:", " 4\n#### 4") == " 4\n#### 4\n\nHow many?"
    assert before_next_prompt(text, "{q}\nAnswer:", "2 + 2\nAnswer: 4") == text


def test_a_models_own_settings_do_not_change_what_is_generated(family_models: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(family_models / "llama")
    model = AutoModelForCausalLM.from_pretrained(family_models / "llama")
    model.generation_config.eos_token_id = None
    batch = dict(tokenizer(["the red house stands"], return_tensors="pt"))
    batch = {name: batch[name] for name in ("input_ids", "attention_mask")}

    def written(model: Any) -> list[str]:
        return generate(model, [batch], GenerationSettings(), tokenizer, 12).texts

    expected = written(model)
    assert len(set(expected[0].split())) < 12
    own = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "min_new_tokens": 12, "do_sample": True}
    model.generation_config.update(**own, temperature=3.0, bad_words_ids=[[i] for i in range(1, 100)])
    stated = model.generation_config.to_dict()
    config = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")
    assert written(model) == expected
    assert written(get_peft_model(model, config)) == expected
    assert model.generation_config.to_dict() == stated
