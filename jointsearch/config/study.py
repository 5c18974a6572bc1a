"""The study file: YAML in, a validated ``StudyConfig`` out, or one line that says what is wrong where.

Relative paths in a study file start at the file's own folder, so that a study means the same from
every working directory. The storage is never in the file (it may hold a password).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from jointsearch.config.fields import NOT_IDENTITY, Known, Pattern, Positive, identity_of
from jointsearch.config.names import SAMPLERS
from jointsearch.config.space import SpaceSettings
from jointsearch.config.task import TaskSettings
from jointsearch.errors import nearest
from jointsearch.front.objectives import OBJECTIVES, qualities
from jointsearch.plan.formats import QuantizationSettings
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.methods import METHODS
from jointsearch.plan.record import Record, digest

DEFAULT_STORAGE = "sqlite:///jointsearch.db"


class ModelSettings(Record):
    """The pretrained model."""

    id: str
    """A model id of the Hugging Face Hub, or a folder (starting with ``.``, ``/`` or ``~``)."""
    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    """The 16-bit type of what is not quantized; ``auto``: the checkpoint's own, else bfloat16."""
    trust_remote_code: bool = False


class CalibrationSettings(Record):
    """The short fine-tune that is one trial."""

    steps: Positive = 60
    batch_size: Positive = 8
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=5, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    train_examples: Positive | None = None
    """Draw the batches from so many examples of the training split; all of them by default."""
    validation_examples: Positive = 64
    """Examples of the validation split that every trial is measured on."""
    measure_at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.25, 0.5)
    """Shares of the steps after which the validation loss is measured too: the rungs of early stopping."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """The order of the batches and the adapters' start: the same for all trials of a study."""
    max_seconds: Annotated[float | None, NOT_IDENTITY] = Field(default=None, gt=0)
    """A trial that takes longer fails; if it hangs for a minute more, its worker is ended."""
    checkpoint_every: Annotated[Positive | None, NOT_IDENTITY] = None
    """Keep a trial's state every so many steps: a worker goes on from there if another was interrupted."""

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps must be at most steps ({self.steps}), but got {self.warmup_steps}"
            )
        return self


class TrainingSettings(Record):
    """How models are trained, in trials and in the full run alike; QLoRA's set-up has all three."""

    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """torch's AdamW, or that of bitsandbytes with 8-bit states, which can be paged to the host's memory."""
    gradient_checkpointing: bool = False
    """Keep no activations inside of blocks and compute them again: less memory, a third more time."""
    prepare_for_kbit_training: bool = False
    """PEFT's ``prepare_model_for_kbit_training``: what is not quantized is computed in float32."""


class FullRunSettings(Record):
    """The training in full of a chosen plan, by transformers' ``Trainer``."""

    epochs: float = Field(default=1.0, gt=0)
    max_steps: Positive | None = None
    """Stop after so many steps, whatever ``epochs`` says."""
    batch_size: Positive = 8
    gradient_accumulation_steps: Positive = 1
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    lr_scheduler: Literal["linear", "cosine", "constant_with_warmup"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    evaluations: Positive = 4
    """How often the validation loss is measured and a checkpoint is kept along the run."""
    seed: int = Field(default=0, ge=0, lt=2**32)


class StopSettings(Record):
    """When a study ends before it has all of its trials."""

    when: Literal["converged"]
    gain: float = Field(default=0.01, gt=0)
    """Stop when the next ``trials`` are expected to add less than this share to the front's hypervolume."""
    trials: Positive = 10
    after: Positive = 30
    """Never before so many trials are complete."""


class SearchSettings(Record):
    """How plans are proposed."""

    sampler: Annotated[str, Known(SAMPLERS)] = "additive"
    """``additive`` knows the bytes and models the quality as nearly a sum; ``nsga2``, ``tpe``, ``gp`` and
    ``random`` are Optuna's; ``qr-adaptor`` is after arXiv 2505.03802."""
    trials: Annotated[Positive, NOT_IDENTITY] = 100
    """Trials in all, uniform plans and failed trials included."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    repeats: Annotated[Positive, NOT_IDENTITY] = 1
    """Measure a plan that is proposed again with a new seed, up to so many seeds; then copy what is known."""
    probe: Annotated[Literal["weight-sharing", "sensitivity", "none"], NOT_IDENTITY] = "weight-sharing"
    """What gives ``sampler: additive`` its prior. ``weight-sharing``: one run that scores many plans, for the
    price of some six trials at most; adapters whose ranks are not nested (DoRA, PiSSA, LoftQ) do without.
    ``sensitivity``: output errors and gradients of every group, for the price of a trial."""
    early_stopping: Annotated[bool, NOT_IDENTITY] = True
    """Stop a trial at a rung where it would hardly be on the front (``study/rungs.py``)."""
    stop: Annotated[StopSettings | None, NOT_IDENTITY] = None


class StudyConfig(Record):
    """A whole study file."""

    name: Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, '.', '_' and '-'")]
    description: Annotated[str, NOT_IDENTITY] = ""
    model: ModelSettings
    task: TaskSettings
    search_space: SpaceSettings = SpaceSettings()
    quantization: QuantizationSettings = QuantizationSettings()
    lora: LoraSettings = LoraSettings()
    training: TrainingSettings = TrainingSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    full_run: Annotated[FullRunSettings, NOT_IDENTITY] = FullRunSettings()
    objectives: tuple[str, ...] = ("loss", "model_bytes")
    search: SearchSettings = SearchSettings()
    device: Annotated[str, Pattern(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, mps, cuda or cuda:0")] = "auto"

    @field_validator("lora")
    @classmethod
    def _no_strategy(cls, lora: LoraSettings) -> LoraSettings:
        if not METHODS[lora.variant].searchable:
            raise ValueError(
                f"variant: {lora.variant} leaves no ranks to search; "
                "`jointsearch compare` compares a study with it"
            )
        return lora

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        task = info.data.get("task")  # none where it has a mistake of its own
        costs = [name for name, objective in OBJECTIVES.items() if objective.is_cost]
        measured = [*task.metrics, *_derived()] if task else list(qualities())
        for name in names:
            if name not in OBJECTIVES:
                choices = [*measured, *costs]
                raise ValueError(
                    f"must be among {', '.join(choices)}, but got '{name}'{nearest(name, choices)}"
                )
        if len(names) < 2 or len(set(names)) != len(names):
            raise ValueError(f"must be two or more different names, but got {list(names)}")
        for name in names:
            if task and name not in (*costs, *measured):
                raise ValueError(f"'{name}' is no metric of this {task.type} ({', '.join(measured)})")
        if task and names[0] in costs:
            raise ValueError(f"the first must be a quality ({', '.join(measured)}), but got '{names[0]}'")
        return names

    @property
    def quality(self) -> str:
        """The name of the quality objective."""
        return self.objectives[0]

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that finished trials depend on: all but what is marked ``NOT_IDENTITY``."""
        return identity_of(self)

    @property
    def digest(self) -> str:
        return digest(self.identity)


def _derived() -> list[str]:
    """Qualities that follow from what every task measures."""
    return [name for name, known in OBJECTIVES.items() if known.measure is not None and not known.is_cost]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines such as ``calibration.steps: 60 -> 80`` for every value that differs."""
    before, after = _flat(old), _flat(new)
    return [
        f"{key}: {before.get(key, '(none)')} -> {after.get(key, '(none)')}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    nested = (_flat(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items())
    return {key: item for part in nested for key, item in part.items()}


def is_folder_id(model_id: str) -> bool:
    """Whether a model id is written as a folder rather than as a Hub id."""
    return model_id.startswith((".", "/", "~"))
