"""All studies of the storage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from dash import Dash, Input, Output, dcc, html

from jointsearch.dashboard.data.studies import StudyRow, study_row
from jointsearch.dashboard.live import LiveStudies
from jointsearch.dashboard.pages.address import study_path
from jointsearch.dashboard.pages.elements import clock, table_of


def studies_page(rows: Sequence[StudyRow]) -> list[Any]:
    return [html.H1("Studies"), html.Div(study_lines(rows), id="studies"), clock("studies-clock")]


def study_lines(rows: Sequence[StudyRow]) -> Any:
    if not rows:
        return html.P("This storage has no study yet; `jointsearch study start FILE` makes one.")
    heads = ("study", "model", "task", "objectives", "trials", "stopped early", "running", "failed")
    lines = [
        [
            dcc.Link(row.name, href=study_path(row.name)),
            row.model,
            row.task,
            ", ".join(row.objectives),
            f"{row.complete + row.pruned}/{row.total}",
            row.pruned,
            row.running,
            row.failed,
            "-" if row.trials_per_hour is None else f"{row.trials_per_hour:.3g}",
            _moment(row.last_activity),
        ]
        for row in rows
    ]
    return table_of((*heads, "per hour", "last activity"), lines)


def study_rows(studies: LiveStudies) -> list[StudyRow]:
    return studies.read_each(lambda study: study_row(study, study.records()))


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("studies", "children"), Input("studies-clock", "n_intervals"), prevent_initial_call=True
    )
    def refresh(_ticks: int) -> Any:
        return study_lines(study_rows(studies))


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
