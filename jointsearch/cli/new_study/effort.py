"""Minutes become trials and steps, by a rule that the study file repeats.

A training step of a model with N parameters on T tokens costs about ``4·N·T`` floating-point operations:
``2·N·T`` forward and as many back to the adapters, since frozen weights have no gradients (Kaplan et al.
2020, section 2.1, count ``2·N·T`` more for those). Validation and setting up take a quarter on top.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

OPERATIONS_PER_SECOND = {"cpu": 1e11, "mps": 2e12, "cuda": 2e13}
"""What training with quantized weights gets out of a device: a guess, within a factor of some four.

The CPU's follows from the quickstart study, 60 steps of 1,024 tokens in 5 s on two cores of an AMD EPYC;
the others are not measured.
"""
SECONDS_PER_STEP = 0.05
"""What a step takes, however small the model is."""
OVERHEAD = 1.25

UNKNOWN_PARAMETERS = 125_000_000
"""As many as GPT-2 has: for a model whose name does not tell."""

SIZE_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([mb])(?![A-Za-z0-9])", re.IGNORECASE)

GOAL_TRIALS = 100
MIN_TRIALS, MAX_TRIALS = 12, 200
MIN_STEPS, MAX_STEPS = 20, 200


@dataclass(frozen=True)
class Effort:
    """What a study does in its time."""

    trials: int
    steps: int
    """Of a trial."""
    seconds_per_step: float

    @property
    def minutes(self) -> int:
        """What all of it takes, by the same rule."""
        return math.ceil(self.trials * self.steps * self.seconds_per_step / 60)

    @property
    def bits(self) -> list[int]:
        """With few trials fewer choices: uniform plans, every bits × rank, are at most a third of them."""
        return [4, 8, 16] if self.trials >= 36 else [4, 8]

    @property
    def ranks(self) -> list[int]:
        return [0, 4, 8, 16] if self.trials >= 36 else [0, 8]


def effort_for(minutes: float, num_parameters: int, tokens_per_step: int, device: str) -> Effort:
    """A hundred trials of 20 to 200 steps; where that is too long fewer trials, and else more of them."""
    operations = 4 * num_parameters * tokens_per_step
    seconds = OVERHEAD * operations / OPERATIONS_PER_SECOND[device] + SECONDS_PER_STEP
    num_steps = minutes * 60 / seconds
    steps = min(max(round(num_steps / GOAL_TRIALS, -1), MIN_STEPS), MAX_STEPS)
    trials = min(max(int(num_steps / steps), MIN_TRIALS), MAX_TRIALS)
    return Effort(trials, int(steps), seconds)


def count_parameters(model: str) -> int:
    """Of a folder what its safetensors files hold, else what the name says (``Llama-3.2-1B``)."""
    files = sorted(Path(model).expanduser().glob("*.safetensors"))
    if files:
        return sum(map(_elements, files))
    said = SIZE_IN_NAME.findall(model.rpartition("/")[2])
    if not said:
        return UNKNOWN_PARAMETERS
    number, unit = said[-1]
    return int(float(number) * {"m": 1e6, "b": 1e9}[unit.lower()])


def _elements(path: Path) -> int:
    """A safetensors file begins with the length of its header, and that with shapes."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
