"""The points that ``jointsearch front`` shows, as plain data; JSON and CSV have them as they are."""

from __future__ import annotations

from typing import Any

from jointsearch.front.selection import at_knee
from jointsearch.measurement import Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.study.analysis.verdict import Verdict
from jointsearch.study.full_runs import selected
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy


def measured_rows(study: StoredStudy, records: StudyRecords, verdict: Verdict) -> list[dict[str, Any]]:
    """The front by rising bytes, then the baselines, then the points that did not survive."""
    selection = selected(study.optuna_study)
    on_front = {trial.number for trial in records.front}
    knee = at_knee(records.front_points, study.config.quality).trial
    others = {trial.number: trial for trial in records.baselines if trial.number not in on_front}
    fallen = {trial.number: trial for trial in verdict.fallen}
    compared = {entry.point.number: entry for entry in verdict.comparisons}
    rows = []
    for trial in (*records.front, *(others | fallen).values()):
        comparison = compared.get(trial.number)
        cost = plan_cost(study.layout, trial.trained_plan)
        rows.append(
            {
                "trial": trial.number,
                "on_front": trial.number in on_front,
                **trial.values,
                "model_bytes": cost.model_bytes,
                "bytes_per_parameter": round(cost.bytes_per_parameter, 4),
                "bits_per_weight": round(cost.bits_per_weight, 3),
                "trainable_parameters": cost.trainable_parameters,
                "trainable_share": round(cost.trainable_share, 5),
                **_measured(trial.measurement),
                "label": trial.origin.name,
                "origin": trial.origin.kind,
                "num_seeds": len(trial.trials),
                "standard_error": trial.standard_error(study.config.quality),
                "fallen": trial.number in fallen,
                "compared_to": comparison.baseline.origin.name if comparison and comparison.baseline else "",
                "gain": comparison.gain if comparison else None,
                "confidence": comparison.confidence if comparison else None,
                "significant": comparison.significant if comparison else False,
                "knee": trial.number == knee,
                "selected": trial.number == selection,
            }
        )
    return rows


def _measured(measurement: Measurement) -> dict[str, Any]:
    """What a trial reports beside its objectives."""
    stability = measurement.stability
    return {
        **{f"validation_{name}": round(value, 6) for name, value in measurement.metrics.items()},
        "peak_memory_bytes": measurement.peak_memory_bytes,
        "seconds_per_epoch": round(measurement.seconds_per_epoch, 3),
        "tokens_per_second": round(measurement.tokens_per_second, 1),
        "inference_rate": round(measurement.inference_rate, 1),
        "nonfinite_steps": stability.nonfinite_steps,
        "largest_gradient_norm": round(stability.largest_gradient_norm, 4),
        "loss_spikes": stability.loss_spikes,
    }
