"""Creates and loads studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jointsearch.api.settings import Source, settings_of
from jointsearch.api.storages import storage_url
from jointsearch.api.study import Study
from jointsearch.assemble import read_layout, with_labels
from jointsearch.config.space import SpaceSettings
from jointsearch.config.study import StudyConfig
from jointsearch.errors import StudyError
from jointsearch.front.objectives import Objective
from jointsearch.plan.layout import ModelLayout
from jointsearch.registry import load
from jointsearch.runner import KnowsLayout, Runner
from jointsearch.starting import create, find
from jointsearch.study.storage.opening import open_if_there
from jointsearch.study.stored import StoredStudy, build_space
from jointsearch.study.study import find_study
from jointsearch.study.study import load_study as load_stored
from jointsearch.training.quiet import quiet_libraries

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments


def create_study(
    source: Source | None = None,
    storage: str | None = None,
    *,
    load_if_exists: bool = False,
    runner: Runner | None = None,
    name: str | None = None,
    objectives: Sequence[str | Objective] | None = None,
    search_space: SpaceSettings | Mapping[str, Any] | None = None,
    model: PreTrainedModel | str | None = None,
    tokenizer: Any = None,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    compute_metrics: Callable[..., dict[str, float]] | None = None,
    trainer_cls: type[Any] | None = None,
    args: TrainingArguments | None = None,
    data_collator: Any = None,
) -> Study:
    """A new study with its baselines in the queue; nothing is stored if it cannot run.

    ``source``: a study file's path, the name of an embedded study ("quickstart"), a dict with the content of
    a study file, or a ``StudyConfig``. ``storage``: a URL; by default that of JOINTSEARCH_STORAGE, or a
    SQLite file in the working directory. ``load_if_exists``: go on with the study of that name, if it was
    made from the same settings. ``runner``: what runs trials in place of the study's own settings; ``source``
    then needs neither a model nor a task. ``name``, ``objectives`` and ``search_space`` replace what
    ``source`` says.

    ``model`` (loaded, or a checkpoint's id) with ``train_dataset`` and ``eval_dataset``: what trials train
    and measure, by ``trainer_cls`` (transformers' ``Trainer``, or TRL's ``SFTTrainer``) with ``args``.
    What ``compute_metrics`` gives can be objectives: ``Objective("wer", "minimize")``. Trials are as long as
    ``args.max_steps``, or as ``calibration.steps``. Such a study is resumed with the same objects.

    Raises ``StudyFileError``, ``StudyError`` and ``StorageError``.
    """
    if model is not None:
        if runner is not None or train_dataset is None or eval_dataset is None:
            raise StudyError(
                "a model of one's own comes with train_dataset and eval_dataset, and without a runner"
            )
        others = {"tokenizer": tokenizer, "compute_metrics": compute_metrics, "trainer_cls": trainer_cls}
        runner = _own_trainer(
            model, train_dataset, eval_dataset, **others, args=args, data_collator=data_collator
        )
    if source is None and runner is None:
        raise StudyError("a study needs a source (a file, a dict) or a runner, but got neither")
    config = settings_of(
        source,
        own_code=None if runner is None else _own_code(runner),
        name=name,
        objectives=objectives,
        search_space=search_space,
    )
    return _study(config, storage_url(storage), runner, load_if_exists)


def _own_trainer(model: Any, train_dataset: Any, eval_dataset: Any, **others: Any) -> Runner:
    """What trains a person's own model and data."""
    quiet_libraries()
    given = {name: value for name, value in others.items() if value is not None}
    made: Runner = load("jointsearch.training.own_trainer:OwnTrainer")(
        model, train_dataset, eval_dataset, **given
    )
    return made


def _own_code(runner: Runner) -> Mapping[str, Any]:
    """What a runner wants to be known by, if it says it."""
    task = getattr(runner, "task", None)
    return task() if callable(task) else {}


def load_study(name: str, storage: str | None = None, *, runner: Runner | None = None) -> Study:
    """A stored study; raises ``StudyError`` naming the nearest one there is.

    ``runner``: what runs its trials, for a study that was created with one.
    """
    url = storage_url(storage)
    stored = load_stored(name, url)
    if runner is not None:
        _check_same_model(stored, _own_layout(stored.config, runner))
    return Study(stored, url, runner)


def _study(config: StudyConfig, url: str, runner: Runner | None, load_if_exists: bool) -> Study:
    opened = open_if_there(url)
    if not load_if_exists and opened is not None and find_study(opened, config.name) is not None:
        raise StudyError(
            f"a study must have a name of its own, but '{config.name}' is there; give another name, go on "
            "with it by load_if_exists=True, or delete it by jointsearch.delete_study"
        )
    layout = None if runner is None else _own_layout(config, runner)
    stored = find(config, url)
    if stored is not None:
        _check_same_model(stored, layout)
        return Study(stored, url, runner)
    config = with_labels(config, None)
    layout = layout or read_layout(config)
    build_space(config, layout)
    return Study(create(config, url, layout), url, runner)


def _own_layout(config: StudyConfig, runner: Runner) -> ModelLayout | None:
    """The layout that the runner brings along; None where it is read from the study's model."""
    layout = runner.layout(config) if isinstance(runner, KnowsLayout) else None
    if layout is None and not config.model.is_named:
        raise StudyError(
            f"a study must name its model where its runner has no method 'layout', as "
            f"{type(runner).__name__}; give model: {{id: ...}} in the study, or add the method"
        )
    return layout


def _check_same_model(stored: StoredStudy, layout: ModelLayout | None) -> None:
    if layout is not None and layout != stored.layout:
        raise StudyError(
            f"study '{stored.name}' was made for another model ({stored.layout.architecture} of "
            f"{stored.layout.num_parameters} parameters), but the runner has {layout.architecture} of "
            f"{layout.num_parameters}; give the study another name"
        )
