"""What the parts of a plan are worth."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from jointsearch.dashboard.data.why import WhyTable
from jointsearch.dashboard.figures.style import BLUE, GREEN, VERMILION, blank_figure, tall
from jointsearch.front.objectives import format_bytes, format_value
from jointsearch.search.additive.predicted_front import CREDIBLE


def effects_figure(table: WhyTable) -> go.Figure:
    """What the highest choice of every group is worth against the lowest, with credible intervals."""
    figure = blank_figure(
        f"Worth at trial {table.point.trial}: the highest choice against the lowest",
        f"{table.quality} better",
        "",
    )
    for knob, colour, symbol in (("bits", BLUE, "circle"), ("rank", VERMILION, "diamond")):
        effects = [effect for effect in table.effects if effect.knob == knob]
        figure.add_trace(
            go.Scatter(
                x=[effect.gain for effect in effects],
                y=[html.escape(effect.group) for effect in effects],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [effect.high - effect.gain for effect in effects],
                    "arrayminus": [effect.gain - effect.low for effect in effects],
                },
                name=f"{knob}, {CREDIBLE:.0%} credible",
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 8},
                text=[
                    f"{effect.knob} {effect.lowest} to {effect.highest}: "
                    f"{format_value(table.quality, effect.gain)} better "
                    f"for {format_bytes(effect.model_bytes)}"
                    for effect in effects
                ],
                hovertemplate="%{y}, %{text}<extra></extra>",
            )
        )
    return tall(figure, len({effect.group for effect in table.effects}))


def importances_figure(table: WhyTable) -> go.Figure:
    """Optuna's importances of the parameters."""
    figure = blank_figure("Importances (Optuna, PED-ANOVA)", "share of the variance", "")
    figure.add_trace(
        go.Bar(
            x=list(table.importances.values()),
            y=[html.escape(name) for name in table.importances],
            orientation="h",
            marker_color=GREEN,
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    return tall(figure, len(table.importances))
