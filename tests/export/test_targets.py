"""What a plan is written as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jointsearch.errors import OutputError, PlanError, UnsupportedError
from jointsearch.export import TARGETS, ExportSource, export
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import ModuleChoice, Plan
from jointsearch.plan.plan_file import PlanFile, PlanSource, read_plan


@pytest.fixture
def source(layout: ModelLayout, configure: Any) -> ExportSource:
    """Ranks 4, 8 and 16 in turn, and none for every fourth module."""
    ranks = [4, 8, 0, 16]
    modules = {
        spec.name: ModuleChoice(
            format="nf4" if spec.quantizable else "16bit", rank=ranks[at % 4] if spec.adaptable else 0
        )
        for at, spec in enumerate(layout.modules)
    }
    study = configure(model={"revision": "v2"}, lora={"dropout": 0.1})
    plan = Plan(modules=modules, lora=study.lora)
    return ExportSource(PlanFile.build(plan, layout, study, PlanSource(study="small", trial=3)))


def test_the_plan_is_read_again(source: ExportSource, tmp_path: Path) -> None:
    path = tmp_path / "new" / "plan.json"
    export(source, "plan", path)
    assert read_plan(path) == source.plan


def test_peft_reads_its_config(source: ExportSource, tmp_path: Path) -> None:
    from peft import LoraConfig

    export(source, "peft", tmp_path / "adapter")
    read = LoraConfig.from_pretrained(tmp_path / "adapter")
    built = source.plan.with_context.lora_config()
    same = {
        name: value
        for name, value in built.to_dict().items()
        if name not in ("revision", "base_model_name_or_path")
    }
    assert {name: read.to_dict()[name] for name in same} == same
    assert (read.base_model_name_or_path, read.revision) == ("some/model", "v2")
    ranks = {name: choice.rank for name, choice in source.plan.plan.modules.items() if choice.rank}
    assert set(read.target_modules) == set(ranks)
    assert {name.replace("\\", ""): rank for name, rank in read.rank_pattern.items()} == {
        name: rank for name, rank in ranks.items() if rank != 16
    }
    assert (read.r, read.lora_alpha, read.lora_dropout) == (16, 16, 0.1)


def test_peft_has_no_plan_without_an_adapter(
    source: ExportSource, layout: ModelLayout, tmp_path: Path
) -> None:
    modules = {
        name: choice.model_copy(update={"rank": 0}) for name, choice in source.plan.plan.modules.items()
    }
    plan = source.plan.plan.model_copy(update={"modules": modules})
    without = ExportSource(PlanFile.build(plan, layout, source.plan.study))
    with pytest.raises(PlanError, match="must have an adapter to be exported to PEFT"):
        export(without, "peft", tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_what_is_there_is_kept_unless_one_says_so(source: ExportSource, tmp_path: Path) -> None:
    path, folder = tmp_path / "plan.json", tmp_path / "adapter"
    path.write_text("mine")
    folder.mkdir()
    export(source, "peft", folder)  # an empty folder loses nothing
    for target, output in (("plan", path), ("peft", folder)):
        with pytest.raises(OutputError, match="is there already; give --force"):
            export(source, target, output)
        export(source, target, output, overwrite=True)
    assert json.loads(path.read_text())["format"] == "jointsearch-plan"
    with pytest.raises(OutputError, match="plan is written to a file, but this is a folder"):
        export(source, "plan", folder, overwrite=True)
    with pytest.raises(OutputError, match="peft is written to a folder, but this is a file"):
        export(source, "peft", path, overwrite=True)


def test_an_unknown_target_names_the_nearest(source: ExportSource, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"must be one of plan, .*peft.*'pfet'; did you mean 'peft'"):
        export(source, "pfet", tmp_path / "x")


def test_every_target_says_what_it_writes() -> None:
    assert all(8 < len(target.description) < 80 for target in TARGETS.values())
