"""Plotly figures of a study, as Optuna's users know them from ``optuna.visualization``.

They are the dashboard's. A notebook shows what is returned; ``figure.write_html`` saves it. A study is what
``create_study`` and ``load_study`` give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jointsearch.api.study import Study
from jointsearch.dashboard.data.plan import plan_table
from jointsearch.dashboard.data.progress import progress_table
from jointsearch.dashboard.data.why import why_table
from jointsearch.dashboard.figures.front import front_figure
from jointsearch.dashboard.figures.plan import plan_figure
from jointsearch.dashboard.figures.progress import hypervolume_figure
from jointsearch.dashboard.figures.why import effects_figure
from jointsearch.errors import StudyError
from jointsearch.study.analysis.front_table import axes_of, front_table
from jointsearch.study.analysis.prediction import predict_front
from jointsearch.study.plans import chosen_trial, complete_trial, records_with_front
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy

if TYPE_CHECKING:
    import plotly.graph_objects as go


def plot_front(
    study: Study | StoredStudy,
    *,
    predicted: bool = False,
    log_bytes: bool = False,
    axis: str | None = None,
) -> go.Figure:
    """Quality against bytes: the front, the uniform and named plans, and those that are dominated.

    ``predicted``: with the front that the model of the search foresees, which is one of model bytes;
    ``log_bytes``: bytes on a logarithmic axis; ``axis``: which bytes, ``model_bytes``, ``training_memory`` or
    ``serving_memory``; by default the first objective of the study that is one of bytes. Raises
    ``StudyError`` before a trial is complete, where too few are for a prediction, or where the study does not
    know the axis.
    """
    stored = _stored(study)
    records = records_with_front(stored)
    axes = axes_of(stored, records)
    if axis is not None and axis not in axes:
        raise StudyError(f"axis must be one of {', '.join(axes)}, but got '{axis}'")
    table = front_table(stored, records, axis or axes[0])
    if predicted and table.axis != "model_bytes":
        raise StudyError(f"the predicted front is one of model_bytes, but the axis is {table.axis}")
    foreseen = predict_front(stored, records) if predicted else ()
    return front_figure(table, predicted=foreseen, log_bytes=log_bytes)


def plot_plan(study: Study | StoredStudy, trial: int | None = None) -> go.Figure:
    """The plan of a trial: blocks down, modules across, the format as colour and the rank as number.

    By default the plan selected last, or the knee of the front. Raises ``StudyError`` where the trial is not
    complete.
    """
    stored = _stored(study)
    return plan_figure(plan_table(stored, *_of_its_plan(stored, trial)))


def plot_hypervolume(study: Study | StoredStudy) -> go.Figure:
    """What the front dominates, along the trials, that of the trained uniform plans being 1.

    Raises ``StudyError`` before a trial is complete; without a point before two trained uniform plans are.
    """
    stored = _stored(study)
    return hypervolume_figure(progress_table(stored, records_with_front(stored)))


def plot_effects(study: Study | StoredStudy, trial: int | None = None) -> go.Figure:
    """What the highest bits, and the highest rank, of each group are worth against the lowest.

    All else is as in the plan of ``trial``: by default the plan selected last, or the knee of the front.
    By the model of the search, with credible intervals. Raises ``StudyError`` where there are too few trials.
    """
    stored = _stored(study)
    return effects_figure(why_table(stored, *_of_its_plan(stored, trial)))


def _stored(study: Study | StoredStudy) -> StoredStudy:
    return study if isinstance(study, StoredStudy) else study._stored


def _of_its_plan(study: StoredStudy, trial: int | None) -> tuple[StudyRecords, int]:
    """The records of trials as long as ``trial``, and that by which figures call its plan: ``trial`` may have
    measured it again with another seed."""
    chosen = complete_trial(study, chosen_trial(study) if trial is None else trial)
    records = study.records().with_trial(chosen.number)
    return records, next(plan.number for plan in records.measured if plan.digest == chosen.digest)
