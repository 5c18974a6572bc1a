"""A study's figures as one HTML file with plotly.js inside, and as pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import plotly.graph_objects as go
import plotly.io

from jointsearch.dashboard.data.losses import loss_lines
from jointsearch.dashboard.data.plan import PlanTable, plan_table
from jointsearch.dashboard.data.progress import ProgressTable, progress_table
from jointsearch.dashboard.data.studies import StudyRow, study_row
from jointsearch.dashboard.data.why import WhyTable, why_table
from jointsearch.dashboard.figures.front import front_figure
from jointsearch.dashboard.figures.look import PAPER, Look
from jointsearch.dashboard.figures.plan import loss_figure, memory_figure, parts_figure, plan_figure
from jointsearch.dashboard.figures.progress import hypervolume_figure, phases_figure, timeline_figure
from jointsearch.dashboard.figures.why import effects_figure
from jointsearch.dashboard.html_file import Section, html_file
from jointsearch.dashboard.words import difference_text, point_lines
from jointsearch.errors import OutputError, StudyError, UnsupportedError, first_line
from jointsearch.search.additive.predicted_front import PredictedPoint
from jointsearch.study.analysis.front_table import FrontTable, axes_of, front_table
from jointsearch.study.analysis.prediction import predict_front
from jointsearch.study.analysis.verdict import Verdict, judge
from jointsearch.study.plans import records_with_front
from jointsearch.study.stored import StoredStudy

WIDTH, HEIGHT, SCALE = 1000, 600, 2
"""Of a picture, in pixels; ``SCALE`` of them make one."""


@dataclass(frozen=True)
class Found:
    """What a report says of a study, before anything is drawn."""

    study: StoredStudy
    row: StudyRow
    verdict: Verdict
    own: FrontTable
    """By the study's objectives."""
    fronts: tuple[FrontTable, ...]
    """Against all bytes that are known of its plans, the study's own first."""
    plan: PlanTable
    progress: ProgressTable
    predicted: tuple[PredictedPoint, ...]
    worth: WhyTable | None
    """None where too few trials are complete for a model."""

    @classmethod
    def of(cls, study: StoredStudy) -> Found:
        """Raises ``StudyError`` where nothing is measured yet."""
        records = records_with_front(study)
        own = front_table(study, records)
        chosen = next((p for p in own.points if p.selected), None) or next(p for p in own.points if p.knee)
        try:
            predicted = predict_front(study, records)
            worth = why_table(study, records, chosen.trial)
        except StudyError:  # too few trials for a model
            predicted, worth = (), None
        return cls(
            study=study,
            row=study_row(study, records),
            verdict=judge(study, records),
            own=own,
            fronts=tuple(front_table(study, records, axis) for axis in axes_of(study, records)),
            plan=plan_table(study, records, chosen.trial),
            progress=progress_table(study, records),
            predicted=predicted,
            worth=worth,
        )


def sections(study: StoredStudy) -> tuple[Section, ...]:
    """The front, the chosen plan, what its parts are worth, and the progress; raises ``StudyError`` where
    nothing is measured yet."""
    return _sections(Found.of(study), PAPER)


def _sections(found: Found, look: Look) -> tuple[Section, ...]:
    row, chosen = found.row, found.plan.point
    counts = f"{row.complete} of {row.total} trials complete, {row.pruned} stopped early, {row.failed} failed"
    failures = tuple(f"{count} failed: {reason}" for reason, count in found.progress.failures)
    return (
        Section(
            found.study.name,
            (f"{row.model}, {row.task}: {counts}.", found.verdict.sentence),
            _fronts(found, look),
        ),
        Section(
            f"The chosen plan ({'selected' if chosen.selected else 'knee'})",
            ("; ".join(point_lines(found.own, chosen)), difference_text(found.own, found.plan)),
            _of_plan(found, look),
        ),
        Section(
            "Progress",
            failures,
            {
                "hypervolume": hypervolume_figure(found.progress, look),
                "timeline": timeline_figure(found.progress, look),
                "phases": phases_figure(found.progress, look),
            },
        ),
    )


def _fronts(found: Found, look: Look) -> dict[str, go.Figure]:
    """The study's own is ``front``; others bear the names of their axes."""
    figures = {}
    for number, table in enumerate(found.fronts):
        predicted = found.predicted if table.axis == "model_bytes" else ()
        name = f"front-{table.axis}" if number else "front"
        figures[name] = front_figure(table, predicted=predicted, look=look)
    return figures


def _of_plan(found: Found, look: Look) -> dict[str, go.Figure]:
    memory = found.plan.training
    return {
        "plan": plan_figure(found.plan, look),
        "bytes": parts_figure(found.plan, look),
        **({"memory": memory_figure(memory, look)} if memory else {}),
        "losses": loss_figure(loss_lines(found.study, found.plan), look),
        **({"effects": effects_figure(found.worth, look)} if found.worth else {}),
    }


def report_html(study: StoredStudy) -> str:
    """One page without a link to anything outside; raises ``StudyError`` where nothing is measured yet."""
    found = Found.of(study)
    return html_file(lambda look: _sections(found, look))


def write_pictures(study: StoredStudy, folder: Path, kind: Literal["png", "svg"] = "png") -> list[Path]:
    """Every figure as a PNG or SVG file in ``folder``, which is made; raises ``StudyError`` where nothing is
    measured yet, ``UnsupportedError`` without kaleido or a browser, ``OutputError``."""
    figures = {name: figure for section in sections(study) for name, figure in section.figures.items()}
    paths = [folder / f"{name}.{kind}" for name in figures]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} must be writable, but {error.strerror}") from None
    white = {"paper_bgcolor": "white", "plot_bgcolor": "white"}
    try:
        plotly.io.write_images(
            [go.Figure(figure).update_layout(white) for figure in figures.values()],
            paths,
            width=WIDTH,
            height=[figure.layout.height or HEIGHT for figure in figures.values()],
            scale=SCALE,
        )
    except (ImportError, ValueError, RuntimeError) as error:
        raise UnsupportedError(
            "pictures need kaleido and Chrome or Chromium; pip install 'jointsearch[plot]' "
            f"({first_line(error)})"
        ) from None
    return paths
