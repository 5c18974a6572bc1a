"""One trial of a study, read from what Optuna stores of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from jointsearch.errors import StudyError
from jointsearch.measurement import Measurement
from jointsearch.plan.origin import Origin
from jointsearch.plan.plan import Plan
from jointsearch.plan.record import read_stored
from jointsearch.search.attributes import COPY_OF, FAILURE, PLAN, SEED, STEPS
from jointsearch.study.attributes import (
    DIGEST,
    IMPORTED_FROM,
    MEASUREMENT,
    REQUESTED,
    WORKER,
    stored_origin,
)


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the rest of jointsearch sees it; plan and measurement are parsed when asked for."""

    frozen: FrozenTrial
    objectives: tuple[str, ...]

    @property
    def number(self) -> int:
        return self.frozen.number

    @property
    def state(self) -> TrialState:
        return self.frozen.state

    @property
    def values(self) -> dict[str, float]:
        """Value by objective; empty until the trial is complete. Raises ``StudyError`` where some lack."""
        if self.state == TrialState.COMPLETE and len(self.frozen.values or ()) != len(self.objectives):
            raise StudyError(f"trial {self.number} must have values of {', '.join(self.objectives)}")
        return dict(zip(self.objectives, self.frozen.values or (), strict=False))

    @cached_property
    def origin(self) -> Origin:
        """Where its plan comes from."""
        return stored_origin(self._attributes)

    @property
    def digest(self) -> str:
        return str(self._attributes.get(DIGEST, ""))

    @property
    def seed(self) -> int | None:
        """None until a worker has chosen it."""
        return self._attributes.get(SEED)

    @property
    def steps(self) -> int | None:
        """How long a final trains; None of a trial as the search has them."""
        return self._attributes.get(STEPS)

    @property
    def learning_rate(self) -> float | None:
        """Its plan's own, where the study searches learning rates."""
        return (self._attributes.get(PLAN) or {}).get("learning_rate")

    @property
    def worker(self) -> str:
        """Host and process that run it, or ran it."""
        return str(self._attributes.get(WORKER, ""))

    @property
    def copy_of(self) -> int | None:
        """The trial of the same plan and seed whose measurement this one has, or waits for."""
        return self._attributes.get(COPY_OF)

    @property
    def requested(self) -> bool:
        """Whether a person asked for it, on top of the search's trials."""
        return bool(self._attributes.get(REQUESTED))

    @property
    def searched(self) -> bool:
        """Whether it counts as one of the ``search.trials``."""
        return not self.requested and IMPORTED_FROM not in self._attributes

    @property
    def failure(self) -> str:
        return str(self._attributes.get(FAILURE, ""))

    @property
    def seconds(self) -> float | None:
        return None if self.frozen.duration is None else self.frozen.duration.total_seconds()

    @cached_property
    def plan(self) -> Plan:
        return read_stored(Plan, self._attributes.get(PLAN), f"the plan of trial {self.number}")

    @cached_property
    def measurement(self) -> Measurement:
        stored = self._attributes.get(MEASUREMENT)
        return read_stored(Measurement, stored, f"the measurement of trial {self.number}")

    @property
    def _attributes(self) -> dict[str, Any]:
        return self.frozen.user_attrs
