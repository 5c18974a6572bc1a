"""Runs as GGUF files: what is in them, and what a real llama.cpp makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import jointsearch
from fixtures.exports import of_the_zoo, weight_of
from fixtures.facts import facts, unigram
from jointsearch.errors import OutputError, PlanError
from jointsearch.export.finished_run import FinishedRun
from jointsearch.export.gguf.file import save_adapter, save_model, save_unrounded
from jointsearch.export.gguf.tensor_types import as_written
from jointsearch.export.gguf.vocabulary import vocabulary
from jointsearch.export.serving import SERVING_TARGETS
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan_file import PlanFile, read_plan

FinishedRuns = Callable[..., Path]

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""llama.cpp's, of a block of Llama."""

HEADS, WIDTH = {"q_proj": 4, "k_proj": 2}, 16


@pytest.fixture(scope="module")
def written(finished_run: FinishedRuns, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Llama with a tied head in three formats, and its files."""
    run, output = finished_run("llama"), tmp_path_factory.mktemp("gguf") / "served"
    jointsearch.export_model(run, "gguf", output, verify=False)
    return run, output


def tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def blocks_of_a_plan(plan: PlanFile) -> list[tuple[str, str, list[int]]]:
    """Names here and there, and which row here each row there is: q and k turn neighbours, 2 j and 2 j + 1,
    where transformers turns j and j + 8."""
    found = []
    for spec in plan.layout.modules:
        if spec.kind == "linear" and spec.name != "lm_head":
            _, _, block, part = spec.name.split(".", 3)
            rows = list(range(spec.shape[0]))
            if (heads := HEADS.get(part.rpartition(".")[2])) is not None:
                rows = [h * WIDTH + 8 * half + j for h in range(heads) for j in range(8) for half in (0, 1)]
            found.append((spec.name, f"blk.{block}.{NAMES[part]}.weight", rows))
    return found


def test_the_tensors_are_the_runs(written: tuple[Path, Path]) -> None:
    """int8 to the integer, the others by what they stand for."""
    run, output = written
    plan = read_plan(run / "plan.json")
    saved, stored = load_file(run / "model" / "model.safetensors"), tensors(output / "model.gguf")
    kinds = set()
    for name, there, rows in blocks_of_a_plan(plan):
        weight_format, tensor = plan.plan.modules[name].format, stored[there]
        wanted = weight_of(saved, name, weight_format)[rows]
        kinds.add((weight_format, tensor.tensor_type.name))
        found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        error = np.linalg.norm(found - wanted.numpy()) / wanted.norm().item()
        assert error < {"nf4": 0.007, "int8": 3e-4, "16bit": 1e-6}[weight_format], name
        if tensor.tensor_type.name == "Q8_0" and weight_format == "int8":
            integers = saved[f"{name}.weight"].view(wanted.shape)[rows]
            blocks = tensor.data.reshape(len(wanted), -1, 34)  # a scale and 32 integers each
            assert np.array_equal(blocks[..., 2:].view(np.int8).reshape(wanted.shape), integers.numpy())
    # rows of 176 weights are no whole blocks of 32
    assert kinds == {("nf4", "Q8_0"), ("int8", "Q8_0"), ("16bit", "F16"), ("int8", "F16")}
    assert "output.weight" not in stored, "a tied head is the embeddings"
    norm = stored["blk.1.attn_norm.weight"]
    assert norm.tensor_type.name == "F32"
    assert np.array_equal(norm.data, saved["model.layers.1.input_layernorm.weight"].float().numpy())


def test_the_file_says_what_the_model_is(written: tuple[Path, Path]) -> None:
    fields = {
        key: field.contents() for key, field in gguf.GGUFReader(written[1] / "model.gguf").fields.items()
    }
    assert fields["general.architecture"] == "llama"
    assert fields["llama.attention.head_count"] == 4 and fields["llama.attention.head_count_kv"] == 2
    assert fields["llama.rope.dimension_count"] == 16
    assert fields["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert fields["tokenizer.ggml.model"] == "gpt2" and fields["tokenizer.ggml.pre"] == "gpt-2"
    tokenizer = AutoTokenizer.from_pretrained(written[0] / "model")
    tokens = fields["tokenizer.ggml.tokens"]
    assert len(tokens) == 320
    assert {token: at for at, token in enumerate(tokens)} == tokenizer.get_vocab()
    assert fields["tokenizer.ggml.token_type"][0] == gguf.TokenType.CONTROL
    modelfile = (written[1] / "Modelfile").read_text().splitlines()
    assert modelfile == ["FROM ./model.gguf", "ADAPTER ./adapter.gguf", 'TEMPLATE """{{ .Prompt }}"""']


@pytest.mark.parametrize(
    ("lora", "scales"),
    [
        ({}, {4: 4.0, 8: 2.0, 16: 1.0}),
        ({"variant": "rslora"}, {4: 4.0, 8: 8 / 8**0.5, 16: 2.0}),
        ({"alpha_over_rank": 2.0}, {4: 2.0, 8: 2.0, 16: 2.0}),
    ],
)
def test_an_adapters_scale_is_in_its_numbers(
    lora: dict[str, Any], scales: dict[int, float], written: tuple[Path, Path], tmp_path: Path
) -> None:
    """llama.cpp multiplies B A by one alpha / rank: with it each change is the plan's."""
    run = FinishedRun(written[0])
    run.plan = with_lora(run.plan, lora)
    save_adapter(run, AutoConfig.from_pretrained(run.folder / "model"), tmp_path / "adapter.gguf")
    saved = load_file(run.folder / "adapter" / "adapter_model.safetensors")
    reader = gguf.GGUFReader(tmp_path / "adapter.gguf")
    alpha = reader.fields["adapter.lora.alpha"].contents()
    stored = {tensor.name: torch.tensor(tensor.data.copy()) for tensor in reader.tensors}
    ranks = run.plan.plan.ranks
    assert set(ranks.values()) == {4, 8, 16} and len(stored) == 2 * len(ranks) < 2 * 14
    for name, there, rows in blocks_of_a_plan(run.plan):
        if name in ranks:
            a, b = (saved[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
            found_a, found_b = stored[f"{there}.lora_a"], stored[f"{there}.lora_b"]
            assert found_a.shape == a.shape
            torch.testing.assert_close(
                alpha / len(found_a) * found_b @ found_a, (scales[len(a)] * b @ a)[rows], rtol=1e-5, atol=1e-7
            )


def with_lora(plan: PlanFile, lora: dict[str, Any]) -> PlanFile:
    settings = LoraSettings.model_validate(lora)
    return plan.model_copy(update={"plan": plan.plan.model_copy(update={"lora": settings})})


def test_a_merged_file_has_base_and_adapter_in_one(
    written: tuple[Path, Path], finished_run: FinishedRuns, tmp_path: Path
) -> None:
    run = written[0]
    jointsearch.export_model(run, "gguf-merged", tmp_path / "merged", verify=False)
    assert not (tmp_path / "merged" / "adapter.gguf").exists()
    plan, stored = read_plan(run / "plan.json"), tensors(tmp_path / "merged" / "model.gguf")
    saved = load_file(run / "model" / "model.safetensors")
    adapter = load_file(run / "adapter" / "adapter_model.safetensors")
    for name, there, rows in blocks_of_a_plan(plan):
        wanted = weight_of(saved, name, plan.plan.modules[name].format)
        if rank := plan.plan.modules[name].rank:
            a, b = (adapter[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
            wanted = wanted + 16 / rank * b @ a
        found = gguf.quants.dequantize(stored[there].data, stored[there].tensor_type)
        assert np.linalg.norm(found - wanted[rows].numpy()) / wanted.norm().item() < 0.008, name


def test_what_llama_cpp_cannot_have_is_refused_beforehand(written: tuple[Path, Path]) -> None:
    plan, target = read_plan(written[0] / "plan.json"), SERVING_TARGETS["gguf"]
    with pytest.raises(PlanError, match=r"lora and rslora, but the plan has dora; use --to gguf-merged"):
        target.check(with_lora(plan, {"variant": "dora"}))
    SERVING_TARGETS["gguf-merged"].check(with_lora(plan, {"variant": "dora"}))
    modules = {name: choice.model_copy(update={"rank": 0}) for name, choice in plan.plan.modules.items()}
    unranked = plan.model_copy(update={"plan": plan.plan.model_copy(update={"modules": modules})})
    with pytest.raises(PlanError, match=r"those of the plan are all 0; use --to gguf-merged"):
        target.check(unranked)
    layout = plan.layout.model_copy(update={"architecture": "BertForSequenceClassification"})
    with pytest.raises(PlanError, match=r"written of LlamaFor.*is a BertForSeq.*; use --to merged"):
        target.check(plan.model_copy(update={"layout": layout}))


def sentence_pieces() -> PreTrainedTokenizerFast:
    """As Llama 2 has: BPE over whole texts, with bytes for what has no piece."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        "▁", "merged_with_next"
    )  # so that no piece spans two words
    special = ["<unk>", "<s>", "</s>", *(f"<0x{at:02X}>" for at in range(256))]
    tokenizer.train_from_iterator(
        [row["text"] for row in facts()],
        trainers.BpeTrainer(vocab_size=320, special_tokens=special, show_progress=False),
    )
    saved = json.loads(tokenizer.to_str())
    saved["pre_tokenizer"] = None
    saved["added_tokens"] = saved["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def test_scores_are_the_order_of_merges() -> None:
    tokenizer = sentence_pieces()
    found = vocabulary(tokenizer, 330)
    assert found["ggml.model"] == "llama"
    assert found["ggml.add_bos_token"] and not found["ggml.add_eos_token"]
    assert found["ggml.add_space_prefix"]
    by_score = sorted(range(320), key=lambda at: -found["ggml.scores"][at])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert [found["ggml.tokens"][at] for at in by_score[: len(merges)]] == ["".join(pair) for pair in merges]
    kinds = found["ggml.token_type"]
    assert kinds[:4] == [2, 3, 3, 6]  # unknown, control, control, byte
    assert kinds[320:] == [5] * 10  # rows of embeddings without a token


def test_other_tokenizers_are_refused() -> None:
    with pytest.raises(PlanError, match="tokenizers are BPE, but the run's is Unigram; use --to merged"):
        vocabulary(unigram([row["text"] for row in facts()]), 200)
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(PlanError, match=r"split as by GPT-2.*splits it by Whitespace; use --to merged"):
        vocabulary(PreTrainedTokenizerFast(tokenizer_object=plain), 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "target"), [("llama", "gguf"), ("qwen2", "gguf"), ("gpt2", "gguf"), ("gpt2", "gguf-merged")]
)
def test_a_real_llama_cpp(family: str, target: str, finished_run: FinishedRuns, tmp_path: Path) -> None:
    """Tied heads, biases, Conv1D; three formats and four ranks."""
    result = jointsearch.export_model(finished_run(family), target, tmp_path / "served")
    found = result.verification
    assert found is not None and found.rounding is not None
    assert found.expected.relative < 1e-3
    assert found.expected.same_continuations == found.num_prompts == 20
    assert 0 < found.rounding.relative < 0.05
    assert found.loss == pytest.approx(found.run_loss, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "gemma"])
def test_other_families(family: str, finished_run: FinishedRuns, tmp_path: Path) -> None:
    """Norms of q and k, scaled embeddings."""
    run = finished_run(str(of_the_zoo(family, tmp_path / "model")))
    result = jointsearch.export_model(run, "gguf", tmp_path / "served")
    assert result.verification is not None
    assert result.verification.expected.relative < 1e-3
    assert result.verification.expected.same_continuations == result.verification.num_prompts > 10


@pytest.mark.slow
def test_the_rotary_frequencies_of_llama_3(written: tuple[Path, Path], tmp_path: Path) -> None:
    from jointsearch.export.gguf.llama_cpp import LlamaCpp

    torch.manual_seed(0)
    scaled = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 2.0}
    rope = {"rope_type": "llama3", "rope_theta": 500.0, "original_max_position_embeddings": 32, **scaled}
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(**sizes, vocab_size=320, max_position_embeddings=256, rope_parameters=rope)
    model = LlamaForCausalLM(config).float().eval()
    model.requires_grad_(False)
    run = FinishedRun(written[0])  # for its tokenizer and the names of its modules
    save_model(model, run, tmp_path / "rounded.gguf", kept=False)
    save_unrounded(tmp_path / "rounded.gguf", tmp_path / "model.gguf")
    as_written(model, run.plan.plan.formats, kept=False)
    divisors = tensors(tmp_path / "model.gguf")["rope_freqs.weight"].data
    assert divisors[0] == 1 and divisors[-1] == 4 and 1 < divisors[2] < 4
    tokens = torch.randint(0, 320, (1, 200))
    wanted = model(tokens).logits
    found = LlamaCpp(tmp_path / "model.gguf")(tokens).logits
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.slow
def test_llama_cpp_reads_texts_as_the_tokenizer_does(
    written: tuple[Path, Path], finished_run: FinishedRuns, family_models: Path, tmp_path: Path
) -> None:
    from jointsearch.export.gguf.llama_cpp import LlamaCpp

    of_the_zoo("mistral", tmp_path / "model")
    pieces = sentence_pieces()
    pieces.save_pretrained(tmp_path / "model")
    run = finished_run(str(tmp_path / "model"))
    jointsearch.export_model(run, "gguf", tmp_path / "served", verify=False)
    texts = [row["text"] for row in facts()[::16]]
    texts += ["", "a", " a", "  two  spaces, 1234 5", "größe 漢字 🙂\t\n\n end ", "don't I'LL"]
    for folder, tokenizer in (
        (written[1], AutoTokenizer.from_pretrained(written[0] / "model")),
        (tmp_path / "served", pieces),
    ):
        model = LlamaCpp(folder / "model.gguf")
        for text in texts:
            assert model.tokens(text) == tokenizer(text)["input_ids"], text


@pytest.mark.slow
def test_a_file_that_llama_cpp_cannot_read_says_why(written: tuple[Path, Path], tmp_path: Path) -> None:
    from jointsearch.export.gguf.llama_cpp import LlamaCpp

    damaged = tmp_path / "model.gguf"
    damaged.write_bytes((written[1] / "model.gguf").read_bytes()[:4000])
    with pytest.raises(OutputError, match=r"llama.cpp cannot read .*model.gguf: .*(?i:failed|error|invalid)"):
        LlamaCpp(damaged)


def test_its_own_formats_keep_their_bytes(finished_run: FinishedRuns, tmp_path: Path) -> None:
    run = finished_run("llama", formats=("q4_0", "q8_0"))
    jointsearch.export_model(run, "gguf", tmp_path / "served", verify=False)
    plan = read_plan(run / "plan.json")
    saved = load_file(run / "model" / "model.safetensors")
    stored = tensors(tmp_path / "served" / "model.gguf")
    kinds = set()
    for name, there, rows in blocks_of_a_plan(plan):
        kind = plan.plan.modules[name].format
        if plan.layout[name].shape[1] % 32:  # no whole blocks
            continue
        kinds.add(kind)
        assert stored[there].tensor_type.name == kind.upper()
        assert np.array_equal(stored[there].data, saved[f"{name}.weight"].numpy()[rows]), name
    assert kinds == {"q4_0", "q8_0"}
