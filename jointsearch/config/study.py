"""A whole study: the model, the task, the search space, and how plans are trained and searched.

The storage is no part of it: its URL may hold a password.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ValidationInfo, field_validator

from jointsearch.config.fields import NOT_IDENTITY, Pattern, identity_of
from jointsearch.config.search import SearchSettings
from jointsearch.config.space import SpaceSettings
from jointsearch.config.task import TaskSettings
from jointsearch.config.training import CalibrationSettings, FullRunSettings, TrainingSettings
from jointsearch.config.trust import not_from_here
from jointsearch.errors import nearest
from jointsearch.front.objectives import OBJECTIVES, qualities
from jointsearch.plan.formats import QuantizationSettings
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.record import Record, digest

DEFAULT_STORAGE = "sqlite:///jointsearch.db"

IN_MEMORY = "(in memory)"
"""The ``model.id`` of a study whose model is handed over in Python, or known to its runner alone."""


EMBEDDED_MODEL = "jointsearch:quickstart/model"
"""The ``model.id`` of the model that ships in the package, wherever a machine has the package."""

_EMBEDDED_FOLDER = "/jointsearch/quickstart/model"


def embedded_as_name(model_id: str) -> str:
    """The embedded model's name for its folder in any checkout or Python; any other id as it is."""
    return EMBEDDED_MODEL if model_id.rstrip("/").endswith(_EMBEDDED_FOLDER) else model_id


def model_source(model_id: str) -> str:
    """Where libraries find the model on this machine: a Hub id, or a folder."""
    if model_id != EMBEDDED_MODEL:
        return model_id
    return str(Path(__file__).parents[1] / "quickstart" / "model")


class ModelSettings(Record):
    """The pretrained model."""

    id: Annotated[str, AfterValidator(embedded_as_name)]
    """A model id of the Hugging Face Hub, or a folder (starting with ``.``, ``/`` or ``~``)."""
    revision: str | None = None
    """Of the Hub: a branch, a tag or a commit."""
    dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    """The 16-bit type of what is not quantized; ``auto``: the checkpoint's own, else bfloat16."""
    trust_remote_code: Annotated[bool, AfterValidator(not_from_here)] = False
    """That the model comes with Python code. It runs only where ``--trust-remote-code`` is given, too."""

    @property
    def is_named(self) -> bool:
        """Whether there is a checkpoint to read; no where a runner or a person brings the model along."""
        return self.id != IN_MEMORY

    @property
    def source(self) -> str:
        """What ``from_pretrained`` loads: ``id``, or the folder of the embedded model."""
        return model_source(self.id)


class StudyConfig(Record):
    """A whole study file."""

    name: Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, '.', '_' and '-'")]
    """The study's name in its storage; by default the file's."""
    description: Annotated[str, NOT_IDENTITY] = ""
    """For people."""
    model: ModelSettings
    """The pretrained model."""
    task: TaskSettings
    """What the model is adapted to."""
    search_space: SpaceSettings = SpaceSettings()
    """What each layer can have."""
    quantization: QuantizationSettings = QuantizationSettings()
    """How quantized weights are stored and multiplied."""
    lora: LoraSettings = LoraSettings()
    """What all adapters have in common."""
    training: TrainingSettings = TrainingSettings()
    """How models are trained, in trials and in the full run alike."""
    calibration: CalibrationSettings = CalibrationSettings()
    """The short fine-tune that is one trial."""
    full_run: Annotated[FullRunSettings, NOT_IDENTITY] = FullRunSettings()
    """The training in full of a chosen plan."""
    objectives: tuple[str, ...] = ("loss", "model_bytes")
    """The quality that the task measures, then what it is traded for."""
    search: SearchSettings = SearchSettings()
    """How plans are proposed."""
    device: Annotated[str, Pattern(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, mps, cuda or cuda:0")] = "auto"
    """Where models run; ``auto``: a GPU where there is one."""

    @field_validator("lora")
    @classmethod
    def _no_strategy(cls, lora: LoraSettings) -> LoraSettings:
        if not lora.method.searchable:
            raise ValueError(
                f"variant: {lora.variant} leaves no ranks to search; "
                "`jointsearch compare` compares a study with it"
            )
        return lora

    @field_validator("training")
    @classmethod
    def _streams_what_stays(cls, training: TrainingSettings, info: ValidationInfo) -> TrainingSettings:
        lora = info.data.get("lora")  # none where it has a mistake of its own
        if training.stream_layers and lora and lora.init == "pissa":
            raise ValueError(
                "stream_layers needs weights that stay as they are in the bank, but lora.init: pissa changes "
                "them; use init: default or loftq"
            )
        return training

    @field_validator("calibration")
    @classmethod
    def _one_of_the_searched_rates(
        cls, calibration: CalibrationSettings, info: ValidationInfo
    ) -> CalibrationSettings:
        space = info.data.get("search_space")  # none where it has a mistake of its own
        rate = calibration.learning_rate
        if space and space.learning_rates and rate not in ("auto", *space.learning_rates):
            among = ", ".join(f"{choice:g}" for choice in space.learning_rates)
            raise ValueError(
                f"learning_rate must be auto or among search_space.learning_rates ({among}), but got {rate:g}"
            )
        return calibration

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

    def at(self, learning_rate: float | None = None, steps: int | None = None) -> StudyConfig:
        """The same with numbers where a learning rate is ``auto``, and for trials of so many ``steps``."""
        calibration = self.calibration.at(learning_rate, steps)
        full_run = self.full_run
        if full_run.learning_rate == "auto":
            full_run = full_run.model_copy(update={"learning_rate": calibration.learning_rate})
        return self.model_copy(update={"calibration": calibration, "full_run": full_run})

    def with_trials(self, trials: int) -> StudyConfig:
        """The same study with so many trials in all."""
        return self.model_copy(update={"search": self.search.model_copy(update={"trials": trials})})

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
