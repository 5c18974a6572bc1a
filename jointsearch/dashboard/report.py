"""A study's figures as one HTML file with plotly.js inside, and as pictures."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import plotly.io

from jointsearch.dashboard.data.losses import loss_lines
from jointsearch.dashboard.data.plan import plan_table
from jointsearch.dashboard.data.progress import progress_table
from jointsearch.dashboard.data.studies import study_row
from jointsearch.dashboard.data.why import why_table
from jointsearch.dashboard.figures.front import front_figure
from jointsearch.dashboard.figures.plan import loss_figure, parts_figure, plan_figure
from jointsearch.dashboard.figures.progress import hypervolume_figure, phases_figure, timeline_figure
from jointsearch.dashboard.figures.why import effects_figure
from jointsearch.dashboard.html_file import Section, html_file
from jointsearch.dashboard.words import difference_text, point_lines
from jointsearch.errors import OutputError, StudyError, UnsupportedError, first_line
from jointsearch.study.analysis.front_table import front_table
from jointsearch.study.analysis.prediction import predict_front
from jointsearch.study.analysis.verdict import judge
from jointsearch.study.plans import records_with_front
from jointsearch.study.stored import StoredStudy

WIDTH, HEIGHT, SCALE = 1000, 600, 2
"""Of a picture, in pixels; ``SCALE`` of them make one."""


def sections(study: StoredStudy) -> tuple[Section, ...]:
    """The front, the chosen plan, what its parts are worth, and the progress; raises ``StudyError`` where
    nothing is measured yet."""
    records = records_with_front(study)
    front, row = front_table(study, records), study_row(study, records)
    chosen = next((p for p in front.points if p.selected), None) or next(p for p in front.points if p.knee)
    plan, progress = plan_table(study, records, chosen.trial), progress_table(study, records)
    counts = f"{row.complete} of {row.total} trials complete, {row.pruned} stopped early, {row.failed} failed"
    failures = tuple(f"{count} failed: {reason}" for reason, count in progress.failures)
    try:
        predicted = predict_front(study, records)
        worth = {"effects": effects_figure(why_table(study, records, chosen.trial))}
    except StudyError:  # too few trials for a model
        predicted, worth = (), {}
    return (
        Section(
            study.name,
            (f"{row.model}, {row.task}: {counts}.", judge(study, records).sentence),
            {"front": front_figure(front, predicted=predicted)},
        ),
        Section(
            f"The chosen plan ({'selected' if chosen.selected else 'knee'})",
            ("; ".join(point_lines(front, chosen)), difference_text(front, plan)),
            {
                "plan": plan_figure(plan),
                "bytes": parts_figure(plan),
                "losses": loss_figure(loss_lines(study, plan)),
            }
            | worth,
        ),
        Section(
            "Progress",
            failures,
            {
                "hypervolume": hypervolume_figure(progress),
                "timeline": timeline_figure(progress),
                "phases": phases_figure(progress),
            },
        ),
    )


def report_html(study: StoredStudy) -> str:
    """One page without a link to anything outside; raises ``StudyError`` where nothing is measured yet."""
    return html_file(sections(study))


def write_pictures(study: StoredStudy, folder: Path) -> list[Path]:
    """Every figure as a PNG file in ``folder``, which is made; raises ``StudyError`` where nothing is
    measured yet, ``UnsupportedError`` without kaleido or a browser, ``OutputError``."""
    figures = {name: figure for section in sections(study) for name, figure in section.figures.items()}
    paths = [folder / f"{name}.png" for name in figures]
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
