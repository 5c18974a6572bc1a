"""The Dash application: pages by address, refreshed while a study runs. It starts no processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dash import Dash, Input, Output, State, dcc, html, no_update
from optuna.storages import BaseStorage

from jointsearch.dashboard.data import front_table, pair_table, plan_table, progress_table, study_row
from jointsearch.dashboard.figures import front_figure
from jointsearch.dashboard.pages import (
    best_within,
    compare_page,
    front_page,
    plan_page,
    progress_page,
    studies_page,
    study_path,
)
from jointsearch.errors import JointSearchError, StudyError
from jointsearch.study.studies import JointStudy, open_study, study_names

REFRESH_SECONDS = 3


def create_app(storage: BaseStorage) -> Dash:
    """The application over all studies of ``storage``; ``app.server`` is its WSGI application."""
    app = Dash(
        "jointsearch",
        title="jointsearch",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        serve_locally=True,
        suppress_callback_exceptions=True,  # pages come by address
        enable_mcp=False,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = html.Main(
        [
            dcc.Location(id="address"),
            dcc.Interval(id="clock", interval=REFRESH_SECONDS * 1000),
            dcc.Download(id="download"),
            html.Div(id="page"),
        ],
        lang="en",
    )

    @app.callback(Output("page", "children"), Input("address", "pathname"))
    def show_page(path: str | None) -> list[Any]:
        return page_of(storage, path or "/")

    @app.callback(
        Output("front", "figure"),
        Output("best", "children"),
        Input("clock", "n_intervals"),
        Input("budget", "value"),
        Input("bound", "value"),
        Input("scale", "value"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def show_front(_ticks: int, budget: float, bound: float, scale: str, path: str) -> tuple[Any, Any]:
        study = _study_of(storage, path)
        table = front_table(study, study.records())
        try:
            marked, texts = best_within(table, budget, bound)
        except StudyError as error:
            marked, texts = [], [html.P(str(error))]
        return front_figure(table, marked, log_bytes=scale == "log"), texts

    @app.callback(
        Output("address", "pathname"),
        Input("front", "clickData"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def open_point(click: dict[str, Any] | None, path: str) -> Any:
        if not click:
            return no_update
        return study_path(_parts(path)[1], "plan", int(click["points"][0]["customdata"]))

    @app.callback(
        Output("selected", "children"),
        Input("select", "n_clicks"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def select(clicks: int | None, path: str) -> Any:
        if not clicks:
            return no_update
        study = _study_of(storage, path)
        study.select(study.complete_trial(_trial_of(path)).number)
        return "selected"

    @app.callback(
        Output("download", "data"),
        Input("download-plan", "n_clicks"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def download(clicks: int | None, path: str) -> Any:
        if not clicks:
            return no_update
        plan = _study_of(storage, path).plan_file(_trial_of(path))
        return {
            "filename": "plan.json",
            "content": json.dumps(plan.model_dump(mode="json"), indent=1) + "\n",
            "type": "application/json",
        }

    return app


def page_of(storage: BaseStorage, path: str) -> list[Any]:
    """What is shown at ``path``."""
    try:
        match _parts(path):
            case []:
                studies = [open_study(storage, name) for name in study_names(storage)]
                return studies_page([study_row(study, study.records()) for study in studies])
            case ["study", name, *rest]:
                study = open_study(storage, name)
                return _study_page(study, rest)
    except (JointSearchError, ValueError) as error:
        return [html.H1("Not found"), html.P(str(error)), dcc.Link("All studies", href="/")]
    return [html.H1("Not found"), dcc.Link("All studies", href="/")]


def _study_page(study: JointStudy, rest: list[str]) -> list[Any]:
    records = study.records()
    match rest:
        case []:
            return front_page(front_table(study, records))
        case ["plan", trial]:
            return plan_page(study.name, front_table(study, records), plan_table(study, records, int(trial)))
        case ["compare", first, second]:
            return compare_page(study.name, pair_table(study, records, int(first), int(second)))
        case ["progress"]:
            return progress_page(study.name, progress_table(records))
    raise StudyError(f"a study has the pages plan, compare and progress, but got {'/'.join(rest)}")


def _parts(path: str) -> list[str]:
    return [unquote(part) for part in path.split("/") if part]


def _study_of(storage: BaseStorage, path: str) -> JointStudy:
    return open_study(storage, _parts(path)[1])


def _trial_of(path: str) -> int:
    return int(_parts(path)[3])
