"""The arena's memory: every plan that was trained, and what a study has to pay for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from arena_table import TRUTH_SEEDS, key_of, read
from torch import nn

from jointsearch.assemble import build_runner
from jointsearch.config.study import StudyConfig
from jointsearch.config.training import FIRST_LEARNING_RATE
from jointsearch.errors import TrialFailed
from jointsearch.measurement import Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.training.calibration import CalibrationRunner
from jointsearch.training.probes.sensitivity import NUM_OUTPUT_BATCHES
from jointsearch.training.tasks import Evaluation, Task

MEASUREMENTS = Path(__file__).with_name("arena-measurements.jsonl")
FORWARD = 1 / 3
"""Of the compute of a training step, what evaluation takes."""

TEST_SHARE = 2
"""As many test examples as validation examples, times this."""

Row = dict[str, Any]


def append(path: Path, row: Row) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row, separators=(",", ":")) + "\n")


class OnTestData:
    """A task whose models are evaluated on its test data."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def evaluate(self, model: nn.Module, split: str, limit: int | None, batch_size: int) -> Evaluation:
        return self._task.evaluate(model, "test", limit and TEST_SHARE * limit, batch_size)


@dataclass
class Books:
    """A runner that trains every plan once, and counts the examples that a study has to pay."""

    config: StudyConfig
    layout: ModelLayout
    rate: float = FIRST_LEARNING_RATE
    """That trials are trained at."""
    paid: float = 0.0
    trained_seconds: float = 0.0

    def __post_init__(self) -> None:
        rows = read(MEASUREMENTS)
        self.known = {key_of(row): row for row in rows if row["study"] == self.config.name}

    @cached_property
    def runner(self) -> CalibrationRunner:
        return build_runner(self.config.at(self.rate), self.layout)

    @property
    def trial_examples(self) -> float:
        settings = self.config.calibration
        return settings.steps * settings.batch_size + self.evaluation_examples

    @property
    def evaluation_examples(self) -> float:
        return FORWARD * self.config.calibration.validation_examples

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        row = self.measure(plan, trial.seed)
        self.paid += self.trial_examples
        if row["loss"] is None:
            raise TrialFailed("diverged")
        return Measurement(metrics={"loss": row["loss"]}, model_bytes=row["bytes"], seed=trial.seed)

    def measure(self, plan: Plan, seed: int, length: int = 1, rate: float | None = None) -> Row:
        """The plan's line, which is in the file; its loss is None where it has diverged."""
        row: Row = {"study": self.config.name, "plan": plan.digest, "seed": seed, "rate": rate or self.rate}
        row["steps"] = length * self.config.calibration.steps
        key = key_of(row)
        if key not in self.known:
            begun = time.process_time()
            trial = Trial(seed, rungs=False, learning_rate=row["rate"], steps=row["steps"])
            try:
                with self._on_test_data() if seed >= TRUTH_SEEDS[0] else nullcontext():
                    row["loss"] = round(self.runner.run(plan, trial).metrics["loss"], 6)
            except TrialFailed:
                row["loss"] = None
            row["bytes"] = plan_cost(self.layout, plan).model_bytes
            row["cpu"] = round(time.process_time() - begun, 2)
            self.trained_seconds += time.process_time() - begun
            self.known[key] = row
            append(MEASUREMENTS, row)
        return self.known[key]

    def probe(self, space: SearchSpace, steps: int, trial: Trial) -> Callable[[Plan], float]:
        """The weight-sharing probe pays for what it trains on, and for each plan that it scores."""
        self.paid += steps * self.config.calibration.batch_size
        score = self.runner.probe(space, steps, trial)

        def counted(plan: Plan) -> float:
            self.paid += self.evaluation_examples
            return score(plan)

        return counted

    def sensitivities(self, layout: ModelLayout, rank: int) -> Sensitivities:
        """One calibration run, and some batches at 16 bits; the same for all who ask, and all pay."""
        settings = self.config.calibration
        self.paid += (settings.steps + FORWARD * NUM_OUTPUT_BATCHES) * settings.batch_size
        if rank not in self._sensitivities:
            self._sensitivities[rank] = self.runner.sensitivities(layout, rank)
        return self._sensitivities[rank]

    @contextmanager
    def _on_test_data(self) -> Iterator[None]:
        task = self.runner.task
        self.runner.task = OnTestData(task)
        try:
            yield
        finally:
            self.runner.task = task

    @cached_property
    def _sensitivities(self) -> dict[int, Sensitivities]:
        return {}
