"""What can be added to jointsearch: the kinds of which there is a registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markdown_table import code, table

from jointsearch.config.names import SAMPLERS, STRATEGIES
from jointsearch.config.task import TASKS, register_task
from jointsearch.export import TARGETS, register_export_target
from jointsearch.export.serving import SERVING_TARGETS, register_serving_target
from jointsearch.front.objectives import OBJECTIVES, register_objective
from jointsearch.launchers import LAUNCHERS, register_launcher
from jointsearch.plan.formats import FORMATS, register_format
from jointsearch.plan.methods import METHODS, register_method
from jointsearch.registry import Registry
from jointsearch.search.samplers import register_sampler
from jointsearch.strategies.registry import register_strategy

SEAMS: dict[str, tuple[Registry[Any], Callable[[Any], Any], str]] = {
    "a weight format": (FORMATS, register_format, "search_space.formats"),
    "a task": (TASKS, register_task, "task.type"),
    "a sampler": (SAMPLERS, register_sampler, "search.sampler"),
    "a strategy": (STRATEGIES, register_strategy, "--strategies"),
    "a training method": (METHODS, register_method, "lora.variant"),
    "an objective": (OBJECTIVES, register_objective, "objectives"),
    "a launcher": (LAUNCHERS, register_launcher, "--launcher"),
    "an export target": (TARGETS, register_export_target, "export --to"),
    "a serving target": (SERVING_TARGETS, register_serving_target, "export-model --to"),
}
"""What is added, where it is kept, by what, and the setting or option that names it."""


def all_seams() -> str:
    """By which function each kind is registered, under which entry points, and what then names it."""
    rows = [
        (what, code(f"jointsearch.{register.__name__}"), code(registry.group), code(named))
        for what, (registry, register, named) in SEAMS.items()
    ]
    return table(["you add", "by", "entry points", "it is named in"], rows)
