"""What the search asks of a trial: ``run(plan, budget) -> Measurement``. No torch, no Optuna.

``FakeRunner`` is a deterministic stand-in that answers at once, for tests and for trying samplers
at thousands of trials.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pydantic import Field

from jointsearch.cost import plan_cost
from jointsearch.errors import StudyError
from jointsearch.layout import ModelLayout
from jointsearch.plan import Plan, Record
from jointsearch.sensitivities import ModuleSensitivity, Sensitivities
from jointsearch.space import SearchSpace


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
    model_bytes: int
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
    num_tokens: int = 0
    seed: int = 0
    device: str = ""
    versions: dict[str, str] = Field(default={})

    def value(self, objective: str) -> float:
        """The number that the named objective minimizes or maximizes."""
        if objective in self.metrics:
            return self.metrics[objective]
        if objective not in Measurement.model_fields:
            raise StudyError(f"the task measures {', '.join(self.metrics)}, but no '{objective}'")
        return float(getattr(self, objective))


@dataclass(frozen=True)
class Budget:
    """How much a trial may use."""

    seed: int = 0
    should_stop: Callable[[], bool] = lambda: False
    """Asked between steps; a runner then raises ``TrialInterrupted``."""
    at_rung: Callable[[int, float], None] = lambda step, loss: None
    """Told the step and the validation loss along the run; may raise ``TrialPruned``."""


class Runner(Protocol):
    """Trains and measures plans; raises ``TrialFailed`` where a plan has no result."""

    def run(self, plan: Plan, budget: Budget) -> Measurement: ...


@runtime_checkable
class Prober(Protocol):
    """A runner that can score plans without training each."""

    def probe(self, space: SearchSpace, steps: int, budget: Budget) -> Callable[[Plan], float]:
        """Train what all plans of ``space`` share for so many steps; gives a score, lower is better."""
        ...


@runtime_checkable
class Probe(Runner, Protocol):
    """A runner that can also say how sensitive each module is."""

    def sensitivities(self, rank: int) -> Sensitivities:
        """Measured with the study's seed and a uniform adapter of that rank."""


@dataclass(frozen=True)
class FakeRunner:
    """An additive loss with diminishing returns, drawn from module names. Deterministic.

    loss = 1.8 + Σ_m w_m (q(bits_m) + 0.5 / (1 + rank_m)) + ε with weights w_m that sum to 1, q the
    relative errors of NF4, int8 and 16 bits, and ε ~ N(0, noise²) from (seed, plan).
    """

    layout: ModelLayout
    noise: float = 0.0

    def run(self, plan: Plan, budget: Budget) -> Measurement:
        weights = {name: _uniform(name) for name in plan.modules}
        total = sum(weights.values())
        error = {4: 0.09, 8: 0.007, 16: 0.0}
        loss = 1.8 + sum(
            weights[name] / total * (error[choice.bits] + 0.5 / (1 + choice.rank))
            for name, choice in plan.modules.items()
        )
        loss += random.Random(f"{budget.seed}/{plan.digest}").gauss(0.0, 1.0) * self.noise
        cost = plan_cost(self.layout, plan)
        return Measurement(
            metrics={
                "loss": loss,
                "perplexity": math.exp(loss),
                "bits_per_byte": loss / math.log(2) / 4,
                "accuracy": math.exp(-loss),
            },
            examples=(Example(input="2 + 2 =", output=f"{4 + loss:.3f}", reference="4"),),
            model_bytes=cost.model_bytes,
            bytes_per_parameter=cost.bytes_per_parameter,
            trainable_parameters=cost.trainable_parameters,
            trainable_share=cost.trainable_share,
            ranks=plan.ranks if plan.lora.variant == "adalora" else {},
            seed=budget.seed,
            device="none",
        )

    def sensitivities(self, rank: int) -> Sensitivities:
        """The weights w_m of the loss as every measure."""
        modules = {}
        for spec in self.layout.modules:
            weight = _uniform(spec.name)
            modules[spec.name] = ModuleSensitivity(
                weight_norm=spec.num_weights**0.5,
                weight_error={4: 0.09 * weight, 8: 0.007 * weight},
                output_error={4: 0.09 * weight, 8: 0.007 * weight},
                fisher=weight,
                gradient_norm=weight,
                movement=weight,
            )
        return Sensitivities(modules=modules, probe_rank=rank)


def _uniform(name: str) -> float:
    """A number in [0, 1) that depends on ``name`` alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32
