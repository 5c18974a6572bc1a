"""One plan: what it says of the layers, where its bytes go, and its full run."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update

from jointsearch.dashboard.data.against import default_rival
from jointsearch.dashboard.data.grid import Scale, grids_of
from jointsearch.dashboard.data.losses import loss_lines
from jointsearch.dashboard.data.plan import PlanTable, plan_table
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.figures.plan import loss_figure
from jointsearch.dashboard.live import Carriers, LiveStudies
from jointsearch.dashboard.pages.address import look_of, study_at, study_path, trial_at
from jointsearch.dashboard.pages.carriers import carriers_card
from jointsearch.dashboard.pages.choice import against, point_stats
from jointsearch.dashboard.pages.elements import (
    button,
    card,
    clock,
    command_line,
    copy_button,
    graph,
    said,
    tag,
)
from jointsearch.dashboard.pages.full_run import full_run_lines
from jointsearch.dashboard.pages.heat import FORMAT, RANK, legend, mini_map, plan_maps
from jointsearch.dashboard.pages.plan_parts import (
    against_card,
    against_lines,
    bytes_card,
    compare_card,
    losses_card,
    memory_card,
)
from jointsearch.dashboard.words import name_of
from jointsearch.plan.plan_file import plan_text
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint, front_table
from jointsearch.study.analysis.verdict import Verdict
from jointsearch.study.full_runs import LONGEST_NOTE, select_trial
from jointsearch.study.plans import complete_trial, export_plan
from jointsearch.study.stored import StoredStudy


def plan_page(
    study: StoredStudy,
    front: FrontTable,
    table: PlanTable,
    verdict: Verdict,
    look: Look,
    carriers: Carriers | None = None,
) -> list[Any]:
    """``carriers``: which runtimes can carry a plan, where that is known."""
    point = table.point
    carried = carriers(export_plan(study, point.trial)) if carriers else ()
    scale = Scale.of(study.space, [point.plan])
    rival = default_rival(front, point)
    return [
        _head(study, front, point, verdict),
        card(
            "Formats and ranks by block",
            plan_maps(grids_of(table.cells), scale),
            note="Modules with the same choices share a row. A dot is no adapter.",
        ),
        html.Div([bytes_card(table), memory_card(table)], className="ge"),
        html.Div(
            [
                losses_card(study, table, rival, look),
                against_card(front, point, rival),
            ],
            className="ge",
        ),
        *([carriers_card(study, point.trial, carried)] if carried else []),
        compare_card(front, point),
        clock("plan-clock"),
    ]


def select_command(study: StoredStudy, trial: int) -> str:
    return f"jointsearch select {study.name} --trial {trial}"


def _head(study: StoredStudy, front: FrontTable, point: PlanPoint, verdict: Verdict) -> Any:
    command = select_command(study, point.trial)
    why = study_path(study.name, "why", point.trial)
    return html.Section(
        [
            html.Div([html.H1([_title(point), " ", *plan_tags(point)])], className="hd flat"),
            html.P(gain_line(front, point, verdict)),
            html.Dl(point_stats(front, point, verdict), className="stats g4"),
            html.Div(
                [
                    dmc.TextInput(
                        id="note",
                        value="",
                        placeholder="why this one",
                        size="sm",
                        attributes={"input": {"maxLength": LONGEST_NOTE}},
                        className="grow",
                        **said("Note"),
                    ),
                    button("Select for the full run", "select", main=True),
                    button("Download plan.json", "download-plan", symbol="down"),
                    copy_button("Copy command", command),
                ],
                className="row",
            ),
            html.Div(full_run_lines(study, point.trial), id="full-run", role="status"),
            html.Div(command_line(command), className="gap"),
            html.P(
                dcc.Link("What each group's bits and rank are worth here", href=why),
                className="small gap",
            ),
        ],
        className="card",
    )


def _title(point: PlanPoint) -> str:
    name = name_of(point)
    return f"{name[:1].upper()}{name[1:]}" + (f" (trial {point.trial})" if point.label else "")


def plan_tags(point: PlanPoint) -> list[Any]:
    seeds = f"{point.num_seeds} seed" + ("s" if point.num_seeds > 1 else "")
    front = [] if point.on_front else [tag("not on the front")]
    knee = [tag("knee", "blue")] if point.knee else []
    return [*knee, *front, tag(seeds), *([tag("selected", "good")] if point.selected else [])]


def gain_line(front: FrontTable, point: PlanPoint, verdict: Verdict) -> Any:
    """The difference to the rival, in words."""
    gain, rival = against(front, point, verdict)
    if gain == "—":
        return html.Span(f"At equal bytes: {rival}.", className="soft")
    return [html.B(f"{gain} {front.quality}", className="nb"), f" at equal bytes, against {rival}."]


def drawer_content(
    study: StoredStudy, front: FrontTable, table: PlanTable, verdict: Verdict, look: Look
) -> list[Any]:
    """A plan in short."""
    point = table.point
    scale = Scale.of(study.space, [point.plan])
    losses = loss_figure(loss_lines(study, table, default_rival(front, point)), look)
    return [
        html.P(gain_line(front, point, verdict)),
        html.Div(
            [
                button("Select for the full run", "drawer-select", main=True),
                button("Download plan.json", "drawer-download", symbol="down"),
                copy_button("Copy command", select_command(study, point.trial)),
            ],
            className="row gap",
        ),
        html.Div(full_run_lines(study, point.trial), id="drawer-full-run", role="status"),
        dcc.Store(id="drawer-trial", data=point.trial),
        html.Dl(point_stats(front, point, verdict), className="stats"),
        *mini_map(grids_of(table.cells), scale),
        html.Div([html.Span("format", className="soft small"), legend(FORMAT, scale)], className="row"),
        html.Div([html.Span("rank", className="soft small"), legend(RANK, scale)], className="row"),
        *([graph(losses, "drawer-losses", "Validation loss over training steps")] if losses.data else []),
        command_line(select_command(study, point.trial)),
        html.P(
            dcc.Link("Open the full page", href=study_path(study.name, "plan", point.trial)), className="gap"
        ),
    ]


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("full-run", "children"),
        Input("select", "n_clicks"),
        Input("plan-clock", "n_intervals"),
        State("note", "value"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def select(clicks: int | None, _ticks: int, note: str | None, path: str) -> Any:
        study, trial = study_at(studies, path), trial_at(path)
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
        return _plan_file(study_at(studies, path), trial_at(path)) if clicks else no_update

    _add_drawer(app, studies)
    _add_choices(app, studies)


def _plan_file(study: StoredStudy, trial: int) -> dict[str, str]:
    """What a browser saves."""
    content = plan_text(export_plan(study, trial))
    return {"filename": "plan.json", "content": content, "type": "application/json"}


def _add_drawer(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("drawer", "opened"),
        Output("drawer", "title"),
        Output("drawer", "children"),
        Input("front", "clickData"),
        State("address", "pathname"),
        State("look", "data"),
        prevent_initial_call=True,
    )
    def open_point(click: dict[str, Any] | None, path: str, look: dict[str, Any]) -> Any:
        trial = click["points"][0].get("customdata") if click else None
        if trial is None:
            return no_update, no_update, no_update
        study = study_at(studies, path)
        records = study.records().with_trial(int(trial))
        front, table = front_table(study, records), plan_table(study, records, int(trial))
        verdict = studies.verdict(study, records)
        title = html.Span([html.Span(_title(table.point), className="big"), " ", *plan_tags(table.point)])
        return True, title, drawer_content(study, front, table, verdict, look_of(look))

    @app.callback(
        Output("drawer-full-run", "children"),
        Input("drawer-select", "n_clicks"),
        State("drawer-trial", "data"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def select(clicks: int | None, trial: int, path: str) -> Any:
        if not clicks:
            return no_update
        study = study_at(studies, path)
        select_trial(study.optuna_study, complete_trial(study, trial).number)
        return full_run_lines(study, trial)

    @app.callback(
        Output("download", "data", allow_duplicate=True),
        Input("drawer-download", "n_clicks"),
        State("drawer-trial", "data"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def download(clicks: int | None, trial: int, path: str) -> Any:
        return _plan_file(study_at(studies, path), trial) if clicks else no_update


def _add_choices(app: Dash, studies: LiveStudies) -> None:
    @app.callback(Output("address", "pathname"), Input("compare-with", "value"), prevent_initial_call=True)
    def compare(address: str | None) -> Any:
        return address or no_update

    @app.callback(
        Output("against", "children"),
        Output("losses", "figure"),
        Input("rival", "value"),
        State("address", "pathname"),
        State("look", "data"),
        prevent_initial_call=True,
    )
    def choose_rival(trial: str, path: str, look: dict[str, Any]) -> Any:
        study = study_at(studies, path)
        records = study.records().with_trial(trial_at(path))
        front, table = front_table(study, records), plan_table(study, records, trial_at(path))
        rival = front.point(int(trial))
        figure = loss_figure(loss_lines(study, table, rival), look_of(look))
        return against_lines(front, table.point, rival), figure
