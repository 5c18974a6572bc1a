"""Names of what a study keeps in Optuna's storage beside parameters and values.

A study has the user attributes ``config``, ``layout`` and perhaps ``memory``, ``selection``,
``sensitivities`` and ``converged``, and those of ``full_runs``. A trial has ``plan``, ``digest``, ``seed``
and perhaps ``origin`` or ``steps`` from the start, and ``measurement`` or ``failure`` at the end. Those that
samplers read are named in ``search.attributes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jointsearch.plan.origin import Origin
from jointsearch.plan.record import read_stored
from jointsearch.search.attributes import PLAN, SEED, STEPS

CONFIG = "config"
LAYOUT = "layout"
MEMORY = "memory"
"""What training takes of the model, where it can be foretold (``plan.memory.MemoryProfile``)."""
SELECTION = "selection"
"""The number of the trial that was selected last."""
CONVERGED = "converged"
"""How many trials were complete when the search had converged."""
SENSITIVITIES = "sensitivities"

DIGEST = "digest"
ORIGIN = "origin"
LABEL = "label"
"""What version 0.1.0 wrote in place of ``origin``."""
REQUESTED = "requested"
"""A person asked for this trial: it comes on top of the search's, and first."""
IMPORTED_FROM = "imported_from"
RUNG = "rung"
"""Where a trial was stopped early: its step and its loss there."""
WORKER = "worker"
"""Host and process that run the trial."""
MEASUREMENT = "measurement"
RETRY_OF = "retry_of"

PLAN_ATTRIBUTES = (PLAN, DIGEST, ORIGIN, LABEL, SEED, STEPS, REQUESTED)
"""What a trial knows before it runs."""


def stored_origin(attributes: Mapping[str, Any]) -> Origin:
    """Where the plan of a trial with these attributes comes from."""
    if ORIGIN in attributes:
        return read_stored(Origin, attributes[ORIGIN], "the origin of a trial")
    return Origin.of_label(str(attributes.get(LABEL, "")))
