"""What the parts of a plan are worth."""

from __future__ import annotations

from typing import Any

from dash import html

from jointsearch.dashboard.data.why import WhyTable
from jointsearch.dashboard.figures.why import effects_figure, importances_figure
from jointsearch.dashboard.pages.elements import graph, study_navigation


def why_page(study: str, table: WhyTable) -> list[Any]:
    return [
        html.H1(f"{study}: why"),
        study_navigation(study),
        html.P(
            "What the highest bits, and the highest rank, of each group are worth against the lowest, all "
            f"else as in trial {table.point.trial}. This is the model of the search, which takes quality for "
            "nearly additive."
        ),
        graph(effects_figure(table), "effects"),
        html.H2("Importances"),
        graph(importances_figure(table), "importances")
        if table.importances
        else html.P("Too few trials have been searched for Optuna's importances."),
    ]
