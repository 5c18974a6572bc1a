"""The study file: YAML in, a validated ``StudyConfig`` out, or one line that says what is wrong where.

Relative paths in a study file start at the file's own folder, so that a study means the same from
every working directory. The storage is never in the file (it may hold a password).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from jointsearch.errors import StudyFileError, first_line, nearest
from jointsearch.objectives import OBJECTIVES, QUALITIES
from jointsearch.plan import LoraSettings, QuantizationSettings, Record, digest
from jointsearch.space import SpaceSettings

DEFAULT_STORAGE = "sqlite:///jointsearch.db"

Positive = Annotated[int, Field(gt=0)]


class ModelSettings(Record):
    """The pretrained model."""

    id: str
    """A model id of the Hugging Face Hub, or a folder (starting with ``.``, ``/`` or ``~``)."""
    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    """The 16-bit type of what is not quantized; ``auto``: the checkpoint's own, else bfloat16."""
    trust_remote_code: bool = False


class DataSettings(Record):
    """Where the text comes from: exactly one of ``hub``, ``files`` and ``package``."""

    hub: str | None = None
    """A data set id of the Hugging Face Hub."""
    config: str | None = None
    """The configuration of a Hub data set."""
    revision: str | None = None
    files: dict[Literal["train", "validation", "test"], str] | None = None
    """Files of plain text (.txt), JSON lines (.jsonl, .json), .csv or .parquet by split."""
    package: str | None = None
    """An installed Python package: the text is its own source files."""
    text_column: str = "text"
    max_bytes: Positive | None = None
    """Read at most so much text (``package`` only)."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = [name for name in ("hub", "files", "package") if getattr(self, name) is not None]
        if len(sources) != 1:
            raise ValueError(f"exactly one of hub, files and package must be given, but got {sources}")
        misplaced = [
            name
            for name, source in (("config", "hub"), ("revision", "hub"), ("max_bytes", "package"))
            if getattr(self, name) is not None and getattr(self, source) is None
        ]
        if misplaced:
            raise ValueError(f"{', '.join(misplaced)} must not be given for {sources[0]}")
        if self.files is not None and "train" not in self.files:
            raise ValueError(f"files must name a train split, but got {sorted(self.files)}")
        return self


class TaskSettings(Record):
    """What the model is adapted to."""

    type: Literal["causal-lm"]
    data: DataSettings
    sequence_length: int = Field(default=256, ge=8)
    """Tokens per training example; text is packed into examples of this length."""
    validation_share: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the training text set aside where a validation or test split is missing."""
    split_seed: int = Field(default=0, ge=0, lt=2**32)


class CalibrationSettings(Record):
    """The short fine-tune that is one trial."""

    steps: Positive = 60
    batch_size: Positive = 8
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=5, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    validation_examples: Positive = 64
    """Examples of the validation split that every trial is measured on."""
    measure_at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Shares of the steps after which the validation loss is measured too."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """The order of the batches and the adapters' start: the same for all trials of a study."""

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps must be at most steps ({self.steps}), but got {self.warmup_steps}"
            )
        return self


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


class SearchSettings(Record):
    """How plans are proposed."""

    sampler: Literal["nsga2", "tpe", "gp", "random"] = "nsga2"
    trials: Positive = 100
    """Trials in all, uniform plans and failed trials included."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    enqueue: tuple[Literal["uniform"], ...] = ("uniform",)
    """Plans that are tried first: ``uniform`` is every bits × rank, the baselines of the front."""


class StudyConfig(Record):
    """A whole study file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    model: ModelSettings
    task: TaskSettings
    search_space: SpaceSettings = SpaceSettings()
    quantization: QuantizationSettings = QuantizationSettings()
    lora: LoraSettings = LoraSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    full_run: FullRunSettings = FullRunSettings()
    objectives: tuple[str, ...] = ("loss", "model_bytes")
    search: SearchSettings = SearchSettings()
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in OBJECTIVES:
                hint = nearest(name, OBJECTIVES)
                raise ValueError(f"must be among {', '.join(OBJECTIVES)}, but got '{name}'{hint}")
        if len(names) < 2 or len(set(names)) != len(names):
            raise ValueError(f"must be two or more different names, but got {list(names)}")
        if names[0] not in QUALITIES:
            raise ValueError(f"the first must be a quality ({', '.join(QUALITIES)}), but got '{names[0]}'")
        return names

    @property
    def quality(self) -> str:
        """The name of the quality objective."""
        return self.objectives[0]

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that finished trials depend on; ``search.trials`` may grow, texts may change."""
        fields = self.model_dump(mode="json", exclude={"description", "full_run"})
        del fields["search"]["trials"]
        return fields

    @property
    def digest(self) -> str:
        return digest(self.identity)


def load_study(path: Path) -> StudyConfig:
    """Read and validate a study file; raises ``StudyFileError`` with the line and the nearest valid key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(f"{path}: cannot be read ({_reason(error)})") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StudyFileError(_yaml_problem(error, text, path)) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise StudyFileError(f"{path}: not valid YAML: {first_line(error)}") from None
    if root is None or not isinstance(values, dict):
        raise StudyFileError(f"{path}: a study file must be a mapping with the keys {', '.join(_keys())}")
    _check_keys(root, path)
    values.setdefault("name", path.stem)
    try:
        config = StudyConfig.model_validate(values)
    except ValidationError as error:
        raise StudyFileError(_first_problem(error, root, path)) from None
    return _with_absolute_paths(config, path)


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


