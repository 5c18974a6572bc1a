"""Runs as checkpoints of integers, which stock transformers loads by compressed-tensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import jointsearch
from jointsearch.errors import OutputError, PlanError
from jointsearch.export.finished_run import FinishedRun
from jointsearch.plan.plan_file import read_plan

FinishedRuns = Callable[..., Path]


@pytest.fixture(scope="module")
def exported(finished_run: FinishedRuns, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Llama with attention in 4 bits, feed-forward in 8, and its head, tied, in 16."""
    run = finished_run("llama", by_part=("nf4", "int8"))
    output = tmp_path_factory.mktemp("compressed") / "served"
    result = jointsearch.export_model(run, "compressed-tensors", output)
    assert result.verification is not None
    assert result.verification.expected.largest == 0
    assert 0 < result.verification.run.relative < 0.5
    return run, output


def test_the_integers_are_the_nearest_to_the_merged_weights(exported: tuple[Path, Path]) -> None:
    """Unpacked by hand: 8 numbers of 4 bits in 32, or 4 of 8, the first in the lowest bits."""
    run, output = exported
    plan = read_plan(run / "plan.json")
    merged = FinishedRun(run).merged()
    tensors = load_file(output / "model.safetensors")
    assert not any(name.startswith("lm_head") for name in tensors)
    assert tensors["model.embed_tokens.weight"].dtype == torch.bfloat16
    for spec in plan.layout.modules:
        if spec.kind != "linear":
            continue
        bits, group = (4, 32) if spec.part == "attention" else (8, spec.shape[1])
        words = tensors[f"{spec.name}.weight_packed"].numpy().astype(np.int64) & 0xFFFFFFFF
        places = np.arange(0, 32, bits)
        numbers = (words[..., None] >> places) % 2**bits - 2 ** (bits - 1)
        numbers = numbers.reshape(len(words), -1)[:, : spec.shape[1]]
        scales = tensors[f"{spec.name}.weight_scale"]
        assert scales.dtype == torch.bfloat16
        scales_of_weights = np.repeat(scales.float().numpy(), group, axis=1)
        wanted = merged.get_submodule(spec.name).weight.numpy()
        inside = np.clip(wanted / scales_of_weights, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        assert np.abs(numbers - inside).max() <= 0.5 + 1e-3
        assert np.abs(numbers).max() >= 2 ** (bits - 1) - 1


def test_the_config_names_every_module(exported: tuple[Path, Path]) -> None:
    run, output = exported
    plan = read_plan(run / "plan.json")
    config = json.loads((output / "config.json").read_text())["quantization_config"]
    by_bits = {
        group["weights"]["num_bits"]: set(group["targets"]) for group in config["config_groups"].values()
    }
    of_part = {
        part: {spec.name for spec in plan.layout.modules if spec.part == part}
        for part in ("attention", "mlp")
    }
    assert by_bits == {4: of_part["attention"], 8: of_part["mlp"]}
    assert set(config["ignore"]) == {"model.embed_tokens", "lm_head"}
    assert (config["quant_method"], config["format"]) == ("compressed-tensors", "pack-quantized")


def test_a_wrong_scale_is_found(
    finished_run: FinishedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jointsearch.export.targets.compressed_tensors import CompressedTensors

    write = CompressedTensors.write

    def doubled(self: Any, run: Any, folder: Path) -> None:
        from safetensors.torch import save_file

        write(self, run, folder)
        path = folder / "model.safetensors"
        tensors = load_file(path)
        name = next(name for name in tensors if name.endswith("weight_scale"))
        save_file({**tensors, name: 2 * tensors[name]}, path, metadata={"format": "pt"})

    monkeypatch.setattr(CompressedTensors, "write", doubled)
    run = finished_run("llama", by_part=("nf4", "int8"))
    with pytest.raises(OutputError, match="the logits of compressed-tensors differ"):
        jointsearch.export_model(run, "compressed-tensors", tmp_path / "x")


@pytest.mark.parametrize(
    ("family", "by_part", "says"),
    [
        (
            "llama",
            ("nf4", "nf4"),
            r"in_features are a multiple of 32, but .*down_proj has 176.*nearest is int8",
        ),
        (
            "llama",
            None,
            r"one format .*0.mlp.gate_proj 16bit, .*0.mlp.up_proj int8; the nearest .* all 16bit",
        ),
        ("gpt2", ("int8", "int8"), r"quantizes linear modules alone, but .* is conv1d .*nearest is 16bit"),
    ],
)
def test_what_the_checkpoint_cannot_have_is_refused_beforehand(
    family: str, by_part: Any, says: str, finished_run: FinishedRuns, tmp_path: Path
) -> None:
    formats = ("int8", "16bit") if by_part is None else ("nf4", "int8", "16bit")
    run = finished_run(family, by_part=by_part, formats=formats)
    with pytest.raises(PlanError, match=says):
        jointsearch.export_model(run, "compressed-tensors", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_its_own_formats_keep_their_numbers(finished_run: FinishedRuns, tmp_path: Path) -> None:
    """Without an adapter the packed integers and scales are the run's, bit for bit."""
    run = finished_run("llama", by_part=("int4-g32", "int8-channel"))
    result = jointsearch.export_model(run, "compressed-tensors", tmp_path / "served")
    assert result.verification is not None
    assert result.verification.expected.largest == 0
    plan = read_plan(run / "plan.json").plan
    saved = load_file(run / "model" / "model.safetensors")
    served = load_file(tmp_path / "served" / "model.safetensors")
    kept = [name for name in plan.formats if "embed" not in name and name not in plan.ranks]
    assert {plan.formats[name] for name in kept} == {"int4-g32", "int8-channel"}
    for name in kept:
        assert torch.equal(served[f"{name}.weight_packed"], saved[f"{name}.weight"]), name
        assert torch.equal(served[f"{name}.weight_scale"], saved[f"{name}.scales"]), name
