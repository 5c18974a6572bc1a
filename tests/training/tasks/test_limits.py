"""What a model can read: positions found out by running it, and tokens beyond its embedding."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from jointsearch.config.study import StudyConfig
from jointsearch.config.tasks.seq2seq_lm import Seq2SeqLMSettings
from jointsearch.errors import DataError, ModelError
from jointsearch.training.model.architecture import load_config
from jointsearch.training.tasks import build_task
from jointsearch.training.tasks.limits import Positions, check_ends, positions_of, within

SMALL = {
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "vocab_size": 40,
    "pad_token_id": 1,
}
BART = {"d_model": 16, "vocab_size": 40, "encoder_layers": 1, "decoder_layers": 1} | {
    f"{part}_{name}": value
    for part in ("encoder", "decoder")
    for name, value in (("ffn_dim", 16), ("attention_heads", 2))
}


@pytest.mark.parametrize(
    ("family", "values"),
    [
        *(
            (family, SMALL)
            for family in (
                "roberta",
                "xlm-roberta",
                "camembert",
                "mpnet",
                "luke",
                "ibert",
                "markuplm",
                "bert",
            )
        ),
        ("bart", BART),
        ("opt", {**SMALL, "ffn_dim": 16, "word_embed_proj_dim": 16}),
        ("gpt2", {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 40}),
    ],
)
def test_a_model_reads_as_many_tokens_as_it_has_positions_and_no_more(
    family: str, values: dict[str, Any]
) -> None:
    config = AutoConfig.for_model(family, **values, max_position_embeddings=24)
    model = AutoModel.from_config(config).eval()
    found = positions_of(model, SimpleNamespace(model_max_length=10**30)).read  # type: ignore[arg-type]
    assert found is not None

    def run(length: int) -> None:
        tokens = torch.full((1, length), 7)
        with torch.no_grad():
            model(input_ids=tokens, attention_mask=torch.ones_like(tokens))

    run(found)
    with pytest.raises((IndexError, RuntimeError)):
        run(found + 1)
    short = SimpleNamespace(model_max_length=9)
    assert positions_of(model, short).read == 9  # type: ignore[arg-type]


def test_an_encoder_and_its_decoder_can_have_different_positions() -> None:
    config = AutoConfig.for_model(
        "led", **BART, max_encoder_position_embeddings=32, max_decoder_position_embeddings=12
    )
    model = AutoModel.from_config(config)
    found = positions_of(model, SimpleNamespace(model_max_length=10**30))  # type: ignore[arg-type]
    assert found == Positions(read=32, written=12)
    task = Seq2SeqLMSettings.model_validate(
        {"type": "seq2seq-lm", "source": "{a}", "target": "{b}", "data": {"hub": "a/b"}}
    )
    cut, notes = within(task, found)
    assert isinstance(cut, Seq2SeqLMSettings)
    assert (cut.max_source_length, cut.max_target_length, cut.generation.max_new_tokens) == (32, 12, 11)
    assert notes == [
        "task.max_source_length: the model has 32 positions, so 256 is cut to 32",
        "task.max_target_length: the model has 12 positions, so 128 is cut to 12",
        "task.generation.max_new_tokens: the model has 12 positions, so 128 is cut to 11",
    ]
    assert within(task, Positions(None, None)) == (task, [])


def study(folder: Path, rows: Path) -> StudyConfig:
    task = {
        "type": "causal-lm",
        "data": {"files": {"train": str(rows)}},
        "prompt": "{q}",
        "completion": " {a}",
    }
    return StudyConfig.model_validate({"name": "tokens", "model": {"id": str(folder)}, "task": task})


def test_tokens_that_the_model_does_not_know(family_models: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(family_models / "llama")
    num_known = AutoConfig.from_pretrained(family_models / "llama").vocab_size
    added = [f"<extra{i}>" for i in range(num_known - len(tokenizer))] + ["[PAD]", "[NEW]"]
    tokenizer.add_special_tokens({"additional_special_tokens": added[:-2]} if added[:-2] else {})
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.add_tokens(["[NEW]"])
    assert tokenizer.pad_token_id == num_known
    for path in (family_models / "llama").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tokenizer.save_pretrained(tmp_path)

    rows = tmp_path / "rows.jsonl"
    pairs = [{"q": f"q{i}", "a": "a" * i} for i in range(1, 21)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    config = study(tmp_path, rows)
    task = build_task(config, load_config(config.model))
    assert task.notes == [
        f"the tokenizer pads with '[PAD]' ({num_known}), which the model, with {num_known} tokens, does not "
        "have; '<|endoftext|>' is used instead"
    ]
    batch = task.batch("train", [0, 15])
    assert int(batch["input_ids"].max()) < num_known
    assert not batch["attention_mask"].all()

    rows.write_text("".join(json.dumps({**row, "a": "a [NEW]"}) + "\n" for row in pairs))
    with pytest.raises(ModelError) as caught:
        build_task(config, load_config(config.model))
    assert str(caught.value) == (
        "the tokenizer and the model must fit, but the train split has the token "
        f"'[NEW]' ({num_known + 1}) and the model {num_known} tokens; use the model's own tokenizer, "
        "or a model whose embedding was resized"
    )


def test_a_model_with_a_decoder_classifies_texts_with_equally_many_end_tokens() -> None:
    tokenizer = SimpleNamespace(eos_token="</s>", eos_token_id=2)
    for rows, counts in (
        ([[5, 2], [5, 6, 2]], None),
        ([[5, 2, 2, 6, 2], [7, 2, 2, 8, 2]], None),
        ([[5, 6], [7]], "0"),
        ([[5, 2], [5, 2, 6, 2]], "1, 2"),
    ):
        splits: Any = {"train": Dataset.from_dict({"input_ids": rows, "labels": [0] * len(rows)})}
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("bart", **BART))
        batch = {"input_ids": pad_sequence([torch.tensor(ids) for ids in rows], batch_first=True)}
        if counts is None:
            check_ends(splits, tokenizer)  # type: ignore[arg-type]
            assert model(**batch).logits.shape[0] == 2
        else:
            with pytest.raises(DataError, match=rf"but there are texts with {counts} of '</s>'; use"):
                check_ends(splits, tokenizer)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="<eos>"):
                model(**batch)


def test_the_ends_are_looked_at_before_a_study_starts(family_models: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(family_models / "llama").save_pretrained(tmp_path)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"text {i}", "label": i % 2}) + "\n" for i in range(20)))
    task = {"type": "sequence-classification", "data": {"files": {"train": str(rows)}}, "labels": [0, 1]}
    values = {"name": "ends", "model": {"id": str(tmp_path)}, "task": task}
    with pytest.raises(DataError, match="a model with a decoder classifies texts by their end token"):
        build_task(
            StudyConfig.model_validate(values), AutoConfig.for_model("bart", **BART | {"vocab_size": 999})
        )
