"""Plotly figures of the tables in ``jointsearch.dashboard.data``.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which the colour-blind tell apart.
Plotly reads a few HTML tags in texts, so every text that comes from a study is escaped here.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from jointsearch.dashboard.data import PlanTable, ProgressTable, WhyTable
from jointsearch.front.objectives import BYTE_UNITS, format_bytes, format_value
from jointsearch.search.additive.predicted_front import CREDIBLE, PredictedPoint
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#7F7F7F",
)
BITS_COLOURS = {4: SKY, 8: ORANGE, 16: BLUE}
STATE_COLOURS = {"complete": BLUE, "pruned": ORANGE, "failed": VERMILION}
DEFAULT_HEIGHT = 450
"""Pixels, of a figure that says nothing of it."""
STATE_SYMBOLS = {"complete": "circle", "pruned": "triangle-down", "failed": "x"}


def front_figure(
    table: FrontTable,
    marked: Iterable[int] = (),
    predicted: Sequence[PredictedPoint] = (),
    *,
    log_bytes: bool = False,
) -> go.Figure:
    """Quality against bytes; ``marked`` are trials to ring, such as the best within a budget."""
    unit, size = byte_unit(point.model_bytes for point in table.points)
    figure = _figure(table.study, f"model size ({unit})", table.quality)
    dominated = [p for p in table.points if not p.on_front and not p.baseline]
    baselines = [p for p in table.points if p.baseline]
    for name, points, style in (
        ("dominated", dominated, {"mode": "markers", "marker": {"color": GREY, "size": 6, "opacity": 0.35}}),
        (
            "front",
            table.front,
            {"mode": "lines+markers", "line": {"color": BLUE}, "marker": {"color": BLUE, "size": 9}},
        ),
        (
            "named plans",
            baselines,
            {
                "mode": "markers+text",
                "text": [html.escape(point.label) for point in baselines],
                "textposition": "top center",
                "textfont": {"size": 10},
                "marker": {"color": VERMILION, "symbol": "diamond", "size": 10},
            },
        ),
    ):
        figure.add_trace(_points(table, points, name, size, style))
    marked = set(marked)
    for name, points, colour, symbol in (
        ("knee", [p for p in table.points if p.knee], GREEN, "square-open"),
        ("selected", [p for p in table.points if p.selected], PURPLE, "star-open"),
        ("best within the bounds", [p for p in table.points if p.trial in marked], ORANGE, "circle-open"),
    ):
        style = {
            "mode": "markers",
            "marker": {"color": colour, "symbol": symbol, "size": 18, "line": {"width": 3}},
        }
        figure.add_trace(_points(table, points, name, size, style, with_errors=False))
    if predicted:
        figure.add_traces(_predicted(table, predicted, size))
    figure.update_layout(hovermode="closest", clickmode="event+select")
    if log_bytes:
        figure.update_xaxes(type="log")
    return figure


def _predicted(table: FrontTable, points: Sequence[PredictedPoint], size: int) -> list[go.Scatter]:
    """The front of the search's model, and its credible band."""
    sizes = [point.model_bytes / size for point in points]
    band = go.Scatter(
        x=[*sizes, *reversed(sizes)],
        y=[*(point.low for point in points), *(point.high for point in reversed(points))],
        name=f"predicted, {CREDIBLE:.0%} credible",
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor="rgba(230, 159, 0, 0.2)",
        hoverinfo="skip",
    )
    line = go.Scatter(
        x=sizes,
        y=[point.quality for point in points],
        name="predicted",
        mode="lines",
        line={"color": ORANGE, "dash": "dash"},
        text=[
            f"{format_value(table.quality, point.quality)} at {format_bytes(point.model_bytes)}"
            for point in points
        ],
        hovertemplate="predicted: %{text}<extra></extra>",
    )
    return [band, line]


