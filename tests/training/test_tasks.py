"""Each task's examples and metrics against values by hand, or from plain transformers, one at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict
from pydantic import TypeAdapter
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
)

from jointsearch.config.study import ModelSettings, StudyConfig
from jointsearch.config.task import TaskSettings
from jointsearch.errors import DataError
from jointsearch.training.model.architecture import load_config
from jointsearch.training.model.base_model import load_tokenizer
from jointsearch.training.tasks import build_task, causal_lm, seq2seq_lm
from jointsearch.training.tasks.causal_lm import CausalLM
from jointsearch.training.tasks.language import Generated, answer, exact_match
from jointsearch.training.tasks.question_answering import QuestionAnswering
from jointsearch.training.tasks.seq2seq_lm import Seq2SeqLM
from jointsearch.training.tasks.sequence_classification import SequenceClassification, find_labels

SETTINGS: TypeAdapter[Any] = TypeAdapter(TaskSettings)
KINDS = {
    "causal-lm": CausalLM,
    "seq2seq-lm": Seq2SeqLM,
    "sequence-classification": SequenceClassification,
    "question-answering": QuestionAnswering,
}
Build = Callable[..., Any]
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., str]:
    """A folder with the rows of ``test``, which keep their order, and others to train on."""

    def saved(test: list[Row], train: list[Row], features: datasets.Features | None = None) -> str:
        folder = tmp_path / f"data{len(list(tmp_path.iterdir()))}"
        parts = {"train": train, "test": test}
        DatasetDict(
            {split: Dataset.from_list(rows, features=features) for split, rows in parts.items()}
        ).save_to_disk(folder)
        return str(folder)

    return saved


@pytest.fixture
def build(family_models: Path, save: Callable[..., str]) -> Build:
    """A task with the tokenizer of a family."""

    def built(
        family: str, test: list[Row], train: list[Row], *, positions: int | None = None, **settings: Any
    ) -> Any:
        values = {"data": {"folder": save(test, train), "validation_share": 0.3}} | settings
        tokenizer = load_tokenizer(ModelSettings(id=str(family_models / family)))
        return KINDS[values["type"]](SETTINGS.validate_python(values), tokenizer, positions)

    return built


class Fixed(nn.Module):
    """Has the next of its logits for every example, whatever that is."""

    def __init__(self, logits: list[Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.logits = logits

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        now, self.logits = self.logits[: len(input_ids)], self.logits[len(input_ids) :]
        return SimpleNamespace(logits=torch.tensor(now))


# Causal language models

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


def test_values_that_are_not_there_are_said_with_their_row(build: Build) -> None:
    rows = [{"q": "a", "a": "b"}, {"q": "c", "a": None}]
    with pytest.raises(DataError, match=r"^row 1 of the data has no value for 'a'$"):
        build("llama", rows, OTHERS, **PROMPTS)


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


# Text to text

TRANSLATION = {"type": "seq2seq-lm", "source": "in German: {en}", "target": "{de}"}
PAIRS = [
    {"en": "the red house", "de": "rot"},
    {"en": "the blue river stands beside the white one", "de": "blau weiß schwarz"},
    {"en": "the tree", "de": "grün gelb"},
]
OTHER_PAIRS = [{"en": f"other {i}", "de": "rot"} for i in range(10)]


def test_rouge_and_bleu_by_hand(build: Build, monkeypatch: pytest.MonkeyPatch, family_models: Path) -> None:
    """BLEU of a corpus: n-gram hits are summed before they are divided (Papineni et al., 2002)."""
    rows = [
        {"en": "a", "de": "the quick brown fox jumped over the lazy dog"},
        {"en": "b", "de": "red house by the road"},
    ]
    texts = ["the quick brown fox jumped over the dog", "red house by the road"]
    monkeypatch.setattr(seq2seq_lm, "generate", lambda *_: Generated(texts, 1.0))
    task = build("t5", rows, OTHER_PAIRS, **TRANSLATION)
    model = AutoModelForSeq2SeqLM.from_pretrained(family_models / "t5")
    found = task.evaluate(model, "test", None, 2)
    # hits: 8 + 5 of 13 words, 6 + 4 of 7 + 4 pairs, 5 + 3 of 6 + 3 triples, 4 + 2 of 5 + 2 of four
    bleu = 100 * math.exp(1 - 14 / 13) * (10 / 11 * 8 / 9 * 6 / 7) ** 0.25
    assert found.metrics["bleu"] == pytest.approx(bleu)
    # precision 1 and recall 8/9 of words and of the longest common subsequence; 6/7 and 6/8 of pairs
    assert found.metrics["rouge1"] == pytest.approx((16 / 17 + 1) / 2)
    assert found.metrics["rouge2"] == pytest.approx((12 / 15 + 1) / 2)
    assert found.metrics["rougeL"] == pytest.approx((16 / 17 + 1) / 2)
    assert found.metrics["exact_match"] == 0.5
    assert [example.output for example in found.examples] == texts
    assert [example.input for example in found.examples] == ["in German: a", "in German: b"]
    assert [example.reference for example in found.examples] == [row["de"] for row in rows]


def test_rouge_of_another_order_and_of_nothing(
    build: Build, monkeypatch: pytest.MonkeyPatch, family_models: Path
) -> None:
    rows = [{"en": "a", "de": "red house"}, {"en": "b", "de": "so the total is 1,000"}]
    monkeypatch.setattr(seq2seq_lm, "generate", lambda *_: Generated(["houses red", ""], 1.0))
    generation = {"answer_pattern": r"(\w+)$"}
    task = build("t5", rows, OTHER_PAIRS, **TRANSLATION, generation=generation)
    model = AutoModelForSeq2SeqLM.from_pretrained(family_models / "t5")
    found = task.evaluate(model, "test", None, 2).metrics
    assert found["rouge1"] == 0.5  # "houses" has the stem of "house"
    assert found["rouge2"] == 0
    assert found["rougeL"] == 0.25
    assert found["exact_match"] == 0


@pytest.mark.parametrize("num_beams", [1, 2])
def test_an_encoder_decoder_one_row_at_a_time(build: Build, family_models: Path, num_beams: int) -> None:
    generation = {"max_new_tokens": 6, "num_beams": num_beams}
    task = build("t5", PAIRS, OTHER_PAIRS, **TRANSLATION, generation=generation)
    model = AutoModelForSeq2SeqLM.from_pretrained(family_models / "t5").eval()
    loss, right, num_tokens, texts = 0.0, 0, 0, []
    for row in PAIRS:
        source = task.tokenizer(f"in German: {row['en']}", return_tensors="pt")["input_ids"]
        labels = task.tokenizer(row["de"])["input_ids"]
        assert labels[-1] == task.tokenizer.eos_token_id
        with torch.no_grad():
            logits = model(source, decoder_input_ids=torch.tensor([[0, *labels[:-1]]])).logits[0]
            config = GenerationConfig(
                max_new_tokens=6,
                num_beams=num_beams,
                do_sample=False,
                eos_token_id=task.tokenizer.eos_token_id,
                pad_token_id=0,
                decoder_start_token_id=0,
            )
            written = model.generate(source, attention_mask=torch.ones_like(source), generation_config=config)
        for position, token in enumerate(labels):
            loss -= logits[position].log_softmax(-1)[token].item()
            right += int(logits[position].argmax()) == token
        num_tokens += len(labels)
        texts.append(task.tokenizer.decode(written[0], skip_special_tokens=True))
    found = task.evaluate(model, "test", None, 3)
    assert found.metrics["loss"] == pytest.approx(loss / num_tokens, rel=1e-5)
    assert found.metrics["accuracy"] == right / num_tokens
    assert [example.output for example in found.examples] == texts
    batch = task.batch("test", [0, 1, 2])
    assert task.num_tokens(batch) == num_tokens + sum(
        len(task.tokenizer(f"in German: {row['en']}")["input_ids"]) for row in PAIRS
    )


def test_sources_and_targets_that_are_cut(build: Build) -> None:
    task = build("t5", PAIRS, OTHER_PAIRS, **TRANSLATION, max_source_length=6, max_target_length=3)
    end = task.tokenizer.eos_token_id
    long = [
        len(task.tokenizer(f"in German: {row['en']}")["input_ids"]) > 6
        or len(task.tokenizer(row["de"])["input_ids"]) > 3
        for row in PAIRS
    ]
    assert any(f"test: {sum(long)} of 3 rows are cut to 6 (source) or 3 (target)" in n for n in task.notes)
    for row in task.features("test", [0, 1, 2]):
        assert len(row["input_ids"]) <= 6
        assert len(row["labels"]) <= 3
        assert row["input_ids"][-1] == row["labels"][-1] == end


# Classes and numbers


def classes(values: Iterable[Any], word: str = "row") -> list[Row]:
    return [{"text": f"{word} {i} the red house", "label": value} for i, value in enumerate(values)]


CLASSES = {"type": "sequence-classification", "max_length": 16}


def test_metrics_of_two_classes(build: Build) -> None:
    """3 true positives, 2 false ones, 1 false negative, 4 true ones; logits of 1 for what is predicted."""
    truth = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    predicted = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    rows = classes(["yes" if value else "no" for value in truth])
    task = build("bert", rows, classes(["no", "yes"] * 5, "other"), **CLASSES, labels=["no", "yes"])
    logits = [[-1.0, 1.0] if value else [1.0, -1.0] for value in predicted]
    found = task.evaluate(Fixed(logits), "test", None, 4)
    assert found.metrics["accuracy"] == pytest.approx(0.7)
    assert found.metrics["f1"] == pytest.approx(6 / 9)  # 2 TP / (2 TP + FP + FN)
    assert found.metrics["f1_macro"] == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert found.metrics["matthews"] == pytest.approx((3 * 4 - 2 * 1) / math.sqrt(5 * 4 * 6 * 5))
    loss = (7 * math.log(1 + math.exp(-2)) + 3 * math.log(1 + math.exp(2))) / 10
    assert found.metrics["loss"] == pytest.approx(loss)
    share = 1 / (1 + math.exp(-2))
    assert [e.output for e in found.examples] == [
        f"{name} ({share:.2f})" for name in ("yes", "yes", "yes", "no")
    ]
    assert [e.reference for e in found.examples] == ["yes"] * 4
    assert found.examples[1].input == "row 1 the red house"

    first = task.evaluate(Fixed(logits), "test", 4, 4).metrics  # three of four positive ones
    assert first["accuracy"] == 0.75
    assert first["f1"] == pytest.approx(6 / 7)
    assert first["matthews"] == 0
    one = task.evaluate(Fixed(logits), "test", 3, 4).metrics  # one class, and all are right
    assert (one["accuracy"], one["f1"], one["f1_macro"], one["matthews"]) == (1, 1, 0.5, 0)
    none = task.evaluate(Fixed([[1.0, -1.0]] * 4), "test", 4, 4).metrics
    assert (none["accuracy"], none["f1"], none["f1_macro"], none["matthews"]) == (0, 0, 0, 0)


def test_metrics_of_three_classes(build: Build) -> None:
    truth, predicted = [0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 0]
    rows = classes(["abc"[value] for value in truth])
    task = build("bert", rows, classes("abcabc", "other"), **CLASSES, labels=["a", "b", "c"])
    found = task.evaluate(Fixed(np.eye(3)[predicted].tolist()), "test", None, 4).metrics
    assert set(found) == {"loss", "accuracy", "f1_macro", "matthews"}
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["f1_macro"] == pytest.approx((2 / 4 + 4 / 5 + 2 / 3) / 3)
    # Gorodkin (2004): hits · n - Σ t p over the roots of n² - Σ p² and n² - Σ t²
    assert found["matthews"] == pytest.approx((4 * 6 - (2 * 2 + 2 * 3 + 2 * 1)) / math.sqrt(22 * 24))
    right, wrong = math.log(math.e + 2) - 1, math.log(math.e + 2)
    assert found["loss"] == pytest.approx((4 * right + 2 * wrong) / 6)
    # of the first four, none is of the third class
    part = task.evaluate(Fixed(np.eye(3)[predicted].tolist()), "test", 4, 4).metrics
    assert part["f1_macro"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


def test_metrics_of_a_regression(build: Build) -> None:
    values, outputs = [1.0, 3.0, 2.0, 4.5, 0.0], [1.5, 2.0, 2.0, 6.0, -1.0]
    rows, others = classes(values), classes([0.5 * i for i in range(10)], "other")
    task = build("bert", rows, others, **CLASSES, regression=True)
    found = task.evaluate(Fixed([[value] for value in outputs]), "test", None, 2)
    assert found.metrics["loss"] == pytest.approx((0.25 + 1 + 0 + 2.25 + 1) / 5)
    assert found.metrics["pearson"] == pytest.approx(np.corrcoef(values, outputs)[0, 1])
    ranks = np.corrcoef([2, 4, 3, 5, 1], [2, 3.5, 3.5, 5, 1])[0, 1]  # equal values share their ranks
    assert found.metrics["spearman"] == pytest.approx(ranks)
    assert [e.output for e in found.examples] == ["1.500", "2.000", "2.000", "6.000"]
    assert [e.reference for e in found.examples] == ["1", "3", "2", "4.5"]
    same = task.evaluate(Fixed([[2.0]] * 5), "test", None, 2).metrics
    assert (same["pearson"], same["spearman"]) == (0, 0)
    single = task.evaluate(Fixed([[2.0]]), "test", 1, 2).metrics
    assert (single["pearson"], single["spearman"]) == (0, 0)
    assert task.batch("test", [0, 3])["labels"].dtype == torch.float32


def test_pairs_of_texts(build: Build) -> None:
    rows = [{"text": "the red house", "other": "the blue river " * 9, "label": 1}]
    others = [{"text": f"one {i}", "other": "two", "label": i % 2} for i in range(10)]
    task = build("bert", rows, others, **CLASSES, labels=[0, 1], text_pair_column="other")
    (row,) = task.features("test", [0])
    tokens = task.tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert tokens == ["[CLS]", "the", "red", "house", "[SEP]", *["the", "blue", "river"] * 3, "the", "[SEP]"]
    assert task.notes == ["test: 1 of 1 rows are cut to 16 tokens"]


@pytest.mark.parametrize(
    ("labels", "value", "position"),
    [
        (["no", "yes"], "yes", 1),
        (["no", "yes"], 0, 0),
        (["no", "yes"], 1, 1),
        ([1, 2], 1, 0),  # a class itself
        ([1, 2], "2", 1),
        ([2, 1], 1, 1),
        (["False", "True"], True, 1),
        (["no", "yes"], 2, None),
        (["no", "yes"], -1, None),
        (["no", "yes"], "maybe", None),
        (["no", "yes"], 1.0, None),
        (["no", "yes"], None, None),
        (["no", "yes"], True, None),
    ],
)
def test_labels_of_rows(build: Build, labels: list[Any], value: Any, position: int | None) -> None:
    rows, others = classes([value]), classes([value] * 10, "other")
    if position is None:
        names = ", ".join(map(str, labels))
        message = f"task.label_column must hold one of {names} or its position, but row 0 has {value!r}"
        with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
            build("bert", rows, others, **CLASSES, labels=labels)
    else:
        task = build("bert", rows, others, **CLASSES, labels=labels)
        assert task.features("test", [0])[0]["labels"] == position


@pytest.mark.parametrize("value", ["a", None, True, math.inf])
def test_labels_of_a_regression_are_numbers(build: Build, value: Any) -> None:
    with pytest.raises(DataError, match=r"task\.label_column must hold numbers, but row 0 has "):
        build("bert", classes([value]), classes([value] * 10, "other"), **CLASSES, regression=True)


def test_texts_are_strings(build: Build) -> None:
    rows = [{"text": "a", "label": 0}, {"text": None, "label": 1}]
    with pytest.raises(
        DataError, match=r"the texts of task\.text_column must be strings, but row 1 has None"
    ):
        build("bert", rows, classes([0, 1] * 5, "other"), **CLASSES, labels=[0, 1])


def stated(names: list[str]) -> datasets.Features:
    return datasets.Features({"text": datasets.Value("string"), "label": ClassLabel(names=names)})


@pytest.mark.parametrize(
    ("values", "features", "found"),
    [
        (["yes", "no", "no"], None, ("no", "yes")),
        ([2, 0, 1, 10], None, (0, 1, 2, 10)),
        (["10", "9"], None, ("10", "9")),
        ([True, False], None, ("False", "True")),
        ([1, 0, 1], stated(["world", "sports", "business"]), ("world", "sports", "business")),
    ],
)
def test_classes_are_found(
    save: Callable[..., str], values: list[Any], features: Any, found: tuple[Any, ...]
) -> None:
    folder = save(classes(values[:1], "test"), classes(values * 10), features)
    settings = SETTINGS.validate_python({**CLASSES, "data": {"folder": folder}})
    assert find_labels(settings) == found
    # as they are stored in a study
    read = SETTINGS.validate_json(settings.model_copy(update={"labels": found}).model_dump_json())
    assert read.labels == found


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1.0], "must be texts or whole numbers, but got ['0.5', '1.0']; numbers to be predicted are"),
        (["a", None], "must be texts or whole numbers, but got ['None', 'a']"),
        (["a", "a"], "task.label_column must hold two or more classes, but the train split has {'a'}"),
    ],
)
def test_columns_without_classes(save: Callable[..., str], values: list[Any], message: str) -> None:
    folder = save(classes(values[:1], "test"), classes(values * 10))
    settings = SETTINGS.validate_python({**CLASSES, "data": {"folder": folder}})
    with pytest.raises(DataError, match=re.escape(message)):
        find_labels(settings)


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["neg", "pos"], ["neg", "pos"], [0, 1]),
        (["neg", "pos"], ["pos", "neg"], [1, 0]),  # another order
        (["neg", "pos"], ["bad", "good"], [0, 1]),  # other names
        (["1", "2"], ["1", "2"], [0, 1]),  # names that are numbers are no positions
        (["1", "0"], ["1", "0"], [0, 1]),
    ],
)
def test_positions_are_those_of_the_data(
    save: Callable[..., str], family_models: Path, names: list[str], labels: list[str], expected: list[int]
) -> None:
    folder = save(classes([0, 1], "test"), classes([0, 1] * 10), stated(names))
    values = {**CLASSES, "data": {"folder": folder}, "labels": labels}
    tokenizer = load_tokenizer(ModelSettings(id=str(family_models / "bert")))
    task = SequenceClassification(SETTINGS.validate_python(values), tokenizer, None)
    assert [row["labels"] for row in task.features("test", [0, 1])] == expected


def test_a_row_without_a_label(save: Callable[..., str], family_models: Path) -> None:
    """As the test splits of GLUE have."""
    folder = save(classes([0, -1], "test"), classes([0, 1] * 10), stated(["no", "yes"]))
    values = {**CLASSES, "data": {"folder": folder}, "labels": ["no", "yes"]}
    tokenizer = load_tokenizer(ModelSettings(id=str(family_models / "bert")))
    with pytest.raises(DataError, match=r"one of no, yes or its position, but row 1 has -1$"):
        SequenceClassification(SETTINGS.validate_python(values), tokenizer, None)


# Answers


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
            "9 characters has at its start, but row 0 has 'red' at 7",
        ),
        (asked("red house", "red", at=2), "but row 0 has 'red' at 2"),
        (asked("red house", "red", at=-1), "but row 0 has 'red' at -1"),
        ({**asked("red"), "context": None}, "the texts of task.context_column must be strings, but row 0"),
        (
            {**asked("red"), "answers": {"text": ["red"], "answer_start": []}},
            "must hold {text: [...], answer_start: [...]}, but got {'text': ['red'], 'answer_start': []}",
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
    with pytest.raises(DataError, match=r"task\.answers_column must hold \{text: "):
        build("bert", texts[:1], [{**row, "question": f"{i}"} for i, row in enumerate(texts)], **ANSWERS)


# All tasks


@pytest.mark.parametrize(
    ("family", "test", "train", "settings"),
    [
        ("llama", QUESTIONS, OTHERS, {**PROMPTS, "sequence_length": 32}),
        ("t5", PAIRS, OTHER_PAIRS, {**TRANSLATION, "max_source_length": 9}),
        ("bert", classes("abab"), classes("ab" * 5, "other"), {**CLASSES, "labels": ["a", "b"]}),
        ("bert", [asked(LONG, "red house")], KNOWN, {**ANSWERS, "max_length": 48}),
    ],
)
def test_a_second_worker_finds_everything_tokenized(
    save: Callable[..., str],
    family_models: Path,
    family: str,
    test: list[Row],
    train: list[Row],
    settings: dict[str, Any],
) -> None:
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "jointsearch"

    def cached() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in cache.glob("*.arrow")}

    values = SETTINGS.validate_python({**settings, "data": {"folder": save(test, train)}})
    found = []
    for _ in range(3):
        tokenizer = load_tokenizer(ModelSettings(id=str(family_models / family)))
        KINDS[settings["type"]](values, tokenizer, None)
        found.append(cached())
    assert len(found[0]) >= 3
    assert found[0] == found[1] == found[2]


def test_what_is_longer_than_the_models_positions_is_said(
    save: Callable[..., str], family_models: Path
) -> None:
    rows = [*classes(["a", "b"]), {"text": "lamp " * 200, "label": "a"}]
    data = {"folder": save(rows, classes("ab" * 5, "other"))}
    study = {
        "name": "positions",
        "model": {"id": str(family_models / "bert")},
        "task": {"type": "sequence-classification", "data": data, "labels": ["a", "b"], "max_length": 512},
    }
    config = StudyConfig.model_validate(study)
    model_config = load_config(config.model, config.task.head)
    model_config.pad_token_id = None
    task = build_task(config, model_config)
    assert task.notes == [
        "task.max_length: the model has 128 positions, so 512 is cut to 128",
        "test: 1 of 3 rows are cut to 128 tokens",
    ]
    assert model_config.pad_token_id == task.tokenizer.pad_token_id == 0
    assert isinstance(task, SequenceClassification)
