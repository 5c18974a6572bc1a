"""Every study file in the repository loads and fits its model; so does that of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from fixtures.pages import blocks
from jointsearch.assemble import EMBEDDED
from jointsearch.config.study import StudyConfig
from jointsearch.config.tasks.causal_lm import CausalLMSettings
from jointsearch.config.tasks.question_answering import QuestionAnsweringSettings
from jointsearch.config.tasks.seq2seq_lm import Seq2SeqLMSettings
from jointsearch.config.tasks.sequence_classification import SequenceClassificationSettings
from jointsearch.config.yaml_file import read_study
from jointsearch.plan.layout import ModelLayout, Part
from jointsearch.space import SearchSpace, build_space
from jointsearch.training.model.architecture import empty_model, layout_of, sixteen_bit_type
from jointsearch.training.tasks.answers import answer, exact_match

ROOT = Path(__file__).parents[2]
READY = sorted((ROOT / "studies").glob("*.yaml"))
STUDY_FILES = [*READY, *EMBEDDED.values()]

MODELS = {
    "gpt2-wikitext2": "openai-community/gpt2",
    "dialogpt-medium-everyday": "microsoft/DialoGPT-medium",
    "gpt-neo-125m-tinystories": "EleutherAI/gpt-neo-125m",
    "distilbert-sst2": "distilbert/distilbert-base-uncased",
    "distilbert-rte": "distilbert/distilbert-base-uncased",
    "distilbert-squad": "distilbert/distilbert-base-uncased",
    "bert-mrpc": "google-bert/bert-base-uncased",
    "bert-stsb": "google-bert/bert-base-uncased",
    "bert-squad2": "google-bert/bert-base-uncased",
    "t5-small-dialogsum": "google-t5/t5-small",
    "t5-small-wmt16": "google-t5/t5-small",
    "t5-base-wmt16": "google-t5/t5-base",
    "llama-3.2-1b-gsm8k": "meta-llama/Llama-3.2-1B",
    "qwen2.5-0.5b-no-robots": "Qwen/Qwen2.5-0.5B",
    "llama-3.1-8b-guanaco": "meta-llama/Llama-3.1-8B",
}
"""Hub id by study."""

TASKS = {
    "causal-lm": {
        "openai-community/gpt2",
        "microsoft/DialoGPT-medium",
        "EleutherAI/gpt-neo-125m",
        "meta-llama/Llama-3.2-1B",
        "meta-llama/Llama-3.1-8B",
        "Qwen/Qwen2.5-0.5B",
    },
    "seq2seq-lm": {"google-t5/t5-small", "google-t5/t5-base"},
    "sequence-classification": {"distilbert/distilbert-base-uncased", "google-bert/bert-base-uncased"},
    "question-answering": {"distilbert/distilbert-base-uncased", "google-bert/bert-base-uncased"},
}
"""Hub ids by task."""

LLAMA = {"vocab_size": 128256, "num_attention_heads": 32, "num_key_value_heads": 8}
CONFIGS: dict[str, hf.PreTrainedConfig] = {
    "openai-community/gpt2": hf.GPT2Config(n_embd=768, n_layer=12, n_head=12),
    "microsoft/DialoGPT-medium": hf.GPT2Config(n_embd=1024, n_layer=24, n_head=16),
    "EleutherAI/gpt-neo-125m": hf.GPTNeoConfig(
        hidden_size=768, num_layers=12, num_heads=12, attention_types=[[["global", "local"], 6]]
    ),
    "distilbert/distilbert-base-uncased": hf.DistilBertConfig(dim=768, hidden_dim=3072, n_layers=6),
    "google-bert/bert-base-uncased": hf.BertConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12
    ),
    "google-t5/t5-small": hf.T5Config(d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8),
    "google-t5/t5-base": hf.T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12),
    "meta-llama/Llama-3.2-1B": hf.LlamaConfig(
        **LLAMA, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, tie_word_embeddings=True
    ),
    "meta-llama/Llama-3.1-8B": hf.LlamaConfig(
        **LLAMA, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, tie_word_embeddings=False
    ),
    "Qwen/Qwen2.5-0.5B": hf.Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ),
}
"""The published sizes."""

NUM_PARAMETERS = {
    "openai-community/gpt2": 124_439_808,
    "microsoft/DialoGPT-medium": 354_823_168,
    "EleutherAI/gpt-neo-125m": 125_198_592,
    "google-t5/t5-small": 60_506_624,
    "google-t5/t5-base": 222_903_552,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    # without a head
    "distilbert/distilbert-base-uncased": 66_362_880,
    "google-bert/bert-base-uncased": 109_482_240,
}
"""As published."""


NUM_GROUPS = {
    "gpt2-wikitext2": 12 * 2 + 1,
    "dialogpt-medium-everyday": 24 * 2 + 1,
    "gpt-neo-125m-tinystories": 12 * 2 + 1,
    "distilbert-sst2": 6 * 2 + 1,
    "distilbert-rte": 6 + 1,
    "distilbert-squad": 6 * 2 + 1,
    "bert-mrpc": 12 * 2 + 2,  # the pooler is a group of its own
    "bert-stsb": 12 * 2 + 2,
    "bert-squad2": 12 + 1,  # without pooler
    "t5-small-dialogsum": 6 * 2 + 6 * 3 + 1,
    "t5-small-wmt16": 6 * 2 + 6 * 3 + 1,
    "t5-base-wmt16": 12 + 12 + 1,
    "llama-3.2-1b-gsm8k": 16 * 2 + 1,
    "qwen2.5-0.5b-no-robots": 24 + 1,
    "llama-3.1-8b-guanaco": 32 + 2,  # its head is not tied
}
"""Blocks times parts, and what is outside of blocks."""


def study(name: str) -> StudyConfig:
    return read_study(ROOT / "studies" / f"{name}.yaml")


def layout_for(config: StudyConfig) -> ModelLayout:
    """The layout of the study's model with the task's head, without its checkpoint."""
    sizes = CONFIGS[config.model.id]
    model_config = type(sizes).from_dict(sizes.to_dict(), **config.task.head)
    model = empty_model(model_config, config.model, config.task.type)
    return layout_of(model, sixteen_bit_type(model_config, config.model))


def space_for(name: str) -> tuple[ModelLayout, SearchSpace]:
    config = study(name)
    layout = layout_for(config)
    return layout, build_space(config, layout)


@pytest.mark.parametrize("path", STUDY_FILES, ids=lambda path: path.name)
def test_a_study_file_loads(path: Path) -> None:
    assert read_study(path).search.trials >= 24


def test_every_study_has_its_model_and_its_own_name() -> None:
    configs = {path.stem: read_study(path) for path in READY}
    assert {name: config.model.id for name, config in configs.items()} == MODELS
    assert all(config.name == name for name, config in configs.items())
    assert not set(configs) & set(EMBEDDED)


def test_every_task_is_there_with_its_models() -> None:
    found: dict[str, set[str]] = {}
    for path in READY:
        config = read_study(path)
        found.setdefault(config.task.type, set()).add(config.model.id)
    assert found == TASKS


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_study_file_opens_with_its_question(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    first = text.splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith("?")
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("name", MODELS)
def test_the_layout_has_the_published_size(name: str) -> None:
    config = study(name)
    layout = layout_for(config)
    new_heads = sum(spec.shape[0] * (spec.shape[1] + 1) for spec in layout.modules if spec.trained)
    poolers = 768 * 769 if name == "bert-squad2" else 0  # a head for spans does without it
    assert layout.num_parameters - new_heads + poolers == NUM_PARAMETERS[config.model.id]


@pytest.mark.parametrize("name", MODELS)
def test_the_search_space_fits_the_model(name: str) -> None:
    layout, space = space_for(name)
    settings = study(name).search_space
    assert len(space.groups) == NUM_GROUPS[name]
    adaptable = [group for group in space.groups if any(spec.adaptable for spec in group.modules)]
    assert {group.ranks for group in adaptable} == {settings.ranks}
    assert all(set(group.bits) <= set(settings.bits) for group in space.groups)
    in_groups = [spec.name for group in space.groups for spec in group.modules]
    assert sorted([*in_groups, *space.fixed]) == sorted(spec.name for spec in layout.modules)
    # what is fixed is a new head, or a table of positions or of kinds of text
    left = {
        spec.name.split(".")[-1] for spec in layout.modules if spec.name in space.fixed and not spec.trained
    }
    assert left <= {"position_embeddings", "token_type_embeddings"}


@pytest.mark.parametrize("name", MODELS)
def test_most_trials_are_left_to_the_sampler(name: str) -> None:
    settings = study(name).search_space
    _, space = space_for(name)
    num_baselines = len(list(space.baselines()))
    assert num_baselines == len(settings.bits) * len(settings.ranks)
    assert num_baselines * 3 <= study(name).search.trials


def test_embeddings_tied_to_a_head_weigh_what_the_files_say() -> None:
    shares = {"third": 1 / 3, "quarter": 1 / 4, "fifth": 1 / 5}
    said = {
        path.stem: found[1]
        for path in READY
        if (found := re.search(r"head: a (\w+) of all weights", path.read_text(encoding="utf-8")))
    }
    assert set(said.values()) == set(shares)
    for name, share in said.items():
        layout, _ = space_for(name)
        (tied,) = (spec for spec in layout.modules if spec.part is Part.EMBEDDING and spec.tied)
        assert tied.num_weights / layout.num_parameters == pytest.approx(shares[share], abs=0.04), name


def test_no_study_reads_labels_that_glue_does_not_have() -> None:
    configs = [read_study(path) for path in READY]
    glue = {
        config.task.data.config: config.task for config in configs if config.task.data.hub == "nyu-mll/glue"
    }
    assert set(glue) == {"sst2", "mrpc", "rte", "stsb"}
    for name, task in glue.items():
        assert isinstance(task, SequenceClassificationSettings)
        assert (task.text_pair_column is None) == (name == "sst2")
        assert task.regression == (name == "stsb")
        # every test split but that of MRPC is without labels
        assert task.data.splits == (None if name == "mrpc" else {"train": "train", "test": "validation"})


@pytest.mark.parametrize("name", ["distilbert-squad", "bert-squad2"])
def test_squad_is_divided_by_article(name: str) -> None:
    task = study(name).task
    assert isinstance(task, QuestionAnsweringSettings)
    assert task.data.splits == {"train": "train", "test": "validation"}
    assert task.data.split_by == "title"


def test_both_t5_translate_the_same_rows() -> None:
    small, base = study("t5-small-wmt16").task, study("t5-base-wmt16").task
    assert isinstance(small, Seq2SeqLMSettings)
    assert small == base
    assert small.columns == {"source": ["translation"], "target": ["translation"]}


def test_the_8b_study_is_in_qloras_set_up() -> None:
    config = study("llama-3.1-8b-guanaco")
    assert config.training.model_dump() == {
        "optimizer": "paged_adamw_8bit",
        "gradient_checkpointing": True,
        "offload_activations": False,
        "chunked_loss": True,
        "stream_layers": False,
        "prepare_for_kbit_training": True,
    }
    _, space = space_for("llama-3.1-8b-guanaco")
    assert {group.bits for group in space.groups} == {(4, 8)}
    assert not space.fixed


def render(name: str, messages: list[dict[str, str]], *, prompt: bool = False) -> str:
    task = study(name).task
    assert isinstance(task, CausalLMSettings)
    backend = Tokenizer(models.WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    text = tokenizer.apply_chat_template(
        messages, chat_template=task.chat_template, add_generation_prompt=prompt, tokenize=False
    )
    assert isinstance(text, str)
    return text


GREETING = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]


def test_dialogpts_turns_end_with_the_end_of_text() -> None:
    assert render("dialogpt-medium-everyday", GREETING) == "Hi<|endoftext|>Hello!<|endoftext|>"
    assert render("dialogpt-medium-everyday", GREETING[:1], prompt=True) == "Hi<|endoftext|>"


def test_qwens_answers_end_with_the_end_of_text() -> None:
    asked = "<|im_start|>user\nHi<|endoftext|>\n<|im_start|>assistant\n"
    assert render("qwen2.5-0.5b-no-robots", GREETING[:1], prompt=True) == asked
    assert render("qwen2.5-0.5b-no-robots", GREETING) == f"{asked}Hello!<|endoftext|>\n"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("He sold 48 / 2 = <<48/2=24>>24 clips.\n#### 24", "24"),
        ("#### 1,250", "1250"),
        ("#### -3.5", "-3.5"),
        ("#### 18.", "18"),
        ("#### $70", "$70"),
        ("#### 3/4", "3/4"),
        ("#### 18\n\nQuestion: And then?\nAnswer: #### 5", "18"),
        ("24", None),
    ],
)
def test_the_answer_of_gsm8k_is_the_number_at_its_end(text: str, number: str | None) -> None:
    task = study("llama-3.2-1b-gsm8k").task
    assert isinstance(task, CausalLMSettings)
    assert "exact_match" in task.metrics
    assert answer(text, task.generation.answer_pattern) == number


@pytest.mark.parametrize(
    ("written", "reference", "is_right"),
    [
        ("#### 18.00", "#### 18", True),
        ("#### $1,234", "#### 1,234", True),
        ("#### .5", "#### 0.5", True),
        ("#### 50%", "#### 50", True),
        ("#### 18.", "#### 18", True),
        ("#### -5", "#### 5", False),
        ("#### 3/4", "#### 3", False),
        ("#### 18\n\nQuestion: And?\nAnswer: #### 5", "#### 18", True),
    ],
)
def test_answers_of_gsm8k_are_compared_as_numbers(written: str, reference: str, is_right: bool) -> None:
    task = study("llama-3.2-1b-gsm8k").task
    assert isinstance(task, CausalLMSettings)
    assert exact_match([written], [reference], task.generation.answer_pattern) == is_right


def test_the_study_file_of_the_documentation_is_valid(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "own-model-and-data.md").read_text(encoding="utf-8")
    (block,) = (block for block in blocks(page, "yaml") if block.startswith("name: "))
    path = tmp_path / "study.yaml"
    path.write_text(block)
    config = read_study(path)
    assert config.name == "my-study"
    assert config.search_space.overrides[0].bits == (8,)
    with torch.device("meta"):
        gpt2 = layout_of(GPT2LMHeadModel(GPT2Config()), "bfloat16")
    space = build_space(config, gpt2)
    assert "transformer.wpe" in space.fixed
