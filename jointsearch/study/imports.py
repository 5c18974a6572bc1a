"""Trials of one study taken over into another of the same meaning."""

from __future__ import annotations

from typing import Any

from optuna.trial import create_trial

from jointsearch.config.study import differences
from jointsearch.errors import StudyError
from jointsearch.plan.record import digest
from jointsearch.search.optuna_compat import generation_of
from jointsearch.study.attributes import IMPORTED_FROM, MEASUREMENT, PLAN_ATTRIBUTES
from jointsearch.study.stored import StoredStudy


def import_trials(study: StoredStudy, other: StoredStudy) -> int:
    """Take over the complete trials of ``other``, on top of this study's own; how many there were.

    Plans that are here already with the same seed are left out, so that importing twice does no harm.
    Raises ``StudyError`` unless a trial means the same in both.
    """
    changes = differences(_meaning(other), _meaning(study))
    if changes:
        raise StudyError(
            f"the studies must have the same model, task, space and calibration, but '{other.name}' and "
            f"'{study.name}' differ ({'; '.join(changes)})"
        )
    known = {(trial.digest, trial.seed) for trial in study.records().complete}
    count = 0
    whole = other.optuna_study.get_trials(deepcopy=False)
    for trial in other.records().complete:  # finals are run anew
        if trial.copy_of is not None or (trial.digest, trial.seed) in known:
            continue
        kept = {k: v for k, v in trial.frozen.user_attrs.items() if k in (*PLAN_ATTRIBUTES, MEASUREMENT)}
        study.optuna_study.add_trial(
            create_trial(
                values=trial.frozen.values,
                params=whole[trial.number].params,
                distributions=whole[trial.number].distributions,
                user_attrs={**kept, IMPORTED_FROM: f"{other.name}:{trial.number}"},
                system_attrs=generation_of(),
            )
        )
        count += 1
    return count


def _meaning(study: StoredStudy) -> dict[str, Any]:
    """What a trial's values depend on."""
    fields = study.config.identity
    for key in ("name", "search", "device"):
        del fields[key]
    del fields["search_space"]["enqueue"]
    return {**fields, "layout": digest(study.layout.model_dump(mode="json"))}
