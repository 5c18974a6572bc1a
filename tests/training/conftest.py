"""A tiny study on real text, and small models of every family with tokenizers of their kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from jointsearch.config.study import StudyConfig
from jointsearch.plan.layout import ModelLayout
from jointsearch.space import SearchSpace

QUICKSTART = Path(__file__).parents[2] / "jointsearch" / "quickstart"

STUDY = """
name: tiny
model: {{id: {model}}}
task:
  type: causal-lm
  data: {{package: click}}
  sequence_length: 64
search_space: {{ranks: [0, 2, 8]}}
calibration: {{steps: 6, batch_size: 4, measure_at: [0.5], validation_examples: 8,
  warmup_steps: 1, learning_rate: 0.01}}
full_run: {{max_steps: 6, batch_size: 4, evaluations: 3, learning_rate: 0.01}}
search: {{sampler: random, trials: 12}}
device: cpu
"""


@pytest.fixture(scope="session")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart model on the source of click: six steps of four examples a trial."""
    path = tmp_path_factory.mktemp("study") / "tiny.yaml"
    path.write_text(STUDY.format(model=QUICKSTART / "model"))
    return path


@pytest.fixture(scope="session")
def config(study_file: Path) -> StudyConfig:
    from jointsearch.config.yaml_file import read_study

    return read_study(study_file)


@pytest.fixture(scope="session")
def tiny_layout(config: StudyConfig) -> ModelLayout:
    from jointsearch.training.model.architecture import read_layout

    return read_layout(config.model, config.task.type)


@pytest.fixture(scope="session")
def space(config: StudyConfig, tiny_layout: ModelLayout) -> SearchSpace:
    return SearchSpace.build(tiny_layout, config.search_space, config.quantization, config.lora)


COLOURS = ["red", "green", "blue", "white", "black", "yellow"]
GERMAN = dict(zip(COLOURS, ["rot", "grün", "blau", "weiß", "schwarz", "gelb"], strict=True))
THINGS = ["house", "tree", "river", "stone", "bird", "boat", "lamp", "road"]


def facts() -> list[dict[str, Any]]:
    """Small facts of which questions, classes, translations and conversations are made."""
    made = []
    for first in COLOURS:
        for second in COLOURS:
            for thing in THINGS:
                text = f"the {first} {thing} stands beside the {second} one"
                start = text.index(first)
                made.append(
                    {
                        "text": text,
                        "label": int(COLOURS.index(first) >= 3),
                        "score": float(COLOURS.index(first)) / 5,
                        "german": f"{GERMAN[first]} {GERMAN[second]}",
                        "question": f"what colour is the {thing} that stands?",
                        "answers": {"text": [first], "answer_start": [start]},
                        "messages": [
                            {"role": "user", "content": f"which {thing}?"},
                            {"role": "assistant", "content": f"the {first} one"},
                        ],
                    }
                )
    return made


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in facts()) + "\n")
    return path


def byte_level(texts: list[str]) -> PreTrainedTokenizerFast:
    """As GPT-2, Llama and Qwen have; without a padding token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


def word_pieces(texts: list[str]) -> PreTrainedTokenizerFast:
    """As BERT has."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def unigram(texts: list[str]) -> PreTrainedTokenizerFast:
    """As T5 has."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=200,
            special_tokens=["<pad>", "</s>", "<unk>"],
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


TOKENIZERS = {"bert": word_pieces, "distilbert": word_pieces, "t5": unigram}


@pytest.fixture(scope="session")
def family_models(family_folder: Path) -> Path:
    """The families' checkpoints, each with a tokenizer of its kind."""
    texts = [f"{row['text']} {row['german']} {row['question']} user assistant which?" for row in facts()]
    for folder in family_folder.iterdir():
        TOKENIZERS.get(folder.name, byte_level)(texts).save_pretrained(folder)
    return family_folder
