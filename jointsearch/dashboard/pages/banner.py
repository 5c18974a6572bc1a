"""The verdict: an icon, a headline, a sentence, and what to do next."""

from __future__ import annotations

from typing import Any

from dash import html

from jointsearch.dashboard.data.verdict import SYMBOLS, Banner
from jointsearch.dashboard.pages.address import study_path
from jointsearch.dashboard.pages.elements import copy_button, icon, link_button, with_code
from jointsearch.dashboard.words import name_of
from jointsearch.study.analysis.front_table import FrontTable


def verdict_banner(table: FrontTable, found: Banner) -> Any:
    return html.Section(
        [
            html.Div(icon(SYMBOLS[found.kind]), className="disc"),
            html.Div(
                [
                    html.H2(found.headline),
                    html.P(found.sentence),
                    html.P(with_code(found.evidence), className="soft small"),
                ]
            ),
            html.Div(_actions(table, found), className="row"),
        ],
        className=f"card verdict {found.kind}",
        role="status",
    )


def storage_away() -> Any:
    """What stands above a page whose study cannot be read (any more); hidden as long as it can."""
    return html.Section(
        [
            html.Div(icon("alert"), className="disc"),
            html.Div([html.H2("The storage does not answer", id="away-what"), html.P("", id="away-why")]),
        ],
        id="away",
        className="card verdict away",
        hidden=True,
        role="alert",
    )


def _actions(table: FrontTable, found: Banner) -> list[Any]:
    actions = []
    if found.command:
        actions.append(copy_button("Copy refine command", found.command, main=True))
    if found.kind == "nothing":
        actions.append(link_button("See progress", study_path(table.study, "progress")))
    elif found.trial is not None:
        point = table.point(found.trial)
        address = study_path(table.study, "plan", point.trial)
        actions.append(link_button(f"Open {name_of(point)}", address, main=not found.command))
    return actions
