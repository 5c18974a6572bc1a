"""A model, data, metric and Trainer of one's own: transformers' and TRL's, really trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from datasets import Dataset
from optuna.trial import TrialState
from transformers import LlamaForCausalLM, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

import jointsearch as js
from fixtures.trainers import arguments
from jointsearch.errors import ModelError, StudyError, TrialInterrupted

Create = Callable[..., js.Study]


def test_transformers_trainer_with_a_metric_of_its_own(
    create_own: Create, model: LlamaForCausalLM, rows: Dataset, tmp_path: Path, url: str
) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    space = js.SearchSpace(formats=["nf4", "int8"], ranks=[0, 4])
    study = create_own(search_space=space)
    study.optimize(n_trials=4)
    trials = study.trials
    assert [trial.state.name for trial in trials[:4]] == ["COMPLETE"] * 4
    assert all(0 <= trial.values[0] <= 1 for trial in trials[:4])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    # the plan that trains nothing is what the model computes without training
    untrained = study.plan(0)
    assert untrained.ranks == {}
    measured = [trial.user_attrs["measurement"]["metrics"]["loss"] for trial in trials[:4]]
    assert measured[1] < measured[0] - 0.1  # rank 4 has learned
    assert measured[0] == pytest.approx(math.log(320), abs=0.3)  # a random model's

    again = create_own(search_space=space, load_if_exists=True)
    again.optimize(n_trials=1)
    assert len(again.get_trials(states=None)) >= 5
    with pytest.raises(StudyError, match="made from another study file"):
        create_own(search_space=space, load_if_exists=True, train_dataset=rows.select(range(20)))
    read = js.load_study("own", url)
    assert [row["wrong"] for row in _rows(read.front())]
    with pytest.raises(StudyError, match="run by its own Python code"):
        js.train(read.plan(1), tmp_path / "run")


def _rows(front: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = front if isinstance(front, list) else front.to_dict("records")
    return found


def test_the_same_plan_gives_the_same_numbers_as_the_trainer_alone(
    create_own: Create, model: LlamaForCausalLM, rows: Dataset, tmp_path: Path
) -> None:
    """A trial against the same Trainer on ``get_plan_model``'s model."""
    study = create_own(
        compute_metrics=None, objectives=None, search_space=js.SearchSpace(formats=["int8"], ranks=[4])
    )
    study.optimize(n_trials=1)
    plan = study.plan(0)
    made = js.get_plan_model(model, plan, seed=0)
    args = arguments(TrainingArguments, tmp_path / "alone", seed=0, data_seed=0, save_strategy="no")
    args.report_to = []
    trainer = Trainer(model=made, args=args, train_dataset=rows, eval_dataset=rows.select(range(8)))
    trainer.train()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(study.trials[0].values[0], rel=1e-5)


