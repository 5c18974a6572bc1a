"""``plan.json``: a plan with all that is needed to train it, weigh it, and use it without jointsearch.

It carries the model's layout (so that bytes follow from the file alone), the study's settings (so
that the full run needs no other file), the ``peft.LoraConfig`` arguments (so that a person without
jointsearch can use the ranks), and what the search measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from jointsearch.config.study import StudyConfig
from jointsearch.errors import PlanError, first_line
from jointsearch.files import read_text, write_text
from jointsearch.plan.cost import PlanCost, plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.peft import lora_config
from jointsearch.plan.plan import Plan, PlanContext
from jointsearch.plan.record import Record, digest

VERSION = 1


class PlanSource(Record):
    """Where a plan comes from."""

    study: str
    trial: int
    label: str = ""
    """The baseline's name where the plan is one."""
    metrics: dict[str, float] = {}
    """What the short fine-tune of the search measured."""
    memory: dict[str, int] = {}
    """What was foretold: ``training_memory`` at the study's batch, and ``serving_memory``; bytes."""


class PlanFile(Record):
    """The content of ``plan.json``."""

    format: Literal["jointsearch-plan"] = "jointsearch-plan"
    version: Literal[1] = 1
    digest: str
    """Of the plan, as the study's trials have it."""
    checksum: str
    """Of all the rest of the file."""
    plan: Plan
    layout: ModelLayout
    study: StudyConfig
    origin: PlanSource | None = None
    peft: dict[str, Any]
    """Arguments of ``peft.LoraConfig``."""

    @classmethod
    def build(
        cls, plan: Plan, layout: ModelLayout, study: StudyConfig, origin: PlanSource | None = None
    ) -> PlanFile:
        plan.check(layout)
        file = cls(
            digest=plan.digest,
            checksum="",
            plan=plan,
            layout=layout,
            study=study,
            origin=origin,
            peft=lora_config(plan, layout, study.task.type),
        )
        return file.model_copy(update={"checksum": _checksum(file.model_dump(mode="json"))})

    @classmethod
    def of(cls, plan: Plan) -> PlanFile:
        """The file of a plan that knows its context; raises ``PlanError`` where it does not."""
        context = plan.known_context
        return cls.build(plan, context.layout, context.study, context.source)

    def under(self, study: StudyConfig) -> PlanFile:
        """The same plan with other settings."""
        return self.build(self.plan, self.layout, study, self.origin)

    @property
    def with_context(self) -> Plan:
        """The plan, which knows the rest of the file."""
        return self.plan.within(PlanContext(self.layout, self.study, self.origin))

    @property
    def cost(self) -> PlanCost:
        return plan_cost(self.layout, self.plan)


_NO_PLAN = "not a plan; `jointsearch export STUDY -o plan.json` writes one"


def read_plan(path: Path) -> PlanFile:
    """Read a plan; raises ``PlanError`` if it is missing, damaged or has been edited inconsistently."""
    try:
        content = json.loads(read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except json.JSONDecodeError as error:
        if error.doc.strip() and not error.doc.lstrip().startswith("{"):  # such as a study file
            raise PlanError(f"{path}: {_NO_PLAN}") from None
        raise PlanError(f"{path}:{error.lineno}: damaged, not valid JSON: {error.msg}") from None
    except ValueError as error:  # a number of thousands of digits
        raise PlanError(f"{path}: damaged, not valid JSON: {first_line(error)}") from None
    except RecursionError:
        raise PlanError(f"{path}: damaged, nested too deeply") from None
    if not isinstance(content, dict) or content.get("format") != "jointsearch-plan":
        raise PlanError(f"{path}: {_NO_PLAN}")
    if content.get("version") != VERSION:
        raise PlanError(
            f"{path}: a plan must have version {VERSION}, but got {content.get('version')!r}; "
            "use the jointsearch that wrote it"
        )
    try:
        plan = PlanFile.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        reason = problem.get("ctx", {}).get("error", problem["msg"])
        raise PlanError(f"{path}: damaged at {where}: {reason}") from None
    try:
        plan.plan.check(plan.layout)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None
    follows = {
        "digest": plan.digest == plan.plan.digest,
        "peft": plan.peft == lora_config(plan.plan, plan.layout, plan.study.task.type),
        "checksum": plan.checksum in (_checksum(content), _checksum_of_0_1(content)),
    }
    for field, fits in follows.items():
        if not fits:
            raise PlanError(
                f"{path}: damaged: {field} must follow from the rest of the file, but it does not; "
                "export it again"
            )
    return plan


def _checksum(content: dict[str, Any]) -> str:
    """Of what a file holds, as it stands there: a setting that it does not know yet changes nothing."""
    return digest({key: value for key, value in content.items() if key != "checksum"})


def _checksum_of_0_1(content: dict[str, Any]) -> str:
    """Of plan and layout alone, as version 0.1.0 has written it."""
    return digest({"plan": content["plan"], "layout": content["layout"]})


def plan_text(plan: PlanFile) -> str:
    """What ``plan.json`` holds."""
    return json.dumps(plan.model_dump(mode="json"), indent=1) + "\n"


def write_plan(plan: PlanFile, path: Path) -> None:
    """Write ``plan.json`` whole or not at all."""
    write_text(path, plan_text(plan))


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan that knows its context, whole or not at all."""
    write_plan(PlanFile.of(plan), path)
