"""Plans as configurations of other trainers: axolotl, LLaMA-Factory and TRL.

``trainer_options.json`` has the names and types of the options that are written, as the sources of the
trainers have them.
"""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from pydantic import PositiveInt, TypeAdapter
from safetensors.torch import load_file
from transformers import TrainingArguments

from jointsearch.config.study import StudyConfig
from jointsearch.errors import PlanError
from jointsearch.export import TARGETS, ExportSource, export
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.plan.plan_file import PlanFile, PlanSource, read_plan

OPTIONS = json.loads((Path(__file__).parent / "trainer_options.json").read_text())

Make = Callable[..., ExportSource]

RANKS = (4, 8, 0, 16)


@pytest.fixture
def make(layout: ModelLayout, configure: Any) -> Make:
    """A plan of formats and ranks in turn for the small layout."""

    def made(
        formats: tuple[str, ...] = ("nf4", "16bit", "nf4"), ranks: tuple[int, ...] = RANKS, **sections: Any
    ) -> ExportSource:
        study: StudyConfig = configure(model={"revision": "v2"}, **sections)
        modules = {
            spec.name: ModuleChoice(
                format=formats[at % len(formats)] if spec.quantizable else "16bit",
                rank=ranks[at % len(ranks)] if spec.adaptable else 0,
            )
            for at, spec in enumerate(layout.modules)
        }
        plan = Plan(modules=modules, lora=study.lora)
        return ExportSource(PlanFile.build(plan, layout, study, PlanSource(study="small", trial=3)))

    return made


TEXTS = {"type": "causal-lm", "data": {"hub": "some/texts", "config": "en"}, "text_column": "content"}
CHATS = {
    "type": "causal-lm",
    "data": {"files": {"train": "chats.jsonl", "validation": "held-out.jsonl"}},
    "messages_column": "turns",
    "assistant_turns": "last",
}
PROMPTS = {
    "type": "causal-lm",
    "data": {"folder": "saved", "max_rows": {"train": 9}},
    "prompt": "{q} =",
    "completion": " {a}",
}


def typed(trainer: str, part: str, values: dict[str, Any]) -> None:
    """Every option has a name and a value that the trainer's own source has a type for."""
    names = {"Any": Any, "Literal": Literal, "PositiveInt": PositiveInt}
    for name, value in values.items():
        known = OPTIONS[trainer][part]
        if name not in known:  # LLaMA-Factory's are transformers' too
            assert trainer == "llama-factory" and part == "options"
            assert name in TrainingArguments.__dataclass_fields__ or name in ("do_train", "warmup_ratio"), (
                name
            )
            continue
        TypeAdapter(eval(known[name], names)).validate_python(value, strict=True)


def read_yaml(path: Path) -> tuple[list[str], dict[str, Any]]:
    text = path.read_text()
    return re.findall(r"^# (.*)", text, re.M), yaml.safe_load(text)


@pytest.mark.parametrize("of_task", [TEXTS, CHATS, PROMPTS], ids=["texts", "chats", "prompts"])
@pytest.mark.parametrize("formats", [("nf4", "16bit"), ("int8", "int8", "nf4"), ("16bit",)], ids="-".join)
def test_every_option_is_one_of_the_trainer_s(
    of_task: dict[str, Any], formats: tuple[str, ...], make: Make, tmp_path: Path
) -> None:
    source = make(formats, task=of_task, lora={"variant": "rslora"})
    export(source, "axolotl", tmp_path / "a.yaml")
    _, settings = read_yaml(tmp_path / "a.yaml")
    typed("axolotl", "options", settings)
    for rows in (*settings["datasets"], *settings.get("test_datasets", ())):
        typed("axolotl", "dataset", rows)
        if isinstance(rows["type"], dict):
            typed("axolotl", "type", rows["type"])
    export(source, "llama-factory", tmp_path / "lf")
    _, settings = read_yaml(tmp_path / "lf" / "train.yaml")
    typed("llama-factory", "options", settings)
    for rows in json.loads((tmp_path / "lf" / "dataset_info.json").read_text()).values():
        assert rows.keys() & {"file_name", "hf_hub_url"}
        of_rows = {name: rows[name] for name in ("formatting", "subset", "split") if name in rows}
        typed("llama-factory", "dataset", of_rows)
        typed("llama-factory", "columns", rows["columns"])
        typed("llama-factory", "tags", rows.get("tags", {}))


