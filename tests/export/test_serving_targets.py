"""Finished runs as adapters and merged checkpoints, loaded by stock transformers and PEFT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file

import jointsearch
from fixtures.exports import weight_of
from jointsearch.cli import cli
from jointsearch.errors import OutputError, PlanError, UnsupportedError
from jointsearch.export.serving import SERVING_TARGETS
from jointsearch.plan.plan_file import read_plan
from jointsearch.training.full_run.evaluation import evaluate_run

FinishedRuns = Callable[..., Path]

FAMILIES = [
    ("llama", "causal-lm"),
    ("qwen2", "causal-lm"),
    ("gpt2", "causal-lm"),
    ("bert", "sequence-classification"),
    ("distilbert", "question-answering"),
    ("t5", "seq2seq-lm"),
]
"""A tied head, biases, Conv1D, a new head that PEFT saves, two kinds of logits, and an encoder-decoder."""


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "verification.json").read_text())
    return found


@pytest.mark.parametrize(("family", "task"), FAMILIES)
def test_merged_weights_are_those_of_base_and_adapter(
    family: str, task: str, finished_run: FinishedRuns, tmp_path: Path
) -> None:
    run = finished_run(family, task)
    result = jointsearch.export_model(run, "merged", tmp_path / "merged")
    assert result.verification is not None
    assert result.verification.expected.relative < 0.01
    plan = read_plan(run / "plan.json")
    base = load_file(run / "model" / "model.safetensors")
    adapter = load_file(run / "adapter" / "adapter_model.safetensors")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    assert {value.dtype for value in merged.values()} == {torch.bfloat16}
    for name, choice in plan.plan.modules.items():
        is_conv1d = plan.layout[name].kind == "conv1d"
        wanted = weight_of(base, name, choice.format) if not plan.layout[name].trained else None
        if wanted is None:
            wanted = adapter[f"base_model.model.{name}.weight"].float()
        elif is_conv1d and choice.format == "16bit":
            wanted = wanted.T
        if choice.rank:
            a, b = (adapter[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
            assert a.shape[0] == choice.rank and b.abs().max() > 0
            wanted = wanted + 16 / choice.rank * b.float() @ a.float()
        found = merged[f"{name}.weight"].float()
        found = found.T if is_conv1d else found
        torch.testing.assert_close(found, wanted, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize(("family", "task"), FAMILIES)
def test_a_merged_quantized_checkpoint_takes_the_bytes_of_the_plan(
    family: str, task: str, finished_run: FinishedRuns, tmp_path: Path, tensor_bytes: Any
) -> None:
    run = finished_run(family, task)
    result = jointsearch.export_model(run, "merged-quantized", tmp_path / "served")
    assert result.verification is not None
    assert result.verification.expected.largest == 0
    assert result.verification.run.relative > 0
    assert tensor_bytes(tmp_path / "served") == tensor_bytes(run / "model")


@pytest.mark.parametrize(("family", "task"), [FAMILIES[i] for i in (0, 2, 3)])
def test_an_adapter_is_served_beside_the_original_model(
    family: str, task: str, finished_run: FinishedRuns, tmp_path: Path, family_models: Path
) -> None:
    run = finished_run(family, task)
    result = jointsearch.export_model(run, "adapter", tmp_path / "adapter")
    assert result.verification is not None
    assert result.verification.expected.relative < 1e-5
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(family_models / family)
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        ranks = {name: file.get_slice(name).get_shape()[0] for name in file.keys() if "lora_A" in name}  # noqa: SIM118
    plan = read_plan(run / "plan.json").plan
    assert ranks == {f"base_model.model.{name}.lora_A.weight": rank for name, rank in plan.ranks.items()}


def test_a_run_in_16_bits_keeps_its_outputs(finished_run: FinishedRuns, tmp_path: Path) -> None:
    run = finished_run("llama", formats=("16bit",), alpha_over_rank=2.0)
    for target in ("adapter", "merged"):
        result = jointsearch.export_model(run, target, tmp_path / target)
        assert result.verification is not None
        assert result.verification.run.relative < (1e-5 if target == "adapter" else 0.01)
        same = result.verification.run.same_continuations
        assert same is not None and same >= (20 if target == "adapter" else 18)  # rounding decides ties
    loss = evaluate_run(run, "validation")["loss"]
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    from jointsearch.export.finished_run import FinishedRun

    task = FinishedRun(run).task
    found = task.loss(model, "validation", None, 8)
    assert found == pytest.approx(loss, rel=1e-3)


def test_the_variants_of_lora_are_merged(finished_run: FinishedRuns, tmp_path: Path) -> None:
    for variant in ("rslora", "dora"):
        run = finished_run("qwen2", variant=variant)
        result = jointsearch.export_model(run, "merged", tmp_path / variant)
        assert result.verification is not None
        assert result.verification.expected.relative < 0.01
    with pytest.raises(PlanError, match=r"variants lora and rslora, but the plan has dora; use --to merged"):
        jointsearch.export_model(run, "adapter", tmp_path / "adapter")


@pytest.mark.parametrize(
    ("target", "arguments", "says"),
    [
        ("adapter", {"ranks": (0,)}, "needs a rank above 0.*use --to merged"),
        ("adapter", {"formats": ("16bit",), "init": "pissa"}, "start at nothing.*lora.init: pissa"),
        ("merged-quantized", {"formats": ("16bit",)}, "quantizes no module.*use --to merged"),
    ],
)
def test_what_cannot_be_carried_is_refused_beforehand(
    target: str, arguments: dict[str, Any], says: str, finished_run: FinishedRuns, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=says):
        jointsearch.export_model(finished_run("llama", **arguments), target, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_computes_something_else_is_not_left_there(
    finished_run: FinishedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = SERVING_TARGETS["adapter"]
    write = type(target).write

    def without_alphas(self: Any, run: Any, folder: Path) -> None:
        write(self, run, folder)
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "lora_alpha": 4}))

    monkeypatch.setattr(type(target), "write", without_alphas)
    with pytest.raises(OutputError, match=r"must compute what was trained, but the logits of adapter differ"):
        jointsearch.export_model(finished_run("llama"), "adapter", tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []
    result = jointsearch.export_model(finished_run("llama"), "adapter", tmp_path / "adapter", verify=False)
    assert result.verification is None
    assert not (tmp_path / "adapter" / "verification.json").exists()


def test_the_card_has_the_plan_the_metrics_and_how_to_load_it(
    finished_run: FinishedRuns, tmp_path: Path
) -> None:
    run = finished_run("llama")
    jointsearch.export_model(run, "adapter", tmp_path / "mine")
    card = hf_card(tmp_path / "mine" / "README.md")
    assert card.data.to_dict() == {"library_name": "peft", "tags": ["jointsearch", "lora"]}
    metrics = json.loads((run / "metrics.json").read_text())["validation"]
    assert f"| loss | {metrics['loss']:.4f} |" in card.text
    assert "--max-lora-rank 16" in card.text
    assert 'PeftModel.from_pretrained(model, "mine")' in card.text
    assert f"Its loss there is {figures(tmp_path / 'mine')['loss']:.4f}" in card.text
    assert read_plan(tmp_path / "mine" / "plan.json") == read_plan(run / "plan.json")


def hf_card(path: Path) -> Any:
    from huggingface_hub import ModelCard

    return ModelCard.load(path)


def test_the_command_says_what_was_verified(finished_run: FinishedRuns, tmp_path: Path) -> None:
    run, output = finished_run("llama"), tmp_path / "new" / "merged"
    command = ["export-model", str(run), "--to", "merged", "-o", str(output)]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.exit_code == 0
    assert f"wrote {output}: {run} for merged\n" in result.output
    found = figures(output)
    assert f"loss {found['loss']:.4f}, the run's {found['run_loss']:.4f}" in result.output
    refused = CliRunner().invoke(cli, command)
    assert isinstance(refused.exception, OutputError)
    assert CliRunner().invoke(cli, [*command, "--force", "--no-verify"]).exit_code == 0
    assert not (output / "verification.json").exists()


def test_a_folder_without_a_run_and_an_unknown_target(finished_run: FinishedRuns, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a finished run has a metrics.json, but .* has none"):
        jointsearch.export_model(tmp_path, "merged", tmp_path / "x")
    with pytest.raises(UnsupportedError, match=r"serving target must be one of adapter, merged.*'mergd'"):
        jointsearch.export_model(finished_run("llama"), "mergd", tmp_path / "x")


def test_every_target_says_what_it_writes() -> None:
    assert all(8 < len(target.description) < 80 for target in SERVING_TARGETS.values())