def _with_absolute_paths(config: StudyConfig, file: Path) -> StudyConfig:
    """The same study with its relative paths made absolute."""
    folder = file.parent.resolve()

    def absolute(path: str) -> str:
        try:
            return str((folder / Path(path).expanduser()).resolve())
        except (ValueError, RuntimeError) as error:
            raise StudyFileError(f"{file}: {path!r} must be a path, but {first_line(error)}") from None

    values = config.model_dump(mode="json")
    if is_folder_id(config.model.id):
        values["model"]["id"] = absolute(config.model.id)
    if config.task.data.files:
        files = {split: absolute(path) for split, path in config.task.data.files.items()}
        values["task"]["data"]["files"] = files
    return StudyConfig.model_validate(values)


def _first_problem(error: ValidationError, root: yaml.Node, path: Path) -> str:
    """The first thing that is wrong, with its line, on one line."""
    # of several on a line the deepest: what contains it is wrong because of it
    problem = min(error.errors(), key=lambda item: (_line(root, item["loc"]), -len(item["loc"])))
    loc = tuple(part for part in problem["loc"] if part != "[key]")
    where = f"{path}:{_line(root, loc)}: "
    name = ".".join(str(part) for part in loc)
    match problem["type"]:
        case "extra_forbidden":
            keys = _keys(loc[:-1])
            return f"{where}unknown key '{name}'{nearest(str(loc[-1]), keys)} (valid: {', '.join(keys)})"
        case "missing":
            return f"{where}the key '{name}' is required"
        case "literal_error":
            expected = problem["ctx"]["expected"]
            hint = nearest(str(problem["input"]), re.findall(r"'([^']*)'", expected))
            return f"{where}{name} must be {expected}, but got {problem['input']!r}{hint}"
        case "value_error":
            return f"{where}{name + ': ' if name else ''}{problem['ctx']['error']}"
        case _:
            return f"{where}{name}: {problem['msg']}, but got {problem['input']!r}"


def _keys(loc: Sequence[int | str] = ()) -> list[str]:
    """The valid keys of the mapping at ``loc``."""
    model: type[BaseModel] = StudyConfig
    for part in loc:
        if isinstance(part, int):
            continue
        nested = [
            kind
            for kind in _models_in(model.model_fields[part].annotation)
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        model = nested[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation, *(kind for argument in arguments for kind in _models_in(argument))]


def _line(root: yaml.Node, loc: Sequence[int | str]) -> int:
    """The line (from 1) of the deepest node on the way to ``loc``."""
    node, line = root, root.start_mark.line
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    node, line = value, key.start_mark.line
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
    return line + 1


def _check_keys(node: yaml.Node, path: Path, parents: tuple[yaml.Node, ...] = ()) -> None:
    """Keys must be texts, and different: YAML readers keep the last of two equal ones in silence."""
    line = node.start_mark.line + 1
    if node in parents:
        raise StudyFileError(f"{path}:{line}: an alias must not contain itself")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                raise StudyFileError(f"{path}:{line}: a key must be a text, but got '{key.value}'; quote it")
            if key.value in seen:
                raise StudyFileError(f"{path}:{line}: the key '{key.value}' is there twice")
            seen.add(key.value)
            _check_keys(value, path, (*parents, node))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, path, (*parents, node))


def _yaml_problem(error: yaml.YAMLError, text: str, path: Path) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"{path}:{line}: not valid YAML: {error.reason}"
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    return f"{where}: not valid YAML: {getattr(error, 'problem', None) or first_line(error)}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
