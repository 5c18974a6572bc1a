"""How a search goes."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, html
from dash.exceptions import PreventUpdate

from jointsearch.dashboard.data.progress import ProgressTable, progress_table
from jointsearch.dashboard.figures.progress import hypervolume_figure, phases_figure, timeline_figure
from jointsearch.dashboard.live import LiveStudies, version_of
from jointsearch.dashboard.pages.address import study_at
from jointsearch.dashboard.pages.elements import clock, graph, new_data, study_navigation, table_of

FIGURES = {"hypervolume": hypervolume_figure, "timeline": timeline_figure, "phases": phases_figure}


def progress_page(study: str, table: ProgressTable) -> list[Any]:
    return [
        html.H1(f"{study}: progress"),
        study_navigation(study),
        *(graph(draw(table), name) for name, draw in FIGURES.items()),
        html.H2("Failures"),
        html.Div(failure_lines(table), id="failures"),
        clock("progress-clock"),
    ]


def failure_lines(table: ProgressTable) -> Any:
    """Why trials have failed, how often; and what early stopping has spared."""
    saved = f"Early stopping has spared {table.share_saved:.1%} of the training steps."
    if not table.failures:
        return [html.P("None."), html.P(saved)]
    lines = [[count, html.Pre(reason)] for reason, count in table.failures]
    return [table_of(("trials", "reason"), lines), html.P(saved)]


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        *(Output(name, "figure") for name in FIGURES),
        Output("failures", "children"),
        Output("seen", "data"),
        Input("progress-clock", "n_intervals"),
        State("address", "pathname"),
        State("seen", "data"),
        prevent_initial_call=True,
    )
    def refresh(_ticks: int, path: str, seen: str) -> tuple[Any, ...]:
        study = study_at(studies, path)
        records = study.records()
        version = version_of(study, records)
        if version == seen:
            raise PreventUpdate
        table = progress_table(study, records)
        return (*(new_data(draw(table)) for draw in FIGURES.values()), failure_lines(table), version)
