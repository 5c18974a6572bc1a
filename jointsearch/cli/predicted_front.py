"""The front that the model of all trials predicts, as ``jointsearch front --predicted`` shows it."""

from __future__ import annotations

from typing import Any

from jointsearch.cli.tables import print_table
from jointsearch.front.objectives import format_bytes, format_value
from jointsearch.search.additive.predicted_front import CREDIBLE
from jointsearch.study.analysis.prediction import predict_front
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy


def predicted_rows(study: StoredStudy, records: StudyRecords) -> list[dict[str, Any]]:
    measured = {point.digest: point.number for point in records.measured}
    rows = []
    for point in predict_front(study, records):
        digest = study.space.plan(point.values).digest
        rows.append(
            {
                "model_bytes": point.model_bytes,
                study.config.quality: point.quality,
                "low": point.low,
                "high": point.high,
                "trial": measured.get(digest),
                "digest": digest,
            }
        )
    return rows


def print_predicted(study: StoredStudy, rows: list[dict[str, Any]]) -> None:
    quality = study.config.quality
    lines = [
        [
            format_bytes(row["model_bytes"]),
            *(format_value(quality, row[name]) for name in (quality, "low", "high")),
            "" if row["trial"] is None else f"measured: trial {row['trial']}",
        ]
        for row in rows
    ]
    band = [f"{(1 - CREDIBLE) / 2:.0%}", f"{(1 + CREDIBLE) / 2:.0%}"]
    print_table(["size", quality, *band, ""], lines, title=f"Predicted front of '{study.name}'")
