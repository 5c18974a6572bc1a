"""The transformers plug-in: registration in any order of imports, memory, and its errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BertConfig

from jointsearch import JointSearchConfig
from jointsearch.errors import PlanError
from jointsearch.quantization.plugin import save_model


@pytest.mark.parametrize("first", ["jointsearch", "transformers"])
def test_import_registers_in_any_order(first: str, family_folder: Path, tmp_path: Path) -> None:
    quantized = AutoModelForCausalLM.from_pretrained(
        family_folder / "llama",
        quantization_config=JointSearchConfig(
            {"model.layers.0.mlp.up_proj": "nf4", "model.embed_tokens": "int8"}
        ),
    )
    save_model(quantized, tmp_path)
    second = "transformers" if first == "jointsearch" else "jointsearch"
    code = (
        f"import {first}, {second}\n"
        "import sys\n"
        "from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})\n"
        "assert not any(type(finder).__module__ == 'jointsearch.hf' for finder in sys.meta_path)\n"
        "print(type(model.model.layers[0].mlp.up_proj).__name__, type(model.model.embed_tokens).__name__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["Linear4bit", "Embedding8bit"]


@pytest.mark.parametrize("weight_format", ["nf4", "int8"])
def test_without_the_plug_in_nothing_is_loaded(
    weight_format: str, family_folder: Path, tmp_path: Path
) -> None:
    """The numbers of int8, in the shape of the weight, would be taken for the weight itself."""
    name = "model.layers.0.mlp.up_proj"
    quantized = AutoModelForCausalLM.from_pretrained(
        family_folder / "llama", quantization_config=JointSearchConfig({name: weight_format})
    )
    save_model(quantized, tmp_path)
    code = f"from transformers import AutoModelForCausalLM as A; A.from_pretrained({str(tmp_path)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "got jointsearch" in run.stderr


def test_int8_that_was_saved_in_its_shape_is_loaded(family_folder: Path, tmp_path: Path) -> None:
    """As earlier versions did."""
    name = "model.layers.0.mlp.up_proj"
    config = JointSearchConfig({name: "int8"})
    quantized = AutoModelForCausalLM.from_pretrained(family_folder / "llama", quantization_config=config)
    save_model(quantized, tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    shape = quantized.get_submodule(name).weight.shape
    assert saved[f"{name}.weight"].shape == (shape.numel(),)
    saved[f"{name}.weight"] = saved[f"{name}.weight"].view(shape)
    ids = torch.arange(8).view(1, 8)
    expected = quantized.eval()(ids).logits
    for _ in range(2):  # flat, and then in its shape
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        assert torch.equal(loaded(ids).logits, expected)
        save_file(saved, tmp_path / "model.safetensors", {"format": "pt"})


def test_a_module_that_is_not_there_is_named(family_folder: Path) -> None:
    config = JointSearchConfig({"model.layers.7.mlp.up_proj": "nf4"})
    with pytest.raises(PlanError, match=r"LlamaForCausalLM has no module model\.layers\.7\.mlp\.up_proj"):
        AutoModelForCausalLM.from_pretrained(family_folder / "llama", quantization_config=config)


@pytest.mark.parametrize("weight_format", ["nf4", "int8"])
def test_a_tied_head_keeps_its_bias(weight_format: str, tmp_path: Path) -> None:
    """Tying pads a bias to the rows of the weight, and a packed weight has others."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=96
    )
    original = AutoModelForMaskedLM.from_config(config)
    original.cls.predictions.bias.data.normal_()
    original.save_pretrained(tmp_path / "base")
    name = "bert.embeddings.word_embeddings"
    model = AutoModelForMaskedLM.from_pretrained(
        tmp_path / "base", quantization_config=JointSearchConfig({name: weight_format})
    )
    save_model(model, tmp_path / "model")
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    ids = torch.arange(12).view(1, 12)
    with torch.no_grad():
        expected, result = model.eval()(ids).logits, loaded.eval()(ids).logits
        reference = original.eval()(ids).logits
    assert result.shape == (1, 12, 96)
    assert torch.equal(result, expected)
    assert (result - reference).abs().mean() < 0.3 * reference.abs().mean()


def test_loading_quantizes_tensor_by_tensor(family_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no time is more than one of the plan's weights there in full precision."""
    import jointsearch.quantization.plugin as plugin

    names = [f"model.layers.{block}.mlp.{kind}_proj" for block in (0, 1) for kind in ("gate", "up", "down")]
    waiting: list[int] = []
    original = plugin.quantized

    def watch(empty: torch.nn.Module, weight: torch.Tensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        model = models[0]
        on_meta = [n for n in names if model.get_submodule(n).weight.device.type == "meta"]
        waiting.append(len(on_meta))
        return original(empty, weight, dtype)

    models: list[torch.nn.Module] = []
    replace = plugin.replace_modules

    def remember(model: torch.nn.Module, *arguments: object) -> None:
        models.append(model)
        replace(model, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(plugin, "quantized", watch)
    monkeypatch.setattr(plugin, "replace_modules", remember)
    config = JointSearchConfig(dict.fromkeys(names, "nf4"))
    AutoModelForCausalLM.from_pretrained(family_folder / "llama", quantization_config=config)
    # Each weight is quantized while all later ones are still on the meta device.
    assert waiting == [6, 5, 4, 3, 2, 1]