def plan_figure(table: PlanTable) -> go.Figure:
    """A heat map: blocks down, modules across, bits by colour, rank by number."""
    used = sorted({cell.bits for cell in table.cells})
    level = {bits: position for position, bits in enumerate(used)}
    cells = {(cell.block, cell.column): cell for cell in table.cells}
    grid = [[cells.get((block, column)) for column in table.columns] for block in table.blocks]
    figure = _figure(f"Trial {table.point.trial}: bits (colour) and rank (number)", "", "")
    figure.add_trace(
        go.Heatmap(
            x=[html.escape(column) for column in table.columns],
            y=[html.escape(block) for block in table.blocks],
            z=[[None if cell is None else level[cell.bits] for cell in row] for row in grid],
            text=[["" if cell is None else str(cell.rank) for cell in row] for row in grid],
            texttemplate="%{text}",
            textfont={"color": "black", "size": 14},
            customdata=[["" if cell is None else f"{cell.bits} bits" for cell in row] for row in grid],
            hovertemplate="%{y} %{x}: %{customdata}, rank %{text}<extra></extra>",
            hoverongaps=False,
            zmin=-0.5,
            zmax=len(used) - 0.5,
            colorscale=_steps([_light(BITS_COLOURS[bits]) for bits in used]),
            colorbar={
                "tickvals": list(range(len(used))),
                "ticktext": [f"{bits} bits" for bits in used],
            },
            xgap=2,
            ygap=2,
        )
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category")
    return figure


def parts_figure(table: PlanTable) -> go.Figure:
    """Where the bytes go."""
    unit, size = byte_unit(table.bytes_by_part.values())
    parts = sorted(table.bytes_by_part.items(), key=lambda item: item[1])
    figure = _figure("Bytes by part", f"size ({unit})", "")
    figure.add_trace(
        go.Bar(
            x=[num_bytes / size for _, num_bytes in parts],
            y=[part for part, _ in parts],
            text=[format_bytes(num_bytes) for _, num_bytes in parts],
            orientation="h",
            marker_color=SKY,
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )
    return figure


def loss_figure(table: PlanTable) -> go.Figure:
    """Training and validation loss over the steps of the calibration."""
    figure = _figure("Calibration", "step", "loss (nats)")
    for name, losses, colour, dash in (
        ("training", table.train_losses, GREY, "dot"),
        ("validation", table.validation_losses, BLUE, "solid"),
    ):
        figure.add_trace(
            go.Scatter(
                x=[point.step for point in losses],
                y=[point.loss for point in losses],
                name=name,
                mode="lines+markers",
                line={"color": colour, "dash": dash},
            )
        )
    return figure


def hypervolume_figure(table: ProgressTable) -> go.Figure:
    """The dominated share of the box over the trials."""
    figure = _figure("Hypervolume", "trial", "share of the box below the named plans")
    figure.add_trace(
        go.Scatter(
            x=[trial for trial, _ in table.hypervolume],
            y=[share for _, share in table.hypervolume],
            mode="lines",
            line={"color": BLUE, "shape": "hv"},
            hovertemplate="trial %{x}: %{y:.3f}<extra></extra>",
        )
    )
    return figure


def timeline_figure(table: ProgressTable) -> go.Figure:
    """When each worker finished its trials."""
    figure = _figure("Trials over time", "", "")
    for state, colour in STATE_COLOURS.items():
        trials = [trial for trial in table.timeline if trial.state == state]
        figure.add_trace(
            go.Scatter(
                x=[trial.ended for trial in trials],
                y=[html.escape(trial.worker) for trial in trials],
                name=state,
                mode="markers",
                marker={"color": colour, "symbol": STATE_SYMBOLS[state], "size": 9},
                customdata=[(t.trial, (t.ended - t.started).total_seconds()) for t in trials],
                hovertemplate="trial %{customdata[0]}, %{customdata[1]:.1f} s<extra>%{y}</extra>",
            )
        )
    figure.update_yaxes(type="category")
    return figure


def phases_figure(table: ProgressTable) -> go.Figure:
    """What a trial spends its time on."""
    figure = _figure("Seconds by phase, median of the trials", "seconds", "")
    figure.add_trace(
        go.Bar(
            x=list(table.seconds_by_phase.values()),
            y=[html.escape(phase) for phase in table.seconds_by_phase],
            orientation="h",
            marker_color=GREEN,
        )
    )
    return figure


def effects_figure(table: WhyTable) -> go.Figure:
    """What the highest choice of every group is worth against the lowest, with credible intervals."""
    figure = _figure(
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
    return _tall(figure, len({effect.group for effect in table.effects}))


def importances_figure(table: WhyTable) -> go.Figure:
    """Optuna's importances of the parameters."""
    figure = _figure("Importances (Optuna, PED-ANOVA)", "share of the variance", "")
    figure.add_trace(
        go.Bar(
            x=list(table.importances.values()),
            y=[html.escape(name) for name in table.importances],
            orientation="h",
            marker_color=GREEN,
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    return _tall(figure, len(table.importances))


def _tall(figure: go.Figure, num_lines: int) -> go.Figure:
    """High enough for every line's name; the first one on top."""
    figure.update_layout(height=max(DEFAULT_HEIGHT, 150 + 22 * num_lines))
    return figure.update_yaxes(type="category", autorange="reversed", dtick=1)


def byte_unit(values: Iterable[int]) -> tuple[str, int]:
    """The largest unit that the largest value fills."""
    largest = max(values, default=0)
    return next(((unit, size) for unit, size in reversed(BYTE_UNITS.items()) if largest >= size), ("B", 1))


def describe(table: FrontTable, point: PlanPoint) -> list[str]:
    """The lines that a person reads of a point."""
    spread = "" if point.standard_error is None else f" ± {format_value(table.quality, point.standard_error)}"
    seeds = f" ({point.num_seeds} seeds)" if point.num_seeds > 1 else ""
    return [
        f"trial {point.trial}" + (f", {point.label}" if point.label else ""),
        f"{table.quality} {format_value(table.quality, point.quality)}{spread}{seeds}",
        f"{format_bytes(point.model_bytes)}, {point.bits_per_weight:.2f} bits per weight",
        f"{point.trainable_share:.2%} trainable"
        + (f", peak memory {format_bytes(point.peak_memory_bytes)}" if point.peak_memory_bytes else ""),
    ]


def _points(
    table: FrontTable,
    points: Iterable[PlanPoint],
    name: str,
    size: int,
    style: Mapping[str, Any],
    *,
    with_errors: bool = True,
) -> go.Scatter:
    points = list(points)
    errors = [point.standard_error or 0.0 for point in points]
    return go.Scatter(
        x=[point.model_bytes / size for point in points],
        y=[point.quality for point in points],
        error_y={"type": "data", "array": errors, "visible": with_errors and any(errors)},
        customdata=[point.trial for point in points],
        hovertext=[html.escape("\n".join(describe(table, point))).replace("\n", "<br>") for point in points],
        hovertemplate="%{hovertext}<extra></extra>",
        name=name,
        **style,
    )


def _figure(title: str, x: str, y: str) -> go.Figure:
    return go.Figure(
        layout={
            "title": {"text": html.escape(title)},
            "xaxis": {"title": {"text": x}, "automargin": True},
            "yaxis": {"title": {"text": y}, "automargin": True},
            "template": "plotly_white",
            "paper_bgcolor": "rgba(0,0,0,0)",  # the page's, which may be dark; the rest is in style.css
            "plot_bgcolor": "rgba(0,0,0,0)",
            "legend": {"orientation": "h", "y": -0.2},
            "margin": {"l": 40, "r": 20, "t": 50, "b": 40},
            "uirevision": title,  # keeps zoom and hidden traces when new data comes
        }
    )


def _light(colour: str) -> str:
    """The colour halfway to white, on which black numbers can be read."""
    channels = (int(colour[position : position + 2], 16) for position in (1, 3, 5))
    return "#" + "".join(f"{(channel + 255) // 2:02x}" for channel in channels)


def _steps(colours: list[str]) -> list[list[object]]:
    """A colour scale without mixtures."""
    count = len(colours)
    return [[(i + end) / count, colour] for i, colour in enumerate(colours) for end in (0, 1)]
