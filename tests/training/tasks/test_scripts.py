"""Words of any script: a text is like itself, and in Latin script as rouge-score has it."""

from __future__ import annotations

import random
import string

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from jointsearch.training.tasks.scripts import WordsOfAnyScript, bleu_tokenizer

TEXTS = {
    "आज मौसम अच्छा है": 4,
    "今天天气很好我们去公园吧": 12,
    "Сегодня хорошая погода": 3,
    "오늘 날씨가 좋다": 3,
    "こんにちは世界": 7,
    "مرحبا بالعالم اليوم": 3,
    "می\N{ZERO WIDTH NON-JOINER}خواهم بروم": 2,
    "Καλημέρα κόσμε": 2,
    "GPT模型 is good": 5,
}


@pytest.mark.parametrize(("text", "num_words"), TEXTS.items())
def test_texts_in_any_script_have_words(text: str, num_words: int) -> None:
    words = WordsOfAnyScript()
    assert len(words.tokenize(text)) == num_words
    scorer = RougeScorer(["rouge1", "rougeL"], tokenizer=words)
    assert scorer.score(text, text)["rouge1"].fmeasure == 1
    assert scorer.score(text, "no word of it")["rouge1"].fmeasure < 0.5
    # one word in a text of that many is another
    first = words.tokenize(text)[0]
    changed = scorer.score(text, text.lower().replace(first, "x", 1))["rouge1"].fmeasure
    assert changed == pytest.approx((num_words - 1) / num_words)


def test_latin_script_has_the_words_of_rouge_score() -> None:
    random.seed(0)
    ours, theirs = WordsOfAnyScript(), DefaultTokenizer(use_stemmer=True)
    for _ in range(500):
        text = "".join(random.choices(string.printable + "äßéÜ—’“", k=40))
        assert ours.tokenize(text) == theirs.tokenize(text)
    assert ours.tokenize("The Houses are running") == ["the", "hous", "are", "run"]


@pytest.mark.parametrize(
    ("text", "tokenizer"),
    [
        ("the red house stands", "13a"),
        ("आज मौसम अच्छा है", "13a"),
        ("今天天气很好我们去公园吧", "zh"),
        ("これは本です、とても", "char"),
        ("สวัสดีครับวันนี้", "char"),
        ("", "13a"),
    ],
)
def test_bleu_of_a_text_and_itself(text: str, tokenizer: str) -> None:
    assert bleu_tokenizer([text]) == tokenizer
    if text:
        assert sacrebleu.corpus_bleu([text], [[text]], tokenize=tokenizer).score == pytest.approx(100)
