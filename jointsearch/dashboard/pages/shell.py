"""The frame of every page: where one is, where one can go, and how far the study is."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html

from jointsearch.dashboard.data.studies import StudyRow, study_row
from jointsearch.dashboard.live import LiveStudies
from jointsearch.dashboard.pages.address import parts_of, study_at, study_path
from jointsearch.dashboard.pages.elements import icon, said
from jointsearch.dashboard.words import duration
from jointsearch.errors import JointSearchError

TABS = {"trials": "Trials", "why": "Why", "progress": "Progress", "runs": "Full runs"}
"""The pages of a study that one can always go to, beside its front."""
OPENED = {"plan": "Plan", "compare": "Compare"}
"""Those that are there once something is chosen."""

LIVE_SECONDS = 10


def top_of(studies: LiveStudies, path: str) -> list[Any]:
    """The head of the page at ``path``."""
    match parts_of(path):
        case ["study", name, *rest]:
            try:
                row = study_row(studies[name], studies[name].records())
            except JointSearchError:
                return [_bar(name, None)]
            return [
                _bar(name, row),
                _tabs(name, rest),
                dcc.Interval(id="live-clock", interval=LIVE_SECONDS * 1000),
            ]
    return [_bar("", None)]


def _bar(name: str, row: StudyRow | None) -> Any:
    hidden: Any = {"aria-hidden": "true"}
    brand = [html.Span(className="logo"), html.Span("jointsearch", className="hide-s" if name else "")]
    crumbs = [html.Span("/", className="soft", **hidden), html.Span(name, className="crumb")]
    return html.Div(
        [
            dcc.Link(brand, href="/", className="brand", title="All studies"),
            *(crumbs if name else []),
            html.Span(className="grow"),
            html.Div(live_line(row) if row else [], id="live", className="live"),
            dmc.ActionIcon(
                icon("sun"),
                id="scheme",
                variant="default",
                size="lg",
                **said("Switch between light and dark"),
            ),
        ],
        className="bar",
    )


def live_line(row: StudyRow) -> list[Any]:
    """``197 of 240 · 31 min left · 3 at it``."""
    running = row.state == "running"
    texts = [f"{row.finished} of {row.total}"]
    if running and row.seconds_left:
        texts.append(f"{duration(row.seconds_left)} left")
    rest = f" · {row.running} running" if running else f" · {row.state}"
    return [
        html.I(className=f"dot {'on' if running else ''}".strip()),
        html.Span(" · ".join(texts)),
        html.Span(rest, className="hide-s"),
    ]


def _tabs(name: str, rest: list[str]) -> Any:
    here = rest[0] if rest else ""
    opened = {here: OPENED[here]} if here in OPENED else {}
    links = []
    for page, title in ({"": "Front"} | opened | TABS).items():
        parts = rest if page in opened else [page] if page else []
        current: Any = {"aria-current": "page"} if page == here else {}
        links.append(dmc.Anchor(title, href=study_path(name, *parts), underline="never", **current))
    other = html.A("optuna-dashboard", href="/dashboard", className="last")
    return html.Nav([*links, other], className="tabs", **said("Pages of the study"))


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("live", "children"),
        Input("live-clock", "n_intervals"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def refresh(_ticks: int, path: str) -> list[Any]:
        study = study_at(studies, path)
        return live_line(study_row(study, study.records()))
