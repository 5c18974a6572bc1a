"""Tokens are those of the whole text, whatever its parts; the kinds of tokenizers differ where parts meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from jointsearch.config.task import TASKS
from jointsearch.training.tasks.causal_lm import CausalLM
from jointsearch.training.tasks.learned import learned_tokens

STORIES = Path(__file__).parents[4] / "shared" / "models" / "stories260K"
TEXTS = [f"the {colour} house, what is it? a very {colour} one" for colour in ("red", "blue", "grün", "weiß")]


def with_spaces_as_letters(*, before_all: bool) -> PreTrainedTokenizerFast:
    """As Llama 2's: a space is a part of its word, and one is put before every text; byte fallback."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(marks if before_all else marks[1:])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def of_bytes() -> PreTrainedTokenizerFast:
    """As GPT-2's, whose offsets leave spaces out."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def of_words() -> PreTrainedTokenizerFast:
    """As BERT's, with tokens before and after a text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=120, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "a space before all": lambda: with_spaces_as_letters(before_all=True),
    "spaces as letters": lambda: with_spaces_as_letters(before_all=False),
    "bytes": of_bytes,
    "words": of_words,
}


class Slow:
    """A tokenizer without offsets."""

    is_fast = False

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id, self.sep_token_id = tokenizer.eos_token_id, tokenizer.sep_token_id

    def __call__(self, text: str, **options: Any) -> Any:
        assert "return_offsets_mapping" not in options
        return self._tokenizer(text, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("what is it?", " a red one"),
        ("what is it? ", "red"),
        ("what is it?", "red"),
        ("a ho", "use"),
        ("the", "  red  house "),
        ("is it ", " "),
        ("weiß ist grün?", " weiß — ☃"),
        ("", "the red house"),
        ("the red house", ""),
        ("a\n", "\nb"),
    ],
)
def test_the_tokens_of_a_prompt_and_its_completion(kind: str, prompt: str, completion: str) -> None:
    tokenizer = KINDS[kind]()
    text = prompt + completion
    ids, learned = learned_tokens(tokenizer, text, [(len(prompt), len(text))], special=True)
    whole = tokenizer(text)["input_ids"]
    if kind == "words":
        assert whole[-1] == tokenizer.sep_token_id
        whole = whole[:-1]
    assert ids == whole
    # what is learned is the end of the text, and begins where the whole and the prompt have other tokens
    num_learned = sum(learned)
    assert learned == [False] * (len(ids) - num_learned) + [True] * num_learned
    said = tokenizer.decode(ids[len(ids) - num_learned :])
    alone = tokenizer.decode(tokenizer(completion, add_special_tokens=False)["input_ids"])
    assert said.replace(" ", "").endswith(alone.replace(" ", ""))
    slow: Any = Slow(tokenizer)
    assert learned_tokens(slow, text, [(len(prompt), len(text))], special=True) == (ids, learned)


def test_several_parts_of_a_text() -> None:
    for kind in KINDS.values():
        tokenizer = kind()
        parts = ["what is it? ", "red\n", "and then? ", "blue\n"]
        bounds = [(12, 16), (26, 31)]
        text = "".join(parts)
        assert [text[first:end] for first, end in bounds] == [parts[1], parts[3]]
        ids, learned = learned_tokens(tokenizer, text, bounds, special=False)
        assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
        said = tokenizer.decode([token for token, is_learned in zip(ids, learned, strict=True) if is_learned])
        assert said.split() == ["red", "blue"]
        slow: Any = Slow(tokenizer)
        assert learned_tokens(slow, text, bounds, special=False) == (ids, learned)


def task(tmp_path: Path, tokenizer: Any, rows: str, **settings: Any) -> CausalLM:
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    values = {"type": "causal-lm", "data": {"files": {"train": str(tmp_path / "rows.jsonl")}}, **settings}
    tokenizer.pad_token = tokenizer.eos_token
    return CausalLM(TASKS["causal-lm"].settings.model_validate(values), tokenizer, None)  # type: ignore[arg-type]


def test_packed_examples_begin_as_the_tokenizer_begins_texts(tmp_path: Path) -> None:
    tokenizer = with_spaces_as_letters(before_all=True)
    texts = ["the red house", "a very blue one, what is it?"] * 20
    found = task(
        tmp_path, tokenizer, "".join(f'{{"text": "{text}"}}\n' for text in texts), sequence_length=12
    )
    examples = [row["input_ids"] for split in found.splits.values() for row in split]
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert {example[0] for example in examples} == {begin}
    assert {len(example) for example in examples} == {12}
    assert not any(example[1] == begin for example in examples)
    # all the text is there, in examples of eleven tokens, with a beginning after every end
    tokens = [
        token
        for text in texts
        for token in [begin, *tokenizer(text, add_special_tokens=False)["input_ids"], end]
    ]
    pieces = []
    while tokens:
        tokens = tokens[1:] if tokens[0] == begin else tokens
        pieces.append([begin, *tokens[:11]])
        tokens = tokens[11:]
    assert sorted(examples) == sorted(piece for piece in pieces if len(piece) == 12)


@pytest.mark.skipif(not STORIES.is_dir(), reason="needs a model that is not in the repository")
def test_a_completion_after_a_space_has_no_second_one(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    rows = '{"p": "Once upon a time", "c": "there was a girl"}\n' * 3 + "".join(
        f'{{"p": "Once {i}", "c": "there was"}}\n' for i in range(9)
    )
    found = task(tmp_path, tokenizer, rows, prompt="{p}", completion=" {c}")
    row = next(row for row in found.splits["train"] if len(row["input_ids"]) > 9)
    whole = tokenizer("Once upon a time there was a girl")["input_ids"]
    assert row["input_ids"] == [*whole, tokenizer.eos_token_id]
    assert sum(label != -100 for label in row["labels"]) == len(tokenizer("there was a girl")["input_ids"])
