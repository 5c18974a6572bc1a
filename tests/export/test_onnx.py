"""Runs as ONNX graphs, in a real ONNX Runtime on the CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file
from transformers import GenerationConfig

import jointsearch
from fixtures.exports import of_the_zoo
from jointsearch.errors import PlanError, UnsupportedError
from jointsearch.export.finished_run import FinishedRun
from jointsearch.export.onnx.session import OnnxModel
from jointsearch.plan.plan_file import read_plan

FinishedRuns = Callable[..., Path]


@pytest.fixture(scope="module")
def exported(finished_run: FinishedRuns, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Llama with a tied head in three formats, and its graph."""
    run, output = finished_run("llama"), tmp_path_factory.mktemp("onnx") / "served"
    result = jointsearch.export_model(run, "onnx", output)
    assert result.verification is not None
    assert result.verification.expected.relative < 1e-5
    assert result.verification.expected.same_continuations == result.verification.num_prompts == 20
    return run, output


@pytest.fixture(scope="module")
def graph(exported: tuple[Path, Path]) -> Any:
    return onnx.load(exported[1] / "model.onnx").graph


def stored(graph: Any, name: str) -> np.ndarray:
    (found,) = [tensor for tensor in graph.initializer if tensor.name == name]
    return numpy_helper.to_array(found)


def test_every_module_has_its_own_format(exported: tuple[Path, Path], graph: Any) -> None:
    """The packed numbers in the graph are those of the run's checkpoint."""
    run, _ = exported
    plan = read_plan(run / "plan.json")
    tensors = load_file(run / "model" / "model.safetensors")
    nodes = {
        name: [node for node in graph.node if node.op_type == name] for name in ("MatMulBnb4", "MatMulNBits")
    }
    linear = [spec.name for spec in plan.layout.modules if spec.kind == "linear"]
    for weight_format, operator in (("nf4", "MatMulBnb4"), ("int8", "MatMulNBits")):
        names = [name for name in linear if plan.plan.formats.get(name) == weight_format]
        tied = int(plan.plan.formats["model.embed_tokens"] == weight_format)
        assert len(nodes[operator]) == len(names) + tied > 1
        found = [stored(graph, node.input[1]) for node in nodes[operator]]
        for name in names:
            weight = tensors[f"{name}.weight"].numpy()
            if weight_format == "nf4":
                assert any(np.array_equal(packed, weight.ravel()) for packed in found), name
            else:
                weight = weight.reshape(len(tensors[f"{name}.SCB"]), -1)  # saved flat
                rows = [packed.reshape(len(packed), -1)[:, : weight.shape[1]] for packed in found]
                wanted = (weight.astype(int) + 128).astype(np.uint8)
                assert any(np.array_equal(packed, wanted) for packed in rows), name


def test_what_is_not_quantized_is_stored_in_16_bits(exported: tuple[Path, Path], graph: Any) -> None:
    run, output = exported
    plan = read_plan(run / "plan.json")
    wide = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.BFLOAT16]
    assert sum(spec.kind == "linear" for spec in plan.layout.modules) == 14
    plain = [name for name, choice in plan.plan.modules.items() if choice.format == "16bit"]
    assert len(wide) == len([name for name in plain if plan.layout[name].kind == "linear"])
    # NF4's scales in float32, int8's for blocks of a row, and hardly anything beside them
    size = (output / "model.onnx.data").stat().st_size
    assert size < 1.3 * plan.cost.model_bytes


def test_the_graph_tells_nothing_of_the_machine(exported: tuple[Path, Path]) -> None:
    content = (exported[1] / "model.onnx").read_bytes()
    assert b".py" not in content
    assert str(Path(jointsearch.__file__).parent).encode() not in content


