"""What a trial or a full run has measured, as it is stored and shown."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import ConfigDict, Field

from jointsearch.errors import StudyError
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.plan.cost import PlanCost
from jointsearch.plan.record import Record


class LossPoint(Record):
    """A loss after so many optimizer steps, in nats per token."""

    step: int
    loss: float


class Example(Record):
    """What a model makes of a validation example, beside what was asked for."""

    input: str
    output: str
    reference: str


class Stability(Record):
    """How smoothly a run went."""

    nonfinite_steps: int = 0
    """Steps whose loss or gradient was not finite; they change nothing."""
    largest_gradient_norm: float = 0.0
    """Before clipping."""
    loss_spikes: int = 0
    """Steps whose loss lies more than 4 standard deviations above the mean of the 20 before."""


class Measurement(Record):
    """Everything that a trial measured; stored with it as JSON."""

    metrics: dict[str, float]
    """Validation metrics at the end: ``loss`` and what the task adds."""
    model_bytes: int = 0
    """Of the saved checkpoint and adapter; a runner that says nothing of it gets what the plan weighs."""
    bytes_per_parameter: float = 0.0
    """``model_bytes`` over the parameters of the base model."""
    trainable_parameters: int = 0
    trainable_share: float = 0.0
    train_losses: tuple[LossPoint, ...] = ()
    """Mean training loss since the point before."""
    validation_losses: tuple[LossPoint, ...] = ()
    seconds: dict[str, float] = {}
    """Seconds by phase: ``assemble``, ``train``, ``evaluate``."""
    tokens_per_second: float = 0.0
    """Training speed, padding not counted."""
    seconds_per_epoch: float = 0.0
    """Of training, at the speed of this run."""
    inference_rate: float = 0.0
    """Tokens generated per second by a language model, examples per second by others."""
    stability: Stability = Stability()
    examples: tuple[Example, ...] = ()
    """The same validation examples for every trial of a study."""
    ranks: dict[str, int] = {}
    """The ranks that adapters have ended with, by module, where they adapt while they train."""
    peak_memory_bytes: int = 0
    """Peak of the process (CPU) or of the device's allocator (CUDA), with what the worker keeps: the base
    model and every format that it has met, so that a worker's first trials show less."""
    training_memory: int = 0
    """Bytes that a step of training takes at once, foretold; 0 where it cannot be."""
    serving_memory: int = 0
    """Bytes of the saved model and of the key-value cache of one example of the task's length, foretold."""
    num_tokens: int = 0
    seed: int = 0
    device: str = ""
    versions: dict[str, str] = Field(default={})

    @property
    def memory(self) -> dict[str, int]:
        """What has been foretold of its plan, by the names of objectives."""
        known = {"training_memory": self.training_memory, "serving_memory": self.serving_memory}
        return {name: num_bytes for name, num_bytes in known.items() if num_bytes}

    def weighed(self, cost: PlanCost, memory: Mapping[str, int] = MappingProxyType({})) -> Measurement:
        """The same with what follows from the plan's bytes and from its ``memory``, as far as that can be
        foretold, where the runner has not said it."""
        known = {
            "model_bytes": cost.model_bytes,
            "bytes_per_parameter": cost.bytes_per_parameter,
            "trainable_parameters": cost.trainable_parameters,
            "trainable_share": cost.trainable_share,
            **memory,
        }
        return self.model_copy(update={k: v for k, v in known.items() if k not in self.model_fields_set})

    def value(self, objective: str) -> float:
        """The number that the named objective minimizes or maximizes."""
        known = OBJECTIVES.get(objective)
        if known is not None and known.measure is not None:
            return known.measure(self)
        if objective in self.metrics:
            return self.metrics[objective]
        if objective not in Measurement.model_fields:
            raise StudyError(f"the task measures {', '.join(self.metrics)}, but no '{objective}'")
        return float(getattr(self, objective))


class FullRunResult(Record):
    """What a training in full has measured: the ``metrics.json`` of its folder."""

    model_config = ConfigDict(allow_inf_nan=True)

    plan: str
    """The digest of the plan file."""
    model_bytes: int
    bytes_per_parameter: float
    trainable_parameters: int
    trainable_share: float
    validation: dict[str, float]
    """Metrics on the validation split: ``loss`` and what the task adds."""
    steps: int
    train_seconds: float
    seconds_per_epoch: float
    tokens_per_second: float
    stability: Stability
    inference_rate: float
    peak_memory_bytes: int
    data_notes: tuple[str, ...]
    examples: tuple[Example, ...]
    device: str
    versions: dict[str, str]

    def measurement(self, seed: int) -> Measurement:
        """The same in the words of a trial's measurement."""
        return Measurement(
            metrics=self.validation,
            model_bytes=self.model_bytes,
            bytes_per_parameter=self.bytes_per_parameter,
            trainable_parameters=self.trainable_parameters,
            trainable_share=self.trainable_share,
            seconds={"train": self.train_seconds},
            seconds_per_epoch=self.seconds_per_epoch,
            tokens_per_second=self.tokens_per_second,
            inference_rate=self.inference_rate,
            stability=self.stability,
            examples=self.examples,
            peak_memory_bytes=self.peak_memory_bytes,
            seed=seed,
            device=self.device,
            versions=self.versions,
        )
