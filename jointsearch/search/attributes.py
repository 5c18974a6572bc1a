"""Names of the attributes that samplers read, of trials and of studies; the rest are in ``study.records``."""

from __future__ import annotations

import optuna

from jointsearch.plan.record import read_stored
from jointsearch.search.probe import Probe

PLAN = "plan"
SEED = "seed"
COPY_OF = "copy_of"
STEPS = "steps"
"""Of a final: how long it trains, in place of ``calibration.steps``. Samplers do not see it."""
EXPECTED = "expected"
"""The quality that a trial was expected to reach when it was stopped early."""
FAILURE = "failure"
"""Why a trial has failed, on one line."""
PROBE = "probe"
"""Of the study: what its probe has found (``jointsearch.search.probe``)."""


def stored_probe(study: optuna.Study) -> Probe | None:
    """The probe's result, once a worker has stored it with the study."""
    stored = study.user_attrs.get(PROBE)
    return None if stored is None else read_stored(Probe, stored, "the probe")
