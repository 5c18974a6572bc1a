"""Completions and plain text against plain transformers, one row and one token at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
)

from jointsearch.config.study import ModelSettings
from jointsearch.config.tasks.causal_lm import CausalLMSettings
from jointsearch.errors import DataError
from jointsearch.training.model.base_model import load_tokenizer
from jointsearch.training.tasks import causal_lm
from jointsearch.training.tasks.language import Generated

Build = Callable[..., Any]


PROMPTS = {"type": "causal-lm", "prompt": "Q: {q}\nA:", "completion": " {a}"}
QUESTIONS = [
    {"q": "which is it?", "a": "red"},
    {"q": "and the very long river, which colour has that one?", "a": "something between green and blue"},
    {"q": "one?", "a": "weiß — the house"},
    {"q": "is the stone white?", "a": "no"},
    {"q": "x", "a": "y"},
]
OTHERS = [{"q": f"other {i}", "a": f"{i}"} for i in range(10)]


@pytest.fixture(scope="module", params=["llama", "gpt2", "gpt_neo"])
def decoder(request: pytest.FixtureRequest, family_models: Path) -> tuple[str, Any]:
    return request.param, AutoModelForCausalLM.from_pretrained(family_models / request.param).eval()


def token_by_token(model: Any, prompt: list[int], completion: list[int]) -> tuple[float, int]:
    """The loss in nats of a completion and how many of its tokens are the likeliest."""
    with torch.no_grad():
        chances = model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
    loss, right = 0.0, 0
    for position, token in enumerate(completion, len(prompt) - 1):
        loss -= chances[position, token].item()
        right += int(chances[position].argmax()) == token
    return loss, right


def test_the_loss_is_on_completions_alone(build: Build, decoder: tuple[str, Any]) -> None:
    family, model = decoder
    task = build(family, QUESTIONS, OTHERS, **PROMPTS, sequence_length=100)
    tokenizer = task.tokenizer
    num_bytes, num_tokens, loss, right = 0, 0, 0.0, 0
    for row in QUESTIONS:
        text = f" {row['a']}"
        completion = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        one = token_by_token(model, tokenizer(f"Q: {row['q']}\nA:")["input_ids"], completion)
        loss, right = loss + one[0], right + one[1]
        num_bytes += len(text.encode())
        num_tokens += len(completion)
    found = task.evaluate(model, "test", None, 2).metrics
    assert found["loss"] == pytest.approx(loss / num_tokens, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(loss / num_tokens), rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(loss / math.log(2) / num_bytes, rel=1e-5)
    assert found["accuracy"] == right / num_tokens
    assert "exact_match" not in found
    assert task.loss(model, "test", None, 5) == pytest.approx(loss / num_tokens, rel=1e-5)
    assert task.notes == []

    batch = task.batch("test", [0, 1])
    lengths = batch["attention_mask"].sum(1)
    assert task.num_tokens(batch) == lengths.sum()
    assert not batch["attention_mask"][0, lengths[0] :].any()  # padded on the right
    assert (batch["labels"][0] != -100).sum() == len(tokenizer(" red")["input_ids"]) + 1


def test_the_loss_of_a_model_that_is_rather_sure(build: Build) -> None:
    """Logits that are 0 but for the right token: p = e⁵ / (e⁵ + vocabulary − 1)."""
    task = build("llama", QUESTIONS, OTHERS, **PROMPTS, sequence_length=100)

    class Sure(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
            logits = 5 * nn.functional.one_hot(input_ids.roll(-1, 1), 320).float()
            return SimpleNamespace(logits=logits)

    loss = math.log(math.exp(5) + 319) - 5
    assert task.loss(Sure(), "test", None, 3) == pytest.approx(loss, rel=1e-5)


def test_padded_prompts_are_gone_on_with_like_single_ones(build: Build, decoder: tuple[str, Any]) -> None:
    family, model = decoder
    settings = {**PROMPTS, "generation": {"max_new_tokens": 8}}
    task = build(family, QUESTIONS[:4], OTHERS, **settings, sequence_length=100)
    outputs = []
    for row in QUESTIONS[:4]:
        ids = task.tokenizer(f"Q: {row['q']}\nA:", return_tensors="pt")["input_ids"]
        config = GenerationConfig(max_new_tokens=8, do_sample=False, eos_token_id=0, pad_token_id=0)
        written = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        outputs.append(task.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))
    found = task.evaluate(model, "test", None, 4)
    assert [example.output for example in found.examples] == outputs
    assert [example.input for example in found.examples] == [f"Q: {row['q']}\nA:" for row in QUESTIONS[:4]]
    assert [example.reference for example in found.examples] == [f" {row['a']}" for row in QUESTIONS[:4]]
    assert found.inference_rate > 0


def test_the_answers_of_a_decoder(build: Build, monkeypatch: pytest.MonkeyPatch, family_models: Path) -> None:
    rows = [{"q": f"q{i}", "a": f"so it is #### {number}"} for i, number in enumerate([1200, 7, 8, 9])]
    texts = ["#### 3 no #### 1,200 end", " #### 7", "8", "#### 10"]
    monkeypatch.setattr(causal_lm, "generate", lambda *_: Generated(texts, 1.0))
    generation = {"answer_pattern": r"#### (-?[\d,]+)"}
    task = build("llama", rows, OTHERS, **PROMPTS, generation=generation, sequence_length=100)
    model = AutoModelForCausalLM.from_pretrained(family_models / "llama")
    assert task.evaluate(model, "test", None, 4).metrics["exact_match"] == 2 / 4


def test_a_tokenizer_without_an_end_of_text(build: Build, family_models: Path) -> None:
    task = build("llama", QUESTIONS, OTHERS, **PROMPTS, sequence_length=100)
    model = AutoModelForCausalLM.from_pretrained(family_models / "llama")
    model.generation_config.eos_token_id = None
    task.tokenizer.eos_token = None
    found = task.evaluate(model, "test", 2, 2)
    assert len(found.examples) == 2
    assert found.inference_rate > 0


def test_prompts_are_cut_on_the_left_and_completions_stay(build: Build) -> None:
    test = [
        {"q": "the red house stands beside the yellow river and the bird", "a": "red"},
        {"q": "x", "a": "blue white black yellow green " * 4},
        {"q": "y", "a": "z"},
    ]
    task = build("llama", test, OTHERS, **PROMPTS, sequence_length=16)
    tokenizer = task.tokenizer
    prompt = tokenizer("Q: the red house stands beside the yellow river and the bird\nA:")["input_ids"]
    completion = [*tokenizer(" red")["input_ids"], 0]
    assert len(prompt) > 16 > len(completion)
    first = task.features("test", [0])[0]
    assert first["input_ids"] == prompt[len(prompt) + len(completion) - 16 :] + completion
    assert first["labels"] == [-100] * (16 - len(completion)) + completion

    long = tokenizer(f" {test[1]['a']}")["input_ids"]
    assert len(long) > 15
    second = task.features("test", [1])[0]
    assert second["input_ids"] == tokenizer("Q: x\nA:")["input_ids"][-1:] + long[:15]
    assert second["labels"] == [-100, *long[:15]]
    assert task.notes == ["test: 2 of 3 rows are cut to 16 tokens"]

    few = build("llama", test, OTHERS, **PROMPTS, sequence_length=100, positions=16)
    assert few.features("test", [0, 1]) == task.features("test", [0, 1])


def test_a_row_that_cannot_be_used_is_left_out_with_its_number(build: Build) -> None:
    rows = [{"q": "a", "a": "b"}, {"q": "c", "a": None}, {"q": "d", "a": "e"}]
    task = build("llama", rows, OTHERS, **PROMPTS)
    assert task.notes == [
        "test: 1 of 3 rows is left out: row 2 of data0 has nothing to learn: no value for 'a'"
    ]
    found = [task.tokenizer.decode(row["input_ids"]) for row in task.features("test", [0, 1])]
    assert found == ["Q: a\nA: b<|endoftext|>", "Q: d\nA: e<|endoftext|>"]


def test_plain_text_is_packed(build: Build) -> None:
    texts = ["the red house", "", "stands — beside", None, " \n ", "a yellow river of stones"]
    train = [{"text": f"training on text number {i} of the train split"} for i in range(40)]
    task = build("llama", [{"text": text} for text in texts], train, type="causal-lm", sequence_length=8)
    tokens: list[int] = []
    for text in ("the red house", "stands — beside", "a yellow river of stones"):
        tokens += [*task.tokenizer(text)["input_ids"], 0]
    num_examples = len(tokens) // 8
    assert num_examples >= 2
    assert task.num_examples("test") == num_examples
    batch = task.batch("test", list(range(num_examples)))
    assert batch["input_ids"].tolist() == [tokens[8 * i : 8 * i + 8] for i in range(num_examples)]
    assert torch.equal(batch["labels"][:, 1:], batch["input_ids"][:, 1:])
    assert set(batch["labels"][:, 0].tolist()) == {-100}  # nothing predicts the first
    assert task.num_tokens(batch) == 8 * num_examples
    # the missing validation split has examples of the training text
    all_tokens = sum(len(task.tokenizer(row["text"])["input_ids"]) + 1 for row in train)
    sizes = [task.num_examples(split) for split in ("train", "validation")]
    assert sum(sizes) == all_tokens // 8
    assert sizes[1] == round(0.3 * (all_tokens // 8))


def test_one_row_that_is_no_text_is_left_out_with_its_number(tmp_path: Path, family_models: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": f"training on text number {i} of the train split"} for i in range(40)
    ]
    rows[3]["text"] = ["a", "b"]
    rows[5]["text"] = 1984
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "type": "causal-lm",
        "sequence_length": 8,
        "data": {"files": {"train": str(tmp_path / "a.jsonl")}},
    }
    tokenizer = load_tokenizer(ModelSettings(id=str(family_models / "llama")))
    task = causal_lm.CausalLM(CausalLMSettings.model_validate(values), tokenizer, None)
    assert task.notes == [
        "train: 1 of 40 rows is left out: line 4 of a.jsonl has ['a', 'b'] in 'text', which is no text"
    ]
    texts = [str(row["text"]) for row in rows if row["text"] != ["a", "b"]]
    num_tokens = sum(len(task.tokenizer(text)["input_ids"]) + 1 for text in texts)
    assert sum(len(split) for split in task.splits.values()) == num_tokens // 8


def test_metrics_of_plain_text(build: Build, decoder: tuple[str, Any]) -> None:
    family, model = decoder
    text = "the yellow river, grün and blau, stands beside the house " * 3
    train = [{"text": f"training on text number {i} of the train split"} for i in range(40)]
    task = build(family, [{"text": text}], train, type="causal-lm", sequence_length=16)
    count = task.num_examples("test")
    tokens = task.tokenizer(text)["input_ids"]
    assert count == (len(tokens) + 1) // 16 >= 3
    loss, right, num_bytes = 0.0, 0, 0
    for start in range(0, 16 * count, 16):
        piece = tokens[start : start + 16]
        one = token_by_token(model, piece[:1], piece[1:])
        loss, right = loss + one[0], right + one[1]
        num_bytes += len(task.tokenizer.decode(piece[1:]).encode())
    found = task.evaluate(model, "test", None, 2)
    assert found.metrics["loss"] == pytest.approx(loss / (15 * count), rel=1e-5)
    assert found.metrics["accuracy"] == right / (15 * count)
    assert found.metrics["bits_per_byte"] == pytest.approx(loss / math.log(2) / num_bytes, rel=1e-5)
    assert found.examples[0].input == task.tokenizer.decode(tokens[:8])
    assert found.examples[0].reference == task.tokenizer.decode(tokens[8:16])


def test_plain_text_that_is_too_short(build: Build) -> None:
    with pytest.raises(DataError, match="the test split must hold an example of 64 tokens"):
        build(
            "llama",
            [{"text": "short"}],
            [{"text": "long enough " * 200}],
            type="causal-lm",
            sequence_length=64,
        )


def test_a_second_worker_finds_everything_tokenized(check_tokenized_once: Callable[..., None]) -> None:
    check_tokenized_once("llama", QUESTIONS, OTHERS, **PROMPTS, sequence_length=32)
