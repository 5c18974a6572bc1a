"""What several pages are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import dcc, html

from jointsearch.dashboard.figures.style import DEFAULT_HEIGHT

REFRESH_SECONDS = 3


def card(title: str, *content: Any, note: Any = "", right: Any = None, **options: Any) -> Any:
    """A part of a page under its heading; ``note``: what it is, in small; ``right``: beside the heading."""
    head = [html.H2(title), *([html.P(note, className="soft small")] if note else [])]
    shown = [html.Div(head), *([right] if right is not None else [])]
    return html.Section([html.Div(shown, className="hd"), *content], className="card", **options)


def icon(name: str) -> Any:
    """One of those in ``style.css``."""
    hidden: Any = {"aria-hidden": "true"}
    return html.Span(className=f"ic ic-{name}", **hidden)


def said(text: str) -> Any:
    """What a screen reader says of something that has no text."""
    return {"aria-label": text}


def tag(text: str, kind: str = "") -> Any:
    """A word in a frame; ``kind``: blue, good, warn, bad, or none."""
    return html.Span(text, className=f"tag {kind}".strip())


def stat(name: str, value: Any, rest: str = "") -> Any:
    return html.Div([html.Dt(name), html.Dd([value, html.Small(rest)])], className="stat")


def button(
    text: str, name: str = "", *, main: bool = False, symbol: str = "", size: str = "sm", **options: Any
) -> Any:
    """``name``: its id; ``main``: the one that most people want."""
    ids: Any = {"id": name} if name else {}
    left = {"leftSection": icon(symbol)} if symbol else {}
    return dmc.Button(text, variant="filled" if main else "default", size=size, **left, **ids, **options)


def copy_button(text: str, command: str, *, main: bool = False, **options: Any) -> Any:
    """Copies ``command`` (``assets/look.js``)."""
    return button(text, main=main, symbol="copy", **{"data-copy": command}, **options)


def link_button(text: str, address: str, *, main: bool = False) -> Any:
    """A link that looks like a button."""
    return dcc.Link(text, href=address, className="button main" if main else "button")


def command_line(command: str) -> Any:
    return html.Code(command, className="cmd", tabIndex="0")


def with_code(text: str) -> list[Any]:
    """A text whose commands stand between backticks."""
    return [html.Code(part) if position % 2 else part for position, part in enumerate(re.split("`", text))]


def table_of(
    heads: Sequence[str],
    lines: Sequence[Sequence[Any]],
    classes: Sequence[str] = (),
    chosen: int | None = None,
    *,
    by_lines: bool = True,
) -> Any:
    """``classes`` of the columns: ``l`` left, ``r2`` on the right of a phone's lines, ``opt`` not on a phone;
    ``chosen``: the line that stands out; ``by_lines``: whether a phone has a block for each line."""
    classes = classes or ["l"] * len(heads)
    head = [html.Th(head, scope="col", className=name) for head, name in zip(heads, classes, strict=True)]
    body = [
        html.Tr(
            [html.Td(value, className=name) for value, name in zip(line, classes, strict=True)],
            className="sel" if number == chosen else "",
        )
        for number, line in enumerate(lines)
    ]
    table = html.Table([html.Thead(html.Tr(head)), html.Tbody(body)], className="list" if by_lines else "")
    return html.Div(table, className="scroll", tabIndex="0" if not by_lines else None)


def graph(figure: go.Figure, name: str, says: str) -> Any:
    """As wide as its card and as high as the figure; ``says``: what a screen reader says of it."""
    height = figure.layout.height or DEFAULT_HEIGHT
    shown = dcc.Graph(
        id=name,
        figure=figure,
        responsive=True,
        config={"displayModeBar": False, "doubleClick": "reset+autosize"},
        style={"height": f"{height}px"},
    )
    return html.Div(shown, role="img", **said(says))


def spark(values: Sequence[float], says: str) -> Any:
    """A line without axes, as a mask in the colour of the text."""
    if len(values) < 2:
        return html.Div(style={"height": "36px"})
    low, high = min(values), max(values)
    span = high - low or 1
    points = [
        f"{100 * position / (len(values) - 1):.1f} {28 - 24 * (value - low) / span:.1f}"
        for position, value in enumerate(values)
    ]
    drawn = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 100 30' preserveAspectRatio='none'>"
        f"<path d='M{' L'.join(points)}' fill='none' stroke='black' stroke-width='2' "
        "vector-effect='non-scaling-stroke'/></svg>"
    )
    mask = f'url("data:image/svg+xml,{quote(drawn)}")'
    return html.Div(className="spark", style={"--m": mask}, role="img", **said(says))


def clock(name: str) -> Any:
    """What asks for what has changed."""
    return dcc.Interval(id=name, interval=REFRESH_SECONDS * 1000)


def empty(symbol: str, title: str, *content: Any) -> Any:
    """A page, or a part of one, that has nothing to show, and says what to do."""
    return html.Section(
        html.Div([icon(symbol), html.H1(title), *content], className="empty"), className="card"
    )
