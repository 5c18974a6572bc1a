"""What a finished run can be served by: each target is one file that registers itself.

A target says beforehand which plans its runtime can carry, writes them, and loads what it has written as the
stock runtime does. ``expected`` is the model that this must be: it is made of the run without what was
written, so that the comparison of both (``export.verification``) proves something.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from jointsearch.errors import PlanError, UnsupportedError
from jointsearch.plan.formats import FORMATS, by_precision, with_bits
from jointsearch.plan.plan_file import PlanFile
from jointsearch.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from jointsearch.export.finished_run import FinishedRun


class ServingTarget(ABC):
    """A form that a runtime loads. Has no state; nothing of torch is imported before it is written."""

    name: str
    """As ``jointsearch export-model --to`` has it."""

    description: str
    """What is written, in a few words."""

    formats: tuple[str, ...] | None = None
    """The weight formats that the runtime has; None where it has all, or none is kept."""

    extra: str = ""
    """The extra of jointsearch that brings what the target needs."""

    needs: tuple[str, ...] = ()
    """Modules that writing imports, beside what jointsearch depends on."""

    runtime: tuple[str, ...] = ("transformers", "peft")
    """Modules that loading imports; their versions stand beside the figures."""

    tolerance: float
    """The largest difference from the ``expected`` logits that is allowed, as a part of the largest logit."""

    usage: str
    """How the folder is loaded, in Markdown: with ``{folder}``, its name, ``{base}``, the original model,
    ``{auto_class}``, transformers' class for the task, and ``{max_rank}``."""

    def check(self, plan: PlanFile) -> None:
        """Raise ``PlanError`` where the runtime cannot carry the plan, with the nearest that it can."""
        self.check_formats(plan)

    def check_formats(self, plan: PlanFile) -> None:
        """Raise ``PlanError`` where a module has a format that the runtime has not."""
        if self.formats is None:
            return
        known = (*self.formats, "16bit")
        for name, weight_format in plan.plan.formats.items():
            if weight_format not in known:
                nearest = with_bits(FORMATS[weight_format].bits, known)
                raise PlanError(
                    f"{self.name} carries the formats {', '.join(by_precision(known))}, but the plan gives "
                    f"{name} {weight_format}; the nearest is {nearest}, or export to merged"
                )

    def check_experts(self, plan: PlanFile) -> None:
        """Raise ``PlanError`` where experts are quantized: nothing makes plain weights of them yet."""
        for name, weight_format in plan.plan.formats.items():
            if plan.layout[name].kind == "experts":
                raise PlanError(
                    f"{self.name} has no quantized experts, but the plan gives {name} {weight_format}; the "
                    "nearest is 16bit, or load the run's own folders"
                )

    @abstractmethod
    def write(self, run: FinishedRun, folder: Path) -> None:
        """Write all that the runtime needs of the run into an empty folder."""

    @abstractmethod
    def load(self, folder: Path, run: FinishedRun) -> nn.Module:
        """What was written, loaded by the stock runtime on the CPU: a module that takes the batches of the
        run's task and gives ``logits``, as models of transformers do."""

    def load_unrounded(self, folder: Path, run: FinishedRun) -> nn.Module | None:
        """The same weights where the runtime rounds nothing while it multiplies, to be compared with what is
        expected; None where ``load`` rounds nothing."""
        return None

    @abstractmethod
    def expected(self, run: FinishedRun) -> nn.Module:
        """What ``load`` must give but for rounding, made of the run without what was written."""


SERVING_TARGETS: Registry[ServingTarget] = Registry(
    "serving target", folder="jointsearch.export.targets", first=("adapter", "merged", "merged-quantized")
)


def register_serving_target(target: ServingTarget) -> ServingTarget:
    """Make a target known by its name, for ``jointsearch export-model --to``."""
    return SERVING_TARGETS.register(target)


@dataclass(frozen=True)
class Carried:
    """Whether a runtime can carry a plan."""

    target: ServingTarget
    problem: str
    """Why it cannot, with what to do instead; empty where it can."""


def carriers(plan: PlanFile) -> tuple[Carried, ...]:
    """What every target says of the plan."""
    return tuple(Carried(target, _problem(target, plan)) for target in SERVING_TARGETS.values())


def _problem(target: ServingTarget, plan: PlanFile) -> str:
    try:
        target.check(plan)
    except PlanError as error:
        return str(error)
    return ""


def missing(modules: tuple[str, ...]) -> list[str]:
    """Those that are not installed."""
    return [name for name in modules if find_spec(name) is None]


def check_installed(target: ServingTarget) -> None:
    """Raise ``UnsupportedError`` where something is not there that the target is written with."""
    if lacking := missing(target.needs):
        raise UnsupportedError(
            f"exporting to {target.name} needs {', '.join(lacking)}; "
            f"install it by `pip install 'jointsearch[{target.extra}]'`"
        )
