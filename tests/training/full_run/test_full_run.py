"""The full run: from an exported plan to files that stock transformers and PEFT load."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from jointsearch import JointSearchConfig
from jointsearch.config.study import StudyConfig, model_source
from jointsearch.config.training import TrainingSettings
from jointsearch.errors import JointSearchError, OutputError, PlanError, RunInterrupted
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan_file import PlanFile, read_plan, write_plan
from jointsearch.space import SearchSpace
from jointsearch.training.full_run import run as module
from jointsearch.training.full_run.evaluation import evaluate_run, load_run
from jointsearch.training.full_run.folder import finished_run
from jointsearch.training.full_run.run import check_model, full_run
from jointsearch.training.methods import lora


@pytest.fixture(scope="module")
def plan(config: StudyConfig, tiny_layout: ModelLayout, space: SearchSpace) -> PlanFile:
    values = {name: position % len(space.parameters[name]) for position, name in enumerate(space.parameters)}
    return PlanFile.build(space.plan(values), tiny_layout, config)


@pytest.fixture(scope="module")
def run(plan: PlanFile, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Any]:
    """A finished run: its folder, its metrics, and the model that was in memory."""
    folder = tmp_path_factory.mktemp("runs") / "final"
    kept: list[Any] = []
    attach = lora.attach_adapters

    def remember(*arguments: Any, **keywords: Any) -> Any:
        kept.append(attach(*arguments, **keywords))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lora, "attach_adapters", remember)
        metrics = full_run(plan, folder).model_dump(mode="json")
    return folder, metrics, kept[0].eval()


def test_files_load_with_stock_code_and_give_the_same_logits(
    run: tuple[Path, dict[str, Any], Any],
) -> None:
    folder, _, in_memory = run
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    model = PeftModel.from_pretrained(model, folder / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    inputs = tokenizer("def load(path):\n    return", return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, in_memory(**inputs).logits)


def test_the_adapter_leads_to_the_quantized_model_that_it_was_trained_on(
    run: tuple[Path, dict[str, Any], Any],
) -> None:
    folder, _, in_memory = run
    model = AutoPeftModelForCausalLM.from_pretrained(folder / "adapter").eval()
    inputs = AutoTokenizer.from_pretrained(folder / "model")("import os", return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, in_memory(**inputs).logits)
    # who has not imported jointsearch reads its name
    code = f"from transformers import AutoModelForCausalLM as A; A.from_pretrained({str(folder / 'model')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "got jointsearch" in done.stderr


def test_quantizing_on_load_gives_the_saved_model(
    run: tuple[Path, dict[str, Any], Any], plan: PlanFile, tmp_path: Path
) -> None:
    write_plan(plan, tmp_path / "plan.json")
    model = AutoModelForCausalLM.from_pretrained(
        model_source(plan.study.model.id),
        quantization_config=JointSearchConfig.from_plan(tmp_path / "plan.json"),
    )
    saved = load_file(run[0] / "model" / "model.safetensors")
    state = model.state_dict()
    for name in saved:
        if "quant_state" not in name and "weight_format" not in name:
            loaded = state[name].to(saved[name].dtype)
            # int8 is saved flat
            assert torch.equal(loaded, saved[name].view(loaded.shape)), name


@pytest.mark.slow
def test_streamed_layers_end_where_the_run_without_them_does(plan: PlanFile, tmp_path: Path) -> None:
    ended = []
    for streamed in (False, True):
        training = TrainingSettings(gradient_checkpointing=True, stream_layers=streamed)
        study = plan.study.model_copy(update={"training": training})
        ended.append(full_run(PlanFile.build(plan.plan, plan.layout, study), tmp_path / str(streamed)))
    assert ended[0].validation == ended[1].validation
    assert ended[0].stability == ended[1].stability


def test_bytes_on_disk_are_the_plans(run: tuple[Path, dict[str, Any], Any], plan: PlanFile) -> None:
    total = 0
    for part in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        tensors = load_file(run[0] / part)
        total += sum(t.numel() * t.element_size() for n, t in tensors.items() if "quant_state" not in n)
    assert total == plan.cost.model_bytes


def test_metrics_and_evaluation(run: tuple[Path, dict[str, Any], Any], plan: PlanFile) -> None:
    folder, metrics, _ = run
    assert metrics["steps"] == 6
    assert metrics["plan"] == plan.digest == read_plan(folder / "plan.json").digest
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    test = evaluate_run(folder)
    assert test["split"] == "test"
    assert test["inference_rate"] > 0
    assert metrics["tokens_per_second"] > 0
    assert metrics["seconds_per_epoch"] > metrics["train_seconds"]  # six steps are no epoch
    assert metrics["stability"]["nonfinite_steps"] == 0
    assert metrics["stability"]["largest_gradient_norm"] > 0
    assert [e["input"] for e in metrics["examples"]] != [e["input"] for e in test["examples"]]
    validation = evaluate_run(folder, "validation")
    assert validation["loss"] == pytest.approx(metrics["validation"]["loss"], rel=1e-6)
    untrained = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    task = module.build_task(plan.study, untrained.config)
    assert validation["loss"] < task.loss(untrained, "validation", None, 8) - 0.01


def test_an_evaluation_of_some_examples_says_how_far_it_is(run: tuple[Path, dict[str, Any], Any]) -> None:
    folder, _, _ = run
    told: list[tuple[str, int, int]] = []
    whole = evaluate_run(folder, "validation", listener=lambda *news: told.append(news))
    batches = -(-whole["num_examples"] // 4)  # of the full run's size
    assert told[:batches] == [("measuring", done, batches) for done in range(1, batches + 1)]
    assert told[batches:] == [("writing", 1, 1)]  # four examples
    before = (folder / "validation_metrics.json").read_text()
    some = evaluate_run(folder, "validation", limit=5)
    assert some["num_examples"] == 5
    assert some["loss"] != whole["loss"]
    assert (folder / "validation_metrics.json").read_text() == before
    assert evaluate_run(folder, "validation", limit=10**6)["loss"] == pytest.approx(whole["loss"])


def test_nothing_partial_is_left(run: tuple[Path, dict[str, Any], Any]) -> None:
    assert sorted(path.name for path in run[0].iterdir() if not path.name.endswith("_metrics.json")) == [
        "adapter",
        "checkpoints",
        "metrics.json",
        "model",
        "plan.json",
    ]


def test_an_interrupted_run_resumes_to_the_same_weights(
    run: tuple[Path, dict[str, Any], Any], plan: PlanFile, tmp_path: Path
) -> None:
    def stop(step: int, num_steps: int, logs: dict[str, float]) -> None:
        if step >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        full_run(plan, tmp_path / "run", listener=stop)
    assert not (tmp_path / "run" / "metrics.json").exists()
    with pytest.raises(OutputError, match="must be empty"):
        full_run(plan, tmp_path / "run")
    with pytest.raises(OutputError, match=r"a finished run has a metrics\.json"):
        load_run(tmp_path / "run")
    full_run(plan, tmp_path / "run", resume=True)
    expected = load_file(run[0] / "adapter" / "adapter_model.safetensors")
    resumed = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert expected.keys() == resumed.keys()
    for name, tensor in expected.items():
        assert torch.allclose(tensor, resumed[name], atol=1e-6), name


def test_a_run_that_is_asked_to_stop_leaves_its_last_step(
    run: tuple[Path, dict[str, Any], Any], plan: PlanFile, tmp_path: Path
) -> None:
    asked: list[int] = []

    def after_the_third() -> bool:
        asked.append(len(asked))  # before the first step and after every one
        return asked[-1] >= 3

    with pytest.raises(RunInterrupted, match="stopped after step 3 of 6"):
        full_run(plan, tmp_path / "run", should_stop=after_the_third)
    checkpoints = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert checkpoints == ["checkpoint-2", "checkpoint-3"]  # every second step, and that
    assert finished_run(plan, tmp_path / "run") is None
    moved = plan.model_copy(update={"study": plan.study.model_copy(update={"device": "auto"})})
    full_run(moved, tmp_path / "run", resume=True)  # perhaps on another device
    expected = load_file(run[0] / "adapter" / "adapter_model.safetensors")
    resumed = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    for name, tensor in expected.items():
        assert torch.allclose(tensor, resumed[name], atol=1e-6), name


def test_a_finished_run_says_what_it_has_measured(
    run: tuple[Path, dict[str, Any], Any], plan: PlanFile, space: SearchSpace
) -> None:
    found = finished_run(plan, run[0])
    assert found is not None
    assert found.model_dump(mode="json") == run[1]
    measured = found.measurement(seed=3)
    assert measured.seed == 3
    assert measured.metrics == json.loads((run[0] / "metrics.json").read_text())["validation"]
    assert measured.model_bytes == plan.cost.model_bytes
    assert measured.trainable_parameters == plan.cost.trainable_parameters
    assert measured.seconds == {"train": run[1]["train_seconds"]}
    assert [example.model_dump() for example in measured.examples] == run[1]["examples"]
    other = PlanFile.build(space.plan(space.uniform("nf4", 0)), plan.layout, plan.study)
    with pytest.raises(OutputError, match="the same plan"):
        finished_run(other, run[0])


def test_outputs_are_never_overwritten(
    run: tuple[Path, dict[str, Any], Any], plan: PlanFile, space: SearchSpace, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="must be empty"):
        full_run(plan, run[0])
    with pytest.raises(OutputError, match="is finished"):
        full_run(plan, run[0], resume=True)
    other = PlanFile.build(space.plan(space.uniform("nf4", 0)), plan.layout, plan.study)
    with pytest.raises(OutputError, match="the same plan"):
        full_run(other, run[0], resume=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="must be a folder"):
        full_run(plan, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_plan_for_another_model_names_the_modules(plan: PlanFile) -> None:
    name = "model.layers.0.mlp.up_proj"
    others = tuple(
        spec.model_copy(update={"shape": (7, 7)}) if spec.name == name else spec
        for spec in plan.layout.modules
    )
    with pytest.raises(PlanError, match=r"up_proj has the shape \(7, 7\) instead of \(384, 128\)"):
        check_model(plan, plan.layout.model_copy(update={"modules": others}))
    fewer = tuple(spec for spec in plan.layout.modules if spec.name != name)
    with pytest.raises(PlanError, match=r"\[model\.layers\.0\.mlp\.up_proj\] in the plan"):
        check_model(plan, plan.layout.model_copy(update={"modules": fewer}))


def test_a_plan_without_adapters_is_saved_and_measured(
    plan: PlanFile, space: SearchSpace, tmp_path: Path
) -> None:
    bare = PlanFile.build(space.plan(space.uniform("nf4", 0)), plan.layout, plan.study)
    metrics = full_run(bare, tmp_path / "run")
    assert metrics.steps == 0
    assert not (tmp_path / "run" / "adapter").exists()
    assert evaluate_run(tmp_path / "run", "validation")["loss"] == metrics.validation["loss"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "model" / "model.safetensors").write_bytes(b"broken"), "is damaged: "),
        (lambda run: (run / "model" / "config.json").write_text("{"), "is damaged: "),
        (lambda run: (run / "adapter" / "adapter_model.safetensors").write_bytes(b"broken"), "is damaged: "),
        (lambda run: (run / "adapter" / "adapter_model.safetensors").unlink(), "is damaged: "),
        (lambda run: shutil.rmtree(run / "adapter"), "the folder adapter is not there"),
        (lambda run: shutil.rmtree(run / "model"), "the folder model is not there"),
    ],
)
def test_a_damaged_run_is_one_line(
    run: tuple[Path, dict[str, Any], Any], damage: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run[0], copy)
    damage(copy)
    with pytest.raises(OutputError, match=message) as caught:
        evaluate_run(copy)
    assert "\n" not in str(caught.value)


def test_a_run_that_diverges_is_an_error(plan: PlanFile, tmp_path: Path) -> None:
    wild = plan.study.full_run.model_copy(update={"learning_rate": 1e30, "max_grad_norm": 1e30})
    study = plan.study.model_copy(update={"full_run": wild})
    with pytest.raises(JointSearchError, match="the run diverged at step 6: its gradient's norm is nan"):
        full_run(PlanFile.build(plan.plan, plan.layout, study), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_resuming_with_other_settings_is_refused(plan: PlanFile, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_plan(plan, tmp_path / "run" / "plan.json")
    longer = plan.study.full_run.model_copy(update={"max_steps": 9})
    study = plan.study.model_copy(update={"full_run": longer})
    with pytest.raises(OutputError, match=r"full_run\.max_steps: 6 -> 9"):
        full_run(PlanFile.build(plan.plan, plan.layout, study), tmp_path / "run", resume=True)
