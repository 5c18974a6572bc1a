"""A plan applied by transformers and PEFT on loading, and to a model that is in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

import jointsearch as js
from jointsearch.config.study import ModelSettings, StudyConfig
from jointsearch.errors import PlanError
from jointsearch.plan.plan import PlanContext
from jointsearch.training.model.architecture import model_class, read_layout

FORMATS = ("nf4", "int8", "16bit")


def mixed_plan(settings: ModelSettings, task_type: str) -> js.Plan:
    """Every format and the ranks 0, 2 and 5 in turn, as a plan of a study."""
    layout = read_layout(settings, task_type)
    modules = {
        spec.name: js.ModuleChoice(
            format=FORMATS[number % 3] if spec.quantizable else "16bit",
            rank=(2, 0, 5, 5)[number % 4] if spec.adaptable else 0,
        )
        for number, spec in enumerate(layout.modules)
    }
    config = StudyConfig.model_validate(
        {
            "name": "mixed",
            "model": settings.model_dump(),
            "task": {"type": "custom"}
            if task_type != "causal-lm"
            else {"type": "causal-lm", "data": {"package": "json"}},
        }
    )
    return js.Plan(modules=modules).within(PlanContext(layout, config))


def ranks_of(model: Any) -> dict[str, int]:
    """As PEFT has realized them."""
    return {
        name.removeprefix("base_model.model."): layer.r["default"]
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
    }


def inputs(task_type: str) -> dict[str, torch.Tensor]:
    tokens = torch.randint(1, 300, (2, 12), generator=torch.Generator().manual_seed(0))
    both = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    return both | ({"decoder_input_ids": tokens[:, :5]} if task_type == "seq2seq-lm" else {})


def test_in_memory_and_on_loading_give_the_same_model(family: tuple[ModelSettings, str]) -> None:
    settings, task_type = family
    plan = mixed_plan(settings, task_type)
    auto = model_class(task_type)
    torch.manual_seed(0)
    base = auto.from_pretrained(settings.id, quantization_config=plan.quantization_config())
    loaded = get_peft_model(base, plan.lora_config()).eval()
    wanted = {name: choice.rank for name, choice in plan.modules.items() if choice.rank}
    assert ranks_of(loaded) == wanted
    in_memory = js.get_plan_model(auto.from_pretrained(settings.id), plan).eval()
    assert ranks_of(in_memory) == wanted
    with torch.no_grad():
        assert torch.equal(loaded(**inputs(task_type)).logits, in_memory(**inputs(task_type)).logits)
        # the same adapter does the same to both, in the plan's scale
        trained = {
            name: torch.randn(value.shape, generator=torch.Generator().manual_seed(1)) / 8
            for name, value in get_peft_model_state_dict(in_memory).items()
        }
        before = in_memory(**inputs(task_type)).logits
        for model in (loaded, in_memory):
            set_peft_model_state_dict(model, trained)
        after = in_memory(**inputs(task_type)).logits
        assert not torch.equal(before, after)
        assert torch.equal(loaded(**inputs(task_type)).logits, after)


def test_what_was_quantized_in_memory_is_saved_and_loaded(
    family: tuple[ModelSettings, str], tmp_path: Path
) -> None:
    settings, task_type = family
    plan = mixed_plan(settings, task_type)
    auto = model_class(task_type)
    model = js.get_plan_model(auto.from_pretrained(settings.id), plan).eval()
    with torch.no_grad():
        expected = model(**inputs(task_type)).logits
    model.save_pretrained(tmp_path / "adapter")
    model.unload().save_pretrained(tmp_path / "model")
    base = auto.from_pretrained(tmp_path / "model")
    again = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(again(**inputs(task_type)).logits, expected)


def test_starts_follow_from_the_seed(family_folder: Path) -> None:
    settings = ModelSettings(id=str(family_folder / "llama"))
    plan = mixed_plan(settings, "causal-lm")

    def start(seed: int) -> dict[str, torch.Tensor]:
        model = js.get_plan_model(AutoModelForCausalLM.from_pretrained(settings.id), plan, seed=seed)
        found: dict[str, torch.Tensor] = get_peft_model_state_dict(model)
        return found

    one, same, other = start(1), start(1), start(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_loftq_starts_from_what_quantization_took_away(family_folder: Path) -> None:
    settings = ModelSettings(id=str(family_folder / "llama"))
    plan = mixed_plan(settings, "causal-lm")
    context = plan.known_context
    name = "model.layers.0.mlp.up_proj"
    modules = {other: js.ModuleChoice(format="16bit", rank=0) for other in plan.modules}
    modules[name] = js.ModuleChoice(format="nf4", rank=64)
    lora = plan.lora.model_copy(update={"init": "loftq", "alpha": 64.0})
    plan = js.Plan(modules=modules, lora=lora).within(context)
    before = AutoModelForCausalLM.from_pretrained(settings.id).get_submodule(name).weight.detach().clone()
    model = js.get_plan_model(AutoModelForCausalLM.from_pretrained(settings.id), plan).eval()
    layer = model.base_model.model.get_submodule(name)
    # of full rank: the adapter gives back all of it, up to the rounding of the 16-bit type
    with torch.no_grad():
        rows = layer(torch.eye(64)).T
    assert (rows - before.bfloat16()).abs().max() < 1e-4


@pytest.mark.parametrize("other", ["qwen2", "gpt2"])
def test_a_plan_for_another_model_is_refused(family_folder: Path, other: str) -> None:
    plan = mixed_plan(ModelSettings(id=str(family_folder / "llama")), "causal-lm")
    model = AutoModelForCausalLM.from_pretrained(family_folder / other)
    with pytest.raises(PlanError, match="the plan's LlamaForCausalLM differ in") as found:
        js.get_plan_model(model, plan)
    assert "\n" not in str(found.value)


def test_a_quantized_model_is_refused(family_folder: Path) -> None:
    settings = ModelSettings(id=str(family_folder / "llama"))
    plan = mixed_plan(settings, "causal-lm")
    base = AutoModelForCausalLM.from_pretrained(settings.id, quantization_config=plan.quantization_config())
    with pytest.raises(PlanError, match="without quantization"):
        js.get_plan_model(base, plan)


def test_a_plan_of_no_study_is_refused(family_folder: Path) -> None:
    settings = ModelSettings(id=str(family_folder / "llama"))
    plan = js.Plan(modules=mixed_plan(settings, "causal-lm").modules)
    for use in (plan.lora_config, plan.quantization_config, lambda: js.get_plan_model(None, plan)):  # type: ignore[arg-type]
        with pytest.raises(PlanError, match="must belong to a study"):
            use()
