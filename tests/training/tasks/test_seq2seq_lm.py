"""Text to text: scores by hand, and losses and outputs of plain transformers, one row at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    GenerationConfig,
)

from jointsearch.training.tasks import seq2seq_lm
from jointsearch.training.tasks.language import Generated

Build = Callable[..., Any]


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


def test_a_second_worker_finds_everything_tokenized(check_tokenized_once: Callable[..., None]) -> None:
    check_tokenized_once("t5", PAIRS, OTHER_PAIRS, **TRANSLATION, max_source_length=9)
