"""Runners of a person's own: made of a model and data, and held to what their study was made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jointsearch.config.study import StudyConfig, differences
from jointsearch.errors import StudyError
from jointsearch.plan.layout import ModelLayout
from jointsearch.registry import load
from jointsearch.runner import KnowsLayout, KnowsSettings, Runner
from jointsearch.study.stored import StoredStudy
from jointsearch.training.quiet import quiet_libraries


def runner_of(runner: Runner | None, model: Any, **objects: Any) -> Runner | None:
    """``runner``, or that of a model and its data; raises ``StudyError`` for half of either."""
    given = {name: value for name, value in objects.items() if value is not None}
    if model is None and not given:
        return runner
    if runner is not None or model is None or not {"train_dataset", "eval_dataset"} <= given.keys():
        got = [*(["runner"] if runner else []), *(["model"] if model is not None else []), *given]
        raise StudyError(
            "a study of objects needs model, train_dataset and eval_dataset, and no runner, "
            f"but got {', '.join(got)}"
        )
    quiet_libraries()
    made: Runner = load("jointsearch.training.own.runner:TrainerRunner")(model=model, **given)
    return made


def settings_known_to(runner: Runner) -> Mapping[str, Any]:
    """The sections of a study that follow from its runner."""
    return runner.settings() if isinstance(runner, KnowsSettings) else {}


def layout_known_to(runner: Runner, config: StudyConfig) -> ModelLayout | None:
    """The layout that the runner brings along; None where it is read from the study's model."""
    layout = runner.layout(config) if isinstance(runner, KnowsLayout) else None
    if layout is None and not config.model.is_named:
        raise StudyError(
            f"a study must name its model where its runner has no method 'layout', as "
            f"{type(runner).__name__}; give model: {{id: ...}} in the study, or add the method"
        )
    return layout


def check_same_settings(stored: StoredStudy, runner: Runner) -> None:
    """Raise ``StudyError`` where the study was made with other objects."""
    kept = stored.config.task.model_dump(mode="json")
    own = {k: v for k, v in settings_known_to(runner).get("task", {}).items() if k != "measures"}
    if changes := differences({name: kept.get(name) for name in own}, own):
        raise StudyError(
            f"study '{stored.name}' goes on with the objects that it was made with, but got others "
            f"({'; '.join(changes)}); give those, or make a study of another name"
        )


def check_same_model(stored: StoredStudy, layout: ModelLayout | None) -> None:
    """Raise ``StudyError`` where the study was made for a model of another layout."""
    if layout is not None and layout != stored.layout:
        raise StudyError(
            f"study '{stored.name}' was made for another model ({stored.layout.architecture} of "
            f"{stored.layout.num_parameters} parameters), but the runner has {layout.architecture} of "
            f"{layout.num_parameters}; give the study another name"
        )
