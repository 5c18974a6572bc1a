"""Creates and loads studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jointsearch.api.own_code import (
    check_same_model,
    check_same_settings,
    layout_known_to,
    runner_of,
    settings_known_to,
)
from jointsearch.api.settings import Source, settings_of
from jointsearch.api.storages import storage_url
from jointsearch.api.study import Study
from jointsearch.config.space import SpaceSettings
from jointsearch.config.study import StudyConfig
from jointsearch.creating import draft, find, store, stored
from jointsearch.errors import StudyError
from jointsearch.front.objectives import Objective
from jointsearch.runner import Runner
from jointsearch.study.study import load_study as load_stored

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
    ``args.max_steps``, or as ``calibration.steps``. Such a study is resumed with the same objects;
    ``runner=TrainerRunner(model, ...)`` is the same.

    Raises ``StudyFileError``, ``StudyError`` and ``StorageError``.
    """
    objects = {
        "tokenizer": tokenizer,
        "train_dataset": train_dataset,
        "eval_dataset": eval_dataset,
        "compute_metrics": compute_metrics,
        "trainer_cls": trainer_cls,
        "args": args,
        "data_collator": data_collator,
    }
    runner = runner_of(runner, model, **objects)
    if source is None and runner is None:
        raise StudyError("a study needs a source (a file, a dict), a runner or a model, but got none")
    config = settings_of(
        source,
        own_code=None if runner is None else settings_known_to(runner),
        name=name,
        objectives=objectives,
        search_space=search_space,
    )
    return _study(config, storage_url(storage), runner, load_if_exists)


def load_study(name: str, storage: str | None = None, *, runner: Runner | None = None) -> Study:
    """A stored study; raises ``StudyError`` naming the nearest one there is.

    ``runner``: what runs its trials, for a study that was created with one, or with a model and data of
    one's own (``TrainerRunner``).
    """
    url = storage_url(storage)
    stored = load_stored(name, url)
    if runner is not None:
        check_same_settings(stored, runner)
        check_same_model(stored, layout_known_to(runner, stored.config))
    return Study(stored, url, runner)


def _study(config: StudyConfig, url: str, runner: Runner | None, load_if_exists: bool) -> Study:
    if not load_if_exists and stored(config.name, url) is not None:
        raise StudyError(
            f"a study must have a name of its own, but '{config.name}' is there; give another name, go on "
            "with it by load_if_exists=True, or delete it by jointsearch.delete_study"
        )
    layout = None if runner is None else layout_known_to(runner, config)
    found = find(config, url)
    if found is not None:
        check_same_model(found, layout)
    return Study(found or store(draft(config, layout), url), url, runner)
