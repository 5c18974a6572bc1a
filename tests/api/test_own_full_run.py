"""Full runs of a person's own model, data and Trainer: trained, loaded as anyone loads it, measured again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, TrainingArguments
from trl import SFTConfig, SFTTrainer

import jointsearch as js
from fixtures.trainers import arguments
from jointsearch.errors import OutputError, StudyError

Create = Callable[..., js.Study]


@pytest.fixture
def own(create_own: Create) -> js.Study:
    """A study of two trials, the second of rank 4."""
    study = create_own(search_space=js.SearchSpace(formats=["int8"], ranks=[0, 4]))
    study.optimize(n_trials=2)
    return study


def runner_of(study: js.Study) -> js.TrainerRunner:
    assert isinstance(study.runner, js.TrainerRunner)
    return study.runner


def test_a_plan_is_trained_in_full_and_loaded_by_anyone(own: js.Study, rows: Dataset, tmp_path: Path) -> None:
    logged: list[tuple[int, int]] = []
    long = arguments(TrainingArguments, tmp_path / "x", max_steps=12, logging_steps=4)
    result = js.train(
        own.plan(1),
        tmp_path / "run",
        runner=runner_of(own).with_args(long),
        progress=lambda step, steps, logs: logged.append((step, steps)),
    )
    assert {"loss", "wrong"} <= result.metrics.keys()
    untrained = own.trials[0].user_attrs["measurement"]["metrics"]["loss"]
    assert result.metrics["loss"] < untrained - 0.3
    assert (4, 12) in logged
    assert result.adapter_dir is not None
    base = AutoModelForCausalLM.from_pretrained(result.model_dir)
    loaded = PeftModel.from_pretrained(base, result.adapter_dir).eval()
    few = rows.select(range(8)).with_format("torch")
    with torch.no_grad():
        loss = loaded(input_ids=few["input_ids"][:], labels=few["labels"][:]).loss.item()
    assert loss == pytest.approx(result.metrics["loss"], abs=1e-4)

    again = js.evaluate(result.output_dir, runner=own.runner)
    assert again.metrics == pytest.approx(result.metrics, abs=1e-4)
    assert (again.num_examples, again.model_bytes) == (8, result.measurement.model_bytes)
    assert js.train(own.plan(1), tmp_path / "run", runner=own.runner, resume=True).metrics == result.metrics
    with pytest.raises(OutputError, match="must be empty"):
        js.train(own.plan(1), tmp_path / "run", runner=own.runner)


def test_the_bytes_are_those_of_the_saved_files(own: js.Study, tmp_path: Path, tensor_bytes: Any) -> None:
    result = js.train(own.plan(1), tmp_path / "run", runner=own.runner)
    assert result.adapter_dir is not None
    saved = tensor_bytes(result.model_dir) + tensor_bytes(result.adapter_dir)
    assert saved == result.measurement.model_bytes == own.trials[1].values[1]


def test_a_plan_without_adapters_is_saved_and_measured(own: js.Study, tmp_path: Path) -> None:
    result = js.train(own.plan(0), tmp_path / "run", runner=own.runner)
    assert result.adapter_dir is None
    assert result.metrics["wrong"] == pytest.approx(own.trials[0].values[0])


def test_an_interrupted_run_goes_on_from_its_checkpoint(own: js.Study, tmp_path: Path) -> None:
    args = arguments(
        TrainingArguments, tmp_path / "x", max_steps=8, save_strategy="steps", save_steps=2, logging_steps=1
    )
    runner = runner_of(own).with_args(args)
    whole = js.train(own.plan(1), tmp_path / "whole", runner=runner)

    def broken(step: int, steps: int, logs: dict[str, float]) -> None:
        if step == 5:
            raise ConnectionError("power cut")

    with pytest.raises(ConnectionError):
        js.train(own.plan(1), tmp_path / "run", runner=runner, progress=broken)
    seen: list[int] = []
    resumed = js.train(
        own.plan(1),
        tmp_path / "run",
        runner=runner,
        resume=True,
        progress=lambda step, steps, logs: seen.append(step),
    )
    assert min(seen) == 5
    assert resumed.metrics["loss"] == pytest.approx(whole.metrics["loss"], abs=1e-4)


def test_trl_s_trainer_trains_in_full(create_on_texts: Create, tmp_path: Path) -> None:
    study = create_on_texts(
        trainer_cls=SFTTrainer,
        args=arguments(SFTConfig, tmp_path / "out", max_length=16),
        search_space=js.SearchSpace(formats=["nf4"], ranks=[4]),
    )
    study.optimize(n_trials=1)
    result = js.train(study.select().plan, tmp_path / "run", runner=study.runner)
    assert result.metrics["loss"] == pytest.approx(study.trials[0].values[0], abs=0.05)
    assert js.evaluate(tmp_path / "run", runner=study.runner).metrics["loss"] == pytest.approx(
        result.metrics["loss"], abs=1e-4
    )


def test_without_its_objects_a_full_run_says_what_it_needs(own: js.Study, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"own Python code.*runner="):
        js.train(own.plan(1), tmp_path / "run")
    js.train(own.plan(1), tmp_path / "run", runner=own.runner)
    with pytest.raises(StudyError, match="own Python code"):
        js.evaluate(tmp_path / "run")
    with pytest.raises(StudyError, match="FakeRunner has none"):
        js.train(own.plan(1), tmp_path / "other", runner=js.testing.FakeRunner())


def test_commands_say_so_too(own: js.Study, tmp_path: Path, command: Any, url: str) -> None:
    own.plan(1).save(tmp_path / "plan.json")
    for words in (
        ("train", str(tmp_path / "plan.json"), "-o", str(tmp_path / "run")),
        ("worker", "own", "--storage", url),
    ):
        refused = command(*words, status=2).stderr
        assert "own Python code" in refused
        assert refused.count("\n") == 1
    assert "wrong" in command("front", "own", "--storage", url).stdout
    command("export", "own", "--storage", url, "-o", str(tmp_path / "exported.json"))
    assert js.Plan.load(tmp_path / "exported.json").known_context.study.task.type == "custom"
