"""A loss from chunks of logits: equal to torch's over all of them, whatever follows the head."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    T5Config,
)

from jointsearch.config.study import StudyConfig
from jointsearch.config.training import TrainingSettings
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan_file import PlanFile
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.full_run.run import full_run
from jointsearch.training.model import chunked_loss
from jointsearch.training.model import deferred_logits as deferred
from jointsearch.training.model.trial_model import TrialModels
from jointsearch.training.tasks.language import score_tokens

pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to"),
]

VOCABULARY, ROWS = 300, 16
TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
ENDS = {"bos_token_id": 1, "eos_token_id": 1}
FAMILIES: list[tuple[Any, str]] = [
    (LlamaConfig(**TINY), "q_proj"),
    (Gemma2Config(**TINY, final_logit_softcapping=2.0), "q_proj"),
    (CohereConfig(**TINY, logit_scale=3.0), "q_proj"),
    (GraniteConfig(**TINY, logits_scaling=0.3), "q_proj"),
    (GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=VOCABULARY, **ENDS), "c_attn"),
    (T5Config(d_model=32, d_ff=64, d_kv=8, num_layers=1, num_heads=4, vocab_size=VOCABULARY), "q"),
    (
        BartConfig(
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            vocab_size=VOCABULARY,
        ),
        "q_proj",
    ),
]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_loss, "MIN_ROWS", ROWS)
    monkeypatch.setattr(chunked_loss, "CHUNK_BYTES", 0)


def adapted(config: Any, target: str) -> Any:
    """With adapters on the head too, in which nothing is 0."""
    torch.manual_seed(0)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    config.decoder_start_token_id = 0
    settings = LoraConfig(r=4, target_modules=[target, "lm_head"], init_lora_weights=False)
    model = get_peft_model(kind.from_config(config), settings)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_()
    return model


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(4, VOCABULARY, (3, 21), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[0, :12] = -100
    return {"input_ids": ids, "labels": labels}


def step(model: Any, given: dict[str, torch.Tensor], chunked: bool) -> tuple[float, torch.Tensor]:
    """The loss, and all gradients one after another."""
    torch.manual_seed(2)  # dropout
    model.zero_grad()
    with deferred.deferred_logits(model, chunked):
        loss = model(**given).loss
    (2 * loss).backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def assert_equal(found: tuple[float, torch.Tensor], whole: tuple[float, torch.Tensor]) -> None:
    assert found[0] == pytest.approx(whole[0], rel=1e-6)
    assert (found[1] - whole[1]).norm() < 1e-5 * whole[1].norm()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("config", "target"), FAMILIES, ids=lambda value: getattr(value, "model_type", ""))
def test_loss_and_gradients_are_those_of_all_logits(config: Any, target: str) -> None:
    model = adapted(config, target).train()
    whole = step(model, batch(), chunked=False)
    rows: list[int] = []
    head = model.get_output_embeddings()
    head.base_layer.register_forward_hook(lambda _, __, output: rows.append(output[..., 0].numel()))
    assert_equal(step(model, batch(), chunked=True), whole)
    labels = batch()["labels"] if config.is_encoder_decoder else batch()["labels"][:, 1:]
    assert max(rows) <= ROWS
    assert sum(rows) == int((labels != -100).sum())  # each token that counts, once
    assert "forward" not in vars(head)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("weight_format", ["nf4", "int8", "16bit"])
def test_quantized_heads(
    weight_format: str, config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace
) -> None:
    plan = space.plan(space.uniform(weight_format, 8))
    model = TrialModels(config, tiny_layout, torch.device("cpu")).assemble(plan, 0)
    assert_equal(step(model, batch(), chunked=True), step(model, batch(), chunked=False))


@pytest.mark.usefixtures("small_chunks")
def test_a_trial_and_a_full_run_have_the_same_losses(
    config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace, tmp_path: Path
) -> None:
    plan = space.plan(space.uniform("nf4", 8))
    losses: dict[bool, list[float]] = {}
    for chunked in (False, True):
        study = config.model_copy(update={"training": TrainingSettings(chunked_loss=chunked)})
        measured = CalibrationRunner(study, tiny_layout).run(plan, Trial(seed=0))
        result = full_run(PlanFile.build(plan, tiny_layout, study), tmp_path / str(chunked))
        losses[chunked] = [point.loss for point in measured.train_losses]
        losses[chunked] += [measured.metrics["loss"], result.validation["loss"]]
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)
    assert losses[True] != losses[False]  # it was another sum


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("config", "target"), [FAMILIES[0], FAMILIES[5]], ids=["llama", "t5"])
def test_evaluation_is_that_of_all_logits(config: Any, target: str) -> None:
    model = adapted(config, target)
    shift = 0 if config.is_encoder_decoder else 1
    found = score_tokens(model, [batch()], shift)
    with torch.no_grad():
        logits = model.eval()(**batch()).logits
    logits, labels = logits[:, : 21 - shift], batch()["labels"][:, shift:]
    counted = labels != -100
    loss = F.cross_entropy(logits[counted], labels[counted], reduction="sum")
    assert found.total_loss == pytest.approx(loss.item(), rel=1e-6)
    assert found.num_right == int((logits.argmax(-1) == labels)[counted].sum())
    assert found.num_predicted == int(counted.sum())


@pytest.mark.usefixtures("small_chunks")
def test_what_needs_all_logits_has_them_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    model, given = adapted(*FAMILIES[0]), batch()
    deferred._told.clear()
    plain = model(**given).logits.detach()
    with deferred.deferred_logits(model), caplog.at_level(logging.WARNING):
        logits = model(input_ids=given["input_ids"]).logits
        assert isinstance(logits, deferred.DeferredLogits)
        assert logits.shape == plain.shape
        for _ in range(2):
            penalty = logits.logsumexp(-1).pow(2).mean()
    assert torch.allclose(penalty, plain.logsumexp(-1).pow(2).mean(), rtol=1e-6)
    assert [record.message for record in caplog.records] == [
        "all logits are held at once: what the model does to them (logsumexp) needs them all"
    ]


@pytest.mark.usefixtures("small_chunks")
def test_what_is_written_into_logits_stays() -> None:
    model, given = adapted(*FAMILIES[0]), batch()
    plain = model(**given).logits.detach().clone()
    plain[:, :, 7:9] = -50.0
    with deferred.deferred_logits(model):
        logits = model(input_ids=given["input_ids"]).logits
        logits[:, :, 7:9] = -50.0
    rows, labels = logits.view(-1, VOCABULARY), given["labels"].view(-1)
    assert F.cross_entropy(rows, labels).item() == pytest.approx(
        F.cross_entropy(plain.view(-1, VOCABULARY), labels).item(), rel=1e-6
    )


@pytest.mark.usefixtures("small_chunks")
def test_without_gradients_none_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(*FAMILIES[0])
    whole = step(model, batch(), chunked=False)[0]
    monkeypatch.setattr(torch.autograd, "grad", None)
    with torch.no_grad(), deferred.deferred_logits(model):
        assert model(**batch()).loss.item() == pytest.approx(whole, rel=1e-6)


@pytest.mark.usefixtures("small_chunks")
def test_multiplied_in_bfloat16() -> None:
    model = adapted(*FAMILIES[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, found = (step(model, batch(), chunked) for chunked in (False, True))
    assert found[0] == pytest.approx(whole[0], rel=1e-4)
    assert (found[1] - whole[1]).norm() < 0.02 * whole[1].norm()  # three digits


@pytest.mark.usefixtures("small_chunks")
def test_a_batch_without_targets() -> None:
    model, given = adapted(*FAMILIES[0]), batch()
    given["labels"][:] = -100
    with deferred.deferred_logits(model):
        assert model(**given).loss.isnan()  # as torch's mean of nothing


def test_a_small_vocabulary_is_not_cut_up() -> None:
    model = adapted(*FAMILIES[0])
    found, whole = step(model, batch(), chunked=True), step(model, batch(), chunked=False)
    assert found[0] == whole[0]
    assert torch.equal(found[1], whole[1])