class Told(Trainer):
    """Notes the learning rates that its arguments have."""

    rates: ClassVar[list[float]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rates.append(self.args.learning_rate)


def test_the_learning_rate_of_the_arguments_is_searched(create_own: Create, tmp_path: Path) -> None:
    study = create_own(
        compute_metrics=None,
        objectives=None,
        trainer_cls=Told,
        search_space=js.SearchSpace(formats=["nf4"], ranks=[2, 4], learning_rates=[1e-3, 1e-2]),
    )
    Told.rates.clear()
    study.optimize(n_trials=4)
    rates = [trial.user_attrs["plan"]["learning_rate"] for trial in study.trials]
    num_swept = len(Told.rates) - len(rates)
    assert 2 <= num_swept <= 4  # two plans at one or two of the rates
    assert Told.rates[num_swept:] == rates
    assert set(rates) <= {1e-3, 1e-2}
    plan = study.plan(3)
    js.train(plan, tmp_path / "run", runner=study.runner)
    assert Told.rates[-1] == plan.learning_rate == rates[3]


def test_trl_s_trainer(create_on_texts: Create, tmp_path: Path) -> None:
    study = create_on_texts(
        trainer_cls=SFTTrainer,
        args=arguments(SFTConfig, tmp_path / "out", max_length=16),
        search_space=js.SearchSpace(formats=["nf4", "16bit"], ranks=[0, 4]),
    )
    study.optimize(n_trials=2)
    untrained, trained = (trial.values[0] for trial in study.trials[:2])
    assert study.plan(0).ranks == {}
    assert study.plan(0).modules["lm_head"].format == "16bit"  # TRL multiplies by its weight itself
    assert study.plan(0).modules["model.embed_tokens"].format == "nf4"
    assert untrained == pytest.approx(math.log(320), abs=0.3)
    assert trained < untrained - 0.1


@pytest.mark.parametrize(
    ("kind", "options", "times"),
    [
        (SFTConfig, {"max_length": 16}, 2),
        (SFTConfig, {"max_length": 16, "packing": True}, 2),
        (TrainingArguments, {}, 6),  # which cannot say that the data are prepared: they are seen to be
    ],
)
def test_texts_are_tokenized_once(
    kind: Any,
    options: dict[str, Any],
    times: int,
    create_on_texts: Create,
    tmp_path: Path,
) -> None:
    tokenized: list[bool] = []

    class Watched(SFTTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Dataset, *given: Any, **named: Any) -> Dataset:
            tokenized.append("input_ids" in dataset.column_names)
            return super()._prepare_dataset(dataset, *given, **named)

    study = create_on_texts(
        trainer_cls=Watched,
        args=arguments(kind, tmp_path / "out", **options),
        search_space=js.SearchSpace(formats=["nf4"], ranks=[4]),
    )
    study.optimize(n_trials=1)
    assert study.runner is not None
    plan, seed = study.plan(0), study.trials[0].user_attrs["seed"]
    again = [study.runner.run(plan, js.Trial(seed=seed)).metrics["loss"] for _ in range(2)]
    assert again == [pytest.approx(study.trials[0].values[0], rel=1e-5)] * 2
    assert tokenized == [False] * 2 + [True] * (times - 2)
    assert study.runner.train_dataset.column_names == ["text"]


def test_a_model_comes_with_data(model: LlamaForCausalLM, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="train_dataset and eval_dataset"):
        js.create_study(storage=f"sqlite:///{tmp_path}/studies.db", model=model)
    assert not (tmp_path / "studies.db").exists()


def test_arguments_of_transformers_are_taken_by_trl_s_trainer(create_on_texts: Create) -> None:
    """Adapters stay in the type that the plan says, which TRL would change."""
    kept: set[torch.dtype] = set()

    class Watched(SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, *given: Any, **named: Any) -> Any:
            kept.update(p.dtype for p in model.parameters() if p.requires_grad)
            return super().training_step(model, *given, **named)

    study = create_on_texts(
        trainer_cls=Watched,
        search_space=js.SearchSpace(formats=["nf4"], ranks=[4]),
    )
    study.optimize(n_trials=1)
    assert len(study.get_trials(states=[TrialState.COMPLETE])) == 1
    assert kept == {torch.float32}


def test_trials_are_told_of_along_the_run_and_can_be_stopped(
    model: LlamaForCausalLM, rows: Dataset, tmp_path: Path, url: str
) -> None:
    runner = js.TrainerRunner(model, rows, rows.select(range(8)), args=arguments(TrainingArguments, tmp_path))
    study = js.create_study(storage=url, runner=runner)
    assert (study.config.calibration.steps, study.config.calibration.batch_size) == (4, 4)
    study.optimize(n_trials=2)
    plan = study.plan(1)  # of rank 4
    told: list[int] = []
    runner.run(plan, js.Trial(report=lambda step, loss: told.append(step)))
    assert told == [1, 2]  # a quarter and a half of the steps

    def prune(step: int, loss: float) -> None:
        raise js.TrialPruned("hopeless")

    with pytest.raises(js.TrialPruned):
        runner.run(plan, js.Trial(report=prune))
    with pytest.raises(TrialInterrupted, match="after step 1"):
        runner.run(plan, js.Trial(should_stop=lambda: True))


def test_a_loss_that_is_no_number_fails_the_trial(
    model: LlamaForCausalLM, rows: Dataset, tmp_path: Path, url: str
) -> None:
    args = arguments(TrainingArguments, tmp_path, learning_rate=1e30, logging_steps=1)
    runner = js.TrainerRunner(model, rows, rows.select(range(8)), args=args)
    study = js.create_study(
        storage=url, runner=runner, search_space=js.SearchSpace(formats=["int8"], ranks=[4])
    )
    study.optimize(n_trials=1)
    failed = study.get_trials(states=[TrialState.FAIL])
    assert len(failed) == 1
    assert failed[0].user_attrs["failure"].startswith("diverged: ")


def test_a_study_goes_on_with_the_same_objects_alone(
    model: LlamaForCausalLM, rows: Dataset, tmp_path: Path, url: str
) -> None:
    def runner(train: Dataset, **others: Any) -> js.TrainerRunner:
        args = arguments(TrainingArguments, tmp_path, **others)
        return js.TrainerRunner(model, train, rows.select(range(8)), args=args)

    js.create_study(storage=url, name="own", runner=runner(rows))
    again = js.load_study("own", url, runner=runner(rows))
    again.optimize(n_trials=1)
    assert len(again.get_trials(states=[TrialState.COMPLETE])) == 1
    with pytest.raises(StudyError, match="train_digest: "):
        js.load_study("own", url, runner=runner(rows.select(range(32))))
    with pytest.raises(StudyError, match=r"arguments.learning_rate: 0.01 -> 0.5"):
        js.load_study("own", url, runner=runner(rows, learning_rate=0.5))


def test_a_model_is_loaded_by_its_id(rows: Dataset, model: Any, tmp_path: Path, url: str) -> None:
    model.save_pretrained(tmp_path / "model")
    args = arguments(TrainingArguments, tmp_path / "out")
    by_id = js.TrainerRunner(str(tmp_path / "model"), rows, rows, args=args)
    assert by_id.settings() == js.TrainerRunner(model, rows, rows, args=args).settings()
    with pytest.raises(ModelError, match=r"config\.json"):
        js.TrainerRunner(str(tmp_path / "nothing"), rows, rows)


@pytest.mark.parametrize("given", [{"model": "x"}, {"train_dataset": []}, {"tokenizer": "x"}])
def test_half_of_the_objects_is_refused(given: dict[str, Any], url: str) -> None:
    with pytest.raises(StudyError, match=f"but got {next(iter(given))}$"):
        js.create_study(storage=url, **given)
