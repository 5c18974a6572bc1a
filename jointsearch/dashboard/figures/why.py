"""What the parts of a plan are worth."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from jointsearch.dashboard.data.why import DepthLine, WhyTable, ranked
from jointsearch.dashboard.figures.look import PAPER, Look
from jointsearch.dashboard.figures.style import LineEnd, blank_figure, name_lines
from jointsearch.front.objectives import format_bytes, format_value
from jointsearch.search.additive.predicted_front import CREDIBLE, Effect

ROW_PIXELS = 30
DEPTH_PIXELS = 220
MEGABYTE = 1e6
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = {"bits": "circle", "rank": "diamond"}


def effects_figure(
    table: WhyTable, look: Look = PAPER, *, per_megabyte: bool = False, most: int | None = None
) -> go.Figure:
    """What the highest choice of every group is worth against the lowest, with credible intervals.

    One ranking of bits and ranks; ``per_megabyte``: for each megabyte that it takes; ``most``: how many.
    """
    effects = ranked(table, per_megabyte=per_megabyte)[:most]
    title = f"Worth at trial {table.point.trial}: the highest choice against the lowest"
    unit = " per MB" if per_megabyte else ""
    text = f"{table.quality} better{unit}, {100 * CREDIBLE:.0f} % credible"
    figure = blank_figure(
        look, title, text, height=60 + ROW_PIXELS * len(effects), l=120 if look.phone else 190
    )
    for knob, colour in (("bits", look.palette.blue), ("rank", look.palette.red)):
        _add_knob(figure, table, effects, knob, colour, per_megabyte=per_megabyte)
    figure.add_vline(x=0, line={"color": look.palette.soft, "width": 1})
    names = [html.escape(f"{_short(effect.group, look)}, {effect.knob}") for effect in effects]
    figure.update_yaxes(
        tickvals=list(range(len(effects))), ticktext=names, range=[len(effects) - 0.5, -0.5], showgrid=False
    )
    return figure.update_xaxes(nticks=4 if look.phone else 6)


def _short(group: str, look: Look) -> str:
    """On a phone ``l.2.attention`` for ``layers.2.attention``."""
    return re.sub(r"([A-Za-z_])\w*\.(?=.*\.)", r"\1.", group) if look.phone else group


def _add_knob(
    figure: go.Figure,
    table: WhyTable,
    effects: Sequence[Effect],
    knob: str,
    colour: str,
    *,
    per_megabyte: bool,
) -> None:
    rows = [(row, effect) for row, effect in enumerate(effects) if effect.knob == knob]
    sizes = [effect.model_bytes / MEGABYTE if per_megabyte else 1.0 for _, effect in rows]
    figure.add_trace(
        go.Scatter(
            x=[effect.gain / size for (_, effect), size in zip(rows, sizes, strict=True)],
            y=[row for row, _ in rows],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [(e.high - e.gain) / size for (_, e), size in zip(rows, sizes, strict=True)],
                "arrayminus": [(e.gain - e.low) / size for (_, e), size in zip(rows, sizes, strict=True)],
                "thickness": 2,
                "width": 0,
                "color": colour,
            },
            name=f"{knob}, {CREDIBLE:.0%} credible",
            mode="markers",
            customdata=[effect.group for _, effect in rows],
            marker={"color": colour, "symbol": SYMBOLS[knob], "size": 9},
            text=[
                f"{html.escape(effect.group)}, {effect.knob} {effect.lowest} to {effect.highest}: "
                f"{format_value(table.quality, effect.gain)} better for {format_bytes(effect.model_bytes)}"
                for _, effect in rows
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    )


def depth_figure(lines: Sequence[DepthLine], knob: str, quality: str, look: Look = PAPER) -> go.Figure:
    """What bits or ranks are worth along the blocks: one hue a knob, one dash a part."""
    shown = [line for line in lines if line.knob == knob]
    title = f"{knob.capitalize()} by depth"
    figure = blank_figure(look, title, "block", f"{quality} better", DEPTH_PIXELS, r=100)
    colour = look.palette.blue if knob == "bits" else look.palette.red
    ends = []
    for number, line in enumerate(shown):
        figure.add_trace(
            go.Scatter(
                x=list(range(len(line.gains))),
                y=list(line.gains),
                name=html.escape(line.part),
                mode="lines",
                line={"color": colour, "width": 2, "dash": DASHES[number % len(DASHES)]},
                hovertemplate=f"block %{{x}}: %{{y:.4f}}<extra>{html.escape(line.part)}</extra>",
            )
        )
        ends.append(LineEnd(len(line.gains) - 1, line.gains[-1], line.part, colour))
    gains = [gain for line in shown for gain in line.gains] or [0.0]
    margin = 0.1 * (max(gains) - min(0.0, *gains)) or 0.01
    span = min(0.0, *gains) - margin, max(gains) + margin
    name_lines(figure, ends, span, DEPTH_PIXELS - 72, look)
    length = max((len(line.gains) for line in shown), default=1)
    figure.update_xaxes(nticks=8, range=[-0.3, length - 0.7])
    return figure.update_yaxes(range=list(span), nticks=4)


def importances_figure(importances: Mapping[str, float], look: Look = PAPER) -> go.Figure:
    """Optuna's importances of the parameters."""
    shown = list(importances.items())
    figure = blank_figure(
        look,
        "Importances (Optuna, PED-ANOVA)",
        "share of the variance",
        height=60 + 22 * len(shown),
        l=120 if look.phone else 190,
    )
    figure.add_trace(
        go.Bar(
            x=[share for _, share in shown],
            y=[html.escape(name) for name, _ in shown],
            orientation="h",
            marker_color=look.palette.grey,
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    return figure.update_yaxes(type="category", autorange="reversed", dtick=1, showgrid=False)
