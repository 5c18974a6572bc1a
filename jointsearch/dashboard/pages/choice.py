"""Choosing a point: a bound on bytes or quality, and the point that it finds.

Bytes are those of the table's axis: of the model, or of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from jointsearch.dashboard.data.grid import Scale, grids_of
from jointsearch.dashboard.data.plan import cells_of
from jointsearch.dashboard.figures.front_view import Bound
from jointsearch.dashboard.figures.style import byte_unit
from jointsearch.dashboard.pages.address import study_path
from jointsearch.dashboard.pages.elements import button, link_button, said, stat, tag
from jointsearch.dashboard.pages.heat import mini_map
from jointsearch.dashboard.words import axis_name, better_by, name_of, short_name, signed
from jointsearch.front.objectives import OBJECTIVES, format_bytes, format_value
from jointsearch.front.selection import within_bytes, within_quality
from jointsearch.study.analysis.front_table import FrontTable, PlanPoint
from jointsearch.study.analysis.verdict import Verdict

SLIDER = ("min", "max", "step", "value")
"""What ``slider_of`` says of a slider."""


def loosest(table: FrontTable, by: str) -> Bound:
    """The one that every point of the front meets."""
    if by == "size":
        return Bound("size", max(table.bytes_of(point) for point in table.front))
    qualities = [point.quality for point in table.front]
    return Bound("quality", max(qualities) if OBJECTIVES[table.quality].sign > 0 else min(qualities))


def slider_of(table: FrontTable, bound: Bound) -> dict[str, Any]:
    """The properties of the slider."""
    values = [table.bytes_of(p) if bound.by == "size" else p.quality for p in table.front]
    low, high = min(values), max(values)
    return {
        "min": low,
        "max": high if high > low else low + 1,
        "step": (high - low) / 1000 or 1,
        "value": bound.value,
    }


def ends_of(table: FrontTable, by: str) -> list[Any]:
    """What stands below the slider's ends."""
    properties = slider_of(table, loosest(table, by))
    write: Callable[[float], str] = (
        format_bytes if by == "size" else lambda value: format_value(table.quality, value)
    )
    return [html.Span(write(properties["min"])), html.Span(write(properties["max"]))]


def unit_of(table: FrontTable, by: str) -> tuple[str, int]:
    """Of the number beside the slider, and what one of it is in the slider's numbers."""
    if by == "size":
        unit, size = byte_unit([max(table.bytes_of(point) for point in table.front)])
        return f" {unit}", size
    return "", 1


def best_within(table: FrontTable, bound: Bound) -> PlanPoint:
    """The best point of at most so many bytes, or the smallest as good as the bound; raises ``StudyError``.

    The bound is taken from a slider, which rounds: it is widened by a part in 10⁹.
    """
    if bound.by == "size":
        return table.point(within_bytes(table.choices, int(bound.value * (1 + 1e-9)), table.quality).trial)
    widened = bound.value + OBJECTIVES[table.quality].sign * abs(bound.value) * 1e-9
    return table.point(within_quality(table.choices, widened, table.quality).trial)


def bounds_by(table: FrontTable) -> list[dict[str, str]]:
    """What a bound can be on."""
    names = {"size": axis_name(table.axis), "quality": table.quality}
    return [{"value": value, "label": _capital(name)} for value, name in names.items()]


def chooser(table: FrontTable, bound: Bound, lines: list[Any]) -> Any:
    """The controls and the lines on what they find."""
    unit, size = unit_of(table, bound.by)
    polite: Any = {"aria-live": "polite"}
    return html.Section(
        [
            html.Div(
                [
                    html.H2("Choose a point"),
                    dmc.SegmentedControl(
                        id="by", data=bounds_by(table), value=bound.by, size="xs", **said("Bound by")
                    ),
                ],
                className="hd",
            ),
            html.Div(
                [
                    html.Span("At most", id="bound-word"),
                    dmc.NumberInput(
                        id="number",
                        value=float(f"{bound.value / size:.5g}"),
                        suffix=unit,
                        debounce=300,
                        size="sm",
                        w=120,
                        hideControls=True,
                        **said("Bound of size or quality"),
                    ),
                ],
                className="row",
                style={"justifyContent": "space-between"},
            ),
            dmc.Slider(
                id="bound",
                **slider_of(table, bound),
                label=None,
                updatemode="drag",
                mt=10,
                mb=6,
                attributes={"thumb": {"aria-label": "Bound"}},
            ),
            html.Div(ends_of(table, bound.by), id="ends", className="hd flat soft small"),
            dcc.Store(id="unit", data=size),
            html.Div(lines, id="best", **polite),
        ],
        className="card",
    )


