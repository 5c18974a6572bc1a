"""The Dash application: pages by address, refreshed while a study runs. It starts no processes.

Every page has a clock of its own; where nothing has changed since the browser's last look, nothing is sent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import plotly.graph_objects as go
from dash import Dash, Input, Output, Patch, State, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate
from optuna.storages import BaseStorage

from jointsearch.dashboard.data import (
    pair_table,
    plan_table,
    progress_table,
    study_row,
    why_table,
)
from jointsearch.dashboard.figures import (
    front_figure,
    hypervolume_figure,
    phases_figure,
    timeline_figure,
)
from jointsearch.dashboard.live import LiveStudies
from jointsearch.dashboard.pages import (
    SLIDER,
    Bounds,
    best_within,
    compare_page,
    failure_lines,
    front_lines,
    front_page,
    full_run_lines,
    plan_page,
    progress_page,
    studies_page,
    study_lines,
    study_path,
    why_page,
)
from jointsearch.errors import JointSearchError, StudyError
from jointsearch.front.objectives import OBJECTIVES, format_bytes
from jointsearch.study.analysis.front_table import front_table
from jointsearch.study.analysis.prediction import measure_optimum, predict_front
from jointsearch.study.analysis.verdict import judge
from jointsearch.study.full_runs import select_trial, selected
from jointsearch.study.plans import chosen_trial, complete_trial, export_plan, records_with_front
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy

PREDICTED = "predicted"


def create_app(storage: BaseStorage) -> Dash:
    """The application over all studies of ``storage``; ``app.server`` is its WSGI application."""
    studies = LiveStudies(storage)
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
        [dcc.Location(id="address"), dcc.Download(id="download"), html.Div(id="page")], lang="en"
    )
    _add_pages(app, studies)
    _add_front(app, studies)
    _add_choice(app, studies)
    return app


def _add_pages(app: Dash, studies: LiveStudies) -> None:
    @app.callback(Output("page", "children"), Input("address", "pathname"))
    def show_page(path: str | None) -> list[Any]:
        return page_of(studies, path or "/")

    @app.callback(
        Output("page", "children", allow_duplicate=True),
        Input("waiting-clock", "n_intervals"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def wait_for_trials(_ticks: int, path: str) -> list[Any]:
        if not _study(studies, path).records().front:
            raise PreventUpdate
        return page_of(studies, path)

    @app.callback(
        Output("studies", "children"),
        Input("studies-clock", "n_intervals"),
        prevent_initial_call=True,
    )
    def refresh_studies(_ticks: int) -> Any:
        return study_lines(_rows(studies))

    @app.callback(
        Output("hypervolume", "figure"),
        Output("timeline", "figure"),
        Output("phases", "figure"),
        Output("failures", "children"),
        Output("seen", "data"),
        Input("progress-clock", "n_intervals"),
        State("address", "pathname"),
        State("seen", "data"),
        prevent_initial_call=True,
    )
    def refresh_progress(_ticks: int, path: str, seen: str) -> tuple[Any, ...]:
        study = _study(studies, path)
        records = study.records()
        version = _version(study, records)
        if version == seen:
            raise PreventUpdate
        table = progress_table(study, records)
        figures = (_new_data(draw(table)) for draw in (hypervolume_figure, timeline_figure, phases_figure))
        return (*figures, failure_lines(table), version)


def _add_front(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        {
            "figure": Output("front", "figure"),
            "best": Output("best", "children"),
            "points": Output("points", "children"),
            "verdict": Output("verdict", "children"),
            "seen": Output("seen", "data", allow_duplicate=True),
            "budget": {name: Output("budget", name) for name in SLIDER},
            "bound": {name: Output("bound", name) for name in SLIDER},
        },
        Input("front-clock", "n_intervals"),
        Input("budget", "value"),
        Input("bound", "value"),
        Input("scale", "value"),
        Input("layers", "value"),
        State("budget", "max"),
        State("bound", "min"),
        State("bound", "max"),
        State("address", "pathname"),
        State("seen", "data"),
        prevent_initial_call=True,
    )
    def show_front(
        _ticks: int,
        budget: float,
        bound: float,
        scale: str,
        layers: list[str],
        most_bytes: float,
        least: float,
        most: float,
        path: str,
        seen: str,
    ) -> dict[str, Any]:
        study = _study(studies, path)
        records = study.records()
        version = _version(study, records)
        clock = ctx.triggered_id == "front-clock"
        if clock and version == seen:
            raise PreventUpdate
        table = front_table(study, records)
        # a slider at its end asks for nothing, also where the front has grown since
        loosest = Bounds.loosest(table)
        bounds = Bounds(
            loosest.max_bytes if budget >= most_bytes else budget,
            loosest.quality if bound == (most if OBJECTIVES[table.quality].sign > 0 else least) else bound,
        )
        try:
            marked, best = best_within(table, bounds)
        except StudyError as error:
            marked, best = [], [html.P(str(error))]
        try:
            predicted = predict_front(study, records) if PREDICTED in layers else ()
        except StudyError as error:
            predicted, best = (), [*best, html.P(str(error))]
        figure = _new_data(front_figure(table, marked, predicted, log_bytes=scale == "log"))
        if ctx.triggered_id == "scale":
            figure["layout"]["xaxis"]["type"] = scale
            figure["layout"]["xaxis"]["autorange"] = True
        if not clock:  # a slider moves many times a second: what does not depend on it stays
            stays = dict.fromkeys(SLIDER, no_update)
            rest = {
                **dict.fromkeys(("points", "verdict", "seen"), no_update),
                "budget": stays,
                "bound": stays,
            }
        else:
            rest = {
                "points": front_lines(table),
                "verdict": judge(study, records).sentence,
                "seen": version,
                "budget": bounds.size_slider(table),
                "bound": bounds.quality_slider(table),
            }
        return {"figure": figure, "best": best, **rest}

    @app.callback(
        Output("measured", "children"),
        Input("measure", "n_clicks"),
        State("budget", "value"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def measure(clicks: int | None, budget: float, path: str) -> Any:
        if not clicks:
            return no_update
        try:
            point = measure_optimum(_study(studies, path), int(budget))
        except StudyError as error:
            return str(error)
        return f"The predicted best plan of {format_bytes(point.model_bytes)} waits for a worker."

    @app.callback(
        Output("address", "pathname"),
        Input("front", "clickData"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def open_point(click: dict[str, Any] | None, path: str) -> Any:
        trial = click["points"][0].get("customdata") if click else None
        return no_update if trial is None else study_path(_parts(path)[1], "plan", int(trial))


def _add_choice(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("full-run", "children"),
        Input("select", "n_clicks"),
        Input("plan-clock", "n_intervals"),
        State("note", "value"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def select(clicks: int | None, _ticks: int, note: str | None, path: str) -> Any:
        study, trial = _study(studies, path), _trial_of(path)
        if ctx.triggered_id == "select" and clicks:
            select_trial(study.optuna_study, complete_trial(study, trial).number, (note or "").strip())
        return full_run_lines(study, trial)

    @app.callback(
        Output("download", "data"),
        Input("download-plan", "n_clicks"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def download(clicks: int | None, path: str) -> Any:
        if not clicks:
            return no_update
        plan = export_plan(_study(studies, path), _trial_of(path))
        return {
            "filename": "plan.json",
            "content": json.dumps(plan.model_dump(mode="json"), indent=1) + "\n",
            "type": "application/json",
        }


def page_of(studies: LiveStudies, path: str) -> list[Any]:
    """What is shown at ``path``."""
    try:
        match _parts(path):
            case []:
                return studies_page(_rows(studies))
            case ["study", name, *rest]:
                return _study_page(studies[name], rest)
    except (JointSearchError, ValueError) as error:
        return [html.H1("Not found"), html.P(str(error)), dcc.Link("All studies", href="/")]
    return [html.H1("Not found"), dcc.Link("All studies", href="/")]


def _study_page(study: StoredStudy, rest: list[str]) -> list[Any]:
    records = study.records()
    seen = dcc.Store(id="seen", data=_version(study, records))
    match rest:
        case []:
            sentence = judge(study, records).sentence if records.front else ""
            return [*front_page(front_table(study, records), sentence), seen]
        case ["plan", trial]:
            table = plan_table(study, records, int(trial))
            return plan_page(study, front_table(study, records), table)
        case ["compare", first, second]:
            return compare_page(study.name, pair_table(study, records, int(first), int(second)))
        case ["why", trial]:
            return why_page(study.name, why_table(study, records, int(trial)))
        case ["why"]:
            return why_page(study.name, why_table(study, records_with_front(study), chosen_trial(study)))
        case ["progress"]:
            return [*progress_page(study.name, progress_table(study, records)), seen]
    raise StudyError(f"a study has the pages plan, compare, why and progress, but got {'/'.join(rest)}")


def _new_data(figure: go.Figure) -> Patch:
    """The figure's traces alone: the layout that the browser has knows how far a person has zoomed."""
    patch = Patch()
    patch["data"] = figure.data
    return patch


def _rows(studies: LiveStudies) -> list[Any]:
    return [study_row(study, study.records()) for study in studies.all()]


def _version(study: StoredStudy, records: StudyRecords) -> str:
    """Differs where anything that a page with a clock shows has changed."""
    states = tuple(trial.state.value for trial in records.trials)
    return f"{hash((states, selected(study.optuna_study))):x}"


def _study(studies: LiveStudies, path: str) -> StoredStudy:
    return studies[_parts(path)[1]]


def _parts(path: str) -> list[str]:
    return [unquote(part) for part in path.split("/") if part]


def _trial_of(path: str) -> int:
    return int(_parts(path)[3])
