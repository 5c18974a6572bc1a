"""What plans of a search must not exceed: bytes of the model, memory of training. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from jointsearch.config.space import SpaceSettings
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.memory import MemoryProfile, training_memory
from jointsearch.plan.plan import Plan


@dataclass(frozen=True)
class Limits:
    """Those of one study; None is no limit."""

    layout: ModelLayout
    max_model_bytes: int | None = None
    max_training_memory: int | None = None
    memory: MemoryProfile | None = None
    """There where ``max_training_memory`` is."""

    @classmethod
    def of(cls, settings: SpaceSettings, layout: ModelLayout, memory: MemoryProfile | None) -> Limits:
        return cls(layout, settings.max_model_bytes, settings.max_training_memory, memory)

    @property
    def any(self) -> bool:
        return self.max_model_bytes is not None or self.max_training_memory is not None

    def excess(self, plan: Plan) -> float:
        """By which share the plan exceeds what it exceeds most; 0 or less where it fits."""
        found = [-1.0]
        if self.max_model_bytes is not None:
            found.append(plan_cost(self.layout, plan).model_bytes / self.max_model_bytes - 1)
        if self.max_training_memory is not None:
            found.append(self.training_memory(plan) / self.max_training_memory - 1)
        return max(found)

    def fits(self, plan: Plan) -> bool:
        return not self.any or self.excess(plan) <= 0

    def training_memory(self, plan: Plan) -> int:
        """0 where nobody can foretell it."""
        found = training_memory(self.memory, self.layout, plan) if self.memory else None
        return 0 if found is None else found.total_bytes