def test_axolotl_has_the_ranks_of_the_plan(make: Make, layout: ModelLayout, tmp_path: Path) -> None:
    """PEFT makes of its options what it makes of the plan's own arguments."""
    from peft import LoraConfig

    source = make(task=TEXTS, calibration={"learning_rate": 0.002}, lora={"dropout": 0.1})
    export(source, "axolotl", tmp_path / "a.yaml")
    notes, settings = read_yaml(tmp_path / "a.yaml")
    assert notes[0] == "axolotl: trial 3 of the study 'small', exported by jointsearch."
    assert notes[1:] == [f"It has {limit}." for limit in TARGETS["axolotl"].limits(source)]
    config = LoraConfig(
        r=settings["lora_r"],
        lora_alpha=settings["lora_alpha"],
        lora_dropout=settings["lora_dropout"],
        target_modules=settings["lora_target_modules"],
        rank_pattern=settings["lora_rank_pattern"],
    )
    wanted = LoraConfig(**source.plan.peft)
    for name in ("r", "lora_alpha", "lora_dropout", "target_modules", "rank_pattern"):
        assert getattr(config, name) == getattr(wanted, name), name
    assert (settings["adapter"], settings["load_in_4bit"]) == ("qlora", True)
    skipped = settings["bnb_config_kwargs"]["llm_int8_skip_modules"]
    plain = [name for name, choice in source.plan.plan.modules.items() if choice.format == "16bit"]
    linear = [name for name in plain if layout[name].kind != "embedding"]
    tied = [name for spec in layout.modules for name in spec.tied]
    assert [name.replace("\\", "") for name in skipped] == [*linear, *tied]
    assert settings["datasets"] == [
        {"path": "some/texts", "split": "train", "name": "en", "type": "completion", "field": "content"}
    ]
    assert (settings["val_set_size"], settings["learning_rate"]) == (0.05, 0.002)
    assert settings["revision_of_model"] == "v2"


def test_llama_factory_has_one_rank_that_trains_as_much(
    make: Make, layout: ModelLayout, tmp_path: Path
) -> None:
    source = make(("nf4", "int8", "nf4"), task=CHATS)
    export(source, "llama-factory", tmp_path / "lf")
    notes, settings = read_yaml(tmp_path / "lf" / "train.yaml")
    ranks = source.plan.plan.ranks
    assert settings["lora_target"].split(",") == list(ranks)
    trained = sum(rank * sum(layout[name].shape) for name, rank in ranks.items())
    at_one = sum(sum(layout[name].shape) for name in ranks)
    assert abs(settings["lora_rank"] * at_one - trained) <= at_one / 2
    assert settings["lora_rank"] not in (min(ranks.values()), max(ranks.values()))
    assert (settings["quantization_bit"], settings["stage"], settings["mask_history"]) == (4, "sft", True)
    assert any("one weight format for all: 4 bits" in note for note in notes)
    assert any(f"one rank for all: {settings['lora_rank']}, which" in note for note in notes)
    data = json.loads((tmp_path / "lf" / "dataset_info.json").read_text())
    assert {name: Path(rows["file_name"]).name for name, rows in data.items()} == {
        "train": "chats.jsonl",
        "validation": "held-out.jsonl",
    }
    assert data["train"]["columns"] == {"messages": "turns"}
    assert (settings["dataset"], settings["eval_dataset"]) == ("train", "validation")


