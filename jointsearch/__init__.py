"""Joint search of weight formats and LoRA ranks per layer.

Importing this package lets transformers load mixed checkpoints. It stays cheap: whatever a name needs is
imported when the name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jointsearch.hf import register_when_transformers_is_there

if TYPE_CHECKING:
    from jointsearch import testing as testing
    from jointsearch.api.creation import create_study as create_study
    from jointsearch.api.creation import load_study as load_study
    from jointsearch.api.exporting import ExportResult as ExportResult
    from jointsearch.api.exporting import export_model as export_model
    from jointsearch.api.fit import fit as fit
    from jointsearch.api.selection import Selection as Selection
    from jointsearch.api.storages import delete_study as delete_study
    from jointsearch.api.storages import get_all_study_names as get_all_study_names
    from jointsearch.api.study import Study as Study
    from jointsearch.api.training import EvaluationResult as EvaluationResult
    from jointsearch.api.training import TrainingResult as TrainingResult
    from jointsearch.api.training import evaluate as evaluate
    from jointsearch.api.training import get_plan_model as get_plan_model
    from jointsearch.api.training import train as train
    from jointsearch.config.space import SpaceSettings as SearchSpace  # noqa: F401
    from jointsearch.config.study import StudyConfig as StudyConfig
    from jointsearch.config.task import TaskKind as TaskKind
    from jointsearch.config.task import register_task as register_task
    from jointsearch.errors import JointSearchError as JointSearchError
    from jointsearch.errors import TrialFailed as TrialFailed
    from jointsearch.errors import TrialPruned as TrialPruned
    from jointsearch.export import ExportTarget as ExportTarget
    from jointsearch.export import register_export_target as register_export_target
    from jointsearch.export.serving import ServingTarget as ServingTarget
    from jointsearch.export.serving import register_serving_target as register_serving_target
    from jointsearch.front.objectives import Objective as Objective
    from jointsearch.front.objectives import register_objective as register_objective
    from jointsearch.launchers import Launcher as Launcher
    from jointsearch.launchers import register_launcher as register_launcher
    from jointsearch.measurement import Measurement as Measurement
    from jointsearch.plan.formats import WeightFormat as WeightFormat
    from jointsearch.plan.formats import register_format as register_format
    from jointsearch.plan.layout import ModelLayout as ModelLayout
    from jointsearch.plan.methods import Method as Method
    from jointsearch.plan.methods import register_method as register_method
    from jointsearch.plan.plan import ModuleChoice as ModuleChoice
    from jointsearch.plan.plan import Plan as Plan
    from jointsearch.plots import plot_effects as plot_effects
    from jointsearch.plots import plot_front as plot_front
    from jointsearch.plots import plot_hypervolume as plot_hypervolume
    from jointsearch.plots import plot_plan as plot_plan
    from jointsearch.quantization.plugin import JointSearchConfig as JointSearchConfig
    from jointsearch.runner import Runner as Runner
    from jointsearch.runner import Trial as Trial
    from jointsearch.search.samplers import Sampler as Sampler
    from jointsearch.search.samplers import register_sampler as register_sampler
    from jointsearch.strategies.registry import Strategy as Strategy
    from jointsearch.strategies.registry import register_strategy as register_strategy
    from jointsearch.study.analysis.comparison import Comparison as Comparison
    from jointsearch.study.analysis.verdict import Verdict as Verdict
    from jointsearch.training.own.runner import TrainerRunner as TrainerRunner

__version__ = "0.1.0"

_PLACES = {
    "Comparison": "jointsearch.study.analysis.comparison",
    "EvaluationResult": "jointsearch.api.training",
    "ExportResult": "jointsearch.api.exporting",
    "ExportTarget": "jointsearch.export",
    "JointSearchConfig": "jointsearch.quantization.plugin",
    "JointSearchError": "jointsearch.errors",
    "Launcher": "jointsearch.launchers",
    "Measurement": "jointsearch.measurement",
    "Method": "jointsearch.plan.methods",
    "ModelLayout": "jointsearch.plan.layout",
    "ModuleChoice": "jointsearch.plan.plan",
    "Objective": "jointsearch.front.objectives",
    "Plan": "jointsearch.plan.plan",
    "Runner": "jointsearch.runner",
    "Sampler": "jointsearch.search.samplers",
    "SearchSpace": "jointsearch.config.space:SpaceSettings",
    "Selection": "jointsearch.api.selection",
    "ServingTarget": "jointsearch.export.serving",
    "Strategy": "jointsearch.strategies.registry",
    "Study": "jointsearch.api.study",
    "StudyConfig": "jointsearch.config.study",
    "TaskKind": "jointsearch.config.task",
    "TrainingResult": "jointsearch.api.training",
    "Trial": "jointsearch.runner",
    "TrainerRunner": "jointsearch.training.own.runner",
    "TrialFailed": "jointsearch.errors",
    "TrialPruned": "jointsearch.errors",
    "Verdict": "jointsearch.study.analysis.verdict",
    "WeightFormat": "jointsearch.plan.formats",
    "create_study": "jointsearch.api.creation",
    "delete_study": "jointsearch.api.storages",
    "evaluate": "jointsearch.api.training",
    "export_model": "jointsearch.api.exporting",
    "fit": "jointsearch.api.fit",
    "get_all_study_names": "jointsearch.api.storages",
    "get_plan_model": "jointsearch.api.training",
    "load_study": "jointsearch.api.creation",
    "plot_effects": "jointsearch.plots",
    "plot_front": "jointsearch.plots",
    "plot_hypervolume": "jointsearch.plots",
    "plot_plan": "jointsearch.plots",
    "register_export_target": "jointsearch.export",
    "register_format": "jointsearch.plan.formats",
    "register_launcher": "jointsearch.launchers",
    "register_method": "jointsearch.plan.methods",
    "register_objective": "jointsearch.front.objectives",
    "register_sampler": "jointsearch.search.samplers",
    "register_serving_target": "jointsearch.export.serving",
    "register_strategy": "jointsearch.strategies.registry",
    "register_task": "jointsearch.config.task",
    "train": "jointsearch.api.training",
}
"""The public names, and the module that each is in."""

__all__ = ["__version__", "testing", *_PLACES]

register_when_transformers_is_there()


def __getattr__(name: str) -> Any:
    if name == "testing":
        return import_module("jointsearch.testing")
    if name not in _PLACES:
        raise AttributeError(f"module 'jointsearch' has no attribute '{name}'")
    module, _, own_name = _PLACES[name].partition(":")
    found = getattr(import_module(module), own_name or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
