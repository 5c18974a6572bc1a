"""The embedded study: what ships, and that it has learned. ``test_demo`` runs it."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from jointsearch.assemble import EMBEDDED
from jointsearch.config.yaml_file import read_study
from jointsearch.quickstart import corpus

FOLDER = EMBEDDED["quickstart"].parent / "model"
RECORD = json.loads((FOLDER / "training.json").read_text())


def test_what_ships_is_small_and_in_float16() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 4e6
    tensors = load_file(FOLDER / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    num_parameters = sum(tensor.numel() for tensor in tensors.values())
    assert num_parameters == RECORD["num_parameters"]
    assert 0.5e6 < num_parameters < 2e6


def test_the_model_beats_random_initialisation_on_held_out_files() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    texts = corpus.collect_text(Path(sysconfig.get_path("stdlib")))
    held_out = [text for name, text in texts.items() if corpus.is_held_out(name) and "encodings" not in name]
    ids = tokenizer("\n".join(held_out)[:40_000], return_tensors="pt", verbose=False)["input_ids"][0]
    rows = ids[: len(ids) // 128 * 128].view(-1, 128)
    trained = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    torch.manual_seed(0)
    untrained = AutoModelForCausalLM.from_config(trained.config).float().eval()

    def loss(model: PreTrainedModel) -> float:
        with torch.no_grad():
            logits = model(rows).logits[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).item()

    assert len(rows) > 50
    assert loss(untrained) == pytest.approx(RECORD["random_initialisation"]["nats_per_token"], abs=0.3)
    assert loss(trained) < 3.2


def test_the_record_names_no_place_of_the_machine_it_was_made_on() -> None:
    for path in (FOLDER / "training.json", FOLDER / "config.json", FOLDER / "tokenizer_config.json"):
        assert str(Path.home()) not in path.read_text()
    assert json.loads((FOLDER / "config.json").read_text()).get("_name_or_path", "") == ""


def test_the_study_reads_an_installed_package() -> None:
    config = read_study(EMBEDDED["quickstart"])
    assert config.task.data.package == "transformers"
    assert config.search.trials >= 24