def chosen_lines(table: FrontTable, point: PlanPoint, verdict: Verdict, scale: Scale) -> list[Any]:
    """What a person wants to know of the point, and of its neighbours."""
    tags = [tag("knee", "blue")] if point.knee else []
    tags += [tag("selected", "good")] if point.selected else []
    grids = grids_of(cells_of(point.layout, point.plan))
    position = table.front.index(point)
    neighbours = [("Next point up", position + 1), ("Next point down", position - 1)]
    return [
        html.Div([html.Span(_capital(name_of(point)), className="big"), *tags], className="row gap"),
        html.Dl(point_stats(table, point, verdict), className="stats"),
        *mini_map(grids, scale),
        html.P("format (blue) and rank (orange), by block", className="soft small"),
        *(
            _neighbour(table, point, table.front[number], title)
            for title, number in neighbours
            if 0 <= number < len(table.front)
        ),
        html.Div(
            [
                link_button("Open plan", study_path(table.study, "plan", point.trial), main=True),
                button("Select", "select-best"),
                html.Span(id="select-best-status", className="soft small", role="status"),
            ],
            className="row gap",
        ),
    ]


def point_stats(table: FrontTable, point: PlanPoint, verdict: Verdict) -> list[Any]:
    """Quality, size, the difference to the rival, and memory."""
    error = point.standard_error
    spread = "1 seed" if error is None else f"± {format_value(table.quality, error)}, {point.num_seeds} seeds"
    if (rate := point.plan.learning_rate) is not None:
        spread = f"{spread}, learning rate {rate:g}"
    gain, rival = against(table, point, verdict)
    return [
        stat(_capital(table.quality), format_value(table.quality, point.quality), spread),
        stat("Size", format_bytes(point.model_bytes), f"{point.bits_per_weight:.2f} bits per weight"),
        stat("At equal bytes", gain.partition(" ± ")[0], _against_words(gain, rival)),
        stat("Memory to train", *_memory(point)),
    ]


def _memory(point: PlanPoint) -> tuple[str, str]:
    """What training takes, foretold or else measured, and what is beside it."""
    trainable = f"{100 * point.trainable_share:.2g} % trainable"
    if point.training_memory:
        served = format_bytes(point.serving_memory)
        return format_bytes(point.training_memory), f"to serve {served}, {trainable}"
    if point.peak_memory_bytes:
        return format_bytes(point.peak_memory_bytes), f"peak of the process, {trainable}"
    return "—", f"not known, {trainable}"


def _against_words(gain: str, rival: str) -> str:
    """What stands below a gain: the half of its interval, and the rival."""
    _, sign, error = gain.partition(" ± ")
    return f"± {error}, {rival}" if sign else rival


def against(table: FrontTable, point: PlanPoint, verdict: Verdict) -> tuple[str, str]:
    """The difference to the kindest rival of equal bytes, and who that is."""
    entry = next((entry for entry in verdict.comparisons if entry.trial == point.trial), None)
    if entry is None:
        return "—", "needs no search" if point.baseline else "not judged"
    if entry.gain is None:
        return "—", "no rival of its size"
    seeds = "" if entry.seeds else ", the search's seed"
    return better_by(table.quality, entry.gain, entry.half_width), f"{short_name(entry.rival)}{seeds}"


def _neighbour(table: FrontTable, point: PlanPoint, other: PlanPoint, title: str) -> Any:
    change = signed(format_value(table.quality, other.quality - point.quality))
    more = signed(format_bytes(table.bytes_of(other) - table.bytes_of(point)))
    parts: Sequence[Any] = (
        html.Span(title, className="soft"),
        html.B(f"{change} {table.quality}"),
        html.Span(name_of(other), className="small soft"),
        html.Span(more),
    )
    return html.Div(parts, className="next")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