@pytest.mark.parametrize(
    ("formats", "arguments", "says"),
    [
        (
            ("nf4", "int8"),
            {},
            r"one weight format for all: . bits here, but the plan has \d+ in nf4, \d+ in int8",
        ),
        (
            ("nf4",),
            {"lora": {"alpha": None, "alpha_over_rank": 0.3}},
            "alphas that are integers: 4.8 is rounded",
        ),
        (("nf4",), {"lora": {"init": "loftq"}}, "no start at what quantization took away"),
        (("nf4",), {"task": PROMPTS}, "no templates: the rows must have prompt and completion"),
        (("nf4",), {"task": PROMPTS}, "no data.max_rows, which the study's data has"),
        (("nf4",), {}, "no data of the installed package json"),
        (("nf4",), {"task": CHATS}, "no assistant_turns: last"),
    ],
)
def test_what_axolotl_cannot_have_is_said(
    formats: tuple[str, ...], arguments: dict[str, Any], says: str, make: Make
) -> None:
    limits = TARGETS["axolotl"].limits(make(formats, **arguments))
    assert any(re.search(says, limit) for limit in limits), limits


@pytest.mark.parametrize("target", ["axolotl", "llama-factory", "trl"])
def test_other_tasks_and_plans_without_adapters_are_refused(target: str, make: Make, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"must have an adapter .* its ranks are all 0"):
        export(make(ranks=(0,)), target, tmp_path / "x")
    labels = {"type": "sequence-classification", "labels": [0, 1], "data": {"hub": "a/b"}}
    study = make().plan.study
    other = StudyConfig.model_validate({**study.model_dump(mode="json"), "task": labels})
    with pytest.raises(PlanError, match=r"trains causal .* task is sequence-classification; use --to peft"):
        export(ExportSource(make().plan.under(other)), target, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # those of TRL itself
def test_trl_trains_the_plan(
    make: Make, rows_file: Path, family_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script runs, and each adapter of the model that it saves has the plan's rank."""
    from jointsearch.training.model.architecture import read_layout

    study = make().plan.study
    values = {
        **study.model_dump(mode="json"),
        "model": {"id": str(family_models / "llama")},
        "task": {
            "type": "causal-lm",
            "data": {"files": {"train": str(rows_file)}, "validation_share": 0.1},
            "prompt": "{text}",
            "completion": " {german}",
            "sequence_length": 32,
        },
        "full_run": {"max_steps": 2, "batch_size": 2, "learning_rate": 0.01},
    }
    of_llama = StudyConfig.model_validate(values)
    layout = read_layout(of_llama.model, "causal-lm", None)
    modules = {
        spec.name: ModuleChoice(
            format=("nf4", "int8", "16bit")[at % 3] if spec.quantizable else "16bit",
            rank=RANKS[at % 4] if spec.adaptable else 0,
        )
        for at, spec in enumerate(layout.modules)
    }
    plan = PlanFile.build(Plan(modules=modules, lora=of_llama.lora), layout, of_llama)
    export(ExportSource(plan), "trl", tmp_path / "trl")
    wanted = {name: rank for name, rank in plan.plan.ranks.items() if name != "model.embed_tokens"}
    written = read_plan(tmp_path / "trl" / "plan.json").plan
    assert written.ranks == wanted
    assert plan.plan.formats == written.formats | {
        "model.embed_tokens": "nf4"
    }  # its tied head is read by TRL
    assert any(
        "no quantized or adapted heads" in limit for limit in TARGETS["trl"].limits(ExportSource(plan))
    )
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(tmp_path / "trl" / "train.py"), run_name="__main__")
    saved = load_file(tmp_path / of_llama.name / "adapter_model.safetensors")
    found = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): len(value)
        for name, value in saved.items()
        if "lora_A" in name
    }
    assert found == wanted
    assert any(value.abs().max() > 0 for name, value in saved.items() if "lora_B" in name)
    assert all(torch.isfinite(value).all() for value in saved.values())
