"""What several pages are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from dash import Patch, dcc, html

from jointsearch.dashboard.figures.style import DEFAULT_HEIGHT
from jointsearch.dashboard.pages.address import study_path

REFRESH_SECONDS = 3


def study_navigation(study: str) -> Any:
    return html.Nav(
        [
            dcc.Link("All studies", href="/"),
            dcc.Link("Front", href=study_path(study)),
            dcc.Link("Why", href=study_path(study, "why")),
            dcc.Link("Progress", href=study_path(study, "progress")),
            html.A("optuna-dashboard", href="/dashboard"),
        ]
    )


def table_of(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> Any:
    return html.Div(
        html.Table(
            [
                html.Thead(html.Tr([html.Th(head, scope="col") for head in heads])),
                html.Tbody([html.Tr([html.Td(value) for value in line]) for line in lines]),
            ]
        ),
        className="scroll",
    )


def graph(figure: go.Figure, name: str = "") -> Any:
    """As wide as the page and as high as the figure, also while a new one comes."""
    ids: Any = {"id": name} if name else {}
    height = figure.layout.height or DEFAULT_HEIGHT
    config: Any = {"displaylogo": False}
    return dcc.Graph(figure=figure, responsive=True, config=config, style={"height": f"{height}px"}, **ids)


def clock(name: str) -> Any:
    """What asks for what has changed."""
    return dcc.Interval(id=name, interval=REFRESH_SECONDS * 1000)


def new_data(figure: go.Figure) -> Patch:
    """The figure's traces alone: the layout that the browser has knows how far a person has zoomed."""
    patch = Patch()
    patch["data"] = figure.data
    return patch