def test_steps_with_a_cache_write_what_transformers_writes(exported: tuple[Path, Path]) -> None:
    """Two prompts of different lengths, padded on the left, token by token."""
    run, output = exported
    reference: Any = FinishedRun(run).plain()
    reference.get_base_model().config.use_cache = True
    prompts = torch.tensor([[0, 0, 0, 7, 8, 9], [11, 12, 13, 14, 15, 16]])
    mask = torch.tensor([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    wanted = reference.generate(
        input_ids=prompts,
        attention_mask=mask,
        generation_config=GenerationConfig(max_new_tokens=12, do_sample=False, pad_token_id=0),
    )[:, 6:].numpy()
    model = OnnxModel(output)
    tokens, seen, cache = prompts.numpy(), mask.numpy(), None
    written = []
    for _ in range(12):
        logits, cache = model.step(tokens, seen, cache)
        tokens = logits[:, -1:].argmax(-1)
        seen = np.concatenate([seen, np.ones_like(tokens)], axis=1)
        written.append(tokens)
    assert np.concatenate(written, axis=1).tolist() == wanted.tolist()


def test_the_inputs_have_the_names_that_runtimes_share(exported: tuple[Path, Path], graph: Any) -> None:
    def shapes(values: Any) -> dict[str, list[Any]]:
        return {
            value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in values
        }

    cache = {f"{at}.{part}" for at in (0, 1) for part in ("key", "value")}
    inputs, outputs = shapes(graph.input), shapes(graph.output)
    assert set(inputs) == {
        "input_ids",
        "attention_mask",
        "position_ids",
        *(f"past_key_values.{name}" for name in cache),
    }
    assert inputs["past_key_values.1.key"] == ["batch_size", 2, "past_sequence_length", 16]
    assert inputs["attention_mask"] == ["batch_size", "total_sequence_length"]
    assert set(outputs) == {"logits", *(f"present.{name}" for name in cache)}
    assert outputs["logits"] == ["batch_size", "sequence_length", 320]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2", "gpt2", "gpt_neo"])
def test_other_families(family: str, finished_run: FinishedRuns, tmp_path: Path) -> None:
    """Biases, Conv1D, and layers that see but the last tokens."""
    result = jointsearch.export_model(finished_run(family), "onnx", tmp_path / "served")
    assert result.verification is not None
    assert result.verification.expected.relative < 1e-5
    assert result.verification.expected.same_continuations == result.verification.num_prompts > 10


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mistral", "gemma3", "falcon"])
def test_windows_scaled_embeddings_and_fused_projections(
    family: str, finished_run: FinishedRuns, tmp_path: Path
) -> None:
    run = finished_run(str(of_the_zoo(family, tmp_path / "model")))
    result = jointsearch.export_model(run, "onnx", tmp_path / "served")
    assert result.verification is not None
    assert result.verification.expected.relative < 1e-5
    assert result.verification.expected.same_continuations == result.verification.num_prompts > 10


@pytest.mark.slow
def test_a_family_that_keeps_something_else_is_refused(finished_run: FinishedRuns, tmp_path: Path) -> None:
    run = finished_run(str(of_the_zoo("mamba", tmp_path / "model")))
    with pytest.raises(UnsupportedError, match=r"MambaForCausalLM cannot be traced for ONNX.*--to merged"):
        jointsearch.export_model(run, "onnx", tmp_path / "served")
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize(
    ("family", "task", "lora", "says"),
    [
        ("bert", "sequence-classification", {}, "causal language models alone.*sequence-classification"),
        ("qwen2", "causal-lm", {"variant": "dora"}, "variants lora and rslora, but the plan has dora"),
    ],
)
def test_what_the_graph_cannot_have_is_refused_beforehand(
    family: str, task: str, lora: dict[str, Any], says: str, finished_run: FinishedRuns, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=says):
        jointsearch.export_model(finished_run(family, task, **lora), "onnx", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_onnx_runtime_has_not_is_refused_with_the_nearest(
    finished_run: FinishedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jointsearch.export.targets.onnx import Onnx

    monkeypatch.setattr(Onnx, "formats", ("int8",))
    with pytest.raises(PlanError, match=r"carries the formats int8, 16bit, but .* nf4; the nearest is int8"):
        jointsearch.export_model(finished_run("llama"), "onnx", tmp_path / "x")


def test_without_the_packages_one_line_names_the_extra(
    finished_run: FinishedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jointsearch.export.targets.onnx import Onnx

    monkeypatch.setattr(Onnx, "runtime", ("onnxruntime_of_nobody",))
    with pytest.raises(UnsupportedError, match=r"verifying onnx needs onnxruntime_of_nobody.*--no-verify"):
        jointsearch.export_model(finished_run("llama"), "onnx", tmp_path / "x", verify=True)
    monkeypatch.setattr(Onnx, "needs", ("onnx", "onnxscript_of_nobody"))
    with pytest.raises(UnsupportedError, match=r"needs onnxscript_of_nobody.*'jointsearch\[onnx\]'"):
        jointsearch.export_model(finished_run("llama"), "onnx", tmp_path / "x")
    assert json.loads((finished_run("llama") / "metrics.json").read_text())
    assert list(tmp_path.iterdir()) == []
