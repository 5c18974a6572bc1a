"""All studies of the storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, dcc, html

from jointsearch.dashboard.data.studies import StudyRow, study_row
from jointsearch.dashboard.data.verdict import SYMBOLS, Banner, banner
from jointsearch.dashboard.live import LiveStudies
from jointsearch.dashboard.pages.address import study_path
from jointsearch.dashboard.pages.elements import (
    clock,
    command_line,
    copy_button,
    empty,
    icon,
    said,
    spark,
    tag,
)
from jointsearch.dashboard.words import ago, rate_of
from jointsearch.study.analysis.front_table import front_table
from jointsearch.study.stored import StoredStudy

KINDS = {"all": "All", "running": "Running", "undecided": "Undecided"}
START = "jointsearch study start quickstart"
STATE_TAGS = {"running": "good", "finished": "blue", "paused": "warn", "stopped": "warn", "waiting": ""}


@dataclass(frozen=True)
class Card:
    """A study among the others."""

    row: StudyRow
    banner: Banner | None
    """None before a plan is measured."""

    def is_of(self, kind: str) -> bool:
        if kind == "undecided":
            return self.banner is not None and self.banner.kind == kind
        return kind == "all" or self.row.state == kind


def studies_page(cards: Sequence[Card]) -> list[Any]:
    if not cards:
        return [
            empty(
                "grid",
                "No study in this storage yet",
                html.P("The embedded one needs some minutes on a laptop, and no GPU.", className="soft"),
                command_line(START),
                copy_button("Copy", START),
            ),
            clock("waiting-clock"),
        ]
    return [
        html.Div([html.H1("Studies"), html.Div(_controls(cards), className="row")], className="hd flat"),
        html.Div(study_cards(cards, "", "all"), id="studies", className="g3"),
        clock("studies-clock"),
    ]


def _controls(cards: Sequence[Card]) -> list[Any]:
    return [
        dmc.TextInput(id="study-search", value="", placeholder="Search", size="sm", **said("Search")),
        dmc.SegmentedControl(
            id="study-kind",
            data=kinds_of(cards),
            value="all",
            size="sm",
            **said("Which studies"),
        ),
    ]


def kinds_of(cards: Sequence[Card]) -> list[dict[str, str]]:
    """With how many there are of each."""
    counts = {kind: sum(card.is_of(kind) for card in cards) for kind in KINDS}
    return [{"value": kind, "label": f"{title} {counts[kind]}"} for kind, title in KINDS.items()]


def study_cards(cards: Sequence[Card], search: str, kind: str) -> list[Any]:
    """Those whose name, model or task has the text, of a kind: all, running or undecided ones."""
    shown = [
        card
        for card in cards
        if search.lower() in f"{card.row.name} {card.row.model} {card.row.task}".lower() and card.is_of(kind)
    ]
    return [_card(card) for card in shown] or [html.P("No study is like that.", className="soft")]


def _card(card: Card) -> Any:
    row, found = card.row, card.banner
    failures = f", {row.failed} failed" if row.failed else ""
    kind, symbol = ("nothing", "clock") if found is None else (found.kind, SYMBOLS[found.kind])
    text = "No trial is complete yet" if found is None else f"{found.headline}: {found.short}"
    rate = "" if row.trials_per_hour is None or row.state != "running" else rate_of(row.trials_per_hour)
    last = "" if row.last_activity is None else ago(row.last_activity, datetime.now())
    return dcc.Link(
        html.Div(
            [
                html.Div(
                    [
                        html.H2(row.name),
                        tag(row.state + failures, "bad" if row.failed else STATE_TAGS[row.state]),
                    ],
                    className="hd flat",
                ),
                html.P(f"{row.model} · {row.task}", className="soft small"),
                html.Div(
                    [
                        html.Span(icon(symbol), style={"color": "var(--c)", "display": "inline-grid"}),
                        html.B(text),
                    ],
                    className=f"row top {kind}",
                ),
                spark(row.hypervolume, "Hypervolume over the trials"),
                html.Div(
                    [
                        html.Span(f"{row.complete + row.pruned} of {row.total} trials"),
                        html.Span(rate or last),
                    ],
                    className="hd flat soft small",
                ),
            ],
            className="card studycard",
        ),
        href=study_path(row.name),
        className="cardlink",
    )


def all_cards(studies: LiveStudies) -> list[Card]:
    def card(study: StoredStudy) -> Card:
        records = study.records()
        answer = records.answer
        if not answer.front:
            return Card(study_row(study, records), None)
        shown = banner(study, front_table(study, answer), studies.verdict(study, answer))
        return Card(study_row(study, records), shown)

    return studies.read_each(card)


def add_callbacks(app: Dash, studies: LiveStudies) -> None:
    @app.callback(
        Output("studies", "children"),
        Output("study-kind", "data"),
        Input("studies-clock", "n_intervals"),
        Input("study-search", "value"),
        Input("study-kind", "value"),
        prevent_initial_call=True,
    )
    def refresh(_ticks: int, search: str | None, kind: str) -> Any:
        cards = all_cards(studies)
        return study_cards(cards, search or "", kind), kinds_of(cards)
