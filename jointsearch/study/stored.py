"""A study as it is stored: Optuna's, with our config and layout, and its trials as records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import optuna
from pydantic import ValidationError

from jointsearch.config.study import StudyConfig
from jointsearch.errors import StudyError, first_line
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.limits import Limits
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.memory import MemoryProfile
from jointsearch.plan.plan import Plan, PlanContext
from jointsearch.plan.record import read_stored
from jointsearch.search.learning_rate import stored_sweep
from jointsearch.space import SearchSpace, build_space
from jointsearch.study.attributes import CONFIG, CONVERGED, LAYOUT, MEMORY
from jointsearch.study.records import RecordReader, StudyRecords


@dataclass(frozen=True)
class StoredStudy:
    """An Optuna study of ours, with its config and layout."""

    optuna_study: optuna.Study
    config: StudyConfig

    @property
    def name(self) -> str:
        return self.optuna_study.study_name

    def with_config(self, config: StudyConfig) -> StoredStudy:
        """The same study from now on with ``config``, which may differ in what trials do not depend on."""
        if config != self.config:
            self.optuna_study.set_user_attr(CONFIG, config.model_dump(mode="json"))
        if config.search.stop != self.config.search.stop:
            self.optuna_study.set_user_attr(CONVERGED, None)
        return StoredStudy(self.optuna_study, config)

    @cached_property
    def layout(self) -> ModelLayout:
        try:
            return ModelLayout.model_validate(self.optuna_study.user_attrs[LAYOUT])
        except (KeyError, ValidationError) as error:
            raise StudyError(
                f"the study '{self.name}' must hold the layout of its model as this version writes it, but "
                f"{first_line(error)}; it was made by another version of jointsearch"
            ) from None

    @cached_property
    def memory(self) -> MemoryProfile | None:
        """What training takes of its model; None where nobody has foretold it."""
        stored = self.optuna_study.user_attrs.get(MEMORY)
        return None if stored is None else read_stored(MemoryProfile, stored, "the memory of training")

    def memory_of(self, plan: Plan) -> dict[str, int]:
        """``training_memory`` and ``serving_memory`` of a plan, as far as they can be foretold."""
        return {} if self.memory is None else self.memory.of(self.layout, plan)

    @property
    def limits(self) -> Limits:
        """What its search proposes no plan beyond."""
        return Limits.of(self.config.search_space, self.layout, self.memory)

    @cached_property
    def space(self) -> SearchSpace:
        return build_space(self.config, self.layout)

    @property
    def searched_seeds(self) -> range:
        """Those under which the search measures plans; what it has chosen is judged by others."""
        first = self.config.calibration.seed
        return range(first, first + self.config.search.repeats)

    @property
    def context(self) -> PlanContext:
        """What the study's plans are made for."""
        return PlanContext(self.layout, self.config)

    def trains(self, plan: Plan) -> bool:
        """Whether training changes anything: adapters, or a new head."""
        return bool(plan.ranks) or any(spec.trained for spec in self.layout.modules)

    def learning_rate(self, lora: LoraSettings) -> float | None:
        """What a sweep has found for these adapters; None before it has, and where there was none."""
        if lora not in self._learning_rates:
            sweep = stored_sweep(self.optuna_study.user_attrs, lora)
            if sweep is None or sweep.learning_rate is None:
                return None
            self._learning_rates[lora] = sweep.learning_rate
        return self._learning_rates[lora]

    @cached_property
    def _learning_rates(self) -> dict[LoraSettings, float]:
        return {}

    def rated(self, plan: Plan) -> Plan:
        """``plan`` as its trials have it: where learning rates are searched and it has none, at the study's.

        Before the sweep that finds the study's it is ``plan`` itself.
        """
        if not self.space.learning_rates or plan.learning_rate is not None:
            return plan
        given = self.config.calibration.learning_rate
        return plan.at(self.learning_rate(plan.lora) if given == "auto" else given)

    def trained_config(self, plan: Plan) -> StudyConfig:
        """The config as ``plan`` was trained under it: with its learning rate, or the one that was found."""
        rate = plan.learning_rate or self.learning_rate(plan.lora)
        return self.config if rate is None else self.config.at(rate)

    def records(self) -> StudyRecords:
        """All trials as they are now, without parameters: ``optuna_study.get_trials()`` has them."""
        return self._reader.read()

    @cached_property
    def _reader(self) -> RecordReader:
        return RecordReader(self.optuna_study, self.config.objectives)

    def converged(self) -> bool:
        """Whether the search has ended by ``search.stop``."""
        return self.config.search.stop is not None and bool(self.optuna_study.user_attrs.get(CONVERGED))

    def num_left(self, records: StudyRecords) -> int:
        """Trials yet to be finished; of a search that has converged those asked for on top alone."""
        return records.num_left(0 if self.converged() else self.config.search.trials)
