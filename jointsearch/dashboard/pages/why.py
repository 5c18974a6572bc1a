"""What the parts of a plan are worth: one ranking; Optuna's on demand, with what it does not say."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update

from jointsearch.dashboard.data.why import WhyTable, by_depth, importances, in_words, why_table
from jointsearch.dashboard.figures.look import Look
from jointsearch.dashboard.figures.why import depth_figure, effects_figure, importances_figure
from jointsearch.dashboard.live import LiveStudies
from jointsearch.dashboard.pages.address import look_of, study_at, study_path
from jointsearch.dashboard.pages.elements import card, graph, said
from jointsearch.dashboard.words import name_of
from jointsearch.study.stored import StoredStudy

SHOWN = 16
"""Effects before a person asks for all."""


def why_page(study: StoredStudy, table: WhyTable, look: Look) -> list[Any]:
    lines = by_depth(table, study.space)
    depths = [
        card(
            f"{knob.capitalize()} by depth",
            graph(depth_figure(lines, knob, table.quality, look), f"depth-{knob}", says),
        )
        for knob, says in (
            ("bits", "What bits are worth by block"),
            ("rank", "What ranks are worth by block"),
        )
        if any(line.knob == knob for line in lines)
    ]
    trial = table.point.trial
    return [
        html.Section(
            [
                html.H1(in_words(table)),
                html.P(
                    [
                        "What the highest choice of each group is worth against the lowest, all else as in ",
                        dcc.Link(name_of(table.point), href=study_path(study.name, "plan", trial)),
                        ". This is the model of the search, which takes quality for nearly additive.",
                    ],
                    className="soft",
                ),
            ],
            className="card",
        ),
        *([html.Div(depths, className="ge")] if depths else []),
        _ranking(table, look),
        _importances(),
        dcc.Store(id="why-trial", data=trial),
    ]


def _ranking(table: WhyTable, look: Look) -> Any:
    measures = [{"value": "all", "label": table.quality.capitalize()}, {"value": "per", "label": "Per MB"}]
    controls: list[Any] = [
        dmc.SegmentedControl(
            id="why-measure", data=measures, value="all", size="xs", **said("What is ranked")
        )
    ]
    if len(table.effects) > SHOWN:
        every = dmc.Chip(f"show all {len(table.effects)}", value="every", size="xs", variant="outline")
        controls.append(dmc.ChipGroup([every], id="why-every", multiple=True, value=[]))
    else:
        controls.append(dmc.ChipGroup([], id="why-every", multiple=True, value=[]))
    key = [
        html.Span([html.I(style={"background": "var(--blue)", "borderRadius": "50%"}), "bits"]),
        html.Span(
            [html.I(style={"background": "var(--red)", "transform": "rotate(45deg) scale(.8)"}), "rank"]
        ),
    ]
    return card(
        "What is worth most",
        html.Div(key, className="key"),
        graph(
            effects_figure(table, look, most=SHOWN), "effects", "Effects of bits and ranks, the largest first"
        ),
        note="one ranking of both, the largest first, with credible intervals",
        right=html.Div(controls, className="row"),
    )


def _importances() -> Any:
    """They are counted for who asks."""
    panel = html.Div(dmc.Skeleton(height=120, radius="md"), id="importances-panel")
    item = dmc.AccordionItem(
        [dmc.AccordionControl("Optuna's importances"), dmc.AccordionPanel(panel)], value="importances"
    )
    return dmc.Accordion([item], id="importances-asked", variant="separated")


def importances_lines(study: StoredStudy, look: Look) -> list[Any]:
    """Optuna's importances, and what they do not say."""
    found = importances(study)
    if not found:
        return [html.P("Too few trials have been searched for them.", className="soft")]
    caveat = (
        "Shares of the variance of what happened to be tried, without an interval: a group whose choices the "
        "search has settled early looks unimportant here."
    )
    drawn = graph(importances_figure(found, look), "importances", "Optuna's importances")
    return [html.P(caveat), drawn]


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("importances-panel", "children"),
        Input("importances-asked", "value"),
        State("address", "pathname"),
        State("look", "data"),
        prevent_initial_call=True,
    )
    def count(asked: str | None, path: str, look: dict[str, Any]) -> Any:
        return importances_lines(study_at(studies, path), look_of(look)) if asked else no_update

    @app.callback(
        Output("effects", "figure"),
        Output("effects", "style"),
        Input("why-measure", "value"),
        Input("why-every", "value"),
        State("why-trial", "data"),
        State("address", "pathname"),
        State("look", "data"),
        prevent_initial_call=True,
    )
    def rank(measure: str, every: list[str] | None, trial: int, path: str, look: dict[str, Any]) -> Any:
        study = study_at(studies, path)
        table = why_table(study, study.records().with_trial(trial), trial)
        most = None if every else SHOWN
        figure = effects_figure(table, look_of(look), per_megabyte=measure == "per", most=most)
        return figure, {"height": f"{figure.layout.height}px"}
